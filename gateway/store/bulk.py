"""Rows in bulk: whole tables, read and added in the order of their keys at the database's own speed.

Rows are tuples in the order of the columns on the page of tables, with the values that both databases have in common: int, str,
bool, date and None; instants stay microseconds. What is added is added in parts, each one transaction, so that a process that is
killed leaves whole parts behind and nothing else. Parts are not synced one by one; `finish` makes all of them durable.

No trigger, constraint or row-level security is switched off for it.
"""

# ruff: noqa: S608 - the names in the statements are those of the page of tables; values are always bound.

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import asyncpg
from sqlalchemy import BigInteger, Boolean, Date, Text
from sqlalchemy import Table as Table
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from gateway.store.engine import database_path, open_store, postgres_address
from gateway.store.port import StoreBusyError, StoreError, StoreFaultError, StoreSetupError
from gateway.store.postgres import Address
from gateway.store.sqlite import connect
from gateway.store.tables import Instant, metadata, settings

Row = tuple[Any, ...]
Key = tuple[Any, ...]
Part = tuple[Table, Sequence[Row]]
Answer = TypeVar("Answer")

# The setting that stands while a database is being filled: a gateway does not start on half of an installation.
FILLING = "filling"
# The setting that then says with what it was filled.
FILLED = "filled"

# A server that does not answer by then is not there.
CONNECT_TIMEOUT_S = 30.0
# How long others may hold what is to be locked: a gateway's longest transaction takes a few seconds.
LOCK_TIMEOUT_S = 30.0
# One statement: adding a part, or counting the largest table on a busy disk.
STATEMENT_TIMEOUT_S = 600.0
# Two who fill one database would meet in the middle; this number is theirs alone among PostgreSQL's advisory locks.
FILLING_LOCK = 0x6D656E7361
# SQLite's log is copied into the database at this many pages (of 4 KiB): fewer and larger copies than a gateway makes.
BULK_CHECKPOINT_PAGES = 64_000
# The indexes of a large table are read and written all over while it is loaded.
BULK_CACHE_KIB = 256_000
NO_URL = "a text that is no URL"
INT32, INT64 = 2**31, 2**63


def tables_in_order() -> tuple[Table, ...]:
    """Every table, each after those that it refers to; the settings first, for they say whose database it is."""
    return (settings, *(table for table in metadata.sorted_tables if table is not settings))


