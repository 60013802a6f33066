"""The ticker that closes days: it sleeps until the next cutoff of any town, and closes what is due then, once (R25).

What has to be closed stands in the calendars and the store alone, so whatever was missed, failed or done twice is put right
by looking again: after a crash, after days of downtime, and on as many gateways as there are.
"""

import asyncio
import heapq
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Protocol
from zlib import crc32

from core.calendar import ServiceCalendar
from core.headcount import Closing
from core.kitchen import Due, NotDueError, due_closings, next_cutoff
from core.ports import Clock
from gateway.metrics import Metrics
from gateway.municipality import Municipality
from gateway.nodes import Nodes
from gateway.store.port import Store
from gateway.telephone import TownDesks

# A cutoff is past only after its own instant, and a timer is exact to about this.
WAKES_AFTER = timedelta(milliseconds=1)
# The longest sleep: a clock that was set, or a machine that was asleep, is noticed within this.
SLEEP_MOST_S = 10.0
# Each town is looked at this often whatever its calendar says, so that nothing that was missed for whatever reason stays so.
LOOK_AGAIN = timedelta(hours=1)
# What failed is tried again soon, then ever more slowly: a kitchen waits, and a database that is down is not helped by haste.
RETRY_FIRST_S, RETRY_MOST_S = 1.0, 60.0
# Closings at once: what a database takes side by side, and few enough that the changes of a rush come in between.
CLOSINGS_AT_ONCE = 8
# How long looks at calendars may hold up everybody else: one takes a tenth of a millisecond, that at a city which has missed
# the days of a month some fifty.
LOOKS_S = 0.005
# What calls get of the processor between two stretches of looks: thousands of towns that have missed a month are half a minute
# of looks, in which callers must not be left waiting. At an ordinary cutoff of all of them it is a second in all.
CALLS_FIRST_S = 0.015


class Log(Protocol):
    """Where events go; a structlog logger fits."""

    def info(self, event: str, /, **fields: object) -> object: ...
    def error(self, event: str, /, **fields: object) -> object: ...


@dataclass(slots=True)
class _Watched:
    """One town as the ticker sees it: when it is looked at next, and what is known of its closings.

    `through` may lag behind what other gateways have closed: that costs a look, and closes nothing twice.
    """

    since: datetime
    through: dict[str, date] = field(default_factory=dict)
    look_at: datetime | None = None
    next: tuple[ServiceCalendar, datetime | None] | None = None
    tries: int = 0


