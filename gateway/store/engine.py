"""Opens the store that a URL names, brings its tables up to date, and copies it for a try."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import asyncpg
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool, StaticPool

from gateway.store import postgres
from gateway.store.port import StoreSetupError
from gateway.store.postgres import Address, PostgresReaders, PostgresWriter
from gateway.store.sql import SqlStore
from gateway.store.sqlite import LOCK_TIMEOUT_S, TAKE_TIMEOUT_S, SqliteReaders, SqliteWriter, connect
from gateway.store.tables import SCHEMA

MIGRATIONS = Path(__file__).parent / "migrations"
# How long a start waits for another one's migration; the longest copies a table of some years' changes.
MIGRATE_TIMEOUT_S = 120.0

# What SQLAlchemy and others call the same thing.
POSTGRES = ("postgresql", "postgres", "postgresql+asyncpg")

# Alembic keeps the running migration in globals of its module.
_migrating = threading.Lock()


async def open_store(
    url: str, *, lock_timeout_s: float = LOCK_TIMEOUT_S, take_timeout_s: float = TAKE_TIMEOUT_S
) -> SqlStore:
    """The store at `url`: `sqlite:///PATH` or `postgresql://USER@HOST:PORT/NAME`, which then belongs to the running loop.

    Raises `StoreSetupError`; the database is first touched by `migrate` or a request.
    """
    address = postgres_address(url)
    if address is not None:
        return SqlStore(
            address.shown,
            PostgresWriter(address, lock_timeout_s, take_timeout_s),
            PostgresReaders(address),
            lambda: migrate_postgres(address),
        )
    path = database_path(url)
    writer = SqliteWriter(path, lock_timeout_s, take_timeout_s)
    return SqlStore(str(path), writer, SqliteReaders(path), lambda: migrate(path))


def located(url: str, folder: Path) -> str:
    """The URL with a relative file taken from `folder`; what is no URL of a file stays as it is, for `open_store` to refuse."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        return url
    if parsed.drivername != "sqlite" or parsed.database in (None, "", ":memory:"):
        return url
    return parsed.set(database=str(folder / str(parsed.database))).render_as_string(hide_password=False)


def postgres_address(url: str) -> Address | None:
    """The PostgreSQL database that a URL names; None where it names none. The password may stand in PGPASSFILE instead."""
    parsed = _parsed(url)
    if parsed is None or parsed.drivername not in POSTGRES:
        return None
    plain = parsed.set(drivername="postgresql")
    return Address(plain.render_as_string(hide_password=False), plain.render_as_string(hide_password=True))


def database_path(url: str) -> Path:
    """The file that a database URL names. Raises `StoreSetupError`."""
    parsed = _parsed(url)
    if parsed is None or parsed.drivername != "sqlite" or parsed.database in (None, "", ":memory:") or parsed.query:
        shown = "it" if parsed is None else repr(parsed.render_as_string(hide_password=True))
        raise StoreSetupError(
            f"database URL: {shown} is not a database; expected sqlite:///PATH or postgresql://USER@HOST:PORT/NAME; "
            "no store was opened"
        )
    return Path(str(parsed.database)).absolute()


def _parsed(url: str) -> URL | None:
    try:
        return make_url(url)
    except ArgumentError:
        return None


def migrate(path: Path) -> None:
    """Bring the database at `path` to this version's tables, making it where there is none.

    One transaction under the write lock: of several that start at once, one migrates and the others find it done.
    Raises `StoreSetupError`, also for a database of a newer version; the database is then as it was.
    """
    try:
        with closing(connect(path, lock_timeout_s=MIGRATE_TIMEOUT_S)) as connection:
            # Before the first look: who closes a database as the last one locks even readers out for a moment.
            connection.execute(f"PRAGMA busy_timeout={int(MIGRATE_TIMEOUT_S * 1000)}")
            if _schema(connection) != SCHEMA:
                # SQLite changes a table by copying it, and would take the old one's end for the end of its rows.
                connection.execute("PRAGMA foreign_keys=OFF")
                engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)

                @event.listens_for(engine, "begin")
                def lock(opened: Connection) -> None:
                    opened.exec_driver_sql("BEGIN IMMEDIATE")

                with _migrating, engine.begin() as opened:
                    _upgrade(str(path), opened, lambda: _schema(connection))
    except (sqlite3.Error, SQLAlchemyError, OSError) as error:
        raise StoreSetupError(f"{path}: the database cannot be set up ({error}); it was left as it was") from error


