"""The order on its whole way: from the database through a gateway and a real mail server to a page in the kitchen."""

import asyncio
import csv
import io
import shutil
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pypdfium2
import pytest
import pytest_asyncio

from core.headcount import Closing
from core.people import People, UserCode
from gateway.app import Hallway, Log
from gateway.clips import read_clips
from gateway.files.load import Configuration, load_configuration
from gateway.files.people import read_people
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.installation import open_installation
from gateway.logs import get_log
from gateway.store.engine import open_store
from gateway.store.port import MessageState, Store
from tests.orders import BLAND, BORGO, KITCHEN, closed, closing, meals, tray
from tests.smtp import MailServer

HOUSE = Path(__file__).parents[2]
TOWN = "roccachiara"

pytestmark = pytest.mark.e2e


@pytest_asyncio.fixture
async def server() -> AsyncIterator[MailServer]:
    running = MailServer()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: MailServer) -> Configuration:
    """The example town, with the tests' mail server in its settings."""
    settings = {
        "AGI__PORT": "0",
        "WEB__PORT": "0",
        "AMI__ENABLED": "false",
        "MAIL__HOST": "127.0.0.1",
        "MAIL__PORT": str(server.port),
        "MAIL__SECURITY": "none",
        "MAIL__SENDER": "mensa@roccachiara.example.org",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"MENSA_{name}", value)
    shutil.copytree(HOUSE / "config", tmp_path / "config")
    loaded = load_configuration(tmp_path / "config")
    assert isinstance(loaded, Configuration)
    return loaded


async def ordered(store: Store, *closings: Closing, town: str = TOWN) -> int:
    """The message of an order that is due by the real clock."""
    message = await closed(store, *closings, town=town)
    await store.retry_message(message.id, datetime.now(UTC))
    return message.id


async def sent(store: Store, message_id: int) -> None:
    async with asyncio.timeout(60):
        while True:
            message = await store.message(message_id)
            if message is not None and message.state is MessageState.SENT:
                return
            await asyncio.sleep(0.05)


async def test_a_gateway_sends_the_order_with_its_page_its_table_and_its_tray_list(
    configuration: Configuration, server: MailServer
) -> None:
    [town] = configuration.municipalities
    assert town.people_file is not None
    people = read_people(town.people_file, town)
    assert isinstance(people, People)
    on_tray = next(pupil for pupil in people.pupils if pupil.diet and pupil.diet.code in town.town.tray_diets)
    stop, ready = asyncio.Event(), asyncio.Event()

    async with open_installation(configuration, makes_database=True) as house:
        store = house.store.at(TOWN)
        await store.import_people(people, house.hasher, lambda: "4711")
        pupil = await store.pupil(UserCode(on_tray.user_code))
        assert pupil is not None
        assert pupil.diet is not None
        primaria = closing(
            "primaria",
            meals("1A", 20),
            meals("1A", 2, BLAND),
            meals("2A", 18),
            meals(pupil.class_group, 1, diet=pupil.diet.code),
            trays=(tray(pupil.id, pupil.class_group, diet=pupil.diet.code),),
        )
        message_id = await ordered(house.store, primaria, closing("secondaria", meals("2C", 11)))
        clips = read_clips(phrases_folder(), read_catalogues(phrases_folder()))
        hallway = Hallway(house, clips, cast(Log, get_log()))
        serving = asyncio.create_task(hallway.run(stop, ready.set))
        await asyncio.wait_for(ready.wait(), 30)
        [mail] = await server.received(1)
        await sent(house.store, message_id)
        health = await hallway._health()
        stop.set()
        await asyncio.wait_for(serving, 30)

    assert (server.recipients, health["post"]) == ([KITCHEN], None)
    assert mail["Subject"] == "Ordine 1, martedì 24 novembre 2026: 52 pasti, Comune di Roccachiara"
    papers = {str(part.get_filename()): part.get_payload(decode=True) for part in mail.iter_attachments()}
    assert list(papers) == [
        "ordine-1-2026-11-24.pdf",
        "ordine-1-2026-11-24.csv",
        "lista-vassoi-ordine-1-2026-11-24.pdf",
    ]
    page, table, trays = papers.values()
    document = pypdfium2.PdfDocument(page)
    assert len(document) == 1
    shown = document[0].get_textpage().get_text_range()
    assert "Scuola primaria" in shown
    assert "52" in shown
    counted = list(csv.reader(io.StringIO(table.decode("utf-8-sig")), delimiter=";"))
    assert sum(int(row[-1]) for row in counted[1:]) == 52
    name = f"{pupil.name} {pupil.surname[:1]}."
    assert name in " ".join(pypdfium2.PdfDocument(trays)[0].get_textpage().get_text_range().split())
    assert pupil.name not in shown + mail.get_body().get_content() + table.decode("utf-8-sig")


async def test_a_gateway_killed_between_the_servers_answer_and_its_note_sends_the_same_order_again(
    tmp_path: Path, server: MailServer
) -> None:
    url = f"sqlite:///{tmp_path}/mensa.db"
    store = await open_store(url)
    await store.migrate()
    message_id = await ordered(store, closing(), town=BORGO)
    child = await _gateway(url, server)

    # The mail is taken; the gateway dies before it can write that down.
    server.on_data = child.kill
    await server.received(1)
    await asyncio.wait_for(child.wait(), 30)
    left = await store.message(message_id)
    server.on_data = None
    # An operator need not wait for the lease to run out.
    await store.retry_message(message_id, datetime.now(UTC))
    another = await _gateway(url, server)
    first, second = await server.received(2)
    await sent(store, message_id)
    another.terminate()
    await asyncio.wait_for(another.wait(), 30)
    await store.close()

    assert left is not None
    assert (left.state, left.tries) == (MessageState.WAITING, 1)
    assert first["Message-ID"] == second["Message-ID"]
    assert first["Subject"] == second["Subject"]
    pages = [next(iter(mail.iter_attachments())).get_payload(decode=True) for mail in (first, second)]
    assert pages[0] == pages[1]


async def _gateway(url: str, server: MailServer) -> asyncio.subprocess.Process:
    program = Path(__file__).with_name("post_child.py")
    return await asyncio.create_subprocess_exec(
        sys.executable, str(program), url, str(server.port), env={"PYTHONPATH": str(HOUSE), "PATH": "/usr/bin:/bin"}
    )
