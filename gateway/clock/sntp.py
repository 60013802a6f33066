"""NTP servers as a second opinion: one packet there, one back, its figures checked (RFC 4330, RFC 5905)."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import ntplib

from gateway.clock.claims import DRIFT_PPM, Claim, HostTime
from gateway.clock.sources import ERA_S, Unusable, host_time, root_claim

# A server on the other side of the world answers in half a second; what is later is lost.
SNTP_TIMEOUT_S = 3.0

# A server that says it is asked too often, or not to be asked, is left alone for an hour.
KISS_PAUSE_S = 3600.0

_S_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class NtpServer:
    """A host name or address, and a port."""

    host: str
    port: int = 123

    @classmethod
    def parse(cls, text: str) -> "NtpServer":
        """`host`, `host:port`, `[v6 address]:port` or a bare v6 address; ValueError says what is wrong."""
        host, colon, port = text.strip().rpartition(":")
        if not colon or (":" in host and not host.endswith("]")):
            host, port = text.strip(), "123"
        host = host.removeprefix("[").removesuffix("]")
        if not host or any(letter.isspace() or letter in "/[]" for letter in host):
            raise ValueError(
                f"{text!r} is not a server: expected a host name or address, with :port where it is not 123"
            )
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"{text!r} has the port {port!r}: expected a number from 1 to 65535")
        return cls(host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host and self.port != 123 else self.host
        return host if self.port == 123 else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Sntp:
    """One NTP server, asked as a simple client does (RFC 4330); a voice of its own."""

    server: NtpServer
    timeout_s: float = SNTP_TIMEOUT_S

    @property
    def name(self) -> str:
        return f"sntp {self.server}"

    async def ask(self) -> Claim | Unusable:
        return await _in_thread(lambda: _exchange(self.server, self.name, self.timeout_s))


def _exchange(server: NtpServer, name: str, timeout_s: float) -> Claim | Unusable:
    # What we send as our time is random, as chrony's is: a stranger who cannot see it cannot answer it.
    nonce = os.urandom(8)
    request: bytes = ntplib.NTPPacket(version=4, mode=3).to_data()[:40] + nonce
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as udp:
            udp.connect(address)
            sent = host_time()
            deadline_ns = sent.monotonic_ns + int(timeout_s * _S_NS)
            udp.send(request)
            while True:
                left_ns = deadline_ns - time.monotonic_ns()
                if left_ns <= 0:
                    return Unusable(f"no answer within {timeout_s:g} s")
                udp.settimeout(left_ns / _S_NS)
                reply = udp.recv(512)
                elapsed_ns = time.monotonic_ns() - sent.monotonic_ns
                if reply[24:32] == nonce:
                    return sntp_claim(name, reply, nonce, sent, elapsed_ns)
    except TimeoutError:
        return Unusable(f"no answer within {timeout_s:g} s")
    except (OSError, UnicodeError) as fault:
        return Unusable(f"cannot be asked: {fault}")


def sntp_claim(name: str, reply: bytes, nonce: bytes, sent: HostTime, elapsed_ns: int) -> Claim | Unusable:
    """The claim in a server's reply (RFC 5905, 7.3) to the request sent at `sent` with `nonce` as its transmit time."""
    packet = ntplib.NTPPacket()
    try:
        packet.from_data(reply)
    except ntplib.NTPException:
        return Unusable(f"the reply has {len(reply)} bytes, expected 48")
    if reply[24:32] != nonce:
        return Unusable("the reply is not to our question")
    if packet.mode != 4:
        return Unusable(f"the reply has mode {packet.mode}, expected 4")
    if packet.stratum == 0 and reply[12:16] in (b"RATE", b"DENY", b"RSTR"):
        return Unusable(f"asks to be left alone ({reply[12:16].decode()})", KISS_PAUSE_S)
    if packet.leap == 3 or packet.stratum == 0:
        return Unusable("the server is not synchronised itself")
    if packet.tx_timestamp == 0 or packet.recv_timestamp == 0:
        return Unusable("the reply has no time in it")

    elapsed_s = elapsed_ns / _S_NS
    held_s = _in_era(packet.tx_timestamp - packet.recv_timestamp)
    round_trip_s = elapsed_s - held_s
    # Half a microsecond is what ntplib's floating point keeps of a time since 1900.
    if held_s < -1e-6 or round_trip_s < -1e-6:
        return Unusable("the server says it took longer to answer than the answer took")
    our_s = ntplib.system_to_ntp_time(sent.realtime_ns / _S_NS)
    offset_s = (_in_era(packet.recv_timestamp - our_s) + _in_era(packet.tx_timestamp - our_s - elapsed_s)) / 2
    around_s = max(round_trip_s, 0.0) / 2 + elapsed_s * DRIFT_PPM / 1e6 + 2e-6
    return root_claim(
        name, name, packet.stratum, offset_s, around_s, float(packet.root_delay), float(packet.root_dispersion), sent
    )


def _in_era(difference_s: float) -> float:
    """A difference of two NTP times, when the seconds may have wrapped round between them (first in 2036)."""
    return (difference_s + ERA_S / 2) % ERA_S - ERA_S / 2


async def _in_thread(work: Callable[[], Claim | Unusable]) -> Claim | Unusable:
    """Like asyncio.to_thread, but a name look-up that hangs then holds up neither the pool's threads nor our exit."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Claim | Unusable] = loop.create_future()

    def deliver(result: Claim | Unusable) -> None:
        if not answer.done():
            answer.set_result(result)

    def run() -> None:
        result = work()
        # The loop is gone when the gateway was closed meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(deliver, result)

    threading.Thread(target=run, name="sntp", daemon=True).start()
    return await answer
