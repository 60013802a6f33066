"""The two sources on this machine itself: the kernel, and chrony where there is one."""

import asyncio
import ctypes
import os
from contextlib import suppress
from dataclasses import dataclass

from gateway.clock.claims import Claim, HostTime
from gateway.clock.sources import Unusable, host_time, root_claim

# Fourteen short fields are about 150 bytes; what is longer is not a tracking line.
TRACKING_BYTES_MAX = 4096

# systemd-timesyncd sets maxerror to zero at every update and calls 0.2 s its expected accuracy, so a smaller
# kernel bound cannot be believed. Chrony's own bound is read from chrony, where this does not matter.
KERNEL_BOUND_MIN_NS = 200_000_000

# The kernel's maxerror stops here (NTP_PHASE_LIMIT): nobody disciplines the clock.
KERNEL_UNSYNCHRONISED_US = 16_000_000
_STA_UNSYNC = 0x0040
_STA_NANO = 0x2000

# Both speak for whoever disciplines this machine's clock: together they have one voice.
HOST_VOICE = "host"


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


@dataclass(frozen=True, slots=True)
class Kernel:
    """What whoever disciplines the clock told the kernel: adjtimex(2), which only reads with `modes` zero."""

    name: str = "kernel"

    async def ask(self) -> Claim | Unusable:
        at = host_time()
        timex = _Timex(modes=0)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.adjtimex(ctypes.byref(timex)) < 0:
            return Unusable(f"adjtimex: {os.strerror(ctypes.get_errno())}")
        return kernel_claim(timex.maxerror, timex.offset, timex.status, at)


def kernel_claim(maxerror_us: int, offset: int, status: int, at: HostTime) -> Claim | Unusable:
    """The claim in adjtimex's fields; `offset`, still to be slewed, is in ns or us as `status` says."""
    if maxerror_us >= KERNEL_UNSYNCHRONISED_US or maxerror_us < 0:
        return Unusable(f"not synchronised: maxerror is {maxerror_us / 1e6:g} s")
    # Chrony without `rtcsync` leaves this set, but maxerror at 16 s with it; chrony then speaks for itself.
    if status & _STA_UNSYNC:
        return Unusable("not synchronised: STA_UNSYNC is set")
    offset_ns = abs(offset) * (1 if status & _STA_NANO else 1000)
    return Claim("kernel", HOST_VOICE, 0, max(maxerror_us * 1000 + offset_ns, KERNEL_BOUND_MIN_NS), at)


@dataclass(frozen=True, slots=True)
class Chrony:
    """The chronyd of this machine, asked through its own `chronyc`; `options` can name another command socket."""

    options: tuple[str, ...] = ()
    program: str = "chronyc"
    name: str = "chrony"

    async def ask(self) -> Claim | Unusable:
        # Before and not after the question: should the clock be stepped meanwhile, the step then counts against us.
        at = host_time()
        # A bare pipe and not asyncio's: a program that fills it waits until it is killed, and `wait` needs no end of file.
        reading, writing = os.pipe()
        try:
            output = await self._tracking(reading, writing)
        except FileNotFoundError:
            return Unusable(f"{self.program} is not installed")
        except OSError as fault:
            return Unusable(f"{self.program} does not start: {fault.strerror}")
        finally:
            os.close(reading)
        if not output:
            return Unusable("chronyd does not answer")
        return chrony_claim(output.decode("ascii", "replace"), at)

    async def _tracking(self, reading: int, writing: int) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                self.program,
                *self.options,
                "-c",
                "-n",
                "tracking",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=asyncio.subprocess.DEVNULL,
            )
        finally:
            os.close(writing)
        try:
            await process.wait()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        # Something it left running may hold the pipe open, so an empty one is not waited for.
        os.set_blocking(reading, False)
        with suppress(BlockingIOError):
            return os.read(reading, TRACKING_BYTES_MAX)
        return b""


def chrony_claim(line: str, at: HostTime) -> Claim | Unusable:
    """The claim in one line of `chronyc -c tracking` (chronyc(1)): fourteen fields between commas, times in seconds."""
    fields = line.strip().split(",")
    if len(fields) != 14:
        return Unusable(f"chronyc says {line.strip()[:60]!r}, expected fourteen fields")
    reference, stratum, leap = fields[0], fields[2], fields[13]
    if leap == "Not synchronised" or stratum == "0" or reference in ("", "00000000"):
        return Unusable("chronyd is not synchronised itself")
    if leap not in ("Normal", "Insert second", "Delete second"):
        return Unusable(f"chronyc tracking gave the leap status {leap[:20]!r}")
    try:
        level = int(stratum)
        # Positive is "slow of NTP time": true time is ahead.
        offset_s, delay_s, dispersion_s = (float(fields[i]) for i in (4, 10, 11))
    except ValueError:
        return Unusable("chronyc tracking gave text where a number stands")
    return root_claim("chrony", HOST_VOICE, level, offset_s, 0.0, delay_s, dispersion_s, at)
