"""The morning rush: whole calls over all towns at a rising rate, on one and on two gateways over one PostgreSQL.

Calls begin when they begin, however many are still going on; each is a recognised number that cancels a meal. At half the rate
that holds it is tried again while the gateways' tickers close the days of a month, as after a long downtime: as much
closing as there can be.
"""

import asyncio
import contextlib
import math
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day

import asyncpg

from bench.calling import Dialogue, call
from bench.province import Province, province, size
from bench.result import Result
from bench.serving import Served, gateway_at, silent_clips
from bench.usage import family_cpu_s, machine_cpu_s, process_cpu_s
from core.calendar import opening_instant
from gateway.installation import OFFSET_US, PURPOSE, REHEARSAL
from gateway.store.tables import EPOCH, MICROSECOND

KEYS = ("1", "1")
# People think between half a second and two; this is a hurried crowd.
THINKS_S = (0.2, 1.2)
# A rush bends where a caller would begin to press keys that get lost.
CHANGE_P99_MAX_S = 0.100
# Calls a second; each step a quarter more, so that a bend is known that well.
FIRST_RATE, GROWTH = 40.0, 1.25
STEP_S = 5.0
# In the first second of a step few calls have come to their change yet.
SETTLES_S = 1.0
# One call at a time, for comparison.
ALONE = 40
GATEWAYS = (1, 2)
# An hour before the earliest cutoff: the rush has to be over by then.
CALLS_FROM = time_of_day(7, 30)
# Beside closings it is looked at for as long as so many steps.
CATCH_UP_STEPS = 3
# Eight thousand towns are read and looked through first.
STARTS_S = 600.0


@dataclass(frozen=True, slots=True)
class Caller:
    """A number that its town recognises, of a family with one pupil who is to eat."""

    number: str
    dialled: str


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of CPU, or, of one step, cores: what the gateways, PostgreSQL, these callers and all the machine used."""

    gateways: float
    postgres: float
    callers: float
    machine: float

    def since(self, before: "Spent", seconds: float) -> "Spent":
        """In cores."""
        return Spent(
            *((getattr(self, each.name) - getattr(before, each.name)) / seconds for each in fields(Spent)),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What one rate came to. `failed` calls got no answer or a wrong one; `closed` are days that the tickers closed meanwhile."""

    rate: float
    made: int
    failed: int
    change_p50_s: float
    change_p99_s: float
    closed: int
    cores: Spent

    @property
    def is_bent(self) -> bool:
        return self.failed > 0 or self.change_p99_s > CHANGE_P99_MAX_S


@dataclass(frozen=True, slots=True)
class Rushed:
    """What one count of gateways came to: the waits of one call after the other, the steps, and one step beside closings."""

    alone_s: list[float]
    steps: list[Step]
    catching_up: Step

    @property
    def highest(self) -> Step:
        return highest(self.steps)

    @property
    def half(self) -> Step:
        """The step without closings whose rate is the nearest to that of the one with them."""
        return min(self.steps, key=lambda step: abs(step.rate - self.catching_up.rate))


def highest(steps: Sequence[Step]) -> Step:
    """The last step before the first bend; the first one where that is bent already."""
    good = steps[0]
    for step in steps:
        if step.is_bent:
            break
        good = step
    return good


def measure() -> list[Result]:
    found: dict[int, Rushed] = {}
    for gateways in GATEWAYS:
        # The days that the first run closed are open again for the second.
        with province(size(), changes=True) as whole:
            found[gateways] = asyncio.run(rush_on(whole, gateways, rising()))
    return [*_results(found)]


