"""The call log: what Asterisk, the flow and the dialplan's hangup handler say of each call, written as it happens.

Taking a note is one line of the log and one row in memory; the rows reach the store in batches, and a database that fails
delays them, never the call. When a call is over its record is told in one line more.
"""

import asyncio
import re
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Protocol

from gateway.metrics import Metrics
from gateway.numbers import mask_number, normalise_number
from gateway.store.port import CALL_EVENTS_BATCH, CALL_EVENTS_PAGE, CallEventFilter, CallEventRow, NewCallEvent
from ivr.ami import LINK_UP, RESYNCHRONISED
from ivr.ami_protocol import AmiEvent
from ivr.calls import NOTES_MAX, CallEvent, Step, Value, fold_call, known_step, permitted_fields
from ivr.line import Journal

# Asterisk's `AST_MAX_UNIQUEID`; anything else is not the name of a call.
_CALL = re.compile(r"[A-Za-z0-9._:-]{1,150}", re.ASCII)
# Asterisk's `AST_STATE_UP`, as `ChannelState` writes it.
_STATE_UP = "6"
# The dialplan's hangup handler calls its event so (dialplan/extensions.conf.j2).
HANGUP_USER_EVENT = "MensaCall"
# Withheld or missing: whoever calls without a number has the same empty digest, and none is stored.
MASKED_WITHHELD = mask_number(None)


class Log(Protocol):
    """Where lines go; a structlog logger fits."""

    def info(self, event: str, /, **fields: object) -> object: ...
    def warning(self, event: str, /, **fields: object) -> object: ...


class CallEventStore(Protocol):
    """The part of the store that the call log needs."""

    async def add_call_events(self, events: Sequence[NewCallEvent]) -> None: ...

    async def call_events(
        self, after_id: int = ..., wanted: CallEventFilter = ..., *, limit: int = ..., newest: bool = ...
    ) -> tuple[CallEventRow, ...]: ...


@dataclass(frozen=True, slots=True)
class CallLogLimits:
    """How much the call log keeps, and how long it waits."""

    # A tenth of a second more or less is nothing to a clerk, and one commit for all calls of half a second is cheap.
    batch_every_s: float = 0.5
    # An evening of 2,000 calls at ten notes each: what a database that is down for so long may cost in memory.
    rows_max: int = 20_000
    # Beyond a statement's own time-out the database is not slow but gone; the rows stay and are tried again.
    store_s: float = 15
    retry_most_s: float = 30
    # Five times the calls that Asterisk lets in (`calls_max` of the dialplan).
    calls_max: int = 1000
    # What is still said of a call after its end: the flow's last note, the change that `/hungup` completes.
    settle_s: float = 5
    # No call lasts as long (`AgiLimits.call_s_max`): what began earlier before the last note is over.
    restored: timedelta = timedelta(hours=1)
    # The busiest hour of an evening, read in well under a second.
    restored_rows: int = 20_000
    # A stop waits this long for the last rows; after that their log lines are all there is.
    stop_s: float = 3


@dataclass(slots=True)
class _Call:
    """A call that is going on, as far as this process has heard of it."""

    town: str | None = None
    number_masked: str | None = None
    number_digest: str | None = None
    notes: list[CallEvent] = field(default_factory=list)
    settles_at: float | None = None
    is_over: bool = False


class _CallJournal:
    """One call's journal: what the flow and its door note goes to the log with the call's name on it."""

    def __init__(self, log: "CallLog", call: str) -> None:
        self._log, self._call = log, call

    def note(self, event: str, **fields: Value) -> None:
        self._log.note(self._call, event, fields)


