"""The kitchen's desk: the count so far, and the day closing that makes it final once, with the order that tells it (R25)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from core.calendar import ONE_DAY, ServiceCalendar, dates
from core.clock import Reading
from core.desk import Town
from core.headcount import Closing, Headcount, Roll, count_meals, digest_of
from core.ports import Closings, ClosingState, MessageKind, NewMessage, TownStore

# A gateway that was down for longer than a school year's longest break has no kitchen left that waits for an order.
DAYS_BACK_MAX = 31


@dataclass(frozen=True, slots=True, order=True)
class Due:
    """Schools whose cutoff on one day is the same instant (UTC), and whose closing is to be made."""

    cutoff: datetime
    day: date = field(compare=False)
    schools: tuple[str, ...] = field(compare=False)


def due_closings(
    calendar: ServiceCalendar, since: datetime, closed_through: Mapping[str, date], at: Reading
) -> tuple[Due, ...]:
    """The closings to be made at `at`, oldest first.

    A school's day is due when its cutoff has surely passed and lies after `since` (UTC), when the town came into service, and
    neither it nor a later day of the school is closed: what an edit opens before that gets no order. To be made in this order.
    """
    today = calendar.local(at.earliest).date()
    found: dict[tuple[datetime, date], list[str]] = {}
    for school in sorted(calendar.schools):
        after = closed_through.get(school, date.min)
        first = max(min(after, today) + ONE_DAY, calendar.local(since).date(), today - DAYS_BACK_MAX * ONE_DAY)
        for day in dates(first, today):
            cutoff = calendar.cutoff(school, day)
            if since < cutoff and at.is_past(cutoff) and calendar.serves(school, day):
                found.setdefault((cutoff, day), []).append(school)
    return _in_order(found)


def closings_of(calendar: ServiceCalendar, day: date) -> tuple[Due, ...]:
    """All closings of one day, in their order, whether or not they are due or made."""
    found: dict[tuple[datetime, date], list[str]] = {}
    for school in sorted(calendar.schools):
        if calendar.serves(school, day):
            found.setdefault((calendar.cutoff(school, day), day), []).append(school)
    return _in_order(found)


def _in_order(schools: Mapping[tuple[datetime, date], Sequence[str]]) -> tuple[Due, ...]:
    return tuple(Due(cutoff, day, tuple(schools[cutoff, day])) for cutoff, day in sorted(schools))


def next_cutoff(calendar: ServiceCalendar, at: Reading) -> datetime | None:
    """The next instant (UTC) after which a day may have to be closed; None when the calendar has none left."""
    first = calendar.local(at.earliest).date()
    for day in dates(first, calendar.last_day):
        cutoffs = [
            cutoff
            for school in calendar.schools
            if not at.is_past(cutoff := calendar.cutoff(school, day)) and calendar.serves(school, day)
        ]
        if cutoffs:
            return min(cutoffs)
    return None


class NotDueError(Exception):
    """A day is not to be closed now, whatever was found before: look again at what is due."""


class KitchenDesk:
    """One municipality's counts, for the kitchen, the office and the telephone; `municipality` is its key."""

    def __init__(self, municipality: str, town: Callable[[], Town], store: TownStore) -> None:
        self._municipality = municipality
        self._town = town
        self._store = store

    async def headcount(self, school: str, day: date) -> tuple[Headcount, Closing | None]:
        """What is counted for a school's day: as its closing made it final, or so far."""
        closing = await self._store.closing(school, day)
        if closing is not None:
            return closing.headcount, closing
        town = self._town()
        roll = await self._store.roll(school, day, town.tray_diets)
        return count_meals(town.calendar, town.tray_diets, school, day, roll), None

    async def close(self, due: Due, at: Reading) -> tuple[Closing, ...]:
        """Make final what is due and not closed yet, with one order for all of it (R25); () when somebody else did.

        Raises `NotDueError`; nothing is closed then.
        """
        town = self._town()
        calendar = town.calendar
        if not at.is_past(due.cutoff):
            raise NotDueError(f"{self._municipality} {due.day}: the cutoff {due.cutoff} has not surely passed at {at}")
        for school in due.schools:
            # Closed all the same, the day could not be changed until its new cutoff, or not come back with no meals.
            if calendar.cutoff(school, due.day) != due.cutoff or not calendar.serves(school, due.day):
                raise NotDueError(f"{self._municipality} {due.day}: an edit has moved or taken out the day of {school}")

        def decide(state: ClosingState) -> tuple[Closings, tuple[Closing, ...]]:
            closings = tuple(
                self._closing(
                    count_meals(calendar, town.tray_diets, school, due.day, roll), state.next_order, due.cutoff, at
                )
                for school, roll in sorted(state.rolls.items())
            )
            is_wanted = any(
                _has_pupils(closing.headcount, state.rolls[closing.headcount.school]) for closing in closings
            )
            messages = (order_message(state.next_order, at.midpoint),) if is_wanted else ()
            return Closings(closings, messages), closings

        return await self._store.transact_closing(due.day, due.schools, town.tray_diets, decide)

    def _closing(self, headcount: Headcount, order: int, cutoff: datetime, at: Reading) -> Closing:
        return Closing(headcount, order, cutoff, at, digest_of(self._municipality, headcount, order, cutoff))


def _has_pupils(headcount: Headcount, roll: Roll) -> bool:
    """Whether anybody could eat that day: a kitchen is not told of a school where nobody is enrolled."""
    return any(each.class_group in headcount.class_groups for each in roll.classes)


def order_message(order: int, created: datetime) -> NewMessage:
    """The order itself; sent at least once, and always under its one number."""
    return NewMessage(f"order-{order}", MessageKind.ORDER, {"order": order}, created)