async def rush_on(whole: Province, gateways: int, rates: Iterator[float], step_s: float = STEP_S) -> Rushed:
    """Steps at these rates, then one at half of what holds while missed days are closed."""
    connection = await asyncpg.connect(whole.admin_url)
    try:
        first, last = await connection.fetchrow("SELECT min(first_day), max(first_day) FROM changes")
        configuration = await asyncio.to_thread(whole.configuration)
        day = last + timedelta(days=1)
        towns = {each.key: each for each in configuration.municipalities}
        rome = next(iter(towns.values())).timezone
        await _move_clock(connection, opening_instant(day, CALLS_FROM, rome) - datetime.now(UTC))
        found = await connection.fetch(CALLERS, day)
        callers = iter([Caller(phone, towns[key].numbers[0]) for phone, key in found])
        async with _gateways(whole, gateways) as served:
            rush = Rush(served, callers, connection, whole.server_pid)
            alone_s, steps = await rush.alone(), await rush.rise(rates, step_s)
        since = (opening_instant(first, time_of_day.min, rome) - EPOCH) // MICROSECOND
        await connection.execute("UPDATE municipalities SET closings_since = $1", since)
        async with _gateways(whole, gateways) as served:
            rush = Rush(served, callers, connection, whole.server_pid)
            return Rushed(alone_s, steps, await rush.step(highest(steps).rate / 2, CATCH_UP_STEPS * step_s))
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _gateways(whole: Province, count: int) -> AsyncIterator[list[Served]]:
    folder = whole.config.parent
    silent_clips(folder / "sounds")
    async with contextlib.AsyncExitStack() as stack:
        starting = (
            gateway_at(
                whole.config,
                folder / "sounds",
                folder / f"gateway-{number}.log",
                starts_s=STARTS_S,
                MENSA_DATABASE__URL=whole.url,
            )
            for number in range(count)
        )
        yield await asyncio.gather(*(stack.enter_async_context(each) for each in starting))


# Families with one pupil and a number that is recognised, none of whose changes goes on; towns large and small by chance.
CALLERS = """
SELECT phone, key FROM (
    SELECT DISTINCT ON (pupils.id) pupils.id, guardians.phone, municipalities.key
    FROM pupils
    JOIN pupil_guardians ON pupil_guardians.pupil = pupils.id
    JOIN guardians ON guardians.id = pupil_guardians.guardian
    JOIN municipalities ON municipalities.id = pupils.municipality
    WHERE number_digest IS NOT NULL
    AND NOT EXISTS (SELECT FROM changes WHERE changes.pupil = pupils.id AND changes.municipality = pupils.municipality
        AND (last_day IS NULL OR last_day >= $1))
    AND NOT EXISTS (SELECT FROM pupil_guardians other WHERE other.guardian = guardians.id AND other.pupil <> pupils.id)
) callers ORDER BY md5(id::text) LIMIT 60000
"""