class CallLog:
    """One gateway's call log.

    `town_of` gives the town of a dialled number (E.164), `digest` the keyed digest of a caller's number (E.164). `node` names
    this gateway among those that write to the same store, and stays the same over restarts. `on_ami` takes the events of
    one `AmiLink`. `run` writes until it is cancelled, and then what is left.
    """

    def __init__(
        self,
        store: CallEventStore,
        *,
        now: Callable[[], datetime],
        town_of: Callable[[str], str | None],
        digest: Callable[[str], str],
        log: Log,
        metrics: Metrics,
        node: str,
        limits: CallLogLimits | None = None,
    ) -> None:
        self._store, self._now, self._town_of, self._digest = store, now, town_of, digest
        self._log, self._metrics, self._node = log, metrics, node
        self._limits = limits or CallLogLimits()
        self._rows: deque[NewCallEvent] = deque()
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        # Their notes are told and forgotten; whose they were is kept, for what still comes.
        self._settled: OrderedDict[str, _Call] = OrderedDict()
        # The calls that were up when the link came up, and those that Asterisk then said it has.
        self._up_before: set[str] = set()
        self._listed: set[str] = set()
        self._is_listed = False
        self._is_storing = True
        metrics.watch("call_events_waiting", "Notes about calls not stored yet", lambda: len(self._rows))
        metrics.watch("calls_up", "Calls going on", lambda: sum(not call.is_over for call in self._calls.values()))

    # Notes from the gateway

    def taken(self, call: str, *, dialled: str, caller: str | None, language: str | None) -> Journal:
        """Note that the gateway took a call; the journal is for its flow. `caller` is None when withheld."""
        journal = _CallJournal(self, call)
        try:
            self._know_number(call, caller)
            self._know_town(call, dialled)
        except Exception:
            self._metrics.count_note_fault()
        journal.note(Step.TAKEN, node=self._node, language=language)
        return journal

    def journal(self, call: str) -> Journal:
        """The journal of a call that was taken before, such as one whose confirming key came with its hang-up."""
        return _CallJournal(self, call)

    def note(self, call: str, event: str, fields: Mapping[str, Value]) -> None:
        """Note one step of a call. Never waits, and never raises: a fault of the log is no fault of the call."""
        try:
            step = known_step(event)
            if step is None:
                self._log.warning("call_note_unknown", call=call, note=event)
            else:
                self._note(call, step, fields)
        except Exception:
            self._metrics.count_note_fault()

    # Notes from Asterisk

    def on_ami(self, event: AmiEvent) -> None:
        """Note what an event of Asterisk says of a call."""
        if event.name == LINK_UP:
            self._up_before = {call for call, known in self._calls.items() if not known.is_over}
            self._listed, self._is_listed = set(), False
        elif event.name == RESYNCHRONISED:
            self._is_listed = True
            for call in sorted(self._up_before - self._listed):
                self._note_vanished(call)
        elif _CALL.fullmatch(event["Uniqueid"]):
            self._on_call_event(event["Uniqueid"], event)

    def _on_call_event(self, call: str, event: AmiEvent) -> None:
        match event.name:
            case "CoreShowChannel":
                self._listed.add(call)
            case "Newchannel":
                # The number is not taken from here: only behind the dialplan's filter is it one that was not withheld.
                self._know_town(call, event["Exten"])
                self.note(call, Step.RINGING, {"node": self._node, "dialled": _normalised_dialled(event["Exten"])})
            case "Newstate" if event["ChannelState"] == _STATE_UP:
                self.note(call, Step.ANSWERED, {})
            case "Hangup":
                self.note(call, Step.HUNG_UP, {"cause": event["Cause"], "cause_text": event["Cause-txt"]})
            case "UserEvent" if event["UserEvent"] == HANGUP_USER_EVENT:
                self._know_number(call, event["CallerIDNum"])
                self._know_town(call, event["Dialled"])
                self.note(call, Step.LAST_WORDS, _last_words(event))
            case _:
                return

    def _note_vanished(self, call: str) -> None:
        known = self._calls.get(call)
        if known is not None and not known.is_over:
            self.note(call, Step.VANISHED, {})

    # Writing

    async def run(self) -> None:
        """Write what is noted, and tell the record of each call that is over, until cancelled."""
        try:
            await self._restore()
            wait_s = self._limits.batch_every_s
            while True:
                await asyncio.sleep(wait_s)
                self._settle(time.monotonic())
                wait_s = self._limits.batch_every_s if await self._write() else self._retry_s(wait_s)
        finally:
            self._settle(None)
            await self._write_the_rest()

    def _retry_s(self, waited_s: float) -> float:
        return min(self._limits.retry_most_s, max(1.0, waited_s * 2))

    async def _write(self) -> bool:
        """Write every row there is, a batch at a time; False when the store did not take one."""
        while batch := list(islice(self._rows, CALL_EVENTS_BATCH)):
            try:
                async with asyncio.timeout(self._limits.store_s):
                    await self._store.add_call_events(batch)
            except Exception as fault:
                # Once per outage, not once per try; the rows stay in front of those that come.
                if self._is_storing:
                    self._log.warning("call_events_not_stored", rows=len(self._rows), fault=type(fault).__name__)
                self._is_storing = False
                return False
            # Some of the batch may have been dropped meanwhile to make room for newer rows.
            for row in batch:
                if self._rows and self._rows[0] is row:
                    self._rows.popleft()
            if not self._is_storing:
                self._log.info("call_events_stored_again", rows=len(self._rows))
            self._is_storing = True
        return True

    async def _write_the_rest(self) -> None:
        try:
            async with asyncio.timeout(self._limits.stop_s):
                stored = await self._write()
        except TimeoutError:
            stored = False
        if not stored:
            self._log.warning("call_events_lost", rows=len(self._rows))

    async def _restore(self) -> None:
        """Take up the calls that an earlier process of this node saw begin and not end; the link will tell which are gone."""
        try:
            async with asyncio.timeout(self._limits.store_s):
                last = await self._store.call_events(newest=True, limit=1)
                wanted = CallEventFilter(since=last[0].at - self._limits.restored if last else None)
                rows = [row async for row in every_event(self._store, wanted, rows_max=self._limits.restored_rows)]
        except Exception as fault:
            self._log.warning("call_log_not_restored", fault=type(fault).__name__)
            return
        by_call: dict[str, list[CallEventRow]] = {}
        for row in rows:
            by_call.setdefault(row.call, []).append(row)
        for call, stored in by_call.items():
            notes = [note for row in stored if (note := event_of_row(row)) is not None]
            if call in self._calls or not any(note.get("node") == self._node for note in notes):
                continue
            if fold_call(notes).ended is None:
                known = self._call(call)
                known.notes = notes[:NOTES_MAX]
                known.town = next((row.town for row in stored if row.town), None)
                known.number_masked = next((row.number_masked for row in stored if row.number_masked), None)
                known.number_digest = next((row.number_digest for row in stored if row.number_digest), None)
                self._up_before.add(call)
                if self._is_listed and call not in self._listed:
                    self._note_vanished(call)

    # What is known of the calls going on

    def _note(self, call: str, step: Step, fields: Mapping[str, Value]) -> None:
        kept, dropped = permitted_fields(step, fields)
        if dropped:
            self._log.warning("call_note_cut", call=call, note=step.value, fields=list(dropped))
        at = self._now()
        known = self._call(call)
        shown = dict(kept)
        note = CallEvent(call, at, step, known.town, known.number_masked, kept)
        if len(known.notes) < NOTES_MAX or step in _LAST_STEPS:
            known.notes.append(note)
            self._append(
                NewCallEvent(call, at, step.value, known.town, known.number_masked, known.number_digest, shown)
            )
            self._log.info(f"call_{step}", call=call, town=known.town, number=known.number_masked, **shown)
        if step in (Step.OUTCOME, Step.COMPLETED):
            self._metrics.count_outcome(known.town, note.text("outcome"))
        if step in _LAST_STEPS:
            known.is_over = True
            if known.settles_at is None:
                known.settles_at = time.monotonic() + self._limits.settle_s

    def _call(self, call: str) -> _Call:
        known = self._calls.get(call) or self._settled.get(call)
        if known is None:
            while len(self._calls) >= self._limits.calls_max:
                self._calls.popitem(last=False)
            known = self._calls[call] = _Call()
        return known

    def _know_number(self, call: str, number: str | None) -> None:
        known = self._call(call)
        if known.number_digest is not None:
            return
        caller = normalise_number(number) if number else None
        if caller is not None:
            known.number_masked, known.number_digest = mask_number(caller), self._digest(caller)
        elif known.number_masked is None:
            known.number_masked = MASKED_WITHHELD

    def _know_town(self, call: str, dialled: str) -> None:
        number = _normalised_dialled(dialled)
        town = self._town_of(number) if number else None
        if town is not None:
            self._call(call).town = town

    def _append(self, row: NewCallEvent) -> None:
        if len(self._rows) >= self._limits.rows_max:
            self._rows.popleft()
            self._metrics.count_events_dropped(1)
        self._rows.append(row)

    def _settle(self, until: float | None) -> None:
        """Tell the records of the calls that ended long enough ago; of all that ended where `until` is None."""
        for call, known in list(self._calls.items()):
            if known.settles_at is None or (until is not None and known.settles_at > until):
                continue
            self._settled[call] = self._calls.pop(call)
            while len(self._settled) > self._limits.calls_max:
                self._settled.popitem(last=False)
            record = fold_call(known.notes)
            known.notes = []
            self._metrics.count_call(record)
            values = ((each.name, getattr(record, each.name)) for each in fields(record))
            shown = {name: value for name, value in values if value not in (None, "", ())}
            self._log.info("call_ended", **shown)


