"""What can go wrong under a call: a gateway that is killed, frozen, absent or ending, and garbage at its door.

Each scene has a town, its gateways and an Asterisk of its own; all are played at once, since they are mostly waiting.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import pytest_asyncio
from caller import Caller
from product import PEOPLE, Line, Outcomes, PutUp, Said, Someone, Together, confirm_cancel, no_channel_left, state
from town import MONDAY

from core.changes import Presence
from ivr.agi import raise_open_files_limit
from ivr.spoken import digit_clips

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

FIRST, SECOND, THIRD = PEOPLE[:3]
PAOLOS_NUMBER, MARCO, SOFIA = "+390350000102", "50005", "50006"
NOTHING_CHANGED, SAVED, SAVED_ALL = "fallback-nothing-changed", "fallback-saved", "fallback-saved-all"
# A whole menu, its silence, the dead-man timer and the fallback; a caller who waits longer than this is held for ever.
FREED_S = 90
IDLE = 1_000
MIB = 1 << 20

SCENES = Together()
at_once = SCENES.at_once


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scenes(put_up: PutUp) -> AsyncIterator[Outcomes]:
    """All scenes, played at the same time."""
    raise_open_files_limit()
    async with SCENES.going_on(put_up) as outcomes:
        yield outcomes


async def cancels(line: Line, who: Someone) -> Caller:
    """A call that cancels the meal, to the receipt."""
    async with line.call(who.number) as caller:
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("1")
        await line.voice.wait_for(caller, "confirm-keys")
        await caller.press("1")
        await line.voice.wait_for(caller, "phrase/cancelled-2")
    return caller


async def hears(line: Line, caller: Caller, *said: Said, never: tuple[Said, ...] = ()) -> None:
    await line.voice.assert_heard(caller, *said, never=never)


@at_once
async def killed(put_up: PutUp) -> None:
    """At the menu, after one change, and after one for two siblings."""
    async with (
        put_up("killed") as line,
        line.call(FIRST.number) as at_the_menu,
        line.call(SECOND.number) as after_a_change,
        line.call(PAOLOS_NUMBER) as after_two,
    ):
        await line.voice.wait_for(after_a_change, "offer-cancel")
        await after_a_change.press("11")
        await after_two.press("911")
        await line.voice.wait_for(after_a_change, "phrase/cancelled-2")
        await line.voice.wait_for(after_two, "phrase/cancelled-2")
        await line.voice.wait_for(at_the_menu, "offer-cancel")
        line.gateways[0].kill()
        again = await line.town.serve(0)
        await again.hears_asterisk()
        callers = (at_the_menu, after_a_change, after_two)
        await asyncio.gather(*(caller.wait_until_over(FREED_S) for caller in callers))
        await no_channel_left(line.pbx)

        await line.unchanged(FIRST.code)
        change = await line.cancelled(SECOND.code)
        both = await line.cancelled(MARCO), await line.cancelled(SOFIA)
        await hears(line, at_the_menu, "welcome", "offer-cancel", NOTHING_CHANGED, never=(SAVED, SAVED_ALL))
        told = (SAVED, *digit_clips(change.receipt))
        await hears(line, after_a_change, "phrase/cancelled-1", *told, never=(NOTHING_CHANGED, SAVED_ALL))
        await hears(line, after_two, "phrase/cancelled-1", SAVED_ALL, never=(NOTHING_CHANGED, SAVED))
        records = [await line.town.call_from(number) for number in (FIRST.number, SECOND.number, PAOLOS_NUMBER)]
        assert [each.gateway_died for each in records] == [True, True, True]
        assert [each.fallback for each in records] == [NOTHING_CHANGED, SAVED, SAVED_ALL]
        assert [each.outcome for each in records] == ["failed", "cancelled", "cancelled"]
        assert [each.receipts for each in records] == [(), (change.receipt,), tuple(each.receipt for each in both)]
        _, shown, _ = await line.town.mensa("calls", "show", records[1].call)
        assert "died in this call" in shown
        assert change.receipt in shown


async def test_R18_who_was_in_a_call_when_the_gateway_was_killed_hears_what_the_database_says(
    scenes: Outcomes,
) -> None:
    await scenes(killed)


@at_once
async def frozen(put_up: PutUp) -> None:
    """The first of two gateways is frozen while a caller is at the menu; then the next one calls."""
    async with put_up("frozen", gateways=(0, 1)) as line, line.call(FIRST.number) as held:
        await line.voice.wait_for(held, "offer-cancel")
        line.gateways[0].send_signal(signal.SIGSTOP)
        next_one, _ = await asyncio.gather(cancels(line, SECOND), held.wait_until_over(FREED_S))
        await no_channel_left(line.pbx)
        line.gateways[0].send_signal(signal.SIGCONT)

        await hears(line, held, "welcome", "offer-cancel", NOTHING_CHANGED, never=(SAVED, SAVED_ALL))
        await hears(line, next_one, "welcome", "phrase/cancelled-1", never=(NOTHING_CHANGED,))
        change = await line.cancelled(SECOND.code)
        assert (await line.town.call_from(SECOND.number)).receipts == (change.receipt,)
        record = await line.town.call_from(FIRST.number)
        assert (record.fallback, record.receipts) == (NOTHING_CHANGED, ())
        await line.unchanged(FIRST.code)


async def test_who_is_held_by_a_frozen_gateway_is_freed_with_the_truth_and_the_next_caller_is_served(
    scenes: Outcomes,
) -> None:
    await scenes(frozen)


@at_once
async def ending(put_up: PutUp) -> None:
    """The first gateway is absent, the second takes a call, is told to end in the middle of it; then nobody is there."""
    async with put_up("ending", gateways=(1,)) as line:
        [second] = line.gateways
        async with line.call(FIRST.number) as running:
            await line.voice.wait_for(running, "offer-cancel")
            second.send_signal(signal.SIGTERM)
            await second.wait_for("gateway_draining")
            async with line.call(SECOND.number) as too_late:
                await too_late.wait_until_over(FREED_S)
            await running.press("1")
            await line.voice.wait_for(running, "confirm-keys")
            await running.press("1")
            await line.voice.wait_for(running, "phrase/cancelled-2")
        assert await asyncio.wait_for(second.process.wait(), FREED_S) == 0
        async with line.call(THIRD.number) as unserved:
            await unserved.wait_until_over(FREED_S)

        change = await line.cancelled(FIRST.code)
        await hears(line, running, "welcome", confirm_cancel(MONDAY, "Anna"), "phrase/cancelled-1")
        for caller in (too_late, unserved):
            assert caller.they_hung_up
            await hears(line, caller, NOTHING_CHANGED, never=("phrase/welcome-1", SAVED))
        assert (await line.town.call_from(FIRST.number)).receipts == (change.receipt,)
        await line.unchanged(SECOND.code)
        await line.unchanged(THIRD.code)


async def test_a_gateway_that_ends_lets_its_call_finish_and_without_any_the_caller_hears_that_nothing_changed(
    scenes: Outcomes,
) -> None:
    await scenes(ending)


@at_once
async def garbage(put_up: PutUp) -> None:
    """While one call runs, and before another, the gateway's door gets everything but calls."""
    async with put_up("garbage") as line:
        port = line.town.agi_ports[0]
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(IDLE)]
        flood = asyncio.create_task(_flood(port))
        try:
            during = await cancels(line, FIRST)
            flood_was_on = not flood.done()
            after = await cancels(line, SECOND)
        finally:
            flood.cancel()
            with suppress(asyncio.CancelledError):
                await flood
            for _, writer in idle:
                writer.close()

        assert flood_was_on
        for caller, who in ((during, FIRST), (after, SECOND)):
            await hears(line, caller, "welcome", state("Anna", MONDAY, Presence.PRESENT), "phrase/cancelled-1")
            change = await line.cancelled(who.code)
            assert (await line.town.call_from(who.number)).receipts == (change.receipt,)
        # One line a second at most, however much there was.
        seconds = len({each["timestamp"][:19] for each in line.gateways[0].lines()})
        assert len(line.gateways[0].lines("agi_connections_dropped")) <= seconds
        assert (await line.gateways[0].health())["parts"]["store"] == "ok"


async def _flood(port: int) -> None:
    """Connects and closes, breaks off, sends binary and endless headers, until it is cancelled."""
    endless = b"agi_request: agi://127.0.0.1/line\n" + b"x" * MIB
    while True:
        for content in (b"", b"agi_network: yes\n", os.urandom(4096), b"\n\n", b"HANGUP\n" * 100, endless):
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(content)
                if content is endless:
                    await writer.drain()
                writer.close()
        await asyncio.sleep(0.02)


async def test_garbage_at_the_door_delays_no_running_call_and_no_new_one(scenes: Outcomes) -> None:
    await scenes(garbage)