class Bulk(Protocol):
    """A database that is open for rows in bulk; `where` names it in messages. Its methods raise `StoreError`."""

    where: str

    async def schema(self) -> str | None:
        """The migration that the database stands at; None where it has no tables."""

    async def hold(self) -> None:
        """Let nobody else write until this is closed; what is read from here on is of one moment."""

    async def count(self, table: Table) -> int: ...

    async def last_key(self, table: Table) -> Key | None: ...

    async def rows(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        """The next rows in the order of their keys."""

    async def row(self, table: Table, key: Key) -> Row | None: ...

    async def add(self, parts: Sequence[Part], said: Mapping[str, str | None]) -> None:
        """Add rows and say settings (None takes one back), in one transaction."""

    async def finish(self, said: Mapping[str, str | None]) -> None:
        """Number new rows after those added, let the planner know them, and say settings once all of it is durable."""


@asynccontextmanager
async def open_bulk(url: str, *, makes: bool = False) -> AsyncIterator[Bulk]:
    """The database at `url`; with `makes`, made and brought up to date first. Raises `StoreSetupError`."""
    if makes:
        store = await open_store(url)
        try:
            await store.migrate()
        finally:
            await store.close()
    address = postgres_address(url)
    if address is not None:
        async with _open_postgres(address) as postgres:
            yield postgres
    else:
        path = database_path(url)
        if not path.exists():
            raise StoreSetupError(f"{path}: there is no database; expected one that is there; nothing was done")
        with closing(_connect_sqlite(path)) as connection:
            yield SqliteBulk(path, connection)


def is_postgres(url: str) -> bool:
    return postgres_address(url) is not None


def shown_url(url: str) -> str:
    """The URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return NO_URL


@cache
def names(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns)


@cache
def _key_places(table: Table) -> tuple[int, ...]:
    return tuple(names(table).index(column.name) for column in table.primary_key.columns)


def key_of(table: Table, row: Row) -> Key:
    return tuple(row[place] for place in _key_places(table))


def shown_key(table: Table, key: Key) -> str:
    """Which row is meant, as a message may say it: ids, names of settings and nodes, never a person."""
    columns = table.primary_key.columns
    return ", ".join(f"{column.name} {value}" for column, value in zip(columns, key, strict=True))


def _quoted(table: Table) -> str:
    return ", ".join(f'"{name}"' for name in names(table))


def _fits(column: Any, value: object) -> bool:
    """Whether both databases can hold a value in this column."""
    if value is None:
        return bool(column.nullable)
    kind = column.type
    if isinstance(kind, Boolean):
        return isinstance(value, bool)
    if isinstance(kind, Date):
        return isinstance(value, date)
    if isinstance(kind, Text):
        return isinstance(value, str) and "\0" not in value and value.encode(errors="replace").decode() == value
    most = INT64 if isinstance(kind, Instant | BigInteger) else INT32
    return isinstance(value, int) and -most <= value < most


def unfit(table: Table, rows: Iterable[Row]) -> str | None:
    """The first row with a value that no database can hold in that column, and the column; None when there is none."""
    for row in rows:
        for column, value in zip(table.columns, row, strict=True):
            if not _fits(column, value):
                return f"{table.name}, {shown_key(table, key_of(table, row))}: column {column.name}"
    return None


def _unfit_error(where: str, parts: Sequence[Part]) -> StoreFaultError | None:
    for table, rows in parts:
        found = unfit(table, rows)
        if found is not None:
            return StoreFaultError(
                f"{where}: {found} holds what it cannot keep; expected a value of the column's type, text in UTF-8 without NUL; "
                "nothing of this part was kept"
            )
    return None


class SqliteBulk:
    """A database file; one connection, used by one thread at a time."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.where = str(path)
        self._connection = connection

    async def schema(self) -> str | None:
        found = await self._run(
            lambda: self._connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        )
        if found is None:
            return None
        row = await self._run(lambda: self._connection.execute("SELECT version_num FROM alembic_version").fetchone())
        return None if row is None else str(row[0])

    async def hold(self) -> None:
        await self._run(lambda: self._connection.execute("BEGIN IMMEDIATE"))

    async def count(self, table: Table) -> int:
        sql = f'SELECT count(*) FROM "{table.name}"'
        return int((await self._run(lambda: self._connection.execute(sql).fetchone()))[0])

    async def last_key(self, table: Table) -> Key | None:
        found = await self._run(lambda: self._select(table, "", (), descending=True))
        return key_of(table, found[0]) if found else None

    async def rows(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        condition = "" if after is None else f"WHERE {_key(table)} > ({_marks(len(after))})"
        return await self._run(lambda: self._select(table, condition, after or (), limit))

    async def row(self, table: Table, key: Key) -> Row | None:
        condition = f"WHERE {_key(table)} = ({_marks(len(key))})"
        found = await self._run(lambda: self._select(table, condition, key))
        return found[0] if found else None

    async def add(self, parts: Sequence[Part], said: Mapping[str, str | None]) -> None:
        def insert() -> None:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for table, rows in parts:
                    sql = f'INSERT INTO "{table.name}" ({_quoted(table)}) VALUES ({_marks(len(table.columns))})'
                    self._connection.executemany(sql, _into_sqlite(table, rows))
                self._say(said)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

        try:
            await self._run(insert)
        except (StoreFaultError, UnicodeError, OverflowError) as error:
            raise _unfit_error(self.where, parts) or error from error

    async def finish(self, said: Mapping[str, str | None]) -> None:
        def settle() -> None:
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("ANALYZE")
            self._connection.execute("BEGIN IMMEDIATE")
            self._say(said)
            self._connection.execute("COMMIT")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        await self._run(settle)

    def _say(self, said: Mapping[str, str | None]) -> None:
        for key, value in said.items():
            self._connection.execute('DELETE FROM settings WHERE "key" = ?', (key,))
            if value is not None:
                self._connection.execute('INSERT INTO settings ("key", value) VALUES (?, ?)', (key, value))

    def _select(
        self, table: Table, condition: str, values: Sequence[object], limit: int = 1, *, descending: bool = False
    ) -> list[Row]:
        direction = " DESC" if descending else ""
        order = ", ".join(f'"{column.name}"{direction}' for column in table.primary_key.columns)
        sql = f'SELECT {_quoted(table)} FROM "{table.name}" {condition} ORDER BY {order} LIMIT {limit}'
        try:
            found = self._connection.execute(sql, values).fetchall()
        except sqlite3.OperationalError:
            # A text that is no UTF-8 cannot be read as one; the driver's message would show it.
            self._connection.text_factory = lambda content: content.decode(errors="surrogateescape")
            try:
                found = self._connection.execute(sql, values).fetchall()
            finally:
                self._connection.text_factory = str
        return _from_sqlite(self.where, table, found)

    async def _run(self, work: Callable[[], Answer]) -> Answer:
        try:
            return await asyncio.to_thread(work)
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                raise StoreBusyError(
                    f"{self.where}: somebody else has held the database for {LOCK_TIMEOUT_S:.0f} s; "
                    "expected nobody at work on it; nothing of this part was kept"
                ) from error
            raise StoreFaultError(
                f"{self.where}: the database failed ({error}); nothing of this part was kept"
            ) from error
        except sqlite3.Error as error:
            # The names of constraints and columns; never values.
            raise StoreFaultError(
                f"{self.where}: the database failed ({error}); nothing of this part was kept"
            ) from error


def _connect_sqlite(path: Path) -> sqlite3.Connection:
    try:
        connection = connect(path, lock_timeout_s=LOCK_TIMEOUT_S)
        connection.execute(f"PRAGMA busy_timeout={int(LOCK_TIMEOUT_S * 1000)}")
        # Without a sync for each part: a power cut may take the last parts back, whole, and never more.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={BULK_CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size=-{BULK_CACHE_KIB}")
    except (sqlite3.Error, OSError) as error:
        raise StoreSetupError(f"{path}: the database cannot be opened ({error}); it was left as it was") from error
    return connection


def _key(table: Table) -> str:
    columns = ", ".join(f'"{column.name}"' for column in table.primary_key.columns)
    return f"({columns})"


def _marks(count: int) -> str:
    return ", ".join(["?"] * count)


@cache
def _places(table: Table, *types: type) -> tuple[int, ...]:
    return tuple(place for place, column in enumerate(table.columns) if isinstance(column.type, types))


def _into_sqlite(table: Table, rows: Iterable[Row]) -> Iterable[Sequence[Any]]:
    """Days as text; the driver itself makes numbers of booleans."""
    places = _places(table, Date)
    if not places:
        return rows
    return (_with_days(row, places) for row in rows)


def _with_days(row: Row, places: tuple[int, ...]) -> list[Any]:
    values = list(row)
    for place in places:
        if values[place] is not None:
            values[place] = values[place].isoformat()
    return values


_BOOLEANS = {0: False, 1: True, None: None}


def _from_sqlite(where: str, table: Table, rows: list[Row]) -> list[Row]:
    days, booleans = _places(table, Date), _places(table, Boolean)
    if not days and not booleans:
        return rows
    made: list[Row] = []
    for row in rows:
        values = list(row)
        try:
            for place in days:
                if values[place] is not None:
                    values[place] = _day(values[place])
            for place in booleans:
                values[place] = _BOOLEANS[values[place]]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreFaultError(
                f"{where}: {table.name}, {shown_key(table, key_of(table, row))}: column {names(table)[place]} holds what it "
                "cannot keep; expected a value of the column's type; nothing of this part was kept"
            ) from error
        made.append(tuple(values))
    return made


@cache
def _day(text: str) -> date:
    day = date.fromisoformat(text)
    if day.isoformat() != text:
        raise ValueError("not as a day is written")
    return day


class PostgresBulk:
    """A PostgreSQL database; one connection for reading and adding."""

    def __init__(self, where: str, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.where = where
        self._connection = connection

    async def schema(self) -> str | None:
        async with self._faults():
            if await self._connection.fetchval("SELECT to_regclass('alembic_version')") is None:
                return None
            found: str | None = await self._connection.fetchval("SELECT version_num FROM alembic_version")
            return found

    async def hold(self) -> None:
        async with self._faults():
            await self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            tables = ", ".join(f'"{table.name}"' for table in tables_in_order())
            await self._connection.execute(f"LOCK TABLE {tables} IN SHARE MODE")

    async def count(self, table: Table) -> int:
        async with self._faults():
            return int(await self._connection.fetchval(f'SELECT count(*) FROM "{table.name}"'))

    async def last_key(self, table: Table) -> Key | None:
        found = await self._select(table, "", (), descending=True)
        return key_of(table, found[0]) if found else None

    async def rows(self, table: Table, after: Key | None, limit: int) -> list[Row]:
        condition = "" if after is None else f"WHERE {_collated_key(table)} > ({_numbered(len(after))})"
        return await self._select(table, condition, after or (), limit)

    async def row(self, table: Table, key: Key) -> Row | None:
        found = await self._select(table, f"WHERE {_collated_key(table)} = ({_numbered(len(key))})", key)
        return found[0] if found else None

    async def add(self, parts: Sequence[Part], said: Mapping[str, str | None]) -> None:
        try:
            async with self._faults(), self._connection.transaction():
                for table, rows in parts:
                    if rows:
                        await self._connection.copy_records_to_table(table.name, records=rows, columns=names(table))
                await self._say(said)
        except StoreFaultError as error:
            raise _unfit_error(self.where, parts) or error from error

    async def finish(self, said: Mapping[str, str | None]) -> None:
        async with self._faults():
            for table in tables_in_order():
                if "id" in table.columns:
                    await self._connection.execute(
                        f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), coalesce(max(id), 1), "
                        f'max(id) IS NOT NULL) FROM "{table.name}"'
                    )
                await self._connection.execute(f'ANALYZE "{table.name}"')
            async with self._connection.transaction():
                # This commit waits for the disk, and with it for every part before.
                await self._connection.execute("SET LOCAL synchronous_commit = on")
                await self._say(said)

    async def _say(self, said: Mapping[str, str | None]) -> None:
        for key, value in said.items():
            await self._connection.execute('DELETE FROM settings WHERE "key" = $1', key)
            if value is not None:
                await self._connection.execute('INSERT INTO settings ("key", value) VALUES ($1, $2)', key, value)

    async def _select(
        self, table: Table, condition: str, values: Sequence[object], limit: int = 1, *, descending: bool = False
    ) -> list[Row]:
        direction = " DESC" if descending else ""
        order = ", ".join(f"{each}{direction}" for each in _collated(table))
        sql = f'SELECT {_quoted(table)} FROM "{table.name}" {condition} ORDER BY {order} LIMIT {limit}'
        async with self._faults():
            return [tuple(record) for record in await self._connection.fetch(sql, *values)]

    @asynccontextmanager
    async def _faults(self) -> AsyncIterator[None]:
        try:
            yield
        except asyncpg.PostgresError as error:
            # Not the message, which may show the values of a row.
            about = ", ".join(filter(None, (type(error).__name__, error.table_name, error.constraint_name)))
            fault: type[StoreError] = StoreFaultError
            if isinstance(error, asyncpg.LockNotAvailableError):
                fault = StoreBusyError
            raise fault(f"{self.where}: the database failed ({about}); nothing of this part was kept") from error
        except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TypeError, ValueError) as error:
            raise StoreFaultError(
                f"{self.where}: the database failed ({type(error).__name__}); nothing of this part was kept"
            ) from error


@asynccontextmanager
async def _open_postgres(address: Address) -> AsyncIterator[PostgresBulk]:
    where = address.shown
    try:
        connection = await asyncpg.connect(
            address.url,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            server_settings={
                "application_name": "mensa bulk",
                "lock_timeout": f"{LOCK_TIMEOUT_S:.0f}s",
                "statement_timeout": f"{STATEMENT_TIMEOUT_S:.0f}s",
                # A crash of the server may take the last parts back, whole, and never more.
                "synchronous_commit": "off",
            },
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError) as error:
        raise StoreSetupError(
            f"{where}: the database cannot be opened ({type(error).__name__}); expected a server that takes this user; "
            "nothing was done"
        ) from error
    try:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", FILLING_LOCK):
            raise StoreBusyError(f"{where}: another command fills or copies this database; nothing was done")
        yield PostgresBulk(where, connection)
    finally:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
            await connection.close(timeout=CONNECT_TIMEOUT_S)


def _collated(table: Table) -> list[str]:
    """The key's columns, texts in the order of their bytes as SQLite has them."""
    return [
        f'"{column.name}" COLLATE "C"' if isinstance(column.type, Text) else f'"{column.name}"'
        for column in table.primary_key.columns
    ]


def _collated_key(table: Table) -> str:
    return f"({', '.join(_collated(table))})"


def _numbered(count: int) -> str:
    return ", ".join(f"${number + 1}" for number in range(count))
