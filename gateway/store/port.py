"""What a store offers beyond the desks' own port: its towns, the people's file, the call log, settings, and its faults."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import Enum, StrEnum
from typing import Any, Protocol, TypeVar

from sqlalchemy import Delete, Insert, Select, Update

from core.headcount import Closing
from core.people import GuardianId, People, Pupil, PupilId, UserCode
from core.people import NewCook as NewCook
from core.ports import NewMessage, NothingStoredError, PinHasher, Refusal, TownStore

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]

# A page of the call log: large enough to follow a busy evening, small enough for memory.
CALL_EVENTS_PAGE = 500
# Events are stored in batches of at most this many, so that a change which comes meanwhile waits a few milliseconds.
CALL_EVENTS_BATCH = 200
# A page of the outbox, as an operator reads it.
MESSAGES_PAGE = 200


class StoreError(Exception):
    """A fault of the store. The message says where, what is wrong, and what was or was not kept."""


class StoreBusyError(StoreError, NothingStoredError):
    """The store could not take the request in time. Nothing of it was or will be kept; it can be sent again."""


class StoreConflictError(StoreError, NothingStoredError):
    """The request contradicts what is kept (R16, R19, R20), or names a person of another town. Nothing of it was kept."""


class StoreFaultError(StoreError):
    """The database failed under the request. Where it failed in its commit, only reading tells whether it was kept."""


class StoreUnsureError(StoreError):
    """The database has taken the request and not answered in time: only reading tells whether it was kept."""


class StoreClosedError(StoreError, NothingStoredError):
    """The store is closed or closing. Nothing of the request was kept."""


class StoreSetupError(StoreError):
    """The store cannot be used as it stands: its address, its file or its version."""


Statement = Select[Any] | Insert | Update | Delete
Asked = tuple[Select[Any], Mapping[str, object]]


class Transaction(Protocol):
    """A database's transaction as one request sees it: Core statements with their values."""

    def rows(self, statement: Select[Any], values: Mapping[str, object]) -> Sequence[Sequence[Any]]:
        """What a SELECT finds, each value as its column's type has it in Python."""

    def run(self, statement: Insert | Update | Delete, values: Mapping[str, object]) -> int:
        """Run an INSERT, UPDATE or DELETE; the id of the row that an INSERT has added."""

    def add(self, statement: Insert, values: Mapping[str, object]) -> None:
        """Run an INSERT whose row's id nobody asks for, at the latest before anything else is read."""

    def savepoint(self) -> AbstractContextManager[None]:
        """All of what is written inside, or, where it raises, nothing of it."""


class Lane(Enum):
    """Whose turn it is: events of the call log wait until no change does."""

    CHANGE = "change"
    LOG = "log"


def _nothing_asked(_: int) -> Sequence[Asked]:
    return ()


@dataclass(frozen=True, slots=True)
class Reach:
    """What of a municipality a request needs to itself, so that a database with many writers may run others beside it.

    All of it where `is_whole`: no other request of the municipality runs meanwhile. Otherwise the `pupils` and what the
    `words` name; such a request reads what `asks` says, given the municipality's id, and adds rows.
    """

    is_whole: bool = False
    pupils: tuple[PupilId, ...] = ()
    words: tuple[str, ...] = ()
    asks: Callable[[int], Sequence[Asked]] = _nothing_asked


WHOLE_TOWN = Reach(is_whole=True)
# What a request of the installation has to itself where it names nothing smaller.
INSTALLATION = "installation"

Answer = TypeVar("Answer")


class Writer(Protocol):
    """Runs requests, each in a transaction, and answers once that is durable (R18); raises `StoreError`.

    What a request raises is raised to whoever sent it, and fails no other. Cancelling whoever waits cancels nothing: what has
    been accepted is run. A request may be run again when its transaction was lost, so it changes nothing but the database.
    """

    async def write(
        self, work: Callable[[Transaction], Answer], lane: Lane = Lane.CHANGE, alone: str = INSTALLATION
    ) -> Answer:
        """A request of the installation; two of the same `alone` run one after the other."""

    async def write_in(
        self,
        known: int | None,
        claim: Callable[[Transaction], int],
        work: Callable[[Transaction, int], Answer],
        reach: Reach,
    ) -> tuple[int, Answer]:
        """A request of the municipality with the `known` id, or the one that `claim` finds or makes; that id, and the answer."""

    async def settle(self) -> None:
        """Wait until every request taken before has been kept or has failed."""

    async def close(self) -> None:
        """Run what was accepted, then take nothing more. Raises `StoreBusyError` when that takes too long."""


class Readers(Protocol):
    """Run statements beside the writer."""

    async def rows(
        self, asked: Sequence[tuple[Statement, Mapping[str, object]]], within: int | None = None
    ) -> Sequence[Sequence[Sequence[Any]]]:
        """What each statement finds, all of one moment: rows of the municipality `within` alone, where one is given.

        Raises `StoreBusyError`, `StoreClosedError`, `StoreFaultError`.
        """

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class NewCallEvent:
    """Something that happened in a call, on its way to the call log.

    `town` is None where the dialled number is nobody's. `fields` never holds a keyed code, a PIN or a whole number.
    """

    call: str
    at: datetime
    event: str
    town: str | None = None
    number_masked: str | None = None
    number_digest: str | None = None
    fields: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallEventRow(NewCallEvent):
    """An event in the call log; `id` grows in the order of storing."""

    id: int = 0


