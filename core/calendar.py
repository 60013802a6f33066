"""Which days a class group is served, and until when each can be changed (R1-R5, R22).

A `ServiceCalendar` is one immutable value per municipality, swapped whole when its files are edited, so that
no request ever sees half an edit. Holidays come in as dates: their computation is no rule of the service.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from zoneinfo import ZoneInfo

from core.people import ClassGroup, Period, School

ONE_DAY = timedelta(days=1)
# Every request asks for the same few cutoffs again, and a zone's rules are slow to apply: ten cutoffs of a year's days.
PASSES_KEPT = 4096


class Service(StrEnum):
    """Why a date is a service day or is not: the last word R2 has on it."""

    SERVED = "served"
    OPENED = "opened"
    CLOSED = "closed"
    HOLIDAY = "holiday"
    PATRON = "patron"
    WEEKDAY = "weekday"
    OUT_OF_YEAR = "out_of_year"
    NO_CLASS_GROUP = "no_class_group"


@dataclass(frozen=True, slots=True)
class DayStatus:
    """What the calendar says of one date for one class group, and the office's words for it."""

    service: Service
    why: str = ""

    @property
    def is_served(self) -> bool:
        return self.service in (Service.SERVED, Service.OPENED)


@dataclass(frozen=True, slots=True)
class ClosedDays:
    """The days that day closings have made final (R25): each school's, with the class groups that were counted on them."""

    days: Mapping[str, Mapping[date, frozenset[str]]] = field(default_factory=dict)

    def has(self, school: str, day: date) -> bool:
        return day in self.days.get(school, {})

    def any_within(self, school: str, first: date, last: date | None) -> bool:
        return any(first <= day and (last is None or day <= last) for day in self.days.get(school, {}))

    def counts(self, school: str, class_group: str, day: date) -> bool:
        """Whether this class group was counted on the day."""
        return class_group in self.days.get(school, {}).get(day, ())

    def of_class(self, school: str, class_group: str) -> Iterator[date]:
        """The days on which this class group was counted."""
        return (day for day, counted in self.days.get(school, {}).items() if class_group in counted)


NONE_CLOSED = ClosedDays()


@dataclass(frozen=True, slots=True)
class DayException:
    """Dates on which weekday, holiday, patron and school year do not count (R2).

    Without `school` it holds for the municipality, without `class_group` for the whole school.
    """

    days: Period
    opens: bool
    why: str = ""
    school: str | None = None
    class_group: str | None = None

    @property
    def scope(self) -> tuple[str | None, str | None]:
        return self.school, self.class_group


@dataclass(frozen=True, slots=True)
class CutoffOverride:
    """Another cutoff on one date, for one school or, without `school`, for all."""

    day: date
    at: time
    why: str = ""
    school: str | None = None


class ContradictionError(ValueError):
    """Two exceptions of one scope say opposite things of one date (R2)."""

    def __init__(self, first: DayException, second: DayException, day: date) -> None:
        super().__init__(f"{day} is both open and closed in one scope")
        self.first, self.second, self.day = first, second, day


def dates(first: date, last: date) -> Iterator[date]:
    """The dates from `first` through `last`; none where that is earlier."""
    day = first
    while day <= last:
        yield day
        day += ONE_DAY


def days_of(period: Period) -> Iterator[date]:
    return dates(period.first, period.last)


def contradictions(exceptions: Iterable[DayException]) -> Iterator[ContradictionError]:
    """Each pair of exceptions of one scope that disagree, once, with the first date they disagree on."""
    said: dict[tuple[str | None, str | None], dict[date, DayException]] = {}
    for exception in exceptions:
        dates = said.setdefault(exception.scope, {})
        told: set[int] = set()
        for day in days_of(exception.days):
            other = dates.setdefault(day, exception)
            if other.opens != exception.opens and id(other) not in told:
                told.add(id(other))
                yield ContradictionError(other, exception, day)


