"""A town's folder made into a `Municipality`, a configuration folder into all of them; or every mistake at once (R23)."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import SettingsError

from core.calendar import CutoffOverride, DayException, ServiceCalendar
from core.desk import Town
from core.people import ClassGroup, Cooks, People, Period, School, UserCode
from core.window import Anytime, Channel, Evening, Window
from gateway.files.check import day_exception, evenings, keys_of, mistakes_between, year_span
from gateway.files.cooks import COOKS, check_cooks
from gateway.files.holidays import national_holidays
from gateway.files.many import for_each
from gateway.files.mistakes import Mistake, shown
from gateway.files.people import PeopleRules, check_people, rules_of
from gateway.files.shapes import CalendarShape, MunicipalityShape, SchoolsShape, parse_key
from gateway.files.shaping import plain_data, says, shape, way_of
from gateway.files.sources import (
    CALENDAR,
    MUNICIPALITY,
    SCHOOLS,
    TOWN_FILES,
    Look,
    TownFiles,
    read_bytes,
    read_town_files,
    shaped_file,
    signature,
)
from gateway.files.tree import START, Listing, find, plain, read_tree
from gateway.municipality import AddressTakenError, By, Kitchen, Municipalities, Municipality, Office
from gateway.numbers import normalise_number
from gateway.settings import Settings, SettingsFile, environment_name

GATEWAY, TOWNS = "gateway.yaml", "municipalities"
# Where a mistake stands that is in no file.
ENVIRONMENT = Path("(environment)")


def load_town(folder: Path) -> Municipality | tuple[Mistake, ...]:
    """The municipality that a folder describes, or every mistake in its YAML files; its people are read by `read_people`."""
    return check_town(read_town_files(folder))


@dataclass(frozen=True, slots=True)
class Configuration:
    """A configuration folder as it was loaded: the towns that can be served, and the mistakes of those that cannot.

    `only` is the key of the one town that is wanted where not all are; `looks` is what each town's files were like, by key.
    `waiting` are those in `broken` with nothing against them but that another town has their number, host name or bot.
    """

    folder: Path
    settings: Settings
    municipalities: Municipalities
    broken: Mapping[str, tuple[Mistake, ...]] = field(default_factory=dict)
    only: str | None = None
    looks: Mapping[str, Look] = field(default_factory=dict, repr=False)
    waiting: Mapping[str, Municipality] = field(default_factory=dict, repr=False)


def only_town(configuration: Configuration, key: str) -> Configuration:
    """The configuration with one town of it, which is there, and nothing of the others."""
    towns = Municipalities(town for town in configuration.municipalities if town.key == key)
    looks = {each: look for each, look in configuration.looks.items() if each == key}
    return replace(configuration, municipalities=towns, broken={}, only=key, looks=looks, waiting={})


def no_progress(done: int, towns: int) -> None:
    """Nobody is waiting."""


def load_configuration(
    folder: Path, on_progress: Callable[[int, int], None] = no_progress, *, key: str | None = None
) -> Configuration | tuple[Mistake, ...]:
    """All that a configuration folder describes; the mistakes where the gateway's own settings are wrong.

    A town with mistakes is left out, in `broken`, and keeps nobody else from being served. Of several that have one number,
    host name or bot the first by its key is served. `on_progress` is told how many of how many towns are read.
    Where there is a town named `key` only that one is read: whether others have its number is then nobody's question.
    """
    if not folder.is_dir():
        return (Mistake(folder, 1, 1, f"there is no such folder; expected one with {GATEWAY} and {TOWNS}/"),)
    settings = load_settings(folder / GATEWAY)
    if not isinstance(settings, Settings):
        return settings
    try:
        there = town_folders(folder)
    except OSError as error:
        return (_unlisted(folder, error),)
    folders = [each for each in there if each.name == key] or there
    towns, broken, looks = list[Municipality](), dict[str, tuple[Mistake, ...]](), dict[str, Look]()
    for town_folder, (found, look) in zip(folders, for_each(_look_at, folders, on_progress), strict=True):
        looks[town_folder.name] = look
        if isinstance(found, Municipality):
            towns.append(found)
        else:
            broken[town_folder.name] = found
    municipalities, taken = Municipalities.gathered(towns)
    broken.update((each.second.key, (address_mistake(each, each.second),)) for each in taken)
    waiting = {each.second.key: each.second for each in taken}
    return Configuration(folder, settings, municipalities, dict(sorted(broken.items())), looks=looks, waiting=waiting)


def load_settings(file: Path) -> Settings | tuple[Mistake, ...]:
    """The gateway's settings; an empty or missing file has none that differ from the defaults."""
    content = read_bytes(file) if file.exists() else b""
    if isinstance(content, str):
        return (Mistake(file, 1, 1, f"the file cannot be read: {content}; expected YAML, or no file"),)
    tree, mistakes = read_tree(file, content)
    if tree is None:
        return tuple(sorted(mistakes))
    _, right, wrong = shape(SettingsFile, file, tree)
    if mistakes or wrong:
        return tuple(sorted(set(mistakes + wrong)))
    try:
        return Settings(**plain_data(SettingsFile, right))
    except ValidationError as error:
        return tuple(
            Mistake(ENVIRONMENT, 1, 1, f"{environment_name(way_of(each))}: {says(SettingsFile, way_of(each), each)}")
            for each in error.errors(include_url=False)
        )
    except SettingsError as error:
        return (Mistake(ENVIRONMENT, 1, 1, f"{error}; expected JSON, or one variable for each setting"),)