@dataclass(frozen=True, slots=True)
class CallEventFilter:
    """Which events of the call log are wanted; what is None does not matter, `since` is included."""

    town: str | None = None
    call: str | None = None
    event: str | None = None
    number_digest: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class MadePin:
    """A PIN made for a guardian who had none: for the credentials letter, and nowhere else.

    `index` is the guardian's place in `People.guardians`, where the letter finds the name.
    """

    guardian: GuardianId
    index: int
    pin: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did. `pupils_absent` stand in the store and not in the file; they stay."""

    pupils_added: int
    pupils_updated: int
    pupils_absent: int
    guardians_added: int
    guardians_updated: int
    pins: tuple[MadePin, ...]


class MessageState(StrEnum):
    """Where a message of the outbox stands; a dead one is tried again only when an operator says so."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Message(NewMessage):
    """A message of the outbox. `town` is its municipality's key; `fault` is what the last try met with."""

    id: int
    town: str
    state: MessageState
    tries: int
    due: datetime
    fault: str | None
    sent: datetime | None


@dataclass(frozen=True, slots=True)
class OutboxState:
    """How many messages wait, since when the oldest of them does, and how many died lately."""

    waiting: int
    oldest: datetime | None
    dead: int


@dataclass(frozen=True, slots=True)
class Node:
    """A gateway on this database as it last said of itself.

    Of what was decided before `settled`, nothing is undecided on it; `configuration` is the hash of the towns' files it runs.
    """

    node: str
    seen: datetime
    settled: datetime
    configuration: str
    towns: int


class Town(TownStore, Protocol):
    """One municipality's part of the store: the desks' port, and what its office does."""

    async def all_pupils(self) -> tuple[Pupil, ...]:
        """Every pupil, in the order of their codes."""

    async def class_sizes(self) -> Mapping[tuple[str, str], int]:
        """How many pupils each class group has, by school and name; without any it is left out."""

    async def first_names(self) -> frozenset[str]:
        """The first names of all pupils, each once."""

    async def refusals(self, pupil: PupilId) -> tuple[Refusal, ...]:
        """What was refused for a pupil, oldest first (R26)."""

    async def import_people(self, people: People, hasher: PinHasher, make_pin: Callable[[], str]) -> ImportReport:
        """Take in a people's file: all of it or nothing. See `gateway.store.enrolment` for who is taken for whom."""

    async def import_cooks(
        self, cooks: Sequence[NewCook], hasher: PinHasher, make_pin: Callable[[], str]
    ) -> Mapping[UserCode, str]:
        """Take in the town's cooks, in place of those before; the PINs made, by code.

        Raises `StoreConflictError` for a code that is a pupil's; the people's file may not take a cook's either.
        """

    async def order(self, number: int) -> tuple[Closing, ...]:
        """The closings that one order tells of, in the order of their schools; () when there is none of that number."""

    async def names(self, pupils: Sequence[PupilId]) -> Mapping[PupilId, tuple[str, str]]:
        """Name and surname, for the tray list; of who is erased, nothing."""

    async def add_message(self, message: NewMessage) -> Message:
        """Put a message into the outbox; one of that key that is there already stays as it is, and is given back."""

    async def erase_pupil(self, pupil: PupilId) -> None:
        """Forget a pupil, and each guardian who speaks for nobody else; changes and refusals stay, and name nobody."""


class Store(Protocol):
    """The store of one installation."""

    def at(self, municipality: str) -> Town:
        """The part of one municipality, by its key; it comes into being with its first entry."""

    async def migrate(self) -> None:
        """Bring the database to this version's tables; several may start at once. Raises `StoreSetupError`."""

    async def close(self) -> None:
        """Keep what was accepted, then take nothing more."""

    async def settle(self) -> None:
        """Wait until every request taken before has been kept or has failed (R25)."""

    async def closings_since(self, towns: Sequence[str], at: datetime) -> Mapping[str, datetime]:
        """From when on each town's days are closed: from `at` for a town of which that was not said before."""

    async def closed_through(self) -> Mapping[str, Mapping[str, date]]:
        """The last closed day of each school, by town; one that has had none for two months may be left out."""

    async def beat(self, node: Node) -> tuple[Node, ...]:
        """Say how a gateway is; all of them then, in the order of their names."""

    async def leave(self, node: str) -> None:
        """A gateway that has settled everything goes."""

    async def take_messages(self, now: datetime, until: datetime, limit: int) -> tuple[Message, ...]:
        """Waiting messages that are due, oldest first, each given to nobody else before `until`; a try is counted."""

    async def message_sent(self, message_id: int, at: datetime) -> None: ...

    async def message_failed(self, message_id: int, fault: str, again: datetime | None) -> None:
        """Keep why a try failed, and when the next may be made; None when none is to be: the message is dead.

        A message that is no longer waiting stays as it is.
        """

    async def retry_message(self, message_id: int, at: datetime) -> bool:
        """Let a message that is not sent be tried at once, as if for the first time; False when there is none such."""

    async def messages(
        self, state: MessageState | None = None, *, town: str | None = None, limit: int = MESSAGES_PAGE
    ) -> tuple[Message, ...]:
        """The newest messages of the outbox, newest first; of one town where one is named."""

    async def message(self, message_id: int) -> Message | None: ...

    async def outbox_state(self, dead_since: datetime) -> OutboxState:
        """How the outbox stands; of the dead, those that came into being since then."""

    async def add_call_events(self, events: Sequence[NewCallEvent]) -> None:
        """Add to the call log, in the order given. Changes go first."""

    async def call_events(
        self,
        after_id: int = 0,
        wanted: CallEventFilter | None = None,
        *,
        limit: int = CALL_EVENTS_PAGE,
        newest: bool = False,
    ) -> tuple[CallEventRow, ...]:
        """At most `limit` events stored after `after_id`, oldest first; the last such ones where `newest` is asked for."""

    async def get_setting(self, key: str) -> str | None: ...

    async def set_setting(self, key: str, value: str) -> None: ...

    async def claim_setting(self, key: str, value: str) -> str:
        """Set what is not set yet; in any case what stands then."""
