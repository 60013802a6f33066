"""The call log: events of Asterisk, notes of the flow and the hangup handler's last words, as lines, rows and figures."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from gateway.call_log import CallLog, CallLogLimits, event_of_row, every_event
from gateway.metrics import Metrics
from gateway.store.memory import MemoryStore
from gateway.store.port import CallEventFilter, CallEventRow, NewCallEvent, StoreFaultError
from ivr.ami import LINK_UP, RESYNCHRONISED
from ivr.ami_protocol import AmiEvent
from ivr.calls import Step, fold_call

EVENING = datetime(2026, 11, 23, 17, 31, tzinfo=UTC)
CALL = "1795454400.7"
CALLER = "+390350000101"
MASKED = "+3903******01"
DIALLED = "800000100"
QUICK = CallLogLimits(batch_every_s=0.001, settle_s=0, stop_s=5)


@dataclass
class Lines:
    told: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def info(self, event: str, /, **fields: object) -> None:
        self.told.append((event, fields))

    warning = info

    def names(self) -> list[str]:
        return [name for name, _ in self.told]

    def fields(self, name: str) -> dict[str, object]:
        return next(fields for each, fields in self.told if each == name)


@dataclass
class FailingStore:
    """A database that is down while `is_down`."""

    kept: MemoryStore = field(default_factory=MemoryStore)
    is_down: bool = True
    tries: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def add_call_events(self, events: Sequence[NewCallEvent]) -> None:
        self.tries += 1
        self.changed.set()
        if self.is_down:
            raise StoreFaultError("database: disk is full; nothing was kept")
        await self.kept.add_call_events(events)

    async def call_events(
        self, after_id: int = 0, wanted: CallEventFilter | None = None, *, limit: int = 500, newest: bool = False
    ) -> tuple[CallEventRow, ...]:
        return await self.kept.call_events(after_id, wanted or CallEventFilter(), limit=limit, newest=newest)


@dataclass
class Bench:
    """A call log with everything around it, and a clock that goes on by a second a note."""

    store: MemoryStore | FailingStore = field(default_factory=MemoryStore)
    limits: CallLogLimits = QUICK
    node: str = "one"
    lines: Lines = field(default_factory=Lines)
    metrics: Metrics = field(default_factory=Metrics)
    seconds: int = 0

    def __post_init__(self) -> None:
        self.log = CallLog(
            self.store,
            now=self._now,
            town_of={"+39800000100": "roccachiara"}.get,
            digest=lambda number: f"digest of {number[-3:]}",
            log=self.lines,
            metrics=self.metrics,
            node=self.node,
            limits=self.limits,
        )

    def _now(self) -> datetime:
        self.seconds += 1
        return EVENING + timedelta(seconds=self.seconds)

    async def write(self) -> list[CallEventRow]:
        """Run the log until it has written everything, as at a stop; what the store then has."""
        running = asyncio.create_task(self.log.run())
        await asyncio.sleep(0)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        return [row async for row in every_event(self.store, CallEventFilter(), rows_max=10_000)]

    def figure(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def asterisk(name: str, call: str = CALL, **headers: str) -> AmiEvent:
    return AmiEvent(
        name, {"uniqueid": call} | {header.lower().replace("_", "-"): value for header, value in headers.items()}
    )


def last_words(call: str = CALL, **headers: str) -> AmiEvent:
    return asterisk("UserEvent", call, UserEvent="MensaCall", Dialled=DIALLED, CallerIDNum=CALLER, **headers)


def a_call(bench: Bench) -> None:
    """A whole call: cancelled by a recognised number."""
    bench.log.on_ami(asterisk("Newchannel", Exten=DIALLED, CallerIDNum=CALLER))
    journal = bench.log.taken(CALL, dialled=DIALLED, caller=CALLER, language="it")
    bench.log.on_ami(asterisk("Newstate", ChannelState="6"))
    journal.note("identified", how="number", pupils=1)
    journal.note("asked", heard="state offer-cancel", key="1")
    journal.note("asked", heard="confirm-cancel confirm-keys", key="1")
    journal.note("outcome", pupil=4, outcome="cancelled", receipt="4712")
    journal.note(Step.FINISHED, outcome="cancelled")
    bench.log.on_ami(last_words(Started="1", Saved="4712", Outcome="cancelled", Ended="1", Cause="16"))
    bench.log.on_ami(asterisk("Hangup", Cause="16", Cause_txt="Normal Clearing"))


async def test_a_call_is_a_row_and_a_line_per_event_and_a_line_for_its_record() -> None:
    bench = Bench()

    a_call(bench)
    rows = await bench.write()

    steps = [
        "ringing",
        "taken",
        "answered",
        "identified",
        "asked",
        "asked",
        "outcome",
        "finished",
        "last_words",
        "hung_up",
    ]
    assert [row.event for row in rows] == steps
    assert bench.lines.names() == [*(f"call_{step}" for step in steps), "call_ended"]
    ended = bench.lines.fields("call_ended")
    assert (ended["outcome"], ended["receipts"], ended["steps"], ended["town"]) == (
        "cancelled",
        ("4712",),
        2,
        "roccachiara",
    )
    assert {row.call for row in rows} == {CALL}
    assert {row.town for row in rows} == {"roccachiara"}


async def test_what_was_stored_folds_to_the_record_that_was_told() -> None:
    bench = Bench()

    a_call(bench)
    rows = await bench.write()

    record = fold_call(note for row in rows if (note := event_of_row(row)))
    assert (record.outcome, record.receipts, record.number) == ("cancelled", ("4712",), MASKED)
    assert (record.cause_text, record.gateway_died, record.node) == ("Normal Clearing", False, "one")


async def test_numbers_are_masked_everywhere_and_found_again_by_their_digest() -> None:
    bench = Bench()

    a_call(bench)
    rows = await bench.write()

    assert CALLER not in str(bench.lines.told) + str(rows)
    assert CALLER[-4:] not in str(bench.lines.told) + str(rows)
    assert bench.lines.fields("call_taken")["number"] == MASKED
    found = await bench.store.call_events(wanted=CallEventFilter(number_digest="digest of 101"))
    assert {row.call for row in found} == {CALL}


async def test_a_number_that_was_withheld_is_not_taken_from_asterisks_first_event() -> None:
    bench = Bench()

    bench.log.on_ami(asterisk("Newchannel", Exten=DIALLED, CallerIDNum=CALLER))
    bench.log.taken(CALL, dialled=DIALLED, caller=None, language="it")
    bench.log.on_ami(asterisk("UserEvent", UserEvent="MensaCall", Dialled=DIALLED, CallerIDNum="<unknown>"))
    rows = await bench.write()

    assert MASKED not in str(rows) + str(bench.lines.told)
    assert {row.number_digest for row in rows} == {None}
    assert rows[-1].number_masked == "withheld"


async def test_what_the_flow_may_not_note_is_left_out_and_the_mistake_told_without_its_value() -> None:
    bench = Bench()
    journal = bench.log.taken(CALL, dialled=DIALLED, caller=CALLER, language="it")

    journal.note("asked", heard="enter-pin", key="4321", pin="4321")
    journal.note("pin_keyed", pin="4321")
    rows = await bench.write()

    assert "4321" not in str(bench.lines.told) + str(rows)
    assert bench.lines.fields("call_note_cut")["fields"] == ["key", "pin"]
    assert bench.lines.fields("call_note_unknown")["note"] == "pin_keyed"
    assert rows[-1].fields == {"heard": "enter-pin"}


async def test_a_note_never_raises_into_the_call() -> None:
    bench = Bench()
    journal = bench.log.taken(CALL, dialled=DIALLED, caller=CALLER, language="it")
    bench.lines.told = None  # type: ignore[assignment]  # a log whose disk is gone

    journal.note("identified", how="number", pupils=1)
    bench.log.taken("1795454400.8", dialled=DIALLED, caller=CALLER, language=None)

    assert bench.figure("mensa_call_note_faults_total") == 2


async def test_a_call_in_which_the_gateway_died_has_its_record_from_the_hangup_handler() -> None:
    before = Bench()
    before.log.on_ami(asterisk("Newchannel", Exten=DIALLED))
    before.log.taken(CALL, dialled=DIALLED, caller=CALLER, language="it").note("identified", how="number", pupils=1)
    await before.write()
    after = Bench(before.store)

    after.log.on_ami(last_words(Started="1", Fallback="fallback-nothing-changed", Cause="16"))
    after.log.on_ami(asterisk("Hangup", Cause="16", Cause_txt="Normal Clearing"))
    rows = await after.write()

    record = fold_call(note for row in rows if (note := event_of_row(row)))
    assert (record.outcome, record.gateway_died) == ("failed", True)
    assert record.fallback == "fallback-nothing-changed"
    assert record.identified == "number"
    ended = after.lines.fields("call_ended")
    assert (ended["outcome"], ended["gateway_died"], ended["number"]) == ("failed", True, MASKED)
    assert after.figure("mensa_calls_left_by_gateway_total") == 1


async def test_a_call_that_nobody_saw_end_is_closed_after_a_restart() -> None:
    before = Bench()
    before.log.taken(CALL, dialled=DIALLED, caller=CALLER, language="it")
    before.log.taken("1795454400.8", dialled=DIALLED, caller=CALLER, language="it")
    await before.write()
    after = Bench(before.store)
    running = asyncio.create_task(after.log.run())
    await asyncio.sleep(0)

    after.log.on_ami(AmiEvent(LINK_UP))
    after.log.on_ami(asterisk("CoreShowChannel", "1795454400.8"))
    after.log.on_ami(AmiEvent(RESYNCHRONISED))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    rows = await after.store.call_events()

    assert [(row.call, row.event) for row in rows][2:] == [(CALL, "vanished")]
    assert after.lines.fields("call_ended")["outcome"] == "failed"


async def test_a_call_that_nobody_saw_end_is_closed_also_when_the_link_is_up_before_the_store() -> None:
    before = Bench()
    before.log.taken(CALL, dialled=DIALLED, caller=CALLER, language="it")
    await before.write()
    after = Bench(before.store)

    after.log.on_ami(AmiEvent(LINK_UP))
    after.log.on_ami(AmiEvent(RESYNCHRONISED))
    rows = await after.write()

    assert [row.event for row in rows] == ["taken", "vanished"]


async def test_calls_of_another_gateway_are_not_closed_by_this_one() -> None:
    before = Bench(node="two")
    before.log.taken(CALL, dialled=DIALLED, caller=CALLER, language="it")
    await before.write()
    after = Bench(before.store, node="one")

    after.log.on_ami(AmiEvent(LINK_UP))
    after.log.on_ami(AmiEvent(RESYNCHRONISED))
    rows = await after.write()

    assert [row.event for row in rows] == ["taken"]


async def test_a_call_that_ended_while_the_link_was_down_is_closed_when_it_is_back() -> None:
    bench = Bench(limits=CallLogLimits(settle_s=3600))
    bench.log.on_ami(asterisk("Newchannel", Exten=DIALLED))
    bench.log.on_ami(asterisk("Newchannel", "1795454400.8", Exten=DIALLED))
    bench.log.on_ami(asterisk("Newchannel", "1795454400.9", Exten=DIALLED))
    bench.log.on_ami(asterisk("Hangup", "1795454400.9"))

    bench.log.on_ami(AmiEvent(LINK_UP))
    bench.log.on_ami(asterisk("Newchannel", "1795454400.10", Exten=DIALLED))
    bench.log.on_ami(asterisk("CoreShowChannel", "1795454400.8"))
    bench.log.on_ami(AmiEvent(RESYNCHRONISED))
    rows = await bench.write()

    assert [row.call for row in rows if row.event == "vanished"] == [CALL]


async def test_events_that_came_twice_are_one_call_in_the_figures() -> None:
    bench = Bench()

    a_call(bench)
    await bench.write()
    a_call(bench)
    await bench.write()

    assert bench.lines.names().count("call_ended") == 1
    assert bench.figure("mensa_calls_total", town="roccachiara", outcome="cancelled") == 1
    assert bench.figure("mensa_call_seconds_count") == 1


async def test_R26_refusals_are_counted_by_their_word() -> None:
    bench = Bench()
    journal = bench.log.taken(CALL, dialled=DIALLED, caller=CALLER, language="it")

    journal.note("outcome", pupil=4, outcome="too_late")
    journal.note("outcome", pupil=4, outcome="cancelled", receipt="4712")

    assert bench.figure("mensa_refusals_total", town="roccachiara", outcome="too_late") == 1
    assert bench.figure("mensa_refusals_total", town="roccachiara", outcome="cancelled") is None


async def test_a_word_that_is_no_outcome_makes_no_series_of_its_own() -> None:
    bench = Bench()

    bench.log.on_ami(last_words(Started="1", Outcome="made_up"))
    await bench.write()

    assert bench.figure("mensa_calls_total", town="roccachiara", outcome="other") == 1


async def test_while_the_database_is_down_lines_are_written_and_rows_wait() -> None:
    store = FailingStore()
    bench = Bench(store, limits=CallLogLimits(batch_every_s=0.001, settle_s=0, retry_most_s=0.001))
    running = asyncio.create_task(bench.log.run())

    a_call(bench)
    while store.tries < 3:
        store.changed.clear()
        await store.changed.wait()
    waiting = bench.figure("mensa_call_events_waiting")
    store.is_down = False
    while bench.figure("mensa_call_events_waiting"):
        store.changed.clear()
        await store.changed.wait()
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert waiting == 10
    assert bench.lines.names().count("call_events_not_stored") == 1
    assert "call_events_stored_again" in bench.lines.names()
    assert [row.event for row in await store.call_events()][:2] == ["ringing", "taken"]
    assert len(await store.call_events()) == 10


async def test_what_a_database_that_stays_down_costs_in_memory_has_a_limit() -> None:
    store = FailingStore()
    bench = Bench(store, limits=CallLogLimits(rows_max=5))

    a_call(bench)
    store.is_down = False
    rows = await bench.write()

    assert [row.event for row in rows] == ["asked", "outcome", "finished", "last_words", "hung_up"]
    assert bench.figure("mensa_call_events_dropped_total") == 5


async def test_rows_that_cannot_be_stored_at_a_stop_are_told_of() -> None:
    bench = Bench(FailingStore())

    a_call(bench)
    await bench.write()

    assert bench.lines.fields("call_events_lost")["rows"] == 10


async def test_a_flow_that_runs_wild_fills_neither_the_memory_nor_the_table() -> None:
    bench = Bench(limits=CallLogLimits(rows_max=100_000, settle_s=0))
    journal = bench.log.taken(CALL, dialled=DIALLED, caller=CALLER, language="it")

    for _ in range(2000):
        journal.note("asked", heard="menu-help", key="9")
    journal.note("finished", outcome="informed")
    rows = await bench.write()

    assert len(rows) == 501
    assert rows[-1].event == "finished"


async def test_more_calls_than_there_can_be_push_out_the_oldest() -> None:
    bench = Bench(limits=CallLogLimits(calls_max=10))

    for number in range(50):
        bench.log.on_ami(asterisk("Newchannel", f"1795454400.{number}", Exten=DIALLED))

    assert bench.figure("mensa_calls_up") == 10


@pytest.mark.parametrize("call", ["", "1 2", "x" * 151, "1795\x1b[31m", "../../etc"])
async def test_what_cannot_be_the_name_of_a_call_is_passed_over(call: str) -> None:
    bench = Bench()

    bench.log.on_ami(asterisk("Newchannel", call, Exten=DIALLED))
    bench.log.on_ami(last_words(call, Started="1"))

    assert bench.lines.told == []


async def test_other_events_of_asterisk_are_no_part_of_a_call() -> None:
    bench = Bench()

    bench.log.on_ami(asterisk("Newstate", ChannelState="4"))
    bench.log.on_ami(asterisk("UserEvent", UserEvent="Other", Dialled=DIALLED))
    bench.log.on_ami(asterisk("VarSet", Variable="IVR_KEYS", Value="4321"))

    assert bench.lines.told == []


async def test_a_dialled_number_that_is_nobodys_makes_a_call_without_town() -> None:
    bench = Bench()

    bench.log.on_ami(asterisk("Newchannel", Exten="800999999"))
    bench.log.on_ami(asterisk("Newchannel", "1795454400.8", Exten="<script>"))
    rows = await bench.write()

    assert [(row.town, row.fields.get("dialled")) for row in rows] == [(None, "+39800999999"), (None, None)]


async def test_R18_a_change_completed_after_the_end_is_still_the_calls() -> None:
    bench = Bench()
    a_call(bench)
    await bench.write()

    bench.log.journal(CALL).note("completed", pupil=4, outcome="cancelled", receipt="0815")
    rows = await bench.write()

    assert (rows[-1].event, rows[-1].town, rows[-1].number_masked) == ("completed", "roccachiara", MASKED)
    assert bench.lines.names().count("call_ended") == 1
