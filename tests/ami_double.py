"""Asterisk's manager interface as a client sees it: banner, challenge, login, ping, channels, events.

It behaves as `main/manager.c` (branch 22) does as far as a client can tell: a secret is never taken in clear here, a rejected
login is answered and then closed, events go only to who has logged in. What it sends can be cut into pieces of any size.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

USERNAME = "mensa"
SECRET = "unguessable"
BANNER = "Asterisk Call Manager/11.0.0\r\n"


def event(name: str, **headers: str) -> str:
    """An event as Asterisk writes it; `_` in a header's name stands for `-`."""
    lines = [f"Event: {name}", "Privilege: call,all"]
    lines += [f"{header.replace('_', '-')}: {value}" for header, value in headers.items()]
    return "\r\n".join(lines) + "\r\n\r\n"


@dataclass
class AmiServer:
    """One Asterisk. What it is to do wrong is set before or while a client is connected."""

    username: str = USERNAME
    secret: str = SECRET
    channels: tuple[Mapping[str, str], ...] = ()
    banner: str = BANNER
    answers: frozenset[str] = frozenset({"challenge", "login", "ping", "coreshowchannels"})
    piece_bytes: int | None = None
    port: int = 0
    connections: int = 0
    actions: list[dict[str, str]] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    respond: Callable[[dict[str, str]], str | None] = field(default=lambda action: None)
    _challenge: str = ""
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _logged_in: list[asyncio.StreamWriter] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """As when Asterisk ends: nothing listens any more, and every client is closed."""
        if self._server is not None:
            self._server.close()
        self.close_clients()

    def close_clients(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._logged_in.clear()

    def send(self, *messages: str | bytes) -> None:
        """Send to every client that has logged in."""
        for writer in self._logged_in:
            for message in messages:
                self._write(writer, message)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Come back when `condition` holds, looked at whenever a client did something."""
        async with self._changed:
            await self._changed.wait_for(condition)

    def names(self) -> list[str]:
        return [action["action"].lower() for action in self.actions]

    def _write(self, writer: asyncio.StreamWriter, message: str | bytes) -> None:
        data = message if isinstance(message, bytes) else message.encode()
        size = self.piece_bytes or max(1, len(data))
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        self._write(writer, self.banner)
        await self._tell()
        try:
            while True:
                headers: dict[str, str] = {}
                while (line := (await reader.readline())).strip():
                    self.received += line
                    name, _, value = line.decode().rstrip("\r\n").partition(": ")
                    headers[name.lower()] = value
                if not line:
                    return
                self.actions.append(headers)
                is_open = self._answer(writer, headers)
                await self._tell()
                if not is_open:
                    writer.close()
                    return
        except ConnectionError:
            return

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _answer(self, writer: asyncio.StreamWriter, action: dict[str, str]) -> bool:
        """Answer one action; False when the connection is to be closed after it."""
        name = action["action"].lower()
        special = self.respond(action)
        if special is not None:
            self._write(writer, special)
            return True
        if name not in self.answers:
            return True
        head = f"ActionID: {action['actionid']}\r\n"
        if name == "challenge":
            self._challenge = f"{len(self.actions)}0815"
            self._write(writer, f"Response: Success\r\n{head}Challenge: {self._challenge}\r\n\r\n")
        elif name == "login":
            key = hashlib.md5(f"{self._challenge}{self.secret}".encode()).hexdigest()
            if action.get("username") != self.username or action.get("key") != key:
                self._write(writer, f"Response: Error\r\n{head}Message: Authentication failed\r\n\r\n")
                return False
            self._write(writer, f"Response: Success\r\n{head}Message: Authentication accepted\r\n\r\n")
            self._logged_in.append(writer)
            self._write(writer, event("FullyBooted", Status="Fully Booted"))
        elif name == "ping":
            self._write(writer, f"Response: Success\r\n{head}Ping: Pong\r\nTimestamp: 1795000000.000001\r\n\r\n")
        elif name == "coreshowchannels":
            self._write(writer, f"Response: Success\r\n{head}EventList: start\r\nMessage: Channels will follow\r\n\r\n")
            self._write_channels(writer, action["actionid"], self.channels)
        else:
            self._write(writer, f"Response: Error\r\n{head}Message: Invalid/unknown command\r\n\r\n")
        return True

    def _write_channels(
        self, writer: asyncio.StreamWriter, actionid: str, channels: Iterable[Mapping[str, str]]
    ) -> None:
        count = 0
        for channel in channels:
            self._write(writer, event("CoreShowChannel", ActionID=actionid, **channel))
            count += 1
        self._write(
            writer,
            event("CoreShowChannelsComplete", ActionID=actionid, EventList="Complete", ListItems=str(count)),
        )
