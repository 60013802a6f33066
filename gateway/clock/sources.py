"""What every source of time is: an answer that cannot be used is a value, never a fault."""

import math
import time
from dataclasses import dataclass
from typing import Protocol

from gateway.clock.claims import Claim, HostTime

# NTP seconds wrap round after one era of 2^32 s; nothing that is further off can be told apart from garbage.
ERA_S = 2**32


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a source cannot be used now; it is not asked again for `pause_s` seconds."""

    why: str
    pause_s: float = 0.0


class Source(Protocol):
    @property
    def name(self) -> str: ...

    async def ask(self) -> Claim | Unusable:
        """What the source says now; the caller bounds the time it takes."""


def host_time() -> HostTime:
    """Both clocks of this machine, read together: the closest of three tries, in case we lost the processor between."""
    return min((_both_clocks() for _ in range(3)), key=lambda both: both.blur_ns)


def _both_clocks() -> HostTime:
    before_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    realtime_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
    after_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return HostTime(realtime_ns, before_ns, after_ns - before_ns)


def root_claim(
    source: str,
    voice: str,
    stratum: int,
    offset_s: float,
    around_s: float,
    root_delay_s: float,
    root_dispersion_s: float,
    at: HostTime,
) -> Claim | Unusable:
    """The claim of a source with these NTP figures (RFC 5905): `around_s` is how sure it is that we asked it at `at`."""
    if not 1 <= stratum <= 15:
        return Unusable(f"stratum {stratum} is not from 1 to 15")
    uncertainty_s = around_s + root_dispersion_s + root_delay_s / 2
    sane = math.isfinite(offset_s) and abs(offset_s) < ERA_S and min(root_delay_s, root_dispersion_s) >= 0
    if not (sane and uncertainty_s < ERA_S):
        return Unusable("its figures cannot be: not finite, negative or beyond an era")
    return Claim(source, voice, round(offset_s * 1e9), math.ceil(uncertainty_s * 1e9), at)
