"""`mensa phone`, `mensa rehearse`, `mensa map`: the line without Asterisk."""

import asyncio
import json
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from core.ports import Clock
from gateway.call_map import call_tree, svg
from gateway.cli_desk import run_or_exit
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
    write_or_exit,
)
from gateway.clock import FixedClock
from gateway.files.load import Configuration
from gateway.files.mistakes import Mistake
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.installation import PIN_KEY_FILE, database_url, has_database, rehearsal_offset, secrets_folder
from gateway.municipality import Municipality
from gateway.numbers import normalise_number
from gateway.opening import eve_of_service
from gateway.pin_key import check_pin_key, load_pin_key
from gateway.rehearsal import (
    At,
    OpenTown,
    SkippedTimeError,
    Stage,
    local_instant,
    open_town_in,
    parse,
    parse_instant,
    read,
    read_town,
)
from gateway.store.engine import copy_store, open_store
from gateway.telephone import TownDesks, greeting_of, open_desks
from ivr.flow import parents_line
from ivr.line import Prompt
from ivr.spoken import words
from ivr.terminal import NoKeysError, ScriptedLine, SilentJournal, TerminalLine, parse_keys

line_app = typer.Typer()


@line_app.command()
def phone(
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    caller: Annotated[
        str | None, typer.Option("--from", metavar="NUMBER", help="Who calls; withheld if not given.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Local time of the call, as 2026-11-23T18:30.")
    ] = None,
    keys: Annotated[
        str | None,
        typer.Option(
            metavar="KEYS", help='Not interactive: a word for each question, as "1 1"; - is silence, x hangs up.'
        ),
    ] = None,
    as_json: JsonOption = False,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the call as a rehearsal file.")] = None,
) -> None:
    """A call in this terminal, on a scratch copy of the data: nothing that is done here is kept."""
    configuration = load_or_exit(config, town)
    municipality = choose_town(configuration, town)
    number = None
    if caller is not None:
        number = normalise_number(caller)
        if number is None:
            fail(f"--from: {caller!r} is no telephone number; expected one such as +390350000101")
    try:
        scripted = None if keys is None else parse_keys(keys)
    except NoKeysError as error:
        fail(f"--keys: {error}")
    if scripted is None and not sys.stdin.isatty():
        fail("phone: there is no terminal to press keys in; say what is keyed with --keys")
    instant = None if at is None else _instant(at, municipality)
    run_or_exit(_phone(configuration, municipality, number, instant, scripted, as_json, save))


async def _phone(
    configuration: Configuration,
    municipality: Municipality,
    caller: str | None,
    at: At | None,
    keys: tuple[str, ...] | None,
    as_json: bool,
    save: Path | None,
) -> None:
    catalogues = read_catalogues(phrases_folder())
    console, hints = Console(), Console(stderr=True)
    heard: list[dict[str, str]] = []

    def show(prompt: Prompt, language: str) -> None:
        said = words(prompt, catalogues[language])
        heard.append({"id": prompt.id, "words": said})
        if said and not as_json:
            console.print(f"  [cyan]{escape(said)}[/]  [dim]{prompt.id}[/]", soft_wrap=True)

    def show_key(key: str) -> None:
        console.print(f"[bold green]{escape(key)}[/]", soft_wrap=True)

    async with _scratch(configuration, municipality) as (desks, usual_clock):
        clock = usual_clock
        if at is not None:
            clock = FixedClock(local_instant(at.wall, municipality.timezone), at.bound)
        reading = clock.read()
        now = reading.midpoint.astimezone(municipality.timezone)
        line: ScriptedLine
        if keys is None:
            hints.print(f"[dim]{now:%A %d %B %Y, %H:%M}. Press keys as on a telephone; x hangs up.[/]")
            line = TerminalLine(on_prompt=show, on_key=show_key)
        else:
            line = ScriptedLine(keys, on_prompt=show, on_key=None if as_json else show_key)
        word = await parents_line(
            line, SilentJournal(), greeting_of(municipality), desks.for_calls(clock), caller, "terminal"
        )
        if as_json:
            print_json(
                {
                    "town": municipality.key,
                    "at": now.isoformat(),
                    "outcome": word,
                    "receipts": line.receipts,
                    "heard": heard,
                }
            )
        else:
            console.print(f"[bold]{word}[/]")
        if save is not None:
            began = At(now.replace(tzinfo=None), reading.bound)
            keyed = keys if keys is not None else line.keyed
            text = _rehearsal(municipality, began, caller or "anonymous", keyed, line.heard, word)
            await asyncio.to_thread(write_or_exit, save, text, "--save")
            hints.print(
                f"[dim]{escape(str(save))}: written; run it with mensa rehearse {escape(shlex.quote(str(save)))}[/]"
            )