class DayCloser:
    """The ticker of one gateway. `run` lasts until `stop`; `close_due` is one turn of it.

    `towns` gives the keys of all towns in force, `desks_of` the desks of one, None for a town that is gone.
    `on_order` is called when an order may have come into the outbox.
    """

    def __init__(
        self,
        store: Store,
        nodes: Nodes,
        towns: Callable[[], Iterable[str]],
        desks_of: Callable[[str], TownDesks | None],
        clock_of: Callable[[Municipality], Clock],
        now: Callable[[], datetime],
        log: Log,
        metrics: Metrics,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_order: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._nodes = nodes
        self._towns = towns
        self._desks_of = desks_of
        self._clock_of = clock_of
        self._now = now
        self._log = log
        self._metrics = metrics
        self._sleep = sleep
        self._on_order = on_order
        self._watched: dict[str, _Watched] = {}
        # When to look at which town. An entry that is not the town's `look_at` any more is passed over.
        self._looks: list[tuple[datetime, str]] = []
        self._is_stopping = False
        self._woken = asyncio.Event()
        metrics.watch("closings_failing", "Towns whose closing failed and is tried again", self._failing)

    async def run(self) -> None:
        """Close each day when it is due, beginning with those that were missed."""
        retry_s = RETRY_FIRST_S
        while not self._is_stopping:
            self._woken.clear()
            try:
                pause_s = await self.close_due()
                retry_s = RETRY_FIRST_S
            except Exception as fault:
                self._log.error("closings_wait", again_in_s=retry_s, fault=f"{type(fault).__name__}: {fault}")
                pause_s, retry_s = retry_s, min(RETRY_MOST_S, 2 * retry_s)
            await self._pause(pause_s)

    def stop(self) -> None:
        """Let the closings under way be finished and begin no other: `run` returns then."""
        self._is_stopping = True
        self._woken.set()

    def edited(self, town: str) -> None:
        """Look at a town at once, for its calendar is another now."""
        if town in self._watched:
            self._look(town, self._now())
        self._woken.set()

    async def close_due(self) -> float:
        """Close what is due by now, oldest first; the seconds until the next look. Raises `StoreError`."""
        await self._take_in()
        # Should anything fail from here on, this is when these are looked at again.
        again = self._now() + timedelta(seconds=RETRY_FIRST_S)
        looked = list(self._ripe())
        for key in looked:
            self._look(key, again)
        due = [(key, found) async for key in _in_turns(looked) if (found := self._due(key))]
        failed: dict[str, Exception] = {}
        if due:
            through = max(each.cutoff for _, found in due for each in found)
            if not await self._nodes.settle_through(through, lambda: self._is_stopping):
                return 0.0
            failed = await self._close(due, through)
        are_due = {key for key, _ in due}
        async for key in _in_turns(looked):
            # An edit that came meanwhile is looked at when it said.
            if self._is_current(again, key):
                self._plan(key, has_failed=key in failed, was_due=key in are_due)
        if failed:
            self._tell_failed(failed)
        return self._pause_s()

    # Which towns, and when

    async def _take_in(self) -> None:
        """Begin to watch the towns that are new: at the start, all of them."""
        new = [key for key in self._towns() if key not in self._watched]
        if not new:
            return
        through = await self._store.closed_through()
        now = self._now()
        for key, since in (await self._store.closings_since(new, now)).items():
            self._watched[key] = _Watched(since, dict(through.get(key, {})))
            self._look(key, now)

    def _look(self, key: str, at: datetime) -> None:
        self._watched[key].look_at = at
        heapq.heappush(self._looks, (at, key))

    def _ripe(self) -> Iterator[str]:
        now = self._now()
        while self._looks and self._looks[0][0] <= now:
            at, key = heapq.heappop(self._looks)
            if self._is_current(at, key):
                self._watched[key].look_at = None
                yield key

    def _is_current(self, at: datetime, key: str) -> bool:
        return key in self._watched and self._watched[key].look_at == at

    def _due(self, key: str) -> tuple[Due, ...]:
        desks = self._desks_of(key)
        if desks is None:
            return ()
        town, watched = desks.municipality(), self._watched[key]
        return due_closings(town.town.calendar, watched.since, watched.through, self._clock_of(town).read())

    def _plan(self, key: str, *, has_failed: bool, was_due: bool) -> None:
        """Say when a town is looked at next."""
        watched, now = self._watched[key], self._now()
        desks = self._desks_of(key)
        if desks is None:
            # It is gone; should it come back, an edit says so.
            watched.tries = 0
            self._look(key, now + LOOK_AGAIN)
            return
        if has_failed:
            watched.tries += 1
            self._look(key, now + timedelta(seconds=_retry_s(watched.tries)))
            return
        watched.tries = 0
        # Cutoffs that passed while others were closed are the next turn's.
        if was_due and self._due(key):
            self._look(key, now)
            return
        town = desks.municipality()
        calendar, at = town.town.calendar, self._clock_of(town).read()
        known = watched.next
        if known is None or known[0] is not calendar or (known[1] is not None and at.is_past(known[1])):
            known = watched.next = (calendar, next_cutoff(calendar, at))
        look_again = now + LOOK_AGAIN
        self._look(key, look_again if known[1] is None else min(known[1] + at.bound + WAKES_AFTER, look_again))

    def _pause_s(self) -> float:
        while self._looks and not self._is_current(*self._looks[0]):
            heapq.heappop(self._looks)
        next_look = self._looks[0][0] - self._now() if self._looks else LOOK_AGAIN
        return min(max(next_look / timedelta(seconds=1), 0.0), SLEEP_MOST_S)

    async def _pause(self, pause_s: float) -> None:
        """Sleep that long, or until something is said."""
        waits = [asyncio.ensure_future(each) for each in (self._sleep(pause_s), self._woken.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    # Closing

    async def _close(self, due: Sequence[tuple[str, tuple[Due, ...]]], through: datetime) -> dict[str, Exception]:
        """Close what is due up to `through`, some towns at once; what failed, by town."""
        failed: dict[str, Exception] = {}
        nodes = self._nodes.lately
        mine = nodes.index(self._nodes.name) if self._nodes.name in nodes else 0

        def is_mine(key: str) -> bool:
            return crc32(key.encode()) % max(len(nodes), 1) == mine

        # Every gateway closes everything, but begins with another part, so that they seldom wait for each other.
        order = iter(sorted(due, key=lambda each: (not is_mine(each[0]), each[1][0].cutoff, each[0])))

        async def close_some() -> None:
            for key, _ in order:
                if self._is_stopping:
                    return
                try:
                    await self._close_town(key, through, looks_first=not is_mine(key))
                except Exception as fault:
                    failed[key] = fault

        await asyncio.gather(*(close_some() for _ in range(min(CLOSINGS_AT_ONCE, len(due)))))
        return failed

    async def _close_town(self, key: str, through: datetime, *, looks_first: bool) -> None:
        # Anew, for its calendar may have been edited while others settled.
        for due in self._due(key):
            desks = self._desks_of(key)
            if due.cutoff > through or self._is_stopping or desks is None:
                return
            if not (looks_first and await _is_closed(desks, due)):
                at = self._clock_of(desks.municipality()).read()
                try:
                    closings = await desks.kitchen.close(due, at)
                except NotDueError:
                    # An edit came while it was looked at: what is due now is the next turn's.
                    return
                for closing in closings:
                    self._tell(key, closing)
                self._on_order()
            for school in due.schools:
                self._watched[key].through[school] = max(self._watched[key].through.get(school, due.day), due.day)

    def _tell(self, key: str, closing: Closing) -> None:
        late_s = (closing.closed.midpoint - closing.cutoff) / timedelta(seconds=1)
        headcount = closing.headcount
        self._metrics.count_closing(headcount.meals, late_s)
        self._log.info(
            "day_closed",
            town=key,
            school=headcount.school,
            day=headcount.day.isoformat(),
            order=closing.order,
            meals=headcount.meals,
            late_s=round(late_s, 3),
        )

    def _tell_failed(self, failed: Mapping[str, Exception]) -> None:
        """One line, however many towns a fault of the store has met."""
        key, fault = next(iter(failed.items()))
        self._log.error(
            "closings_failed",
            town=key,
            towns=len(failed),
            again_in_s=_retry_s(self._watched[key].tries),
            fault=f"{type(fault).__name__}: {fault}",
        )

    def _failing(self) -> int:
        return sum(1 for watched in self._watched.values() if watched.tries)


async def _is_closed(desks: TownDesks, due: Due) -> bool:
    """Whether somebody else has closed it: asking costs less than a transaction that finds nothing to do."""
    closed = await desks.store.closed_days(dict.fromkeys(due.schools, due.day))
    return all(closed.has(school, due.day) for school in due.schools)


def _retry_s(tries: int) -> float:
    """How long after so many failures the next try is made."""
    return min(RETRY_MOST_S, RETRY_FIRST_S * 2.0 ** min(max(tries - 1, 0), 16))


async def _in_turns(keys: Sequence[str]) -> AsyncIterator[str]:
    """The keys, with everybody else's turn in between."""
    begun = time.perf_counter()
    for key in keys:
        yield key
        if time.perf_counter() - begun > LOOKS_S:
            await asyncio.sleep(CALLS_FIRST_S)
            begun = time.perf_counter()
