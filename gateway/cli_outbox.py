"""`mensa outbox`: the orders that wait, were sent or died, and what an operator can do about them."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.table import Table

from core.ports import MessageKind, NewMessage
from gateway.cli_desk import run_or_exit
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
from gateway.installation import Installation, open_installation
from gateway.post.delivery import FILE_MODE
from gateway.post.mail import tell
from gateway.post.order import NoSuchOrderError
from gateway.post.papers import Paper
from gateway.post.printing import Press, Printer
from gateway.post.worker import order_named
from gateway.store.port import MESSAGES_PAGE, Message, MessageState

outbox_app = typer.Typer(help="The orders to the kitchens: waiting, sent, dead.")

# Who needs a hundredth copy of an order needs a copier.
COPIES_MAX = 99
# What a database's whole number holds.
NUMBER_MAX = 2**63 - 1
STATES = tuple(state.value for state in MessageState)
# The table is read on a screen of this width where nothing says how wide it is.
WIDTH = 150

Result = TypeVar("Result")


@outbox_app.callback(invoke_without_command=True)
def outbox(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(metavar="STATE", help=f"One of: {', '.join(STATES)}.")] = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest orders and copies, newest first: state, tries, when sent or tried next, and why not yet."""
    if context.invoked_subcommand is not None:
        # Passed over, a town named here would let `retry --dead` reach every town.
        given = {"--state": state, "--town": town, "--json": as_json, "--config": config != CONFIG}
        for option in (name for name, value in given.items() if value):
            sub = context.invoked_subcommand
            fail(f"outbox: {option} stands before {sub}; expected it after, as outbox {sub} {option}; nothing was done")
        return
    if state is not None and state not in STATES:
        fail(f"--state: {shown(state)} is none; {one_of(state, STATES)}")
    configuration = load_or_exit(config, town)
    key = None if town is None else choose_town(configuration, town).key

    async def work(house: Installation) -> tuple[Message, ...]:
        return await house.store.messages(MessageState(state) if state else None, town=key)

    messages = _opened(configuration, work)
    if as_json:
        print_json([_document(each) for each in messages])
        return
    timezones = {each.key: each.timezone for each in configuration.municipalities}
    Console(width=None if Console().is_terminal else WIDTH).print(_table(messages, timezones))
    if len(messages) == MESSAGES_PAGE:
        typer.echo(f"the newest {MESSAGES_PAGE} are shown; --state and --town show others", err=True)


@outbox_app.command()
def retry(
    message_id: Annotated[
        int | None, typer.Argument(metavar="[ID]", max=NUMBER_MAX, help="As `mensa outbox` shows it.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Every dead one, of one town with --town.")] = False,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
) -> None:
    """Send what waits or has died at once, as if for the first time. Exit 1 when there is nothing such."""
    if (message_id is None) == (not dead):
        fail("retry: expected the ID of one message, or --dead")
    configuration = load_or_exit(config, town)
    key = None if town is None else choose_town(configuration, town).key

    async def work(house: Installation) -> int:
        if message_id is not None:
            message = await house.store.message(message_id)
            is_here = message is not None and key in (None, message.town)
            return int(is_here and await house.store.retry_message(message_id, house.now()))
        retried = 0
        seen: set[int] = set()
        # A gateway that is up may give up again what was just retried: each is retried once.
        while found := [
            each.id for each in await house.store.messages(MessageState.DEAD, town=key) if each.id not in seen
        ]:
            for dead_id in found:
                retried += await house.store.retry_message(dead_id, house.now())
            seen.update(found)
        return retried

    retried = _opened(configuration, work)
    if not retried:
        what = "no message is dead" if dead else f"ID: no message {message_id}{_of(key)} waits or is dead"
        typer.echo(f"{what}; nothing was done", err=True)
        raise typer.Exit(ANSWER_IS_NO)
    typer.echo(f"{retried} to be sent at once, by a gateway that is up")


