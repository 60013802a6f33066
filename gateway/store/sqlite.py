"""SQLite under the store: one writer thread that commits waiting requests in groups, and readers beside it.

Every request is run inside the group's transaction on the writer's own connection, and answered only after that transaction
is durable (R18): WAL with `synchronous=FULL` syncs the log before COMMIT returns. Other processes write through the same
code; SQLite's write lock, taken with BEGIN IMMEDIATE before anything is read, orders them all.
"""

import asyncio
import os
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import aiosqlite
from sqlalchemy import Insert, Select
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect

from gateway.store.port import (
    INSTALLATION,
    Lane,
    Reach,
    Statement,
    StoreBusyError,
    StoreClosedError,
    StoreConflictError,
    StoreError,
    StoreFaultError,
    StoreSetupError,
    StoreUnsureError,
)
from gateway.store.prepared import Prepared

# How long the write lock may be another process's. An import of ten thousand pupils holds it for two or three seconds.
LOCK_TIMEOUT_S = 10.0
# Between two tries for the lock: short enough to find the gap that a busy gateway leaves between its groups, and random,
# so that two who wait do not keep meeting.
LOCK_RETRY_S = (0.0005, 0.005)
# How long a request may wait to be taken; longer than the lock's own time-out, so that the lock is named as the reason.
TAKE_TIMEOUT_S = 15.0
# How long a taken request may be without an answer, before it is left as unsure: a disk that hangs, hangs for minutes.
ANSWER_TIMEOUT_S = 15.0
# How long a stopping store waits for what it accepted.
CLOSE_TIMEOUT_S = 20.0
# Readers never wait for the writer, so few are enough; each is a thread.
READERS = 4
# How long reading may wait for SQLite to recover a log after a crash.
READ_BUSY_TIMEOUT_MS = 5_000
# How long a read may take, the wait for a free reader included; a caller hears silence meanwhile.
READ_TIMEOUT_S = 10.0
# Statements that the driver keeps prepared; the writer has about thirty.
STATEMENTS_KEPT = 256
# The log is copied into the database when it has this many pages of 4 KiB. Changes of different pupils touch different pages,
# some three each, so the usual thousand would have a busy evening copy, and sync, every five groups.
CHECKPOINT_PAGES = 8_000
# The writer's pages in memory: the indexes of a large town's year.
CACHE_KIB = 16_000
# The database holds personal data, hence for its owner alone; SQLite gives its log the same mode.
FILE_MODE = 0o600

Answer = TypeVar("Answer")
# Its way of writing statements.
_DIALECT = sqlite_dialect()

# Requests that may wait. A full line is a few hundred callers: more changes than this mean that the disk stands still. Of
# the call log these are batches, a minute's events of a full line; what finds no room is the caller's to keep.
WAITING_MAX = {Lane.CHANGE: 1024, Lane.LOG: 256}
# Requests in one transaction, in this order: at about 0.1 ms each the first waits some ten milliseconds for the last.
GROUP_MAX = {Lane.CHANGE: 128, Lane.LOG: 1}


class Transaction:
    """The writer's transaction as one request sees it: Core statements, run through the driver."""

    def __init__(self, connection: sqlite3.Connection, prepared: dict[Statement, Prepared]) -> None:
        self._connection = connection
        self._prepared = prepared
        self._depth = 0
        # Whether the running request has written something that no savepoint can take back.
        self.has_loose_ends = False

    def rows(self, statement: Select[Any], values: Mapping[str, object]) -> list[list[Any]]:
        """What a SELECT finds, each value as its column's type has it in Python."""
        prepared = self._prepare(statement, values)
        rows = self._connection.execute(prepared.sql, prepared.bind(values)).fetchall()
        return [prepared.result(row) for row in rows]

    def run(self, statement: Statement, values: Mapping[str, object]) -> int:
        """Run an INSERT, UPDATE or DELETE; the id of the row that an INSERT has added."""
        prepared = self._prepare(statement, values)
        cursor = self._connection.execute(prepared.sql, prepared.bind(values))
        if not self._depth:
            self.has_loose_ends = True
        return cursor.lastrowid or 0

    def add(self, statement: Insert, values: Mapping[str, object]) -> None:
        """Run an INSERT whose row's id nobody asks for."""
        self.run(statement, values)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """All of what is written inside, or, where it raises, nothing of it."""
        self._connection.execute("SAVEPOINT request")
        self._depth += 1
        try:
            yield
        except BaseException:
            # A full disk has already ended the whole transaction, and the savepoint with it.
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK TO request")
                self._connection.execute("RELEASE request")
            raise
        else:
            self._connection.execute("RELEASE request")
        finally:
            self._depth -= 1

    def _prepare(self, statement: Statement, values: Mapping[str, object]) -> Prepared:
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = Prepared(statement, list(values), _DIALECT)
        return prepared


