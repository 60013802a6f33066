"""What an edit of a town's calendar would change, and whom it would touch."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time

from core.calendar import ClosedDays, ServiceCalendar
from core.changes import Change, History, Kind, standing
from core.people import Period, Pupil


@dataclass(frozen=True, slots=True)
class ClassDiff:
    """The days that the edit opens and closes for one class group, all of them where it comes or goes."""

    school: str
    name: str
    opened: tuple[date, ...]
    closed: tuple[date, ...]


@dataclass(frozen=True, slots=True)
class CutoffDiff:
    school: str
    day: date
    before: time
    after: time


@dataclass(frozen=True, slots=True)
class CalendarDiff:
    """Only what differs. Cutoffs are those of service days that stay service days."""

    classes: tuple[ClassDiff, ...]
    cutoffs: tuple[CutoffDiff, ...]

    @property
    def is_empty(self) -> bool:
        return not self.classes and not self.cutoffs


@dataclass(frozen=True, slots=True)
class Touched:
    """`changes` standing changes of `pupils_with_changes` pupils; `pupils` is how many have days opened or closed."""

    changes: int
    pupils_with_changes: int
    pupils: int


def diff(before: ServiceCalendar, after: ServiceCalendar) -> CalendarDiff:
    """What `after` changes against `before`."""
    groups = sorted(before.classes.keys() | after.classes.keys())
    classes: list[ClassDiff] = []
    stayed: dict[str, set[date]] = {}
    for group in groups:
        was, will = _served(before, group), _served(after, group)
        stayed.setdefault(group[0], set()).update(was & will)
        if was != will:
            classes.append(ClassDiff(*group, tuple(sorted(will - was)), tuple(sorted(was - will))))
    return CalendarDiff(tuple(classes), tuple(_cutoffs(before, after, stayed)))


def touched(edit: CalendarDiff, people: Iterable[tuple[Pupil, History]]) -> Touched:
    """How many standing changes the edit makes void or lets count again, and how many pupils it concerns."""
    days = {(each.school, each.name): (*each.opened, *each.closed) for each in edit.classes}
    changes = with_changes = pupils = 0
    for pupil, history in people:
        concerned = days.get((pupil.school, pupil.class_group))
        if concerned is None:
            continue
        found = sum(_concerns(change, concerned) for change in standing(history))
        changes += found
        with_changes += found > 0
        pupils += 1
    return Touched(changes, with_changes, pupils)


def final_days(edit: CalendarDiff, closed: ClosedDays) -> Mapping[str, tuple[date, ...]]:
    """The days of each school that the edit would alter and that are closed already: they stay as they were counted (R24)."""
    days: dict[str, set[date]] = {}
    for each in edit.classes:
        days.setdefault(each.school, set()).update(each.opened, each.closed)
    for cutoff in edit.cutoffs:
        days.setdefault(cutoff.school, set()).add(cutoff.day)
    final = {school: tuple(sorted(day for day in days[school] if closed.has(school, day))) for school in sorted(days)}
    return {school: found for school, found in final.items() if found}


def _concerns(change: Change, days: Iterable[date]) -> bool:
    # A resumption lifts what came before it and does nothing to a day by itself.
    return change.kind is not Kind.RESUME and any(change.covers(day) for day in days)


def _served(calendar: ServiceCalendar, group: tuple[str, str]) -> set[date]:
    found = calendar.classes.get(group)
    return set(calendar.service_days(found, _reach(calendar).first)) if found else set()


def _reach(calendar: ServiceCalendar) -> Period:
    """From the first to the last date on which anybody could be served."""
    firsts = [calendar.service.first]
    firsts += [school.service.first for school in calendar.schools.values() if school.service]
    firsts += [exception.days.first for exception in calendar.exceptions if exception.opens]
    return Period(min(firsts), calendar.last_day)


def _cutoffs(before: ServiceCalendar, after: ServiceCalendar, stayed: dict[str, set[date]]) -> Iterator[CutoffDiff]:
    for school, days in stayed.items():
        for day in sorted(days):
            was, will = before.cutoff_time(school, day), after.cutoff_time(school, day)
            if was != will:
                yield CutoffDiff(school, day, was, will)
