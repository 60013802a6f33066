"""The fence between municipalities in PostgreSQL: what a town's role can do where a statement names another town's rows."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import select

from core.headcount import Closing, Roll, count_meals
from core.kitchen import order_message
from core.people import Diet, UserCode
from core.ports import Attempts, Closings, ClosingState, Entries, WrongAnswer
from gateway.store.engine import open_store
from gateway.store.port import NewCook, StoreFaultError, Town, Transaction
from gateway.store.postgres import ROLE, TOWNS
from gateway.store.rows import change_values
from gateway.store.sql import INSERT_CHANGE, SqlStore
from gateway.store.tables import APPEND_ONLY, OF_ONE_TOWN, changes, metadata
from tests.contract.test_closings import NOW, closing
from tests.store_people import DAY, HASHER, add, cancel, enrolled, guardian, no_pin, people, pupil, refusal
from tests.towns import calendar

CELIAC = Diet("C", date(2026, 9, 14), date(2027, 6, 8))
TRAY_DIETS = frozenset({"C"})
# Far from every id that a test's database has given.
FREE_ID = 1_000_000


@dataclass(frozen=True)
class TwoTowns:
    """A database in which each of two towns has rows in every table, `ours` and `theirs` their ids."""

    store: SqlStore
    raw: asyncpg.Connection
    ours: int
    theirs: int

    async def under(self, *towns: int) -> None:
        """Let the raw connection be a town's from here on."""
        await self.raw.execute(f"SET ROLE {ROLE}; SET {TOWNS} = '{','.join(map(str, towns))}'")

    async def as_owner(self, table: str) -> list[asyncpg.Record]:
        await self.raw.execute("RESET ROLE")
        return list(await self.raw.fetch(f"SELECT * FROM {table} ORDER BY municipality, {_key(table)}"))


def _key(table: str) -> str:
    return ", ".join(column.name for column in metadata.tables[table].primary_key)


def with_trays(school: str, roll: Roll, order: int) -> Closing:
    return replace(closing(school, roll, order), headcount=count_meals(calendar(), TRAY_DIETS, school, DAY, roll))


async def fill(town: Town) -> None:
    """A row at least in every table."""
    celiac = replace(pupil("50002", 0), diet=CELIAC)
    anna, _ = await enrolled(town, people((guardian(),), pupil("50001", 0), celiac))
    await town.transact([anna.id], lambda _: (Entries((cancel(anna.id),), (refusal(anna.id),)), None))
    await town.import_cooks([NewCook(UserCode("90001"), "4711", (), "it")], HASHER, no_pin)

    def wrong(_: Attempts) -> tuple[WrongAnswer, None]:
        return WrongAnswer("code", "caller", NOW), None

    def close(state: ClosingState) -> tuple[Closings, None]:
        made = tuple(with_trays(school, roll, state.next_order) for school, roll in state.rolls.items())
        return Closings(made, (order_message(state.next_order, NOW),)), None

    await town.transact_attempt("code", "caller", wrong, NOW, NOW)
    await town.transact_closing(DAY, ["primaria"], TRAY_DIETS, close)


@pytest_asyncio.fixture
async def towns(postgres_url: str) -> AsyncIterator[TwoTowns]:
    store = await open_store(postgres_url)
    await store.migrate()
    for key in ("roccachiara", "montelago"):
        await fill(store.at(key))
    raw = await asyncpg.connect(postgres_url)
    ours, theirs = [await store.municipality(key) for key in ("roccachiara", "montelago")]
    assert ours is not None
    assert theirs is not None
    yield TwoTowns(store, raw, ours, theirs)
    await raw.close()
    await store.close()


def insert(table: str, row: asyncpg.Record, **others: Any) -> tuple[str, Sequence[Any]]:
    values = {**dict(row), **others}
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", list(values.values())


async def test_every_table_that_names_a_municipality_is_fenced(towns: TwoTowns) -> None:
    named = {table.name for table in metadata.tables.values() if "municipality" in table.c}
    fenced = await towns.raw.fetch("SELECT relname FROM pg_class WHERE relrowsecurity")

    assert {name for (name,) in fenced} == named | {"municipalities"}
    assert set(OF_ONE_TOWN) == named - {"call_events"}


@pytest.mark.parametrize("table", OF_ONE_TOWN)
async def test_a_town_sees_its_own_rows_and_no_others(towns: TwoTowns, table: str) -> None:
    everything = await towns.as_owner(table)
    await towns.under(towns.ours)

    seen = await towns.raw.fetch(f"SELECT municipality FROM {table}")
    asked_for = await towns.raw.fetch(f"SELECT * FROM {table} WHERE municipality = $1", towns.theirs)

    assert {row["municipality"] for row in everything} == {towns.ours, towns.theirs}
    assert {row["municipality"] for row in seen} == {towns.ours}
    assert asked_for == []


