"""What every `mensa` command shares: its options, the configuration it reads, and how mistakes are told."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway.files.load import Configuration, load_configuration, only_town
from gateway.files.mistakes import CHOICES_SHOWN_MAX, Mistake, one_of, shown
from gateway.municipality import Municipality

# Exit codes: 0 done, 1 the answer is no or a check failed, 2 wrong usage or configuration.
ANSWER_IS_NO, WRONG_USAGE = 1, 2

ConfigOption = Annotated[Path, typer.Option("--config", metavar="DIR", help="The configuration folder.")]
TownOption = Annotated[
    str | None, typer.Option("--town", metavar="TOWN", help="The town, by the name of its folder; not needed with one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
CONFIG = Path("config")
# Who waits longer than this at a terminal is told how far the towns are.
QUIET_S = 1.0


def fail(message: str) -> NoReturn:
    """Say on standard error why the command was not carried out, and end it as wrongly used."""
    typer.echo(message, err=True)
    raise typer.Exit(WRONG_USAGE)


def tell(mistakes: Iterable[Mistake]) -> None:
    """Each mistake as one unwrapped line on standard error."""
    for mistake in mistakes:
        typer.echo(str(mistake), err=True)


def write_or_exit(file: Path, text: str, option: str) -> None:
    """Write the file that an option named; where that cannot be done, say so and end the command."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{option}: {file} cannot be written ({error.strerror}); expected a file in a folder that is there")


def print_json(document: object) -> None:
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))


@contextmanager
def towns_told() -> Iterator[Callable[[int, int], None]]:
    """Somebody to tell how many of how many towns are read, who says so on a terminal once it takes long."""
    begun, width = time.monotonic(), 0

    def tell_towns(done: int, towns: int) -> None:
        nonlocal width
        if sys.stderr.isatty() and time.monotonic() - begun > QUIET_S:
            line = f"towns {done:,} of {towns:,}"
            width = len(line)
            typer.echo(f"\r{line}", err=True, nl=False)

    try:
        yield tell_towns
    finally:
        if width:
            typer.echo(f"\r{' ' * width}\r", err=True, nl=False)


def load_or_exit(config: Path, town: str | None = None) -> Configuration:
    """The configuration; mistakes of single towns are told and those towns left out, any others end the command.

    A command that is about one town names it, and does not wait for thousands of others.
    """
    with towns_told() as on_progress:
        loaded = load_configuration(config, on_progress, key=town)
    if not isinstance(loaded, Configuration):
        tell(loaded)
        raise typer.Exit(WRONG_USAGE)
    for mistakes in loaded.broken.values():
        tell(mistakes)
    return loaded


def narrowed(configuration: Configuration, key: str | None) -> Configuration:
    """The configuration with the town that was named and no other, or as it is where none was."""
    return configuration if key is None else only_town(configuration, choose_town(configuration, key).key)


def choose_town(configuration: Configuration, key: str | None) -> Municipality:
    """The town that the command is about: the one named or the only one there is."""
    towns = configuration.municipalities
    if key is None and len(towns) == 1 and not configuration.broken:
        return next(iter(towns))
    keys = [town.key for town in towns]
    if key is None:
        more = ", …" if len(keys) > CHOICES_SHOWN_MAX else ""
        named = ", ".join(keys[:CHOICES_SHOWN_MAX])
        what = f"name one with --town: {named}{more}" if keys else "expected one town at least"
        fail(f"{configuration.folder}: {len(keys)} towns can be used; {what}")
    town = towns.named(key)
    if town is not None:
        return town
    if key in configuration.broken:
        fail(f"{configuration.folder}: the town {shown(key)} has the mistakes above; nothing was done")
    fail(f"{configuration.folder}: no town {shown(key)}; {one_of(key, keys)}")