async def _move_clock(connection: asyncpg.Connection, offset: timedelta) -> None:
    """Let the gateways on this database see the time moved."""
    said = {PURPOSE: REHEARSAL, OFFSET_US: str(offset // timedelta(microseconds=1))}
    await connection.executemany(
        "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [*said.items()],
    )


def _results(found: dict[int, Rushed]) -> Iterator[Result]:
    for gateways, rushed in found.items():
        on = f"on {gateways} gateway{'s' if gateways > 1 else ''}"
        best, beside = rushed.highest, rushed.catching_up
        yield Result(
            "rush",
            f"a change in whole calls, p99, {on} at the highest rate that holds {CHANGE_P99_MAX_S * 1e3:.0f} ms, tried once",
            "the same of one call after the other",
            best.change_p99_s * 1e3,
            _p99(rushed.alone_s) * 1e3,
            "ms",
            None,
            "lower",
            f"{best.rate:.0f} calls/s{' are too many already' if best.is_bent else ''}, {_told(best)}",
        )
        yield Result(
            "catch-up",
            f"a change in whole calls, p99, {on} at half that rate while missed days are closed, tried once",
            "about the same rate without closings",
            beside.change_p99_s * 1e3,
            rushed.half.change_p99_s * 1e3,
            "ms",
            None,
            "lower",
            f"{beside.rate:.0f} calls/s beside {beside.closed / CATCH_UP_STEPS / STEP_S:.0f} schools closed a second, "
            f"{_told(beside)}",
        )
    few, many = min(found), max(found)
    yield Result(
        "gateways",
        f"calls a second that {many} gateways hold",
        f"what {few} holds, on the same cores",
        found[many].highest.rate,
        found[few].highest.rate,
        "calls/s",
        None,
        "higher",
    )


def _told(step: Step) -> str:
    cores = step.cores
    return (
        f"p50 {step.change_p50_s * 1e3:.1f} ms, {step.failed} of {step.made} failed; cores: gateways {cores.gateways:.2f}, "
        f"server {cores.postgres:.2f}, callers {cores.callers:.2f}, the whole machine {cores.machine:.2f}"
    )


class Rush:
    """Gateways over one database, and those who call them."""

    def __init__(
        self, gateways: Sequence[Served], callers: Iterator[Caller], connection: asyncpg.Connection, pid: int
    ) -> None:
        self._gateways, self._callers = gateways, callers
        self._connection, self._server_pid = connection, pid
        self._chance = random.Random(1)  # noqa: S311 - when people call is no secret

    async def alone(self) -> list[float]:
        """The waits for a change of one call after the other."""
        found: list[float] = []
        for number in range(ALONE):
            dialogue = await self._call(number)
            found.append(dialogue.waits_s[-1])
        return found

    async def rise(self, rates: Iterator[float], step_s: float) -> list[Step]:
        """Steps at these rates, until two in a row are bent."""
        steps: list[Step] = []
        for rate in rates:
            steps.append(await self.step(rate, step_s))
            if len(steps) > 1 and steps[-1].is_bent and steps[-2].is_bent:
                break
        return steps

    async def step(self, rate: float, step_s: float) -> Step:
        """Calls at one rate for so many seconds, each to its end."""
        before, closed_before = self._spent(), await self._closed()
        begun, at = time.perf_counter(), 0.0
        calls: list[tuple[float, asyncio.Task[Dialogue]]] = []
        # Poisson: nobody waits for anybody else.
        while (at := at + self._chance.expovariate(rate)) < step_s:
            await asyncio.sleep(begun + at - time.perf_counter())
            calls.append((at, asyncio.create_task(self._call(len(calls), thinks=True))))
        seconds = time.perf_counter() - begun
        cores, closed = self._spent().since(before, seconds), await self._closed() - closed_before
        answers = await asyncio.gather(*(task for _, task in calls), return_exceptions=True)
        made = [(at, each) for (at, _), each in zip(calls, answers, strict=True) if _is_made(each)]
        waits = [each.waits_s[-1] for at, each in made if at > SETTLES_S and isinstance(each, Dialogue)]
        waits = waits if len(waits) > 1 else [math.inf, math.inf]
        return Step(rate, len(calls), len(calls) - len(made), statistics.median(waits), _p99(waits), closed, cores)

    async def _call(self, number: int, *, thinks: bool = False) -> Dialogue:
        caller = next(self._callers)
        return await call(
            self._gateways[number % len(self._gateways)].port,
            KEYS,
            caller=caller.number,
            dialled=caller.dialled,
            number=number,
            thinks_s=(lambda: self._chance.uniform(*THINKS_S)) if thinks else None,
        )

    def _spent(self) -> Spent:
        gateways = sum(process_cpu_s(each.pid) for each in self._gateways)
        return Spent(gateways, family_cpu_s(self._server_pid), process_cpu_s(os.getpid()), machine_cpu_s())

    async def _closed(self) -> int:
        closed: int = await self._connection.fetchval("SELECT count(*) FROM closings")
        return closed


def rising() -> Iterator[float]:
    return (FIRST_RATE * GROWTH**number for number in range(1_000))


def _is_made(answer: Dialogue | BaseException) -> bool:
    return isinstance(answer, Dialogue) and answer.outcome == "cancelled"


def _p99(waits_s: Sequence[float]) -> float:
    return statistics.quantiles(waits_s, n=100, method="inclusive")[98]
