"""`mensa presence`, `mensa change`: an operator at the desk."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import fields
from datetime import date, timedelta
from typing import Annotated, Any, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from core.access import Actor
from core.changes import Change, NewChange
from core.clock import Reading
from core.desk import Action, Bland, Cancel, PupilDay, Request, Resume, Suspend, Undo
from core.outcomes import Accepted, NothingToUndo, Outcome, Refused
from core.people import Pupil
from core.ports import Refusal
from core.window import Channel
from gateway.cli_options import (
    ANSWER_IS_NO,
    CONFIG,
    ConfigOption,
    JsonOption,
    TownOption,
    choose_town,
    fail,
    load_or_exit,
    print_json,
)
from gateway.files.mistakes import one_of, shown
from gateway.installation import Installation, InstallationError, open_installation
from gateway.municipality import Municipality
from gateway.pin_key import PinKeyError
from gateway.store.port import StoreError
from gateway.telephone import TownDesks

desk_app = typer.Typer()

# More days than a school year has are a typing mistake.
DAYS_MAX = 400
# What a parent asks about: this week and the next.
DAYS_USUAL = 13
ACTIONS = ("cancel", "bland", "suspend", "resume", "undo")

Result = TypeVar("Result")
Work = Callable[[Installation, Municipality, TownDesks], Awaitable[Result]]
_Told = tuple[Sequence[PupilDay], Sequence[Refusal]]


def at_the_desk(config: Any, town: str | None, work: Work[Result]) -> Result:
    """Open the installation for one command on one town; what cannot be opened ends the command with a line."""
    configuration = load_or_exit(config, town)
    municipality = choose_town(configuration, town)

    async def run() -> Result:
        async with open_installation(configuration) as house:
            await house.clock.measure()
            return await work(house, municipality, house.desks_of(municipality))

    return run_or_exit(run())


def run_or_exit(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a command's work; what cannot be opened or stored ends it with a line."""
    try:
        return asyncio.run(work)
    except (InstallationError, PinKeyError, StoreError) as error:
        fail(str(error))


@desk_app.command()
def presence(
    code: Annotated[str, typer.Argument(metavar="CODE", help="The pupil's user code.")],
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="First day; today if not given.")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day; two weeks if not given.")] = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """What a pupil gets on each day with the change behind it, and what was refused for those days."""
    start, end = _day(first, "--from"), _day(last, "--to")

    async def work(house: Installation, municipality: Municipality, desks: TownDesks) -> _Told:
        pupil = await _pupil(desks, code)
        calendar = municipality.town.calendar
        begin = start or calendar.local(house.clock_of(municipality).read().midpoint).date()
        until = end or begin + timedelta(days=DAYS_USUAL)
        if not begin <= until <= begin + timedelta(days=DAYS_MAX):
            fail(f"--to: {until} is not within {DAYS_MAX} days from {begin}; expected a later day within them")
        refusals = [
            each
            for each in await desks.store.refusals(pupil.id)
            if begin <= (each.day or calendar.local(each.decided.midpoint).date()) <= until
        ]
        return await desks.booking.presences(pupil, begin, until), refusals

    timezone = choose_town(load_or_exit(config, town), town).timezone
    days, refusals = at_the_desk(config, town, work)
    if as_json:
        print_json(
            {
                "code": code,
                "days": [_day_document(each) for each in days],
                "refusals": [_refusal_document(each) for each in refusals],
            }
        )
        return
    table = _table("day", "presence", "why", "receipt", "channel", "decided")
    for each in days:
        table.add_row(
            f"{each.day:%a} {each.day}",
            each.presence.value,
            each.status.why or "",
            *_change_cells(each.change, timezone),
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    if refusals:
        table = _table("refused", "action", "day", "outcome", "channel")
        for refusal in refusals:
            table.add_row(
                _decided(refusal.decided, timezone),
                refusal.action,
                str(refusal.day or ""),
                refusal.outcome,
                refusal.channel.value,
            )
        console.print()
        console.print(table)


@desk_app.command()
def change(
    action: Annotated[str, typer.Argument(metavar="ACTION", help=f"One of: {', '.join(ACTIONS)}.")],
    code: Annotated[str, typer.Argument(metavar="CODE", help="The pupil's user code.")],
    day: Annotated[
        str | None, typer.Option(metavar="DAY", help="For cancel, bland, undo; the first useful day.")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DAY", help="For suspend, resume; likewise.")] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="For suspend: the last day.")] = None,
    request: Annotated[str | None, typer.Option(metavar="KEY", help="The same key is the same change once.")] = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Act for a parent, now: the channel `office`, any day that can still be changed. Exit 1 when it is refused."""
    if action not in ACTIONS:
        fail(f"ACTION: {shown(action)} is none; {one_of(action, ACTIONS)}")
    days = {"--day": _day(day, "--day"), "--from": _day(first, "--from"), "--until": _day(until, "--until")}
    allowed = {"suspend": {"--from", "--until"}, "resume": {"--from"}}.get(action, {"--day"})
    for option, given in days.items():
        if given is not None and option not in allowed:
            fail(f"{option}: does not go with {action}; expected {' or '.join(sorted(allowed))}")

    async def work(house: Installation, municipality: Municipality, desks: TownDesks) -> Outcome:
        pupil = await _pupil(desks, code)
        at = house.clock_of(municipality).read()
        key = request or uuid4().hex
        actor = Actor(Channel.OFFICE, f"command-{key[:32]}", None, frozenset({pupil.id}))
        [view] = await desks.booking.views(Channel.OFFICE, [pupil], at)
        target = view.day or municipality.town.calendar.last_day
        asked = _action(action, days["--day"], days["--from"], days["--until"], target)
        [outcome] = await desks.booking.act(actor, [Request(pupil, asked, key)], at)
        return outcome

    outcome = at_the_desk(config, town, work)
    if as_json:
        print_json(outcome_document(outcome))
    else:
        typer.echo(_sentence(outcome))
    if isinstance(outcome, (Refused, NothingToUndo)):
        raise typer.Exit(ANSWER_IS_NO)


