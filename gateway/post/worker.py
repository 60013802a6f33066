"""The worker of the post: takes what is due from the outbox, tells it, and notes what became of it.

Each message is leased for longer than telling it can take, so a gateway that is killed holds none up for long, and two gateways
never tell one at once. A kill between the server's answer and our note sends it again: at least once, under one Message-ID.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from core.ports import MessageKind
from gateway.municipality import Municipality
from gateway.post.delivery import Delivery, NoServerError, NotDeliveredError, RefusedError
from gateway.post.mail import UnusableAddressError, mail_of, tell
from gateway.post.order import NoSuchOrderError
from gateway.post.printing import Printer
from gateway.store.port import Message, OutboxState, Store, StoreError

# Between two looks at the outbox where no closing wakes the post: another gateway's closing, an operator's copy.
POLL_S = 5.0
# The papers, and a mail server that takes half a minute for the slowest of its answers.
TELL_S = 100.0
# Longer than telling can take; no longer, since an order waits for so long when its gateway was killed.
LEASE = timedelta(seconds=120)
# A message that failed is tried again after these, doubled each time: at once enough for a hiccup, and when a server comes
# back, no kitchen waits for longer than the last.
AGAIN_FIRST, AGAIN_MOST = timedelta(seconds=5), timedelta(minutes=2)
# A server that takes nothing is asked with one message at a time, as seldom as this.
PROBE_FIRST, PROBE_MOST = timedelta(seconds=1), timedelta(seconds=30)
# A mail server may be down over a long weekend. What was not told after that is history, and an operator's to decide on;
# who then says `retry` gets this many tries again.
TRIED_FOR, TRIES_LEAST = timedelta(days=4), 10
# What no try can mend soon: a town that has no address, or is not served here.
NOT_HERE_AGAIN = timedelta(minutes=1)
# Orders are wanted at once; who reads health should hear before the cooks begin to ask.
WAITING_LONG = timedelta(minutes=10)
# A dead letter that nobody looked after for a week is no alarm any more; `mensa outbox` still shows it.
DEAD_TOLD = timedelta(days=7)
# How old the picture that health gives may be.
STATE_S = 30.0
# On the way out, a mail that is being sent gets this long.
STOP_S = 2.0


class Log(Protocol):
    def info(self, event: str, /, **fields: object) -> object: ...
    def warning(self, event: str, /, **fields: object) -> object: ...
    def error(self, event: str, /, **fields: object) -> object: ...


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a message was not told. `again` is when the next try is worth making, None for never."""

    why: str
    again: datetime | None


