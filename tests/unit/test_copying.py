"""An installation moved to another database: whole, resumed, compared, or refused."""

import asyncio
import random
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete

from core.changes import Kind
from core.people import Diet, NewCook, NewPupil, UserCode
from core.ports import Entries, MessageKind, NewMessage, WrongAnswer
from gateway.generation import Plan, fill
from gateway.store.bulk import FILLED, FILLING, open_bulk, tables_in_order
from gateway.store.copying import CopiedTable, CopyRefusedError, DifferenceError, copy_installation
from gateway.store.engine import open_store
from gateway.store.port import NewCallEvent, Node, StoreBusyError, StoreFaultError, StoreSetupError
from gateway.store.tables import OF_ONE_TOWN, changes, settings
from tests.postgres import Cluster
from tests.store_people import HASHER, add, cancel, enrolled, guardian, people, pupil, refusal
from tests.whole_databases import contents, run_killed

NOW = datetime(2026, 11, 23, 18, tzinfo=UTC)
GONE = timedelta(seconds=30)
PLAN = Plan(towns=6, pupils=300, days=6, seed=11, until=date(2026, 11, 22))
# Texts that a database, a driver or a comparison could mangle.
TEXTS = (
    "Zoë Ñandú",
    "e\u0301 is not \u00e9",
    "O'Brien; DROP TABLE pupils",
    "\\N \\x00 \t|",
    "日本 \U0001f35d",
    " a  b ",
    "\ufeff",
)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'source.db'}"


