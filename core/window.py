"""When a channel may change which day (R5-R11).

A boundary that opens is judged by the latest end of a reading, one that closes by the earliest: doubt goes to the family.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum

from core.calendar import NONE_CLOSED, ONE_DAY, ClosedDays, ServiceCalendar, opening_instant
from core.clock import Reading


class Channel(StrEnum):
    """Where a request came in; `office` is an operator acting for a parent."""

    PHONE = "phone"
    PORTAL = "portal"
    TELEGRAM = "telegram"
    OFFICE = "office"


@dataclass(frozen=True, slots=True)
class Evening:
    """From `opens` (local time) on one date to the cutoff of the next, every date (R7)."""

    opens: time


@dataclass(frozen=True, slots=True)
class Anytime:
    """Any coming service day at any time, today until its cutoff (R8), `look_ahead_days` ahead at most (R30)."""

    look_ahead_days: int


Window = Evening | Anytime


@dataclass(frozen=True, slots=True)
class Open:
    """The window is open for days from `first` on; `boundaries` are those that a doubtful clock might have misjudged."""

    first: date
    boundaries: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class Shut:
    """The window is shut until `opens_at` (UTC)."""

    opens_at: datetime


def is_closed(calendar: ServiceCalendar, school: str, day: date, at: Reading, closed: ClosedDays = NONE_CLOSED) -> bool:
    """Whether the cutoff of `school` on `day` has surely passed (R5, R10), or its closing exists, whatever an edit says (R24)."""
    return at.is_past(calendar.cutoff(school, day)) or closed.has(school, day)


def judge(
    window: Window, calendar: ServiceCalendar, school: str, at: Reading, closed: ClosedDays = NONE_CLOSED
) -> Open | Shut:
    """Whether `window` is open at `at` for pupils of `school`, and the earliest date it reaches (the D of R7)."""
    today = calendar.local(at.earliest).date()
    match window:
        case Anytime():
            first = today if not is_closed(calendar, school, today, at, closed) else today + ONE_DAY
            # A new date brings a later one within reach (R30).
            midnight = opening_instant(calendar.local(at.latest).date(), time.min, calendar.timezone)
            return Open(first, (calendar.cutoff(school, today), calendar.cutoff(school, first), midnight))
        case Evening(opens):
            day = today
            while day <= calendar.local(at.latest).date() + ONE_DAY:
                opening = opening_instant(day - ONE_DAY, opens, calendar.timezone)
                if at.reaches(opening) and not is_closed(calendar, school, day, at, closed):
                    return Open(day, (opening, calendar.cutoff(school, day)))
                day += ONE_DAY
            return Shut(opening_instant(today, opens, calendar.timezone))


def last_day_ahead(window: Anytime, calendar: ServiceCalendar, at: Reading) -> date:
    """The last date that R30 lets a single day be changed for; a new day opens it, hence the latest end."""
    return calendar.local(at.latest).date() + timedelta(days=window.look_ahead_days)
