"""A FastAGI server on a free port of this machine, for tests: what it was told to do, and what it logged."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ivr.agi import AgiLimits, AgiLine, AgiServer, HungUpCall, IncomingCall
from ivr.line import Prompt

HOST = "127.0.0.1"
# Nothing of a call takes that long; a test that waits for it has found a call that never ends.
CALLS_END_S = 20

OnLine = Callable[[AgiLine, IncomingCall], Awaitable[None]]


def one_clip(prompt: Prompt, language: str) -> Sequence[str]:
    """A clip per prompt, named after it."""
    return (f"{language}/{prompt.id}",)


@dataclass
class Serving:
    """A running server, what came to it through the door for hangups, and its log."""

    server: AgiServer
    events: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    hungup: list[HungUpCall] = field(default_factory=list)
    receipts: Sequence[str] = ("4712",)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    # What nobody caught; a server that lives lets nothing out.
    escaped: list[dict[str, object]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.server.port

    def logged(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.events if name == event]

    async def all_calls_ended(self) -> None:
        """Come back when no call runs any more: the caller's side may see its end a moment sooner than ours."""
        async with asyncio.timeout(CALLS_END_S):
            while self.server.sessions:
                self.ended.clear()
                await self.ended.wait()

    @property
    def endings(self) -> list[object]:
        return [fields["ended"] for fields in self.logged("agi_ended")]


@asynccontextmanager
async def serving(
    on_line: OnLine,
    *,
    limits: AgiLimits | None = None,
    clips: Callable[[Prompt, str], Sequence[str]] = one_clip,
    on_hungup: Callable[[HungUpCall], Awaitable[Sequence[str]]] | None = None,
    playing_s: Callable[[Sequence[str]], float] | None = None,
) -> AsyncIterator[Serving]:
    """A server with `on_line` behind it, closed at the end whatever happens."""

    async def completed(call: HungUpCall) -> Sequence[str]:
        running.hungup.append(call)
        return running.receipts if on_hungup is None else await on_hungup(call)

    def log(event: str, /, **fields: object) -> None:
        running.events.append((event, fields))
        if event == "agi_ended":
            running.ended.set()

    given = {} if playing_s is None else {"playing_s": playing_s}
    server = AgiServer(
        host=HOST, port=0, on_line=on_line, on_hungup=completed, clips=clips, log=log, limits=limits, **given
    )
    running = Serving(server)
    asyncio.get_running_loop().set_exception_handler(lambda _, context: running.escaped.append(context))
    await server.start()
    try:
        yield running
    finally:
        await server.close()
    assert running.escaped == []