class _Request(Generic[Answer]):
    """A request on its way through the writer; `future` belongs to `loop` and is touched by it alone."""

    __slots__ = ("answer", "fault", "future", "lane", "loop", "work")

    def __init__(self, work: Callable[[Transaction], Answer], lane: Lane, loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.lane = lane
        self.loop = loop
        self.future: asyncio.Future[Answer] = loop.create_future()
        # Whoever asked may have gone; then nobody looks at a fault, and asyncio need not complain about that.
        self.future.add_done_callback(_look)
        self.answer: Answer | None = None
        self.fault: Exception | None = None


def _look(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


class SqliteWriter:
    """The one thread that writes to a database file in this process."""

    def __init__(
        self, path: Path, lock_timeout_s: float = LOCK_TIMEOUT_S, take_timeout_s: float = TAKE_TIMEOUT_S
    ) -> None:
        self._path = path
        self._lock_timeout_s = lock_timeout_s
        self._take_timeout_s = take_timeout_s
        self._waiting: dict[Lane, deque[_Request[Any]]] = {lane: deque() for lane in Lane}
        self._wake = threading.Condition()
        self._is_closing = False
        self._connection: sqlite3.Connection | None = None
        self._prepared: dict[Statement, Prepared] = {}
        self._thread = threading.Thread(target=self._run, name=f"store-writer {path.name}", daemon=True)
        self._thread.start()

    async def write_in(
        self,
        known: int | None,
        claim: Callable[[Transaction], int],
        work: Callable[[Transaction, int], Answer],
        reach: Reach,
    ) -> tuple[int, Answer]:
        """A request of the municipality with the `known` id, or the one that `claim` finds or makes in the same transaction.

        The writer is one for all, so nothing else is written meanwhile, whatever its `reach`.
        """
        if known is not None:
            return known, await self.write(lambda transaction: work(transaction, known))

        def claim_first(transaction: Transaction) -> tuple[int, Answer]:
            with transaction.savepoint():
                municipality = claim(transaction)
                return municipality, work(transaction, municipality)

        return await self.write(claim_first)

    async def settle(self) -> None:
        """Wait until every request taken before has been kept or has failed: the writer takes them in their order."""
        await self.write(lambda _: None)

    async def write(
        self, work: Callable[[Transaction], Answer], lane: Lane = Lane.CHANGE, alone: str = INSTALLATION
    ) -> Answer:
        """Run `work` in the next group and return its answer once the group is durable.

        What `work` raises is raised here, and fails no other request of the group. Cancelling the caller cancels nothing:
        what has been accepted is run (R18). Raises `StoreError`.
        """
        request = _Request(work, lane, asyncio.get_running_loop())
        with self._wake:
            if self._is_closing:
                raise StoreClosedError(
                    f"{self._path}: the store is closed; the request was not taken and nothing of it kept"
                )
            waiting = self._waiting[lane]
            if len(waiting) >= WAITING_MAX[lane]:
                raise StoreBusyError(
                    f"{self._path}: {len(waiting)} requests ({lane.value}) already wait to be written, "
                    "which is as many as may; nothing of this one was kept, it can be sent again"
                )
            waiting.append(request)
            self._wake.notify()
        # Cancelling whoever waits here cancels the future, of which the writer knows nothing.
        timer = request.loop.call_later(self._take_timeout_s, self._expire, request)
        try:
            return await request.future
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Write what was accepted, and end the thread. Raises `StoreBusyError` when that takes too long."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            raise StoreBusyError(
                f"{self._path}: the writer did not finish within {CLOSE_TIMEOUT_S} s; requests without an answer may be lost"
            )

    def _expire(self, request: _Request[Any]) -> None:
        """Withdraw a request that was not taken in time; one that was taken gets its answer or, late, a doubt."""
        with self._wake:
            is_waiting = request in self._waiting[request.lane]
            if is_waiting:
                self._waiting[request.lane].remove(request)
        if is_waiting:
            request.fault = StoreBusyError(
                f"{self._path}: the request waited {self._take_timeout_s} s to be written; "
                "nothing of it was kept, it can be sent again"
            )
            _settle([request])
        else:
            request.loop.call_later(ANSWER_TIMEOUT_S, self._doubt, request)

    def _doubt(self, request: _Request[Any]) -> None:
        if not request.future.done():
            request.future.set_exception(
                StoreUnsureError(
                    f"{self._path}: the disk has not confirmed the request within {ANSWER_TIMEOUT_S} s; "
                    "it may or may not be kept, and only reading tells"
                )
            )

    def _run(self) -> None:
        while True:
            with self._wake:
                while not any(self._waiting.values()) and not self._is_closing:
                    self._wake.wait()
                if not any(self._waiting.values()):
                    break
            self._write_group()
        self._disconnect()

    def _write_group(self) -> None:
        """One transaction for all that waits. The lock is taken first: meanwhile the group grows."""
        group: list[_Request[Any]] = []
        try:
            connection = self._begin()
        except Exception as error:
            fault = error if isinstance(error, StoreError) else self._fault(0, error)
            for lane, most in GROUP_MAX.items():
                group += self._take(lane, most)
            for request in group:
                request.fault = fault
            self._answer(group)
            return
        try:
            # Every change that waits, and those that come meanwhile; then one batch of the call log.
            for lane, most in GROUP_MAX.items():
                room = most
                while taken := self._take(lane, room):
                    room -= len(taken)
                    group += taken
                    for request in taken:
                        self._work(connection, request)
            connection.execute("COMMIT")
        except Exception as error:
            fault = self._fault(len(group), error)
            for request in group:
                request.fault = request.fault or fault
            self._disconnect()
        self._answer(group)

    def _take(self, lane: Lane, most: int) -> list[_Request[Any]]:
        waiting = self._waiting[lane]
        with self._wake:
            return [waiting.popleft() for _ in range(min(most, len(waiting)))]

    def _work(self, connection: sqlite3.Connection, request: _Request[Any]) -> None:
        """Run one request of the group. Raises only where the whole group is lost."""
        transaction = Transaction(connection, self._prepared)
        try:
            request.answer = request.work(transaction)
        except Exception as error:
            if isinstance(error, sqlite3.IntegrityError):
                request.fault = StoreConflictError(
                    f"{self._path}: the request contradicts what is kept ({error}); nothing of it was kept"
                )
            elif isinstance(error, sqlite3.Error):
                request.fault = self._fault(1, error)
            else:
                request.fault = error
            if transaction.has_loose_ends or not connection.in_transaction:
                raise

    def _fault(self, requests: int, error: Exception) -> StoreFaultError:
        fault = StoreFaultError(
            f"{self._path}: the database failed while {requests} requests were written ({error}); "
            "none counts as kept, and after a failed commit only reading tells"
        )
        fault.__cause__ = error
        return fault

    def _begin(self) -> sqlite3.Connection:
        """The connection, holding the write lock. Raises `StoreBusyError`, `StoreFaultError`."""
        until = time.monotonic() + self._lock_timeout_s
        while True:
            try:
                if self._connection is None:
                    self._connection = connect(self._path, lock_timeout_s=self._lock_timeout_s)
                self._connection.execute("BEGIN IMMEDIATE")
                return self._connection
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    self._disconnect()
                    raise
                if time.monotonic() >= until:
                    raise StoreBusyError(
                        f"{self._path}: another process has held the database for {self._lock_timeout_s} s; "
                        "nothing of the request was kept, it can be sent again"
                    ) from error
                time.sleep(random.uniform(*LOCK_RETRY_S))  # noqa: S311  (no secret)

    def _disconnect(self) -> None:
        """Close the connection, which rolls back what is open; the next group opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _answer(self, group: Sequence[_Request[Any]]) -> None:
        """Hand each loop all of its answers at once: waking a loop costs more than answering a request."""
        by_loop: dict[asyncio.AbstractEventLoop, list[_Request[Any]]] = {}
        for request in group:
            by_loop.setdefault(request.loop, []).append(request)
        for loop, requests in by_loop.items():
            # A loop that has ended has nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, requests)


def _settle(requests: Sequence[_Request[Any]]) -> None:
    for request in requests:
        if request.future.done():
            continue
        if request.fault is not None:
            request.future.set_exception(request.fault)
        else:
            request.future.set_result(request.answer)


class SqliteReaders:
    """Connections that can only read, each with its thread; made when they are first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._prepared: dict[Statement, Prepared] = {}
        self._is_closed = False
        self._free: asyncio.LifoQueue[aiosqlite.Connection | None] = asyncio.LifoQueue()
        for _ in range(READERS):
            self._free.put_nowait(None)

    async def rows(
        self, asked: Sequence[tuple[Statement, Mapping[str, object]]], within: int | None = None
    ) -> list[list[list[Any]]]:
        """What each statement finds, all of one moment; SQLite itself has no fence between municipalities.

        Raises `StoreBusyError`, `StoreClosedError`, `StoreFaultError`.
        """
        if self._is_closed:
            raise StoreClosedError(f"{self._path}: the store is closed; nothing was read")
        prepared = [(self._prepare(statement, values), values) for statement, values in asked]
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                connection = await self._free.get()
                try:
                    if connection is None:
                        connection = await self._open()
                    try:
                        if len(prepared) > 1:
                            await connection.execute_fetchall("BEGIN")
                        found = [await connection.execute_fetchall(each.sql, each.bind(put)) for each, put in prepared]
                    finally:
                        # Also where nothing seems to have begun: the thread of a read that was given up may not be so far yet.
                        if len(prepared) > 1:
                            with suppress(sqlite3.OperationalError):
                                await connection.execute_fetchall("ROLLBACK")
                finally:
                    self._free.put_nowait(connection)
        except TimeoutError as error:
            raise StoreBusyError(
                f"{self._path}: reading took longer than {READ_TIMEOUT_S} s; nothing was read, it can be asked again"
            ) from error
        except sqlite3.Error as error:
            raise StoreFaultError(f"{self._path}: the database could not be read ({error})") from error
        return [[each.result(row) for row in rows] for (each, _), rows in zip(prepared, found, strict=True)]

    def _prepare(self, statement: Statement, values: Mapping[str, object]) -> Prepared:
        prepared = self._prepared.get(statement)
        if prepared is None:
            prepared = self._prepared[statement] = Prepared(statement, list(values), _DIALECT)
        return prepared

    async def close(self) -> None:
        """Close each connection once it is free; a second time there is nothing left to do."""
        if self._is_closed:
            return
        self._is_closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_TIMEOUT_S):
                for _ in range(READERS):
                    connection = await self._free.get()
                    if connection is not None:
                        await connection.close()

    async def _open(self) -> aiosqlite.Connection:
        opening = aiosqlite.connect(self._path, isolation_level=None, cached_statements=STATEMENTS_KEPT)
        # aiosqlite has no public word for it: a store that nobody closed must not keep the process from ending.
        opening._thread.daemon = True
        connection = await opening
        await connection.execute_fetchall(f"PRAGMA busy_timeout={READ_BUSY_TIMEOUT_MS}")
        await connection.execute_fetchall("PRAGMA query_only=ON")
        return connection


