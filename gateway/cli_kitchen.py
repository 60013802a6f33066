"""`mensa headcount`: how many meals a kitchen has to cook, as counted so far or as a closing has made it final."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from core.calendar import ServiceCalendar
from core.changes import Presence
from core.clock import Reading
from core.headcount import EATS, Closing, Headcount, MealCount, is_intact
from gateway.cli_desk import at_the_desk
from gateway.cli_options import (
    ANSWER_IS_NO,
    CONFIG,
    ConfigOption,
    JsonOption,
    TownOption,
    fail,
    print_json,
)
from gateway.files.mistakes import one_of, shown
from gateway.installation import Installation
from gateway.municipality import Municipality
from gateway.telephone import TownDesks

kitchen_app = typer.Typer()

# As much of a digest as people compare by eye; --json has all of it.
DIGEST_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Counted:
    """One school's day as it is told: `cutoff` is the instant (UTC) at which it becomes or became final.

    `closing` is None for a count so far, and `is_late` says that this should be one no more. `is_intact` says whether a
    closing's digest is that of its rows. `why` says why nobody is served, where nobody is.
    """

    school: str
    headcount: Headcount
    closing: Closing | None
    cutoff: datetime
    is_late: bool
    is_intact: bool
    why: str


@kitchen_app.command()
def headcount(
    school: Annotated[str | None, typer.Option(metavar="SCHOOL", help="Its key; every school if not given.")] = None,
    day: Annotated[
        str | None, typer.Option(metavar="DAY", help="The next service day, today included, if not given.")
    ] = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """The meals of a school's day by class group, kind and diet, and whether they are final. Exit 1 without service."""
    asked = None if day is None else _day(day)

    async def work(house: Installation, municipality: Municipality, desks: TownDesks) -> tuple[str, ZoneInfo, _Found]:
        calendar = municipality.town.calendar
        schools = _schools(municipality, school)
        at = house.clock_of(municipality).read()
        on = asked or _next_service_day(calendar, schools, calendar.local(at.earliest).date())
        counted = [await _count(desks, municipality, each, on, at) for each in schools]
        return municipality.key, municipality.timezone, (on, counted)

    key, timezone, (on, counted) = at_the_desk(config, town, work)
    if as_json:
        print_json({"town": key, "day": on, "schools": [_document(each) for each in counted]})
    else:
        _print(on, counted, timezone)
    if all(each.why for each in counted):
        raise typer.Exit(ANSWER_IS_NO)


_Found = tuple[date, Sequence[Counted]]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        fail(f"--day: {shown(text)} is no date; expected one such as 2026-11-24")


def _schools(municipality: Municipality, school: str | None) -> Sequence[str]:
    schools = sorted(municipality.town.calendar.schools)
    if school is None:
        return schools
    if school not in schools:
        fail(f"--school: {municipality.key} has no school {shown(school)}; {one_of(school, schools)}")
    return [school]


def _next_service_day(calendar: ServiceCalendar, schools: Sequence[str], today: date) -> date:
    day = calendar.first_service_day(schools, today)
    if day is None:
        fail(f"--day: no service day is left from {today} on; expected one, such as {calendar.last_day}")
    return day


async def _count(desks: TownDesks, municipality: Municipality, school: str, day: date, at: Reading) -> Counted:
    counted, closing = await desks.kitchen.headcount(school, day)
    calendar = municipality.town.calendar
    cutoff = closing.cutoff if closing else calendar.cutoff(school, day)
    return Counted(
        school,
        counted,
        closing,
        cutoff,
        is_late=closing is None and at.is_past(cutoff),
        is_intact=closing is None or is_intact(municipality.key, closing),
        why="" if counted.class_groups else _why(calendar, school, day),
    )


def _why(calendar: ServiceCalendar, school: str, day: date) -> str:
    """Why no class group of the school is served, each reason once."""
    reasons: dict[str, None] = {}
    for group in calendar.classes.values():
        if group.school == school:
            status = calendar.status(group, day)
            reasons[f"{status.service.value} ({status.why})" if status.why else status.service.value] = None
    return ", ".join(reasons) or "it has no class groups"


def _print(day: date, counted: Sequence[Counted], timezone: ZoneInfo) -> None:
    console = Console(width=None if Console().is_terminal else 120)
    for number, each in enumerate(counted):
        if number:
            console.print()
        if each.why:
            console.print(f"{each.school}, {day:%a} {day}: not served: {each.why}", markup=False, highlight=False)
            continue
        console.print(
            f"{each.school}, {day:%a} {day}: {_meals(each.headcount.meals)}, {_state(each, timezone)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        console.print(_table(each.headcount))


def _meals(meals: int) -> str:
    return "1 meal" if meals == 1 else f"{meals} meals"


def _state(each: Counted, timezone: ZoneInfo) -> str:
    cutoff = f"{each.cutoff.astimezone(timezone):%H:%M}"
    if each.closing is None:
        return (
            f"so far; its cutoff, {cutoff}, has passed: not closed yet"
            if each.is_late
            else f"so far; final at {cutoff}"
        )
    closed = f"{each.closing.closed.midpoint.astimezone(timezone):%Y-%m-%d %H:%M:%S}"
    intact = "" if each.is_intact else ", WHICH IS NOT THAT OF WHAT IS STORED NOW"
    digest = each.closing.digest[:DIGEST_SHOWN]
    return f"final since {cutoff}; order {each.closing.order}, closed {closed}, digest {digest}{intact}"


def _table(headcount: Headcount) -> Table:
    """A line for each class group, a column for each kind and diet that anybody eats, and the sums of both."""
    found = {(count.kind, count.diet or "") for count in headcount.counts}
    kinds = sorted(found, key=lambda each: (each[1], EATS.index(each[0])))
    table = Table(box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for kind, diet in kinds:
        table.add_column(f"{kind.value} {diet}".strip(), justify="right", no_wrap=True)
    table.add_column("meals", justify="right", no_wrap=True)
    for group in headcount.class_groups:
        table.add_row(group, *_row([count for count in headcount.counts if count.class_group == group], kinds))
    table.add_row("all", *_row(headcount.counts, kinds), style="bold")
    return table


def _row(counts: Sequence[MealCount], kinds: Sequence[tuple[Presence, str]]) -> Iterator[str]:
    for kind, diet in kinds:
        yield str(sum(count.meals for count in counts if (count.kind, count.diet or "") == (kind, diet)) or "")
    yield str(sum(count.meals for count in counts))


def _document(each: Counted) -> dict[str, object]:
    closing, headcount = each.closing, each.headcount
    return {
        "school": each.school,
        "served": not each.why,
        "why": each.why,
        "final": closing is not None,
        "cutoff": each.cutoff.isoformat(),
        "meals": headcount.meals,
        "kinds": {kind.value: headcount.meals_of(kind) for kind in EATS},
        "diets": dict(headcount.meals_by_diet()),
        "counts": [
            {"class": count.class_group, "kind": count.kind.value, "diet": count.diet, "meals": count.meals}
            for count in headcount.counts
        ],
        "classes": list(headcount.class_groups),
        "closing": None
        if closing is None
        else {
            "order": closing.order,
            "closed_earliest": closing.closed.earliest.isoformat(),
            "closed_latest": closing.closed.latest.isoformat(),
            "clock": closing.closed.source,
            "synchronised": closing.closed.synchronised,
            "digest": closing.digest,
            "intact": each.is_intact,
        },
    }
