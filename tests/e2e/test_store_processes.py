"""The store under what really happens to processes: killed at any instant, two at once, and a disk that must be synced."""

import asyncio
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from core.access import Actor
from core.calendar import ONE_DAY
from core.desk import BookingDesk, Cancel, Request
from core.window import Channel
from gateway.store.engine import open_store
from tests.store_child import LOOK_AHEAD_DAYS, TOWN, far_rules
from tests.store_people import DAY, add, cancel, enrolled
from tests.towns import at

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
KILLS = 10
ROUNDS = 100
# A child that has not answered by then hangs; starting one takes a second or two on a busy machine.
CHILD_TIMEOUT_S = 60


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with two pupils."""
    path = tmp_path / "mensa.db"

    async def prepare() -> None:
        store = await open_store(f"sqlite:///{path}")
        await store.migrate()
        await enrolled(store.at(TOWN))
        await store.close()

    asyncio.run(prepare())
    return path


@contextmanager
def child(command: str, database: Path, *under: str) -> Iterator["subprocess.Popen[str]"]:
    """`tests.store_child` in a process of its own, killed at the end."""
    arguments = [*under, sys.executable, "-m", "tests.store_child", command, str(database)]
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        # strace would leave the child alone when it ends.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=CHILD_TIMEOUT_S)


def read(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_R18_what_was_confirmed_is_there_after_kill_9_and_nothing_is_half_there(database: Path) -> None:
    chance = random.Random(18)
    asked: set[str] = set()
    confirmed: set[str] = set()

    for _ in range(KILLS):
        with child("confirm", database) as process:
            said = [read(process)]
            lines = chance.randint(1, 400)
            while len(said) < lines:
                said.append(read(process))
            process.kill()
            assert process.stdout is not None
            said += process.stdout.read().splitlines()
        asked |= {line.removeprefix("asked ") for line in said if line.startswith("asked ")}
        confirmed |= {line.removeprefix("confirmed ") for line in said if line.startswith("confirmed ")}

        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            kept = dict(connection.execute("SELECT receipt, count(*) FROM changes GROUP BY receipt").fetchall())
        assert confirmed <= set(kept)
        assert set(kept) <= asked
        assert set(kept.values()) <= {2}
    assert len(confirmed) > KILLS


async def test_two_processes_that_cancel_one_day_at_once_make_one_change(database: Path) -> None:
    store = await open_store(f"sqlite:///{database}")
    anna, _ = await store.at(TOWN).all_pupils()
    desk = BookingDesk(far_rules, store.at(TOWN))
    actor = Actor(Channel.PORTAL, "session", None, frozenset({anna.id}))
    rules = far_rules()
    days = (DAY + each * ONE_DAY for each in range(LOOK_AHEAD_DAYS))
    served = [day for day in days if rules.calendar.is_served(rules.class_group(anna), day)][:ROUNDS]

    with child("rival", database) as process:
        assert process.stdin is not None
        assert await asyncio.to_thread(read, process) == "ready"
        for number, day in enumerate(served):
            print(day, f"rival-{number}", file=process.stdin, flush=True)
            (ours,) = await desk.act(actor, [Request(anna, Cancel(day), f"ours-{number}")], at("2026-11-23 18:30"))
            theirs = await asyncio.to_thread(read, process)
            assert sorted((ours.word, theirs)) == ["already_cancelled", "cancelled"]

    history = (await store.at(TOWN).histories([anna.id]))[anna.id]
    await store.close()
    assert [change.first for change in history] == served
    assert len(served) == ROUNDS


async def test_R18_a_process_that_closes_the_database_takes_nothing_from_one_that_goes_on(database: Path) -> None:
    """As when a command ends beside a gateway: it must not count as the last one, who clears the log away."""
    store = await open_store(f"sqlite:///{database}")
    town = store.at(TOWN)
    anna, _ = await town.all_pupils()
    await add(town, cancel(anna.id, request="before"))

    look = f"import sqlite3; c = sqlite3.connect({str(database)!r}); c.execute('SELECT * FROM changes').fetchall(); c.close()"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", look], check=True, timeout=CHILD_TIMEOUT_S)
    await add(town, cancel(anna.id, request="after"))

    # A process of its own sees what stands on the disk; this one would also see what only its own log has.
    ask = (
        f"import sqlite3; print(*sqlite3.connect({str(database)!r}).execute('SELECT request FROM changes ORDER BY id'))"
    )
    arguments = [sys.executable, "-c", ask]
    found = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, timeout=CHILD_TIMEOUT_S)
    await store.close()
    assert found.stdout.split() == ["('before',)", "('after',)"]


def test_R18_the_log_is_synced_before_anybody_is_told(database: Path, tmp_path: Path) -> None:
    """As the kernel sees it: after the last write to the log and before the confirmation, the log was synced."""
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-y", "-o", str(trace), "-e", "trace=write,pwrite64,fsync,fdatasync")
    with child("confirm-alone", database, *strace) as process:
        said = [read(process) for _ in range(40)]

    events = list(_events(trace.read_text(encoding="utf-8", errors="replace")))

    requests = [line.removeprefix("confirmed ") for line in said if line.startswith("confirmed ")]
    assert len(requests) == 20
    for request in requests:
        since = events[events.index(f"asked {request}") : events.index(f"confirmed {request}")]
        assert "write log" in since
        assert since[::-1].index("sync log") < since[::-1].index("write log")


def _events(trace: str) -> Iterator[str]:
    """What was said, written to the log and synced, each when the call had ended, in the order in which the calls ended."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        if call.endswith("<unfinished ...>"):
            begun[thread] = call.removesuffix("<unfinished ...>")
            # What is said is heard as soon as the call begins.
            if said := _said(call):
                yield said
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", call):
            call = begun.pop(thread, "") + call[resumed.end() :]
        elif said := _said(call):
            yield said
        if "-wal>" in call and re.match(r"f(data)?sync\(.*= 0$", call):
            yield "sync log"
        elif "-wal>" in call and re.match(r"p?write(64)?\(", call):
            yield "write log"


def _said(call: str) -> str | None:
    found = re.match(r'write\(1<[^>]*>, "((?:asked|confirmed) [\d-]+)\\n"', call)
    return found[1] if found else None
