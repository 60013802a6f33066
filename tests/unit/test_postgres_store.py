"""What the store owes to PostgreSQL: groups of requests, locks between gateways, lost connections, migrations."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from core.access import Actor
from core.clock import Reading
from core.desk import BookingDesk, Cancel, Request
from core.people import Pupil, PupilId, UserCode
from core.ports import Entries, Kept, NothingStoredError
from core.window import Channel
from gateway.store import postgres as adapter
from gateway.store.engine import copy_store, located, open_store
from gateway.store.port import (
    NewCallEvent,
    Reach,
    StoreBusyError,
    StoreClosedError,
    StoreConflictError,
    StoreFaultError,
    StoreSetupError,
    StoreUnsureError,
    Transaction,
)
from gateway.store.sql import INSERT_SETTING, SELECT_ALL_PUPILS, SqlStore
from gateway.store.tables import SCHEMA, metadata
from tests.contract.test_closings import close
from tests.postgres import Cluster, running
from tests.store_people import DAY, EVENING, HASHER, add, cancel, enrolled, guardian, history, no_pin, people, pupil
from tests.towns import at
from tests.towns import town as rules

RACES = 100
CUTS = 40
TOWN = "roccachiara"


@pytest_asyncio.fixture
async def store(postgres_url: str) -> AsyncIterator[SqlStore]:
    opened = await open_store(postgres_url)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def other(postgres_url: str) -> AsyncIterator[SqlStore]:
    """The store of another gateway on the same database."""
    opened = await open_store(postgres_url)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def raw(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else, who knows nothing of the store."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what the server shows a moment later."""
    async with asyncio.timeout(30):
        while not await is_so():  # noqa: ASYNC110 - another process's state, of which nobody tells
            await asyncio.sleep(0.01)


async def waits_for_a_lock(raw: asyncpg.Connection, number: int = 1) -> None:
    async def is_so() -> bool:
        return (
            await raw.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            >= number
        )

    await until(is_so)


async def hold(raw: asyncpg.Connection, store: SqlStore, town: str) -> Any:
    """Have a town to oneself, as an import does; the transaction that ends it."""
    transaction = raw.transaction()
    await transaction.start()
    await raw.execute(f"SELECT pg_advisory_xact_lock({adapter.town_lock(await store.municipality(town) or 0)})")
    return transaction


async def cancel_day(store: SqlStore, pupil: Pupil, day: date, key: str, at_: Reading | None = None) -> str:
    town = rules(look_ahead_days=400)
    desk = BookingDesk(lambda: town, store.at(TOWN))
    actor = Actor(Channel.OFFICE, "terminal", None, frozenset({pupil.id}))
    (outcome,) = await desk.act(actor, [Request(pupil, Cancel(day), key)], at_ or at("2026-11-23 18:30"))
    return outcome.word


def service_days(number: int) -> list[date]:
    town = rules()
    days = (DAY + timedelta(days=ahead) for ahead in range(400))
    group = town.class_group(Pupil(PupilId(1), UserCode("50001"), "Anna", "Verdini", "primaria", "1A", None))
    return [day for day in days if town.calendar.is_served(group, day)][:number]


# Durability and sessions


async def test_R18_every_writing_connection_waits_for_the_disk(store: SqlStore, raw: asyncpg.Connection) -> None:
    await raw.execute(f"ALTER DATABASE {await raw.fetchval('SELECT current_database()')} SET synchronous_commit = off")

    async with store._writer._connections.one() as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "on"


async def test_readers_cannot_write(store: SqlStore) -> None:
    for within in (None, 1):
        with pytest.raises(Exception, match="read-only"):
            await store._readers.rows([(INSERT_SETTING, {"key": "x", "value": "x"})], within)


# Groups


async def test_requests_of_many_towns_are_kept_in_one_transaction(store: SqlStore, raw: asyncpg.Connection) -> None:
    towns = [store.at(f"town-{number}") for number in range(5)]
    pupils = [(await enrolled(town))[0] for town in towns]

    await asyncio.gather(*(add(town, cancel(each.id)) for town, each in zip(towns, pupils, strict=True)))

    # What waits is shared out among the transactions that may run.
    assert len(await raw.fetch("SELECT DISTINCT xmin::text FROM changes")) <= adapter.GROUPS


