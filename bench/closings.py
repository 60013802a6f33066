"""Closing the day of every school that shares one cutoff, in 100, 1,000 and 8,000 towns, as a gateway's ticker does it.

The reference inserts the same rows with nothing decided: one transaction a town, as many connections as the ticker closes
towns at once. How it grows is told in changes: nobody but who does not simply eat should cost anything.
"""

import asyncio
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import asyncpg

from bench.province import Province, province, size
from bench.result import Result
from core.desk import Undecided
from core.headcount import served_classes
from gateway.clock import FixedClock
from gateway.closing import CLOSINGS_AT_ONCE, WAKES_AFTER, DayCloser
from gateway.metrics import Metrics
from gateway.municipality import Municipality
from gateway.nodes import Nodes
from gateway.pin_key import KEY_BYTES, KeyedHasher
from gateway.store.engine import open_store
from gateway.store.port import Store
from gateway.store.tables import EPOCH, MICROSECOND
from gateway.telephone import TownDesks, open_desks

# The sizes that a count of towns is tried at.
POINTS = (100, 1_000, 8_000)
# Each on a day of its own, for what is closed stays closed.
ROUNDS = 3
# Twice the changes may cost twice the time, and what rounds differ by.
GROWTH_MOST = 1.1
TABLES = ("closings", "closing_counts", "closing_changes", "closing_trays", "messages")
Rows = dict[str, list[asyncpg.Record]]


@dataclass(frozen=True, slots=True)
class Closed:
    """One round: so many towns closed for one cutoff; `bare_s` is what their rows alone took."""

    towns: int
    schools: int
    pupils: int
    changes: int
    seconds: float
    bare_s: float

    @property
    def us_per_change(self) -> float:
        return self.seconds * 1e6 / max(self.changes, 1)


class Silent:
    """A log that nobody reads; what failed is told."""

    def info(self, event: str, /, **fields: object) -> None: ...

    def warning(self, event: str, /, **fields: object) -> None:
        self.error(event, **fields)

    def error(self, event: str, /, **fields: object) -> None:
        raise AssertionError(f"{event}: {fields}")


def measure() -> list[Result]:
    with province(size(), changes=True) as whole:
        rounds = asyncio.run(compare(whole))
    return [*_results(rounds)]


def points(towns: int) -> list[int]:
    return [point for point in POINTS if point <= towns] or [towns]


async def compare(whole: Province, rounds: int = ROUNDS) -> dict[int, list[Closed]]:
    """The rounds at each count of towns; each closes another day."""
    municipalities = list(whole.configuration().municipalities)
    store = await open_store(whole.url)
    pool = await asyncpg.create_pool(whole.admin_url, min_size=CLOSINGS_AT_ONCE, max_size=CLOSINGS_AT_ONCE)
    try:
        for table in TABLES:
            await pool.execute(f"CREATE TABLE bare_{table} (LIKE {table} INCLUDING INDEXES)")
        days = _service_days(municipalities[0], await _first_day(pool))
        found: dict[int, list[Closed]] = defaultdict(list)
        for towns in points(len(municipalities)):
            ticker = Ticker(store, municipalities[:towns])
            for number in range(rounds):
                day = next(days)
                if number == 0:
                    await ticker.begin(day)
                found[towns].append(await _round(ticker, pool, day))
        return found
    finally:
        await pool.close()
        await store.close()


class Ticker:
    """A gateway's ticker for these towns, on a clock that stands where it is put."""

    def __init__(self, store: Store, municipalities: Sequence[Municipality]) -> None:
        self._store = store
        self.municipalities = municipalities
        self._clock = FixedClock(EPOCH)
        undecided = Undecided()
        hasher = KeyedHasher(bytes(KEY_BYTES))
        desks: dict[str, TownDesks] = {}
        for each in municipalities:
            desks[each.key] = open_desks(lambda each=each: each, store, hasher, undecided)  # type: ignore[misc]  # bound now
        nodes = Nodes("bench", store, undecided, self._clock.read, lambda: ("", len(desks)), Silent())
        self._closer = DayCloser(
            store,
            nodes,
            lambda: desks,
            desks.get,
            lambda _: self._clock,
            lambda: self._clock.read().midpoint,
            Silent(),
            Metrics(),
        )

    async def begin(self, day: date) -> None:
        """Let the towns come into service on the eve of a day."""
        eve = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=6)
        keys = [each.key for each in self.municipalities]
        for start in range(0, len(keys), 200):
            await self._store.closings_since(keys[start : start + 200], eve)

    def cutoff(self, day: date) -> datetime:
        """The cutoff that most schools share that day."""
        return Counter(
            each.town.calendar.cutoff(school, day)
            for each in self.municipalities
            for school in each.town.calendar.schools
            if served_classes(each.town.calendar, school, day)
        ).most_common(1)[0][0]

    async def close(self, cutoff: datetime) -> float:
        """Close what shares the cutoff, and untimed what lies before it; the seconds."""
        self._clock.set(cutoff)
        await self._closer.close_due()
        self._clock.set(cutoff + 2 * WAKES_AFTER)
        begun = time.perf_counter()
        await self._closer.close_due()
        return time.perf_counter() - begun


