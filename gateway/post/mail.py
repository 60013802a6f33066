"""The order as a mail: headers that nobody's name can add to, a text, and the papers attached."""

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import quote

from gateway.municipality import Municipality
from gateway.post import letter
from gateway.post.order import Order, read_order
from gateway.post.papers import Paper, sheet, tray_list
from gateway.post.printing import Printer, PrintingError
from gateway.store.port import Town

# A press that was ended or fell over is started anew once.
PRINTING_TRIES = 2
# All papers of an order, the wait for those before them included: what is left of the time of telling is the mail server's.
PAPERS_S = 60.0
# Where a folder takes the mails, nobody has to have given an address to send from.
NO_SENDER = "mensa@localhost.invalid"


class UnusableAddressError(ValueError):
    """An address that mail cannot be sent to."""


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """An order in words and on paper, for whoever it is to be sent to. `fault` says why a paper is missing."""

    order: Order
    text: str
    attachments: tuple[Attachment, ...]
    fault: str | None

    @property
    def name(self) -> str:
        """What its files are called, without an ending."""
        copy = "" if self.order.copy is None else f"-copia-{self.order.copy}"
        return f"{self.order.town}-ordine-{self.order.number}{copy}"


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail and its envelope."""

    sender: str
    recipient: str
    message: EmailMessage
    told: Told


async def tell(municipality: Municipality, store: Town, printer: Printer, number: int, copy: int | None = None) -> Told:
    """The order as it is told now: names are looked up here, and kept nowhere. Raises `NoSuchOrderError`.

    Where a paper cannot be printed the order goes without it: the counts stand in its text and its table too.
    """
    order = await read_order(municipality, store, number, copy)
    until = asyncio.get_running_loop().time() + PAPERS_S
    ending = f"ordine-{order.number}-{order.day}" + ("" if copy is None else f"-copia-{copy}")
    attachments, fault = [], None
    try:
        attachments.append(Attachment(f"{ending}.pdf", "application/pdf", await _printed(printer, sheet(order), until)))
    except PrintingError as error:
        fault = str(error)
    has_sheet = fault is None
    attachments.append(Attachment(f"{ending}.csv", "text/csv", letter.table(order)))
    if order.trays:
        name = f"lista-vassoi-{ending}"
        try:
            trays = await _printed(printer, tray_list(order), until)
            attachments.append(Attachment(f"{name}.pdf", "application/pdf", trays))
        except PrintingError as error:
            fault = str(error)
            attachments.append(Attachment(f"{name}.txt", "text/plain", letter.tray_text(order).encode()))
    return Told(order, letter.text(order, has_sheet), tuple(attachments), fault)


async def _printed(printer: Printer, paper: Paper, until: float) -> bytes:
    try:
        async with asyncio.timeout_at(until):
            for _ in range(PRINTING_TRIES - 1):
                with contextlib.suppress(PrintingError):
                    return await printer.print(paper)
            return await printer.print(paper)
    except TimeoutError:
        raise PrintingError(f"the papers of one order took longer than {PAPERS_S:.0f} s") from None


def mail_of(told: Told, sender: str, recipient: str, at: datetime) -> Mail:
    """The mail, at the installation's instant `at`. Raises `UnusableAddressError`."""
    order = told.order
    from_, to = ascii_address(sender), ascii_address(recipient)
    message = EmailMessage(policy=SMTP)
    message["Subject"] = letter.subject(order)
    message["From"] = Address(f"Mensa {letter.one_line(order.municipality)}", addr_spec=from_)
    message["To"] = Address(letter.one_line(order.kitchen or ""), addr_spec=to)
    message["Date"] = format_datetime(at.astimezone(order.cutoff.tzinfo).replace(microsecond=0))
    message["Message-ID"] = message_id(order, from_)
    # RFC 3834: no out-of-office answer is wanted.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(told.text, cte="quoted-printable")
    # A screen reader chooses its voice by it.
    message["Content-Language"] = "it"
    for each in told.attachments:
        kind, _, subtype = each.type.partition("/")
        parameters = {"charset": "utf-8"} if kind == "text" else {}
        message.add_attachment(each.content, maintype=kind, subtype=subtype, filename=each.name, params=parameters)
    # The same order is the same mail to the last byte, whoever sends it and how often.
    boundary = hashlib.sha256(message["Message-ID"].encode()).hexdigest()[:24]
    message.set_boundary(f"=_{boundary}")
    return Mail(from_, to, message, told)


def message_id(order: Order, sender: str) -> str:
    """The same for the same order and copy, whenever and by whichever gateway it is sent (RFC 5322, 3.6.4)."""
    copy = "" if order.copy is None else f".copy-{order.copy}"
    domain = sender.rpartition("@")[2]
    return f"<order-{order.number}{copy}.{order.fingerprint}.{quote(order.town, safe='-_')}@{domain}>"


def ascii_address(address: str) -> str:
    """The address as every mail server takes it: its domain in IDNA. Raises `UnusableAddressError`."""
    local, _, domain = address.rpartition("@")
    try:
        spec = f"{local.encode('ascii').decode()}@{domain.encode('idna').decode()}"
        return Address(addr_spec=spec).addr_spec
    except (ValueError, IndexError):
        raise UnusableAddressError("its letters before the @ are not all ASCII, or its domain is none") from None