async def test_a_request_that_contradicts_fails_alone_in_its_group(store: SqlStore) -> None:
    town = store.at(TOWN)
    pupils = await enrolled(town, people((guardian(),), *(pupil(f"{50001 + number}", 0) for number in range(8))))
    await add(town, cancel(pupils[0].id, request="taken"))

    outcomes = await asyncio.gather(
        *(add(town, cancel(each.id, request="taken" if each is pupils[3] else f"r-{each.id}")) for each in pupils),
        return_exceptions=True,
    )

    assert [type(each) for each in outcomes] == [
        StoreConflictError if each is pupils[3] else type(None) for each in pupils
    ]
    assert [len(await history(town, each.id)) for each in pupils] == [2, 1, 1, 0, 1, 1, 1, 1]


async def test_a_request_that_raises_fails_alone_in_its_group(store: SqlStore) -> None:
    town = store.at(TOWN)
    anna, bruno = await enrolled(town)

    def broken(_: Kept) -> tuple[Entries, None]:
        raise ZeroDivisionError

    outcomes = await asyncio.gather(
        add(town, cancel(anna.id)), town.transact([bruno.id], broken), return_exceptions=True
    )

    assert [type(each) for each in outcomes] == [type(None), ZeroDivisionError]
    assert len(await history(town, anna.id)) == 1


async def test_what_the_driver_cannot_send_is_not_shown(store: SqlStore) -> None:
    town = store.at(TOWN)
    unreadable = people((guardian(),), pupil("50001", 0, name="Anna \ud800"))

    with pytest.raises(StoreFaultError) as writing:
        await town.import_people(unreadable, HASHER, no_pin)
    await enrolled(town)
    with pytest.raises(StoreFaultError) as reading:
        await town.family_by_number("393400000101 \ud800")

    assert "Anna" not in str(writing.value)
    assert "39340" not in str(reading.value)


async def test_requests_for_one_pupil_are_run_in_the_order_in_which_they_came(store: SqlStore) -> None:
    town = store.at(TOWN)
    anna, _ = await enrolled(town)

    await asyncio.gather(*(add(town, cancel(anna.id, receipt=f"{number:04}")) for number in range(50)))

    assert [change.receipt for change in await history(town, anna.id)] == [f"{number:04}" for number in range(50)]


async def test_a_request_that_reads_what_it_had_not_named_is_run_alone(store: SqlStore) -> None:
    await store.set_setting("key", "value")
    await enrolled(store.at(TOWN))

    def curious(transaction: Transaction, municipality: int) -> int:
        return len(transaction.rows(SELECT_ALL_PUPILS, {"municipality": municipality}))

    assert await store.write_in(TOWN, curious, Reach()) == 2


async def test_R18_what_was_accepted_is_kept_though_its_caller_has_gone(
    store: SqlStore, raw: asyncpg.Connection
) -> None:
    town = store.at(TOWN)
    anna, _ = await enrolled(town)
    held = await hold(raw, store, TOWN)
    asked = asyncio.create_task(add(town, cancel(anna.id)))
    await waits_for_a_lock(raw)

    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await held.rollback()
    await store.settle()

    assert len(await history(town, anna.id)) == 1


async def test_R25_settling_waits_for_what_was_taken_before(store: SqlStore, raw: asyncpg.Connection) -> None:
    town = store.at(TOWN)
    anna, _ = await enrolled(town)
    held = await hold(raw, store, TOWN)
    change = asyncio.create_task(add(town, cancel(anna.id)))
    await waits_for_a_lock(raw)

    settled = asyncio.create_task(store.settle())
    done, _ = await asyncio.wait([settled], timeout=0.1)
    assert not done
    await held.rollback()
    await settled

    assert change.done()


async def test_closing_the_store_keeps_what_was_accepted_and_takes_nothing_more(
    store: SqlStore, other: SqlStore
) -> None:
    town = store.at(TOWN)
    anna, _ = await enrolled(town)
    asked = asyncio.create_task(add(town, cancel(anna.id)))
    await asyncio.sleep(0)

    await store.close()

    await asked
    assert len(await history(other.at(TOWN), anna.id)) == 1
    with pytest.raises(StoreClosedError):
        await add(town, cancel(anna.id))


# Locks


async def test_a_town_that_somebody_has_to_himself_keeps_no_other_waiting(
    store: SqlStore, raw: asyncpg.Connection
) -> None:
    here, elsewhere = store.at(TOWN), store.at("montelago")
    anna, _ = await enrolled(here)
    marco, _ = await enrolled(elsewhere)
    held = await hold(raw, store, TOWN)
    waiting = [asyncio.create_task(add(here, cancel(anna.id))) for _ in range(20)]
    await waits_for_a_lock(raw)

    await asyncio.gather(*(add(elsewhere, cancel(marco.id)) for _ in range(20)))

    assert not any(task.done() for task in waiting)
    await held.rollback()
    await asyncio.gather(*waiting)
    assert len(await history(here, anna.id)) == 20


