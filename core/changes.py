"""Changes and their fold to a presence (R12-R19, R32). Nothing is updated or deleted: a correction is another change."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import NewType

from core.clock import Reading
from core.people import GuardianId, PupilId
from core.window import Channel

# Given by the store, in the order in which changes were accepted; that order is the order of the fold.
ChangeId = NewType("ChangeId", int)


class Kind(StrEnum):
    CANCEL = "cancel"
    BLAND = "bland"
    SUSPEND = "suspend"
    RESUME = "resume"
    UNDO = "undo"


class Presence(StrEnum):
    """What a pupil will get on a day."""

    PRESENT = "present"
    BLAND = "bland"
    CANCELLED = "cancelled"
    SUSPENDED = "suspended"
    NO_SERVICE = "no_service"


@dataclass(frozen=True, slots=True)
class NewChange:
    """An accepted change on its way to the store.

    It covers the days from `first` through `last`; `last` is None for a suspension until further notice and for every
    resumption. An undo covers the days of the change it takes back. `request` is the idempotency key (R20), `session` the call,
    chat or session it came from, `review` what R10 says of a doubtful clock near a boundary.
    """

    pupil: PupilId
    kind: Kind
    first: date
    last: date | None
    receipt: str
    request: str
    channel: Channel
    guardian: GuardianId | None
    session: str
    decided: Reading
    review: bool = False
    takes_back: ChangeId | None = None

    def covers(self, day: date) -> bool:
        return self.first <= day and (self.last is None or day <= self.last)


@dataclass(frozen=True, slots=True)
class Change(NewChange):
    """A change that the store has accepted."""

    id: ChangeId = ChangeId(0)


# One pupil's changes in the order in which they were accepted.
History = Sequence[Change]


def standing(history: History) -> tuple[Change, ...]:
    """The changes that count: no undo, and none that an undo took back."""
    taken_back = {change.takes_back for change in history if change.kind is Kind.UNDO}
    return tuple(change for change in history if change.kind is not Kind.UNDO and change.id not in taken_back)


@dataclass(frozen=True, slots=True)
class DayPresence:
    """A presence and the change behind it; None where nobody did anything (R1)."""

    presence: Presence
    change: Change | None = None


def fold(changes: Sequence[Change], day: date) -> DayPresence:
    """What the standing `changes` make of a served `day` (R32): suspended over cancelled over bland over present."""
    suspension: Change | None = None
    under: dict[Kind, Change] = {}
    for change in changes:
        if not change.covers(day):
            continue
        match change.kind:
            case Kind.SUSPEND:
                suspension = change
            case Kind.RESUME:
                suspension = None
            case Kind.CANCEL | Kind.BLAND:
                under.setdefault(change.kind, change)
            case Kind.UNDO:
                raise ValueError("an undo does not stand: fold what standing() returns")
    if suspension is not None:
        return DayPresence(Presence.SUSPENDED, suspension)
    if Kind.CANCEL in under:
        return DayPresence(Presence.CANCELLED, under[Kind.CANCEL])
    if Kind.BLAND in under:
        return DayPresence(Presence.BLAND, under[Kind.BLAND])
    return DayPresence(Presence.PRESENT)
