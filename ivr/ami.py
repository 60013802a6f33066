"""The link to Asterisk's manager interface (AMI). panoramisk owns the socket; what it does wrong is overridden here.

The link logs in, asks which channels there are, and hands every event on. When it is lost it comes back by itself; what was
asked and not answered is never asked again, since a repeated action may be a second ring to somebody's phone.
"""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from panoramisk.actions import Action
from panoramisk.ami_protocol import AMIProtocol
from panoramisk.manager import Manager
from panoramisk.message import Message

from ivr.ami_protocol import AmiEvent, AmiGarbage, AmiReader, event_of, is_one_line

__all__ = ["LINK_DOWN", "LINK_UP", "RESYNCHRONISED", "AmiEvent", "AmiLimits", "AmiLink", "AmiLinkLost"]

# The link's own events among Asterisk's. Between LINK_UP and RESYNCHRONISED comes one `CoreShowChannel` for each channel
# that Asterisk has; other events may lie between them.
LINK_UP = "LinkUp"
LINK_DOWN = "LinkDown"
RESYNCHRONISED = "CoreShowChannelsComplete"

# What the account may read (telephony.md). Asked for here too: whatever an edit of manager.conf grants, the classes `agi` and
# `dialplan`, which carry codes and PINs, never come over this link.
EVENT_CLASSES = "call,user,system"
# Handing events on may not keep the loop from the calls for longer than a few milliseconds.
EVENTS_PER_TURN = 100


class Log(Protocol):
    """Where the link's own life is told; a structlog logger fits."""

    def info(self, event: str, /, **fields: object) -> object: ...
    def warning(self, event: str, /, **fields: object) -> object: ...


@dataclass(frozen=True, slots=True)
class AmiLimits:
    """How long the link waits, and how much it keeps."""

    # Asterisk is on this machine or the next; what takes longer is not there.
    connect_s: float = 5
    # Banner, challenge and login together; Asterisk itself gives up on a client after as long (manager.conf).
    login_s: float = 5
    # `CoreShowChannels` with a thousand calls up takes well under a second.
    answer_s: float = 10
    # A dead link is noticed within these two together, about as soon as a clerk would wonder.
    ping_every_s: float = 10
    ping_s: float = 5
    # Asterisk restarts within seconds, so the first try comes soon; a machine that is gone is not knocked at all the time.
    retry_first_s: float = 0.5
    retry_most_s: float = 30
    # Bad credentials stay bad until somebody edits a file, and Asterisk logs each try as a breach.
    rejected_s: float = 60
    # Five seconds of a burst of 40 calls a second at ten events each, twice over.
    events_max: int = 4000
    # Each of our actions is awaited; more than this at once is a fault of ours.
    actions_max: int = 32
    # A list has one message per channel, and no Asterisk of ours has near as many.
    answers_max: int = 20_000


class AmiLinkLost(Exception):  # noqa: N818 - what happened, as with the caller's HungUp
    """Raised for an action that got no answer. Whether Asterisk did it is not known; it is not sent again."""


class _Rejected(Exception):  # noqa: N818
    """Asterisk did not accept the user name and secret."""


