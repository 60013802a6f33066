"""An installation of many towns on PostgreSQL: generated once, kept in `var/bench`, and copied for whoever changes it.

`BENCH_TOWNS`, `BENCH_PUPILS` and `BENCH_DAYS` give its size. What is kept is taken again when it was generated with the same
sizes for the same tables; remove the folder to begin anew.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import asyncpg

from bench.serving import HOUSE
from gateway.files.load import Configuration, load_configuration
from gateway.store.bulk import FILLED
from gateway.store.engine import open_store
from tests.postgres import ADMIN, OWNER, Cluster, running

# Large enough that every pupil of a rush is another one, small enough that a bench takes minutes.
TOWNS, PUPILS, DAYS = 1_000, 100_000, 30
# The last day with changes, a Friday in the first term; no day is closed yet.
UNTIL = date(2026, 11, 20)
KEPT = HOUSE / "var" / "bench"
# As an installation of this size would be set on this machine: a part of the memory, and few checkpoints.
SERVER = {
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "max_connections": "300",
    "unix_socket_directories": "",
    "autovacuum_naptime": "10s",
}
# Filling a database of two million pupils takes minutes, copying it seconds.
GENERATE_S, COPY_S = 7_200.0, 600.0


@dataclass(frozen=True, slots=True)
class Size:
    towns: int = TOWNS
    pupils: int = PUPILS
    days: int = DAYS

    @property
    def name(self) -> str:
        return f"bench_{self.towns}_{self.pupils}_{self.days}"


def size() -> Size:
    """The size that the environment asks for."""
    return Size(*(int(os.environ.get(f"BENCH_{name}", usual)) for name, usual in
                  (("TOWNS", TOWNS), ("PUPILS", PUPILS), ("DAYS", DAYS))))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Province:
    """A running server with one database at `url`, and the configuration folder that goes with it."""

    cluster: Cluster
    url: str
    config: Path
    size: Size

    @property
    def admin_url(self) -> str:
        """The same database as its superuser sees it, to whom no town is closed."""
        return self.cluster.url(self.url.rpartition("/")[2], ADMIN)

    @property
    def server_pid(self) -> int:
        return int((self.cluster.folder / "data" / "postmaster.pid").read_text().split()[0])

    def configuration(self) -> Configuration:
        configuration = load_configuration(self.config)
        assert isinstance(configuration, Configuration), configuration
        return configuration


@contextmanager
def province(wanted: Size, *, changes: bool) -> Iterator[Province]:
    """The installation of that size; where a bench `changes` it, a copy that is thrown away at the end."""
    with running(KEPT / "postgres", **SERVER) as cluster:  # type: ignore[arg-type]  # none of these is a folder
        config = KEPT / wanted.name / "config"
        kept = Province(cluster, cluster.url(wanted.name), config, wanted)
        if not asyncio.run(_is_filled(kept)):
            fill(kept)
        if not changes:
            yield kept
            return
        drop = "DROP DATABASE IF EXISTS bench_copy WITH (FORCE)"
        copy = f"CREATE DATABASE bench_copy TEMPLATE {wanted.name} OWNER {OWNER} STRATEGY FILE_COPY"
        asyncio.run(_run(cluster, [drop, copy]))
        try:
            yield Province(cluster, cluster.url("bench_copy"), config, wanted)
        finally:
            asyncio.run(_run(cluster, [drop]))


async def _is_filled(kept: Province) -> bool:
    """Whether all of it is there already, in tables as this version makes them; else there is room for it."""
    cluster, name = kept.cluster, kept.size.name
    if cluster.sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'"):  # noqa: S608 - a name of ours
        connection = await asyncpg.connect(kept.admin_url)
        try:
            is_begun = await connection.fetchval("SELECT to_regclass('settings') IS NOT NULL")
            is_filled = is_begun and await connection.fetchval(
                "SELECT EXISTS (SELECT FROM settings WHERE key = $1)", FILLED
            )
        finally:
            await connection.close()
        if not is_begun or _schema(cluster, kept.url) == await _schema_now(cluster):
            return bool(is_filled)
        await _run(cluster, [f"DROP DATABASE {name}"])
    await _run(cluster, [f"CREATE DATABASE {name} OWNER {OWNER}"])
    return False


async def _schema_now(cluster: Cluster) -> str:
    drop = "DROP DATABASE IF EXISTS bench_empty WITH (FORCE)"
    await _run(cluster, [drop, f"CREATE DATABASE bench_empty OWNER {OWNER}"])
    store = await open_store(cluster.url("bench_empty"))
    try:
        await store.migrate()
        return _schema(cluster, cluster.url("bench_empty"))
    finally:
        await store.close()
        await _run(cluster, [drop])


def _schema(cluster: Cluster, url: str) -> str:
    """A database's tables, triggers, policies and rights, as statements that make them."""
    dump = [str(cluster.binaries / "pg_dump"), "--schema-only", cluster.url(url.rpartition("/")[2], ADMIN)]
    ran = subprocess.run(dump, check=True, capture_output=True, text=True, timeout=COPY_S)  # noqa: S603 - Debian's
    # psql's own commands hold a word that is another each time.
    return "\n".join(line for line in ran.stdout.splitlines() if not line.startswith("\\"))


def fill(kept: Province) -> None:
    """Generate it, or the rest of it."""
    size = kept.size
    sys.stderr.write(f"bench: generating {size.towns} towns with {size.pupils} pupils, once; kept in {KEPT}\n")
    subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "gateway.cli", "generate", "--config", str(kept.config), "--database", kept.url,
         "--towns", str(size.towns), "--pupils", str(size.pupils), "--days", str(size.days), "--until", str(UNTIL),
         "--without-closings"],
        cwd=HOUSE, check=True, timeout=GENERATE_S, stdout=sys.stderr,
    )  # fmt: skip


async def _run(cluster: Cluster, statements: Sequence[str]) -> None:
    connection = await asyncpg.connect(cluster.url(ADMIN, ADMIN), command_timeout=COPY_S)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