@outbox_app.command()
def copy(
    order: Annotated[int, typer.Option(metavar="N", max=NUMBER_MAX, help="The order's number.")],
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send an order once more, marked as a copy and numbered. Exit 1 when there is no such order."""
    configuration = load_or_exit(config, town)
    municipality = choose_town(configuration, town)

    async def work(house: Installation) -> Message:
        store = house.store.at(municipality.key)
        if not await store.order(order):
            _no(f"--order: {municipality.key} has no order {order}; nothing was done")
        request = uuid4().hex
        for number in range(1, COPIES_MAX + 1):
            about: dict[str, int | str] = {"order": order, "copy": number, "request": request}
            new = NewMessage(f"order-{order}-copy-{number}", MessageKind.ORDER_COPY, about, house.now())
            added = await store.add_message(new)
            # One that was there already is another's copy, which keeps its number.
            if added.about.get("request") == request:
                return added
        _no(f"--order: order {order} has {COPIES_MAX} copies already; nothing was done")

    added = _opened(configuration, work)
    if as_json:
        print_json(_document(added))
    else:
        typer.echo(
            f"copy {added.about['copy']} of order {order} is message {added.id}, to be sent by a gateway that is up"
        )


@outbox_app.command()
def show(
    message_id: Annotated[int, typer.Argument(metavar="ID", max=NUMBER_MAX, help="As `mensa outbox` shows it.")],
    pdf: Annotated[Path | None, typer.Option("--pdf", metavar="FILE", help="The page that would be sent.")] = None,
    trays: Annotated[Path | None, typer.Option("--trays", metavar="FILE", help="Its tray list, with names.")] = None,
    config: ConfigOption = CONFIG,
    town: TownOption = None,
    as_json: JsonOption = False,
) -> None:
    """One message with its text as it would be sent now; `--pdf` writes its page, to look at."""
    configuration = load_or_exit(config, town)
    key = None if town is None else choose_town(configuration, town).key

    async def work(house: Installation) -> tuple[Message, str]:
        message = await house.store.message(message_id)
        if message is None or key not in (None, message.town):
            _no(f"ID: there is no message {message_id}{_of(key)}; nothing was done")
        municipality = choose_town(configuration, message.town)
        printer: Printer = Press() if pdf or trays else _NoPress()
        try:
            told = await tell(municipality, house.store.at(message.town), printer, *order_named(message))
        except NoSuchOrderError as error:
            _no(str(error))
        finally:
            await printer.close()
        wanted = {"ordine": pdf, "lista-vassoi": trays}
        for start, file in wanted.items():
            papers = [each.content for each in told.attachments if each.name.startswith(start) and ".pdf" in each.name]
            if file is not None and not papers:
                _no(f"{file}: there is no such paper ({told.fault or 'nobody is on a tray list'}); nothing was written")
            if file is not None:
                _write_or_exit(file, papers[0])
        return message, told.text

    message, text = _opened(configuration, work)
    if as_json:
        print_json({**_document(message), "text": text})
    else:
        typer.echo(text, nl=False)


class _NoPress:
    """No paper is asked for, so none is printed."""

    async def print(self, paper: Paper) -> bytes:
        return b""

    async def close(self) -> None:
        return


def _opened(configuration: Configuration, work: Callable[[Installation], Awaitable[Result]]) -> Result:
    async def run() -> Result:
        async with open_installation(configuration) as house:
            return await work(house)

    return run_or_exit(run())


def _of(key: str | None) -> str:
    return "" if key is None else f" of {key}"


def _no(why: str) -> NoReturn:
    typer.echo(why, err=True)
    raise typer.Exit(ANSWER_IS_NO)


def _write_or_exit(file: Path, content: bytes) -> None:
    try:
        # A tray list has names in it.
        file.touch(FILE_MODE)
        file.write_bytes(content)
    except OSError as error:
        fail(f"{file}: cannot be written ({error.strerror}); expected a file in a folder that is there")


def _table(messages: tuple[Message, ...], timezones: dict[str, ZoneInfo]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("id", "what", "town", "order", "state", "tries", "when", "fault"):
        table.add_column(name, overflow="fold" if name == "fault" else "ellipsis", no_wrap=name != "fault")
    for each in messages:
        zone = timezones.get(each.town)
        when = each.sent or (each.due if each.state is MessageState.WAITING else None)
        number = each.about.get("copy")
        table.add_row(
            str(each.id),
            "order" if number is None else f"copy {number}",
            each.town,
            str(each.about.get("order", "")),
            each.state.value,
            str(each.tries),
            "" if when is None else f"{when.astimezone(zone):%Y-%m-%d %H:%M:%S}",
            each.fault or "",
        )
    return table


def _document(each: Message) -> dict[str, object]:
    """A message as JSON; instants are in UTC."""
    return {
        "id": each.id,
        "what": each.kind.value,
        "town": each.town,
        "order": each.about.get("order"),
        "copy": each.about.get("copy"),
        "state": each.state.value,
        "tries": each.tries,
        "created": each.created.isoformat(),
        "due": each.due.isoformat() if each.state is MessageState.WAITING else None,
        "sent": each.sent.isoformat() if each.sent else None,
        "fault": each.fault,
    }