def check_key(folder: Path) -> tuple[Mistake, ...]:
    """What is wrong with the name of a town's folder, which becomes the town's key."""
    try:
        parse_key(folder.name)
    except ValueError as error:
        return (Mistake(folder, 1, 1, f"the folder's name {error}"),)
    return ()


def town_folders(folder: Path) -> list[Path]:
    """The towns' folders of a configuration folder, in the order of their names. Raises `OSError`."""
    towns = folder / TOWNS
    try:
        with os.scandir(towns) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [towns / name for name in sorted(names)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    # What cannot be looked at, as a link to itself, is a town with mistakes and nobody else's trouble.
    except OSError:
        return True


def _unlisted(folder: Path, error: OSError) -> Mistake:
    why = (error.strerror or type(error).__name__).lower()
    return Mistake(folder / TOWNS, 1, 1, f"the towns cannot be listed: {why}; expected a folder of folders")


def check_folder(folder: Path, on_progress: Callable[[int, int], None] = no_progress) -> tuple[Mistake, ...]:
    """Every mistake of a town's folder or of a whole configuration folder, `people.csv` and `cooks.csv` included."""
    if any(os.path.exists(folder / name) for name in TOWN_FILES):
        return _check_all_of_town(folder)[1]
    if not os.path.lexists(folder / TOWNS) and not os.path.lexists(folder / GATEWAY):
        found = "neither a town's folder nor a configuration folder" if folder.is_dir() else "no such folder"
        return (Mistake(folder, 1, 1, f"{found}; expected {', '.join(TOWN_FILES)}, or {GATEWAY} and {TOWNS}/"),)
    settings = load_settings(folder / GATEWAY)
    mistakes = [] if isinstance(settings, Settings) else list(settings)
    folders: list[Path] = []
    try:
        folders = town_folders(folder)
    except OSError as error:
        mistakes.append(_unlisted(folder, error))
    towns: list[Municipality] = []
    for town, wrong in for_each(_check_key_and_town, folders, on_progress):
        mistakes += wrong
        if town is not None:
            towns.append(town)
    mistakes += (address_mistake(each, each.second) for each in Municipalities.gathered(towns)[1])
    return tuple(mistakes)


def _look_at(folder: Path) -> tuple[Municipality | tuple[Mistake, ...], Look]:
    before = signature(str(folder))
    files = read_town_files(folder)
    return check_key(folder) or check_town(files), Look(before, files.digest)


def _check_all_of_town(folder: Path) -> tuple[Municipality | None, tuple[Mistake, ...]]:
    """The town, where its YAML files are right, and every mistake of its folder."""
    files = read_town_files(folder)
    found = check_town(files)
    town = found if isinstance(found, Municipality) else None
    mistakes = found if isinstance(found, tuple) else ()
    taken: list[UserCode] = []
    if files.people is not None:
        people = check_people(files.people, rules_of(town) if town else _known_rules(files))
        if isinstance(people, People):
            taken = [pupil.user_code for pupil in people.pupils]
        else:
            mistakes = (*mistakes, *people)
    if os.path.exists(folder / COOKS):
        cooks = check_cooks(folder / COOKS, rules_of(town) if town else _known_rules(files), taken)
        mistakes = mistakes if isinstance(cooks, Cooks) else (*mistakes, *cooks)
    return town, mistakes


def _check_key_and_town(folder: Path) -> tuple[Municipality | None, tuple[Mistake, ...]]:
    town, mistakes = _check_all_of_town(folder)
    wrong = check_key(folder)
    return None if wrong else town, (*wrong, *mistakes)


def _known_rules(files: TownFiles) -> PeopleRules:
    """What a town with mistakes in its files says about its people all the same."""
    town = shaped_file(files, MUNICIPALITY, MunicipalityShape, [])
    schools = shaped_file(files, SCHOOLS, SchoolsShape, []).tree
    keys = keys_of(schools, ("schools",))
    classes = None if keys is None else {key: keys_of(schools, ("schools", key, "classes")) or [] for key in keys}
    known = town.shape
    return PeopleRules(known.user_code_digits, known.pin_digits, tuple(known.languages), classes)


def address_mistake(taken: AddressTakenError, newcomer: Municipality) -> Mistake:
    """The mistake in the newcomer's file, with the place of the number, host name or bot that another town has."""
    other = taken.second if taken.first.key == newcomer.key else taken.first
    file = (newcomer.folder or Path()) / MUNICIPALITY
    content = read_bytes(file)
    tree = read_tree(file, content)[0] if isinstance(content, bytes) else None
    found = find(tree, (taken.by.value,)) if tree else None
    written = found.items if isinstance(found, Listing) else (found,) if found else ()
    place = next((each.place for each in written if _is_address(taken, plain(each))), START)
    what, own = _ADDRESSES[taken.by]
    message = (
        f"{taken.by}: {taken.address} {what} the town {shown(other.key)} already; expected a {own} of this town alone"
    )
    return Mistake(file, place.line, place.column, message)


_ADDRESSES = {
    By.NUMBER: ("reaches", "number"),
    By.HOST: ("is the host name of", "host name"),
    By.BOT: ("is the bot of", "bot"),
}


def _is_address(taken: AddressTakenError, written: object) -> bool:
    text = str(written)
    return taken.address == (normalise_number(text) if taken.by is By.NUMBER else text.lower())


def check_town(files: TownFiles) -> Municipality | tuple[Mistake, ...]:
    """The municipality that the files describe, or every mistake in them, in the order of the files."""
    mistakes: list[Mistake] = []
    # Not resolved: a folder that is a link to this release's files keeps its own name.
    key = Path(os.path.abspath(files.folder)).name
    town = shaped_file(files, MUNICIPALITY, MunicipalityShape, mistakes)
    schools = shaped_file(files, SCHOOLS, SchoolsShape, mistakes)
    calendar = shaped_file(files, CALENDAR, CalendarShape, mistakes)
    mistakes += mistakes_between(town, schools, calendar)
    span = year_span(calendar.shape)
    if mistakes or span is None:
        order = {files.folder / name: position for position, name in enumerate(TOWN_FILES)}
        return tuple(sorted(set(mistakes), key=lambda each: (order[each.file], each)))
    service = _service_calendar(town.shape, schools.shape, calendar.shape, span)
    return _municipality(key, files, town.shape, schools.shape, service)


def _service_calendar(
    town: MunicipalityShape, schools: SchoolsShape, calendar: CalendarShape, span: Period
) -> ServiceCalendar:
    return ServiceCalendar(
        timezone=town.timezone,
        service=_there(calendar.service),
        schools={
            key: _school(key, _there(school.name), _there(school.cutoff), school.service)
            for key, school in schools.schools.items()
        },
        classes=dict(
            _class_group(key, name, tuple(weekdays))
            for key, school in schools.schools.items()
            for name, weekdays in school.classes.items()
        ),
        holidays=national_holidays(range(span.first.year, span.last.year + 1)),
        patron=calendar.patron,
        exceptions=tuple(
            _exception(each.days, each.open is not None, each.why, each.school, each.class_group)
            for each in calendar.exceptions
        ),
        cutoffs=tuple(
            _cutoff(_there(each.day), _there(each.at), each.why or "", each.school) for each in calendar.cutoffs
        ),
    )


# Towns by the thousand have class groups, closures and cutoffs that are equal: one value stands for all of them. As many
# as are kept apart are those of some hundred towns that have nothing in common.
_shared = lru_cache(maxsize=20_000)


@_shared
def _school(key: str, name: str, cutoff: time, service: Period | None) -> School:
    return School(key, name, cutoff, service)


@_shared
def _class_group(school: str, name: str, weekdays: tuple[int, ...]) -> tuple[tuple[str, str], ClassGroup]:
    return (school, name), ClassGroup(school, name, frozenset(weekdays))


@_shared
def _cutoff(day: date, at: time, why: str, school: str | None) -> CutoffOverride:
    return CutoffOverride(day, at, why, school)


@_shared
def _exception(days: Period, opens: bool, why: str | None, school: str | None, class_way: str | None) -> DayException:
    return day_exception(days, opens, why, school, class_way)


@_shared
def _windows(look_ahead_days: int, opens: tuple[tuple[Channel, time], ...]) -> Mapping[Channel, Window]:
    anytime = Anytime(look_ahead_days)
    windows: dict[Channel, Window] = dict.fromkeys(Channel, anytime)
    windows.update((channel, Evening(at)) for channel, at in opens)
    return windows


def _municipality(
    key: str, files: TownFiles, town: MunicipalityShape, schools: SchoolsShape, calendar: ServiceCalendar
) -> Municipality:
    windows = _windows(town.look_ahead_days, tuple((channel, _there(each.opens)) for channel, each in evenings(town)))
    office, kitchen = town.office, schools.kitchen
    trays = frozenset(kitchen.trays) if kitchen else frozenset[str]()
    return Municipality(
        key=key,
        name=_there(town.name),
        languages=tuple(town.languages),
        numbers=tuple(town.numbers),
        user_code_digits=_there(town.user_code_digits),
        pin_digits=town.pin_digits,
        clock_bound_max=timedelta(milliseconds=town.clock.bound_max_ms),
        town=Town(calendar, windows, town.bland_days_max, trays),
        office=Office(office.phone, office.hours, office.address) if office else None,
        kitchen=Kitchen(kitchen.name, kitchen.email) if kitchen else None,
        folder=files.folder,
        people_file=files.people,
        hosts=tuple(town.hosts),
        bot=town.bot,
    )


Value = TypeVar("Value", str, int, time, date, Period)


def _there(value: Value | None) -> Value:
    """A value that the checks found to be there."""
    if value is None:
        raise ValueError("a value that is required was not checked")
    return value
