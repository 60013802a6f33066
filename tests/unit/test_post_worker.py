"""The post at work: from the outbox to a real mail server, whatever that does."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio
import trustme
from structlog.testing import capture_logs

from core.ports import MessageKind, NewMessage
from gateway.logs import get_log
from gateway.municipality import Municipality
from gateway.post.delivery import Delivery, FolderDelivery, SmtpDelivery, forget_mails
from gateway.post.mail import PAPERS_S
from gateway.post.papers import Paper
from gateway.post.printing import PrintingError
from gateway.post.worker import AGAIN_MOST, LEASE, PROBE_MOST, TELL_S, TRIED_FOR, Log, Post
from gateway.settings import MailSettings
from gateway.store.memory import MemoryStore
from gateway.store.port import Message, MessageState
from tests.orders import BORGO, CUTOFF, KITCHEN, Clock, closed, closing, municipality, tray
from tests.smtp import PASSWORD, USER, MailServer
from tests.store_people import enrolled

HOUR = timedelta(hours=1)


class PaperMill:
    """A printer that prints at once and always the same."""

    def __init__(self, fault: str | None = None) -> None:
        self.fault = fault

    async def print(self, paper: Paper) -> bytes:
        if self.fault is not None:
            raise PrintingError(self.fault)
        return b"%PDF-1.7 a page"

    async def close(self) -> None:
        return


@pytest_asyncio.fixture
async def server() -> AsyncIterator[MailServer]:
    running = MailServer()
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def serving(*towns: Municipality) -> Callable[[str], Municipality | None]:
    return {town.key: town for town in towns or (municipality(),)}.get


@asynccontextmanager
async def working(
    store: MemoryStore,
    delivery: Delivery | None,
    clock: Clock,
    town_of: Callable[[str], Municipality | None] | None = None,
    printer: PaperMill | None = None,
) -> AsyncIterator[Post]:
    """A post that works until the test has seen enough."""
    post = Post(store, town_of or serving(), delivery, printer or PaperMill(), clock, cast(Log, get_log()))
    task = asyncio.create_task(post.run())
    try:
        yield post
    finally:
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled(), task.exception()


def by(server: MailServer, secrets: Path = Path("/nowhere"), **settings: object) -> SmtpDelivery:
    return SmtpDelivery(server.settings(**settings), secrets)


async def noted(store: MemoryStore, id_: int, holds: Callable[[Message], bool]) -> Message:
    """The message, once something is noted of it."""
    async with asyncio.timeout(30):
        while True:
            message = await store.message(id_)
            assert message is not None
            if holds(message):
                return message
            await asyncio.sleep(0.01)


def is_sent(message: Message) -> bool:
    return message.state is MessageState.SENT


def is_dead(message: Message) -> bool:
    return message.state is MessageState.DEAD


def failed(tries: int, clock: Clock) -> Callable[[Message], bool]:
    """Whether so many tries have failed and none is being made."""
    return lambda message: message.tries >= tries and message.fault is not None and message.due != clock.at + LEASE


def attached(mail: EmailMessage) -> dict[str, bytes]:
    return {str(part.get_filename()): part.get_payload(decode=True) for part in mail.iter_attachments()}


async def test_an_order_is_received_once_with_its_page_and_its_table(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    message = await closed(store, closing())

    async with working(store, by(server), clock):
        [mail] = await server.received(1)
        sent = await noted(store, message.id, is_sent)

    assert (server.recipients, sent.tries, sent.sent) == ([KITCHEN], 1, clock.at)
    assert mail["Subject"] == "Ordine 1, martedì 24 novembre 2026: 41 pasti, Comune di Borgo"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime == clock.at
    assert mail.get_body()["Content-Language"] == "it"
    assert "TOTALE: 41 pasti" in mail.get_body().get_content()
    papers = attached(mail)
    assert list(papers) == ["ordine-1-2026-11-24.pdf", "ordine-1-2026-11-24.csv"]
    assert papers["ordine-1-2026-11-24.csv"].startswith(b"\xef\xbb\xbfordine;copia;giorno;")


async def test_an_order_that_comes_while_the_post_sleeps_wakes_it(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    async with working(store, by(server), clock) as post:
        await asyncio.sleep(0)
        await closed(store, closing())
        post.wake()

        assert len(await server.received(1)) == 1


async def test_the_recipient_is_whom_the_files_in_force_name(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    await closed(store, closing())
    moved = municipality(email="nuova@example.org")

    async with working(store, by(server), clock, serving(moved)):
        await server.received(1)

    assert server.recipients == ["nuova@example.org"]


async def test_a_server_that_is_down_for_an_hour_loses_and_doubles_nothing(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    await server.stop()
    messages = [await closed(store, closing(order=number, late=timedelta(seconds=number)), town=f"t{number}")
                for number in range(1, 7)]  # fmt: skip
    towns = serving(*(municipality(key=each.town) for each in messages))

    async with working(store, by(server), clock, towns) as post:
        for step in range(60):
            clock.move(timedelta(minutes=1))
            post.wake()
            if step < 5:
                await asyncio.sleep(0.05)
        assert "ConnectError" in (post.wrong(True) or "")
        await server.start()
        clock.move(max(AGAIN_MOST, PROBE_MOST))
        post.wake()
        mails = await server.received(len(messages))
        for message in messages:
            await noted(store, message.id, is_sent)
        health = post.wrong(True)

    assert len({mail["Message-ID"] for mail in mails}) == len(mails) == len(messages)
    assert health is None


async def test_a_temporary_refusal_is_tried_again_later(server: MailServer, store: MemoryStore, clock: Clock) -> None:
    server.rcpt_answers = ["451 4.7.1 greylisted, come back"]
    message = await closed(store, closing())

    async with working(store, by(server), clock) as post:
        waiting = await noted(store, message.id, failed(1, clock))
        assert clock.at < waiting.due <= clock.at + AGAIN_MOST
        clock.at = waiting.due
        post.wake()
        await server.received(1)
        sent = await noted(store, message.id, is_sent)

    assert (waiting.state, sent.tries) == (MessageState.WAITING, 2)
    assert "451 4.7.1 greylisted" in (waiting.fault or "")


@pytest.mark.parametrize("where", ["rcpt_answers", "data_answers"])
async def test_a_permanent_refusal_is_a_dead_letter_until_an_operator_retries(
    server: MailServer, store: MemoryStore, clock: Clock, where: str
) -> None:
    setattr(server, where, ["550 5.1.1 <cucina@example.org> no such user"])
    message = await closed(store, closing())

    with capture_logs() as told:
        async with working(store, by(server), clock) as post:
            dead = await noted(store, message.id, is_dead)
            post.wake()
            await asyncio.sleep(0.05)
            health = post.wrong(True)
            assert server.mails == []
            assert await store.retry_message(message.id, clock.at)
            post.wake()
            await server.received(1)

    assert "550 5.1.1 (address) no such user" in (dead.fault or "")
    assert "1 orders could not be sent" in (health or "")
    [line] = [each for each in told if each["event"] == "order_dead"]
    assert (line["town"], line["order"]) == (BORGO, 1)
    assert "example.org" not in str(line["fault"]).replace("mail.example.org", "")


async def test_a_message_is_given_up_after_days_and_then_gets_its_tries_again(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    message = await closed(store, closing())
    server.rcpt_answers = ["451 not today"] * 100

    async with working(store, by(server), clock) as post:
        for tries in range(1, 12):
            waiting = await noted(store, message.id, failed(tries, clock))
            clock.at = max(waiting.due, CUTOFF + TRIED_FOR + HOUR if tries == 11 else waiting.due)
            post.wake()
        dead = await noted(store, message.id, is_dead)
        await store.retry_message(message.id, clock.at)
        post.wake()
        again = await noted(store, message.id, failed(1, clock))

    assert (dead.tries, again.state) == (12, MessageState.WAITING)


async def test_a_line_cut_after_the_mail_was_taken_sends_it_again_under_the_same_number(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    server.cuts_after_data = 1
    message = await closed(store, closing())

    async with working(store, by(server), clock) as post:
        waiting = await noted(store, message.id, failed(1, clock))
        clock.at = max(waiting.due, clock.at + PROBE_MOST)
        post.wake()
        first, second = await server.received(2)
        await noted(store, message.id, is_sent)

    assert first["Message-ID"] == second["Message-ID"]
    assert first["Message-ID"].startswith("<order-1.")
    assert first["Subject"] == second["Subject"]


async def test_two_gateways_on_one_store_send_each_order_once(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    messages = [await closed(store, closing(), town=f"t{number}") for number in range(20)]
    towns = serving(*(municipality(key=each.town) for each in messages))

    async with working(store, by(server), clock, towns), working(store, by(server), clock, towns):
        mails = await server.received(len(messages))
        for message in messages:
            await noted(store, message.id, is_sent)

    assert len({mail["Message-ID"] for mail in mails}) == len(mails) == len(messages)


async def test_the_order_of_a_gateway_that_was_killed_is_taken_over_when_its_lease_ends(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    await closed(store, closing())
    await store.take_messages(clock.at, clock.at + LEASE, 1)

    async with working(store, by(server), clock) as post:
        await asyncio.sleep(0.05)
        before = list(server.mails)
        clock.move(LEASE)
        post.wake()
        mails = await server.received(1)

    assert (before, len(mails)) == ([], 1)


async def test_a_gateway_that_stops_leaves_its_order_to_the_next_at_once(
    server: MailServer, store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.post.worker.STOP_S", 0.05)
    server.stalls_for = {KITCHEN}
    message = await closed(store, closing())

    async with working(store, by(server), clock):
        await noted(store, message.id, lambda each: each.tries == 1)
        await asyncio.sleep(0.05)

    left = await store.message(message.id)
    assert left is not None
    assert (left.state, left.due, left.fault) == (MessageState.WAITING, clock.at, "its gateway was stopped")


async def test_a_server_that_stalls_over_one_order_holds_up_no_other(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    server.stalls_for = {"lenta@example.org"}
    slow = await closed(store, closing(), town="lento")
    quick = [await closed(store, closing(), town=f"t{number}") for number in range(6)]
    towns = serving(municipality(key="lento", email="lenta@example.org"), *(municipality(key=q.town) for q in quick))

    async with working(store, by(server, timeout_s=0.5), clock, towns) as post:
        for message in quick:
            await noted(store, message.id, is_sent)
        stalled = await noted(store, slow.id, failed(1, clock))
        health = post.wrong(True)

    assert (stalled.state, health) == (MessageState.WAITING, None)
    assert "Timeout" in (stalled.fault or "")


@contextlib.asynccontextmanager
async def in_tls(folder: Path, security: str) -> AsyncIterator[MailServer]:
    """A mail server that wants a user and a password over TLS; its authority stands in `ca.pem`."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    server = MailServer(tls, begins_in_tls=security == "tls", must_sign_in=True)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_goes_over_tls_with_user_and_password(
    store: MemoryStore, clock: Clock, tmp_path: Path, security: str
) -> None:
    (tmp_path / "mail.password").write_text(PASSWORD + "\n")
    await closed(store, closing())

    async with in_tls(tmp_path, security) as server:
        delivery = by(server, tmp_path, security=security, ca_file=tmp_path / "ca.pem", user=USER)
        async with working(store, delivery, clock):
            await server.received(1)

    assert server.recipients == [KITCHEN]