class AmiLink:
    """One Asterisk's events, for as long as `run` runs.

    `on_event` is called for each, in order, and must be quick; what it raises is logged and forgotten. When it does not keep
    up, the oldest events are dropped and counted in `events_dropped`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        username: str,
        secret: str,
        on_event: Callable[[AmiEvent], None],
        log: Log,
        limits: AmiLimits | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        if not is_one_line(username):
            raise ValueError("AMI user name: holds a line end; expected one line; no connection is made")
        self._host, self._port, self._username, self._secret = host, port, username, secret
        self._on_event, self._log = on_event, log
        self._jitter = jitter or random.SystemRandom().random
        self._limits = limits or AmiLimits()
        self._manager: _Manager | None = None
        self._events: deque[AmiEvent] = deque()
        self._has_events = asyncio.Event()
        self._closing = asyncio.Event()
        self.connected = False
        self.events_dropped = 0
        self.logins = 0

    async def run(self) -> None:
        """Keep the link up until `close()` or cancellation. After a fault it can be run again, after `close()` not."""
        delivery = asyncio.create_task(self._deliver())
        failures = 0
        try:
            while not self._closing.is_set():
                began = asyncio.get_running_loop().time()
                wait_s = await self._live(failures)
                # A link that broke at once is as good as none: only one that held for a while starts the back-off afresh.
                held_s = asyncio.get_running_loop().time() - began
                failures = 0 if held_s > self._limits.retry_most_s else failures + 1
                await self._pause(wait_s)
        finally:
            if self._manager is not None:
                self._manager.close()
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)
            self._hand_on(len(self._events))

    def close(self) -> None:
        """End the link, also while it waits to connect again; `run` returns."""
        self._closing.set()
        if self._manager is not None:
            self._manager.close()

    async def send(self, action: str, values: Mapping[str, str] | None = None) -> tuple[AmiEvent, ...]:
        """What Asterisk answers: the response as an event named by its `Response`, then the events of a list.

        Raises ValueError for a value of more than one line, before anything is sent, and `AmiLinkLost` without an answer.
        """
        if self._manager is None or not self.connected:
            raise AmiLinkLost(f"AMI {action}: there is no link; nothing was sent")
        return await self._ask(self._manager, action, dict(values or {}))

    # One connection

    async def _live(self, failures: int) -> float:
        """One connection from its first byte to its last; returns the seconds to wait before the next."""
        wait_s: float = min(self._limits.retry_most_s, self._limits.retry_first_s * 2.0 ** min(failures, 30))
        where = f"{self._host}:{self._port}"
        manager = _Manager(self._host, self._port, self._enqueue, self._limits)
        self._manager = manager
        try:
            await self._log_in(manager)
            self.connected = True
            self.logins += 1
            self._log.info("ami_connected", where=where, version=manager.version)
            self._enqueue(AmiEvent(LINK_UP))
            await self._resynchronise(manager)
            await self._keep_alive(manager)
        except _Rejected:
            wait_s = self._limits.rejected_s
            self._log.warning(
                "ami_rejected", where=where, username=self._username, reason="bad credentials", again_in_s=wait_s
            )
        except (OSError, AmiLinkLost, AmiGarbage) as lost:
            if not self._closing.is_set():
                # Why the link was lost says more than which action got no answer by that.
                cause = manager.lost.exception() if manager.lost.done() else lost
                self._log.warning("ami_lost", where=where, reason=str(cause) or type(cause).__name__, again_in_s=wait_s)
        finally:
            if self.connected:
                self.connected = False
                self._enqueue(AmiEvent(LINK_DOWN))
            manager.close()
        # Several gateways lose one Asterisk in the same instant; they need not come back in the same instant.
        return wait_s * (0.5 + self._jitter() / 2)

    async def _log_in(self, manager: "_Manager") -> None:
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await manager.open()
            async with asyncio.timeout(self._limits.login_s):
                await manager.greeted
        except TimeoutError:
            raise AmiLinkLost("no Asterisk greeted in time") from None
        challenge = (await self._ask(manager, "Challenge", {"AuthType": "MD5"}, self._limits.login_s))[0]["Challenge"]
        if not challenge:
            raise AmiLinkLost("Asterisk gave no MD5 challenge, and the secret is not sent in clear")
        # The digest is the protocol's; the challenge is new each time, so what a listener gets opens nothing.
        key = hashlib.md5(f"{challenge}{self._secret}".encode(), usedforsecurity=False).hexdigest()
        login = {"AuthType": "MD5", "Username": self._username, "Key": key, "Events": EVENT_CLASSES}
        if (await self._ask(manager, "Login", login, self._limits.login_s))[0].name != "Success":
            raise _Rejected

    async def _resynchronise(self, manager: "_Manager") -> None:
        response, *channels = await self._ask(manager, "CoreShowChannels", {})
        if response.name != "Success":
            self._log.warning("ami_resync_refused", reason=response["Message"], expected="write=reporting")
            return
        for channel in channels:
            self._enqueue(channel)

    async def _keep_alive(self, manager: "_Manager") -> None:
        while True:
            try:
                async with asyncio.timeout(self._limits.ping_every_s):
                    await asyncio.shield(manager.lost)
            except TimeoutError:
                await self._ask(manager, "Ping", {}, self._limits.ping_s)

    async def _ask(
        self, manager: "_Manager", name: str, values: dict[str, str], timeout_s: float | None = None
    ) -> tuple[AmiEvent, ...]:
        for header, value in {"Action": name, **values}.items():
            if not (is_one_line(header) and is_one_line(value)):
                raise ValueError(f"AMI {name!r}: {header!r} holds a line end; expected one line; nothing was sent")
        if name.lower() == "originate":
            # Without it Asterisk answers nothing else on this link until somebody has picked up.
            values = {"Async": "true", **values}
        action = Action({"Action": name, **values})
        try:
            async with asyncio.timeout(self._limits.answer_s if timeout_s is None else timeout_s):
                answer = await manager.send_action(action)
        except TimeoutError:
            raise AmiLinkLost(f"AMI {name}: no answer in time") from None
        finally:
            manager.forget(action)
        return tuple(_answer(message) for message in (answer if isinstance(answer, list) else [answer]))

    async def _pause(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._closing.wait()
        except TimeoutError:
            pass

    # Events, on their way to the one who wants them

    def _enqueue(self, event: AmiEvent) -> None:
        if len(self._events) >= self._limits.events_max:
            self._events.popleft()
            self.events_dropped += 1
            if self.events_dropped == 1 or self.events_dropped % self._limits.events_max == 0:
                self._log.warning("ami_events_dropped", events=self.events_dropped, kept=self._limits.events_max)
        self._events.append(event)
        self._has_events.set()

    async def _deliver(self) -> None:
        while True:
            await self._has_events.wait()
            self._hand_on(EVENTS_PER_TURN)
            if not self._events:
                self._has_events.clear()
            await asyncio.sleep(0)

    def _hand_on(self, count: int) -> None:
        for _ in range(min(count, len(self._events))):
            event = self._events.popleft()
            try:
                self._on_event(event)
            except Exception as fault:
                # A fault in the log of one call must not cost the others theirs.
                self._log.warning("ami_event_failed", name=event.name, exc_info=fault)


class _Manager(Manager):  # type: ignore[misc]  # panoramisk has no types
    """panoramisk's manager for one connection: it never connects, logs in, pings or repeats anything of its own accord."""

    def __init__(self, host: str, port: int, on_event: Callable[[AmiEvent], None], limits: AmiLimits) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(host=host, port=port, loop=loop, protocol_factory=lambda: _Protocol(self, limits))
        # Nothing is kept to be sent again after a reconnect, by whatever way it would get here.
        self.awaiting_actions: deque[Action] = deque(maxlen=0)
        self.callbacks.clear()
        self.patterns.clear()
        self.greeted: asyncio.Future[str] = loop.create_future()
        self.lost: asyncio.Future[None] = loop.create_future()
        self._on_event = on_event

    @property
    def version(self) -> str | None:
        return self.greeted.result() if self.greeted.done() else None

    async def open(self) -> None:
        """Connect; raises OSError."""
        config = self.config
        _, self.protocol = await self.loop.create_connection(config["protocol_factory"], config["host"], config["port"])

    def send_action(self, action: Action) -> "asyncio.Future[object]":
        future: asyncio.Future[object] = self.protocol.send(action)
        return future

    def forget(self, action: Action) -> None:
        """Want no answer to `action` any more."""
        self.protocol.responses.pop(action.id, None)
        action.future.cancel()

    def dispatch(self, event: Message) -> None:
        self._on_event(event)

    def connection_lost(self, exc: Exception | None) -> None:
        lost = exc if isinstance(exc, AmiGarbage | AmiLinkLost) else AmiLinkLost(str(exc or "Asterisk closed the link"))
        for future in (self.greeted, self.lost):
            if not future.done():
                future.set_exception(lost)
                # Looked at by whoever still waits, if anybody does.
                future.exception()

    def close(self) -> None:
        if self.protocol is not None:
            self.protocol.close()
        self.connection_lost(AmiLinkLost("closed"))


