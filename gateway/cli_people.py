"""`mensa people`: pupils, guardians and cooks taken in from files."""

import asyncio
import csv
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NoReturn, TextIO, cast

import typer

from core.headcount import Closing
from core.kitchen import NotDueError
from core.people import Cooks, People, UserCode
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
    tell,
)
from gateway.files.cooks import read_cooks
from gateway.files.load import Configuration
from gateway.files.mistakes import Mistake
from gateway.files.people import read_people
from gateway.installation import InstallationError, open_installation, sounds_folder
from gateway.kitchens import close_what_is_due
from gateway.logs import get_log
from gateway.municipality import Municipality
from gateway.nodes import Log
from gateway.pin_key import PinKeyError
from gateway.store.port import ImportReport, StoreError
from gateway.town_clips import make_clips, summary

people_app = typer.Typer(no_args_is_help=True, help="Pupils, guardians and cooks.")

# The letters hold PINs: nobody but the user who asked for them may read the file.
LETTERS_MODE = 0o600
LETTERS_HEADER = ("code", "guardian", "PIN")
COOKS_LETTERS_HEADER = ("code", "schools", "PIN")


@people_app.callback()
def people() -> None:
    """Pupils, guardians and cooks."""


LettersOption = Annotated[
    Path | None,
    typer.Option("--letters", metavar="FILE", help="A new file for the PINs that are made; they appear nowhere else."),
]


@people_app.command(name="import")
def import_file(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="UTF-8, header row, one row per pupil and guardian.")
    ],
    letters: LettersOption = None,
    clips: Annotated[
        bool, typer.Option(help="Make the clips of first names that have none, which takes a second each.")
    ] = True,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in pupils and guardians, all of them or none; every bad row is reported with its line."""
    configuration = load_or_exit(config, town)
    municipality = choose_town(configuration, town)
    found = read_people(file, municipality)
    if not isinstance(found, People):
        _refuse(file, found, as_json=as_json)
    try:
        with _letters_file(letters) as letter:
            closed, report = asyncio.run(_import(configuration, municipality, found))
            if letter is not None:
                _write_letters(letter, found, report)
    except OSError as error:
        fail(f"--letters: {error.filename} cannot be written ({error.strerror}); expected a file that is not there yet")
    except (StoreError, PinKeyError, InstallationError, NotDueError) as error:
        fail(f"{error}; nothing was taken in")
    names = [pupil.name for pupil in found.pupils]
    made = make_clips(municipality, names, sounds_folder(configuration.settings)) if clips else []
    if made:
        typer.echo(summary(made), err=True)
    for each in closed:
        typer.echo(
            f"{each.headcount.school} {each.headcount.day}: closed before anything was taken in, as of its cutoff: "
            f"order {each.order}, meals: {each.headcount.meals}",
            err=True,
        )
    _tell_report(municipality, found, report, letters, as_json=as_json)


async def _import(
    configuration: Configuration, municipality: Municipality, found: People
) -> tuple[Sequence[Closing], ImportReport]:
    """Take them in, after the days whose cutoff has passed are closed: those count who were on the roll then (R25)."""
    async with open_installation(configuration, makes_database=True) as house:
        await house.clock.measure()
        desks, clock = house.desks_of(municipality), house.clock_of(municipality)
        closed = await close_what_is_due(house.store, desks, clock, cast(Log, get_log()))
        report = await desks.store.import_people(found, house.hasher, lambda: make_pin(municipality.pin_digits))
        return closed, report


@people_app.command(name="cooks")
def import_cooks(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.csv",
            help="UTF-8, header row code,pin,schools,language; schools parted by blanks, none for all.",
        ),
    ],
    letters: LettersOption = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take in those who may hear the kitchen's counts by phone, in place of those before; all of them or none."""
    configuration = load_or_exit(config, town)
    municipality = choose_town(configuration, town)
    found = read_cooks(file, municipality)
    if not isinstance(found, Cooks):
        _refuse(file, found, as_json=as_json)
    try:
        with _letters_file(letters) as letter:
            pins = asyncio.run(_import_cooks(configuration, municipality, found))
            if letter is not None:
                writer = csv.writer(letter)
                writer.writerow(COOKS_LETTERS_HEADER)
                writer.writerows(
                    (each.code, " ".join(each.schools), pins[each.code]) for each in found.cooks if each.code in pins
                )
    except OSError as error:
        fail(f"--letters: {error.filename} cannot be written ({error.strerror}); expected a file that is not there yet")
    except (StoreError, PinKeyError, InstallationError) as error:
        fail(f"{error}; nothing was taken in")
    if as_json:
        print_json({"ok": True, "town": municipality.key, "cooks": len(found.cooks), "pins_made": len(pins)})
    else:
        typer.echo(f"{municipality.name}: {len(found.cooks)} cooks, in place of those before")
    _tell_pins(len(pins), letters)


