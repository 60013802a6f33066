"""What the sources claim about this machine's clock, and whom to believe. Pure arithmetic in integer nanoseconds.

A claim is an interval for the *offset*: true time minus CLOCK_REALTIME. Nothing here corrects the clock; an offset
only ever widens the bound, so that a log line, Asterisk and a stored change all show the same time.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

# A quartz without a source drifts by 20 ppm as a rule; makers promise 50 ppm over temperature and age (telephony.md).
DRIFT_PPM = 50


@dataclass(frozen=True, slots=True)
class HostTime:
    """CLOCK_REALTIME and CLOCK_MONOTONIC read together, in nanoseconds.

    `blur_ns` is how much later than the one the other may have been read.
    """

    realtime_ns: int
    monotonic_ns: int
    blur_ns: int = 0

    def stepped_since(self, earlier: "HostTime") -> int:
        """How far CLOCK_REALTIME was set forward (back: negative) since `earlier`, in nanoseconds; slewing moves both."""
        return (self.realtime_ns - earlier.realtime_ns) - (self.monotonic_ns - earlier.monotonic_ns)


@dataclass(frozen=True, slots=True)
class Claim:
    """`source` says: at `at`, true time was ahead of CLOCK_REALTIME by `offset_ns`, give or take `uncertainty_ns`.

    Sources of one `voice` know the time from each other, so while they agree they count once.
    """

    source: str
    voice: str
    offset_ns: int
    uncertainty_ns: int
    at: HostTime

    @property
    def bound_ns(self) -> int:
        """How far CLOCK_REALTIME is from true time at most."""
        return abs(self.offset_ns) + self.uncertainty_ns

    @property
    def lowest_ns(self) -> int:
        return self.offset_ns - self.uncertainty_ns

    @property
    def highest_ns(self) -> int:
        return self.offset_ns + self.uncertainty_ns

    def agrees_with(self, other: "Claim") -> bool:
        """Whether both can be right: some offset lies in both."""
        return self.lowest_ns <= other.highest_ns and other.lowest_ns <= self.highest_ns

    def aged(self, now: HostTime) -> "Claim":
        """What the claim still says at `now`: wider by the drift, and about a clock that may have been stepped since."""
        elapsed_ns = now.monotonic_ns - self.at.monotonic_ns
        drift_ns = -(-elapsed_ns * DRIFT_PPM // 1_000_000)
        blur_ns = self.at.blur_ns + now.blur_ns
        return replace(
            self,
            offset_ns=self.offset_ns - now.stepped_since(self.at),
            uncertainty_ns=self.uncertainty_ns + drift_ns + blur_ns,
            at=now,
        )


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """No source has ever given a usable answer."""


@dataclass(frozen=True, slots=True)
class Trusted:
    """`claim` is believed: every voice, or more than half of them, agrees with it; `outvoted` are those that do not."""

    claim: Claim
    confirmed_by: tuple[str, ...] = ()
    outvoted: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Disagreement:
    """The voices contradict each other and no majority can tell who is wrong: no bound can be had."""

    claims: tuple[Claim, ...]


Verdict = Unmeasured | Trusted | Disagreement


def elect(claims: Iterable[Claim]) -> Verdict:
    """Whom to believe among claims that are all about the same instant.

    Claims agree when one offset lies in all of them. All must agree, or more than half (so three at least) while
    it is plain who they are. Of those that agree the tightest is trusted, and the others confirm it.
    """
    heard: list[Claim] = []
    for claim in sorted(claims, key=lambda claim: claim.bound_ns):
        # Two that contradict each other do not know the time from each other, whatever they say of themselves.
        if not any(claim.voice == other.voice and claim.agrees_with(other) for other in heard):
            heard.append(claim)
    if not heard:
        return Unmeasured()

    # The offset on which most agree is the lower end of some claim, so trying those finds every largest camp.
    camps = {tuple(other for other in heard if other.lowest_ns <= c.lowest_ns <= other.highest_ns) for c in heard}
    most = max(len(camp) for camp in camps)
    largest = [camp for camp in camps if len(camp) == most]
    if len(largest) > 1 or 2 * most <= len(heard):
        return Disagreement(tuple(heard))

    [(trusted, *others)] = largest
    return Trusted(
        trusted,
        confirmed_by=tuple(claim.source for claim in others),
        outvoted=tuple(claim for claim in heard if claim not in largest[0]),
    )