def _action(action: str, day: date | None, first: date | None, until: date | None, target: date) -> Action:
    match action:
        case "cancel":
            return Cancel(day or target)
        case "bland":
            return Bland(day or target)
        case "suspend":
            return Suspend(first or target, until)
        case "resume":
            return Resume(first or target)
        case _:
            return Undo(day)


async def _pupil(desks: TownDesks, code: str) -> Pupil:
    pupil = await desks.pupil(code)
    if pupil is None:
        typer.echo(f"CODE: no pupil has the user code {shown(code)}; nothing was done", err=True)
        raise typer.Exit(ANSWER_IS_NO)
    return pupil


def _day(text: str | None, option: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        fail(f"{option}: {shown(text)} is no date; expected one such as 2026-11-24")


def outcome_document(outcome: Outcome) -> dict[str, object]:
    """An outcome as JSON: its word, and what it says beside it."""
    document: dict[str, object] = {"outcome": outcome.word, "accepted": isinstance(outcome, Accepted)}
    for each in fields(outcome):
        value = getattr(outcome, each.name)
        document[each.name] = change_document(value) if isinstance(value, NewChange) else value
    return document


def change_document(change: NewChange) -> dict[str, object]:
    """A change as JSON; instants are in UTC."""
    return {
        "kind": change.kind.value,
        "from": change.first,
        "until": change.last,
        "receipt": change.receipt,
        "channel": change.channel.value,
        "decided_earliest": change.decided.earliest.isoformat(),
        "decided_latest": change.decided.latest.isoformat(),
        "clock": change.decided.source,
        "synchronised": change.decided.synchronised,
        "review": change.review,
        "session": change.session,
    }


def _day_document(each: PupilDay) -> dict[str, object]:
    return {
        "day": each.day,
        "presence": each.presence.value,
        "service": each.status.service.value,
        "why": each.status.why,
        "change": None if each.change is None else change_document(each.change),
    }


def _refusal_document(refusal: Refusal) -> dict[str, object]:
    return {
        "action": refusal.action,
        "day": refusal.day,
        "outcome": refusal.outcome,
        "channel": refusal.channel.value,
        "decided_earliest": refusal.decided.earliest.isoformat(),
        "decided_latest": refusal.decided.latest.isoformat(),
        "clock": refusal.decided.source,
        "synchronised": refusal.decided.synchronised,
        "session": refusal.session,
    }


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _decided(at: Reading, timezone: ZoneInfo) -> str:
    return f"{at.midpoint.astimezone(timezone):%Y-%m-%d %H:%M:%S}"


def _change_cells(change: Change | None, timezone: ZoneInfo) -> tuple[str, str, str]:
    if change is None:
        return "", "", ""
    return change.receipt, change.channel.value, _decided(change.decided, timezone)


def _sentence(outcome: Outcome) -> str:
    said = [outcome.word]
    for each in fields(outcome):
        value = getattr(outcome, each.name)
        if isinstance(value, NewChange):
            span = f"{value.first}" if value.last == value.first else f"{value.first}..{value.last or ''}"
            said.append(f"{each.name}={value.kind} {span} receipt={value.receipt}")
        else:
            said.append(f"{each.name}={value}")
    return " ".join(said)
