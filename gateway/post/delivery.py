"""Where mails go: to a mail server, or into a folder."""

import asyncio
import os
import re
import ssl
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol, TypeVar

import aiosmtplib

from gateway.post.mail import Mail
from gateway.settings import MailSettings

# A fault is shown in a table and a log line.
FAULT_CHARACTERS_MAX = 200
# The mail is the server's by then.
GOODBYE_S = 2.0
# Mails hold the tray list's names.
FOLDER_MODE, FILE_MODE = 0o700, 0o600
_PERMANENT = range(500, 600)
Answer = TypeVar("Answer")


class NotDeliveredError(Exception):
    """A mail was not taken; the message says why, in one line without addresses."""

    def __init__(self, why: object) -> None:
        text = re.sub(r"\S+@\S+", "(address)", " ".join(str(why).split()))
        super().__init__(text[:FAULT_CHARACTERS_MAX])


class RefusedError(NotDeliveredError):
    """This mail will never be taken as it is."""


class LaterError(NotDeliveredError):
    """This mail is not taken now."""


class NoServerError(NotDeliveredError):
    """Nothing is taken now: the server cannot be reached or will have nothing from us."""


class Delivery(Protocol):
    sender: str

    async def deliver(self, mail: Mail) -> None:
        """Return when the mail is in safe hands. Raises `NotDeliveredError`."""


class SmtpDelivery:
    """Hands mails to a mail server (RFC 5321), a connection each: kitchens hear once or twice a day."""

    def __init__(self, settings: MailSettings, secrets: Path) -> None:
        if settings.host is None or settings.sender is None:
            raise ValueError("mail: there is no host or no sender")
        self.sender = settings.sender
        self._settings, self._host = settings, settings.host
        self._password_file = secrets / settings.password_file

    async def deliver(self, mail: Mail) -> None:
        # Where one of these fails, every other mail would fail too.
        try:
            client = self._client()
            await client.connect()
        except (aiosmtplib.SMTPException, OSError, ValueError) as fault:
            raise NoServerError(self._told(fault)) from fault
        try:
            await self._hand_over(client, mail)
        except (OSError, aiosmtplib.SMTPException) as fault:
            raise NoServerError(self._told(fault)) from fault
        finally:
            client.close()

    async def _hand_over(self, client: aiosmtplib.SMTP, mail: Mail) -> None:
        if self._settings.user is not None:
            await client.login(self._settings.user, await asyncio.to_thread(self._password))
        try:
            await client.mail(mail.sender)
        except aiosmtplib.SMTPSenderRefused as fault:
            raise NoServerError(self._told(fault)) from fault
        await self._judged(client.rcpt(mail.recipient))
        await self._judged(client.data(mail.message.as_bytes()))
        try:
            await client.quit(timeout=GOODBYE_S)
        except (aiosmtplib.SMTPException, OSError):
            # The server has the mail; how it says good-bye does not matter.
            return

    async def _judged(self, asked: Awaitable[Answer]) -> Answer:
        """What the server says of this one mail: no for ever, or not now."""
        try:
            return await asked
        except (aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError) as fault:
            # 421 closes the connection whatever was asked (RFC 5321, 3.8).
            if fault.code == aiosmtplib.SMTPStatus.domain_unavailable:
                raise NoServerError(self._told(fault)) from fault
            raise (RefusedError if fault.code in _PERMANENT else LaterError)(self._told(fault)) from fault
        except aiosmtplib.SMTPTimeoutError as fault:
            # It talks to others: a check of this one mail may be what takes so long.
            raise LaterError(self._told(fault)) from fault

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        context = None
        if settings.security != "none":
            try:
                context = ssl.create_default_context(cafile=settings.ca_file)
            except OSError as error:
                raise _unreadable(settings.ca_file, error, "the certificates of mail.ca_file") from error
        return aiosmtplib.SMTP(
            hostname=self._host,
            port=settings.port,
            timeout=settings.timeout_s,
            use_tls=settings.security == "tls",
            start_tls=settings.security == "starttls",
            tls_context=context,
        )

    def _password(self) -> str:
        try:
            return self._password_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(self._password_file, error, "the password of mail.user, in UTF-8") from error

    def _told(self, fault: Exception) -> str:
        where = f"{self._host}:{self._settings.port}"
        match fault:
            case aiosmtplib.SMTPResponseException(code=code, message=message):
                return f"{where}: {code} {message}"
            case _:
                return f"{where}: {type(fault).__name__}: {fault}"


def _unreadable(file: Path | None, error: Exception, expected: str) -> NoServerError:
    why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
    return NoServerError(f"{file}: cannot be read ({why}); expected {expected}")


class FolderDelivery:
    """Writes each mail into a folder, with what is attached beside it; the same mail again replaces itself."""

    def __init__(self, folder: Path, sender: str) -> None:
        self.sender = sender
        self._folder = folder

    async def deliver(self, mail: Mail) -> None:
        try:
            await asyncio.to_thread(self._write, mail)
        except OSError as fault:
            raise NoServerError(f"{self._folder}: {fault.strerror}; expected a folder that can be written") from fault

    def _write(self, mail: Mail) -> None:
        self._folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        told = mail.told
        for each in told.attachments:
            # The mail is the last to appear: where it is, its papers are.
            _write_whole(self._folder / f"{told.order.town}-{each.name}", each.content)
        _write_whole(self._folder / f"{told.name}.eml", mail.message.as_bytes())


def forget_mails(folder: Path, town: str) -> None:
    """Take away what was delivered into a folder for a town, and nothing else that lies there."""
    for pattern in (f"{town}-ordine-*", f"{town}-lista-vassoi-ordine-*"):
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def _write_whole(file: Path, content: bytes) -> None:
    """The whole file or, after a crash, the one before."""
    descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, FILE_MODE)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        Path(temporary).replace(file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
