"""A generated town's rows: its people, their changes day after day, and the closings of those days.

The same plan makes the same rows, whoever runs it and however often it was interrupted, but for the digests, which hold the
installation's key. Each change is one that the rules allow at its instant; each closing is counted by `count_meals`. The shares
of diets, channels and kinds of changes are invented, in the order of magnitude that a kitchen would nod at.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cache

from core.access import cook_pin_digest, number_digest, pin_digest
from core.calendar import ONE_DAY, closing_instant, opening_instant
from core.changes import Change, ChangeId, Kind
from core.clock import Reading
from core.headcount import ClassRoll, OnRoll, Roll, count_meals, digest_of
from core.people import ClassGroup, CookId, Diet, GuardianId, PupilId, School
from core.ports import MessageKind, PinHasher
from core.window import Channel
from gateway.generation.plan import (
    OPENS,
    ROME,
    TRAY_DIETS,
    GeneratedTown,
    chance_of,
    cook_pin,
    families,
    guardian_number,
    guardian_pin,
    is_recognised,
)
from gateway.store.bulk import Row, Table
from gateway.store.port import MessageState
from gateway.store.tables import (
    EPOCH,
    MICROSECOND,
    changes,
    closing_changes,
    closing_counts,
    closing_trays,
    closings,
    cooks,
    guardians,
    messages,
    municipalities,
    pupil_guardians,
    pupils,
    refusals,
)

Rows = dict[Table, list[Row]]

# Of a thousand pupils: no pork 40, no beef 5, no meat 10, and on trays milk 12, eggs 6, nuts 4, gluten 4, sugar 2.
DIETS = (("NS", 40), ("NB", 5), ("VEG", 10), ("LAT", 12), ("UOV", 6), ("FRS", 4), ("CEL", 4), ("DIA", 2))
# Of those who would eat on a day, three in a hundred change it.
CHANGED_SHARE = 0.03
CANCELS, BLANDS = 0.88, 0.08
UNDONE_SHARE = 0.03
OPEN_SUSPENSIONS, RESUMED_A_DAY = 0.3, 0.15
REFUSED_SHARE = 0.01
CHANNELS = (*[Channel.PHONE] * 14, *[Channel.PORTAL] * 5, Channel.TELEGRAM)
SOURCE = "generated"

_NAMES = (
    *("Agata", "Bianca", "Cesare", "Dalia", "Elio", "Fosca", "Gino", "Iris", "Lapo", "Marta", "Nino", "Olga", "Pio"),
    *("Rita", "Sara", "Tullio", "Ugo", "Vera", "Zeno", "Alba", "Bruno", "Clara", "Dora", "Ettore", "Flora"),
)
_STEMS = (
    "Alb",
    "Bor",
    "Cav",
    "Dorn",
    "Ferr",
    "Gal",
    "Lor",
    "Mont",
    "Nar",
    "Orl",
    "Pell",
    "Quar",
    "Ross",
    "Sal",
    "Tav",
    "Verd",
)
_ENDS = ("acci", "aldi", "anti", "elli", "eri", "etti", "ini", "oni", "osi", "ucci", "uzzi", "ari")

# What is numbered in the order of making; pupils, guardians and towns have their ids by the plan.
NUMBERED = (changes, refusals, closings, closing_counts, closing_changes, closing_trays, messages)
# The columns in the order of the rows made here.
COLUMNS: Mapping[Table, tuple[str, ...]] = {
    municipalities: ("id", "key", "closings_since"),
    guardians: ("id", "municipality", "name", "surname", "email", "phone", "number_digest", "pin_digest", "language"),
    pupils: (
        *("id", "municipality", "user_code", "name", "surname", "codice_fiscale", "school", "class_group"),
        *("diet_code", "diet_first", "diet_last"),
    ),
    pupil_guardians: ("pupil", "guardian", "municipality"),
    changes: (
        *(
            "id",
            "municipality",
            "pupil",
            "kind",
            "first_day",
            "last_day",
            "receipt",
            "request",
            "channel",
            "guardian",
            "session",
        ),
        *("decided_earliest", "decided_latest", "decided_source", "decided_synchronised", "review", "takes_back"),
    ),
    refusals: (
        *("id", "municipality", "pupil", "action", "day", "outcome", "request", "channel", "guardian", "session"),
        *("decided_earliest", "decided_latest", "decided_source", "decided_synchronised"),
    ),
    closings: (
        *("id", "municipality", "school", "day", "order_number", "cutoff", "class_groups"),
        *("closed_earliest", "closed_latest", "closed_source", "closed_synchronised", "digest"),
    ),
    closing_counts: ("id", "municipality", "closing", "class_group", "kind", "diet_code", "meals"),
    closing_changes: ("id", "municipality", "closing", "pupil", "presence", "change"),
    closing_trays: ("id", "municipality", "closing", "pupil", "class_group", "kind", "diet_code"),
    cooks: ("id", "municipality", "code", "pin_digest", "schools", "language"),
    messages: (*("id", "municipality", "key", "kind", "about", "created", "state", "tries", "due", "fault", "sent"),),
}


class Ids:
    """The next id of each table that is numbered in the order of making."""

    def __init__(self, last: Mapping[Table, int]) -> None:
        self._last = dict(last)

    def next(self, table: Table) -> int:
        self._last[table] += 1
        return self._last[table]


@dataclass(slots=True)
class _Pupil:
    """A pupil of the town that is being made, and what was done for it so far."""

    id: PupilId
    group: ClassGroup
    diet: Diet | None
    guardian: GuardianId
    made: int = 0
    changed_on: date = date.min
    bland_on: date = date.min
    suspension: Change | None = None

    def is_suspended(self, day: date) -> bool:
        return self.suspension is not None and self.suspension.covers(day)


def town_rows(town: GeneratedTown, hasher: PinHasher, ids: Ids) -> Rows:
    """Every row of a town, each table's in the order of its ids."""
    return _Making(town, hasher, ids).rows()


class _Making:
    """The rows of one town, made day after day."""

    def __init__(self, town: GeneratedTown, hasher: PinHasher, ids: Ids) -> None:
        self._town, self._hasher, self._ids = town, hasher, ids
        self._plan = town.plan
        self._chance = chance_of(town.plan, f"town/{town.index}")
        self._rows: Rows = {table: [] for table in COLUMNS}
        self._schools = {school.key: school for school in town.schools()}
        self._pupils: dict[str, list[_Pupil]] = {key: [] for key in self._schools}
        self._suspended: dict[str, dict[PupilId, _Pupil]] = {key: {} for key in self._schools}
        self._order = 0

    def rows(self) -> Rows:
        self._people()
        counting = {key: _Counting(self._town, school, self._pupils[key]) for key, school in self._schools.items()}
        for day in self._plan.service_days():
            if day == self._town.patron:
                continue
            counted = self._day(day)
            if self._plan.closings:
                self._close(day, counted, counting)
        return self._rows

    def _people(self) -> None:
        town, hasher, chance, rows = self._town, self._hasher, self._chance, self._rows
        days = self._plan.service_days()
        since = _microseconds(opening_instant(days[0] if days else self._plan.until, time.min, ROME))
        rows[municipalities].append((town.id, town.key, since if days and self._plan.closings else None))
        rows[cooks].append(
            (
                town.id,
                town.id,
                town.cook_code,
                cook_pin_digest(hasher, CookId(town.id), cook_pin(self._plan, town.id)),
                "[]",
                "it",
            )
        )
        groups = town.class_groups()
        for family in families(town):
            surname = _surname(chance)
            for guardian in family.guardians:
                number = guardian_number(guardian)
                rows[guardians].append(
                    (
                        guardian,
                        town.id,
                        chance.choice(_NAMES),
                        surname,
                        f"famiglia{guardian}@example.org",
                        number,
                        number_digest(hasher, number) if is_recognised(guardian) else None,
                        pin_digest(hasher, GuardianId(guardian), guardian_pin(self._plan, guardian)),
                        "en" if guardian % 13 == 0 else "it",
                    )
                )
            for place in family.children:
                pupil, group, diet = town.pupils_before + place + 1, groups[place % len(groups)], _diet(chance, days)
                eats = (None, None, None) if diet is None else (diet.code, diet.first, diet.last)
                name = chance.choice(_NAMES)
                rows[pupils].append(
                    (pupil, town.id, town.user_code(place), name, surname, None, group.school, group.name, *eats)
                )
                rows[pupil_guardians] += ((pupil, guardian, town.id) for guardian in family.guardians)
                self._pupils[group.school].append(_Pupil(PupilId(pupil), group, diet, GuardianId(family.guardians[0])))

    def _day(self, day: date) -> dict[str, list[tuple[_Pupil, Change]]]:
        """What families change for a day, in the order of the instants; who does not simply eat then, by school."""
        asked: list[tuple[int, _Pupil, Kind, date | None]] = []
        refused: list[tuple[int, _Pupil]] = []
        for key, school in self._schools.items():
            cutoff = _cutoff(day, school.cutoff)
            eating = [pupil for pupil in self._pupils[key] if day.weekday() in pupil.group.weekdays]
            if not eating:
                continue
            asked += self._resumptions(key, day, cutoff)
            for _ in range(self._about(len(eating) * CHANGED_SHARE)):
                pupil = self._chance.choice(eating)
                if pupil.changed_on < day and not pupil.is_suspended(day):
                    pupil.changed_on = day
                    asked.append((self._instant(day, cutoff), pupil, *self._kind(pupil, day)))
            for _ in range(self._about(len(eating) * CHANGED_SHARE * REFUSED_SHARE)):
                refused.append((cutoff + self._chance.randrange(1, 3_600_000_000), self._chance.choice(eating)))
        counted = self._accept(day, sorted(asked, key=lambda each: (each[0], each[1].id)))
        for at, pupil in sorted(refused, key=lambda each: (each[0], each[1].id)):
            self._refuse(day, at, pupil)
        return counted

    def _resumptions(self, key: str, day: date, cutoff: int) -> Iterator[tuple[int, _Pupil, Kind, None]]:
        for pupil in self._suspended[key].values():
            suspension = pupil.suspension
            if suspension is None or suspension.last is not None or day.weekday() not in pupil.group.weekdays:
                continue
            if self._chance.random() < RESUMED_A_DAY:
                pupil.changed_on = day
                yield self._instant(day, cutoff), pupil, Kind.RESUME, None

    def _kind(self, pupil: _Pupil, day: date) -> tuple[Kind, date | None]:
        chance = self._chance.random()
        # Never two in adjacent weeks' days, so that no limit of the town is near (R30).
        if chance < BLANDS and (day - pupil.bland_on).days > 7:
            pupil.bland_on = day
            return Kind.BLAND, day
        if chance < BLANDS + CANCELS:
            return Kind.CANCEL, day
        is_open = self._chance.random() < OPEN_SUSPENSIONS
        return Kind.SUSPEND, None if is_open else day + self._chance.randrange(1, 10) * ONE_DAY

    def _accept(
        self, day: date, asked: Sequence[tuple[int, _Pupil, Kind, date | None]]
    ) -> dict[str, list[tuple[_Pupil, Change]]]:
        counted: dict[str, list[tuple[_Pupil, Change]]] = {}
        for at, pupil, kind, last in asked:
            change = self._change(pupil, kind, day, last, at)
            if kind is Kind.SUSPEND:
                pupil.suspension = change
                self._suspended[pupil.group.school][pupil.id] = pupil
            elif kind is Kind.RESUME:
                pupil.suspension = None
                del self._suspended[pupil.group.school][pupil.id]
            elif self._chance.random() < UNDONE_SHARE:
                self._change(pupil, Kind.UNDO, day, day, at + 1, takes_back=change.id)
            else:
                counted.setdefault(pupil.group.school, []).append((pupil, change))
        for school, suspended in self._suspended.items():
            for pupil in [each for each in suspended.values() if not each.is_suspended(day)]:
                del suspended[pupil.id]
            for pupil in suspended.values():
                if pupil.suspension is not None and day.weekday() in pupil.group.weekdays:
                    counted.setdefault(school, []).append((pupil, pupil.suspension))
        return counted

    def _change(
        self, pupil: _Pupil, kind: Kind, first: date, last: date | None, at: int, takes_back: ChangeId | None = None
    ) -> Change:
        id_ = self._ids.next(changes)
        # Unlike any other of the pupil's, for nobody makes ten thousand changes.
        receipt = f"{(pupil.id * 613 + pupil.made * 37) % 10_000:04}"
        pupil.made += 1
        channel = self._chance.choice(CHANNELS)
        request, session = f"{SOURCE}-{id_}", f"{channel.value}-{at}-{pupil.guardian}"
        here = self._town.id
        self._rows[changes].append(
            (
                id_,
                here,
                pupil.id,
                kind.value,
                first,
                last,
                receipt,
                request,
                channel.value,
                pupil.guardian,
                session,
                at - 500,
                at + 500,
                SOURCE,
                True,
                False,
                takes_back,
            )
        )
        return Change(
            pupil.id,
            kind,
            first,
            last,
            receipt,
            request,
            channel,
            pupil.guardian,
            session,
            _SOME_READING,
            takes_back=takes_back,
            id=ChangeId(id_),
        )

    def _refuse(self, day: date, at: int, pupil: _Pupil) -> None:
        id_, channel = self._ids.next(refusals), Channel.PORTAL.value
        self._rows[refusals].append(
            (
                id_,
                self._town.id,
                pupil.id,
                "cancel",
                day,
                "too_late",
                f"{SOURCE}-refused-{id_}",
                channel,
                pupil.guardian,
                f"{channel}-{at}-{pupil.guardian}",
                at - 500,
                at + 500,
                SOURCE,
                True,
            )
        )

    def _close(
        self,
        day: date,
        counted: Mapping[str, list[tuple[_Pupil, Change]]],
        counting: Mapping[str, "_Counting"],
    ) -> None:
        """Close every school that is served, one order for each cutoff."""
        by_cutoff: dict[int, list[str]] = {}
        for key in sorted(self._schools):
            if counting[key].is_served(day):
                by_cutoff.setdefault(_cutoff(day, self._schools[key].cutoff), []).append(key)
        for cutoff, schools in sorted(by_cutoff.items()):
            self._order += 1
            closed = cutoff + 2_000_000
            for key in schools:
                self._closing(day, counting[key], counted.get(key, []), cutoff, closed)
            self._rows[messages].append(
                (
                    self._ids.next(messages),
                    self._town.id,
                    f"order-{self._order}",
                    MessageKind.ORDER.value,
                    f'{{"order":{self._order}}}',
                    closed,
                    MessageState.SENT.value,
                    1,
                    closed,
                    None,
                    closed + 1_500_000,
                )
            )

    def _closing(
        self, day: date, counting: "_Counting", counted: list[tuple[_Pupil, Change]], cutoff: int, closed: int
    ) -> None:
        counted.sort(key=lambda each: each[0].id)
        changed = tuple(OnRoll(pupil.id, pupil.group.name, pupil.diet, (change,)) for pupil, change in counted)
        headcount = count_meals(
            counting.calendar, TRAY_DIETS, counting.school.key, day, Roll(counting.classes, changed, counting.on_trays)
        )
        digest = digest_of(self._town.key, headcount, self._order, _instant(cutoff))
        here, id_, ids, rows = self._town.id, self._ids.next(closings), self._ids, self._rows
        rows[closings].append(
            (
                id_,
                here,
                headcount.school,
                day,
                self._order,
                cutoff,
                json.dumps(headcount.class_groups, ensure_ascii=False),
                closed - 500,
                closed + 500,
                SOURCE,
                True,
                digest,
            )
        )
        for count in headcount.counts:
            rows[closing_counts].append(
                (ids.next(closing_counts), here, id_, count.class_group, count.kind.value, count.diet, count.meals)
            )
        for change in headcount.changes:
            rows[closing_changes].append(
                (ids.next(closing_changes), here, id_, change.pupil, change.presence.value, change.change)
            )
        for tray in headcount.trays:
            rows[closing_trays].append(
                (ids.next(closing_trays), here, id_, tray.pupil, tray.class_group, tray.kind.value, tray.diet)
            )

    def _about(self, expected: float) -> int:
        """A whole number that is `expected` in the mean."""
        return int(expected + self._chance.random())

    def _instant(self, day: date, cutoff: int) -> int:
        """When somebody calls: three of five in the evening before, the others in the morning until the cutoff."""
        evening, morning = _openings(day)
        if self._chance.random() < 0.6:
            return evening + self._chance.randrange(1, 5 * 3_600_000_000)
        # An undo and half the clock's bound still fit before the cutoff.
        return self._chance.randrange(morning, cutoff - 1_000)


class _Counting:
    """What every count of one school starts from."""

    def __init__(self, town: GeneratedTown, school: School, its_pupils: Sequence[_Pupil]) -> None:
        self.school = school
        self.calendar = town.calendar(school)
        counts = Counter((pupil.group.name, pupil.diet) for pupil in its_pupils)
        self.classes = tuple(ClassRoll(name, diet, count) for (name, diet), count in counts.items())
        self.on_trays = tuple(
            OnRoll(pupil.id, pupil.group.name, pupil.diet)
            for pupil in sorted(its_pupils, key=lambda each: each.id)
            if pupil.diet is not None and pupil.diet.code in TRAY_DIETS
        )

    def is_served(self, day: date) -> bool:
        return any(self.calendar.is_served(group, day) for group in self.calendar.classes.values())


# The counts do not ask when a change was decided; the rows hold that.
_SOME_READING = Reading(EPOCH, EPOCH, SOURCE)


def _surname(chance: random.Random) -> str:
    return chance.choice(_STEMS) + chance.choice(_ENDS)


def _diet(chance: random.Random, days: Sequence[date]) -> Diet | None:
    at = chance.randrange(1000)
    for code, of_thousand in DIETS:
        if at < of_thousand:
            # A few are for a while: until a certificate ends.
            return Diet(code, None, chance.choice(days) if days and chance.random() < 0.05 else None)
        at -= of_thousand
    return None


@cache
def _cutoff(day: date, at: time) -> int:
    return _microseconds(closing_instant(day, at, ROME))


@cache
def _openings(day: date) -> tuple[int, int]:
    """When the line opens on the evening before, and when people get up."""
    evening = opening_instant(day - ONE_DAY, OPENS, ROME)
    return _microseconds(evening), _microseconds(opening_instant(day, time(6, 30), ROME))


def _microseconds(instant: datetime) -> int:
    return (instant - EPOCH) // MICROSECOND


@cache
def _instant(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)
