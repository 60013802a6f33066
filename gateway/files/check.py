"""What must hold between the values of a town's files, each mistake with its place (R2, R7)."""

from collections.abc import Iterator
from datetime import date

from core.calendar import DayException, contradictions
from core.people import Period
from core.window import Channel
from gateway.files.mistakes import Mistake, one_of, shown
from gateway.files.shapes import CalendarShape, EveningShape, MunicipalityShape, SchoolsShape
from gateway.files.sources import SCHOOLS, FileShape, Source
from gateway.files.tree import Table, Way, find

# Service starts in September, in some towns with a summer centre before it and another after it.
YEAR_STARTS, YEAR_ENDS = (8, 1), (8, 31)


def mistakes_between(
    town: Source[MunicipalityShape], schools: Source[SchoolsShape], calendar: Source[CalendarShape]
) -> Iterator[Mistake]:
    """Every mistake that takes more than one value to see."""
    span = year_span(calendar.shape)
    yield from _municipality_mistakes(town)
    yield from _school_mistakes(schools, span)
    yield from _calendar_mistakes(calendar, schools, span)
    yield from _window_mistakes(town, schools, calendar)


def year_span(calendar: CalendarShape) -> Period | None:
    """The days that the calendar may speak of: the school year it names or, without one, the one its service begins in."""
    year = calendar.year
    if year is None and calendar.service is not None:
        first = calendar.service.first
        year = first.year if (first.month, first.day) >= YEAR_STARTS else first.year - 1
    # The first and the last year that Python knows leave no room for a school year.
    if year is None or not date.min.year <= year < date.max.year:
        return None
    return Period(date(year, *YEAR_STARTS), date(year + 1, *YEAR_ENDS))


def day_exception(
    days: Period, opens: bool, why: str | None, school: str | None, class_way: str | None
) -> DayException:
    """An exception as the rules know it; `class_way` is school/class."""
    if class_way is None:
        return DayException(days, opens, why or "", school)
    of_school, _, name = class_way.partition("/")
    return DayException(days, opens, why or "", of_school, name)


def _municipality_mistakes(town: Source[MunicipalityShape]) -> Iterator[Mistake]:
    yield from _repeated(town, ("numbers",), town.shape.numbers)
    yield from _repeated(town, ("hosts",), town.shape.hosts)
    yield from _repeated(town, ("languages",), town.shape.languages)
    if not town.shape.languages and not _items_of(town.tree, ("languages",)):
        yield town.mistake(("languages",), "languages: the list is empty; expected one language at least, as [it]")


def _school_mistakes(schools: Source[SchoolsShape], span: Period | None) -> Iterator[Mistake]:
    if schools.shape.kitchen is not None:
        yield from _repeated(schools, ("kitchen", "trays"), schools.shape.kitchen.trays)
    for key, school in schools.shape.schools.items():
        if school.service is not None:
            yield from _outside(schools, ("schools", key, "service"), school.service, span)
        for name, weekdays in school.classes.items():
            way: Way = ("schools", key, "classes", name)
            yield from _repeated(schools, way, weekdays)
            if not weekdays and not _items_of(schools.tree, way):
                message = (
                    f"class {shown(name)} has no weekday; expected those on which it eats at school, as [mon, wed]"
                )
                yield schools.mistake(way, message)


def _calendar_mistakes(
    calendar: Source[CalendarShape], schools: Source[SchoolsShape], span: Period | None
) -> Iterator[Mistake]:
    if calendar.shape.service is not None:
        yield from _outside(calendar, ("service",), calendar.shape.service, span)
    if calendar.shape.patron is not None:
        yield from _outside(calendar, ("patron",), Period(calendar.shape.patron, calendar.shape.patron), span)
    inside: dict[int, Way] = {}
    exceptions: list[DayException] = []
    for index, each in enumerate(calendar.shape.exceptions):
        way: Way = ("exceptions", index)
        outside = list(_outside(calendar, (*way, "closed" if each.closed else "open"), each.days, span))
        yield from outside
        if each.school is not None:
            yield from _unknown_school(calendar, schools, (*way, "school"), each.school)
        if each.class_group is not None:
            yield from _unknown_class(calendar, schools, (*way, "class"), each.class_group)
        if not outside and span is not None:
            exception = day_exception(each.days, each.open is not None, each.why, each.school, each.class_group)
            exceptions.append(exception)
            inside[id(exception)] = way
    for pair in contradictions(exceptions):
        first, second = calendar.where(inside[id(pair.first)]), inside[id(pair.second)]
        message = (
            f"{pair.day} is {'open' if pair.second.opens else 'closed'} here and "
            f"{'open' if pair.first.opens else 'closed'} in {first}, for {_scope(pair.second)}; keep one of the two"
        )
        yield calendar.mistake(second, message)
    yield from _cutoff_mistakes(calendar, schools, span)