async def test_many_requests_of_a_held_town_leave_room_for_those_of_another(
    store: SqlStore, raw: asyncpg.Connection, postgres_url: str
) -> None:
    pupils = await enrolled(
        store.at(TOWN), people((guardian(),), *(pupil(f"{60001 + number}", 0) for number in range(30)))
    )
    elsewhere, _ = await enrolled(store.at("montelago"))
    another = await asyncpg.connect(postgres_url)
    held, shortly_held = await hold(raw, store, TOWN), await hold(another, store, "montelago")

    waiting = [asyncio.create_task(add(store.at(TOWN), cancel(each.id))) for each in pupils]
    await waits_for_a_lock(another)
    asked = asyncio.create_task(add(store.at("montelago"), cancel(elsewhere.id)))
    await asyncio.sleep(0.1)
    await shortly_held.rollback()
    await asked
    are_done = [each.done() for each in waiting]
    await held.rollback()
    await asyncio.gather(*waiting)

    assert not any(are_done)
    await another.close()


async def test_the_call_log_does_not_wait_for_a_town_that_somebody_has_to_himself(
    store: SqlStore, raw: asyncpg.Connection
) -> None:
    await enrolled(store.at(TOWN))
    held = await hold(raw, store, TOWN)

    await store.add_call_events([NewCallEvent("call-1", EVENING.midpoint, "ringing", TOWN)])
    await held.rollback()

    assert [each.event for each in await store.call_events()] == ["ringing"]


async def test_a_town_that_is_held_too_long_is_named_as_the_reason(
    postgres_url: str, store: SqlStore, raw: asyncpg.Connection
) -> None:
    anna, _ = await enrolled(store.at(TOWN))
    hasty = await open_store(postgres_url, lock_timeout_s=0.05)
    held = await hold(raw, store, TOWN)

    with pytest.raises(
        StoreBusyError, match=r"has held what the request needs for 0\.05 s; nothing of the request was kept"
    ):
        await add(hasty.at(TOWN), cancel(anna.id))
    await held.rollback()

    await add(hasty.at(TOWN), cancel(anna.id))
    await hasty.close()


async def test_what_waited_too_long_is_withdrawn_and_can_be_sent_again(
    postgres_url: str, store: SqlStore, raw: asyncpg.Connection
) -> None:
    anna, _ = await enrolled(store.at(TOWN))
    hasty = await open_store(postgres_url, take_timeout_s=0.2)
    town = hasty.at(TOWN)
    await add(town, cancel(anna.id))
    held = await hold(raw, store, TOWN)
    first = asyncio.create_task(add(town, cancel(anna.id, receipt="1111")))
    await waits_for_a_lock(raw)

    # The same pupil's next one has to wait for the first, which has been taken and waits for the town.
    with pytest.raises(StoreBusyError, match=r"waited 0.2 s to be written; nothing of it was kept"):
        await add(town, cancel(anna.id, receipt="2222"))
    await held.rollback()
    await first

    assert [change.receipt for change in await history(town, anna.id)][1:] == ["1111"]
    await hasty.close()


