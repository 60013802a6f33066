"""Moves an installation from one database to another, row by row, ids and all (`mensa db copy`).

What was copied is told from the target alone: rows go over in the order of their keys, in whole parts, so what is there is the
beginning of what is to come. A copy that was killed goes on after the last row that it finds. When everything is over, both
databases are read again side by side, and every value of every row is compared; only then a gateway may start on the target.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Table

from gateway.pin_key import FINGERPRINT_SETTING
from gateway.store.bulk import (
    FILLED,
    FILLING,
    NO_URL,
    Bulk,
    Key,
    Row,
    key_of,
    names,
    open_bulk,
    shown_key,
    shown_url,
    tables_in_order,
)
from gateway.store.port import StoreSetupError
from gateway.store.tables import EPOCH, MICROSECOND, SCHEMA, nodes, settings

# Rows of one transaction, and of one step of the comparison: some ten megabytes, and a quarter of a second.
PART_ROWS = 20_000
# Settings of the copying itself, which are not the installation's.
OWN_SETTINGS = (FILLING, FILLED)

# Told after each part: what is done, the table, rows so far and rows in all.
Tell = Callable[[str, str, int, int], None]


class CopyRefusedError(StoreSetupError):
    """The copy would not be what it should be. Nothing was copied."""


class DifferenceError(Exception):
    """A row is not the same in both databases; the message names it and says no value of it."""


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """What became of one table; `rows` is how many were already there before this run."""

    table: str
    there: int
    copied: int
    verified: int
    seconds: float


async def copy_installation(
    source_url: str,
    target_url: str,
    now: Callable[[Mapping[str, str]], datetime],
    node_gone: timedelta,
    tell: Tell,
    *,
    part_rows: int = PART_ROWS,
) -> tuple[CopiedTable, ...]:
    """Copy everything and compare it; what became of each table.

    `now` tells the time by an installation's settings; a gateway that was seen within `node_gone` before is up. Raises
    `CopyRefusedError`, `DifferenceError`, `StoreError`.
    """
    if shown_url(source_url) == shown_url(target_url) != NO_URL:
        raise CopyRefusedError(f"{shown_url(source_url)}: source and target are one database; nothing was copied")
    async with open_bulk(source_url) as source:
        await _check_source(source)
        await source.hold()
        said = await _settings(source)
        if FILLING in said:
            raise CopyRefusedError(
                f"{source.where}: the source is itself being filled; expected a whole installation; nothing was copied"
            )
        await _check_nobody_is_up(source, now(said), node_gone)
        async with open_bulk(target_url, makes=True) as target:
            await _check_target(source, target, said, now, node_gone)
            marker = _marker(said)
            is_done = (await _settings(target)).get(FILLED) == marker
            done: list[tuple[Table, int, int, float]] = []
            for table in tables_in_order():
                started = time.monotonic()
                there, copied = await _copy_table(source, target, table, marker, is_done, tell, part_rows)
                done.append((table, there, copied, time.monotonic() - started))
            reports: list[CopiedTable] = []
            for table, there, copied, seconds in done:
                started = time.monotonic()
                verified = await _compare_table(source, target, table, tell, part_rows)
                spent = seconds + time.monotonic() - started
                reports.append(CopiedTable(table.name, there, copied, verified, spent))
            if not is_done:
                await target.finish({FILLING: None, FILLED: marker})
    return tuple(reports)


def _marker(said: Mapping[str, str]) -> str:
    """Whose copy it is."""
    return f"copy of the installation with the PIN key {said.get(FINGERPRINT_SETTING, 'none')}"


async def _check_source(source: Bulk) -> None:
    schema = await source.schema()
    if schema != SCHEMA:
        found = "it has no tables of an installation" if schema is None else f"its schema is {schema}"
        raise CopyRefusedError(
            f"{source.where}: the source cannot be copied by this version: {found}; expected schema {SCHEMA}: let a gateway "
            "of this version bring it up to date, or copy with the version that made it; nothing was copied"
        )


async def _check_nobody_is_up(database: Bulk, now: datetime, node_gone: timedelta) -> None:
    place, seen_place = names(nodes).index("node"), names(nodes).index("seen")
    for row in await database.rows(nodes, None, PART_ROWS):
        seen = EPOCH + row[seen_place] * MICROSECOND
        if now - seen < node_gone:
            raise CopyRefusedError(
                f"{database.where}: the gateway {row[place]} was seen on it {(now - seen).total_seconds():.0f} s ago; "
                f"expected none within {node_gone.total_seconds():.0f} s: stop it first; nothing was copied"
            )


async def _check_target(
    source: Bulk,
    target: Bulk,
    said: Mapping[str, str],
    now: Callable[[Mapping[str, str]], datetime],
    node_gone: timedelta,
) -> None:
    """Refuse a target that is not this copy's: empty so far, or begun by it."""
    schema = await target.schema()
    if schema != SCHEMA:
        raise CopyRefusedError(
            f"{target.where}: the target's schema is {schema}; expected {SCHEMA} of this version; nothing was copied"
        )
    there = await _settings(target)
    await _check_nobody_is_up(target, now(there), node_gone)
    marker = _marker(said)
    for key in (FINGERPRINT_SETTING, *there):
        if key not in OWN_SETTINGS and key in there and there[key] != said.get(key):
            raise CopyRefusedError(
                f"{target.where}: the target is another installation's (its setting {key} is not the source's); "
                "expected a new database, which no gateway has used; nothing was copied"
            )
    if there.get(FILLING, there.get(FILLED)) not in (marker, None):
        raise CopyRefusedError(
            f"{target.where}: the target was filled by something else; expected a new database; nothing was copied"
        )
    has_begun = FILLING in there or FILLED in there
    for table in tables_in_order():
        last = await target.last_key(table)
        if last is None or table is settings:
            continue
        if not has_begun:
            raise CopyRefusedError(
                f"{target.where}: the target holds rows already (table {table.name}) and no copy into it was begun; "
                "expected a new database; nothing was copied"
            )
        # Of what is there, the last row tells soonest whether it came from this source.
        if await target.row(table, last) != await source.row(table, last):
            raise CopyRefusedError(
                f"{target.where}: {table.name}, {shown_key(table, last)}: the row that the copy ended with is not the source's; "
                "expected the source that the copy was begun from, unchanged; nothing was copied"
            )