def _into_wal_mode(connection: sqlite3.Connection, until: float) -> str:
    """Switch the journal; of several that start at once SQLite turns some away at once, whatever their time-out."""
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(random.uniform(*LOCK_RETRY_S))  # noqa: S311 - spreads those who wait, guards nothing
        else:
            return str(mode)


def connect(path: Path, lock_timeout_s: float = LOCK_TIMEOUT_S) -> sqlite3.Connection:
    """A connection that writes durably, in the driver's autocommit mode: transactions are begun in so many words.

    Makes the file where there is none. Raises `sqlite3.Error`, `OSError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Only where there is none: closing a file gives up every lock that this process has on it (fcntl(2)), and without those
    # of its other connections whoever closes the database elsewhere takes the log away from under them.
    with suppress(FileExistsError):
        os.close(os.open(os.path.realpath(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE))
    connection = sqlite3.connect(
        path, timeout=lock_timeout_s, isolation_level=None, cached_statements=STATEMENTS_KEPT, check_same_thread=False
    )
    try:
        mode = _into_wal_mode(connection, time.monotonic() + lock_timeout_s)
        if mode != "wal":
            raise StoreSetupError(
                f"{path}: SQLite's journal mode is {mode}, expected wal, which needs a disk of this machine; nothing was kept"
            )
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        # Without it INSERT OR REPLACE would delete a row past the triggers that refuse it.
        connection.execute("PRAGMA recursive_triggers=ON")
        # What is erased is overwritten, not only given up for new rows.
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        # From here on only BEGIN IMMEDIATE can find the database busy, and its caller waits with more patience.
        connection.execute("PRAGMA busy_timeout=0")
    except BaseException:
        connection.close()
        raise
    return connection