async def _import_cooks(
    configuration: Configuration, municipality: Municipality, found: Cooks
) -> Mapping[UserCode, str]:
    async with open_installation(configuration, makes_database=True) as house:
        store = house.store.at(municipality.key)
        return await store.import_cooks(found.cooks, house.hasher, lambda: make_pin(municipality.pin_digits))


def _refuse(file: Path, mistakes: Sequence[Mistake], *, as_json: bool) -> NoReturn:
    if as_json:
        print_json({"ok": False, "mistakes": [{**asdict(each), "file": str(each.file)} for each in mistakes]})
    else:
        tell(mistakes)
        typer.echo(f"{file}: nothing was taken in", err=True)
    raise typer.Exit(ANSWER_IS_NO)


def make_pin(digits: int) -> str:
    """A PIN that is neither one digit over and over nor a row of digits up or down, which would be tried first."""
    while True:
        pin = f"{secrets.randbelow(10**digits):0{digits}}"
        steps = {(int(after) - int(before)) % 10 for before, after in pairwise(pin)}
        if steps not in ({0}, {1}, {9}):
            return pin


@contextmanager
def _letters_file(path: Path | None) -> Iterator[TextIO | None]:
    """The letters' file, made before anything is taken in, so that no PIN is made that cannot be written down."""
    if path is None:
        yield None
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, LETTERS_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        except BaseException:
            # What was made stays when it holds PINs: those are in the store by then.
            if stream.tell() == 0:
                path.unlink()
            raise


def _write_letters(stream: TextIO, found: People, report: ImportReport) -> None:
    writer = csv.writer(stream)
    writer.writerow(LETTERS_HEADER)
    for made in report.pins:
        guardian = found.guardians[made.index]
        name = f"{guardian.name} {guardian.surname}".strip()
        for pupil in found.pupils:
            if made.index in pupil.guardians:
                writer.writerow((pupil.user_code, name, made.pin))


def _tell_report(
    municipality: Municipality, found: People, report: ImportReport, letters: Path | None, *, as_json: bool
) -> None:
    counts = {
        "pupils_added": report.pupils_added,
        "pupils_updated": report.pupils_updated,
        "pupils_kept": len(found.pupils) - report.pupils_added - report.pupils_updated,
        "pupils_absent": report.pupils_absent,
        "guardians_added": report.guardians_added,
        "guardians_updated": report.guardians_updated,
        "guardians_kept": len(found.guardians) - report.guardians_added - report.guardians_updated,
        "pins_made": len(report.pins),
    }
    if as_json:
        print_json({"ok": True, "town": municipality.key, **counts})
    else:
        typer.echo(
            f"{municipality.name}: pupils: {report.pupils_added} added, {report.pupils_updated} updated, "
            f"{counts['pupils_kept']} kept, {report.pupils_absent} not in the file and kept too"
        )
        typer.echo(
            f"guardians: {report.guardians_added} added, {report.guardians_updated} updated, "
            f"{counts['guardians_kept']} kept"
        )
    _tell_pins(len(report.pins), letters)


def _tell_pins(made: int, letters: Path | None) -> None:
    if made and letters is None:
        typer.echo(
            f"{made} PINs were made and nobody has them; expected --letters FILE to have them written down, "
            "or PINs in the file",
            err=True,
        )
    elif made:
        typer.echo(f"{made} PINs were made; they are in {letters}", err=True)