def _rehearsal(town: Municipality, at: At, caller: str, keys: Sequence[str], heard: Sequence[str], word: str) -> str:
    bound = f" ±{at.bound // timedelta(milliseconds=1)}ms" if at.bound else ""
    lines = [
        f"town      {town.key}",
        f"at        {at.wall.isoformat(sep=' ', timespec='milliseconds')}{bound}",
        f"call      {caller} keys {' '.join(keys)}".rstrip(),
        f"heard     {' '.join(heard)}",
        f"outcome   {word}",
    ]
    return "\n".join(lines) + "\n"


@asynccontextmanager
async def _scratch(configuration: Configuration, municipality: Municipality) -> AsyncIterator[tuple[TownDesks, Clock]]:
    """The town's desks on a copy of the database; without one, on people.csv and the evening before service."""
    if not has_database(configuration):
        fresh: OpenTown = open_town_in(configuration.folder)
        try:
            opened = fresh(municipality.key)
        except (LookupError, ValueError) as error:
            fail(str(error))
        yield opened.desks, FixedClock(eve_of_service([municipality], datetime.now(UTC)))
        return
    with tempfile.TemporaryDirectory(prefix="mensa-phone-") as folder:
        hasher = load_pin_key(secrets_folder(configuration) / PIN_KEY_FILE)
        store = await open_store(await copy_store(database_url(configuration), Path(folder) / "scratch.db"))
        try:
            await store.migrate()
            await check_pin_key(store, hasher)
            now = datetime.now(UTC) + await rehearsal_offset(store)
            yield open_desks(lambda: municipality, store, hasher), FixedClock(now)
        finally:
            await store.close()


def _instant(text: str, town: Municipality) -> At:
    try:
        instant = parse_instant(text)
        local_instant(instant.wall, town.timezone)
    except SkippedTimeError as error:
        fail(f"--at: {error}")
    except ValueError as error:
        fail(f"--at: {error}")
    return instant


@line_app.command()
def rehearse(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Rehearsal files.")],
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run rehearsal files, each on its own fresh data; print every line that went otherwise, exit 1 if any did."""
    open_town = open_town_in(config)
    mistakes: list[Mistake] = []
    failures: list[object] = []
    was_broken_off = False
    count = 0
    for file in files:
        try:
            steps, wrong = parse(read(file), file)
        except (OSError, ValueError) as error:
            steps, wrong = [], [Mistake(file, 1, 1, f"cannot be read: {error}")]
        mistakes += wrong
        if wrong:
            # Half a story proves nothing; the other files are run all the same.
            continue
        count += len(steps)
        stage = Stage(file, open_town, first_town=town)
        asyncio.run(stage.run(steps))
        # The mistakes of a town are told once, however many files rehearse in it.
        failures += [each for each in stage.failures if each not in failures]
        was_broken_off = was_broken_off or stage.was_broken_off
    found = [*mistakes, *failures]
    if as_json:
        print_json(
            {"files": len(files), "steps": count, "ok": not found, "failed": [_document(each) for each in found]}
        )
    else:
        for each in found:
            typer.echo(str(each))
        said = f"{len(failures)} failed" if failures else "all as rehearsed"
        broken = f"; {len(mistakes)} mistakes, whose files were not run" if mistakes else ""
        typer.echo(f"{len(files)} files, {count} steps: {said}{broken}", err=True)
    if mistakes or was_broken_off:
        raise typer.Exit(WRONG_USAGE)
    if failures:
        raise typer.Exit(ANSWER_IS_NO)


def _document(found: object) -> dict[str, object]:
    values = asdict(found)  # type: ignore[call-overload]  # a Mistake or a Failure, both dataclasses
    return json.loads(json.dumps({**values, "text": str(found)}, default=str))  # type: ignore[no-any-return]  # of a dict


@line_app.command(name="map")
def draw_map(
    language: Annotated[str, typer.Option(metavar="LANGUAGE", help="The language of the words: it or en.")] = "it",
    svg_file: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Write a picture instead.")] = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """The whole call as a tree, drawn from the calls that were explored."""
    catalogues = read_catalogues(phrases_folder())
    if language not in catalogues:
        fail(f"--language: no phrases in {language!r}; expected one of {', '.join(sorted(catalogues))}")
    municipality = choose_town(load_or_exit(config, town), town)
    try:
        tree = call_tree(open_town_in(config), read_town(config, municipality.key)[1], municipality)
    except ValueError as error:
        fail(str(error))
    if as_json:
        print_json(tree.document(catalogues[language]))
    elif svg_file is None:
        Console().print(tree.rich(catalogues[language]))
    else:
        write_or_exit(svg_file, svg(tree, catalogues[language]), "--svg")
        typer.echo(f"{svg_file}: written", err=True)
