"""Invented orders: closings as values, a store that holds them, and a clock moved by hand."""

from datetime import UTC, date, datetime, timedelta

from core.changes import Presence
from core.clock import exactly
from core.desk import Town as Rules
from core.headcount import Closing, Headcount, MealCount, Tray, digest_of
from core.kitchen import order_message
from core.people import PupilId
from core.ports import Closings
from gateway.municipality import Kitchen, Municipality
from gateway.store.port import Message, Store
from tests.towns import town as rules

DAY = date(2026, 11, 24)
CUTOFF = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
KITCHEN = "cucina@example.org"
BORGO = "borgo"
PRESENT, BLAND = Presence.PRESENT, Presence.BLAND


def municipality(
    *,
    key: str = BORGO,
    name: str = "Comune di Borgo",
    email: str | None = KITCHEN,
    kitchen: str = "Centro cottura",
    trays: frozenset[str] = frozenset(),
    town: Rules | None = None,
) -> Municipality:
    these = town or rules()
    return Municipality(
        key=key,
        name=name,
        languages=("it",),
        numbers=(),
        user_code_digits=5,
        pin_digits=4,
        clock_bound_max=timedelta(seconds=2),
        town=Rules(these.calendar, these.windows, these.bland_days_max, trays),
        kitchen=Kitchen(kitchen, email),
    )


def meals(class_group: str, count: int, kind: Presence = PRESENT, diet: str | None = None) -> MealCount:
    return MealCount(class_group, kind, diet, count)


USUAL = (meals("1A", 20), meals("1A", 1, BLAND), meals("1A", 2, diet="C"), meals("3B", 18))


def closing(
    school: str = "primaria",
    *counts: MealCount,
    order: int = 1,
    trays: tuple[Tray, ...] = (),
    late: timedelta = timedelta(seconds=4),
    class_groups: tuple[str, ...] | None = None,
) -> Closing:
    these = counts or USUAL
    groups = class_groups or tuple(sorted({each.class_group for each in these}))
    headcount = Headcount(school, DAY, groups, these, (), trays)
    return Closing(headcount, order, CUTOFF, exactly(CUTOFF + late), digest_of(BORGO, headcount, order, CUTOFF))


def tray(pupil: PupilId, class_group: str = "1A", kind: Presence = PRESENT, diet: str = "C") -> Tray:
    return Tray(pupil, class_group, kind, diet)


async def closed(store: Store, *closings: Closing, town: str = BORGO) -> Message:
    """The order's message, after these closings were kept in one transaction with it."""
    number = closings[0].order
    told = (order_message(number, closings[0].closed.midpoint),)
    schools = [each.headcount.school for each in closings]
    await store.at(town).transact_closing(DAY, schools, (), lambda _: (Closings(closings, told), None))
    [message] = [each for each in await store.messages(town=town) if each.about == {"order": number}]
    return message


class Clock:
    """The installation's time, moved by hand."""

    def __init__(self, at: datetime = CUTOFF + timedelta(seconds=5)) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def move(self, by: timedelta) -> None:
        self.at += by
