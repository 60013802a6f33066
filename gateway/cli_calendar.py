"""`mensa calendar`: check a calendar, show a month of it, and say what an edit would change."""

import asyncio
import calendar as months
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import date, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.calendar import ClosedDays, Service, ServiceCalendar
from core.changes import History
from core.people import ClassGroup, Pupil
from gateway.calendar_diff import CalendarDiff, CutoffDiff, Touched, diff, final_days, touched
from gateway.cli_options import (
    ANSWER_IS_NO,
    CONFIG,
    WRONG_USAGE,
    ConfigOption,
    JsonOption,
    TownOption,
    choose_town,
    fail,
    load_or_exit,
    print_json,
    tell,
    towns_told,
)
from gateway.files.load import TOWNS, Configuration, check_folder, load_town
from gateway.files.mistakes import one_of, shown
from gateway.installation import database_url, has_database
from gateway.municipality import Municipality
from gateway.store.engine import open_store
from gateway.store.port import StoreError

calendar_app = typer.Typer(no_args_is_help=True, help="The service calendars of the towns.")

# Where the output goes to a file there is no width to keep to; this one leaves room for a reason in each day.
WIDTH_WITHOUT_TERMINAL = 120
# Beyond this many a list of days is for --json; the first ones show which edit it was.
DAYS_SHOWN_MAX = 5

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WORDS = {
    Service.SERVED: "served",
    Service.OPENED: "served",
    Service.CLOSED: "closed",
    Service.HOLIDAY: "holiday",
    Service.PATRON: "patron saint",
    Service.WEEKDAY: "-",
    Service.OUT_OF_YEAR: "no service yet or any more",
    Service.NO_CLASS_GROUP: "no such class group",
}


@calendar_app.command()
def check(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A town's folder or a configuration folder; else --config.")
    ] = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every mistake of a town's folder, or of a whole configuration folder; exit 1 if there are any."""
    checked = folder or (config / TOWNS / town if town else config)
    if not checked.is_dir():
        fail(f"{checked}: no such folder; expected a town's folder or a configuration folder")
    with towns_told() as on_progress:
        mistakes = check_folder(checked, on_progress)
    if as_json:
        found = [{**asdict(each), "file": str(each.file)} for each in mistakes]
        print_json({"folder": str(checked), "ok": not mistakes, "mistakes": found})
    else:
        for mistake in mistakes:
            typer.echo(str(mistake))
    if not mistakes and not as_json:
        typer.echo(f"{checked}: no mistakes", err=True)
    if mistakes:
        raise typer.Exit(ANSWER_IS_NO)