class Post:
    """One gateway's post. `town_of` gives a town as it is in force here, `now` the installation's time.

    Without a `delivery` the outbox is only watched.
    """

    def __init__(
        self,
        store: Store,
        town_of: Callable[[str], Municipality | None],
        delivery: Delivery | None,
        printer: Printer,
        now: Callable[[], datetime],
        log: Log,
        together: int = 4,
    ) -> None:
        self._store, self._town_of, self._delivery, self._printer = store, town_of, delivery, printer
        self._now, self._log, self._together = now, log, together
        self._woken = asyncio.Event()
        self._telling: set[asyncio.Task[None]] = set()
        self._state: OutboxState | None = None
        self._state_until = float("-inf")
        self._server_fault: str | None = None
        self._probe_at: datetime | None = None
        self._probe_after = PROBE_FIRST
        self._print_fault: str | None = None

    def wake(self) -> None:
        """Look at the outbox at once: something was put into it."""
        self._woken.set()

    async def run(self) -> None:
        """Tell what there is to tell until cancelled; then what is being sent may end, and the rest is left to others."""
        try:
            while True:
                taken = await self._take()
                await self._look()
                if not taken:
                    await self._pause()
        finally:
            await self._stop()

    def wrong(self, towns_have_addresses: bool) -> str | None:
        """What health says of the post: None while it is well."""
        said: list[str] = []
        state = self._state
        if self._delivery is None and towns_have_addresses:
            said.append(
                "no mail server is configured, so no kitchen gets its orders; expected mail.host in gateway.yaml"
            )
        if self._server_fault is not None:
            said.append(f"{self._server_fault}; orders wait and are sent when it answers")
        if self._print_fault is not None:
            said.append(f"papers cannot be printed: {self._print_fault}; orders go as text and table")
        waiting = self._now() - state.oldest if state is not None and state.oldest is not None else timedelta(0)
        if state is not None and waiting > WAITING_LONG:
            minutes = waiting // timedelta(minutes=1)
            said.append(f"{state.waiting} orders wait, the oldest for {minutes} minutes; see mensa outbox")
        if state is not None and state.dead:
            said.append(f"{state.dead} orders could not be sent; see mensa outbox --state dead")
        return "; ".join(said) or None

    # Taking

    async def _take(self) -> bool:
        """Take what there is room for; whether there may be more to take at once."""
        if self._delivery is None:
            return False
        now = self._now()
        room = self._together - len(self._telling)
        if self._server_fault is not None:
            may_probe = not self._telling and (self._probe_at is None or now >= self._probe_at)
            room = 1 if may_probe else 0
        if room <= 0:
            return False
        taken = await self._store.take_messages(now, now + LEASE, room)
        for message in taken:
            task = asyncio.create_task(self._see_to(message))
            self._telling.add(task)
            task.add_done_callback(self._seen_to)
        return bool(taken)

    def _seen_to(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        self._woken.set()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    async def _look(self) -> None:
        """Renew the picture that health gives."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._state_until:
            self._state = await self._store.outbox_state(self._now() - DEAD_TOLD)
            self._state_until = loop.time() + STATE_S

    async def _stop(self) -> None:
        telling = set(self._telling)
        if telling:
            await asyncio.wait(telling, timeout=STOP_S)
        for task in self._telling:
            task.cancel()
        if self._telling:
            await asyncio.wait(set(self._telling), timeout=STOP_S)
        await self._printer.close()

    # Telling

    async def _see_to(self, message: Message) -> None:
        """One message, from its lease to the note of what became of it."""
        try:
            async with asyncio.timeout(TELL_S):
                fault = await self._tell(message)
        except TimeoutError:
            fault = _Fault(f"not sent within {TELL_S:.0f} s", self._again(message))
        except StoreError as error:
            fault = _Fault(f"{type(error).__name__} while it was read", self._again(message))
        except asyncio.CancelledError:
            fault = _Fault("its gateway was stopped", self._now())
        except Exception as error:
            self._log.error("order_fault", **_about(message), exc_info=error)
            fault = _Fault(f"fault of the gateway: {type(error).__name__}", self._again(message))
        self._state_until = float("-inf")
        try:
            await self._note(message, fault)
        except StoreError as error:
            # The lease runs out, and it is tried again: at least once, under its one number.
            self._log.warning("order_not_noted", **_about(message), fault=type(error).__name__)

    async def _note(self, message: Message, fault: _Fault | None) -> None:
        if fault is None:
            await self._store.message_sent(message.id, self._now())
            self._log.info("order_sent", **_about(message), tries=message.tries)
            return
        again = fault.again
        is_given_up = self._now() - message.created >= TRIED_FOR and message.tries >= TRIES_LEAST
        if again is None or is_given_up:
            await self._store.message_failed(message.id, fault.why, None)
            self._log.error(
                "order_dead",
                **_about(message),
                tries=message.tries,
                fault=fault.why,
                expected="an operator: mensa outbox retry, once the cause is mended",
            )
        else:
            await self._store.message_failed(message.id, fault.why, again)
            self._log.warning("order_not_sent", **_about(message), tries=message.tries, fault=fault.why, again=again)

    async def _tell(self, message: Message) -> _Fault | None:
        """Send one message; why not, where it could not be."""
        municipality = self._town_of(message.town)
        if municipality is None:
            return _Fault("this gateway does not serve the town", self._now() + _jittered(NOT_HERE_AGAIN))
        address = municipality.kitchen.email if municipality.kitchen else None
        delivery = self._delivery
        if address is None or delivery is None:
            why = "the kitchen has no address; expected kitchen.email in schools.yaml"
            return _Fault(why, self._now() + _jittered(NOT_HERE_AGAIN))
        try:
            number, copy = order_named(message)
            told = await tell(municipality, self._store.at(message.town), self._printer, number, copy)
            mail = mail_of(told, delivery.sender, address, self._now())
        except NoSuchOrderError as error:
            return _Fault(str(error), None)
        except UnusableAddressError as error:
            return _Fault(f"the kitchen's address cannot be used: {error}", None)
        if told.fault is not None and told.fault != self._print_fault:
            self._log.error("order_without_paper", **_about(message), fault=told.fault, holds="text and table are sent")
        self._print_fault = told.fault
        try:
            await delivery.deliver(mail)
        except NoServerError as error:
            self._server_is_down(str(error))
            return _Fault(str(error), self._again(message))
        except RefusedError as error:
            self._server_is_up()
            return _Fault(str(error), None)
        except NotDeliveredError as error:
            return _Fault(str(error), self._again(message))
        self._server_is_up()
        return None

    def _again(self, message: Message) -> datetime:
        return self._now() + _jittered(min(AGAIN_MOST, AGAIN_FIRST * 2 ** min(message.tries - 1, 10)))

    def _server_is_down(self, why: str) -> None:
        if self._server_fault is None:
            self._log.error("mail_server_down", fault=why, holds="orders wait; one at a time is tried until it answers")
            self._probe_after = PROBE_FIRST
        self._server_fault = why
        now = self._now()
        # Those that were under way together fail together, and count once.
        if self._probe_at is None or now >= self._probe_at:
            self._probe_at = now + _jittered(self._probe_after)
            self._probe_after = min(PROBE_MOST, self._probe_after * 2)

    def _server_is_up(self) -> None:
        if self._server_fault is not None:
            self._log.info("mail_server_up")
        self._server_fault, self._probe_at = None, None


def order_named(message: Message) -> tuple[int, int | None]:
    """The number of the order that a message tells of, and of the copy. Raises `NoSuchOrderError`."""
    number, copy = message.about.get("order"), message.about.get("copy")
    if not isinstance(number, int):
        raise NoSuchOrderError(f"{message.town}: the message {message.id} names no order")
    return number, copy if message.kind is MessageKind.ORDER_COPY and isinstance(copy, int) else None


def _about(message: Message) -> Mapping[str, object]:
    """What a log line says of a message: nobody's name, nobody's address."""
    copy = message.about.get("copy")
    return {
        "town": message.town,
        "order": message.about.get("order"),
        "message": message.id,
        **({} if copy is None else {"copy_number": copy}),
    }


def _jittered(wait: timedelta) -> timedelta:
    # So that what failed together is not tried together for ever; nothing secret hangs on it.
    return wait * random.uniform(0.75, 1.0)  # noqa: S311
