"""PostgreSQL under the store: requests in groups on a few connections, any number of gateways at once, and readers beside.

What may not meet is kept apart by advisory locks of the transaction: a municipality's, shared by requests that name what they
need of it and held alone by those that need all of it (R25), and one for each pupil or word that a request names. They are
taken before anything is read, so READ COMMITTED then shows all that their last holder has committed. All locks are taken
in one order, so no two requests can wait for each other.

Work of a municipality runs as ROLE, which row-level security shows the rows of those municipalities alone that the
transaction says it is for; what is the installation's runs as the owner of the tables.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy import Delete, Insert, Select, Update
from sqlalchemy.util import await_only, greenlet_spawn

from gateway.store.port import (
    Lane,
    Reach,
    Statement,
    StoreBusyError,
    StoreClosedError,
    StoreConflictError,
    StoreFaultError,
    StoreUnsureError,
)
from gateway.store.port import Transaction as AnyTransaction
from gateway.store.statements import Pending, Statements

# The role of a municipality's work, and the setting that names the municipalities; the migrations make its policies.
ROLE = "mensa_town"
TOWNS = "mensa.towns"

# The oldest version that the statements are tested on; older ones get no more corrections.
VERSION_MIN = 14
# A server of this network answers in milliseconds; one that has no answer by then is not there.
CONNECT_TIMEOUT_S = 10.0
# How long a request may wait for a lock. An import of ten thousand pupils holds its town for a few seconds.
LOCK_TIMEOUT_S = 10.0
# How long one statement may take, the wait for its locks included; the largest adds a town's pupils.
STATEMENT_TIMEOUT_S = 30.0
# When a server that says nothing counts as gone: later than its own time-outs, which say more.
COMMAND_TIMEOUT_S = 35.0
# A gateway that stopped in the middle of a transaction must not keep its locks; the longest pause between two statements is
# that in which the PINs of a town's people are digested.
IDLE_IN_TRANSACTION_TIMEOUT_S = 30.0
# The server looks this often, and this many times, for a gateway that has lost its power before it gives up its locks.
KEEPALIVE_S, KEEPALIVES = 10, 3
# How long a request may wait to be taken; longer than the lock's own time-out, so that the lock is named as the reason.
TAKE_TIMEOUT_S = 15.0
# How long a taken request may be without an answer, before it is left as unsure.
ANSWER_TIMEOUT_S = 15.0
# How long a stopping store waits for what it accepted.
CLOSE_TIMEOUT_S = 20.0
# How long a read may take, the wait for a free reader included; a caller hears silence meanwhile.
READ_TIMEOUT_S = 10.0

# Requests that may wait, as with SQLite: a full line is a few hundred callers.
WAITING_MAX = {Lane.CHANGE: 1024, Lane.LOG: 256}
# Requests in one transaction: at about 0.1 ms each the first waits some ten milliseconds for the last.
GROUP_MAX = 128
# Transactions at once of each kind: while some groups are read or synced, another is decided. More would be smaller groups, each
# with its six statements.
GROUPS = 4
# Groups that wait, each for one municipality that somebody else has to himself.
HELD_GROUPS = 3
# Requests that have a municipality to themselves, or are the installation's: closings of many towns at one cutoff.
ALONE = 5
# Batches of the call log: one, so that their events keep their order.
LOGS = 1
# With the readers 19 connections a gateway: a server of the usual hundred serves five.
TOWN_READERS = 4
INSTALLATION_READERS = 2
# Tries of a request whose connection was lost before its COMMIT was sent: the server may have restarted, once.
TRIES_MAX = 2
# Statements that the driver keeps prepared on a connection.
STATEMENTS_KEPT = 256
# Ids taken from a sequence at once, doubled up to this as a request adds more rows.
IDS_MAX = 512

# What the driver raises of its own and the server's accord.
_FAULTS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

Answer = TypeVar("Answer")
Connection = Any  # asyncpg.Connection, whose methods are not typed through


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is: `url` for the driver, `shown` without the password for people."""

    url: str
    shown: str


