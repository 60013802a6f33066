"""A PostgreSQL server of the tests' own, from Debian's package: a cluster in a temporary folder, gone when they end.

In tests the fixtures `postgres` (the cluster, one for the whole session) and `postgres_url` (a migrated database of the test's
own). Elsewhere the context manager:

    with running(shared_buffers="256MB") as cluster:
        url = cluster.database()
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

# Who owns the databases: an ordinary user as an installation has one, who may make roles and is no superuser.
OWNER = "mensa"
# The cluster's superuser.
ADMIN = "postgres"
# A server starts in half a second; a busy machine gets time.
START_TIMEOUT_S = 60.0
# A fast shutdown writes what is in memory.
STOP_TIMEOUT_S = 60.0
COMMAND_TIMEOUT_S = 60.0
POLL_S = 0.05
START_TRIES = 3
MEMORY = Path("/dev/shm")
# The log of a cluster grows to a gigabyte before it is used again.
MEMORY_FREE_MIN_BYTES = 4 * 1024**3

# As an installation would have it, but for the room it takes and the noise it makes.
OPTIONS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "1GB",
    "log_min_messages": "fatal",
    "timezone": "UTC",
}


def binaries() -> Path:
    """The folder of Debian's programs of the newest version, or that of `initdb` on PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    for folder in reversed(folders):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    if found is None:
        raise RuntimeError("PostgreSQL: no initdb found; expected Debian's package postgresql (bin/setup-system test)")
    return Path(found).resolve().parent


def _unprivileged() -> tuple[list[str], int | None, int | None]:
    """How to run a program as somebody whom the server accepts, for it refuses root; then that user's ids."""
    if os.geteuid() != 0:
        return [], None, None
    known = {each.pw_name: each for each in pwd.getpwall()}
    user = known.get("postgres") or known["nobody"]
    how = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return how, user.pw_uid, user.pw_gid


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """A running server. `host`, `port` and `folder` (with the Unix socket) are its own."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, options: Mapping[str, str]) -> None:
        self.folder = folder
        self.binaries = binaries()
        self.port = 0
        self._options = {**OPTIONS, **options}
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._template: str | None = None

    def url(self, name: str, user: str = OWNER) -> str:
        """A database's URL, as in `gateway.yaml`."""
        return f"postgresql://{user}@{self.host}:{self.port}/{name}"

    def database(self, *, migrated: bool = True) -> str:
        """A new database of the owner's, with this version's tables unless they are not wanted; its URL."""
        if migrated and self._template is None:
            template = self._create("template0")
            _migrate(self.url(template))
            self._template = template
        return self.url(self._create(self._template if migrated and self._template else "template0"))

    def drop(self, url: str) -> None:
        """Drop a database, whoever still uses it."""
        self.sql(f'DROP DATABASE "{url.rpartition("/")[2]}" WITH (FORCE)')

    def sql(self, statements: str, url: str | None = None) -> str:
        """What psql prints for these statements, run by the superuser, here or in another database."""
        name = ADMIN if url is None else url.rpartition("/")[2]
        ran = subprocess.run(
            [str(self.binaries / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", self.url(name, ADMIN)],
            input=statements, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip
        if ran.returncode:
            raise RuntimeError(f"psql: {ran.stderr.strip()}")
        return ran.stdout.strip()

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """End the server: SIGINT lets it write everything first, SIGQUIT is a crash that it recovers from."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_TIMEOUT_S)

    def start(self) -> None:
        """Start the server, after a stop at the same port."""
        for _ in range(START_TRIES):
            port = self.port or _free_port()
            as_whom, _, _ = _unprivileged()
            settings = {"unix_socket_directories": str(self.folder), **self._options, "port": str(port)}
            log = (self.folder / "log").open("ab")
            # Should these tests be killed, the kernel ends the server.
            self._process = subprocess.Popen(
                [*(as_whom or ["setpriv"]), "--pdeathsig=QUIT", str(self.binaries / "postgres"), "-D",
                 str(self.folder / "data"), *(f"--{name}={value}" for name, value in settings.items())],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            log.close()
            if self._is_ready(port):
                self.port = port
                return
            self.stop()
        raise RuntimeError(f"PostgreSQL: the server did not start\n{(self.folder / 'log').read_text()[-2000:]}")

    def restart(self, *, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how=how)
        self.start()

    def _is_ready(self, port: int) -> bool:
        assert self._process is not None
        until = time.monotonic() + START_TIMEOUT_S
        ask = [str(self.binaries / "pg_isready"), "-q", "-h", self.host, "-p", str(port), "-d", ADMIN, "-U", ADMIN]
        while time.monotonic() < until and self._process.poll() is None:
            if subprocess.run(ask, timeout=COMMAND_TIMEOUT_S).returncode == 0:
                return True
            time.sleep(POLL_S)
        return False

    def _create(self, template: str) -> str:
        name = f"mensa_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {OWNER}")
        return name


def _migrate(url: str) -> None:
    """In a process of its own, for this one may have a running loop."""
    program = (
        "import asyncio, sys\nfrom gateway.store.engine import open_store\n"
        "async def main() -> None:\n    store = await open_store(sys.argv[1])\n"
        "    await store.migrate()\n    await store.close()\nasyncio.run(main())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, url], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
    )
    if ran.returncode:
        raise RuntimeError(f"PostgreSQL: the template was not migrated\n{ran.stderr[-2000:]}")


@contextmanager
def running(kept: Path | None = None, *, parent: Path = Path("/tmp"), **options: str) -> Iterator[Cluster]:
    """A cluster with these settings beside OPTIONS, until the end of the block; one in `kept` is there the next time."""
    # Short, for the path of a Unix socket has 107 characters at most.
    folder = Path(tempfile.mkdtemp(prefix="mensa-pg-", dir=parent)) if kept is None else kept
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster = Cluster(folder, options)
    try:
        is_new = not (folder / "data").exists()
        if is_new:
            _make(cluster)
        cluster.start()
        if is_new:
            cluster.sql(f"CREATE ROLE {OWNER} LOGIN CREATEROLE")
        yield cluster
    finally:
        cluster.stop()
        if kept is None:
            shutil.rmtree(folder, ignore_errors=True)


def _make(cluster: Cluster) -> None:
    as_whom, uid, gid = _unprivileged()
    if uid is not None and gid is not None:
        os.chown(cluster.folder, uid, gid)
    subprocess.run(
        [*as_whom, str(cluster.binaries / "initdb"), "-D", str(cluster.folder / "data"), "-U", ADMIN, "-A", "trust",
         "-N", "-E", "UTF8", "--locale=C.UTF-8"],
        cwd=cluster.folder, check=True, capture_output=True, timeout=START_TIMEOUT_S,
    )  # fmt: skip


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """The cluster of these tests."""
    # In memory where there is room: hundreds of databases come and go, and none has to outlive a power cut.
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_FREE_MIN_BYTES
    with running(parent=MEMORY if in_memory else Path("/tmp")) as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres: Cluster) -> Iterator[str]:
    """A migrated database of the test's own."""
    url = postgres.database()
    yield url
    postgres.drop(url)