class _Protocol(AMIProtocol):  # type: ignore[misc]  # panoramisk has no types
    """panoramisk's protocol over whole lines, with an end to everything it keeps."""

    def __init__(self, manager: _Manager, limits: AmiLimits) -> None:
        self._manager, self._limits = manager, limits
        self._reader = AmiReader()
        self.closed = False
        self.responses: dict[str, Action] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.factory = self._manager

    def send(self, data: Action, as_list: bool | None = None) -> "asyncio.Future[object]":
        """Write the action; its future is its answer, or `AmiLinkLost`."""
        future: asyncio.Future[object] = data.future
        if self.closed:
            future.set_exception(AmiLinkLost(f"AMI {data.action}: the link is closed; nothing was sent"))
        elif len(self.responses) >= self._limits.actions_max:
            future.set_exception(
                AmiLinkLost(f"AMI {data.action}: {len(self.responses)} actions wait; nothing was sent")
            )
        else:
            self.responses[data.id] = data
            self.transport.write(str(data).encode())
        return future

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        try:
            messages = self._reader.feed(data)
        except AmiGarbage as garbage:
            self.connection_lost(garbage)
            return
        if self._reader.version is not None and not self._manager.greeted.done():
            self._manager.greeted.set_result(self._reader.version)
        for headers in messages:
            self.handle_message(headers)

    def handle_message(self, headers: Mapping[str, list[str]]) -> None:
        event = event_of(headers)
        message = Message({name: values[0] for name, values in headers.items()})
        action = self.responses.get(message.id)
        if action is None:
            # A response that nobody waits for any more is dropped; so is a message that is neither.
            if event is not None:
                self._manager.dispatch(event)
            return
        try:
            action.add_message(message)
        except Exception as fault:
            # panoramisk trips over some answers; that is the asker's affair, not the link's.
            self._fail(action, AmiLinkLost(f"AMI {action.action}: an answer that cannot be read: {fault!r}"))
        if len(action.responses) > self._limits.answers_max:
            self._fail(action, AmiLinkLost(f"AMI {action.action}: more than {self._limits.answers_max} answers"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.close()
        self._manager.connection_lost(exc)

    def close(self) -> None:
        """Let go of the socket and of everybody who waits; nothing is kept for later."""
        if self.closed:
            return
        self.closed = True
        for action in list(self.responses.values()):
            self._fail(action, AmiLinkLost(f"AMI {action.action}: the link was lost; it is not sent again"))
        self.responses.clear()
        # What is unsent is not waited for: a peer that does not read would never let go.
        self.transport.abort()

    def _fail(self, action: Action, fault: AmiLinkLost) -> None:
        if not action.future.done():
            action.future.set_exception(fault)


def _answer(message: Message) -> AmiEvent:
    headers = {name.lower(): value for name, value in message.items()}
    name = headers.pop("event", "") or headers.get("response", "")
    return AmiEvent(name, headers)
