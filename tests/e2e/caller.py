"""A caller for tests: SIPp does the signalling (sipp/steered.xml), this module the sound, in both directions.

The test decides while the call runs: `press`, `wait_until_heard`, `hang_up`. Everything that arrived is in `recording`.
"""

import asyncio
import contextlib
import re
import socket
import struct
import time
import uuid
import wave
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from heard import PHONE_HZ, Samples, correlation, from_alaw, heard_names, to_alaw

SCENARIO = Path(__file__).parent / "sipp" / "steered.xml"

KeysBy = Literal["rfc4733", "info", "tones"]

FRAME_S = 0.02
FRAME = int(FRAME_S * PHONE_HZ)
ALAW, TELEPHONE_EVENT = 8, 96
SILENCE = to_alaw(np.zeros(FRAME))
EVENTS = {key: number for number, key in enumerate("0123456789*#")}
# ITU-T Q.23: low and high tone of each key.
TONES = {key: ((697, 770, 852, 941)[row], (1209, 1336, 1477)[column])
         for row, line in enumerate(("123", "456", "789", "*0#")) for column, key in enumerate(line)}  # fmt: skip
# Each of the two tones of a key at -9 dBFS, what a telephone sends at the loud end.
TONE_PEAK = 11_600
# How often SIPp's message log is read: nothing in a call depends on a difference this small.
POLL_S = 0.01
# How often what came in is compared with the awaited clip: often enough for a person, seldom enough for twenty callers.
LISTEN_S = 0.15
# A second of packets; on this machine's loopback none is lost.
LOST_MAX = 50
# SIPp and Asterisk are on this machine; beyond this something hangs.
SIGNALLING_S = 20.0


