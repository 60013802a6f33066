"""Clocks that do not show the real time: for rehearsals, `make run AT=…` and tests."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.clock import Reading
from core.ports import Clock


@dataclass(frozen=True, slots=True)
class OffsetClock:
    """The readings of `base` moved by `offset`, as sure as they were and named so."""

    base: Clock
    offset: timedelta

    def read(self) -> Reading:
        return moved(self.base.read(), self.offset)


def moved(real: Reading, offset: timedelta) -> Reading:
    """A real reading as a rehearsal shows it."""
    return Reading(real.earliest + offset, real.latest + offset, f"{real.source} (rehearsal)", real.synchronised)


class FixedClock:
    """A clock that stands still until it is set, and knows the time to within `bound`."""

    def __init__(
        self,
        instant: datetime,
        bound: timedelta = timedelta(0),
        *,
        synchronised: bool = True,
        source: str = "rehearsal",
    ) -> None:
        self._source = source
        self.set(instant, bound, synchronised=synchronised)

    def set(self, instant: datetime, bound: timedelta = timedelta(0), *, synchronised: bool = True) -> None:
        """Move to `instant`, which must be aware: ValueError otherwise."""
        if instant.tzinfo is None:
            raise ValueError(f"a clock is set to an aware instant, got {instant!r}")
        instant = instant.astimezone(UTC)
        self._reading = Reading(instant - bound, instant + bound, self._source, synchronised)

    def read(self) -> Reading:
        return self._reading