# After one of these a call is over, and only what settles it is still to come.
_LAST_STEPS = frozenset({Step.HUNG_UP, Step.LAST_WORDS, Step.VANISHED, Step.FINISHED})


# A town has a few numbers, each dialled all evening; what others dial by mistake pushes out nothing that matters.
@lru_cache(maxsize=256)
def _normalised_dialled(dialled: str) -> str | None:
    return normalise_number(dialled)


async def every_event(
    store: CallEventStore, wanted: CallEventFilter, *, after_id: int = 0, rows_max: int
) -> AsyncIterator[CallEventRow]:
    """The wanted events in the order of storing, a page at a time; at most `rows_max`, the oldest first."""
    while rows_max > 0:
        page = await store.call_events(after_id, wanted, limit=min(rows_max, CALL_EVENTS_PAGE))
        for row in page:
            yield row
        if not page:
            return
        after_id, rows_max = page[-1].id, rows_max - len(page)


def event_of_row(row: CallEventRow) -> CallEvent | None:
    """The stored event as a note; None for a word that this version does not know."""
    step = known_step(row.event)
    if step is None:
        return None
    fields = {name: value for name, value in row.fields.items() if value is None or isinstance(value, str | int | bool)}
    return CallEvent(row.call, row.at, step, row.town, row.number_masked, permitted_fields(step, fields)[0])


def _last_words(event: AmiEvent) -> dict[str, Value]:
    names = ("started", "saved", "outcome", "fallback", "ended", "cause")
    words: dict[str, Value] = {name: event[name] for name in names if event[name]}
    return words | {"dialled": _normalised_dialled(event["Dialled"])}
