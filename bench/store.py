"""Durable changes per second with 64 callers waiting, against bare SQLite committing one row at a time on the same disk.

Both sync every commit (WAL, `synchronous=FULL`). The two run in turns, for a shared disk is never the same for long.
"""

import asyncio
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

from bench.result import Result
from core.changes import Kind, NewChange
from core.clock import exactly
from core.people import NewPupil, People, PupilId, UserCode
from core.ports import Entries, Kept
from core.window import Channel
from gateway.pin_key import KEY_BYTES, KeyedHasher
from gateway.store.engine import open_store
from gateway.store.port import Town

CALLERS = 64
GOAL = 2.0
ROUNDS = 7
ROUND_S = 1.0
# As many as a small town has; the changes of a round spread over them.
PUPILS = 2_000
DAY = date(2026, 11, 24)
DECIDED = exactly(datetime(2026, 11, 23, 17, 30, tzinfo=UTC))


def measure() -> Result:
    # On this disk: the usual folder for temporary files may be memory.
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
        ours, bare = asyncio.run(_compare(Path(folder)))
    return Result(
        "store",
        f"durable changes with {CALLERS} callers waiting",
        "bare SQLite committing one row at a time, as durably, on the same disk",
        ours,
        bare,
        "changes/s",
        GOAL,
        "higher",
    )


async def _compare(folder: Path) -> tuple[float, float]:
    """The medians of both, in commits a second."""
    store = await open_store(f"sqlite:///{folder / 'ours.db'}")
    try:
        await store.migrate()
        town = store.at("roccachiara")
        pupils = tuple(NewPupil(UserCode(f"{i:05}"), "", "", None, "primaria", "1A", None, ()) for i in range(PUPILS))
        await town.import_people(People((), pupils), KeyedHasher(bytes(KEY_BYTES)), str)
        ids = [pupil.id for pupil in await town.all_pupils()]
        numbers = iter(range(sys.maxsize))
        ours, bare = [], []
        with closing(_bare(folder / "bare.db")) as connection:
            for _ in range(ROUNDS):
                ours.append(await _round_of_ours(town, ids, numbers))
                bare.append(_round_of_bare(connection))
    finally:
        await store.close()
    return statistics.median(ours), statistics.median(bare)


async def _round_of_ours(town: Town, ids: list[PupilId], numbers: Iterator[int]) -> float:
    stop = time.perf_counter() + ROUND_S
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < stop:
            number = next(numbers)
            await _change_one(town, ids[number % PUPILS], f"request-{number}")
            done += 1

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return done / (time.perf_counter() - begun)


async def _change_one(town: Town, pupil: PupilId, request: str) -> None:
    def decide(kept: Kept) -> tuple[Entries, None]:
        receipt = f"{len(kept.histories[pupil]):04}"
        change = NewChange(pupil, Kind.CANCEL, DAY, DAY, receipt, request, Channel.PHONE, None, "call", DECIDED)
        return Entries((change,)), None

    await town.transact([pupil], decide)


def _bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE changes (id INTEGER PRIMARY KEY, pupil INTEGER, kind TEXT, day TEXT, request TEXT)"
    )
    return connection


def _round_of_bare(connection: sqlite3.Connection) -> float:
    begun = time.perf_counter()
    done = 0
    while time.perf_counter() < begun + ROUND_S:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "INSERT INTO changes (pupil, kind, day, request) VALUES (?, ?, ?, ?)",
            (done % PUPILS, "cancel", DAY.isoformat(), f"request-{done}"),
        )
        connection.execute("COMMIT")
        done += 1
    return done / (time.perf_counter() - begun)