# Advisory locks, in the order in which they are taken: all of a kind come before those of the next.
_KIND_BITS = 56
_OF_TOWN, _OF_PUPIL, _OF_WORD, _OF_INSTALLATION, _OF_LOG, _OF_MIGRATION = (
    kind << _KIND_BITS for kind in (1, 2, 3, 4, 5, 6)
)
LOG_LOCK, MIGRATION_LOCK = _OF_LOG, _OF_MIGRATION
# The first key is a town's and shared, as are all below the second argument. Without waiting a town's may be missed: the
# others are then taken for nothing, until the transaction ends.
LOCK = f"""
    SELECT key FROM (
        SELECT key, CASE
            WHEN key >= {_OF_PUPIL} THEN pg_advisory_xact_lock(key)::text = ''
            WHEN $2 THEN pg_advisory_xact_lock_shared(key)::text = ''
            ELSE pg_try_advisory_xact_lock_shared(key)
        END AS has_lock FROM unnest($1::bigint[]) AS key
    ) AS locks WHERE NOT has_lock
"""  # noqa: S608 - made of the numbers above


def town_lock(municipality: int) -> int:
    """The key of a municipality's advisory lock."""
    return _OF_TOWN + municipality


def _hashed(kind: int, *words: object) -> int:
    """A lock for words; two that share one by chance wait for each other, and that is all."""
    digest = hashlib.blake2b("\0".join(map(str, words)).encode(), digest_size=_KIND_BITS // 8).digest()
    return kind + int.from_bytes(digest, "big")


async def connect(
    address: Address, settings: Mapping[str, str] = MappingProxyType({}), command_timeout_s: float = COMMAND_TIMEOUT_S
) -> Connection:
    """A connection that writes durably whatever the server's default is. Raises what asyncpg raises."""
    return await asyncpg.connect(
        address.url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        statement_cache_size=STATEMENTS_KEPT,
        max_cached_statement_lifetime=0,
        server_settings={
            "application_name": "pronto-mensa",
            "synchronous_commit": "on",
            "default_transaction_isolation": "read committed",
            "lock_timeout": _ms(LOCK_TIMEOUT_S),
            "statement_timeout": _ms(STATEMENT_TIMEOUT_S),
            "idle_in_transaction_session_timeout": _ms(IDLE_IN_TRANSACTION_TIMEOUT_S),
            "tcp_keepalives_idle": str(KEEPALIVE_S),
            "tcp_keepalives_interval": str(KEEPALIVE_S),
            "tcp_keepalives_count": str(KEEPALIVES),
            # Compiling a statement takes longer than any of ours.
            "jit": "off",
            # A plan made while a table was empty would read all of it once it is full.
            "enable_seqscan": "off",
            **settings,
        },
    )


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, or there was none."""
    kinds = (
        OSError,
        asyncpg.InterfaceError,
        # What the driver says when the server has ended the connection and it has not seen that yet.
        asyncpg.InternalClientError,
        asyncpg.PostgresConnectionError,
        asyncpg.OperatorInterventionError,
        asyncpg.TooManyConnectionsError,
    )
    return isinstance(error, kinds) and not isinstance(error, TimeoutError | asyncpg.QueryCanceledError)


class _Connections:
    """As many connections as may be open at once, made when they are first needed and again when they were lost."""

    def __init__(self, most: int, open_one: Callable[[], Awaitable[Connection]]) -> None:
        self._most = most
        self._open_one = open_one
        self._free: asyncio.LifoQueue[Connection | None] = asyncio.LifoQueue()
        for _ in range(most):
            self._free.put_nowait(None)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Connection]:
        """A connection, no transaction begun; one that is left within a transaction is thrown away, which rolls it back."""
        connection = await self._free.get()
        try:
            if connection is None or connection.is_closed():
                connection = None
                connection = await self._open_one()
            yield connection
        except BaseException as error:
            # What was left in the middle may still be run, or nobody hears any more and nothing says so.
            if connection is not None and (is_lost(error) or isinstance(error, TimeoutError | asyncio.CancelledError)):
                connection.terminate()
            raise
        finally:
            if connection is not None and (connection.is_closed() or connection.is_in_transaction()):
                connection.terminate()
                connection = None
            self._free.put_nowait(connection)

    async def close(self) -> None:
        """Close each connection once it is free."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                for _ in range(self._most):
                    connection = await self._free.get()
                    if connection is not None:
                        with suppress(Exception):
                            await connection.close()


class Transaction:
    """A transaction that one request has to itself: Core statements, run through the driver.

    The request is an ordinary function, run in a greenlet that waits here for the server while the loop goes on.
    """

    def __init__(self, connection: Connection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements
        self._pending = Pending()
        self._ids: dict[str, list[int]] = {}
        # What a savepoint was left with: the request has the transaction to itself, so all of it is to be taken back.
        self.failed: BaseException | None = None

    def rows(self, statement: Select[Any], values: Mapping[str, object]) -> list[list[Any]]:
        """What a SELECT finds, each value as its column's type has it in Python."""
        self.send()
        prepared = self._statements.one(statement, values)
        found = await_only(self._connection.fetch(prepared.sql, *prepared.bind(values)))
        return [prepared.result(row) for row in found]

    def run(self, statement: Insert | Update | Delete, values: Mapping[str, object]) -> int:
        """Run an INSERT, UPDATE or DELETE; the id of the row that an INSERT has added."""
        if not isinstance(statement, Insert):
            self._pending.run(statement, values)
            return 0
        table = statement.table
        if "id" not in table.c or "id" in values:
            self._pending.insert(table, values)  # type: ignore[arg-type]  # an INSERT's table is a table
            return 0
        id_ = self._next_id(table.name)
        self._pending.insert(table, {**values, "id": id_})  # type: ignore[arg-type]  # an INSERT's table is a table
        return id_

    def add(self, statement: Insert, values: Mapping[str, object]) -> None:
        """Run an INSERT whose row's id nobody asks for."""
        self._pending.insert(statement.table, values)  # type: ignore[arg-type]  # an INSERT's table is a table

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """All of what is written inside, or, where it raises, nothing of the request."""
        try:
            yield
        except BaseException as error:
            self.failed = error
            raise

    def send(self) -> None:
        """Let the server do what was written."""
        if self._pending:
            await_only(_send(self._connection, self._pending, self._statements))
            self._pending.clear()

    def _next_id(self, table: str) -> int:
        ids = self._ids.setdefault(table, [])
        if not ids:
            # Taken while the request has its locks, so ids grow in the order in which requests are kept.
            taken = self._ids.setdefault(f"{table} taken", [0])
            taken[0] = min(taken[0] * 2 or 1, IDS_MAX)
            found = await_only(self._connection.fetch(NEXT_IDS, f"{table}_id_seq", taken[0]))
            ids += [id_ for (id_,) in reversed(found)]
        return ids.pop()


NEXT_IDS = "SELECT nextval($1::text::regclass) FROM generate_series(1, $2::bigint)"


async def _send(connection: Connection, pending: Pending, statements: Statements) -> None:
    for sql, arguments, is_many in pending.to_send(statements):
        if is_many:
            await connection.executemany(sql, arguments)
        else:
            await connection.execute(sql, *arguments)


class _UnforeseenError(Exception):
    """A request in a group has asked for what it had not named; it is run alone."""


class _GroupTransaction:
    """A group's transaction as one of its requests sees it: what was read for it, and what it writes."""

    def __init__(self, found: Mapping[object, list[list[Any]]]) -> None:
        self._found = found
        self.pending = Pending()

    def rows(self, statement: Select[Any], values: Mapping[str, object]) -> list[list[Any]]:
        key = _asked(statement, values)
        if self.pending or key not in self._found:
            raise _UnforeseenError
        return self._found[key]

    def run(self, statement: Insert | Update | Delete, values: Mapping[str, object]) -> int:
        raise _UnforeseenError

    def add(self, statement: Insert, values: Mapping[str, object]) -> None:
        self.pending.insert(statement.table, values)  # type: ignore[arg-type]  # an INSERT's table is a table

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        # What it writes goes to the server with the group's, and only once the request has ended well.
        yield


def _asked(statement: Select[Any], values: Mapping[str, object]) -> object:
    return statement, tuple(values.values())


class _Request(Generic[Answer]):
    """A request on its way. `future` is its answer for whoever sent it; once it `has_ended` nothing more is done for it."""

    __slots__ = (
        "claim", "deadline", "future", "has_ended", "keys", "lane", "municipality", "queue", "reach", "work", "work_in"
    )  # fmt: skip

    def __init__(self, lane: Lane, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        self.lane = lane
        # By when it has to be taken, in the loop's time.
        self.deadline = deadline
        self.future: asyncio.Future[Answer] = loop.create_future()
        # Whoever asked may have gone; then nobody looks at a fault, and asyncio need not complain about that.
        self.future.add_done_callback(_look)
        self.has_ended = False
        self.queue: deque[_Request[Any]] | None = None
        # The locks that it needs beside its town's; no two requests of this process with one of them are taken at once.
        self.keys: frozenset[int] = frozenset()
        self.municipality: int | None = None
        self.reach: Reach | None = None
        self.claim: Callable[[AnyTransaction], int] | None = None
        self.work: Callable[[AnyTransaction], Answer] | None = None
        self.work_in: Callable[[AnyTransaction, int], Answer] | None = None

    def settle_in(self, municipality: int, reach: Reach) -> None:
        """Say in which municipality it is to be run, and what it needs there."""
        self.municipality, self.reach = municipality, reach
        if reach.is_whole:
            self.keys = frozenset([_OF_TOWN + municipality])
        else:
            pupils = (_OF_PUPIL + pupil for pupil in reach.pupils)
            self.keys = frozenset([*pupils, *(_hashed(_OF_WORD, municipality, word) for word in reach.words)])

    def run(self, transaction: AnyTransaction) -> Answer:
        if self.work_in is not None and self.municipality is not None:
            return self.work_in(transaction, self.municipality)
        assert self.work is not None
        return self.work(transaction)

    def end(self, answer: Answer | None = None, fault: BaseException | None = None) -> None:
        if not self.future.done():
            if fault is not None:
                self.future.set_exception(fault)
            else:
                self.future.set_result(answer)  # type: ignore[arg-type]  # None only where that is the answer's type
        self.has_ended = True


def _look(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


class _LostError(Exception):
    """The connection was lost before COMMIT was sent; the cause says how. Nothing was kept."""


class _CommitFaultError(StoreFaultError):
    """COMMIT itself was answered with an error: what it was for is not sent again."""


class PostgresWriter:
    """What one gateway writes, on connections of its own. It belongs to the loop that it was made in."""

    def __init__(
        self, address: Address, lock_timeout_s: float = LOCK_TIMEOUT_S, take_timeout_s: float = TAKE_TIMEOUT_S
    ) -> None:
        self._where = address.shown
        self._lock_timeout_s = lock_timeout_s
        self._take_timeout_s = take_timeout_s
        self._statements = Statements()
        self._connections = _Connections(
            GROUPS + HELD_GROUPS + ALONE + LOGS, lambda: connect(address, {"lock_timeout": _ms(lock_timeout_s)})
        )
        self._shared: deque[_Request[Any]] = deque()
        self._held: deque[_Request[Any]] = deque()
        self._alone: deque[_Request[Any]] = deque()
        self._log: deque[_Request[Any]] = deque()
        # Where requests wait, how many of its transactions run at once, and how each is run.
        self._running = {id(queue): 0 for queue in (self._shared, self._held, self._alone, self._log)}
        self._busy: set[int] = set()
        # The municipalities that a transaction waits for.
        self._waited_for: set[int | None] = set()
        self._accepted: set[_Request[Any]] = set()
        # Who waits until some of these have ended.
        self._settling: list[tuple[set[_Request[Any]], asyncio.Future[None]]] = []
        # Requests in the order of their deadlines, which is the order in which they came.
        self._by_deadline: deque[_Request[Any]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_starting = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closing = False

    async def write(
        self, work: Callable[[AnyTransaction], Answer], lane: Lane = Lane.CHANGE, alone: str = "installation"
    ) -> Answer:
        """A request of the installation; two of the same `alone` run one after the other. Raises `StoreError`."""
        request: _Request[Answer] = self._request(lane)
        request.work = work
        request.keys = frozenset([LOG_LOCK if lane is Lane.LOG else _hashed(_OF_INSTALLATION, alone)])
        return await self._accept(request, self._log if lane is Lane.LOG else self._alone)

    async def write_in(
        self,
        known: int | None,
        claim: Callable[[AnyTransaction], int],
        work: Callable[[AnyTransaction, int], Answer],
        reach: Reach,
    ) -> tuple[int, Answer]:
        """A request of the `known` municipality, or of that which `claim` finds or makes; that id, and the answer."""
        request: _Request[Answer] = self._request(Lane.CHANGE)
        request.work_in = work
        if known is None:
            request.claim, request.reach = claim, reach
            request.keys = frozenset([_hashed(_OF_INSTALLATION, "municipalities")])
            queue = self._alone
        else:
            request.settle_in(known, reach)
            queue = self._alone if reach.is_whole else self._shared
        answer = await self._accept(request, queue)
        assert request.municipality is not None
        return request.municipality, answer

    async def settle(self) -> None:
        """Wait until every request taken before has been kept or has failed; each ends by its own time-outs."""
        if self._accepted:
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._settling.append((set(self._accepted), settled))
            await settled

    async def close(self) -> None:
        """Run what was accepted, and close the connections. Raises `StoreBusyError` when that takes too long."""
        if self._is_closing:
            return
        self._is_closing = True
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.settle()
        except TimeoutError as error:
            raise StoreBusyError(
                f"{self._where}: the writer did not finish within {CLOSE_TIMEOUT_S} s; requests without an answer may be lost"
            ) from error
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._connections.close()

    # How requests come and go.

    def _request(self, lane: Lane) -> _Request[Any]:
        loop = asyncio.get_running_loop()
        return _Request(lane, loop, loop.time() + self._take_timeout_s)

    async def _accept(self, request: _Request[Answer], queue: deque[_Request[Any]]) -> Answer:
        if self._is_closing:
            raise StoreClosedError(
                f"{self._where}: the store is closed; the request was not taken and nothing of it kept"
            )
        lane = request.lane
        waiting = len(self._log) if lane is Lane.LOG else len(self._shared) + len(self._held) + len(self._alone)
        if waiting >= WAITING_MAX[lane]:
            raise StoreBusyError(
                f"{self._where}: {waiting} requests ({lane.value}) already wait to be written, "
                "which is as many as may; nothing of this one was kept, it can be sent again"
            )
        self._accepted.add(request)
        self._by_deadline.append(request)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(request.deadline, self._expire)
        self._enqueue(request, queue)
        # Cancelling whoever waits here cancels the future, of which whoever runs the request knows nothing.
        return await request.future

    def _enqueue(self, request: _Request[Any], queue: deque[_Request[Any]]) -> None:
        request.queue = queue
        queue.append(request)
        self._start_soon()

    def _end(self, request: _Request[Any], answer: Any = None, fault: BaseException | None = None) -> None:
        """Answer a request, for which nothing more is done."""
        if request.has_ended:
            return
        request.end(answer, fault)
        self._accepted.discard(request)
        for awaited, settled in self._settling:
            awaited.discard(request)
            if not awaited and not settled.done():
                settled.set_result(None)
        if self._settling:
            self._settling = [each for each in self._settling if not each[1].done()]

    def _expire(self) -> None:
        """Withdraw what was not taken in time; what was taken gets its answer or, late, a doubt."""
        loop = asyncio.get_running_loop()
        while self._by_deadline:
            request = self._by_deadline[0]
            if not request.has_ended and request.deadline > loop.time():
                self._timer = loop.call_at(request.deadline, self._expire)
                return
            self._by_deadline.popleft()
            if request.has_ended:
                continue
            if request.queue is None:
                loop.call_later(ANSWER_TIMEOUT_S, self._doubt, request)
                continue
            request.queue.remove(request)
            request.queue = None
            self._end(
                request,
                fault=StoreBusyError(
                    f"{self._where}: the request waited {self._take_timeout_s} s to be written; "
                    "nothing of it was kept, it can be sent again"
                ),
            )
        self._timer = None

    def _doubt(self, request: _Request[Any]) -> None:
        if not request.future.done():
            request.future.set_exception(
                StoreUnsureError(
                    f"{self._where}: the server has not confirmed the request within {ANSWER_TIMEOUT_S} s; "
                    "it may or may not be kept, and only reading tells"
                )
            )

    def _start_soon(self) -> None:
        """Start when the loop comes round again: callers who are answered together come back together."""
        if not self._is_starting:
            self._is_starting = True
            asyncio.get_running_loop().call_soon(self._start)

    def _start(self) -> None:
        """Begin as many transactions as may run and find something to do."""
        self._is_starting = False
        self._start_some(self._shared, GROUPS, GROUP_MAX, lambda group: self._run_group(group, is_patient=False))
        self._start_some(self._held, HELD_GROUPS, GROUP_MAX, lambda group: self._run_group(group, is_patient=True))
        self._start_some(self._alone, ALONE, 1, self._run_alone)
        self._start_some(self._log, LOGS, 1, self._run_alone)

    def _start_some(
        self,
        queue: deque[_Request[Any]],
        most: int,
        group_max: int,
        run: Callable[[list[_Request[Any]]], Awaitable[None]],
    ) -> None:
        while queue and self._running[id(queue)] < most:
            # Shared out among the transactions that may run: one of them is decided while another is synced. Those that wait
            # for a town go together.
            fair = group_max if queue is self._held else -(-len(queue) // (most - self._running[id(queue)]))
            group = self._take(queue, min(fair, group_max))
            if not group:
                return
            self._running[id(queue)] += 1
            task = asyncio.create_task(self._see_through(queue, group, run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _take(self, queue: deque[_Request[Any]], most: int) -> list[_Request[Any]]:
        """The first requests of which none has to wait for another; those that do keep their place."""
        group: list[_Request[Any]] = []
        passed: list[_Request[Any]] = []
        waited_for = set(self._busy)
        towns_held = {request.municipality for request in self._held} if queue is self._shared else set()
        while queue and len(group) < most:
            request = queue.popleft()
            if request.municipality in towns_held:
                # Behind those of its town that wait for somebody else.
                self._held.append(request)
                request.queue = self._held
                continue
            # A transaction waits for one town, and no two for the same.
            is_elsewhere = queue is self._held and (
                request.municipality != group[0].municipality if group else request.municipality in self._waited_for
            )
            if is_elsewhere or not waited_for.isdisjoint(request.keys):
                passed.append(request)
            else:
                group.append(request)
                request.queue = None
            waited_for |= request.keys
        queue.extendleft(reversed(passed))
        for request in group:
            self._busy |= request.keys
        if queue is self._held:
            self._waited_for |= {request.municipality for request in group}
        return group

    async def _see_through(
        self,
        queue: deque[_Request[Any]],
        group: list[_Request[Any]],
        run: Callable[[list[_Request[Any]]], Awaitable[None]],
    ) -> None:
        taken = [key for request in group for key in request.keys]
        try:
            await run(group)
        except BaseException as error:
            fault = error if isinstance(error, Exception) else self._cut_off()
            for request in group:
                if request.queue is None:
                    self._end(request, fault=fault)
            if not isinstance(error, Exception):
                raise
        finally:
            self._busy.difference_update(taken)
            if queue is self._held:
                self._waited_for.difference_update(request.municipality for request in group)
            self._running[id(queue)] -= 1
            self._start_soon()

    def _cut_off(self) -> StoreUnsureError:
        return StoreUnsureError(
            f"{self._where}: the store was closed before the request ended; it may or may not be kept, and only reading tells"
        )

    # How they are run.

    async def _run_group(self, group: list[_Request[Any]], *, is_patient: bool) -> None:
        """Run requests that need nothing in common in one transaction; what fails it is then found one by one."""
        try:
            await self._again_if_lost(lambda: self._commit_group(group, is_patient))
        except Exception as error:
            left = [request for request in group if not request.has_ended and request.queue is None]
            is_somebodys = isinstance(error, StoreConflictError | StoreFaultError)
            if len(left) > 1 and is_somebodys and not isinstance(error, _CommitFaultError):
                for request in left:
                    await self._run_group([request], is_patient=True)
                return
            for request in left:
                self._end(request, fault=error)

    async def _commit_group(self, group: Sequence[_Request[Any]], is_patient: bool) -> None:
        waiting = [request for request in group if not request.has_ended]
        towns = sorted({request.municipality for request in waiting if request.municipality is not None})
        async with self._transaction(towns) as (connection, commit):
            keys = sorted({key for request in waiting for key in request.keys})
            locks = [*(_OF_TOWN + town for town in towns), *keys]
            missed = {key - _OF_TOWN for (key,) in await connection.fetch(LOCK, locks, is_patient)}
            held = [request for request in waiting if request.municipality in missed]
            waiting = [request for request in waiting if request.municipality not in missed]
            found = await self._read_ahead(connection, waiting)
            pending = Pending()
            answered: list[tuple[_Request[Any], Any]] = []
            unforeseen: list[_Request[Any]] = []
            for request in waiting:
                own = _GroupTransaction(found)
                try:
                    answer = request.run(own)
                except _UnforeseenError:
                    unforeseen.append(request)
                except Exception as error:
                    self._end(request, fault=error)
                else:
                    pending.take(own.pending)
                    answered.append((request, answer))
            await _send(connection, pending, self._statements)
            await commit()
        for request, answer in answered:
            self._end(request, answer)
        for request in held:
            request.queue = self._held
            self._held.append(request)
        for request in unforeseen:
            await self._run_alone([request])

    async def _read_ahead(
        self, connection: Connection, group: Sequence[_Request[Any]]
    ) -> Mapping[object, list[list[Any]]]:
        """What the requests of a group say they will ask, in one statement for each of its kinds."""
        asked: dict[Select[Any], dict[object, Mapping[str, object]]] = {}
        for request in group:
            if request.reach is not None and request.municipality is not None:
                for statement, values in request.reach.asks(request.municipality):
                    asked.setdefault(statement, {})[_asked(statement, values)] = values
        found: dict[object, list[list[Any]]] = {}
        for statement, by_key in asked.items():
            all_values = list(by_key.values())
            prepared = self._statements.for_many(statement, all_values[0])
            rows = await connection.fetch(prepared.sql, *prepared.bind(all_values))
            found.update(zip(by_key, prepared.result(rows, len(all_values)), strict=True))
        return found

    async def _run_alone(self, group: Sequence[_Request[Any]]) -> None:
        [request] = group
        try:
            if request.municipality is None and request.claim is not None and request.reach is not None:
                claim, reach = request.claim, request.reach
                municipality = await self._again_if_lost(lambda: self._commit_alone((), request.keys, claim))
                request.settle_in(municipality, reach)
                self._enqueue(request, self._alone if reach.is_whole else self._shared)
                return
            towns = () if request.municipality is None else (request.municipality,)
            answer = await self._again_if_lost(lambda: self._commit_alone(towns, request.keys, request.run))
        except Exception as error:
            self._end(request, fault=error)
        else:
            self._end(request, answer)

    async def _commit_alone(
        self, towns: Collection[int], keys: Collection[int], work: Callable[[AnyTransaction], Answer]
    ) -> Answer:
        # A town that is not among the keys is shared.
        locks = (
            f"SELECT pg_advisory_xact_lock{'' if key in keys else '_shared'}({key})"
            for key in sorted({*keys, *(_OF_TOWN + town for town in towns)})
        )
        async with self._transaction(towns) as (connection, commit):
            await connection.execute("; ".join(locks))
            transaction = Transaction(connection, self._statements)

            def run() -> Answer:
                answer = work(transaction)
                transaction.send()
                return answer

            answer: Answer = await greenlet_spawn(run)
            if transaction.failed is not None:
                raise transaction.failed
            await commit()
        return answer

    @asynccontextmanager
    async def _transaction(
        self, towns: Collection[int]
    ) -> AsyncIterator[tuple[Connection, Callable[[], Awaitable[None]]]]:
        """A transaction, of these municipalities or, without any, of the installation; rolled back unless `commit` is awaited.

        Raises `StoreError` for what the database says against it, and lets through what else is raised inside.
        """
        is_committing = False
        try:
            async with self._connections.one() as connection:

                async def commit() -> None:
                    nonlocal is_committing
                    is_committing = True
                    said = await connection.execute("COMMIT")
                    if said != "COMMIT":
                        raise _CommitFaultError(
                            f"{self._where}: COMMIT was answered {said}; nothing of the request was kept"
                        )

                fence = f"; SET LOCAL ROLE {ROLE}; SET LOCAL {TOWNS} = '{','.join(map(str, towns))}'" if towns else ""
                await connection.execute(f"BEGIN{fence}")
                try:
                    yield connection, commit
                except BaseException as error:
                    is_answered = not isinstance(error, TimeoutError | asyncio.CancelledError)
                    if is_answered and connection.is_in_transaction() and not is_committing:
                        with suppress(Exception):
                            await connection.execute("ROLLBACK")
                    raise
        except _FAULTS as error:
            raise self._fault(error, is_committing) from error

    async def _again_if_lost(self, run: Callable[[], Awaitable[Answer]]) -> Answer:
        for _ in range(1, TRIES_MAX):
            with suppress(_LostError):
                return await run()
        try:
            return await run()
        except _LostError as error:
            raise StoreBusyError(
                f"{self._where}: the server cannot be reached ({_said(error.__cause__)}); "
                "nothing of the request was kept, it can be sent again"
            ) from error.__cause__

    def _fault(self, error: BaseException, is_committing: bool) -> Exception:
        said = _said(error)
        if is_lost(error) or (is_committing and isinstance(error, TimeoutError)):
            if not is_committing:
                return _LostError()
            return StoreUnsureError(
                f"{self._where}: the connection was lost while the request was committed ({said}); "
                "it may or may not be kept, and only reading tells"
            )
        if isinstance(error, asyncpg.LockNotAvailableError):
            return StoreBusyError(
                f"{self._where}: another gateway or command has held what the request needs for {self._lock_timeout_s} s; "
                "nothing of the request was kept, it can be sent again"
            )
        if isinstance(error, TimeoutError | asyncpg.QueryCanceledError) and not is_committing:
            return StoreBusyError(
                f"{self._where}: the server took longer than {STATEMENT_TIMEOUT_S} s for a statement; "
                "nothing of the request was kept, it can be sent again"
            )
        if isinstance(error, asyncpg.IntegrityConstraintViolationError):
            return StoreConflictError(
                f"{self._where}: the request contradicts what is kept ({said}); nothing of it was kept"
            )
        if is_committing:
            return _CommitFaultError(
                f"{self._where}: the request's commit failed ({said}); it does not count as kept, and only reading tells"
            )
        return StoreFaultError(
            f"{self._where}: the database failed under the request ({said}); nothing of the request was kept"
        )


def _said(error: BaseException | None) -> str:
    """What an error says, on one line; an operating system's may say nothing."""
    if isinstance(error, asyncpg.DataError):
        # It shows the value, which may be a person's.
        return type(error).__name__
    return " ".join(str(error).split()) or type(error).__name__


class PostgresReaders:
    """Connections that can only read: some as ROLE, each showing one municipality at a time, some as the owner."""

    def __init__(self, address: Address) -> None:
        self._where = address.shown
        self._statements = Statements()
        settings = {"default_transaction_read_only": "on", "statement_timeout": _ms(READ_TIMEOUT_S)}
        self._installation = _Connections(INSTALLATION_READERS, lambda: connect(address, settings))
        self._town = _Connections(TOWN_READERS, lambda: connect(address, {"role": ROLE, **settings}))
        # Which municipality each connection shows.
        self._shown: WeakKeyDictionary[Connection, int] = WeakKeyDictionary()
        self._is_closed = False

    async def rows(
        self, asked: Sequence[tuple[Statement, Mapping[str, object]]], within: int | None = None
    ) -> list[list[list[Any]]]:
        """What each statement finds, all of one moment: in one municipality, where one is given.

        Raises `StoreBusyError`, `StoreClosedError`, `StoreFaultError`.
        """
        if self._is_closed:
            raise StoreClosedError(f"{self._where}: the store is closed; nothing was read")
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                try:
                    return await self._rows(asked, within)
                except Exception as error:
                    # The server may have restarted since the connection was used last.
                    if not is_lost(error):
                        raise
                return await self._rows(asked, within)
        except (TimeoutError, asyncpg.QueryCanceledError) as error:
            raise StoreBusyError(
                f"{self._where}: reading took longer than {READ_TIMEOUT_S} s; nothing was read, it can be asked again"
            ) from error
        except _FAULTS as error:
            raise StoreFaultError(f"{self._where}: the database could not be read ({_said(error)})") from error

    async def _rows(
        self, asked: Sequence[tuple[Statement, Mapping[str, object]]], within: int | None
    ) -> list[list[list[Any]]]:
        found: list[list[list[Any]]] = []
        async with (self._installation if within is None else self._town).one() as connection:
            if within is not None and self._shown.get(connection) != within:
                self._shown.pop(connection, None)
                await connection.execute(f"SET {TOWNS} = '{int(within)}'")
                self._shown[connection] = within
            if len(asked) > 1:
                await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            for statement, values in asked:
                prepared = self._statements.one(statement, values)
                rows = await connection.fetch(prepared.sql, *prepared.bind(values))
                found.append([prepared.result(row) for row in rows])
            if len(asked) > 1:
                await connection.execute("COMMIT")
        return found

    async def close(self) -> None:
        """Close each connection once it is free; a second time there is nothing left to do."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._installation.close()
        await self._town.close()