@pytest.mark.parametrize("table", OF_ONE_TOWN)
async def test_without_a_town_nothing_is_seen_and_nothing_added(towns: TwoTowns, table: str) -> None:
    row = (await towns.as_owner(table))[0]
    await towns.under()
    statement, values = insert(table, row, **({"id": FREE_ID} if "id" in dict(row) else {}))

    assert await towns.raw.fetch(f"SELECT * FROM {table}") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await towns.raw.execute(statement, *values)

    await towns.raw.execute(f"RESET {TOWNS}")
    assert await towns.raw.fetch(f"SELECT * FROM {table}") == []


@pytest.mark.parametrize("table", OF_ONE_TOWN)
async def test_a_town_adds_no_row_to_another(towns: TwoTowns, table: str) -> None:
    before = await towns.as_owner(table)
    theirs = next(row for row in before if row["municipality"] == towns.theirs)
    await towns.under(towns.ours)
    statement, values = insert(table, theirs, **({"id": FREE_ID} if "id" in dict(theirs) else {}))

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await towns.raw.execute(statement, *values)

    assert await towns.as_owner(table) == before


@pytest.mark.parametrize("table", OF_ONE_TOWN)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {table} SET municipality = {ours} WHERE municipality = {theirs}",
        "UPDATE {table} SET municipality = {theirs} WHERE municipality = {ours}",
        "DELETE FROM {table} WHERE municipality = {theirs}",
        "TRUNCATE {table} CASCADE",
    ],
    ids=["take", "give", "delete", "truncate"],
)
async def test_a_town_changes_and_deletes_no_row_of_another(towns: TwoTowns, table: str, statement: str) -> None:
    before = await towns.as_owner(table)
    await towns.under(towns.ours)

    try:
        done = await towns.raw.execute(statement.format(table=table, ours=towns.ours, theirs=towns.theirs))
    except asyncpg.InsufficientPrivilegeError:
        done = "refused"

    assert done in {"refused", "UPDATE 0", "DELETE 0"}
    assert await towns.as_owner(table) == before


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("statement", ["UPDATE {} SET id = id + 1", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_R19_not_even_the_owner_changes_what_is_append_only(towns: TwoTowns, table: str, statement: str) -> None:
    before = await towns.as_owner(table)

    with pytest.raises(asyncpg.RestrictViolationError, match="is append-only"):
        await towns.raw.execute(statement.format(table))

    assert await towns.as_owner(table) == before


async def test_of_the_municipalities_a_town_sees_itself(towns: TwoTowns) -> None:
    await towns.under(towns.ours)

    assert [row["id"] for row in await towns.raw.fetch("SELECT id FROM municipalities")] == [towns.ours]


@pytest.mark.parametrize("table", ["settings", "nodes", "alembic_version"])
async def test_what_is_the_installations_is_closed_to_a_town(towns: TwoTowns, table: str) -> None:
    await towns.under(towns.ours)

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await towns.raw.fetch(f"SELECT * FROM {table}")


async def test_a_statement_of_the_store_that_forgets_its_municipality_finds_no_others(towns: TwoTowns) -> None:
    [found] = await towns.store.read_in(towns.ours, [(select(changes.c.municipality), {})])

    assert [list(row) for row in found] == [[towns.ours]]


async def test_a_request_of_the_store_that_writes_into_another_town_fails_and_keeps_nothing(towns: TwoTowns) -> None:
    anna, _ = await towns.store.at("montelago").all_pupils()

    def stray(transaction: Transaction, _: int) -> None:
        transaction.add(INSERT_CHANGE, change_values(towns.theirs, cancel(anna.id)))

    with pytest.raises(StoreFaultError, match=r"row-level security .* nothing of the request was kept"):
        await towns.store.write_in("roccachiara", stray)

    assert len(await towns.as_owner("changes")) == 2


async def test_a_pupils_history_is_found_by_an_index_under_the_fence(towns: TwoTowns) -> None:
    town = towns.store.at("roccachiara")
    pupils = await enrolled(town, people((guardian(),), *(pupil(f"{60001 + number}", 0) for number in range(300))))
    await add(town, *(cancel(each.id) for each in pupils))
    await towns.raw.execute("ANALYZE")
    await towns.under(towns.ours)

    plan = await towns.raw.fetch(
        f"EXPLAIN SELECT * FROM changes WHERE municipality = {towns.ours} AND pupil = {pupils[0].id} ORDER BY id"
    )

    [condition] = [line for (line,) in plan if "Index Cond" in line]
    assert f"(pupil = {pupils[0].id})" in condition
