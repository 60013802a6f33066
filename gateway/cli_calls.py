"""`mensa calls`: the call log, as a clerk or an operator reads it."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.text import Text

from gateway.call_records import POLL_S, Wanted, follow, last_id, one_call, parse_since, records
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
from gateway.files.load import Configuration
from gateway.files.mistakes import one_of, shown
from gateway.installation import Installation, InstallationError, open_installation
from gateway.numbers import normalise_number
from gateway.pin_key import PinKeyError
from gateway.store.port import StoreError
from ivr.calls import OUTCOMES, REFUSALS, CallEvent, CallRecord, Step, fold_call

calls_app = typer.Typer(no_args_is_help=True, help="The call log.")

# Without --since: who asks for the log in the morning means the evening before.
SINCE = timedelta(days=1)
# R4's default, for a call to a number that is no town's.
TIMEZONE = ZoneInfo("Europe/Rome")
# A screen and a half before the first event that follows.
SHOWN_BEFORE_FOLLOWING = 20

_WENT_WRONG = frozenset({"failed", "not_identified", "locked"})
_NOTHING_HAPPENED = frozenset({"abandoned", "informed"})


@calls_app.callback()
def calls() -> None:
    """The call log."""


@calls_app.command()
def tail(
    follows: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    number: Annotated[str | None, typer.Option(metavar="NUMBER", help="Calls from this number, written whole.")] = None,
    outcome: Annotated[
        str | None, typer.Option(metavar="OUTCOME", help="Calls with this outcome, as `cancelled`.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Calls from 08:30, 2026-11-23, 2026-11-23T08:30 or 2h ago on; else of one day."
        ),
    ] = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document, a list of calls; with --follow one JSON object a line.")
    ] = False,
) -> None:
    """The calls so far, a line each: when, where, who, what came of it, and its id for `mensa calls show`."""
    configuration = load_or_exit(config, town)
    if town is not None:
        choose_town(configuration, town)
    if outcome is not None and outcome not in OUTCOMES:
        fail(f"--outcome: {shown(outcome)} is no outcome; {one_of(outcome, sorted(OUTCOMES))}")
    caller = None if number is None else normalise_number(number)
    if number is not None and caller is None:
        fail("--number: that is no telephone number; expected one as +390350000101 or 0350000101")
    told = _Told(configuration, as_json)

    async def read(house: Installation) -> None:
        now = house.now()
        try:
            first = now - SINCE if since is None else parse_since(since, now, told.timezone(town))
        except ValueError as mistake:
            fail(f"--since: {mistake}")
        digest = None if caller is None else house.hasher.digest(f"caller:{caller}")
        wanted = Wanted(first, town, digest, outcome)
        after_id = await last_id(house.store)
        found = await records(house.store, wanted)
        if as_json and not follows:
            print_json([_document(record) for record in found])
            return
        for record in found[-SHOWN_BEFORE_FOLLOWING:] if follows and since is None else found:
            told.record(record)
        if follows:
            async for each in follow(house.store, wanted, after_id, lambda: asyncio.sleep(POLL_S)):
                if isinstance(each, CallRecord):
                    told.record(each)
                else:
                    told.note(each)
        elif not found:
            typer.echo(f"no such calls since {told.local(first, town)}", err=True)

    _run(configuration, read)


@calls_app.command()
def show(
    call: Annotated[str, typer.Argument(metavar="ID", help="As `mensa calls tail` names it.")],
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """One call, step by step, with the seconds since it began."""
    configuration = load_or_exit(config, town)
    if town is not None:
        choose_town(configuration, town)

    async def read(house: Installation) -> None:
        stored = await one_call(house.store, call)
        notes = sorted(stored.notes(), key=lambda note: note.at)
        if not notes or not stored.is_of(Wanted(town=town)):
            typer.echo(f"calls show: no call {shown(call)} is in the log; `mensa calls tail` lists them", err=True)
            raise typer.Exit(ANSWER_IS_NO)
        record = fold_call(notes)
        if as_json:
            print_json({"call": _document(record), "events": [_note_document(note) for note in notes]})
        else:
            _Told(configuration, as_json=False).whole(record, notes)

    _run(configuration, read)


def _run(configuration: Configuration, read: Callable[[Installation], Awaitable[None]]) -> None:
    async def opened() -> None:
        async with open_installation(configuration) as house:
            await read(house)

    try:
        asyncio.run(opened())
    except (InstallationError, PinKeyError, StoreError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except BrokenPipeError:
        # `mensa calls tail | head` has read enough; what is left in the buffer is not worth a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


class _Told:
    """How calls are shown: local time of their town, words that stand without colour, one unwrapped line each."""

    def __init__(self, configuration: Configuration, as_json: bool) -> None:
        self._timezones = {town.key: town.timezone for town in configuration.municipalities}
        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True)

    def timezone(self, town: str | None) -> ZoneInfo:
        if town is None and len(self._timezones) == 1:
            return next(iter(self._timezones.values()))
        return self._timezones.get(town or "", TIMEZONE)

    def local(self, at: datetime, town: str | None) -> str:
        return f"{at.astimezone(self.timezone(town)):%Y-%m-%d %H:%M:%S}"

    def record(self, record: CallRecord) -> None:
        if self._as_json:
            self._json(_document(record))
            return
        line = Text(self.local(record.started, record.town))
        line.append(f"  {record.town or '-':<14}  {record.number or '-':<14}  ")
        line.append(f"{record.outcome or 'going on':<17}", style=_style(record.outcome))
        line.append(f"  {'-'.join(record.receipts) or '-':<9}  {_questions(record):>12}  {record.seconds:>3} s")
        line.append(f"  {record.call}", style="dim")
        for remark in _remarks(record):
            line.append(f"  {remark}", style="bold red")
        self._console.print(line)

    def note(self, note: CallEvent) -> None:
        if self._as_json:
            self._json(_note_document(note))
            return
        line = Text(self.local(note.at, note.town), style="dim")
        line.append(
            f"  {note.town or '-':<14}  {note.number or '-':<14}  {note.step.value:<17}  {_words(note)}  {note.call}"
        )
        self._console.print(line)

    def whole(self, record: CallRecord, notes: Iterable[CallEvent]) -> None:
        known = {
            "call": record.call,
            "began": self.local(record.started, record.town),
            "town": record.town,
            "number": record.number,
            "dialled": record.dialled,
            "language": record.language,
            "identified by": record.identified,
            "pupils": record.pupils,
            "outcome": record.outcome or "going on",
            "receipts": " ".join(record.receipts),
            "lasted": f"{record.seconds} s, {_questions(record)}",
            "ended by": " ".join(str(part) for part in (record.cause, record.cause_text) if part is not None),
            "fallback": record.fallback,
            "gateway": f"{record.node or '-'}{' (died in this call)' if record.gateway_died else ''}",
        }
        for name, value in known.items():
            if value not in (None, ""):
                self._console.print(
                    Text(f"{name:<14}", style="dim")
                    + Text(str(value), style=_style(record.outcome) if name == "outcome" else "")
                )
        self._console.print()
        for note in notes:
            since = (note.at - record.started).total_seconds()
            style = _style(note.text("outcome")) if note.step in (Step.OUTCOME, Step.COMPLETED) else ""
            self._console.print(
                Text(f"{since:>+8.1f} s  {note.step.value:<12}") + Text(f"  {_words(note)}", style=style)
            )

    def _json(self, document: Mapping[str, object]) -> None:
        # Flushed line by line, for whoever reads along at the other end of a pipe.
        typer.echo(json.dumps(document, ensure_ascii=False, default=str))
        sys.stdout.flush()


def _document(record: CallRecord) -> dict[str, object]:
    return {"kind": "call", **{name: _plain(value) for name, value in asdict(record).items()}}


def _note_document(note: CallEvent) -> dict[str, object]:
    return {
        "kind": "event",
        "call": note.call,
        "at": note.at.isoformat(),
        "event": note.step.value,
        "town": note.town,
        "number": note.number,
        "fields": dict(note.fields),
    }


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _words(note: CallEvent) -> str:
    return " ".join(f"{name}={value}" for name, value in note.fields if value != "")


def _questions(record: CallRecord) -> str:
    return f"{record.steps} question{'' if record.steps == 1 else 's'}"


def _remarks(record: CallRecord) -> Iterator[str]:
    if record.gateway_died:
        yield "gateway died"
    if record.fallback:
        yield record.fallback


def _style(outcome: str | None) -> str:
    if outcome is None or not outcome:
        return ""
    if outcome in _WENT_WRONG:
        return "bold red"
    if outcome in REFUSALS:
        return "yellow"
    return "dim" if outcome in _NOTHING_HAPPENED else "green"
