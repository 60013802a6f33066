"""The FastAGI server: Asterisk's connections in, calls out. panoramisk owns the sockets; what it does wrong is overridden here.

A connection is *half open* until its header was read and its first commands were answered; only then is it a session. Garbage
therefore costs one of a bounded number of half-open places for two seconds, and never a caller's.
"""

import asyncio
import math
import resource
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from panoramisk.fast_agi import Application, Request

from ivr.agi_line import AgiLimits, AgiLine, CallTooLong, generous_playing_s
from ivr.agi_protocol import (
    CONFIRMING_KEY,
    NUMBER_CHARACTERS_MAX,
    ROUTE_HUNGUP,
    ROUTE_LINE,
    HungUpCall,
    IncomingCall,
    NotAgi,
    Reply,
    asked,
    command,
    incoming_call,
    parsed_reply,
    request_id,
)
from ivr.line import HungUp, LineFailed, Prompt, prompt

__all__ = ["AgiLimits", "AgiLine", "AgiServer", "CallTooLong", "HungUpCall", "IncomingCall"]

# Connections that the kernel keeps for us between two looks of the event loop: a burst of calls and of garbage at once.
BACKLOG = 1024
# Dropped connections are told of at most once in this time, with their number: who floods the port must not flood the log.
DROPS_TOLD_EVERY_S = 10
# The hangup handler of a call that ended while draining connects some milliseconds later; it is still served.
HUNGUP_GRACE_S = 0.5


class Log(Protocol):
    """Where events go: a structlog logger's `info` fits. No field ever holds a keyed digit or a whole number."""

    def __call__(self, event: str, /, **fields: object) -> object: ...


class _Request(Request):  # type: ignore[misc]  # panoramisk has no types
    """panoramisk's request, whose every reply belongs to its command."""

    def __init__(
        self,
        app: Application,
        headers: IncomingCall,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        limits: AgiLimits,
        half_open_until: float,
    ) -> None:
        super().__init__(app, headers, reader, writer)
        self.half_open_until = half_open_until
        self.hung_up = False
        self.closed = False
        self.commands = 0
        self._lines_max = limits.reply_lines_max
        self._in_flight = False

    async def send_command(self, command: str, timeout_s: float) -> Reply:
        """The reply to `command`: as panoramisk's, but in time, bounded, and never another command's."""
        if self.closed:
            raise HungUp
        if self._in_flight:
            # New bytes abort what Asterisk is doing without a reply, and every later reply would be one off.
            raise LineFailed("a command was to be sent before the reply to the last one; nothing was sent")
        self._in_flight = True
        self.commands += 1
        # One command of 2 KiB at a time fits every socket buffer, so there is nothing to drain.
        self.writer.write(command.encode() + b"\n")
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._read_result()
        except TimeoutError:
            raise LineFailed(f"no reply to a command within {timeout_s:g} s; the call ends here") from None
        self._in_flight = False
        return reply

    async def _read_result(self) -> Reply:
        usage = False
        for _ in range(self._lines_max):
            line = await self._line()
            if line == "HANGUP":
                # Sent by Asterisk whenever the caller goes, once or twice; it answers nothing.
                self.hung_up = True
            elif usage:
                if line.startswith("520 "):
                    return Reply(520, line[4:])
            elif line.startswith("520-"):
                usage = True
            elif not line.startswith("100 "):
                reply = parsed_reply(line)
                if reply is None:
                    raise LineFailed("a line that is no AGI reply; the call ends here")
                return reply
        raise LineFailed(f"no reply in {self._lines_max} lines; the call ends here")

    async def _line(self) -> str:
        try:
            line: bytes = await self.reader.readline()
        except ValueError:
            raise LineFailed("a reply line without an end; the call ends here") from None
        except OSError:
            line = b""
        if not line.endswith(b"\n"):
            self.hung_up = self.closed = True
            raise HungUp
        return line[:-1].decode("utf-8", "replace")


_Endpoint = Callable[[_Request], Awaitable[None]]


