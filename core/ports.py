"""What the desks need from the world. `gateway` fills these; the fakes of the tests pass the same contract suite."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol, TypeVar

from core.calendar import NONE_CLOSED, ClosedDays
from core.changes import History, NewChange
from core.clock import Reading
from core.headcount import Closing, Roll
from core.people import CookId, Family, GuardianId, Pupil, PupilId, UserCode
from core.window import Channel


class Clock(Protocol):
    def read(self) -> Reading:
        """The time now, without waiting."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was refused, kept for disputes (R26). `outcome` is the refusal's word, `day` the day asked for."""

    pupil: PupilId
    action: str
    day: date | None
    outcome: str
    request: str
    channel: Channel
    guardian: GuardianId | None
    session: str
    decided: Reading


@dataclass(frozen=True, slots=True)
class Entries:
    """What one request adds to the store: all of it or, after a crash, nothing."""

    changes: tuple[NewChange, ...] = ()
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """What the store holds for a request, as its own transaction sees it: histories, oldest first, and closed days."""

    histories: Mapping[PupilId, History]
    closed: ClosedDays = NONE_CLOSED


@dataclass(frozen=True, slots=True)
class Credential:
    """A guardian's PIN as the store keeps it: a keyed digest, never the PIN."""

    guardian: GuardianId
    pin_digest: str


@dataclass(frozen=True, slots=True)
class Attempts:
    """The wrong answers of the last day: those for one code, and how many codes one caller got wrong lately (R28)."""

    for_code: tuple[datetime, ...]
    codes_of_caller: int


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """One wrong code or PIN; `code_digest` because an unknown code may be a mistyped PIN."""

    code_digest: str
    caller_digest: str | None
    at: datetime


class MessageKind(StrEnum):
    """What a message is about, hence who is told and in which words."""

    ORDER = "order"
    ORDER_COPY = "order_copy"


@dataclass(frozen=True, slots=True)
class NewMessage:
    """Something that has to be told, stored with what it tells of. `key` is unique in its municipality: twice is once.

    `about` names what is told, never its words: those are made when it is sent, for whoever is then to be told.
    """

    key: str
    kind: MessageKind
    about: Mapping[str, int | str]
    created: datetime


@dataclass(frozen=True, slots=True)
class ClosingState:
    """What the closing transaction sees: the rolls of the schools that are not closed yet, and the next order's number."""

    rolls: Mapping[str, Roll]
    next_order: int


@dataclass(frozen=True, slots=True)
class Closings:
    """What one closing transaction adds to the store: all of it or nothing."""

    closings: tuple[Closing, ...] = ()
    messages: tuple[NewMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Cook:
    """Who may hear the kitchen's counts by phone (with an own code and PIN): `schools` empty means every school of the town."""

    id: CookId
    code: UserCode
    pin_digest: str
    schools: tuple[str, ...]
    language: str


class PinHasher(Protocol):
    def digest(self, text: str) -> str:
        """A keyed digest of a code, a PIN or a number: equal texts have equal digests, and the key is outside the database."""


class NothingStoredError(Exception):
    """A fault of the store after which nothing of the request is kept, nor will be: it can be sent again."""


Answer = TypeVar("Answer")
NO_SCHOOLS: Mapping[str, date] = MappingProxyType({})


class TownStore(Protocol):
    """The store of one municipality: nothing in it can name another's rows.

    `transact` and `transact_attempt` run the given function inside one serialised write transaction, possibly on another
    thread; it must be pure and quick. When they return, what was added is durable (R18).
    """

    async def pupil(self, code: UserCode) -> Pupil | None: ...

    async def pupils(self, ids: Sequence[PupilId]) -> tuple[Pupil, ...]:
        """In the order of their codes; unknown ids are left out."""

    async def family(self, guardian: GuardianId) -> Family | None: ...

    async def family_by_number(self, number_digest: str) -> Family | None:
        """The one guardian who agreed that calls from this number need no code; None when several gave it (R29)."""

    async def credentials(self, pupil: PupilId) -> tuple[Credential, ...]: ...

    async def histories(self, pupils: Sequence[PupilId]) -> Mapping[PupilId, History]:
        """The changes of each pupil asked for, oldest first; an empty history for who has none."""

    async def closed_days(self, schools: Mapping[str, date]) -> ClosedDays:
        """The closed days of each school from the date given for it on."""

    async def transact(
        self,
        pupils: Sequence[PupilId],
        decide: Callable[[Kept], tuple[Entries, Answer]],
        schools: Mapping[str, date] = NO_SCHOOLS,
    ) -> Answer:
        """Add what `decide` makes of the pupils' histories and the schools' closed days, each from its date on.

        No closing of the municipality comes between what `decide` was shown and what it adds (R25).
        """

    async def roll(self, school: str, day: date, tray_diets: Collection[str]) -> Roll:
        """A school's pupils as the count of `day` needs them, of one moment."""

    async def closing(self, school: str, day: date) -> Closing | None:
        """The closing of a school's day, as it was made."""

    async def transact_closing(
        self,
        day: date,
        schools: Sequence[str],
        tray_diets: Collection[str],
        decide: Callable[[ClosingState], tuple[Closings, Answer]],
    ) -> Answer:
        """As `transact`, for those of `schools` whose `day` is not closed yet; no change of the municipality comes between."""

    async def cook(self, code: UserCode) -> Cook | None: ...

    async def transact_attempt(
        self,
        code_digest: str,
        caller_digest: str | None,
        decide: Callable[[Attempts], tuple[WrongAnswer | None, Answer]],
        since: datetime,
        caller_since: datetime,
    ) -> Answer: ...