async def _round(ticker: Ticker, pool: "asyncpg.Pool[asyncpg.Record]", day: date) -> Closed:
    cutoff = ticker.cutoff(day)
    seconds = await ticker.close(cutoff)
    made = await _rows_made(pool, cutoff)
    counts = Counter({table: sum(len(rows[table]) for rows in made.values()) for table in TABLES})
    pupils = await pool.fetchval(
        "SELECT count(*) FROM pupils JOIN closings USING (municipality, school) WHERE cutoff = $1", _us(cutoff)
    )
    bare_s = await _insert_bare(pool, made)
    return Closed(len(made), counts["closings"], pupils, counts["closing_changes"], seconds, bare_s)


async def _rows_made(pool: "asyncpg.Pool[asyncpg.Record]", cutoff: datetime) -> dict[int, Rows]:
    """What the closings of a cutoff have added, by municipality."""
    made: dict[int, Rows] = defaultdict(lambda: {table: [] for table in TABLES})
    for table in TABLES:
        condition = "municipality, closing) IN (SELECT municipality, id FROM closings WHERE cutoff = $1)"
        match table:
            case "closings":
                found = await pool.fetch("SELECT * FROM closings WHERE cutoff = $1", _us(cutoff))
            case "messages":
                found = await pool.fetch(
                    "SELECT * FROM messages WHERE (municipality, key) IN "
                    "(SELECT municipality, 'order-' || order_number FROM closings WHERE cutoff = $1)",
                    _us(cutoff),
                )
            case _:
                found = await pool.fetch(f"SELECT * FROM {table} WHERE ({condition}", _us(cutoff))  # noqa: S608 - ours
        for row in found:
            made[row["municipality"]][table].append(row)
    return dict(made)


async def _insert_bare(pool: "asyncpg.Pool[asyncpg.Record]", made: dict[int, Rows]) -> float:
    waiting = iter(list(made.values()))

    async def insert_some() -> None:
        async with pool.acquire() as connection:
            for rows in waiting:
                async with connection.transaction():
                    for table, these in rows.items():
                        if these:
                            marks = ", ".join(f"${number + 1}" for number in range(len(these[0])))
                            insert = f"INSERT INTO bare_{table} VALUES ({marks})"  # noqa: S608 - a name of ours
                            await connection.executemany(insert, these)

    begun = time.perf_counter()
    await asyncio.gather(*(insert_some() for _ in range(CLOSINGS_AT_ONCE)))
    return time.perf_counter() - begun


def _results(found: dict[int, list[Closed]]) -> Iterator[Result]:
    for towns, rounds in found.items():
        middle = sorted(rounds, key=lambda each: each.us_per_change)[len(rounds) // 2]
        yield Result(
            "closing",
            f"closing one cutoff's schools in {towns:,} towns, {CLOSINGS_AT_ONCE} towns at once",
            "the same rows inserted bare, as many towns at once",
            middle.seconds,
            middle.bare_s,
            "s",
            None,
            "lower",
            f"{middle.towns:,} towns, {middle.pupils:,} pupils, {middle.changes:,} changes: {middle.us_per_change:.0f} us a "
            f"change, {middle.seconds * 1e6 / max(middle.towns, 1):.0f} us a town",
        )
    first, *_, last = (*found.values(), *found.values())
    if len(found) > 1:
        yield Result(
            "growth",
            f"closing, for each change of the day, in {max(found):,} towns",
            f"the same in {min(found):,} towns",
            statistics.median(each.us_per_change for each in last),
            statistics.median(each.us_per_change for each in first),
            "us",
            GROWTH_MOST,
            "lower",
        )


async def _first_day(pool: "asyncpg.Pool[asyncpg.Record]") -> date:
    """The first day of the busiest stretch of changes that is long enough for every round."""
    first: date = await pool.fetchval("SELECT min(first_day) FROM changes WHERE kind = 'cancel'")
    return first


def _service_days(municipality: Municipality, first: date) -> Iterator[date]:
    calendar = municipality.town.calendar
    day = first
    while True:
        if any(served_classes(calendar, school, day) for school in calendar.schools):
            yield day
        day += timedelta(days=1)


def _us(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND
