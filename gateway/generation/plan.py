"""What is generated: a plan, its towns with their files, and who calls in them.

Everything follows from the plan and a town's index, so that a load test can tell who calls from which number without reading the
database (`Callers`).

The sizes of towns are log-normal as those of Italy's municipalities are: some 7,900 with 59 million people, hence 7,450 in the
mean, of which half have fewer than 2,450 (ISTAT, permanent census).
"""

import json
import math
import random
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, time
from functools import cache, cached_property, lru_cache
from itertools import accumulate
from statistics import NormalDist
from zoneinfo import ZoneInfo

from core.calendar import ONE_DAY, DayException, ServiceCalendar
from core.people import ClassGroup, GuardianId, Period, PupilId, School, UserCode
from gateway.files.holidays import national_holidays

# Half as many again as Italy has.
TOWNS_MAX = 12_000
# Every guardian has a number of eight million that nobody else has; with six of five pupils' guardians this is enough.
PUPILS_MAX = 6_000_000
# A town is made whole in memory, some 5 kB for each pupil.
TOWN_PUPILS_MAX = 50_000
# Of one school year.
DAYS_MAX = 170
# ln(mean / median) of Italy's municipalities is half the variance of the log-normal distribution: 2 ln(7450 / 2450) = 1.49².
SIGMA = 1.49

ROME = ZoneInfo("Europe/Rome")
# Subscribers' numbers of district 035 never begin with 0, so nobody has one of these; the digit after it says whose it is.
NUMBER = "+390350"
PIN_DIGITS = 4
LOOK_AHEAD_DAYS, BLAND_DAYS_MAX = 60, 3
OPENS = time(18, 0)

# Ten families as their children and guardians, over and over: three children in two families, one guardian in every fifth.
FAMILIES = ((1, 2), (1, 1), (2, 2), (1, 2), (1, 2), (2, 2), (1, 1), (3, 2), (1, 2), (2, 2))
_CHILDREN, _GUARDIANS = sum(each[0] for each in FAMILIES), sum(each[1] for each in FAMILIES)
# Of five guardians, three agreed that their number is recognised.
RECOGNISED_OF_FIVE = 3
PUPILS_PER_SCHOOL, PUPILS_PER_CLASS = 120, 20
SCHOOLS_MAX, CLASSES_MAX = 500, 100
# Most towns' schools share one cutoff minute, as they do; it is the minute in which a gateway has most to do.
SHARED_CUTOFF, SHARED_SHARE = time(9, 30), 0.85
OTHER_CUTOFFS = (time(8, 30), time(8, 45), time(9, 0), time(9, 15), time(9, 45), time(10, 0))
TRAY_DIETS = ("CEL", "DIA", "FRS", "LAT", "UOV")
_EVERY_DAY = frozenset(range(5))
_TWO_DAYS = (frozenset({0, 2}), frozenset({1, 3}))
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri")
_PLACES = ("Borgo", "Castel", "Pieve", "Rocca", "San", "Torre", "Val", "Villa")
_OF_PLACES = (
    "zelvara",
    "morgiano",
    "tarmella",
    "fosdingo",
    "lupresca",
    "brinzaglia",
    "quervola",
    "drassino",
    "velmuria",
    "orgastro",
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be generated; `days` are days of service, the last of them on or before `until`."""

    towns: int
    pupils: int
    days: int
    seed: int
    until: date
    closings: bool = True

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("towns", self.towns, 1, TOWNS_MAX),
            ("pupils", self.pupils, self.towns, min(PUPILS_MAX, self.towns * TOWN_PUPILS_MAX)),
            ("days", self.days, 0, DAYS_MAX),
        ):
            if not least <= value <= most:
                raise ValueError(f"--{name}: {value}; expected {least} to {most}; nothing was generated")
        if len(self.service_days()) < self.days:
            raise ValueError(
                f"--days: {self.days}; the school year {self.year}/{self.year + 1} has only {len(self.service_days())} days of "
                f"service until {self.until}; expected as many at most, or --until a later day; nothing was generated"
            )

    @property
    def year(self) -> int:
        """The first year of the school year that `until` lies in."""
        return self.until.year if self.until.month >= 8 else self.until.year - 1

    @property
    def service(self) -> Period:
        return Period(date(self.year, 9, 14), date(self.year + 1, 6, 8))

    @property
    def christmas(self) -> Period:
        return Period(date(self.year, 12, 23), date(self.year + 1, 1, 6))

    def service_days(self) -> tuple[date, ...]:
        """The last `days` days on which somebody is served."""
        return _service_days(self.service, self.christmas, self.until)[-self.days :] if self.days else ()

    def as_text(self) -> str:
        return json.dumps({**asdict(self), "until": self.until.isoformat()}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> "Plan":
        values = json.loads(text)
        return cls(**{**values, "until": date.fromisoformat(values["until"])})


@cache
def holidays_of(year: int) -> Mapping[date, str]:
    """Those of a school year, as the loader has them."""
    return national_holidays(range(year, year + 2))


@cache
def _service_days(service: Period, christmas: Period, until: date) -> tuple[date, ...]:
    holidays = holidays_of(service.first.year)
    found, day = [], service.first
    while day <= min(until, service.last):
        if day.weekday() in _EVERY_DAY and day not in holidays and day not in christmas:
            found.append(day)
        day += ONE_DAY
    return tuple(found)


@dataclass(frozen=True, slots=True)
class GeneratedTown:
    """A town of a plan. Its pupils and guardians have the ids after `pupils_before` and `guardians_before`."""

    plan: Plan
    index: int
    pupils: int
    pupils_before: int
    guardians_before: int

    @property
    def id(self) -> int:
        return self.index + 1

    @property
    def key(self) -> str:
        return f"comune-{self.id:05}"

    @property
    def name(self) -> str:
        at = self.index % (len(_PLACES) * len(_OF_PLACES))
        return f"Comune di {_PLACES[at % len(_PLACES)]} {_OF_PLACES[at // len(_PLACES)].title()} {self.id}"

    @property
    def number(self) -> str:
        return f"{NUMBER}1{self.id:06}"

    @property
    def office(self) -> str:
        return f"{NUMBER}0{self.id:06}"

    @property
    def code_digits(self) -> int:
        return max(5, len(str(self.pupils)) + 1)

    @property
    def cook_code(self) -> str:
        """A code that no pupil has, for those count from 1 below it."""
        return "9" * self.code_digits

    @property
    def patron(self) -> date:
        return self.plan.service.first + (self.index * 37 % 260) * ONE_DAY

    def user_code(self, place: int) -> str:
        """Of the town's pupil at that place, from 0 on."""
        return str(10 ** (self.code_digits - 1) + place + 1)

    def schools(self) -> tuple[School, ...]:
        return _schools(self)

    def class_groups(self) -> tuple[ClassGroup, ...]:
        """Those of each school one after the other; the pupil at a place goes to the one of that number, over and over."""
        return _class_groups(self)

    def calendar(self, school: School | None = None) -> ServiceCalendar:
        """The town's, or as much of it as one school needs."""
        schools = self.schools() if school is None else (school,)
        keys = {each.key for each in schools}
        return ServiceCalendar(
            timezone=ROME,
            service=self.plan.service,
            schools={each.key: each for each in schools},
            classes={(each.school, each.name): each for each in self.class_groups() if each.school in keys},
            holidays=holidays_of(self.plan.year),
            patron=self.patron,
            exceptions=(DayException(self.plan.christmas, opens=False, why="Vacanze di Natale"),),
        )

    def files(self) -> Mapping[str, str]:
        """The town's folder: each file's text by its name."""
        plan, year = self.plan, self.plan.year
        by_school: dict[str, list[ClassGroup]] = {}
        for group in self.class_groups():
            by_school.setdefault(group.school, []).append(group)
        lines = [
            f"kitchen: {{name: Centro cottura, email: cucina-{self.id}@example.org, trays: [{', '.join(TRAY_DIETS)}]}}",
            "schools:",
        ]
        for school in self.schools():
            lines += [
                f"  {school.key}:",
                f"    name: {school.name}",
                f'    cutoff: "{school.cutoff:%H:%M}"',
                "    classes:",
            ]
            for group in by_school[school.key]:
                days = ", ".join(_WEEKDAYS[day] for day in sorted(group.weekdays))
                lines.append(f"      {group.name}: [{days}]")
        return {
            "municipality.yaml": (
                f'name: {self.name}\nlanguages: [it, en]\nnumbers: ["{self.number}"]\nuser_code_digits: {self.code_digits}\n'
                f'office: {{phone: "{self.office}"}}\n'
            ),
            "schools.yaml": "\n".join(lines) + "\n",
            "calendar.yaml": (
                f"year: {year}/{year + 1}\nservice: {plan.service.first}..{plan.service.last}\npatron: {self.patron}\n"
                f"exceptions:\n  - {{closed: {plan.christmas.first}..{plan.christmas.last}, why: Vacanze di Natale}}\n"
            ),
        }


def chance_of(plan: Plan, what: str) -> random.Random:
    """The same chances for the same plan."""
    return random.Random(f"{plan.seed}/{what}")  # noqa: S311 - nobody is to be kept from guessing it


# The towns that are just being made and those beside them.
@lru_cache(maxsize=8)
def _schools(town: "GeneratedTown") -> tuple[School, ...]:
    count = min(max(round(town.pupils / PUPILS_PER_SCHOOL), 1), SCHOOLS_MAX)
    chance = chance_of(town.plan, f"schools/{town.index}")
    is_shared = chance.random() < SHARED_SHARE
    kinds = (
        ("primaria", "Scuola primaria"),
        ("infanzia", "Scuola dell'infanzia"),
        ("secondaria", "Scuola secondaria"),
    )
    return tuple(
        School(
            f"{kinds[place % 3][0]}-{place // 3 + 1}",
            f"{kinds[place % 3][1]} {place // 3 + 1}",
            SHARED_CUTOFF if is_shared else chance.choice(OTHER_CUTOFFS),
        )
        for place in range(count)
    )


@lru_cache(maxsize=8)
def _class_groups(town: "GeneratedTown") -> tuple[ClassGroup, ...]:
    schools = town.schools()
    count = min(max(round(town.pupils / len(schools) / PUPILS_PER_CLASS), 1), CLASSES_MAX)
    return tuple(
        ClassGroup(
            school.key, _class_name(place), _TWO_DAYS[place % 2] if school.key.startswith("secondaria") else _EVERY_DAY
        )
        for school in schools
        for place in range(count)
    )


def _class_name(place: int) -> str:
    """1A to 5A, 1B to 5B and so on."""
    section = place // 5
    letters = chr(ord("A") + section % 26)
    return f"{place % 5 + 1}{letters}"


def _guardians_of(children: int) -> int:
    """How many guardians so many children of a town have."""
    cycles, rest = divmod(children, _CHILDREN)
    count = cycles * _GUARDIANS
    for each, theirs in FAMILIES:
        if rest <= 0:
            break
        rest -= each
        count += theirs
    return count


@dataclass(frozen=True)
class Towns:
    """All towns of a plan: small and large ones mixed, so that the first hundred are a fair sample of the rest."""

    plan: Plan

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many pupils each has; together exactly the plan's."""
        plan = self.plan
        normal = NormalDist(sigma=SIGMA)
        shares = [math.exp(normal.inv_cdf((rank + 0.5) / plan.towns)) for rank in range(plan.towns)]
        # A town has one pupil at least, and no more than can be made in memory; the others share what is then left.
        scale = plan.pupils / sum(shares)
        sizes = [min(max(int(share * scale), 1), TOWN_PUPILS_MAX) for share in shares]
        left = plan.pupils - sum(sizes)
        while left:
            step = 1 if left > 0 else -1
            open_ones = [rank for rank in reversed(range(plan.towns)) if 1 <= sizes[rank] + step <= TOWN_PUPILS_MAX]
            each = max(abs(left) // len(open_ones), 1)
            for rank in open_ones[: abs(left)]:
                moved = min(each, abs(left), TOWN_PUPILS_MAX - sizes[rank] if step > 0 else sizes[rank] - 1)
                sizes[rank] += step * moved
                left -= step * moved
        chance_of(plan, "sizes").shuffle(sizes)
        return tuple(sizes)

    @cached_property
    def _pupils_before(self) -> tuple[int, ...]:
        return tuple(accumulate(self.sizes, initial=0))

    @cached_property
    def _guardians_before(self) -> tuple[int, ...]:
        return tuple(accumulate(map(_guardians_of, self.sizes), initial=0))

    def pupils_before(self, index: int) -> int:
        return self._pupils_before[index]

    @property
    def guardians(self) -> int:
        return self._guardians_before[-1]

    def __len__(self) -> int:
        return self.plan.towns

    def __iter__(self) -> Iterator[GeneratedTown]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> GeneratedTown:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return GeneratedTown(
            self.plan, index, self.sizes[index], self._pupils_before[index], self._guardians_before[index]
        )

    def of_guardian(self, guardian: int) -> GeneratedTown:
        return self[bisect_right(self._guardians_before, guardian - 1) - 1]


@dataclass(frozen=True, slots=True)
class GeneratedFamily:
    """A family by the places of its pupils in the town, and the ids of its guardians."""

    children: range
    guardians: range


def families(town: GeneratedTown) -> Iterator[GeneratedFamily]:
    child, guardian, number = 0, town.guardians_before + 1, 0
    while child < town.pupils:
        children, theirs = FAMILIES[number % len(FAMILIES)]
        yield GeneratedFamily(range(child, min(child + children, town.pupils)), range(guardian, guardian + theirs))
        child, guardian, number = child + children, guardian + theirs, number + 1


@dataclass(frozen=True, slots=True)
class GeneratedCaller:
    """A guardian as a load test calls: from `number` to `dialled`, recognised or by `pin` and one of the `user_codes`."""

    guardian: GuardianId
    town: str
    dialled: str
    number: str
    is_recognised: bool
    pin: str = field(repr=False)
    pupils: tuple[PupilId, ...] = ()
    user_codes: tuple[UserCode, ...] = ()


class Callers:
    """Every guardian of a plan, without a look into the database: `len(callers)`, `callers[number]`."""

    def __init__(self, plan: Plan) -> None:
        self._towns = Towns(plan)

    def __len__(self) -> int:
        return self._towns.guardians

    def __getitem__(self, index: int) -> GeneratedCaller:
        if not 0 <= index < len(self):
            raise IndexError(index)
        guardian = index + 1
        town = self._towns.of_guardian(guardian)
        cycle, place = divmod(guardian - town.guardians_before - 1, _GUARDIANS)
        child = cycle * _CHILDREN
        for children, theirs in FAMILIES:
            if place < theirs:
                break
            place, child = place - theirs, child + children
        places = range(child, min(child + children, town.pupils))
        return GeneratedCaller(
            GuardianId(guardian),
            town.key,
            town.number,
            guardian_number(guardian),
            is_recognised(guardian),
            guardian_pin(town.plan, guardian),
            tuple(PupilId(town.pupils_before + each + 1) for each in places),
            tuple(UserCode(town.user_code(each)) for each in places),
        )


def generated_caller(plan: Plan, index: int) -> GeneratedCaller:
    """One caller; whoever wants many keeps a `Callers`."""
    return Callers(plan)[index]


def guardian_number(guardian: int) -> str:
    return f"{NUMBER}{2_000_000 + guardian - 1}"


def guardian_pin(plan: Plan, guardian: int) -> str:
    return f"{(guardian * 7919 + plan.seed * 104_729) % 10**PIN_DIGITS:0{PIN_DIGITS}}"


def cook_pin(plan: Plan, cook: int) -> str:
    return f"{(cook * 6151 + plan.seed * 104_729) % 10**PIN_DIGITS:0{PIN_DIGITS}}"


def is_recognised(guardian: int) -> bool:
    return guardian % 5 < RECOGNISED_OF_FIVE