def migrate_postgres(address: Address) -> None:
    """As `migrate`, on PostgreSQL: one transaction under an advisory lock. Blocks; it has a loop of its own.

    Raises `StoreSetupError`, also for a server that is too old or would not keep what it has committed (R18).
    """
    try:
        asyncio.run(_migrate_postgres(address))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError, ValueError) as error:
        raise StoreSetupError(f"{address.shown}: {_why(error)}; nothing was set up") from error


async def _migrate_postgres(address: Address) -> None:
    connection = await postgres.connect(address)
    try:
        version = connection.get_server_version().major
        if version < postgres.VERSION_MIN:
            raise StoreSetupError(
                f"{address.shown}: the server is PostgreSQL {version}; expected {postgres.VERSION_MIN} or newer; "
                "nothing was set up"
            )
        for setting in ("fsync", "full_page_writes"):
            if await connection.fetchval(f"SHOW {setting}") != "on":
                raise StoreSetupError(
                    f"{address.shown}: the server's {setting} is off, so a power cut could lose what was confirmed; "
                    "expected on; nothing was set up"
                )
        if await _postgres_schema(connection) == SCHEMA:
            return
    finally:
        await connection.close()

    def upgrade(opened: Connection) -> None:
        opened.exec_driver_sql(f"SELECT pg_advisory_xact_lock({postgres.MIGRATION_LOCK})")

        def standing() -> str | None:
            if opened.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar() is None:
                return None
            return str(opened.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())

        _upgrade(address.shown, opened, standing)

    timeouts = dict.fromkeys(("lock_timeout", "statement_timeout"), str(int(MIGRATE_TIMEOUT_S * 1000)))
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: postgres.connect(address, timeouts, MIGRATE_TIMEOUT_S),
        poolclass=NullPool,
    )
    try:
        with _migrating:
            async with engine.begin() as opened:
                await opened.run_sync(upgrade)
    finally:
        await engine.dispose()


async def _postgres_schema(connection: postgres.Connection) -> str | None:
    """The migration that the database stands at; None where it has no tables yet."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    return str(await connection.fetchval("SELECT version_num FROM alembic_version"))


def _why(error: Exception) -> str:
    """What kept a PostgreSQL database from being set up, and what would help."""
    said = " ".join(str(getattr(error, "orig", error)).split()) or type(error).__name__
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return f"there is no such database ({said}); expected one that an administrator has made with createdb"
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return f"the server does not let this user in ({said}); expected a user and a password that it knows, or PGPASSFILE"
    if isinstance(error, OSError):
        return f"no PostgreSQL server answers ({said}); expected one at this address"
    return f"the database cannot be set up ({said})"


async def copy_store(url: str, path: Path) -> str:
    """Copy the database file at `url` as it stands, beside whoever uses it, to a new file; the copy's URL.

    Raises `StoreSetupError`, also where the database is no file.
    """
    address = postgres_address(url)
    if address is not None:
        raise StoreSetupError(
            f"{address.shown}: only a database file can be copied for a try; expected sqlite:///PATH in gateway.yaml, "
            "or a rehearsal file with `mensa rehearse`; nothing was copied"
        )
    origin = database_path(url)

    def copy() -> str:
        try:
            with closing(connect(origin)) as source, closing(connect(path)) as target:
                source.backup(target)
        except (sqlite3.Error, OSError) as error:
            raise StoreSetupError(
                f"{origin}: the database cannot be copied ({error}); it was left as it was"
            ) from error
        return f"sqlite:///{path.absolute()}"

    return await asyncio.to_thread(copy)


def _schema(connection: sqlite3.Connection) -> str | None:
    """The migration that the database stands at; None where it has no tables yet."""
    has_version = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone() if has_version else None
    return None if row is None else str(row[0])


def _upgrade(where: str, opened: Connection, standing: Callable[[], str | None]) -> None:
    """Bring a database to this version in the transaction that is open and has it alone; `standing` is where it is."""
    # Here, for it takes longer to load than a command takes that finds nothing to do.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    schema = standing()
    if schema is not None and schema not in known:
        raise StoreSetupError(
            f"{where}: the database was made by a newer version (its schema is {schema}); "
            f"expected {SCHEMA} at most; it was left as it was"
        )
    config.attributes["connection"] = opened
    command.upgrade(config, "head")
