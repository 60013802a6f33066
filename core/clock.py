"""The time as the rules see it: never "now", always a measured interval (R6, R10)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class Reading:
    """An instant known to lie in `earliest..latest`, both aware and in UTC.

    `synchronised` is False when the bound could not be had or was larger than the configured limit;
    the interval is then plus and minus that limit, and a change near a boundary is marked for review (R10).
    """

    earliest: datetime
    latest: datetime
    source: str
    synchronised: bool = True

    def __post_init__(self) -> None:
        for end in (self.earliest, self.latest):
            if end.utcoffset() != timedelta(0):
                raise ValueError(f"a reading is in UTC, got {end!r}")
        if self.latest < self.earliest:
            raise ValueError(f"a reading ends before it starts: {self.earliest} > {self.latest}")

    @property
    def midpoint(self) -> datetime:
        return self.earliest + (self.latest - self.earliest) / 2

    @property
    def bound(self) -> timedelta:
        """Half the interval: the reading is `midpoint` plus or minus this."""
        return (self.latest - self.earliest) / 2

    def reaches(self, opening: datetime) -> bool:
        """Whether a boundary that opens at `opening` may already be open: doubt goes to the family."""
        return opening <= self.latest

    def is_past(self, closing: datetime) -> bool:
        """Whether a boundary that closes at `closing` (itself still inside) has surely been passed."""
        return closing < self.earliest

    def is_near(self, boundary: datetime) -> bool:
        """Whether `boundary` lies inside the interval, so that another clock might have judged otherwise."""
        return self.earliest <= boundary <= self.latest


def exactly(instant: datetime, *, bound: timedelta = timedelta(0), source: str = "given") -> Reading:
    """The reading of a clock that is `bound` away from `instant` at most."""
    instant = instant.astimezone(UTC)
    return Reading(instant - bound, instant + bound, source)