async def test_more_requests_than_may_wait_are_refused_and_not_kept(
    store: SqlStore, raw: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(adapter.WAITING_MAX, adapter.Lane.CHANGE, 2)
    town = store.at(TOWN)
    anna, _ = await enrolled(town)
    held = await hold(raw, store, TOWN)
    tasks = [asyncio.create_task(add(town, cancel(anna.id)))]
    await waits_for_a_lock(raw)
    tasks += [asyncio.create_task(add(town, cancel(anna.id))) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(StoreBusyError, match=r"2 requests \(change\) already wait .* nothing of this one was kept"):
        await add(town, cancel(anna.id))
    await held.rollback()
    await asyncio.gather(*tasks)

    assert len(await history(town, anna.id)) == 3


async def test_R12_two_gateways_that_cancel_one_day_at_once_make_one_change(store: SqlStore, other: SqlStore) -> None:
    anna, _ = await enrolled(store.at(TOWN))
    await other.at(TOWN).all_pupils()
    answers = []

    for number, day in enumerate(service_days(RACES)):
        answers.append(
            sorted(
                await asyncio.gather(
                    cancel_day(store, anna, day, f"a-{number}"), cancel_day(other, anna, day, f"b-{number}")
                )
            )
        )

    assert answers == [["already_cancelled", "cancelled"]] * RACES
    assert len(await history(store.at(TOWN), anna.id)) == RACES


async def test_R25_a_change_that_races_a_closing_is_counted_or_too_late(store: SqlStore, other: SqlStore) -> None:
    town = store.at(TOWN)
    anna, _ = await enrolled(town)
    before_cutoff = "09:29"
    seen = []

    for number, day in enumerate(service_days(30)):
        outcome, _ = await asyncio.gather(
            cancel_day(store, anna, day, f"a-{number}", at(f"{day} {before_cutoff}")),
            close(other.at(TOWN), "primaria", day=day),
        )
        closed = await town.closing("primaria", day)
        assert closed is not None
        is_counted = any(change.pupil == anna.id for change in closed.headcount.changes)
        seen.append((outcome, is_counted))

    assert set(seen) <= {("cancelled", True), ("too_late", False)}


async def test_two_gateways_close_a_day_once(store: SqlStore, other: SqlStore) -> None:
    await enrolled(store.at(TOWN))

    made = await asyncio.gather(*(close(each.at(TOWN), "primaria") for each in (store, other) for _ in range(10)))

    assert sorted(len(each) for each in made) == [0] * 19 + [1]


# Lost connections


CUT_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_a_connection_that_is_cut_before_the_commit_is_made_again_and_the_request_with_it(
    store: SqlStore, raw: asyncpg.Connection
) -> None:
    town = store.at(TOWN)
    anna, _ = await enrolled(town)
    held = await hold(raw, store, TOWN)
    asked = asyncio.create_task(add(town, cancel(anna.id)))
    await waits_for_a_lock(raw)

    await raw.execute(CUT_ALL)
    await held.rollback()
    await asked

    assert len(await history(town, anna.id)) == 1


async def test_R18_a_connection_that_is_cut_in_the_commit_leaves_a_doubt(
    store: SqlStore, raw: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = store.at(TOWN)
    anna, _ = await enrolled(town)
    # A deferred trigger is run by COMMIT alone: here it waits until somebody cuts the connection.
    await raw.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(20); RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION wait()"
    )
    asked = asyncio.create_task(add(town, cancel(anna.id)))

    async def is_committing() -> bool:
        return bool(
            await raw.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
            )
        )

    await until(is_committing)
    await raw.execute(CUT_ALL)
    with pytest.raises(StoreUnsureError, match="only reading tells"):
        await asked

    assert await history(town, anna.id) == ()


async def test_R18_connections_that_are_cut_again_and_again_leave_true_answers(
    store: SqlStore, raw: asyncpg.Connection
) -> None:
    town = store.at(TOWN)
    pupils = await enrolled(town, people((guardian(),), *(pupil(f"{60001 + number}", 0) for number in range(40))))
    kept: set[str] = set()
    not_kept: set[str] = set()
    are_done = asyncio.Event()

    async def go_on(who: Pupil) -> None:
        while not are_done.is_set():
            change = cancel(who.id)
            try:
                await add(town, change)
                kept.add(change.request)
            except NothingStoredError:
                not_kept.add(change.request)
            except StoreUnsureError:
                pass

    asking = [asyncio.create_task(go_on(who)) for who in pupils]
    for _ in range(CUTS):
        await asyncio.sleep(0.05)
        await raw.execute(CUT_ALL)
    are_done.set()
    await asyncio.gather(*asking)

    standing = {each.request for who in pupils for each in await history(town, who.id)}
    assert kept
    assert kept <= standing
    assert not not_kept & standing


class Network:
    """A way to a server on which what is open may fall silent: nothing arrives any more, and nobody says so."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._silent: set[int] = set()
        self._open: set[int] = set()
        self._numbers = count()

    def fall_silent(self) -> None:
        self._silent |= self._open

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(self._numbers)
        self._open.add(number)
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.gather(self._pass(number, reader, to_server), self._pass(number, from_server, writer))

    async def _pass(self, number: int, origin: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while read := await origin.read(65536):
                if number not in self._silent:
                    there.write(read)
        there.close()


@pytest_asyncio.fixture
async def network(postgres: Cluster) -> AsyncIterator[tuple[Network, int]]:
    way = Network(postgres.port)
    server = await asyncio.start_server(way.carry, "127.0.0.1", 0)
    yield way, server.sockets[0].getsockname()[1]
    server.close()


async def test_a_connection_that_has_fallen_silent_is_not_read_on_twice(
    postgres: Cluster, postgres_url: str, network: tuple[Network, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    way, port = network
    monkeypatch.setattr(adapter, "READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr(adapter, "CLOSE_TIMEOUT_S", 0.5)
    store = await open_store(postgres_url.replace(str(postgres.port), str(port)))
    await store.set_setting("colour", "red")
    assert await store.get_setting("colour") == "red"

    way.fall_silent()
    with pytest.raises(StoreBusyError, match="reading took longer"):
        await store.get_setting("colour")

    assert await store.get_setting("colour") == "red"
    await store.close()


async def test_a_connection_that_has_fallen_silent_is_not_written_on_twice(
    postgres: Cluster, postgres_url: str, network: tuple[Network, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    way, port = network
    patient = adapter.connect
    monkeypatch.setattr(adapter, "CLOSE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(adapter, "connect", lambda address, settings: patient(address, settings, 0.5))
    store = await open_store(postgres_url.replace(str(postgres.port), str(port)))
    await store.set_setting("colour", "red")

    way.fall_silent()
    with pytest.raises(StoreBusyError, match="nothing of the request was kept"):
        await store.set_setting("colour", "green")
    await store.set_setting("colour", "blue")

    assert await store.get_setting("colour") == "blue"
    await store.close()


async def test_after_a_restart_of_the_server_the_next_request_works() -> None:
    with running() as cluster:
        store = await open_store(cluster.database())
        town = store.at(TOWN)
        anna, _ = await enrolled(town)
        await add(town, cancel(anna.id))

        await asyncio.to_thread(cluster.stop)
        with pytest.raises(StoreBusyError, match=r"cannot be reached .* nothing of the request was kept"):
            await add(town, cancel(anna.id))
        await asyncio.to_thread(cluster.start)

        await add(town, cancel(anna.id))
        assert len(await history(town, anna.id)) == 2
        await store.close()


# Migrations


async def test_several_starts_at_once_migrate_once(postgres: Cluster) -> None:
    url = await asyncio.to_thread(lambda: postgres.database(migrated=False))
    stores = [await open_store(url) for _ in range(4)]

    await asyncio.gather(*(store.migrate() for store in stores))
    await stores[0].set_setting("key", "value")

    assert await stores[3].get_setting("key") == "value"
    for store in stores:
        await store.close()


async def test_the_migrations_make_the_tables_of_the_page(store: SqlStore, postgres_url: str) -> None:
    engine = create_async_engine(postgres_url.replace("postgresql://", "postgresql+asyncpg://"))

    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))

    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()

    assert found == []


async def test_a_database_of_a_newer_version_is_left_as_it_is(store: SqlStore, raw: asyncpg.Connection) -> None:
    await raw.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StoreSetupError, match=f"its schema is 9999.*expected {SCHEMA} at most"):
        await store.migrate()


async def test_a_server_that_would_lose_what_it_confirmed_is_refused() -> None:
    with running(fsync="off") as cluster:
        store = await open_store(cluster.database(migrated=False))

        with pytest.raises(StoreSetupError, match="fsync is off, so a power cut could lose"):
            await store.migrate()

        await store.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url: url.rpartition("/")[0] + "/nowhere", "there is no such database"),
        (lambda url: url.replace("//mensa@", "//nobody@"), "does not let this user in"),
        (lambda url: "postgresql://mensa:secret@127.0.0.1:1/mensa", "no PostgreSQL server answers"),
    ],
)
async def test_a_database_that_cannot_be_opened_is_refused_without_its_password(
    postgres_url: str, change: Callable[[str], str], said: str
) -> None:
    store = await open_store(change(postgres_url))

    with pytest.raises(StoreSetupError, match=said) as refused:
        await store.migrate()

    assert "secret" not in str(refused.value)
    await store.close()


async def test_a_user_who_may_make_no_role_is_told_what_an_administrator_does(postgres: Cluster) -> None:
    def prepare() -> str:
        with_rights = postgres.database(migrated=False)
        postgres.sql("CREATE ROLE poor LOGIN; ALTER ROLE mensa_town RENAME TO mensa_away")
        name = with_rights.rpartition("/")[2]
        postgres.sql(f"ALTER DATABASE {name} OWNER TO poor")
        return postgres.url(name, "poor")

    url = await asyncio.to_thread(prepare)
    store = await open_store(url)
    try:
        with pytest.raises(StoreSetupError, match="expected one with CREATEROLE, or that an administrator runs"):
            await store.migrate()
    finally:
        await store.close()
        await asyncio.to_thread(postgres.drop, url)
        await asyncio.to_thread(postgres.sql, "ALTER ROLE mensa_away RENAME TO mensa_town; DROP ROLE poor")


async def test_only_a_database_file_is_copied_for_a_try(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreSetupError, match="only a database file can be copied"):
        await copy_store(postgres_url, tmp_path / "copy.db")


def test_the_address_of_a_server_is_not_taken_from_a_folder(tmp_path: Path) -> None:
    assert located("postgresql://mensa@db/mensa", tmp_path) == "postgresql://mensa@db/mensa"