class _Application(Application):  # type: ignore[misc]  # panoramisk has no types
    """panoramisk's application: its routes, behind a handler that gets rid of whatever comes in."""

    def __init__(self, limits: AgiLimits, log: Log) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._limits = limits
        self._log = log
        # In the order in which they came: the first is the oldest.
        self._half_open: dict[asyncio.StreamWriter, None] = {}
        self._dropped = 0
        self._dropped_told_at = -math.inf

    async def handler(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection and close it, whatever happens; nothing comes out."""
        half_open_until = self.loop.time() + self._limits.header_s_max
        if len(self._half_open) >= self._limits.half_open_max:
            oldest = next(iter(self._half_open))
            self.settle(oldest)
            oldest.transport.abort()
        self._half_open[writer] = None
        try:
            async with asyncio.timeout_at(half_open_until):
                call = incoming_call(await self._header(reader))
            endpoint: _Endpoint | None = self._route.get(call.route)
            if endpoint is None:
                raise NotAgi("unknown_route")
            await endpoint(_Request(self, call, reader, writer, self._limits, half_open_until))
        except NotAgi as refused:
            self._tell_dropped(str(refused))
        except TimeoutError:
            self._tell_dropped("too_slow")
        except asyncio.CancelledError:
            # The end of this task all the same; asyncio's streams would call a cancelled handler a fault.
            return
        finally:
            self.settle(writer)
            # Nothing of ours waits to be sent: every command was answered or the connection is given up.
            writer.transport.abort()

    def settle(self, writer: asyncio.StreamWriter) -> None:
        """This connection is no longer half open."""
        self._half_open.pop(writer, None)

    def drop_half_open(self) -> None:
        """Close every connection that is not yet a session."""
        for writer in self._half_open:
            writer.transport.abort()

    async def _header(self, reader: asyncio.StreamReader) -> bytes:
        try:
            header = await reader.readuntil(b"\n\n")
        except asyncio.IncompleteReadError:
            raise NotAgi("closed_early") from None
        except asyncio.LimitOverrunError:
            raise NotAgi("header_too_large") from None
        except OSError:
            raise NotAgi("closed_early") from None
        if header.count(b"\n") > self._limits.header_lines_max:
            raise NotAgi("header_too_long")
        return header

    def _tell_dropped(self, reason: str) -> None:
        self._dropped += 1
        now = self.loop.time()
        if now - self._dropped_told_at >= DROPS_TOLD_EVERY_S:
            self._log("agi_connections_dropped", connections=self._dropped, latest_reason=reason)
            self._dropped, self._dropped_told_at = 0, now


class AgiServer:
    """Asterisk's door: every call becomes an `AgiLine` and is handed to `on_line`; keys of a hang-up to `on_hungup`.

    `on_line` is never cancelled because a caller went: it sees `HungUp` at its next word and ends, and what it stores it
    stores. It returns when the call is over; what it raises ends the call, and the dialplan then says what is true.
    `on_hungup` gets a confirmation that nobody read, stores it once, and returns the receipts; it may outlive its connection.
    `clips` gives the clips of a prompt in a language; `playing_s` bounds how long clips play, in seconds.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        on_line: Callable[[AgiLine, IncomingCall], Awaitable[None]],
        on_hungup: Callable[[HungUpCall], Awaitable[Sequence[str]]],
        clips: Callable[[Prompt, str], Sequence[str]],
        log: Log,
        playing_s: Callable[[Sequence[str]], float] = generous_playing_s,
        limits: AgiLimits | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._on_line = on_line
        self._on_hungup = on_hungup
        self._clips = clips
        self._log = log
        self._playing_s = playing_s
        self._limits = limits or AgiLimits()
        self._application: _Application | None = None
        self._server: asyncio.Server | None = None
        self._lines: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._hangups: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._completions: set[asyncio.Task[Sequence[str]]] = set()
        self._draining = False
        self._hung_up_draining = False

    @property
    def sessions(self) -> int:
        """The calls that are running."""
        return len(self._lines)

    @property
    def port(self) -> int:
        """The port that is listened on; the one chosen by the system when it was started with 0."""
        if self._server is None or not self._server.sockets:
            return self._port
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen; raises OSError when the port is taken."""
        raise_open_files_limit()
        self._application = _Application(self._limits, self._log)
        self._application.add_route(ROUTE_LINE, self._take_line)
        self._application.add_route(ROUTE_HUNGUP, self._take_hungup)
        self._server = await asyncio.start_server(
            self._application.handler, self._host, self._port, limit=self._limits.header_bytes_max, backlog=BACKLOG
        )

    async def drain(self, timeout_s: float) -> None:
        """Take no new calls and come back when the running ones have ended, or after `timeout_s`.

        The door stays open for hangup handlers until then; a new call is told `IVR_REFUSED=draining`, unanswered.
        """
        self._draining = True
        deadline = asyncio.get_running_loop().time() + timeout_s
        while self._lines and (left_s := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._lines, timeout=left_s)
        if self._hung_up_draining:
            await asyncio.sleep(HUNGUP_GRACE_S)
        self._stop_listening()
        if self._hangups or self._completions:
            left_s = max(HUNGUP_GRACE_S, deadline - asyncio.get_running_loop().time())
            await asyncio.wait({*self._hangups, *self._completions}, timeout=left_s)

    async def close(self) -> None:
        """Close every connection; what is being stored gets `close_s` to be stored, and only then is cancelled."""
        self._draining = True
        self._stop_listening()
        for writer in (*self._lines.values(), *self._hangups.values()):
            writer.transport.abort()
        for last in (False, True):
            running: set[asyncio.Task[object]] = {*self._lines, *self._hangups, *self._completions}
            if not running:
                break
            if last:
                self._log("agi_calls_cancelled", calls=len(running))
                for task in running:
                    task.cancel()
            await asyncio.wait(running, timeout=self._limits.close_s)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._application is not None:
            self._application.drop_half_open()

    async def _take_line(self, request: _Request) -> None:
        call: IncomingCall = request.headers
        loop = asyncio.get_running_loop()
        line = AgiLine(
            request,
            self._clips,
            now=loop.time,
            language=call.language or "it",
            limits=self._limits,
            playing_s=self._playing_s,
        )
        try:
            async with asyncio.timeout_at(request.half_open_until):
                await line.open()
                # Between this look and the place taken below nothing else runs, so the cap is never passed.
                if reason := self._refusal():
                    await line.refuse(reason)
        except (HungUp, LineFailed):
            raise NotAgi("not_answering") from None
        if reason:
            self._log("call_refused", call=call.uniqueid, reason=reason)
            return
        request.app.settle(request.writer)
        task = _current_task()
        self._lines[task] = request.writer
        overdue = loop.call_later(self._limits.call_s_max + self._limits.overdue_s, self._give_up, request, call)
        try:
            await self._run(line, call, request)
        finally:
            overdue.cancel()
            del self._lines[task]

    def _refusal(self) -> str:
        if self._draining:
            return "draining"
        return "full" if len(self._lines) >= self._limits.sessions_max else ""

    async def _run(self, line: AgiLine, call: IncomingCall, request: _Request) -> None:
        began = asyncio.get_running_loop().time()
        ended = "completed"
        fault: dict[str, object] = {}
        try:
            await self._on_line(line, call)
            await line.end()
        except HungUp:
            ended = "hung_up"
        except CallTooLong:
            ended = "too_long"
            with suppress(HungUp, LineFailed):
                await line.end_with(prompt("call-too-long"))
        except LineFailed as failed:
            ended, fault = "line_failed", {"reason": str(failed)}
        except Exception as failed:
            # A fault in one call must not reach the others; the dialplan speaks to this caller now.
            ended, fault = "failed", {"exc_info": failed}
        if request.hung_up:
            ended = "hung_up" if ended == "completed" else ended
            self._hung_up_draining = self._hung_up_draining or self._draining
        seconds = round(asyncio.get_running_loop().time() - began, 3)
        self._log("agi_ended", call=call.uniqueid, ended=ended, seconds=seconds, commands=request.commands, **fault)

    def _give_up(self, request: _Request, call: IncomingCall) -> None:
        self._log("agi_overdue", call=call.uniqueid, seconds=self._limits.call_s_max + self._limits.overdue_s)
        request.writer.transport.abort()

    async def _take_hungup(self, request: _Request) -> None:
        if len(self._hangups) >= self._limits.sessions_max:
            raise NotAgi("too_many_hangups")
        try:
            async with asyncio.timeout_at(request.half_open_until):
                confirming = await self._variable(request, "IVR_ASKED")
        except (HungUp, LineFailed):
            raise NotAgi("not_answering") from None
        request.app.settle(request.writer)
        task = _current_task()
        self._hangups[task] = request.writer
        try:
            await self._complete(request, confirming)
        except HungUp:
            self._log("hungup_ended", call=request.headers.uniqueid, ended="connection_lost")
        except LineFailed as failed:
            self._log("hungup_ended", call=request.headers.uniqueid, ended="line_failed", reason=str(failed))
        finally:
            del self._hangups[task]

    async def _complete(self, request: _Request, confirming: str) -> None:
        call: IncomingCall = request.headers
        wish = await self._variable(request, "IVR_REQUEST")
        keys = await self._variable(request, "IVR_KEYS")
        saved = await self._variable(request, "IVR_SAVED")
        # In the hangup handler `agi_extension` is no number any more; the dialplan kept it.
        dialled = await self._variable(request, "IVR_DIALLED") or call.dialled
        if keys != CONFIRMING_KEY or confirming != asked(wish):
            # Nothing was asked, something else was keyed, or the request did not come through whole: no change without its key.
            self._log("hungup_ended", call=call.uniqueid, ended="not_confirmed")
            await self._set(request, "IVR_ENDED", "1")
            return
        await self._set(request, "IVR_SAVED", "pending")
        hung_up = HungUpCall(call.uniqueid, dialled[:NUMBER_CHARACTERS_MAX], request_id(wish), wish, keys, saved)
        completion = asyncio.ensure_future(self._on_hungup(hung_up))
        self._completions.add(completion)
        completion.add_done_callback(self._completions.discard)
        await asyncio.wait({completion}, timeout=self._limits.hungup_s)
        if not completion.done():
            completion.add_done_callback(lambda late: self._tell_completion(call, late, late=True))
            return
        self._tell_completion(call, completion, late=False)
        if completion.exception() is None:
            earlier = [saved] if saved not in ("", "pending") else []
            await self._set(request, "IVR_SAVED", "-".join([*earlier, *completion.result()]))
            # Only now: without it the dialplan asks the next gateway, and storing twice is storing once (R20).
            await self._set(request, "IVR_ENDED", "1")

    def _tell_completion(self, call: IncomingCall, completion: "asyncio.Task[Sequence[str]]", *, late: bool) -> None:
        if completion.cancelled():
            self._log("hungup_ended", call=call.uniqueid, ended="cancelled", late=late)
        elif (failed := completion.exception()) is not None:
            self._log("hungup_ended", call=call.uniqueid, ended="failed", late=late, exc_info=failed)
        else:
            self._log("hungup_ended", call=call.uniqueid, ended="stored", late=late, changes=len(completion.result()))

    async def _variable(self, request: _Request, name: str) -> str:
        reply = await request.send_command(command("GET VARIABLE", name), self._limits.reply_s)
        if reply.code != 200 or reply.result not in ("0", "1"):
            raise LineFailed(f"GET VARIABLE {name}: {reply.code}; expected 200 result=0 or 1; nothing was stored")
        return reply.value or ""

    async def _set(self, request: _Request, name: str, value: str) -> None:
        reply = await request.send_command(command(f"SET VARIABLE {name}", value), self._limits.reply_s)
        if reply.code != 200 or reply.result != "1":
            raise LineFailed(f"SET VARIABLE {name}: {reply.code}; expected 200 result=1; the next gateway is asked")


def raise_open_files_limit() -> None:
    """Let this process open as many files as it may at all: a call is one, and so is each piece of garbage."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _current_task() -> "asyncio.Task[None]":
    task = asyncio.current_task()
    assert task is not None, "a connection is served by a task"
    return task
