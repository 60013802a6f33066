"""How many meals, of which kind and diet, for which class group of a school on a day (R1, R25, R32).

Pure: the store gives a `Roll`, `count_meals` makes the `Headcount` of it, and a `Closing` is one that has become final.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from core.calendar import ServiceCalendar
from core.changes import Change, ChangeId, Presence, fold
from core.clock import Reading
from core.people import Diet, PupilId

# What is counted; nobody cooks for the other presences.
EATS = (Presence.PRESENT, Presence.BLAND)


@dataclass(frozen=True, slots=True)
class ClassRoll:
    """How many pupils of a class group have the same diet for the same time; `diet` None is the ordinary menu."""

    class_group: str
    diet: Diet | None
    pupils: int


@dataclass(frozen=True, slots=True)
class OnRoll:
    """One pupil of a school whose changes or diet make a difference: the standing changes that cover the day, oldest first."""

    pupil: PupilId
    class_group: str
    diet: Diet | None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Roll:
    """A school's pupils as one day's count needs them: all in numbers, and singly those in `changed` and `on_trays`.

    `on_trays` are the pupils with a diet that the kitchen serves on a tray of its own; both lists are in the order of ids.
    """

    classes: tuple[ClassRoll, ...]
    changed: tuple[OnRoll, ...] = ()
    on_trays: tuple[OnRoll, ...] = ()


@dataclass(frozen=True, slots=True)
class MealCount:
    """So many meals of one kind (`present`, `bland`) and diet for a class group; `diet` is the kitchen's code."""

    class_group: str
    kind: Presence
    diet: str | None
    meals: int


@dataclass(frozen=True, slots=True)
class CountedChange:
    """A pupil who does not simply eat, and the change that made it so."""

    pupil: PupilId
    presence: Presence
    change: ChangeId


@dataclass(frozen=True, slots=True)
class Tray:
    """A meal that stands on the tray list: its pupil is named to the kitchen, and only there."""

    pupil: PupilId
    class_group: str
    kind: Presence
    diet: str


@dataclass(frozen=True, slots=True)
class Headcount:
    """One school's meals on one day. `counts` are in the order of class group, kind and diet, without zeros.

    `class_groups` are those that are served that day, whether or not anybody eats.
    """

    school: str
    day: date
    class_groups: tuple[str, ...]
    counts: tuple[MealCount, ...]
    changes: tuple[CountedChange, ...] = ()
    trays: tuple[Tray, ...] = ()

    @property
    def meals(self) -> int:
        return sum(count.meals for count in self.counts)

    def meals_of(self, kind: Presence) -> int:
        return sum(count.meals for count in self.counts if count.kind is kind)

    def meals_by_diet(self) -> Mapping[str, int]:
        """The meals of each special diet, of whatever kind, in the order of the codes."""
        meals: Counter[str] = Counter()
        for count in self.counts:
            if count.diet is not None:
                meals[count.diet] += count.meals
        return dict(sorted(meals.items()))


@dataclass(frozen=True, slots=True)
class Closing:
    """A school's day made final: `order` is the number of the kitchen's order, one for all schools closed together.

    `cutoff` (UTC) is the instant as of which it counts, `closed` when that was done; `digest` is over all but that.
    """

    headcount: Headcount
    order: int
    cutoff: datetime
    closed: Reading
    digest: str


def served_classes(calendar: ServiceCalendar, school: str, day: date) -> tuple[str, ...]:
    """The class groups of `school` that are served on `day`, in the order of their names."""
    return tuple(group.name for group in calendar.classes_of(school) if calendar.is_served(group, day))


def count_meals(
    calendar: ServiceCalendar, tray_diets: Collection[str], school: str, day: date, roll: Roll
) -> Headcount:
    """The meals of `school` on `day`: every pupil of a served class group eats (R1) but for what changes make of it (R32)."""
    served = served_classes(calendar, school, day)
    meals: Counter[tuple[str, Presence, str | None]] = Counter()
    for each in roll.classes:
        if each.class_group in served:
            meals[each.class_group, Presence.PRESENT, _code(each.diet, day)] += each.pupils
    changes: list[CountedChange] = []
    presences: dict[PupilId, Presence] = {}
    for pupil in roll.changed:
        held = fold(pupil.changes, day)
        if pupil.class_group not in served or held.change is None:
            continue
        presences[pupil.pupil] = held.presence
        changes.append(CountedChange(pupil.pupil, held.presence, held.change.id))
        diet = _code(pupil.diet, day)
        meals[pupil.class_group, Presence.PRESENT, diet] -= 1
        if held.presence in EATS:
            meals[pupil.class_group, held.presence, diet] += 1
    trays: list[Tray] = []
    for pupil in roll.on_trays:
        kind, code = presences.get(pupil.pupil, Presence.PRESENT), _code(pupil.diet, day)
        if pupil.class_group in served and kind in EATS and code in tray_diets and code is not None:
            trays.append(Tray(pupil.pupil, pupil.class_group, kind, code))
    return Headcount(
        school,
        day,
        served,
        tuple(MealCount(*key, meals=meals[key]) for key in sorted(meals, key=_order_of_counts) if meals[key]),
        tuple(changes),
        tuple(trays),
    )


def _order_of_counts(key: tuple[str, Presence, str | None]) -> tuple[str, int, str]:
    class_group, kind, diet = key
    return class_group, EATS.index(kind), diet or ""


def _code(diet: Diet | None, day: date) -> str | None:
    """The diet's code on a day that it holds for."""
    if diet is None or (diet.first and day < diet.first) or (diet.last and day > diet.last):
        return None
    return diet.code


def is_intact(municipality: str, closing: Closing) -> bool:
    """Whether a closing is still what it was when it was made."""
    return digest_of(municipality, closing.headcount, closing.order, closing.cutoff) == closing.digest


def digest_of(municipality: str, headcount: Headcount, order: int, cutoff: datetime) -> str:
    """SHA-256 (hex) over a closing as it was made, so that a later doubt can be settled from its rows alone."""
    content = {
        "municipality": municipality,
        "school": headcount.school,
        "day": headcount.day.isoformat(),
        "order": order,
        "cutoff": cutoff.isoformat(),
        "class_groups": list(headcount.class_groups),
        "counts": [[each.class_group, each.kind.value, each.diet, each.meals] for each in headcount.counts],
        "changes": [[each.pupil, each.presence.value, each.change] for each in headcount.changes],
        "trays": [[each.pupil, each.class_group, each.kind.value, each.diet] for each in headcount.trays],
    }
    return hashlib.sha256(json.dumps(content, separators=(",", ":"), ensure_ascii=True).encode()).hexdigest()
