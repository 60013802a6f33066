"""A kitchen's order as it is told: the closings that one order number stands for, in the words of the files in force.

It holds counts, kinds and codes of diets. Names stand on the tray list and nowhere else, and are looked up when it is told.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from core.changes import Presence
from core.headcount import EATS, Closing, MealCount, Tray
from core.people import Pupil, PupilId
from gateway.municipality import Municipality
from gateway.store.port import Town

# A closing waits for every gateway to say that nothing is undecided; what takes longer than this was an outage.
LATE_AFTER = timedelta(minutes=10)
# So much of a digest tells two orders apart; more would only make a long line longer.
FINGERPRINT_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class Meals:
    """So many meals of one kind and diet; each meal is counted in one of these only."""

    kind: Presence
    diet: str | None
    count: int


@dataclass(frozen=True, slots=True)
class ClassOrder:
    name: str
    meals: tuple[Meals, ...]

    @property
    def total(self) -> int:
        return sum(each.count for each in self.meals)


@dataclass(frozen=True, slots=True)
class SchoolOrder:
    name: str
    meals: tuple[Meals, ...]
    classes: tuple[ClassOrder, ...]

    @property
    def total(self) -> int:
        return sum(each.count for each in self.meals)


@dataclass(frozen=True, slots=True)
class NamedTray:
    """One line of the tray list; `name` is None for a pupil who was erased since."""

    school: str
    class_group: str
    name: str | None
    kind: Presence
    diet: str


@dataclass(frozen=True, slots=True)
class Order:
    """What a kitchen is told. `cutoff` and `closed` are local times, `copy` the number of a copy, None for the order itself.

    `fingerprint` is the same for the same closings and differs for others, whatever their number.
    """

    town: str
    municipality: str
    kitchen: str | None
    number: int
    copy: int | None
    day: date
    cutoff: datetime
    closed: datetime
    schools: tuple[SchoolOrder, ...]
    meals: tuple[Meals, ...]
    trays: tuple[NamedTray, ...]
    fingerprint: str

    @property
    def total(self) -> int:
        return sum(each.count for each in self.meals)

    @property
    def is_late(self) -> bool:
        return self.closed - self.cutoff > LATE_AFTER


class NoSuchOrderError(LookupError):
    """No closing has this order number."""


async def read_order(municipality: Municipality, store: Town, number: int, copy: int | None = None) -> Order:
    """The order as it is told now. Raises `NoSuchOrderError`."""
    closings = await store.order(number)
    if not closings:
        raise NoSuchOrderError(f"{municipality.key}: there is no order {number}; expected one that a closing has made")
    trays = [
        (closing.headcount.school, tray)
        for closing in closings
        for tray in closing.headcount.trays
        if tray.diet in municipality.town.tray_diets
    ]
    # The list must tell a pupil from every other of the class, not only from those who have a tray.
    pupils = await store.all_pupils() if trays else ()
    return order_of(municipality, closings, trays, pupils, copy)


def order_of(
    municipality: Municipality,
    closings: Sequence[Closing],
    trays: Sequence[tuple[str, Tray]] = (),
    pupils: Iterable[Pupil] = (),
    copy: int | None = None,
) -> Order:
    """The order of closings that have one number; `trays` by school, `pupils` those who still have a name."""
    calendar = municipality.town.calendar
    places = {key: place for place, key in enumerate(calendar.schools)}
    ordered = sorted(closings, key=lambda each: (places.get(each.headcount.school, len(places)), each.headcount.school))
    first = ordered[0]
    digests = "".join(each.digest for each in ordered)
    return Order(
        town=municipality.key,
        municipality=municipality.name,
        kitchen=municipality.kitchen.name if municipality.kitchen else None,
        number=first.order,
        copy=copy,
        day=first.headcount.day,
        cutoff=calendar.local(first.cutoff),
        closed=calendar.local(max(each.closed.midpoint for each in ordered)),
        schools=tuple(_school(_school_name(municipality, each.headcount.school), each) for each in ordered),
        meals=_summed(count for each in ordered for count in each.headcount.counts),
        trays=_named(municipality, trays, tuple(pupils), places),
        fingerprint=hashlib.sha256(digests.encode()).hexdigest()[:FINGERPRINT_CHARACTERS],
    )


def _school_name(municipality: Municipality, key: str) -> str:
    school = municipality.town.calendar.schools.get(key)
    return school.name if school else key


def _school(name: str, closing: Closing) -> SchoolOrder:
    counts = closing.headcount.counts
    return SchoolOrder(
        name,
        _summed(counts),
        tuple(
            ClassOrder(group, _summed(count for count in counts if count.class_group == group))
            for group in closing.headcount.class_groups
        ),
    )


def _summed(counts: Iterable[MealCount]) -> tuple[Meals, ...]:
    """The meals of each kind and diet: first the ordinary ones, then the bland, then diet by diet."""
    meals: Counter[tuple[Presence, str | None]] = Counter()
    for each in counts:
        meals[each.kind, each.diet] += each.meals
    keys = sorted(meals, key=lambda key: (key[1] or "", EATS.index(key[0])))
    return tuple(Meals(*key, meals[key]) for key in keys)


def _named(
    municipality: Municipality,
    trays: Sequence[tuple[str, Tray]],
    pupils: Sequence[Pupil],
    places: Mapping[str, int],
) -> tuple[NamedTray, ...]:
    by_id = {pupil.id: pupil for pupil in pupils}
    in_class: Counter[tuple[str, str, str, str]] = Counter(map(_short, pupils))
    found = []
    for school, tray in trays:
        name = _told(by_id, in_class, tray.pupil)
        line = NamedTray(_school_name(municipality, school), tray.class_group, name, tray.kind, tray.diet)
        found.append(((places.get(school, len(places)), school, tray.class_group, name or "", tray.pupil), line))
    return tuple(line for _, line in sorted(found, key=lambda each: each[0]))


def _short(pupil: Pupil) -> tuple[str, str, str, str]:
    return pupil.school, pupil.class_group, pupil.name.casefold(), pupil.surname[:1].casefold()


def _told(
    by_id: Mapping[PupilId, Pupil], in_class: Mapping[tuple[str, str, str, str], int], id_: PupilId
) -> str | None:
    """Name and initial, or the whole surname where another in the class has the same."""
    pupil = by_id.get(id_)
    if pupil is None:
        return None
    is_alone = in_class[_short(pupil)] == 1
    surname = f"{pupil.surname[:1]}." if is_alone and pupil.surname else pupil.surname
    return f"{pupil.name} {surname}".strip()
