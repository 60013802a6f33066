"""A real mail server for tests: aiosmtpd on a free port, which can be stopped, refuse, stall, or hang up after the mail."""

import asyncio
import ssl
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from gateway.settings import MailSettings

USER, PASSWORD = "mensa", "una parola d'ordine"


class MailServer:
    """Listens on 127.0.0.1 in this loop. What it has taken stands in `mails`, with the addresses in `recipients`."""

    def __init__(
        self, tls: ssl.SSLContext | None = None, *, begins_in_tls: bool = False, must_sign_in: bool = False
    ) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        # What the next recipients and mails are answered; none of it lasts when it is emptied.
        self.rcpt_answers: list[str] = []
        self.data_answers: list[str] = []
        # Mails that are taken, after which the line is cut without a word.
        self.cuts_after_data = 0
        # Recipients for whom no answer comes until the server is stopped.
        self.stalls_for: set[str] = set()
        # Done when a mail was taken, before that is answered.
        self.on_data: Callable[[], object] | None = None
        self.port = 0
        self._tls, self._begins_in_tls, self._must_sign_in = tls, begins_in_tls, must_sign_in
        self._server: asyncio.Server | None = None
        self._arrived = asyncio.Event()
        self._stopped = asyncio.Event()
        self._open: set[asyncio.BaseTransport] = set()

    async def start(self) -> None:
        """Listen; after the first time, on the same port again."""
        self._stopped.clear()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._protocol, "127.0.0.1", self.port, ssl=self._tls if self._begins_in_tls else None
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._stopped.set()
        if self._server is not None:
            self._server.close()
        for transport in tuple(self._open):
            transport.abort()  # type: ignore[attr-defined]  # of a socket, which has it
        self._open.clear()

    def settings(self, **others: Any) -> MailSettings:
        usual: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "security": "none", "timeout_s": 5}
        return MailSettings(**{"sender": "mensa@example.org", **usual, **others})

    async def received(self, mails: int) -> list[EmailMessage]:
        """All that came, once there are so many."""
        async with asyncio.timeout(30):
            while len(self.mails) < mails:
                self._arrived.clear()
                await self._arrived.wait()
        return self.mails

    def _protocol(self) -> SMTP:
        server = SMTP(
            self,
            hostname="mail.example.org",
            loop=asyncio.get_running_loop(),
            tls_context=None if self._begins_in_tls else self._tls,
            require_starttls=self._tls is not None and not self._begins_in_tls,
            auth_require_tls=not self._begins_in_tls,
            authenticator=_authenticated,
            auth_required=self._must_sign_in,
        )
        made, lost = server.connection_made, server.connection_lost
        mine: list[asyncio.BaseTransport] = []

        def connection_made(transport: asyncio.BaseTransport) -> None:
            mine.append(transport)
            self._open.add(transport)
            made(transport)

        def connection_lost(error: Exception | None) -> None:
            # A TLS connection that has ended cannot be ended again.
            self._open.difference_update(mine)
            lost(error)

        server.connection_made = connection_made  # type: ignore[method-assign]
        server.connection_lost = connection_lost  # type: ignore[method-assign]
        return server

    # What aiosmtpd asks its handler

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.stalls_for:
            await self._stopped.wait()
        answer = self.rcpt_answers.pop(0) if self.rcpt_answers else "250 OK"
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = self.data_answers.pop(0) if self.data_answers else "250 OK"
        if answer.startswith("250"):
            content = envelope.original_content or b""
            self.mails.append(message_from_bytes(content, policy=default))
            self.recipients += envelope.rcpt_tos
            self._arrived.set()
        if self.on_data is not None:
            self.on_data()
        if self.cuts_after_data:
            self.cuts_after_data -= 1
            server.transport.abort()
        return answer


def _authenticated(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=right)
