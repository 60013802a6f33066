"""Opens the store that a URL names, brings its tables up to date, and copies it for a try."""

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from gateway.store.port import StoreSetupError
from gateway.store.sql import SqlStore
from gateway.store.sqlite import LOCK_TIMEOUT_S, TAKE_TIMEOUT_S, SqliteReaders, SqliteWriter, connect
from gateway.store.tables import SCHEMA

MIGRATIONS = Path(__file__).parent / "migrations"
# How long a start waits for another one's migration; the longest copies a table of some years' changes.
MIGRATE_TIMEOUT_S = 120.0

# Alembic keeps the running migration in globals of its module.
_migrating = threading.Lock()


async def open_store(
    url: str, *, lock_timeout_s: float = LOCK_TIMEOUT_S, take_timeout_s: float = TAKE_TIMEOUT_S
) -> SqlStore:
    """The store at `url`, `sqlite:///PATH`. Raises `StoreSetupError`; the database is first touched by `migrate` or a request."""
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


def database_path(url: str) -> Path:
    """The file that a database URL names. Raises `StoreSetupError`."""
    try:
        parsed: URL | None = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.drivername != "sqlite" or parsed.database in (None, "", ":memory:") or parsed.query:
        shown = "it" if parsed is None else repr(parsed.render_as_string(hide_password=True))
        raise StoreSetupError(
            f"database URL: {shown} is not a database file; expected sqlite:///PATH; no store was opened"
        )
    return Path(str(parsed.database)).absolute()


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
                _upgrade(path, connection)
    except (sqlite3.Error, SQLAlchemyError, OSError) as error:
        raise StoreSetupError(f"{path}: the database cannot be set up ({error}); it was left as it was") from error


async def copy_store(url: str, path: Path) -> str:
    """Copy the database at `url` as it stands, beside whoever uses it, to a new file; the copy's URL.

    Raises `StoreSetupError`.
    """
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


def _upgrade(path: Path, connection: sqlite3.Connection) -> None:
    # Here, for it takes longer to load than a command takes that finds nothing to do.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def lock(opened: Connection) -> None:
        opened.exec_driver_sql("BEGIN IMMEDIATE")

    config = Config(attributes={})
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with _migrating, engine.begin() as opened:
        standing = _schema(connection)
        if standing is not None and standing not in known:
            raise StoreSetupError(
                f"{path}: the database was made by a newer version (its schema is {standing}); "
                f"expected {SCHEMA} at most; it was left as it was"
            )
        config.attributes["connection"] = opened
        command.upgrade(config, "head")