@pytest.fixture(params=["postgresql", "sqlite"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new database of each kind, without any tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'target.db'}"
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    url = cluster.database(migrated=False)
    yield url
    cluster.drop(url)


def clock(_: Mapping[str, str]) -> datetime:
    return NOW


def nothing_told(_what: str, _table: str, _done: int, _total: int) -> None:
    pass


async def copy(source: str, target: str, part_rows: int = 7) -> dict[str, CopiedTable]:
    copied = await copy_installation(source, target, clock, GONE, nothing_told, part_rows=part_rows)
    return {each.table: each for each in copied}


async def generate(url: str) -> None:
    async with open_bulk(url, makes=True) as bulk:
        await fill(bulk, PLAN, HASHER, lambda _done, _total: None)


async def everything(url: str) -> None:
    """A row with a value of every kind in every table, and one with nothing where nothing may stand."""
    store = await open_store(url)
    await store.migrate()
    town = store.at("roccachiara")
    diet = Diet("CEL", date(2026, 9, 14), date(2027, 6, 8))
    fed = NewPupil(UserCode("50003"), "Anna", "Verdini", "VRDNNA16A41F205Q", "primaria", "1A", diet, (0,))
    pupils = await enrolled(town, people((guardian(),), pupil("50001", 0), pupil("50002", 0), fed))
    await add(town, cancel(pupils[0].id), cancel(pupils[1].id, kind=Kind.SUSPEND, last=None, review=True))
    (first,) = (await town.histories([pupils[0].id]))[pupils[0].id]
    await add(town, cancel(pupils[0].id, kind=Kind.UNDO, takes_back=first.id))
    await town.transact([], lambda _: (Entries(refusals=(refusal(pupils[0].id),)), None))
    await town.transact_attempt("code", "caller", lambda _: (WrongAnswer("code", None, NOW), None), NOW, NOW)
    await town.import_cooks([NewCook(UserCode("900"), "1212", ("primaria",), "it")], HASHER, lambda: "3434")
    await town.add_message(NewMessage("order-1", MessageKind.ORDER, {"order": 1}, NOW))
    await store.message_failed((await store.messages())[0].id, "refused", None)
    await store.add_call_events(
        [NewCallEvent("call-1", NOW, "answered", None, "+3934**", "digest", {"words": list(TEXTS)})]
    )
    for number, text in enumerate(TEXTS):
        await store.set_setting(f"text {number}", text)
    await store.set_setting("Ä before a, by its bytes after z", "")
    await store.beat(Node("gateway", NOW - GONE, NOW, "hash", 1))
    await store.closings_since(["roccachiara", "another"], NOW)
    await store.close()


def tamper(url: str, statement: str) -> None:
    """What somebody does past every guard."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement)


async def test_every_row_of_every_table_is_the_same_afterwards(source: str, target: str) -> None:
    await everything(source)

    copied = await copy(source, target)

    expected = await contents(source)
    assert await contents(target) == expected
    assert {name: each.verified for name, each in copied.items()} == {
        name: len(rows) for name, rows in expected.items()
    }
    assert {name: each.copied for name, each in copied.items()} == {name: len(rows) for name, rows in expected.items()}
    assert sorted(copied) == sorted(table.name for table in tables_in_order())


async def test_a_generated_installation_comes_over_with_its_closings(source: str, target: str) -> None:
    await generate(source)

    copied = await copy(source, target, part_rows=500)

    assert copied["closings"].verified > 20
    assert copied["closing_changes"].verified > 50
    assert await contents(target) == await contents(source)


async def test_it_comes_back_the_same(source: str, target: str, tmp_path: Path) -> None:
    await everything(source)
    back = f"sqlite:///{tmp_path / 'back.db'}"

    await copy(source, target)
    await copy(target, back)

    assert await contents(back) == await contents(source)


async def test_a_copied_installation_goes_on_with_ids_of_its_own(source: str, target: str) -> None:
    await everything(source)
    await copy(source, target)
    store = await open_store(target)
    town = store.at("roccachiara")
    pupils = await town.all_pupils()

    await add(town, cancel(pupils[2].id))
    await store.add_call_events([NewCallEvent("call-2", NOW, "answered", "roccachiara")])
    await store.at("new").import_people(people(), HASHER, lambda: "1357")

    (change,) = (await town.histories([pupils[2].id]))[pupils[2].id]
    assert change.id > 3
    assert (await store.call_events())[-1].call == "call-2"
    await store.close()


async def test_a_server_may_be_named_in_every_way_that_a_gateway_takes(source: str, postgres: Cluster) -> None:
    async with open_bulk(source, makes=True):
        pass
    url = postgres.database(migrated=False)

    for scheme in ("postgres", "postgresql+asyncpg"):
        await copy(source, url.replace("postgresql", scheme))

    async with open_bulk(url) as target:
        assert await target.count(settings) == 1
    postgres.drop(url)


async def test_an_installation_that_has_only_its_tables_is_copied_as_such(source: str, target: str) -> None:
    async with open_bulk(source, makes=True):
        pass

    copied = await copy(source, target)

    assert sum(each.verified for each in copied.values()) == 0


async def test_killed_at_any_part_it_goes_on_and_copies_each_row_once(source: str, target: str) -> None:
    await generate(source)

    await asyncio.to_thread(run_killed, random.Random(5), 3, 60, "copy", source, target)

    assert await contents(target) == await contents(source)


async def test_copied_again_nothing_is_copied_and_all_is_verified(source: str, target: str) -> None:
    await everything(source)
    first = await copy(source, target)

    again = await copy(source, target)

    assert sum(each.copied for each in again.values()) == 0
    assert {name: each.verified for name, each in again.items()} == {
        name: each.verified for name, each in first.items()
    }


async def test_a_row_that_was_tampered_with_is_found(source: str, target: str) -> None:
    await generate(source)
    await copy(source, target, part_rows=500)

    tamper(source, "UPDATE closing_counts SET meals = meals + 1 WHERE id = 77")

    with pytest.raises(DifferenceError, match=r"closing_counts, id 77: not the same in the source: meals$"):
        await copy(source, target, part_rows=500)


async def test_no_personal_data_stands_in_what_is_said_of_a_difference(source: str, target: str) -> None:
    await generate(source)
    await copy(source, target, part_rows=500)

    tamper(source, "UPDATE guardians SET surname = 'Verdini', phone = '+393400000101' WHERE id = 9")

    with pytest.raises(DifferenceError) as raised:
        await copy(source, target, part_rows=500)
    assert str(raised.value).endswith("guardians, id 9: not the same in the source: surname, phone")


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("DELETE FROM messages WHERE id = 2", "messages, id 2: the source has no such row"),
        (
            "INSERT INTO pupil_guardians (pupil, guardian, municipality) SELECT 1, guardian, municipality "
            "FROM pupil_guardians WHERE municipality = 1 ORDER BY guardian DESC LIMIT 1",
            "pupil_guardians, pupil 1, guardian [0-9]+: the row is not there",
        ),
    ],
)
async def test_a_row_too_few_or_too_many_is_found(source: str, target: str, statement: str, says: str) -> None:
    await generate(source)
    await copy(source, target, part_rows=500)

    tamper(source, statement)

    with pytest.raises(DifferenceError, match=says):
        await copy(source, target, part_rows=500)


async def test_a_torn_text_is_refused_with_its_place_and_without_its_words(source: str, target: str) -> None:
    await generate(source)
    tamper(source, "UPDATE pupils SET surname = CAST(X'61FF62' AS TEXT) WHERE id = 5")

    with pytest.raises(StoreFaultError, match=r"pupils, id 5: column surname holds what it cannot keep"):
        await copy(source, target, part_rows=500)


async def test_a_day_that_is_none_is_refused_with_its_place(source: str, target: str) -> None:
    await generate(source)
    tamper(source, "UPDATE changes SET first_day = '2026-11-31' WHERE id = 3")

    with pytest.raises(StoreFaultError, match=r"changes, id 3: column first_day holds what it cannot keep"):
        await copy(source, target, part_rows=500)


@pytest.mark.parametrize("value", ["'Ver' || char(0) || 'dini'", "X'4142'"])
async def test_what_is_no_text_to_postgresql_is_refused_with_its_place(
    source: str, postgres: Cluster, value: str
) -> None:
    await generate(source)
    tamper(source, f"UPDATE guardians SET surname = {value} WHERE id = 4")

    with pytest.raises(StoreFaultError, match=r"guardians, id 4: column surname holds what it cannot keep"):
        await copy(source, postgres.database(migrated=False), part_rows=500)


async def test_a_gateway_on_the_source_or_the_target_stops_it(source: str, target: str) -> None:
    await everything(source)
    store = await open_store(source)
    await store.beat(Node("gateway-2", NOW - GONE / 2, NOW, "hash", 1))

    with pytest.raises(CopyRefusedError, match="the gateway gateway-2 was seen on it 15 s ago"):
        await copy(source, target)

    await store.leave("gateway-2")
    await store.close()
    other = await open_store(target)
    await other.migrate()
    await other.beat(Node("gateway-3", NOW, NOW, "hash", 1))
    await other.close()
    with pytest.raises(CopyRefusedError, match="gateway-3"):
        await copy(source, target)


async def test_nobody_changes_the_source_meanwhile(source: str, target: str) -> None:
    await everything(source)
    store = await open_store(source, lock_timeout_s=0.1)
    faults: list[BaseException] = []

    async def meddle() -> None:
        try:
            await store.set_setting("x", "y")
        except StoreBusyError as error:
            faults.append(error)

    async with open_bulk(source) as held:
        await held.hold()
        await meddle()
    await copy(source, target)
    await store.close()

    assert len(faults) == 1


async def test_a_target_with_rows_of_its_own_is_left_alone(source: str, target: str) -> None:
    await everything(source)
    store = await open_store(target)
    await store.migrate()
    await enrolled(store.at("another"))
    await store.close()
    before = await contents(target)

    with pytest.raises(CopyRefusedError, match="holds rows already"):
        await copy(source, target)

    assert await contents(target) == before


async def test_a_target_with_another_pin_key_is_left_alone(source: str, target: str) -> None:
    await generate(source)
    store = await open_store(target)
    await store.migrate()
    await store.claim_setting("pin_key_fingerprint", "0123456789abcdef")
    await store.close()

    with pytest.raises(CopyRefusedError, match="another installation's"):
        await copy(source, target)


async def test_a_copy_goes_on_from_its_own_source_alone(source: str, target: str, tmp_path: Path) -> None:
    await generate(source)
    await copy(source, target, part_rows=500)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    async with open_bulk(other, makes=True) as bulk:
        await fill(bulk, Plan(6, 300, 6, 12, date(2026, 11, 22)), HASHER, lambda _done, _total: None)

    with pytest.raises(CopyRefusedError):
        await copy(other, target, part_rows=500)


async def test_half_a_copy_is_no_source(source: str, target: str) -> None:
    await everything(source)
    async with open_bulk(source) as bulk:
        await bulk.add([], {FILLING: "copy"})

    with pytest.raises(CopyRefusedError, match="itself being filled"):
        await copy(source, target)


@pytest.mark.parametrize("version", ["0001", "9999"])
async def test_a_source_of_another_version_is_left_alone(source: str, target: str, version: str) -> None:
    await everything(source)
    tamper(source, f"UPDATE alembic_version SET version_num = '{version}'")

    with pytest.raises(CopyRefusedError, match=f"its schema is {version}"):
        await copy(source, target)


async def test_a_target_of_a_newer_version_is_left_alone(source: str, tmp_path: Path) -> None:
    await everything(source)
    target = f"sqlite:///{tmp_path / 'newer.db'}"
    async with open_bulk(target, makes=True):
        pass
    tamper(target, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(StoreSetupError, match="newer version"):
        await copy(source, target)


async def test_source_and_target_are_two_databases_and_the_source_is_there(source: str, target: str) -> None:
    with pytest.raises(CopyRefusedError, match="one database"):
        await copy(source, source)
    with pytest.raises(StoreSetupError, match="there is no database"):
        await copy(source, target)


async def test_swapped_by_mistake_nothing_happens(source: str, target: str) -> None:
    await everything(source)
    async with open_bulk(target, makes=True):
        pass
    before = await contents(source)

    with pytest.raises(CopyRefusedError, match=r"holds rows already|another installation's"):
        await copy(target, source)

    assert await contents(source) == before


async def test_the_guards_stay_on_what_was_copied(source: str, target: str) -> None:
    await generate(source)
    await copy(source, target, part_rows=500)

    store = await open_store(target)
    with pytest.raises(Exception, match="append-only"):
        await store.write(lambda transaction: transaction.run(delete(changes), {}))
    await store.close()


async def test_row_level_security_and_triggers_of_postgresql_stay_on(source: str, postgres: Cluster) -> None:
    await generate(source)
    target = postgres.database(migrated=False)

    await copy(source, target, part_rows=500)

    fenced = postgres.sql("SELECT relname FROM pg_class WHERE relrowsecurity AND relkind = 'r'", target)
    assert set(OF_ONE_TOWN) <= set(fenced.split())
    assert not postgres.sql("SELECT tgname FROM pg_trigger WHERE tgenabled NOT IN ('O', 'A')", target)


async def test_what_was_said_of_the_copying_is_on_the_target_alone(source: str, target: str) -> None:
    await everything(source)

    await copy(source, target)

    async with open_bulk(source) as bulk:
        assert not {FILLING, FILLED} & {row[0] for row in await bulk.rows(settings, None, 100)}
    async with open_bulk(target) as bulk:
        said = {row[0] for row in await bulk.rows(settings, None, 100)}
        assert FILLED in said
        assert FILLING not in said