@dataclass(frozen=True, slots=True)
class ServiceCalendar:
    """The service calendar of one municipality.

    `classes` is keyed by (school, class group); `holidays` maps each national holiday to its name.
    Raises `ContradictionError` for exceptions that R2 calls an error.
    """

    timezone: ZoneInfo
    service: Period
    schools: Mapping[str, School]
    classes: Mapping[tuple[str, str], ClassGroup]
    holidays: Mapping[date, str] = field(default_factory=dict)
    patron: date | None = None
    exceptions: tuple[DayException, ...] = ()
    cutoffs: tuple[CutoffOverride, ...] = ()
    _exception_on: Mapping[tuple[str | None, str | None], Mapping[date, DayException]] = field(
        init=False, repr=False, compare=False
    )
    _cutoff_on: Mapping[tuple[str | None, date], CutoffOverride] = field(init=False, repr=False, compare=False)
    _last_day: date = field(init=False, repr=False, compare=False)
    _classes_of: Mapping[str, tuple[ClassGroup, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for contradiction in contradictions(self.exceptions):
            raise contradiction
        by_scope: dict[tuple[str | None, str | None], dict[date, DayException]] = {}
        for exception in self.exceptions:
            dates = by_scope.setdefault(exception.scope, {})
            for day in days_of(exception.days):
                dates.setdefault(day, exception)
        ends = [self.service.last]
        ends += [school.service.last for school in self.schools.values() if school.service]
        ends += [exception.days.last for exception in self.exceptions if exception.opens]
        object.__setattr__(self, "_exception_on", by_scope)
        object.__setattr__(self, "_cutoff_on", {(each.school, each.day): each for each in self.cutoffs})
        object.__setattr__(self, "_last_day", max(ends))
        # Asked for each day of each school: a city has a thousand class groups, and a school a few of them.
        classes_of: dict[str, list[ClassGroup]] = {}
        for group in sorted(self.classes.values(), key=lambda group: group.name):
            classes_of.setdefault(group.school, []).append(group)
        object.__setattr__(self, "_classes_of", {school: tuple(groups) for school, groups in classes_of.items()})

    @property
    def last_day(self) -> date:
        """The last date on which anybody could be served."""
        return self._last_day

    def classes_of(self, school: str) -> tuple[ClassGroup, ...]:
        """A school's class groups, in the order of their names."""
        return self._classes_of.get(school, ())

    def serves(self, school: str, day: date) -> bool:
        """Whether any class group of the school is served on `day`."""
        return any(self.is_served(group, day) for group in self.classes_of(school))

    def school_year(self, school: str) -> Period:
        """The school's own service period where it has one, else the municipality's."""
        known = self.schools.get(school)
        return (known.service if known else None) or self.service

    def status(self, group: ClassGroup, day: date) -> DayStatus:
        """What R2 says of `day` for `group`, and why. No exception serves a class group that the calendar does not have."""
        if (group.school, group.name) not in self.classes:
            return DayStatus(Service.NO_CLASS_GROUP, f"{group.school}/{group.name} is not in schools.yaml")
        for scope in ((group.school, group.name), (group.school, None), (None, None)):
            exception = self._exception_on.get(scope, {}).get(day)
            if exception is not None:
                return DayStatus(Service.OPENED if exception.opens else Service.CLOSED, exception.why)
        if day not in self.school_year(group.school):
            return DayStatus(Service.OUT_OF_YEAR)
        if day in self.holidays:
            return DayStatus(Service.HOLIDAY, self.holidays[day])
        if day == self.patron:
            return DayStatus(Service.PATRON)
        if day.weekday() not in group.weekdays:
            return DayStatus(Service.WEEKDAY)
        return DayStatus(Service.SERVED)

    def is_served(self, group: ClassGroup, day: date) -> bool:
        return self.status(group, day).is_served

    def service_days(self, group: ClassGroup, first: date, last: date | None = None) -> Iterator[date]:
        """The service days of `group` from `first` through `last`, or through the last the calendar has."""
        end = self.last_day if last is None else min(last, self.last_day)
        return (day for day in dates(first, end) if self.is_served(group, day))

    def first_useful_day(self, group: ClassGroup, day: date) -> date | None:
        """The earliest service day from `day` on (R3), None when the school year has none left."""
        return next(self.service_days(group, day), None)

    def first_service_day(self, schools: Iterable[str], day: date) -> date | None:
        """The earliest date from `day` on on which any of `schools` has service, None when the year has none left."""
        wanted = tuple(schools)
        served = (each for each in dates(day, self.last_day) if any(self.serves(school, each) for school in wanted))
        return next(served, None)

    def cutoff_time(self, school: str, day: date) -> time:
        """The local cutoff of `school` on `day`, overrides included (R5); of a school that is gone the town's latest."""
        if school not in self.schools:
            return max((self.cutoff_time(known, day) for known in self.schools), default=time.max)
        for scope in (school, None):
            override = self._cutoff_on.get((scope, day))
            if override is not None:
                return override.at
        return self.schools[school].cutoff

    def cutoff(self, school: str, day: date) -> datetime:
        """The last instant, in UTC, at which `day` can be changed for `school` (R5)."""
        return closing_instant(day, self.cutoff_time(school, day), self.timezone)

    def local(self, instant: datetime) -> datetime:
        return instant.astimezone(self.timezone)


def opening_instant(day: date, at: time, timezone: ZoneInfo) -> datetime:
    """The first instant, in UTC, at which the wall clock of `timezone` has reached `at` on `day` (R4)."""
    passes = _passes(day, at, timezone)
    return min(passes) if passes else _clock_change(day, at, timezone)


def closing_instant(day: date, at: time, timezone: ZoneInfo) -> datetime:
    """The last instant, in UTC, at which the wall clock of `timezone` shows `at` on `day` (R4).

    In the hour that autumn repeats this is the second pass: doubt goes to the family.
    """
    passes = _passes(day, at, timezone)
    return max(passes) if passes else _clock_change(day, at, timezone)


@lru_cache(PASSES_KEPT)
def _passes(day: date, at: time, timezone: ZoneInfo) -> frozenset[datetime]:
    """The instants at which the wall clock shows `at` on `day`: two in autumn's repeated hour, none in spring's gap."""
    wall = datetime.combine(day, at)
    instants = (wall.replace(fold=fold, tzinfo=timezone).astimezone(UTC) for fold in (0, 1))
    return frozenset(
        instant for instant in instants if instant.astimezone(timezone).replace(tzinfo=None, fold=0) == wall
    )


def _clock_change(day: date, at: time, timezone: ZoneInfo) -> datetime:
    """The instant at which the clocks jump over `at` on `day`."""
    wall = datetime.combine(day, at, timezone)
    # In a gap fold=1 reads the wall clock with the later offset, hence lies before the jump, and fold=0 after it.
    before, after = wall.replace(fold=1).astimezone(UTC), wall.replace(fold=0).astimezone(UTC)
    offset = before.astimezone(timezone).utcoffset()
    while after - before > timedelta.resolution:
        middle = before + (after - before) / 2
        if middle.astimezone(timezone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
