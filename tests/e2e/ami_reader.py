"""What the AMI tells whoever is logged in as the gateway: a reader for tests, in twenty lines of the protocol."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from gateway.asterisk import AsteriskSettings

Event = dict[str, str]


class AmiEvents:
    """The events so far, in order."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.all: list[Event] = []
        self._writer = writer

    def ask(self, action: str) -> None:
        """Send an action without values; an answer other than Success comes as the event `Error`."""
        self._writer.write(f"Action: {action}\r\n\r\n".encode())

    async def wait_for(self, name: str, timeout_s: float = 20.0) -> Event:
        """The first event of that name; AssertionError after `timeout_s`."""
        for _ in range(int(timeout_s / 0.02)):
            for event in self.all:
                if event["Event"] == name:
                    return event
            await asyncio.sleep(0.02)
        raise AssertionError(f"no {name} within {timeout_s} s, only {[event['Event'] for event in self.all]}")


@contextlib.asynccontextmanager
async def ami_events(settings: AsteriskSettings) -> AsyncIterator[AmiEvents]:
    """Log in and read along until the block ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", settings.ami_port)
    await reader.readline()
    writer.write(f"Action: Login\r\nUsername: {settings.ami_user}\r\nSecret: {settings.ami_secret}\r\n\r\n".encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b"Success" in answer, answer
    events = AmiEvents(writer)

    async def read() -> None:
        while True:
            block = (await reader.readuntil(b"\r\n\r\n")).decode()
            fields = dict(line.partition(": ")[::2] for line in block.split("\r\n") if line)
            if "Event" not in fields and fields.get("Response") == "Error":
                fields["Event"] = "Error"
            if "Event" in fields:
                events.all.append(fields)

    reading = asyncio.create_task(read())
    try:
        yield events
    finally:
        reading.cancel()
        writer.close()
