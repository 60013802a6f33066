"""Fills a configuration folder and a database by a plan, in ranges of towns; what was interrupted goes on where it ended."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.files.load import GATEWAY, TOWNS
from gateway.generation.making import COLUMNS, NUMBERED, Ids, Rows, town_rows
from gateway.generation.plan import Plan, Towns
from gateway.installation import PURPOSE, REHEARSAL
from gateway.pin_key import FINGERPRINT_SETTING, KeyedHasher
from gateway.store.bulk import FILLED, FILLING, Bulk, Part, Row, Table, names, tables_in_order
from gateway.store.port import StoreSetupError
from gateway.store.tables import SCHEMA, municipalities, settings

# The plan as a setting, for whoever works on the database afterwards.
PLAN_SETTING = "generated"
MARKER = "a generated installation"
# Pupils of one transaction, the last town whole: some fifty thousand rows, a second's work.
RANGE_PUPILS = 4_000
SETTINGS_MAX = 1_000

# Told after each range: pupils so far and in all.
Tell = Callable[[int, int], None]


class GenerationRefusedError(StoreSetupError):
    """The place is somebody else's. Nothing was generated."""


@dataclass(frozen=True, slots=True)
class FilledTable:
    table: str
    rows: int


@dataclass(frozen=True, slots=True)
class Filling:
    """What a run did: rows by table, how long making them took, how long the database took, and all of it together.

    Making and adding go on side by side, so that the whole is shorter than both.
    """

    tables: tuple[FilledTable, ...]
    making_s: float
    adding_s: float
    whole_s: float

    @property
    def rows(self) -> int:
        return sum(each.rows for each in self.tables)


def write_configuration(plan: Plan, folder: Path, database_url: str, tell: Tell) -> None:
    """Write each town's folder, and a `gateway.yaml` that names the database where there is none.

    Raises `GenerationRefusedError` for a folder with other towns, OSError.
    """
    towns, place = Towns(plan), folder / TOWNS
    ours = {town.key for town in towns}
    others = sorted(each.name for each in place.iterdir() if each.name not in ours) if place.is_dir() else []
    if others:
        raise GenerationRefusedError(
            f"{place}: there are other towns ({', '.join(others[:3])}); expected a new folder; nothing was generated"
        )
    gateway = folder / GATEWAY
    if not gateway.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # The URL may hold a password.
        gateway.touch(mode=0o600)
        gateway.write_text(f'database: {{url: "{database_url}"}}\n', encoding="utf-8")
    for done, town in enumerate(towns, start=1):
        town_folder = place / town.key
        town_folder.mkdir(parents=True, exist_ok=True)
        for name, text in town.files().items():
            (town_folder / name).write_text(text, encoding="utf-8")
        tell(done, len(towns))


async def fill(bulk: Bulk, plan: Plan, hasher: KeyedHasher, tell: Tell, *, range_pupils: int = RANGE_PUPILS) -> Filling:
    """Add what the plan's database lacks. Raises `GenerationRefusedError` for one that is not empty and not the plan's."""
    started = time.monotonic()
    is_done = await _begin(bulk, plan, hasher)
    towns = Towns(plan)
    last = await bulk.last_key(municipalities)
    done = 0 if last is None else int(last[0])
    ids = Ids({table: await _last_id(bulk, table) for table in NUMBERED})
    counted = dict.fromkeys((table.name for table in COLUMNS), 0)
    making_s = adding_s = 0.0

    def make(wanted: range) -> tuple[Rows, float]:
        begun = time.monotonic()
        rows: Rows = {table: [] for table in COLUMNS}
        for index in wanted:
            for table, made in town_rows(towns[index], hasher, ids).items():
                rows[table] += made
        return rows, time.monotonic() - begun

    async def add(rows: Rows) -> float:
        begun = time.monotonic()
        await bulk.add(_parts(rows), {})
        return time.monotonic() - begun

    ranges = _ranges(towns, done, range_pupils)
    wanted = next(ranges, None)
    made = None if wanted is None else await asyncio.to_thread(make, wanted)
    while made is not None and wanted is not None:
        rows, seconds = made
        making_s += seconds
        following = next(ranges, None)
        # While one range is written the next is made.
        if following is None:
            adding_s, made = adding_s + await add(rows), None
        else:
            spent, made = await asyncio.gather(add(rows), asyncio.to_thread(make, following))
            adding_s += spent
        for table, added in rows.items():
            counted[table.name] += len(added)
        tell(towns.pupils_before(wanted.stop), plan.pupils)
        wanted = following
    if not is_done:
        begun = time.monotonic()
        await bulk.finish({FILLING: None, FILLED: MARKER})
        adding_s += time.monotonic() - begun
    tables = tuple(FilledTable(name, rows_of) for name, rows_of in counted.items())
    return Filling(tables, making_s, adding_s, time.monotonic() - started)


async def _begin(bulk: Bulk, plan: Plan, hasher: KeyedHasher) -> bool:
    """Make sure that the database is the plan's; whether it is whole already."""
    schema = await bulk.schema()
    if schema != SCHEMA:
        raise GenerationRefusedError(
            f"{bulk.where}: its schema is {schema}; expected {SCHEMA} of this version; no row was added"
        )
    key, value = names(settings).index("key"), names(settings).index("value")
    said: Mapping[str, str] = {row[key]: row[value] for row in await bulk.rows(settings, None, SETTINGS_MAX)}
    ours = {FINGERPRINT_SETTING: hasher.fingerprint(), PURPOSE: REHEARSAL, PLAN_SETTING: plan.as_text()}
    if PLAN_SETTING in said:
        for setting, expected in ours.items():
            if said.get(setting) != expected:
                raise GenerationRefusedError(
                    f"{bulk.where}: the database was begun with another {setting} ({said.get(setting)}); expected {expected}, "
                    "or a new database; no row was added"
                )
        return FILLING not in said
    if said:
        raise GenerationRefusedError(
            f"{bulk.where}: the database is an installation's ({', '.join(sorted(said)[:3])} are set); expected a new one; "
            "no row was added"
        )
    for table in tables_in_order():
        if await bulk.last_key(table) is not None:
            raise GenerationRefusedError(
                f"{bulk.where}: the table {table.name} has rows already; expected a new database; no row was added"
            )
    await bulk.add([], {**ours, FILLING: MARKER})
    return False


async def _last_id(bulk: Bulk, table: Table) -> int:
    last = await bulk.last_key(table)
    return 0 if last is None else int(last[0])


def _ranges(towns: Towns, done: int, range_pupils: int) -> Iterator[range]:
    """Towns from the first that is missing on, so many that their pupils fill a transaction."""
    first = done
    for index in range(done, len(towns)):
        if towns.pupils_before(index + 1) - towns.pupils_before(first) >= range_pupils:
            yield range(first, index + 1)
            first = index + 1
    if first < len(towns):
        yield range(first, len(towns))


def _parts(rows: Rows) -> list[Part]:
    """In the order in which tables refer to each other, each row in the order of the table's columns."""
    return [(table, _ordered(table, rows[table])) for table in tables_in_order() if rows.get(table)]


def _ordered(table: Table, rows: list[Row]) -> list[Row]:
    """The rows as the page of tables has their columns."""
    if names(table) == COLUMNS[table]:
        return rows
    places = [COLUMNS[table].index(name) for name in names(table)]
    return [tuple(row[place] for place in places) for row in rows]
