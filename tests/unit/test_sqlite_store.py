"""What the store owes to SQLite: durability's settings, append-only tables, groups of requests, migrations."""

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, delete, select
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from core.changes import Presence
from core.headcount import Closing, CountedChange, Headcount, MealCount, Tray
from core.people import PupilId
from core.ports import Closings, Entries
from gateway.store import closings, sqlite
from gateway.store.engine import MIGRATIONS, copy_store, migrate, open_store
from gateway.store.port import (
    NewCallEvent,
    StoreBusyError,
    StoreClosedError,
    StoreConflictError,
    StoreFaultError,
    StoreSetupError,
    StoreUnsureError,
)
from gateway.store.rows import change_values
from gateway.store.sql import IDS_PER_STATEMENT, INSERT_CHANGE, INSERT_SETTING, SELECT_SETTING, SqlStore
from gateway.store.sqlite import Lane, Transaction, connect
from gateway.store.tables import APPEND_ONLY, SCHEMA, changes, metadata, settings
from tests.store_people import (
    DAY,
    EVENING,
    HASHER,
    add,
    cancel,
    enrolled,
    guardian,
    history,
    no_pin,
    people,
    pupil,
    refusal,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mensa.db"


@pytest_asyncio.fixture
async def store(path: Path) -> AsyncIterator[SqlStore]:
    opened = await open_store(f"sqlite:///{path}")
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of somebody else, who knows nothing of the store."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def put(key: str, value: str = "x") -> "Put":
    return Put(key, value)


class Put:
    """A request that keeps one setting."""

    def __init__(self, key: str, value: str) -> None:
        self.values = {"key": key, "value": value}

    def __call__(self, transaction: Transaction) -> None:
        transaction.run(INSERT_SETTING, self.values)


class Held:
    """A request that keeps the writer busy until it is let go."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, transaction: Transaction) -> None:
        self.has_begun.set()
        assert self.may_end.wait(60)


async def busy(store: SqlStore) -> tuple[Held, "asyncio.Task[None]"]:
    """The writer, in the middle of a request; what comes now has to wait."""
    held = Held()
    task = asyncio.create_task(store.write(held))
    assert await asyncio.to_thread(held.has_begun.wait, 60)
    return held, task


async def queued(*writes: "asyncio.Task[Any]") -> None:
    """Let tasks run up to where they wait for the writer."""
    await asyncio.sleep(0)
    assert not any(task.done() for task in writes)


# Settings of the connection


def test_R18_the_writer_syncs_each_commit_to_the_log(path: Path) -> None:
    with closing(connect(path)) as connection:
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "recursive_triggers")
        }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "recursive_triggers": 1}


async def test_a_database_is_for_its_owners_eyes_only(store: SqlStore, path: Path) -> None:
    await store.set_setting("key", "value")

    files = [path, path.with_name("mensa.db-wal"), path.with_name("mensa.db-shm")]
    assert [stat.S_IMODE(each.stat().st_mode) for each in files] == [0o600] * 3


async def test_readers_cannot_write(store: SqlStore) -> None:
    with pytest.raises(StoreFaultError, match="readonly"):
        await store.read(delete(settings), {})


# Append-only


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = id + 1", "DELETE FROM {}"])
async def test_R19_the_database_refuses_to_change_or_delete(
    store: SqlStore, raw: sqlite3.Connection, table: str, statement: str
) -> None:
    town = store.at("roccachiara")
    anna, _ = await enrolled(town)
    await town.transact([anna.id], lambda _: (Entries((cancel(anna.id),), (refusal(anna.id),)), None))
    await store.add_call_events([NewCallEvent("call-1", EVENING.earliest, "ringing")])
    [change] = await history(town, anna.id)
    headcount = Headcount(
        "primaria",
        DAY,
        ("1A",),
        (MealCount("1A", Presence.PRESENT, None, 1),),
        (CountedChange(anna.id, Presence.CANCELLED, change.id),),
        (Tray(anna.id, "1A", Presence.PRESENT, "C"),),
    )
    made = Closing(headcount, 1, EVENING.earliest, EVENING, "digest")
    await town.transact_closing(DAY, ["primaria"], (), lambda _: (Closings((made,)), None))

    with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only"):
        raw.execute(statement.format(table))

    assert raw.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)


@pytest.mark.usefixtures("store")
async def test_the_changes_that_cover_a_day_are_found_by_their_last_day(raw: sqlite3.Connection) -> None:
    statement = closings.select_changed(2)
    sql = str(statement.compile(dialect=sqlite_dialect(paramstyle="named")))

    plan = raw.execute(f"EXPLAIN QUERY PLAN {sql}", dict.fromkeys(statement.compile().params, 1)).fetchall()

    searches = [step for *_, step in plan if "ix_changes_municipality_last_day" in step]
    # Those without an end, and those that end on the day or later; never all that a town has ever changed.
    assert len(searches) == 2
    assert all("municipality=? AND last_day" in each for each in searches)
    assert not [step for *_, step in plan if step.startswith("SCAN")]


async def test_R19_a_change_cannot_be_replaced_either(store: SqlStore, path: Path) -> None:
    town = store.at("roccachiara")
    anna, _ = await enrolled(town)
    await add(town, cancel(anna.id))

    with closing(connect(path)) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("INSERT OR REPLACE INTO changes SELECT * FROM changes")


async def test_an_erased_persons_name_is_no_longer_in_the_file(store: SqlStore, path: Path) -> None:
    town = store.at("roccachiara")
    for each in await enrolled(town):
        await town.erase_pupil(each.id)

    await store.close()

    content = await asyncio.to_thread(path.read_bytes)
    assert b"Verdini" not in content
    assert b"maria@example.org" not in content


async def test_histories_are_found_by_an_index(store: SqlStore, raw: sqlite3.Connection) -> None:
    plan = raw.execute(
        "EXPLAIN QUERY PLAN SELECT * FROM changes WHERE municipality = 1 AND pupil IN (1, 2, 3) ORDER BY id"
    ).fetchall()

    assert "USING INDEX" in plan[0][3]
    assert "municipality=? AND pupil=?" in plan[0][3]


# Groups of requests


async def test_what_waits_is_written_in_one_transaction(store: SqlStore, raw: sqlite3.Connection) -> None:
    held, first = await busy(store)
    others = [asyncio.create_task(store.write(put(f"key-{n}"))) for n in range(9)]
    await queued(*others)

    assert raw.execute("SELECT count(*) FROM settings").fetchone() == (0,)
    held.may_end.set()
    await asyncio.gather(first, *others)

    assert raw.execute("SELECT count(*) FROM settings").fetchone() == (9,)


async def test_a_request_that_fails_half_way_keeps_nothing_and_fails_alone(store: SqlStore) -> None:
    def half(transaction: Transaction) -> None:
        with transaction.savepoint():
            transaction.run(INSERT_SETTING, {"key": "half", "value": "x"})
            raise ZeroDivisionError

    held, first = await busy(store)
    tasks = [asyncio.create_task(store.write(work)) for work in (put("before"), half, put("before"), put("after"))]
    await queued(*tasks)
    held.may_end.set()
    before, halved, conflicting, after = await asyncio.gather(*tasks, return_exceptions=True)
    await first

    assert (before, after) == (None, None)
    assert isinstance(halved, ZeroDivisionError)
    assert isinstance(conflicting, StoreConflictError)
    assert [await store.get_setting(key) for key in ("before", "half", "after")] == ["x", None, "x"]


async def test_a_request_that_fails_half_way_without_a_savepoint_takes_its_group_with_it(store: SqlStore) -> None:
    def careless(transaction: Transaction) -> None:
        transaction.run(INSERT_SETTING, {"key": "half", "value": "x"})
        raise ZeroDivisionError

    held, first = await busy(store)
    tasks = [asyncio.create_task(store.write(work)) for work in (put("before"), careless, put("after"))]
    await queued(*tasks)
    held.may_end.set()
    outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
    await store.write(put("later"))

    assert [type(each) for each in outcomes] == [StoreFaultError, StoreFaultError, ZeroDivisionError, StoreFaultError]
    assert [await store.get_setting(key) for key in ("before", "half", "after", "later")] == [None, None, None, "x"]


async def test_R18_nobody_is_told_of_a_change_whose_commit_failed(store: SqlStore) -> None:
    town = store.at("roccachiara")
    anna, _ = await enrolled(town)

    def break_the_commit(transaction: Transaction) -> None:
        # A deferred foreign key is looked at by COMMIT alone.
        transaction._connection.execute("PRAGMA defer_foreign_keys=ON")
        transaction.run(INSERT_CHANGE, change_values(1, cancel(PupilId(999_999))))

    held, first = await busy(store)
    tasks = [asyncio.create_task(each) for each in (add(town, cancel(anna.id)), store.write(break_the_commit))]
    await queued(*tasks)
    held.may_end.set()
    outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
    await add(town, cancel(anna.id, receipt="0007"))

    assert [type(each) for each in outcomes] == [StoreFaultError] * 3
    assert [change.receipt for change in await history(town, anna.id)] == ["0007"]


async def test_R21_siblings_who_cannot_be_kept_whole_harm_nobody_who_waits_with_them(store: SqlStore) -> None:
    town = store.at("roccachiara")
    anna, bruno = await enrolled(town)
    await add(town, cancel(bruno.id, receipt="0001"))
    again = people((guardian("Marta", email="marta@example.org", pin=None),), pupil("50003", 0))

    held, first = await busy(store)
    requests = [
        add(town, cancel(anna.id, receipt="0002")),
        add(town, cancel(anna.id, receipt="0003"), cancel(bruno.id, receipt="0001")),
        town.import_people(again, HASHER, no_pin),
        add(town, cancel(anna.id, receipt="0004")),
    ]
    tasks = [asyncio.create_task(each) for each in requests]
    await queued(*tasks)
    held.may_end.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await first

    assert [type(each) for each in outcomes] == [type(None), StoreConflictError, AssertionError, type(None)]
    assert [change.receipt for change in await history(town, anna.id)] == ["0002", "0004"]
    assert len(await town.all_pupils()) == 2


async def test_a_whole_town_is_read_in_parts(store: SqlStore) -> None:
    town = store.at("roccachiara")
    codes = [f"{number:05}" for number in range(IDS_PER_STATEMENT + 3)]
    pupils = await enrolled(town, people((guardian(),), *(pupil(code, 0) for code in codes)))
    ids = [each.id for each in pupils]
    await add(town, *(cancel(id_) for id_ in ids))

    assert [each.user_code for each in await town.pupils(ids[::-1])] == codes
    assert {len(each) for each in (await town.histories(ids)).values()} == {1}


async def test_a_read_that_takes_too_long_is_given_up_and_the_reader_goes_on(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.set_setting("key", "value")
    monkeypatch.setattr(sqlite, "READ_TIMEOUT_S", 0)

    with pytest.raises(StoreBusyError, match="nothing was read"):
        await store.get_setting("key")
    monkeypatch.undo()

    assert await store.get_setting("key") == "value"


async def test_who_goes_while_a_roll_is_read_leaves_no_transaction_behind(store: SqlStore) -> None:
    town = store.at("roccachiara")
    await enrolled(town)
    roll = await town.roll("primaria", DAY, ())

    gone = asyncio.create_task(town.roll("primaria", DAY, ()))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])

    assert gone.cancelled()
    assert await town.roll("primaria", DAY, ()) == roll


async def test_many_readers_at_once_all_get_their_answer(store: SqlStore) -> None:
    await store.set_setting("key", "value")
    cancelled = [asyncio.create_task(store.get_setting("key")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in cancelled:
        task.cancel()

    assert await asyncio.gather(*(store.get_setting("key") for _ in range(50))) == ["value"] * 50


async def test_a_full_disk_fails_the_request_and_the_next_one_finds_room(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_small_disk(path: Path, lock_timeout_s: float) -> sqlite3.Connection:
        connection = connect(path, lock_timeout_s)
        connection.execute("PRAGMA max_page_count=100")
        return connection

    migrate(path)
    monkeypatch.setattr(sqlite, "connect", on_a_small_disk)
    store = await open_store(f"sqlite:///{path}")

    with pytest.raises(StoreFaultError, match="full"):
        await store.write(put("large", "x" * 1_000_000))
    await store.write(put("small"))

    assert await store.get_setting("large") is None
    assert await store.get_setting("small") == "x"
    await store.close()


async def test_more_requests_than_may_wait_are_refused_and_not_kept(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sqlite.WAITING_MAX, Lane.CHANGE, 2)
    held, first = await busy(store)
    tasks = [asyncio.create_task(store.write(put(f"key-{n}"))) for n in range(2)]
    await queued(*tasks)

    with pytest.raises(StoreBusyError, match=r"2 requests \(change\) already wait .* nothing of this one was kept"):
        await store.write(put("one too many"))
    held.may_end.set()
    await asyncio.gather(first, *tasks)

    assert await store.get_setting("one too many") is None
    assert await store.get_setting("key-1") == "x"


async def test_the_call_log_waits_until_no_change_does(store: SqlStore) -> None:
    order: list[str] = []
    held, first = await busy(store)
    log = [asyncio.create_task(store.write(lambda _: order.append("log"), Lane.LOG)) for _ in range(3)]
    await queued(*log)
    changed = [asyncio.create_task(store.write(lambda _: order.append("change"))) for _ in range(3)]
    await queued(*changed)
    held.may_end.set()
    await asyncio.gather(first, *log, *changed)

    assert order == ["change"] * 3 + ["log"] * 3


async def test_a_full_call_log_never_keeps_a_change_out(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sqlite.WAITING_MAX, Lane.LOG, 1)
    held, first = await busy(store)
    log = asyncio.create_task(store.write(lambda _: None, Lane.LOG))
    await queued(log)

    with pytest.raises(StoreBusyError, match=r"\(log\)"):
        await store.write(lambda _: None, Lane.LOG)
    change = asyncio.create_task(store.write(put("change")))
    held.may_end.set()

    await asyncio.gather(first, log, change)


async def test_what_waited_too_long_is_withdrawn_and_can_be_sent_again(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}", take_timeout_s=0.05)
    await store.migrate()
    held, first = await busy(store)

    with pytest.raises(StoreBusyError, match=r"waited 0.05 s to be written; nothing of it was kept"):
        await store.write(put("key", "first"))
    held.may_end.set()
    await first
    await store.write(put("key", "again"))

    assert await store.get_setting("key") == "again"
    await store.close()


async def test_what_the_disk_does_not_confirm_is_left_as_unsure(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "ANSWER_TIMEOUT_S", 0.05)
    store = await open_store(f"sqlite:///{path}", take_timeout_s=0.05)
    await store.migrate()
    held = Held()

    with pytest.raises(StoreUnsureError, match="may or may not be kept"):
        await store.write(held)
    held.may_end.set()

    await store.close()


async def test_another_process_that_holds_the_database_is_waited_for(store: SqlStore, raw: sqlite3.Connection) -> None:
    raw.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(store.write(put("key")))
    await asyncio.wait([waiting], timeout=0.1)
    assert not waiting.done()

    raw.execute("COMMIT")
    await waiting

    assert await store.get_setting("key") == "x"


async def test_another_process_that_holds_the_database_too_long_is_named(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}", lock_timeout_s=0.05)
    await store.migrate()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match=r"another process has held the database for 0.05 s; nothing"):
            await store.write(put("key"))

    assert await store.get_setting("key") is None
    await store.write(put("key"))
    await store.close()


async def test_closing_keeps_what_was_accepted_and_takes_nothing_more(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}")
    await store.migrate()
    held, first = await busy(store)
    accepted = [asyncio.create_task(store.write(put(f"key-{n}"))) for n in range(3)]
    await queued(*accepted)

    closing_ = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreClosedError, match="nothing of it kept"):
        await store.write(put("late"))
    held.may_end.set()
    await asyncio.gather(first, *accepted, closing_)
    await store.close()
    with pytest.raises(StoreClosedError, match="nothing was read"):
        await store.get_setting("key-1")

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM settings").fetchone() == (3,)


async def test_who_has_gone_leaves_no_trace_but_the_change(store: SqlStore, caplog: pytest.LogCaptureFixture) -> None:
    held, first = await busy(store)
    gone = [asyncio.create_task(store.write(work)) for work in (put("key"), put("key"))]
    await queued(*gone)

    for task in gone:
        task.cancel()
    held.may_end.set()
    await asyncio.gather(first, *gone, return_exceptions=True)
    await store.write(put("later"))

    assert await store.get_setting("key") == "x"
    assert caplog.records == []


async def test_R18_who_hangs_up_on_the_first_change_after_a_start_has_made_it(store: SqlStore, path: Path) -> None:
    anna, _ = await enrolled(store.at("roccachiara"))
    started = await open_store(f"sqlite:///{path}")

    confirmed = asyncio.create_task(add(started.at("roccachiara"), cancel(anna.id, receipt="0001")))
    await asyncio.sleep(0)
    confirmed.cancel()
    await asyncio.wait([confirmed])
    await started.close()

    assert [change.receipt for change in await history(store.at("roccachiara"), anna.id)] == ["0001"]


async def test_a_town_whose_first_request_fails_has_not_come_into_being(
    store: SqlStore, raw: sqlite3.Connection
) -> None:
    with pytest.raises(StoreConflictError):
        await add(store.at("nowhere"), cancel(PupilId(1)))

    assert raw.execute("SELECT * FROM municipalities").fetchall() == []


async def test_a_statement_reads_back_in_the_transaction_what_it_wrote(store: SqlStore) -> None:
    def write_and_read(transaction: Transaction) -> list[list[object]]:
        transaction.run(INSERT_SETTING, {"key": "key", "value": "value"})
        return transaction.rows(SELECT_SETTING, {"key": "key"})

    assert await store.write(write_and_read) == [["value"]]


# Migrations


def test_the_migrations_make_the_tables_of_the_page(path: Path) -> None:
    migrate(path)

    with create_engine(f"sqlite:///{path}").connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_schema_of_the_page_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))

    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA


def test_migrating_again_changes_nothing(path: Path) -> None:
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall()

    migrate(path)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT sql FROM sqlite_master ORDER BY name").fetchall() == before


async def test_starts_at_the_same_time_migrate_once(path: Path) -> None:
    stores = [await open_store(f"sqlite:///{path}") for _ in range(4)]

    await asyncio.gather(*(store.migrate() for store in stores))

    await stores[0].set_setting("key", "value")
    assert await stores[3].get_setting("key") == "value"
    for store in stores:
        await store.close()


def test_many_who_open_a_new_database_at_once_all_get_in(tmp_path: Path) -> None:
    for attempt in range(10):
        path = tmp_path / f"{attempt}.db"

        with ThreadPoolExecutor(12) as pool:
            opened = [pool.submit(connect, path) for _ in range(12)]

        for each in opened:
            each.result().close()


def test_a_database_of_a_newer_version_is_refused_in_one_line_and_left(path: Path) -> None:
    migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()

    with pytest.raises(
        StoreSetupError, match=rf"made by a newer version \(its schema is 9999\); expected {SCHEMA}"
    ) as said:
        migrate(path)

    assert "\n" not in str(said.value)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE changes (id INTEGER)")

    with pytest.raises(StoreSetupError, match="cannot be set up"):
        migrate(path)

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("changes",)]


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("school canteen " * 100)

    with pytest.raises(StoreSetupError, match="not a database"):
        migrate(path)


def test_a_folder_that_is_missing_is_made(tmp_path: Path) -> None:
    migrate(tmp_path / "var" / "lib" / "mensa.db")

    assert (tmp_path / "var" / "lib" / "mensa.db").exists()


async def test_a_database_that_was_not_migrated_says_so(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}")

    with pytest.raises(StoreFaultError, match="no such table"):
        await store.get_setting("key")
    with pytest.raises(StoreFaultError, match="no such table"):
        await store.set_setting("key", "value")

    await store.close()


@pytest.mark.parametrize(
    "url", ["mensa.db", "sqlite://", "sqlite:///:memory:", "mysql://mensa:secret@db/mensa", "sqlite:///a?mode=ro"]
)
async def test_a_url_that_is_no_database_is_refused(url: str) -> None:
    with pytest.raises(
        StoreSetupError, match=r"expected sqlite:///PATH or postgresql://.*; no store was opened"
    ) as said:
        await open_store(url)

    assert "secret" not in str(said.value)


async def test_a_copy_has_what_the_store_had_and_lives_on_its_own(store: SqlStore, path: Path, tmp_path: Path) -> None:
    town = store.at("roccachiara")
    anna, _ = await enrolled(town)
    await add(town, cancel(anna.id))

    copy = await open_store(await copy_store(f"sqlite:///{path}", tmp_path / "copy.db"))
    await add(copy.at("roccachiara"), cancel(anna.id))

    assert len(await history(copy.at("roccachiara"), anna.id)) == 2
    assert len(await history(town, anna.id)) == 1
    await copy.close()


async def test_many_changes_of_many_pupils_all_arrive(store: SqlStore) -> None:
    town = store.at("roccachiara")
    anna, bruno = await enrolled(town)

    await asyncio.gather(*(add(town, cancel(each.id)) for _ in range(200) for each in (anna, bruno)))

    histories = await town.histories([anna.id, bruno.id])
    assert [len(histories[each.id]) for each in (anna, bruno)] == [200, 200]
    found = await store.read(select(changes.c.id), {})
    assert len(found) == 400