async def test_a_server_without_tls_or_with_an_unknown_certificate_gets_no_order(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    message = await closed(store, closing())

    async with working(store, by(server, security="starttls"), clock) as post:
        waiting = await noted(store, message.id, failed(1, clock))
        health = post.wrong(True)

    assert (server.mails, waiting.state) == ([], MessageState.WAITING)
    assert "STARTTLS" in (health or "")


async def test_a_wrong_password_lets_every_order_wait_and_says_so(
    store: MemoryStore, clock: Clock, tmp_path: Path
) -> None:
    message = await closed(store, closing())

    async with in_tls(tmp_path, "starttls") as server:
        delivery = by(server, tmp_path, security="starttls", ca_file=tmp_path / "ca.pem", user=USER)
        async with working(store, delivery, clock) as post:
            waiting = await noted(store, message.id, failed(1, clock))
            health = post.wrong(True)

    assert waiting.state is MessageState.WAITING
    assert "mail.password: cannot be read" in (health or "")


async def test_a_file_of_the_mail_settings_that_cannot_be_used_is_named(
    store: MemoryStore, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "mail.password").write_bytes(b"\xff\xfe")
    message = await closed(store, closing())
    faults = []

    async with in_tls(tmp_path, "starttls") as server:
        for authority in ("ca.pem", "nowhere.pem"):
            delivery = by(server, tmp_path, security="starttls", ca_file=tmp_path / authority, user=USER)
            async with working(store, delivery, clock):
                tries = len(faults) + 1
                waiting = await noted(store, message.id, lambda each, tries=tries: failed(tries, clock)(each))
            faults.append(waiting.fault or "")
            clock.move(PROBE_MOST + AGAIN_MOST)

    assert f"{tmp_path}/mail.password: cannot be read" in faults[0]
    assert f"{tmp_path}/nowhere.pem: cannot be read" in faults[1]


async def test_without_a_mail_server_orders_wait_untouched_and_health_says_what_to_configure(
    store: MemoryStore, clock: Clock
) -> None:
    message = await closed(store, closing())

    async with working(store, None, clock) as post:
        await asyncio.sleep(0.05)
        health, without_addresses = post.wrong(True), post.wrong(False)

    assert "expected mail.host in gateway.yaml" in (health or "")
    assert without_addresses is None
    assert await store.message(message.id) == message


async def test_an_order_without_an_address_waits_for_one(server: MailServer, store: MemoryStore, clock: Clock) -> None:
    message = await closed(store, closing())
    towns = {BORGO: municipality(email=None)}

    async with working(store, by(server), clock, towns.get) as post:
        waiting = await noted(store, message.id, failed(1, clock))
        towns[BORGO] = municipality()
        clock.at = waiting.due
        post.wake()
        await server.received(1)

    assert waiting.fault == "the kitchen has no address; expected kitchen.email in schools.yaml"


async def test_orders_that_wait_long_show_in_health(store: MemoryStore, clock: Clock) -> None:
    await closed(store, closing())
    clock.move(HOUR)

    async with working(store, None, clock) as post:
        await asyncio.sleep(0.05)
        health = post.wrong(True)

    assert "1 orders wait, the oldest for 60 minutes" in (health or "")


async def test_a_copy_says_that_it_is_one(server: MailServer, store: MemoryStore, clock: Clock) -> None:
    await closed(store, closing())
    about = {"order": 1, "copy": 2, "request": "x"}
    await store.at(BORGO).add_message(NewMessage("order-1-copy-2", MessageKind.ORDER_COPY, about, clock.at))

    async with working(store, by(server), clock):
        order, copy = sorted(await server.received(2), key=lambda mail: len(mail["Subject"]))

    assert copy["Subject"] == f"COPIA n. 2 - {order['Subject']}"
    assert copy.get_body().get_content().startswith("COPIA n. 2 dell'ordine 1, già inviato: non è un ordine in più.")
    assert copy["Message-ID"] != order["Message-ID"]
    assert "ordine-1-2026-11-24-copia-2.pdf" in attached(copy)


async def test_an_order_goes_without_its_page_rather_than_not_at_all(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    await closed(store, closing())

    async with working(store, by(server), clock, printer=PaperMill("no pango")) as post:
        [mail] = await server.received(1)
        await asyncio.sleep(0.05)
        health = post.wrong(True)

    assert list(attached(mail)) == ["ordine-1-2026-11-24.csv"]
    assert "Questa volta il foglio PDF manca" in mail.get_body().get_content()
    assert "papers cannot be printed: no pango" in (health or "")


class StuckMill(PaperMill):
    """A printer that never comes to an end."""

    async def print(self, paper: Paper) -> bytes:
        await asyncio.Event().wait()
        return b""


async def test_a_press_that_hangs_holds_up_no_order_for_longer_than_papers_may_take(
    server: MailServer, store: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.post.mail.PAPERS_S", 0.05)
    anna, _ = await enrolled(store.at(BORGO))
    await closed(store, closing(trays=(tray(anna.id),)))

    async with working(store, by(server), clock, serving(municipality(trays=frozenset({"C"}))), StuckMill()):
        [mail] = await server.received(1)

    assert list(attached(mail)) == ["ordine-1-2026-11-24.csv", "lista-vassoi-ordine-1-2026-11-24.txt"]


def test_papers_and_a_slow_mail_server_fit_into_the_time_that_an_order_has() -> None:
    assert PAPERS_S + MailSettings().timeout_s < TELL_S


@pytest.mark.parametrize(
    "evil", ["Borgo\r\nBcc: ladro@example.org", "Borgo\nX: y", 'Borgo" <ladro@example.org>', "à\r\n\r\ntesto"]
)
async def test_no_name_adds_a_header_or_a_recipient(
    server: MailServer, store: MemoryStore, clock: Clock, evil: str
) -> None:
    await closed(store, closing())
    towns = serving(municipality(name=evil, kitchen=evil))

    async with working(store, by(server), clock, towns):
        [mail] = await server.received(1)

    assert server.recipients == [KITCHEN]
    assert (mail["Bcc"], mail["X"], mail.defects) == (None, None, [])
    [to], [from_] = mail["To"].addresses, mail["From"].addresses
    assert (to.addr_spec, from_.addr_spec) == (KITCHEN, "mensa@example.org")
    assert "TOTALE: 41 pasti" in mail.get_body().get_content()


async def test_an_address_that_no_server_takes_is_a_dead_letter(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    message = await closed(store, closing())

    async with working(store, by(server), clock, serving(municipality(email="cucinà@example.org"))):
        dead = await noted(store, message.id, is_dead)

    assert "not all ASCII" in (dead.fault or "")


async def test_a_domain_with_accents_is_written_as_mail_servers_know_it(
    server: MailServer, store: MemoryStore, clock: Clock
) -> None:
    await closed(store, closing())

    async with working(store, by(server), clock, serving(municipality(email="cucina@forlì.example"))):
        await server.received(1)

    assert server.recipients == ["cucina@xn--forl-tpa.example"]


async def test_mails_go_into_a_folder_whole_with_their_papers_beside_them(
    store: MemoryStore, clock: Clock, tmp_path: Path
) -> None:
    message = await closed(store, closing())

    async with working(store, FolderDelivery(tmp_path / "mail", "mensa@example.org"), clock):
        await noted(store, message.id, is_sent)

    files = {file.name: file for file in (tmp_path / "mail").iterdir()}
    assert set(files) == {"borgo-ordine-1.eml", "borgo-ordine-1-2026-11-24.pdf", "borgo-ordine-1-2026-11-24.csv"}
    assert (tmp_path / "mail").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in files.values()} == {0o600}
    assert b"Subject: " in files["borgo-ordine-1.eml"].read_bytes()


def test_a_new_rehearsal_takes_away_the_mails_of_the_last_one_and_nothing_else(tmp_path: Path) -> None:
    for name in ("borgo-ordine-1.eml", "borgo-lista-vassoi-ordine-1-2026-11-24.pdf", "borgo-tasse.pdf", "ordine.pdf"):
        (tmp_path / name).touch()

    forget_mails(tmp_path, BORGO)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["borgo-tasse.pdf", "ordine.pdf"]
