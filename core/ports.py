"""What the desks need from the world. `gateway` fills these; the fakes of the tests pass the same contract suite."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol, TypeVar

from core.changes import History, NewChange
from core.clock import Reading
from core.people import Family, GuardianId, Pupil, PupilId, UserCode
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


class PinHasher(Protocol):
    def digest(self, text: str) -> str:
        """A keyed digest of a code, a PIN or a number: equal texts have equal digests, and the key is outside the database."""


class NothingStoredError(Exception):
    """A fault of the store after which nothing of the request is kept, nor will be: it can be sent again."""


Answer = TypeVar("Answer")


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

    async def transact(
        self,
        pupils: Sequence[PupilId],
        decide: Callable[[Mapping[PupilId, History]], tuple[Entries, Answer]],
    ) -> Answer: ...

    async def transact_attempt(
        self,
        code_digest: str,
        caller_digest: str | None,
        decide: Callable[[Attempts], tuple[WrongAnswer | None, Answer]],
        since: datetime,
        caller_since: datetime,
    ) -> Answer: ...