def free_udp_port(*, even: bool = False) -> int:
    """A UDP port that was free a moment ago; with `even` one fit for RTP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if not even or port % 2 == 0:
            return port


@dataclass(frozen=True, slots=True)
class _Frame:
    payload_type: int
    marker: bool
    # How far before the frame's own instant its RTP timestamp lies: an event keeps that of its beginning.
    began_frames_ago: int
    payload: bytes


def _key_frames(key: str, by: KeysBy, on_ms: int, off_ms: int) -> Iterator[_Frame]:
    frames = max(1, round(on_ms / 1000 / FRAME_S))
    if by == "rfc4733":
        for number in range(frames):
            last = number == frames - 1
            event = struct.pack("!BBH", EVENTS[key], 0x80 * last | 10, (number + 1) * FRAME)
            yield _Frame(TELEPHONE_EVENT, number == 0, number, event)
        # RFC 4733, 2.5.1.4: the end is said three times, since it may be lost.
        for repeated in range(2):
            yield _Frame(TELEPHONE_EVENT, False, frames + repeated, event)
        off_ms -= round(2 * FRAME_S * 1000)
    else:
        when = np.arange(frames * FRAME) / PHONE_HZ
        tone = sum(TONE_PEAK * np.sin(2 * np.pi * hertz * when) for hertz in TONES[key])
        sound = to_alaw(np.asarray(tone))
        for number in range(frames):
            yield _Frame(ALAW, False, 0, sound[number * FRAME : (number + 1) * FRAME])
    for _ in range(round(off_ms / 1000 / FRAME_S)):
        yield _Frame(ALAW, False, 0, SILENCE)


class Sound(asyncio.DatagramProtocol):
    """One RTP stream each way: a frame every 20 ms, silence or keys; what comes in is kept with its place."""

    def __init__(self) -> None:
        self._transport: asyncio.DatagramTransport | None = None
        self._queue: deque[_Frame] = deque()
        self._queue_empty = asyncio.Event()
        self._came: list[tuple[int, bytes]] = []
        self._end = self._next_number = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        if len(data) <= 12 or data[1] & 0x7F != ALAW:
            return
        number, payload = int.from_bytes(data[2:4], "big"), data[12:]
        missing = (number - self._next_number) & 0xFFFF if self._came else 0
        # Counted by packets, not by their timestamps: on a busy machine Asterisk sends some late, within a clip too. A
        # count that is far from the last one began anew.
        self._end += missing * FRAME if missing < LOST_MAX else 0
        self._came.append((self._end, payload))
        self._end += len(payload)
        self._next_number = number + 1

    async def send_until_cancelled(self, address: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 0
        assert self._transport is not None
        while True:
            frame = self._queue.popleft() if self._queue else _Frame(ALAW, number == 0, 0, SILENCE)
            if not self._queue:
                self._queue_empty.set()
            header = struct.pack(
                "!BBHII",
                0x80,
                0x80 * frame.marker | frame.payload_type,
                number & 0xFFFF,
                (number - frame.began_frames_ago) * FRAME & 0xFFFFFFFF,
                0x6D656E73,
            )
            self._transport.sendto(header + frame.payload, address)
            number += 1
            await asyncio.sleep(max(0.0, began + number * FRAME_S - loop.time()))

    async def play(self, frames: Sequence[_Frame]) -> None:
        """Send `frames` after what is being sent; returns when the last one is out."""
        self._queue_empty.clear()
        self._queue.extend(frames)
        await self._queue_empty.wait()

    @property
    def recording(self) -> Samples:
        """All that came so far, 16-bit sample values at 8 kHz, from the first packet on; what was lost is silence."""
        if not self._came:
            return np.zeros(0, np.float32)
        samples = np.zeros(max(place + len(payload) for place, payload in self._came), np.float32)
        for place, payload in self._came:
            samples[place : place + len(payload)] = from_alaw(payload)
        return samples


class Caller:
    """One call. Use it through the fixture `dial`; `async with` dials and always hangs up.

    `to` is the dialled number; `from_` the caller's, or None for a caller who withholds it.
    `keys_by` is how keys travel: RTP events, SIP INFO, or tones in the sound (then no telephone-event is offered).
    """

    def __init__(self, folder: Path, sip_port: int, *, to: str, from_: str | None, keys_by: KeysBy = "rfc4733") -> None:
        self._folder = folder
        self._sip_port = sip_port
        self._to = to
        self._from = f"<sip:{from_}@127.0.0.1>" if from_ else '"Anonymous" <sip:anonymous@anonymous.invalid>'
        self._keys_by = keys_by
        self._call_id = f"test-{uuid.uuid4().hex}"
        self._messages = folder / f"{self._call_id}.log"
        self._own_port = free_udp_port()
        self._steered = 0
        self._process: asyncio.subprocess.Process | None = None
        self._sound = Sound()
        self._sending: asyncio.Task[None] | None = None
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> "Caller":
        loop = asyncio.get_running_loop()
        rtp_port = free_udp_port(even=True)
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self._sound, local_addr=("127.0.0.1", rtp_port)
        )
        payloads = f"{ALAW}" if self._keys_by == "tones" else f"{ALAW} {TELEPHONE_EVENT}"
        self._process = await asyncio.create_subprocess_exec(
            *("sipp", "-sf", str(SCENARIO), f"127.0.0.1:{self._sip_port}", "-s", self._to),
            *("-i", "127.0.0.1", "-p", str(self._own_port), "-m", "1", "-nostdin", "-timer_resol", "1"),
            *("-cid_str", self._call_id, "-key", "from_header", self._from),
            *("-key", "rtp_port", str(rtp_port), "-key", "payloads", payloads),
            *("-trace_msg", "-message_file", str(self._messages)),
            *("-trace_err", "-error_file", str(self._messages.with_suffix(".err"))),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=self._folder,
        )
        try:
            await self._until(lambda: self.status >= 200 or self._has_ended, "a final answer to the INVITE")
            if self.status < 200:
                reason = self._messages.with_suffix(".err")
                raise AssertionError(f"sipp ended before the call did: {reason.read_text() if reason.exists() else ''}")
            if self.status == 200:
                port = re.search(r"\nm=audio (\d+) ", self._received())
                assert port, "the 200 has no audio"
                self._sending = asyncio.create_task(self._sound.send_until_cancelled(("127.0.0.1", int(port[1]))))
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if not self._has_ended:
                await self.hang_up()
        finally:
            await self._close()

    @property
    def status(self) -> int:
        """The final SIP status of the INVITE: 200 when it was answered; the provisional one, or 0, until then."""
        statuses = re.findall(r"SIP/2\.0 (\d{3}) [^\n]*\n(?:[^\n]+\n)*?CSeq: 1 INVITE", self._received())
        return max(map(int, statuses), default=0)

    @property
    def they_hung_up(self) -> bool:
        """Whether the other side sent the BYE."""
        return "\nBYE sip:" in self._received()

    @property
    def recording(self) -> Samples:
        """What the caller has heard so far; see `heard.py`."""
        return self._sound.recording

    async def press(self, keys: str, *, on_ms: int = 100, off_ms: int = 100) -> None:
        """Press `keys`, each down for `on_ms` and then nothing for `off_ms`; returns when the last one is out."""
        if self._keys_by == "info":
            for key in keys:
                self._steer(f"info {key}")
                await asyncio.sleep((on_ms + off_ms) / 1000)
            return
        frames = [frame for key in keys for frame in _key_frames(key, self._keys_by, on_ms, off_ms)]
        if frames and not self._has_ended:
            await self._sound.play(frames)

    async def wait_until_heard(self, clip: Samples, *, times: int = 1, timeout_s: float = 20.0) -> None:
        """Return as soon as `clip` was heard to its end for the `times`-th time; AssertionError after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            count = len(heard_names(self.recording, {"clip": clip})) if times > 1 else int(self._just_heard(clip))
            if count >= times:
                return
            await asyncio.sleep(LISTEN_S)
        raise AssertionError(f"the clip was not heard {times} times within {timeout_s} s")

    def heard(self, clips: Mapping[str, Samples], *, first_s: float | None = None) -> list[str]:
        """Which of `clips` were heard so far, in order; see `heard.heard`."""
        return heard_names(self.recording, clips, first_s=first_s)

    async def hang_up(self) -> None:
        """Send BYE at once, and wait until the call is over."""
        self._steer("hang up")
        await self.wait_until_over()

    def hang_up_at_once(self) -> None:
        """Send BYE without waiting for what comes of it."""
        self._steer("hang up")

    async def wait_until_over(self, timeout_s: float = SIGNALLING_S) -> None:
        """Return when the call has ended, by whichever side; AssertionError after `timeout_s`."""
        await self._until(lambda: self._has_ended, "the end of the call", timeout_s)

    def save(self, path: Path) -> None:
        """Write what was heard as a WAV file."""
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(PHONE_HZ)
            file.writeframes(self.recording.astype("<i2").tobytes())

    @property
    def _has_ended(self) -> bool:
        return self._process is None or self._process.returncode is not None

    def _just_heard(self, clip: Samples) -> bool:
        # Only the newest end is looked at, so that a long call does not cost more with every look.
        newest = self.recording[-(len(clip) + 2 * PHONE_HZ) :]
        return bool(np.max(correlation(newest, clip), initial=0.0) >= 0.8)

    def _received(self) -> str:
        """Everything Asterisk sent so far, with plain line ends."""
        with contextlib.suppress(FileNotFoundError):
            text = self._messages.read_text(encoding="utf-8", errors="replace").replace("\r", "")
            parts = re.split(r"^-{20,}.*$", text, flags=re.MULTILINE)
            return "\n".join(part for part in parts if "message received" in part)
        return ""

    def _steer(self, body: str) -> None:
        self._steered += 1
        message = (
            f"MESSAGE sip:caller@127.0.0.1:{self._own_port} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK-steer-{self._steered}\r\n"
            f"From: <sip:test@127.0.0.1>;tag=steer\r\nTo: <sip:caller@127.0.0.1>\r\n"
            f"Call-ID: {self._call_id}\r\nCSeq: {self._steered} MESSAGE\r\n"
            f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as conductor:
            conductor.sendto(message.encode(), ("127.0.0.1", self._own_port))

    async def _until(self, condition: Callable[[], bool], what: str, timeout_s: float = SIGNALLING_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come within {timeout_s} s; received so far:\n{self._received()}")
            await asyncio.sleep(POLL_S)

    async def _close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sending
        if self._transport is not None:
            self._transport.close()
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
