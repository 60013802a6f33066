"""`mensa db copy`, `mensa generate`: whole databases, moved and made up."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.cli_desk import run_or_exit
from gateway.cli_options import (
    ANSWER_IS_NO,
    CONFIG,
    WRONG_USAGE,
    ConfigOption,
    JsonOption,
    TownOption,
    fail,
    print_json,
    tell,
)
from gateway.files.load import GATEWAY, load_settings
from gateway.files.shapes import parse_day
from gateway.generation import ROME, Filling, Plan, fill, write_configuration
from gateway.installation import OFFSET_US, PIN_KEY_FILE, PURPOSE, REHEARSAL, home
from gateway.nodes import GONE
from gateway.pin_key import KeyedHasher, PinKeyError, load_or_create_pin_key
from gateway.settings import Settings
from gateway.store.bulk import is_postgres, open_bulk, shown_url
from gateway.store.copying import CopiedTable, DifferenceError, copy_installation
from gateway.store.engine import database_path, located
from gateway.store.port import StoreError

db_app = typer.Typer(no_args_is_help=True, help="The database as a whole.")
generate_app = typer.Typer()

# Where nobody looks on, a line each so many seconds tells that it goes on.
LINE_EVERY_S = 10.0
SEED = 20261122


@db_app.callback()
def db() -> None:
    """The database as a whole."""


@db_app.command(name="copy")
def copy(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE_URL", help="As sqlite:///var/mensa.db; nothing in it changes.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="TARGET_URL", help="As postgresql://mensa@host/mensa; a new database.")
    ],
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move an installation to another database, and compare every row; run it again where it was interrupted.

    No gateway may be up meanwhile. The file `pin.key` is no part of a database: the installation goes on with its own. A relative
    path starts, as in gateway.yaml, at the folder that holds the configuration folder.
    """
    _no_town_or_exit("db copy", town)

    async def work() -> tuple[CopiedTable, ...]:
        with _progress() as progress:
            return await copy_installation(
                located(source, home(config)), located(target, home(config)), _installation_now, GONE, progress.tell
            )

    try:
        copied = run_or_exit(work())
    except DifferenceError as error:
        typer.echo(f"{error}; the copy is not to be used, the source is as it was", err=True)
        raise typer.Exit(ANSWER_IS_NO) from error
    if as_json:
        print_json({"ok": True, "tables": [asdict(each) for each in copied]})
        return
    table = Table(
        "table", *("there", "copied", "verified", "seconds"), title=f"{shown_url(source)} → {shown_url(target)}"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for each in copied:
        table.add_row(each.table, f"{each.there:,}", f"{each.copied:,}", f"{each.verified:,}", f"{each.seconds:.1f}")
    table.add_section()
    table.add_row(
        "all",
        f"{sum(each.there for each in copied):,}",
        f"{sum(each.copied for each in copied):,}",
        f"{sum(each.verified for each in copied):,}",
        f"{sum(each.seconds for each in copied):.1f}",
    )
    Console().print(table)
    typer.echo("every value of every row is the same in both databases")


@generate_app.command()
def generate(
    towns: Annotated[int, typer.Option("--towns", metavar="N")] = 8_000,
    pupils: Annotated[int, typer.Option("--pupils", metavar="M")] = 2_000_000,
    days: Annotated[int, typer.Option("--days", metavar="D", help="Days of service with changes and closings.")] = 30,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DAY", help="The last of them; today if not given.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="S", help="Another seed makes other towns.")] = SEED,
    closings: Annotated[
        bool, typer.Option("--closings/--without-closings", help="Whether those days are closed.")
    ] = True,
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="The one of gateway.yaml if not given.")
    ] = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fill a new configuration folder and a new database with invented towns; run it again where it was interrupted."""
    _no_town_or_exit("generate", town)
    plan = _plan_or_exit(towns, pupils, days, until, seed, closings)
    settings = _settings_or_exit(config)
    url = _absolute_or_exit(database or settings.database.url, home(config))

    async def work(hasher: KeyedHasher) -> Filling:
        with _progress() as progress:
            async with open_bulk(url, makes=True) as bulk:
                return await fill(
                    bulk, plan, hasher, lambda done, total: progress.tell("generated", "pupils", done, total)
                )

    started = time.monotonic()
    try:
        with _progress() as progress:
            write_configuration(plan, config, url, lambda done, total: progress.tell("written", "towns", done, total))
        written_s = time.monotonic() - started
        secrets = home(config) / _settings_or_exit(config).secrets
        secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
        filled = run_or_exit(work(load_or_create_pin_key(secrets / PIN_KEY_FILE)))
    except OSError as error:
        fail(
            f"{error.filename}: {error.strerror}; expected a place of this user; what was generated stays, run it again"
        )
    except (StoreError, PinKeyError) as error:
        fail(str(error))
    if as_json:
        print_json({"ok": True, "plan": plan.as_text(), "written_s": written_s, **asdict(filled)})
        return
    table = Table("table", "rows", title=f"{towns:,} towns in {config}, {pupils:,} pupils in {shown_url(url)}")
    table.columns[1].justify = "right"
    for each in filled.tables:
        table.add_row(each.table, f"{each.rows:,}")
    table.add_section()
    table.add_row("all", f"{filled.rows:,}")
    Console().print(table)
    typer.echo(
        f"files written in {written_s:.1f} s; rows made in {filled.making_s:.1f} s and added in {filled.adding_s:.1f} s, "
        f"side by side in {filled.whole_s:.1f} s: {filled.rows / max(filled.whole_s, 0.001):,.0f} rows/s"
    )


def _no_town_or_exit(command: str, town: str | None) -> None:
    if town is not None:
        fail(f"{command}: --town {town}; a database is one for all of its towns, expected no --town; nothing was done")


def _absolute_or_exit(url: str, folder: Path) -> str:
    """An address for the generated gateway.yaml, which takes relative ones from elsewhere."""
    try:
        return url if is_postgres(url) else f"sqlite:///{database_path(located(url, folder))}"
    except StoreError as error:
        fail(str(error))


def _plan_or_exit(towns: int, pupils: int, days: int, until: str | None, seed: int, closings: bool) -> Plan:
    try:
        last = datetime.now(ROME).date() if until is None else parse_day(until)
    except ValueError as error:
        fail(f"--until: {error}; nothing was generated")
    try:
        return Plan(towns, pupils, days, seed, last, closings)
    except ValueError as error:
        fail(str(error))


def _settings_or_exit(config: Path) -> Settings:
    settings = load_settings(config / GATEWAY)
    if not isinstance(settings, Settings):
        tell(settings)
        raise typer.Exit(WRONG_USAGE)
    return settings


def _installation_now(settings: Mapping[str, str]) -> datetime:
    """The time as an installation has it, a rehearsal's offset included."""
    offset = int(settings.get(OFFSET_US, "0")) if settings.get(PURPOSE) == REHEARSAL else 0
    return datetime.now(UTC) + timedelta(microseconds=offset)


class _Told:
    """How far it is: a bar for each thing on a terminal, elsewhere a line now and then."""

    def __init__(self, bars: Progress | None) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._next_line = time.monotonic() + LINE_EVERY_S

    def tell(self, done: str, what: str, count: int, total: int) -> None:
        if self._bars is None:
            if time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + LINE_EVERY_S
                typer.echo(f"{what}: {count} of {total} {done}", err=True)
            return
        name = f"{what} {done}"
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._tasks[name], completed=count, total=total)


@contextmanager
def _progress() -> Iterator[_Told]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Told(None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        yield _Told(bars)
