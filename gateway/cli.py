"""The `mensa` command."""

import asyncio
import contextlib
import signal
import sys
from typing import Annotated, cast

import typer
from rich.console import Console

from gateway.app import Hallway, Log
from gateway.cli_asterisk import asterisk_app
from gateway.cli_calendar import calendar_app
from gateway.cli_calls import calls_app
from gateway.cli_database import db_app, generate_app
from gateway.cli_desk import desk_app, run_or_exit
from gateway.cli_kitchen import kitchen_app
from gateway.cli_line import line_app
from gateway.cli_options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    TownOption,
    choose_town,
    fail,
    load_or_exit,
    narrowed,
    print_json,
)
from gateway.cli_outbox import outbox_app
from gateway.cli_people import people_app
from gateway.cli_sounds import sounds_app
from gateway.clips import ClipsMissingError, read_clips
from gateway.clock import describe
from gateway.demonstration import Demonstration, DemonstrationFailed
from gateway.files.load import Configuration
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.installation import has_database, open_installation, real_clock, sounds_folder
from gateway.logs import configure, get_log

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Pronto Mensa: the phone line through which parents tell a school canteen who eats.",
)
app.add_typer(calendar_app, name="calendar")
app.add_typer(people_app, name="people")
app.add_typer(calls_app, name="calls")
app.add_typer(db_app, name="db")
app.add_typer(outbox_app, name="outbox")
app.add_typer(sounds_app, name="sounds")
app.registered_commands += [
    *line_app.registered_commands,
    *desk_app.registered_commands,
    *kitchen_app.registered_commands,
    *asterisk_app.registered_commands,
    *generate_app.registered_commands,
]


@app.command()
def serve(config: ConfigOption = CONFIG, town: TownOption = None) -> None:
    """The gateway: answers Asterisk's calls until it is told to stop; SIGTERM lets running calls end first."""
    configuration = narrowed(load_or_exit(config), town)
    _configure_logs(configuration)

    async def work() -> None:
        async with open_installation(configuration, makes_database=True) as house:
            clips = read_clips(sounds_folder(house.settings), read_catalogues(phrases_folder()))
            await Hallway(house, clips, cast(Log, get_log())).run(stop_on_signals())

    try:
        run_or_exit(work())
    except (ClipsMissingError, OSError) as error:
        fail(f"serve: {error}")


@app.command()
def run(
    at: Annotated[str | None, typer.Option(metavar="INSTANT", help="Local time to start at, or `now`.")] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the data of the last run and go on where it ended.")
    ] = False,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
) -> None:
    """Rehearse with the example town and an Asterisk of its own, as `make run` does."""
    configuration = narrowed(load_or_exit(config), town)
    _configure_logs(configuration)
    console = Console(stderr=True)

    async def work() -> None:
        demonstration = Demonstration(configuration, console, cast(Log, get_log()))
        await demonstration.run(at, keep, stop_on_signals())

    try:
        run_or_exit(work())
    except (DemonstrationFailed, ClipsMissingError, OSError) as error:
        fail(f"run: {error}")


@app.command(name="clock")
def show_clock(config: ConfigOption = CONFIG, town: TownOption = None, as_json: JsonOption = False) -> None:
    """The time, its error bound, and where it comes from."""
    configuration = load_or_exit(config, town)
    municipality = choose_town(configuration, town)

    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            if has_database(configuration):
                house = await stack.enter_async_context(open_installation(configuration))
                clock, offset = house.clock, house.offset
            else:
                clock, offset = real_clock(configuration), None
            limit, timezone = municipality.clock_bound_max, municipality.timezone
            told = (
                await describe(clock, limit=limit, timezone=timezone)
                if offset is None
                else await describe(clock, limit=limit, timezone=timezone, rehearsal_offset=offset)
            )
            if as_json:
                print_json(told.as_json())
            else:
                Console().print(told)

    run_or_exit(work())


def stop_on_signals() -> asyncio.Event:
    """Set by SIGTERM and Ctrl-C; a second Ctrl-C ends the process at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, on_signal)
    return stop


def _configure_logs(configuration: Configuration) -> None:
    log = configuration.settings.log
    as_json = not sys.stderr.isatty() if log.json_lines is None else log.json_lines
    configure(as_json=as_json, level=log.level)


if __name__ == "__main__":
    app(prog_name="mensa")
