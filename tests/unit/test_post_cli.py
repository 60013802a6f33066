"""`mensa outbox`: what an operator sees of the orders, and does about them."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pypdfium2
import pytest
from typer.testing import CliRunner, Result

from core.kitchen import order_message
from gateway.cli import app
from gateway.files.load import Configuration, load_configuration
from gateway.installation import REHEARSAL, SERVICE, open_installation
from gateway.post.delivery import FolderDelivery, SmtpDelivery
from gateway.post.opening import delivery_of
from gateway.store.port import Message, MessageState, Store
from gateway.store.sql import SqlStore
from tests.orders import closed, closing

HOUSE = Path(__file__).parents[2]
TOWN = "roccachiara"
SENT = datetime(2026, 11, 24, 8, 30, 7, tzinfo=UTC)
Answer = TypeVar("Answer")


def in_store(config: Path, work: Callable[[Store], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        configuration = load_configuration(config)
        assert isinstance(configuration, Configuration)
        async with open_installation(configuration, makes_database=True) as house:
            return await work(house.store)

    return asyncio.run(run())


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The example town with an order that was sent, one that died and one that waits."""
    folder = tmp_path / "config"
    shutil.copytree(HOUSE / "config", folder)

    async def fill(store: Store) -> None:
        sent = await closed(store, closing("primaria", order=1), town=TOWN)
        dead = await closed(store, closing("secondaria", order=2), town=TOWN)
        await closed(store, closing("infanzia", order=3), town=TOWN)
        await store.message_sent(sent.id, SENT)
        await store.message_failed(dead.id, "mail.example.org:587: 550 no such user", None)

    in_store(folder, fill)
    return folder


def outbox(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["outbox", *arguments, "--config", str(config)])


def messages(config: Path) -> tuple[Message, ...]:
    return in_store(config, lambda store: store.messages())


def test_the_outbox_is_a_table_of_the_newest_orders(config: Path) -> None:
    shown = outbox(config)

    assert shown.exit_code == 0, shown.output
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    assert lines == [
        "id what town order state tries when fault",
        "3 order roccachiara 3 waiting 0 2026-11-24 09:30:04",
        "2 order roccachiara 2 dead 0 mail.example.org:587: 550 no such user",
        "1 order roccachiara 1 sent 0 2026-11-24 09:30:07",
    ]


def test_one_state_can_be_asked_for_as_json_too(config: Path) -> None:
    [dead] = json.loads(outbox(config, "--state", "dead", "--json").stdout)

    assert (dead["order"], dead["state"], dead["sent"]) == (2, "dead", None)
    assert outbox(config, "--state", "deaf").exit_code == 2


def test_what_died_is_retried_by_its_id_or_all_of_it(config: Path) -> None:
    by_id = outbox(config, "retry", "2")
    again = outbox(config, "retry", "--dead")
    sent = outbox(config, "retry", "1")

    assert (by_id.exit_code, by_id.stdout) == (0, "1 to be sent at once, by a gateway that is up\n")
    assert (again.exit_code, "no message is dead; nothing was done" in again.output) == (1, True)
    assert (sent.exit_code, "no message 1 waits or is dead" in sent.output) == (1, True)
    assert {each.state for each in messages(config) if each.id == 2} == {MessageState.WAITING}
    assert outbox(config, "retry").exit_code == 2


def test_every_dead_one_is_retried(config: Path) -> None:
    assert outbox(config, "retry", "--dead").stdout.startswith("1 to be sent at once")


def test_copies_are_numbered_and_marked_as_such(config: Path) -> None:
    first, second = (outbox(config, "copy", "--order", "1", "--json") for _ in range(2))

    assert [json.loads(each.stdout)["copy"] for each in (first, second)] == [1, 2]
    assert {each.key for each in messages(config)} >= {"order-1-copy-1", "order-1-copy-2"}
    text = outbox(config, "show", str(json.loads(second.stdout)["id"])).stdout
    assert text.startswith("COPIA n. 2 dell'ordine 1")


def test_there_is_no_copy_of_an_order_that_is_none(config: Path) -> None:
    refused = outbox(config, "copy", "--order", "7")

    assert (refused.exit_code, "has no order 7; nothing was done" in refused.output) == (1, True)


