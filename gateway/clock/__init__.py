"""The measured clock: what time it is, how sure we are of it, and who says so (R10).

`host` asks the kernel and chrony, `sntp` asks NTP servers; `claims` decides whom to believe; `measured` keeps the last
good measurement and answers at once; `rehearsal` has clocks that do not show the real time; `report` is for people.
The reasons are in docs/decisions/0002-the-measured-clock.md.
"""

from collections.abc import Sequence

from gateway.clock.claims import Claim, Disagreement, HostTime, Trusted, Unmeasured, Verdict, elect
from gateway.clock.host import Chrony, Kernel
from gateway.clock.measured import ClockState, MeasuredClock, Step, TownClock
from gateway.clock.rehearsal import FixedClock, OffsetClock
from gateway.clock.report import ClockReport, describe, report
from gateway.clock.sntp import NtpServer, Sntp
from gateway.clock.sources import Source, Unusable, host_time

__all__ = [
    "Chrony",
    "Claim",
    "ClockReport",
    "ClockState",
    "Disagreement",
    "FixedClock",
    "HostTime",
    "Kernel",
    "MeasuredClock",
    "NtpServer",
    "OffsetClock",
    "Sntp",
    "Source",
    "Step",
    "TownClock",
    "Trusted",
    "Unmeasured",
    "Unusable",
    "Verdict",
    "describe",
    "elect",
    "host_time",
    "report",
    "usual_sources",
]


def usual_sources(servers: Sequence[NtpServer] = (), chronyc_options: tuple[str, ...] = ()) -> tuple[Source, ...]:
    """The kernel, this machine's chrony and the configured servers, each once."""
    return (Kernel(), Chrony(chronyc_options), *(Sntp(server) for server in dict.fromkeys(servers)))
