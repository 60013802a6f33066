"""One process that makes changes through the store as fast as it can: `python -m bench.changer DATABASE_URL`.

The first line on standard input is a JSON document (`Work`), each further one for how many seconds to go on; each is answered
with the changes made and the seconds that they took.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import count

from core.changes import Kind, NewChange
from core.clock import exactly
from core.people import PupilId, UserCode
from core.ports import Entries, Kept
from core.window import Channel
from gateway.store.engine import open_store
from gateway.store.port import Store, Town

WARM_UP_S = 0.5
DAY = date(2026, 11, 24)
DECIDED = exactly(datetime(2026, 11, 23, 17, 30, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Work:
    """Whom to change: `pupils` are (town, school, pupil); `prefix` keeps this process's requests apart from another's."""

    prefix: str
    callers: int
    pupils: list[tuple[str, str, int]]


async def change_for(store: Store, work: Work, numbers: Iterator[int], seconds: float) -> tuple[int, float]:
    """The changes that so many waiting callers make, and how long they took."""
    towns = {town: store.at(town) for town, _, _ in work.pupils}
    begun = time.perf_counter()
    stop, done = begun + seconds, 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < stop:
            number = next(numbers)
            town, school, pupil = work.pupils[number % len(work.pupils)]
            await _change_one(towns[town], school, PupilId(pupil), f"{work.prefix}-{number:010}")
            done += 1

    await asyncio.gather(*(caller() for _ in range(work.callers)))
    return done, time.perf_counter() - begun


async def _change_one(town: Town, school: str, pupil: PupilId, request: str) -> None:
    """Ask and add what the desk asks and adds for a day that is cancelled: the history, the closed days, one change."""

    def decide(kept: Kept) -> tuple[Entries, None]:
        assert pupil in kept.histories
        change = NewChange(pupil, Kind.CANCEL, DAY, DAY, request, request, Channel.PHONE, None, "call", DECIDED)
        return Entries((change,)), None

    await town.transact([pupil], decide, {school: DAY})


async def main(url: str) -> None:
    work = Work(**json.loads(await asyncio.to_thread(sys.stdin.readline)))
    store = await open_store(url)
    numbers = count()
    try:
        # The towns' ids, as every gateway knows them from reading; then connections and prepared statements.
        for town in {town for town, _, _ in work.pupils}:
            await store.at(town).pupil(UserCode(""))
        await change_for(store, work, numbers, WARM_UP_S)
        _say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            _say(json.dumps(await change_for(store, work, numbers, float(line))))
    finally:
        await store.close()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