def _cutoff_mistakes(
    calendar: Source[CalendarShape], schools: Source[SchoolsShape], span: Period | None
) -> Iterator[Mistake]:
    said: dict[tuple[str | None, date], Way] = {}
    for index, each in enumerate(calendar.shape.cutoffs):
        way: Way = ("cutoffs", index)
        if each.school is not None:
            yield from _unknown_school(calendar, schools, (*way, "school"), each.school)
        if each.day is None:
            continue
        yield from _outside(calendar, (*way, "date"), Period(each.day, each.day), span)
        earlier = said.setdefault((each.school, each.day), way)
        if earlier != way:
            whose = f"school {shown(each.school)}" if each.school else "all schools"
            message = f"{each.day} has a cutoff for {whose} in {calendar.where(earlier)} already; keep one of the two"
            yield calendar.mistake(way, message)


def _window_mistakes(
    town: Source[MunicipalityShape], schools: Source[SchoolsShape], calendar: Source[CalendarShape]
) -> Iterator[Mistake]:
    """R7: a window that opens before a cutoff of the same day would be open and shut for one and the same day."""
    ordinary = [
        (school.cutoff, schools.where(way), schools.mistake(way, ""))
        for key, school in schools.shape.schools.items()
        if school.cutoff is not None
        for way in [("schools", key, "cutoff")]
    ]
    overrides = [
        (each.at, calendar.where(way), calendar.mistake(way, ""))
        for index, each in enumerate(calendar.shape.cutoffs)
        if each.at is not None
        for way in [("cutoffs", index, "at")]
    ]
    for channel, window in evenings(town.shape):
        way: Way = ("windows", channel.value, "opens")
        stands = find(town.right, way) is not None
        late_ordinary = [each for each in ordinary if window.opens and each[0] >= window.opens]
        late = late_ordinary or [each for each in overrides if window.opens and each[0] >= window.opens]
        if not late or window.opens is None:
            continue
        latest, where, at = max(late, key=lambda each: each[0])
        opens = f"{window.opens:%H:%M}"
        if stands and late_ordinary:
            message = f"opens: the {channel} window opens at {opens}, the cutoff in {where} is {latest:%H:%M}"
            yield town.mistake(way, f"{message}; expected a time after every cutoff")
        else:
            source = town.where(way) if stands else "the default"
            message = f"the cutoff {latest:%H:%M} is not before {opens}, when the {channel} window opens ({source})"
            yield Mistake(at.file, at.line, at.column, f"{message}; expected an earlier cutoff")


def evenings(town: MunicipalityShape) -> Iterator[tuple[Channel, EveningShape]]:
    """The channels that have a window of R7."""
    windows = {
        Channel.PHONE: town.windows.phone,
        Channel.PORTAL: town.windows.portal,
        Channel.TELEGRAM: town.windows.telegram,
    }
    for channel, window in windows.items():
        if window is not None:
            yield channel, window


def _outside(source: Source[FileShape], way: Way, days: Period, span: Period | None) -> Iterator[Mistake]:
    if span is None or (days.first in span and days.last in span):
        return
    found = f"{days.first}" if days.first == days.last else f"{days.first}..{days.last}"
    message = f"{way[-1]}: {found} lies outside the school year; expected days from {span.first} to {span.last}"
    yield source.mistake(way, message)


def _repeated(source: Source[FileShape], way: Way, values: list[str] | list[int]) -> Iterator[Mistake]:
    for index, value in enumerate(values):
        if value in values[:index]:
            yield source.mistake((*way, index), f"{way[-1]}: this stands in the list already; expected each once")


def _items_of(tree: Table | None, way: Way) -> bool:
    """Whether the file as it stands has anything in this list, right or wrong."""
    found = find(tree, way) if tree is not None else None
    return bool(getattr(found, "items", ()))


def keys_of(tree: Table | None, way: Way) -> list[str] | None:
    """The keys of a table as it stands in the file, right or wrong; None where there is no such table."""
    found = find(tree, way) if tree is not None else None
    return [entry.key for entry in found.entries] if isinstance(found, Table) else None


def _unknown_school(source: Source[FileShape], schools: Source[SchoolsShape], way: Way, key: str) -> Iterator[Mistake]:
    known = keys_of(schools.tree, ("schools",))
    if known is not None and key not in known:
        yield source.mistake(way, f"school: {SCHOOLS} has no school {shown(key)}; {one_of(key, known)}")


def _unknown_class(
    source: Source[FileShape], schools: Source[SchoolsShape], way: Way, class_way: str
) -> Iterator[Mistake]:
    school, slash, name = class_way.partition("/")
    if not slash:
        yield source.mistake(way, f"class: {shown(class_way)} names no school; expected school/class, as primaria/3B")
        return
    known = keys_of(schools.tree, ("schools",))
    if known is None:
        return
    if school not in known:
        yield source.mistake(way, f"class: {SCHOOLS} has no school {shown(school)}; {one_of(school, known)}")
        return
    classes = keys_of(schools.tree, ("schools", school, "classes"))
    if classes is not None and name not in classes:
        right = one_of(name, classes)
        yield source.mistake(way, f"class: school {shown(school)} has no class {shown(name)}; {right}")


def _scope(exception: DayException) -> str:
    if exception.class_group is not None:
        return f"class {shown(f'{exception.school}/{exception.class_group}')}"
    return f"school {shown(exception.school)}" if exception.school else "the whole town"
