"""Every answer a desk can give. The words stand in logs, metrics, the database and JSON; never rename one."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import ClassVar

from core.changes import NewChange


@dataclass(frozen=True, slots=True)
class Cancelled:
    word: ClassVar[str] = "cancelled"
    change: NewChange


@dataclass(frozen=True, slots=True)
class AlreadyCancelled:
    """The day was cancelled before; `change` is the one that did it, its receipt the first one (R12)."""

    word: ClassVar[str] = "already_cancelled"
    change: NewChange


@dataclass(frozen=True, slots=True)
class BlandMeal:
    word: ClassVar[str] = "bland"
    change: NewChange


@dataclass(frozen=True, slots=True)
class AlreadyBland:
    word: ClassVar[str] = "already_bland"
    change: NewChange


@dataclass(frozen=True, slots=True)
class Suspended:
    word: ClassVar[str] = "suspended"
    change: NewChange


@dataclass(frozen=True, slots=True)
class AlreadySuspended:
    word: ClassVar[str] = "already_suspended"


@dataclass(frozen=True, slots=True)
class Resumed:
    word: ClassVar[str] = "resumed"
    change: NewChange


@dataclass(frozen=True, slots=True)
class NotSuspended:
    word: ClassVar[str] = "not_suspended"


@dataclass(frozen=True, slots=True)
class Undone:
    """`taken_back` is what no longer counts; `change` is the undo itself, whose receipt is given."""

    word: ClassVar[str] = "undone"
    change: NewChange
    taken_back: NewChange


@dataclass(frozen=True, slots=True)
class NothingToUndo:
    word: ClassVar[str] = "nothing_to_undo"


@dataclass(frozen=True, slots=True)
class TooLate:
    """The cutoff of `day`, at `cutoff` (UTC), has passed."""

    word: ClassVar[str] = "too_late"
    day: date
    cutoff: datetime


@dataclass(frozen=True, slots=True)
class OutsideWindow:
    """The channel takes no changes now; it does again at `opens_at` (UTC)."""

    word: ClassVar[str] = "outside_window"
    opens_at: datetime


@dataclass(frozen=True, slots=True)
class NoService:
    """Nothing is served then; `next_day` is the first useful day after, None when the school year has none left."""

    word: ClassVar[str] = "no_service"
    next_day: date | None


@dataclass(frozen=True, slots=True)
class SuspendedDay:
    word: ClassVar[str] = "suspended_day"
    day: date


@dataclass(frozen=True, slots=True)
class CancelledDay:
    word: ClassVar[str] = "cancelled_day"
    day: date


@dataclass(frozen=True, slots=True)
class TooFar:
    """`last` is the last date that can be changed now (R30)."""

    word: ClassVar[str] = "too_far"
    last: date


@dataclass(frozen=True, slots=True)
class BlandLimit:
    """`days` bland meals in a row are all that is given without the office (R30)."""

    word: ClassVar[str] = "bland_limit"
    days: int


Accepted = Cancelled | BlandMeal | Suspended | Resumed | Undone
# What holds already: nothing was changed, and nothing was refused either.
Unchanged = AlreadyCancelled | AlreadyBland | AlreadySuspended | NotSuspended | NothingToUndo
Refused = TooLate | OutsideWindow | NoService | SuspendedDay | CancelledDay | TooFar | BlandLimit
Outcome = Accepted | Unchanged | Refused

# How a call can end that reached no action, beside `outside_window`.
NOT_IDENTIFIED, LOCKED, ABANDONED, INFORMED, FAILED = "not_identified", "locked", "abandoned", "informed", "failed"