def test_an_order_can_be_looked_at_as_it_would_be_sent(config: Path, tmp_path: Path) -> None:
    shown = outbox(config, "show", "3", "--pdf", str(tmp_path / "order.pdf"))

    assert shown.exit_code == 0, shown.output
    assert "TOTALE: 41 pasti" in shown.stdout
    assert len(pypdfium2.PdfDocument(tmp_path / "order.pdf")) == 1
    assert outbox(config, "show", "9").exit_code == 1
    nobody = outbox(config, "show", "3", "--trays", str(tmp_path / "trays.pdf"))
    assert (nobody.exit_code, "nobody is on a tray list" in nobody.output) == (1, True)


def test_a_message_that_is_older_than_the_table_can_be_shown_all_the_same(config: Path) -> None:
    async def fill(store: Store) -> None:
        for number in range(4, 210):
            await store.at(TOWN).add_message(order_message(number, SENT + timedelta(seconds=number)))

    in_store(config, fill)

    assert "the newest 200 are shown" in outbox(config).output
    assert "Ordine 1 per" in outbox(config, "show", "1").stdout


def test_a_rehearsals_orders_never_leave_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MENSA_MAIL__HOST", "smtp.example.org")
    monkeypatch.setenv("MENSA_MAIL__SENDER", "mensa@example.org")

    kinds = []
    for purpose in (REHEARSAL, SERVICE):
        folder = tmp_path / purpose / "config"
        shutil.copytree(HOUSE / "config", folder)
        configuration = load_configuration(folder)
        assert isinstance(configuration, Configuration)

        async def kind(these: Configuration = configuration, purpose: str = purpose) -> type[object]:
            async with open_installation(these, purpose=purpose, makes_database=True) as house:
                return type(await delivery_of(house))

        kinds.append(asyncio.run(kind()))

    assert kinds == [FolderDelivery, SmtpDelivery]


def test_a_message_of_another_town_is_not_this_towns_to_show_or_retry(config: Path) -> None:
    shutil.copytree(config / "municipalities" / TOWN, config / "municipalities" / "borgo")
    file = config / "municipalities" / "borgo" / "municipality.yaml"
    said = file.read_text(encoding="utf-8")
    file.write_text(said.replace("800000100", "800000200").replace("350000100", "350000200"), encoding="utf-8")

    shown, retried = outbox(config, "show", "2", "--town", "borgo"), outbox(config, "retry", "2", "--town", "borgo")

    assert (shown.exit_code, shown.output) == (1, "ID: there is no message 2 of borgo; nothing was done\n")
    assert (retried.exit_code, retried.output) == (1, "ID: no message 2 of borgo waits or is dead; nothing was done\n")
    assert "Ordine 2 per" in outbox(config, "show", "2", "--town", TOWN).stdout
    assert outbox(config, "retry", "2", "--town", TOWN).exit_code == 0


@pytest.mark.parametrize("option", [("--town", TOWN), ("--config", "elsewhere"), ("--state", "dead"), ("--json",)])
def test_an_option_before_the_sub_command_is_refused_and_not_passed_over(config: Path, option: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(app, ["outbox", *option, "retry", "--dead", "--config", str(config)])

    assert (refused.exit_code, f"{option[0]} stands before retry" in refused.output) == (2, True)
    assert MessageState.DEAD in {each.state for each in messages(config)}


@pytest.mark.parametrize("words", [("show",), ("retry",), ("copy", "--order")])
def test_a_number_that_no_database_can_hold_is_wrong_usage(config: Path, words: tuple[str, ...]) -> None:
    refused = outbox(config, *words, str(2**63))

    assert refused.exit_code == 2, refused.output


def test_what_dies_again_meanwhile_is_not_retried_for_ever(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retry = SqlStore.retry_message

    async def retry_and_die(self: SqlStore, message_id: int, at: datetime) -> bool:
        is_retried = await retry(self, message_id, at)
        await self.message_failed(message_id, "mail.example.org:587: 550 no such user", None)
        return is_retried

    monkeypatch.setattr(SqlStore, "retry_message", retry_and_die)

    assert outbox(config, "retry", "--dead").stdout.startswith("1 to be sent at once")