async def _settings(database: Bulk) -> dict[str, str]:
    """All of them; an installation has a handful."""
    key, value = names(settings).index("key"), names(settings).index("value")
    said: dict[str, str] = {}
    after: Key | None = None
    while rows := await database.rows(settings, after, PART_ROWS):
        said |= {row[key]: row[value] for row in rows}
        after = key_of(settings, rows[-1])
    return said


async def _copy_table(
    source: Bulk, target: Bulk, table: Table, marker: str, is_done: bool, tell: Tell, part_rows: int
) -> tuple[int, int]:
    """Copy what the target lacks; how many rows were there and how many were copied."""
    if table is settings:
        return await _copy_settings(source, target, marker, is_done)
    total, there = await source.count(table), await target.count(table)
    if is_done:
        return there, 0
    copied = 0
    after = await target.last_key(table)
    rows = await source.rows(table, after, part_rows)
    while rows:
        # While one part is written the next is read.
        _, following = await asyncio.gather(
            target.add([(table, rows)], {}), source.rows(table, key_of(table, rows[-1]), part_rows)
        )
        copied += len(rows)
        tell("copied", table.name, there + copied, total)
        rows = following
    return there, copied


async def _copy_settings(source: Bulk, target: Bulk, marker: str, is_done: bool) -> tuple[int, int]:
    """All in one go, together with the word that a copy was begun."""
    wanted, there = await _settings(source), await _settings(target)
    missing = {key: value for key, value in wanted.items() if key not in there and key not in OWN_SETTINGS}
    if not is_done:
        await target.add([], {**missing, FILLING: marker})
    kept = sum(key not in OWN_SETTINGS for key in there)
    return kept, 0 if is_done else len(missing)


async def _compare_table(source: Bulk, target: Bulk, table: Table, tell: Tell, part_rows: int) -> int:
    """Compare every value of every row; how many rows are the same. Raises `DifferenceError`."""
    if table is settings:
        return await _compare_settings(source, target)
    total, verified = await source.count(table), 0
    after: Key | None = None
    while True:
        expected, found = await asyncio.gather(
            source.rows(table, after, part_rows), target.rows(table, after, part_rows)
        )
        if expected != found:
            raise DifferenceError(_difference(table, target.where, expected, found))
        verified += len(expected)
        tell("verified", table.name, verified, total)
        if len(expected) < part_rows:
            return verified
        after = key_of(table, expected[-1])


async def _compare_settings(source: Bulk, target: Bulk) -> int:
    expected, found = _of_installation(await _settings(source)), _of_installation(await _settings(target))
    if expected != found:
        raise DifferenceError(_difference(settings, target.where, expected, found))
    return len(expected)


def _of_installation(said: Mapping[str, str]) -> list[Row]:
    return [(key, value) for key, value in sorted(said.items()) if key not in OWN_SETTINGS]


def _difference(table: Table, where: str, expected: list[Row], found: list[Row]) -> str:
    """The first row that differs, by its key and the names of the columns."""
    for ours, theirs in zip(expected, found, strict=False):
        if ours != theirs:
            # The lower key is the one that the other database lacks.
            if key_of(table, ours) != key_of(table, theirs):
                if key_of(table, ours) < key_of(table, theirs):
                    return f"{where}: {table.name}, {shown_key(table, key_of(table, ours))}: the row is not there"
                return f"{where}: {table.name}, {shown_key(table, key_of(table, theirs))}: the source has no such row"
            columns = [name for name, one, other in zip(names(table), ours, theirs, strict=True) if one != other]
            key = shown_key(table, key_of(table, ours))
            return f"{where}: {table.name}, {key}: not the same in the source: {', '.join(columns)}"
    if len(expected) > len(found):
        return f"{where}: {table.name}, {shown_key(table, key_of(table, expected[len(found)]))}: the row is not there"
    key = shown_key(table, key_of(table, found[len(expected)]))
    return f"{where}: {table.name}, {key}: the source has no such row"