@calendar_app.command()
def show(
    class_way: Annotated[str, typer.Option("--class", metavar="SCHOOL/CLASS", help="As primaria/3B.")],
    month: Annotated[str, typer.Option("--month", metavar="YYYY-MM", help="As 2026-11.")],
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a month of one class: which days are served, which are closed and why, and until when each can be changed."""
    municipality = choose_town(load_or_exit(config, town), town)
    group = _class_group(municipality, class_way)
    days = _month(month)
    if as_json:
        print_json(
            {
                "town": municipality.key,
                "school": group.school,
                "class": group.name,
                "month": month,
                "days": [_day_document(municipality.town.calendar, group, day) for day in days],
            }
        )
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_WITHOUT_TERMINAL
    school = municipality.town.calendar.schools[group.school]
    console.print(f"{municipality.name}, {school.name}, class {group.name}, {month}", markup=False)
    console.print(_grid(municipality.town.calendar, group, days))


@calendar_app.command(name="diff")
def show_diff(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An edited copy of the town's folder.")],
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what an edit would change: days opened and closed, cutoffs, and the standing changes and pupils it touches."""
    configuration = load_or_exit(config)
    named = configuration.municipalities.named(folder.resolve().name)
    municipality = named if town is None and named is not None else choose_town(configuration, town)
    edited = load_town(folder)
    if not isinstance(edited, Municipality):
        tell(edited)
        raise typer.Exit(WRONG_USAGE)
    edit = diff(municipality.town.calendar, edited.town.calendar)
    schools = municipality.town.calendar.schools.keys() | edited.town.calendar.schools.keys()
    kept = asyncio.run(_kept(configuration, municipality.key, schools))
    counted = kept if isinstance(kept, str) else touched(edit, kept[0])
    final = {} if isinstance(kept, str) else final_days(edit, kept[1])
    if as_json:
        print_json(_diff_document(municipality, edit, counted, final))
        return
    for line in _diff_lines(edit, counted, final):
        typer.echo(line)


def _class_group(municipality: Municipality, class_way: str) -> ClassGroup:
    school, _, name = class_way.partition("/")
    classes = municipality.town.calendar.classes
    found = classes.get((school, name))
    if found is None:
        known = [f"{each_school}/{each_name}" for each_school, each_name in classes]
        fail(f"--class: {municipality.key} has no class {shown(class_way)}; {one_of(class_way, known)}")
    return found


def _month(text: str) -> list[date]:
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        fail(f"--month: {shown(text)} is no month; expected year and month as 2026-11")
    _, length = months.monthrange(first.year, first.month)
    return [first.replace(day=day) for day in range(1, length + 1)]


def _grid(calendar: ServiceCalendar, group: ClassGroup, days: Sequence[date]) -> Table:
    table = Table(show_lines=True, expand=True)
    for name in _WEEKDAYS:
        table.add_column(name, ratio=1)
    cells = [Text("") for _ in range(days[0].weekday())] + [_cell(calendar, group, day) for day in days]
    cells += [Text("") for _ in range(-len(cells) % len(_WEEKDAYS))]
    for start in range(0, len(cells), len(_WEEKDAYS)):
        table.add_row(*cells[start : start + len(_WEEKDAYS)])
    return table


def _cell(calendar: ServiceCalendar, group: ClassGroup, day: date) -> Text:
    status = calendar.status(group, day)
    word = _WORDS[status.service]
    if not status.is_served:
        style = "dim" if status.service in (Service.WEEKDAY, Service.OUT_OF_YEAR) else "red"
        return Text.assemble((f"{day.day}\n", "bold"), (f"{word}: {status.why}" if status.why else word, style))
    at = calendar.cutoff_time(group.school, day)
    lines = [f"{word} until {at:%H:%M}"]
    if at != calendar.schools[group.school].cutoff:
        lines.append(_override_why(calendar, group, day))
    if status.why:
        lines.append(status.why)
    return Text.assemble((f"{day.day}\n", "bold"), ("\n".join(filter(None, lines)), "green"))


def _override_why(calendar: ServiceCalendar, group: ClassGroup, day: date) -> str:
    found = [each for each in calendar.cutoffs if each.day == day and each.school in (group.school, None)]
    # The school's own beats the municipality's, as in `cutoff_time`.
    return max(found, key=lambda each: each.school is not None).why if found else ""


def _day_document(calendar: ServiceCalendar, group: ClassGroup, day: date) -> dict[str, object]:
    status = calendar.status(group, day)
    return {
        "date": day.isoformat(),
        "served": status.is_served,
        "service": status.service.value,
        "why": status.why,
        "cutoff": _clock(calendar.cutoff_time(group.school, day)) if status.is_served else None,
    }


async def _kept(
    configuration: Configuration, key: str, schools: Iterable[str]
) -> tuple[list[tuple[Pupil, History]], ClosedDays] | str:
    """Every pupil of the town with its changes, and the closed days; in words why not, where there is no database to ask."""
    if not has_database(configuration):
        return "no database"
    try:
        store = await open_store(database_url(configuration))
        try:
            at_town = store.at(key)
            pupils = await at_town.all_pupils()
            histories = await at_town.histories([pupil.id for pupil in pupils])
            closed = await at_town.closed_days(dict.fromkeys(schools, date.min))
        finally:
            await store.close()
    except StoreError as error:
        return f"the database cannot be read ({error})"
    return [(pupil, histories[pupil.id]) for pupil in pupils], closed


def _diff_lines(edit: CalendarDiff, counted: Touched | str, final: Mapping[str, Sequence[date]]) -> Iterator[str]:
    if edit.is_empty:
        yield "nothing changes: no day opens or closes, no cutoff moves"
    for each in edit.classes:
        for verb, days in (("opens", each.opened), ("closes", each.closed)):
            if days:
                yield f"{each.school}/{each.name} {verb} {_days(days)}"
    for (school, before, after), cutoffs in groupby(sorted(edit.cutoffs, key=_kind), key=_kind):
        on = _days(each.day for each in cutoffs)
        yield f"{school}: cutoff {_clock(after)} instead of {_clock(before)} on {on}"
    for school, closed in final.items():
        yield f"{school}: already closed and staying as counted, whatever the edit says: {_days(closed)}"
    if isinstance(counted, str):
        yield f"{counted}: standing changes not counted"
        return
    yield (
        f"{_count(counted.changes, 'standing change')} of {_count(counted.pupils_with_changes, 'pupil')} touched; "
        f"{_count(counted.pupils, 'pupil')} with days opened or closed"
    )


def _kind(cutoff: CutoffDiff) -> tuple[str, time, time]:
    return cutoff.school, cutoff.before, cutoff.after


def _diff_document(
    municipality: Municipality, edit: CalendarDiff, counted: Touched | str, final: Mapping[str, Sequence[date]]
) -> dict[str, object]:
    return {
        "town": municipality.key,
        "classes": [
            {
                "school": each.school,
                "class": each.name,
                "opened": [day.isoformat() for day in each.opened],
                "closed": [day.isoformat() for day in each.closed],
            }
            for each in edit.classes
        ],
        "cutoffs": [
            {
                "school": each.school,
                "date": each.day.isoformat(),
                "before": _clock(each.before),
                "after": _clock(each.after),
            }
            for each in edit.cutoffs
        ],
        "already_closed": [
            {"school": school, "dates": [day.isoformat() for day in days]} for school, days in final.items()
        ],
        "touched": None if isinstance(counted, str) else asdict(counted),
        "not_counted": counted if isinstance(counted, str) else None,
    }


def _days(days: Iterable[date]) -> str:
    """The days, those that follow each other as ranges, and how many they are where not all are shown."""
    runs: list[list[date]] = []
    for day in days:
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    shown_runs = [
        _day(run[0]) if len(run) == 1 else f"{_day(run[0])}..{_day(run[-1])}" for run in runs[:DAYS_SHOWN_MAX]
    ]
    left = sum(len(run) for run in runs[DAYS_SHOWN_MAX:])
    more = f" and {left} more" if left else ""
    return f"{_count(sum(len(run) for run in runs), 'day')}: {', '.join(shown_runs)}{more}"


def _day(day: date) -> str:
    return f"{_WEEKDAYS[day.weekday()]} {day.isoformat()}"


def _clock(at: time) -> str:
    return f"{at:%H:%M}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
