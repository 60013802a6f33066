"""A town's folder made into a `Municipality`, a configuration folder into all of them; or every mistake at once (R23)."""

from datetime import date, time, timedelta
from pathlib import Path
from typing import TypeVar

from core.calendar import CutoffOverride, ServiceCalendar
from core.desk import Town
from core.people import ClassGroup, Period, School
from core.window import Anytime, Channel, Evening, Window
from gateway.files.check import day_exception, evenings, mistakes_between, year_span
from gateway.files.holidays import national_holidays
from gateway.files.mistakes import Mistake
from gateway.files.shapes import CalendarShape, MunicipalityShape, SchoolsShape, parse_key
from gateway.files.sources import CALENDAR, MUNICIPALITY, SCHOOLS, TOWN_FILES, TownFiles, read_town_files, shaped_file
from gateway.municipality import Kitchen, Municipality, Office


def load_town(folder: Path) -> Municipality | tuple[Mistake, ...]:
    """The municipality that a folder describes, or every mistake in its YAML files; its people are read by `read_people`."""
    return check_town(read_town_files(folder))


def check_town(files: TownFiles) -> Municipality | tuple[Mistake, ...]:
    """The municipality that the files describe, or every mistake in them, in the order of the files."""
    mistakes: list[Mistake] = []
    key = files.folder.resolve().name
    try:
        parse_key(key)
    except ValueError as error:
        mistakes.append(Mistake(files.folder, 1, 1, f"the folder's name {error}"))
    town = shaped_file(files, MUNICIPALITY, MunicipalityShape, mistakes)
    schools = shaped_file(files, SCHOOLS, SchoolsShape, mistakes)
    calendar = shaped_file(files, CALENDAR, CalendarShape, mistakes)
    mistakes += mistakes_between(town, schools, calendar)
    span = year_span(calendar.shape)
    if mistakes or span is None:
        order = {files.folder / name: position for position, name in enumerate(TOWN_FILES)}
        return tuple(sorted(set(mistakes), key=lambda each: (order.get(each.file, -1), each)))
    service = _service_calendar(town.shape, schools.shape, calendar.shape, span)
    return _municipality(key, files, town.shape, schools.shape, service)


def _service_calendar(
    town: MunicipalityShape, schools: SchoolsShape, calendar: CalendarShape, span: Period
) -> ServiceCalendar:
    return ServiceCalendar(
        timezone=town.timezone,
        service=_there(calendar.service),
        schools={
            key: School(key, _there(school.name), _there(school.cutoff), school.service)
            for key, school in schools.schools.items()
        },
        classes={
            (key, name): ClassGroup(key, name, frozenset(weekdays))
            for key, school in schools.schools.items()
            for name, weekdays in school.classes.items()
        },
        holidays=national_holidays(range(span.first.year, span.last.year + 1)),
        patron=calendar.patron,
        exceptions=tuple(
            day_exception(each.days, each.open is not None, each.why, each.school, each.class_group)
            for each in calendar.exceptions
        ),
        cutoffs=tuple(
            CutoffOverride(_there(each.day), _there(each.at), each.why or "", each.school) for each in calendar.cutoffs
        ),
    )


def _municipality(
    key: str, files: TownFiles, town: MunicipalityShape, schools: SchoolsShape, calendar: ServiceCalendar
) -> Municipality:
    anytime = Anytime(town.look_ahead_days)
    windows: dict[Channel, Window] = dict.fromkeys(Channel, anytime)
    for channel, window in evenings(town):
        windows[channel] = Evening(_there(window.opens))
    office, kitchen = town.office, schools.kitchen
    return Municipality(
        key=key,
        name=_there(town.name),
        languages=tuple(town.languages),
        numbers=tuple(town.numbers),
        user_code_digits=_there(town.user_code_digits),
        pin_digits=town.pin_digits,
        clock_bound_max=timedelta(milliseconds=town.clock.bound_max_ms),
        town=Town(calendar, windows, town.bland_days_max),
        office=Office(office.phone, office.hours, office.address) if office else None,
        kitchen=Kitchen(kitchen.name, kitchen.email) if kitchen else None,
        folder=files.folder,
        people_file=files.people,
    )


Value = TypeVar("Value", str, int, time, date, Period)


def _there(value: Value | None) -> Value:
    """A value that the checks found to be there."""
    if value is None:
        raise ValueError("a value that is required was not checked")
    return value
