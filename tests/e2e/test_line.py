"""Parents call: a real Asterisk, a real gateway, real keys; what is heard, what is stored, what stands in the log.

Calls are mostly waiting. So those that touch nobody else's pupil go on at once, an `evening` of them, and each test looks
at its own.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from caller import Caller, KeysBy
from product import (
    PEOPLE,
    Line,
    Outcomes,
    PutUp,
    Someone,
    Together,
    confirm_cancel,
    crowd_calls,
    no_channel_left,
    receipt_of,
    state,
    stranger,
)
from town import MONDAY, TOWN

from core.changes import Change, Presence
from ivr.line import FirstName, Phrase, prompt

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

PRESENT, CANCELLED = Presence.PRESENT, Presence.CANCELLED
EMMAS_NUMBER, EMMA = "+390350000112", "50013"
PAOLOS_NUMBER, MARCO, SOFIA = "+390350000102", "50005", "50006"
BURSTS = {
    # Code, PIN, what is pressed, and the milliseconds of each key and each pause.
    "50004": ("50004432111", 60, 40),
    "50012": ("50012771511", 100, 60),
    "50014": ("50014#3402#11", 60, 40),
    "50007": ("50007#7294#11", 100, 60),
}
# Seconds between the confirming key and the hang-up.
MOMENTS = (0.0, 0.02, 0.06, 0.15, 0.4)
CALLS = 40
CROWD, LISTENERS = PEOPLE[:CALLS], PEOPLE[40:42]
LEAVERS = PEOPLE[42:47]
CAREFUL, CODED, MISTAKEN, LOCKED, SILENT, BY_INFO, BY_TONES = PEOPLE[47:54]
HASTY = PEOPLE[68]
WRONG_PINS = ("9147", "9258", "9369")

EVENING = Together()
at_once = EVENING.at_once


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def line(put_up: PutUp) -> AsyncIterator[Line]:
    """On the evening before a Monday."""
    async with put_up("evening") as line:
        yield line


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def evening(line: Line) -> AsyncIterator[Outcomes]:
    """All calls of the evening, going on at the same time."""
    async with EVENING.going_on(line) as outcomes:
        yield outcomes


@at_once
async def emmas_mother(line: Line) -> tuple[Caller, Change]:
    async with line.call(EMMAS_NUMBER) as caller:
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("1")
        await line.voice.wait_for(caller, "confirm-keys")
        await line.unchanged(EMMA)
        await caller.press("1")
        await line.voice.wait_for(caller, "phrase/cancelled-2")
        # By now it is stored: R18.
        change = await line.cancelled(EMMA)
        await line.voice.wait_for(caller, state("Emma", MONDAY, CANCELLED))
    return caller, change


async def test_a_known_caller_cancels_tomorrow_with_two_keys_and_hears_what_was_stored(
    line: Line, evening: Outcomes
) -> None:
    caller, change = await evening(emmas_mother)

    await line.voice.assert_heard(
        caller,
        *("welcome", state("Emma", MONDAY, PRESENT), "offer-cancel"),
        *(confirm_cancel(MONDAY, "Emma"), "confirm-keys"),
        *(receipt_of(change), state("Emma", MONDAY, CANCELLED)),
        never=("enter-code",),
    )
    assert (await line.town.call_from(EMMAS_NUMBER)).outcome == "cancelled"
    code, shown, _ = await line.town.mensa("presence", EMMA, "--from", str(MONDAY), "--to", str(MONDAY), "--json")
    assert (code, json.loads(shown)["days"][0]["presence"]) == (0, "cancelled")
    assert change.receipt in shown


async def test_a_clerk_reads_in_the_log_what_happened_in_a_call(line: Line, evening: Outcomes) -> None:
    _, change = await evening(emmas_mother)
    record = await line.town.call_from(EMMAS_NUMBER)

    _, tail, _ = await line.town.mensa("calls", "tail", "--json", "--number", EMMAS_NUMBER)
    _, shown, _ = await line.town.mensa("calls", "show", record.call)

    [told] = json.loads(tail)
    expected = {
        "call": record.call, "town": TOWN, "outcome": "cancelled", "receipts": [change.receipt], "identified": "number",
        "pupils": 1, "language": "it", "steps": 2, "fallback": None, "gateway_died": False,
    }  # fmt: skip
    assert {name: told[name] for name in expected} == expected
    assert EMMAS_NUMBER[:-3] not in tail + shown
    steps = re.findall(r"^ +\+[\d.]+ s  (\w+)", shown, re.MULTILINE)
    by_gateway = ["taken", "identified", "asked", "asked", "outcome", "finished"]
    assert [step for step in steps if step in by_gateway] == by_gateway
    assert {"ringing", "answered", "last_words", "hung_up"} <= set(steps)


@at_once
async def who_keys_code_and_pin(line: Line) -> tuple[Caller, Change]:
    async with line.call(stranger(1)) as caller:
        await line.voice.wait_for(caller, "enter-code")
        await caller.press(CODED.code)
        await line.voice.wait_for(caller, "enter-pin")
        await caller.press(CODED.pin)
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("1")
        await line.voice.wait_for(caller, "confirm-keys")
        await caller.press("1")
        await line.voice.wait_for(caller, "phrase/cancelled-2")
        change = await line.cancelled(CODED.code)
        await line.voice.wait_for(caller, state("Anna", MONDAY, CANCELLED))
    return caller, change


async def test_a_caller_who_is_not_known_keys_code_and_pin(line: Line, evening: Outcomes) -> None:
    caller, change = await evening(who_keys_code_and_pin)

    await line.voice.assert_heard(
        caller,
        *("welcome", "enter-code", "enter-pin", state("Anna", MONDAY, PRESENT), "offer-cancel"),
        *(confirm_cancel(MONDAY, "Anna"), "confirm-keys", receipt_of(change)),
    )
    record = await line.town.call_from(stranger(1))
    assert (record.outcome, record.identified, record.receipts) == ("cancelled", "code", (change.receipt,))


@at_once
async def who_mistakes_the_pin(line: Line) -> Caller:
    async with line.call(stranger(2)) as caller:
        for pin in WRONG_PINS:
            await line.voice.wait_for(caller, "enter-code")
            await caller.press(MISTAKEN.code)
            await line.voice.wait_for(caller, "enter-pin")
            await caller.press(pin)
            # Until it has begun, so that the next wait is for the next question.
            await asyncio.sleep(1)
        await caller.wait_until_over()
    return caller


async def test_after_three_wrong_pins_the_caller_hears_the_office_and_nothing_has_changed(
    line: Line, evening: Outcomes
) -> None:
    caller = await evening(who_mistakes_the_pin)

    asked = ("enter-code", "enter-pin", "wrong-code")
    await line.voice.assert_heard(caller, *(asked * 3), "offer-office", "goodbye", never=("phrase/locked-1",))
    assert caller.they_hung_up
    assert (await line.town.call_from(stranger(2))).outcome == "not_identified"
    await line.unchanged(MISTAKEN.code)


@at_once
async def who_is_locked_out(line: Line) -> tuple[list[Caller], Change]:
    callers = []
    wrong = [LOCKED.code, WRONG_PINS[0]] * 3
    for keys, end in ((wrong, "offer-office-1"), (wrong[:4], "locked-1"), ([LOCKED.code, LOCKED.pin], "locked-1")):
        async with line.call(stranger(3)) as caller:
            for word in keys:
                await asyncio.sleep(0.7)
                await caller.press(word)
            await line.voice.wait_for(caller, f"phrase/{end}")
        callers.append(caller)
    async with line.call(LOCKED.number) as caller:
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("11")
        await line.voice.wait_for(caller, "phrase/cancelled-2")
        change = await line.cancelled(LOCKED.code)
    return [*callers, caller], change


async def test_R28_the_fifth_wrong_pin_locks_the_code_and_not_the_family(line: Line, evening: Outcomes) -> None:
    (wrong, fifth, right, family), change = await evening(who_is_locked_out)

    await line.voice.assert_heard(wrong, "wrong-code", "phrase/offer-office-1", never=("phrase/locked-1",))
    await line.voice.assert_heard(fifth, "phrase/locked-1")
    await line.voice.assert_heard(right, "phrase/locked-1", never=("offer-cancel",))
    await line.voice.assert_heard(family, "welcome", "phrase/cancelled-1", never=("phrase/locked-1",))
    assert (await line.town.call_from(stranger(3), times=3)).outcome == "locked"
    assert (await line.town.call_from(LOCKED.number)).receipts == (change.receipt,)


async def _in_one_burst(line: Line, code: str, number: int) -> tuple[Caller, Change]:
    keys, on_ms, off_ms = BURSTS[code]
    async with line.call(stranger(number)) as caller:
        await caller.press(keys, on_ms=on_ms, off_ms=off_ms)
        await line.voice.wait_for(caller, "phrase/cancelled-2")
        change = await line.cancelled(code)
    return caller, change


@at_once
async def who_type_ahead(line: Line) -> list[tuple[Caller, Change]]:
    return await asyncio.gather(*(_in_one_burst(line, code, number) for number, code in enumerate(BURSTS, 10)))


async def test_a_whole_call_typed_ahead_in_one_burst_is_taken_key_by_key(line: Line, evening: Outcomes) -> None:
    for caller, _ in await evening(who_type_ahead):
        await line.voice.assert_heard(
            caller, "phrase/cancelled-1", "phrase/cancelled-2", never=("wrong-code", "wrong-key", "enter-code-again")
        )


@at_once
async def who_resumes_what_is_not_suspended(line: Line) -> Caller:
    async with line.call(HASTY.number) as caller:
        # 4 1 1 resumes; after a refused 4 the rest of it would cancel.
        await caller.press("411", on_ms=100, off_ms=300)
        await line.voice.wait_for(caller, "not_suspended")
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.hang_up()
    return caller


async def test_what_is_keyed_ahead_of_a_refusal_changes_nothing(line: Line, evening: Outcomes) -> None:
    caller = await evening(who_resumes_what_is_not_suspended)

    await line.voice.assert_heard(caller, "not_suspended", "offer-cancel", never=("phrase/confirm-cancel-1",))
    assert (await line.town.call_from(HASTY.number)).outcome == "not_suspended"
    await line.unchanged(HASTY.code)


@at_once
async def who_thinks_better_of_it(line: Line) -> Caller:
    async with line.call(CAREFUL.number) as caller:
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("1")
        await line.voice.wait_for(caller, "confirm-keys")
        await caller.hang_up()
    return caller


async def test_R18_who_hangs_up_before_confirming_has_changed_nothing(line: Line, evening: Outcomes) -> None:
    await evening(who_thinks_better_of_it)

    record = await line.town.call_from(CAREFUL.number)
    assert (record.outcome, record.receipts, record.gateway_died) == ("abandoned", (), False)
    await line.unchanged(CAREFUL.code)


async def _hangs_up_after_the_key(line: Line, who: Someone, moment_s: float) -> None:
    async with line.call(who.number) as caller:
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("1")
        await line.voice.wait_for(caller, "phrase/confirm-cancel-1")
        await caller.press("1", off_ms=0)
        await asyncio.sleep(moment_s)
        await caller.hang_up()


@at_once
async def who_hang_up_with_the_confirming_key(line: Line) -> None:
    leaving = (_hangs_up_after_the_key(line, *each) for each in zip(LEAVERS, MOMENTS, strict=True))
    await asyncio.gather(*leaving)


async def test_R18_the_confirming_key_counts_also_in_the_moment_of_hanging_up(line: Line, evening: Outcomes) -> None:
    await evening(who_hang_up_with_the_confirming_key)

    for who in LEAVERS:
        record = await line.town.call_from(who.number)
        change = await line.cancelled(who.code)
        assert (record.outcome, record.receipts) == ("cancelled", (change.receipt,))


@at_once
async def who_says_nothing(line: Line) -> Caller:
    async with line.call(SILENT.number) as caller:
        await caller.wait_until_over(timeout_s=150)
    return caller


async def test_silence_ends_with_the_office_and_never_in_a_loop(line: Line, evening: Outcomes) -> None:
    caller = await evening(who_says_nothing)

    menu = ("welcome", state("Anna", MONDAY, PRESENT), "offer-cancel", "offer-bland", "offer-suspend", "offer-more")
    await line.voice.assert_heard(caller, *menu, "no-key", "no-key", "offer-office", "goodbye")
    assert caller.they_hung_up
    assert (await line.town.call_from(SILENT.number)).outcome == "informed"
    await line.unchanged(SILENT.code)


@at_once
async def paolo(line: Line) -> tuple[Caller, Change, Change]:
    async with line.call(PAOLOS_NUMBER) as caller:
        await line.voice.wait_for(caller, "choose-all")
        await caller.press("9")
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("1")
        await line.voice.wait_for(caller, "confirm-keys")
        await caller.press("1")
        await line.voice.wait_for(caller, state("Marco", MONDAY, CANCELLED))
        changes = await line.cancelled(MARCO), await line.cancelled(SOFIA)
    return caller, *changes


async def test_R21_nine_acts_for_both_siblings_each_with_a_receipt(line: Line, evening: Outcomes) -> None:
    caller, marcos, sofias = await evening(paolo)

    await line.voice.assert_heard(
        caller,
        prompt("choose-pupil", key=Phrase("key-1"), name=FirstName("Marco")),
        prompt("choose-pupil", key=Phrase("key-2"), name=FirstName("Sofia")),
        *("choose-all", state("Marco", MONDAY, PRESENT), state("Sofia", MONDAY, PRESENT), "offer-cancel"),
        *(confirm_cancel(MONDAY, "Marco", "Sofia"), "confirm-keys"),
        *(prompt("for-pupil", name=FirstName("Marco")), receipt_of(marcos)),
        *(prompt("for-pupil", name=FirstName("Sofia")), receipt_of(sofias)),
    )
    assert (await line.town.call_from(PAOLOS_NUMBER)).receipts == (marcos.receipt, sofias.receipt)
    assert marcos.session == sofias.session


async def _presses(line: Line, who: Someone, keys_by: KeysBy) -> Caller:
    async with line.call(who.number, keys_by) as caller:
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("1")
        await line.voice.wait_for(caller, "confirm-keys")
        await caller.press("1")
        await line.voice.wait_for(caller, "phrase/cancelled-2")
    return caller


@at_once
async def whose_phones_send_no_events(line: Line) -> tuple[Caller, Caller]:
    return await asyncio.gather(_presses(line, BY_INFO, "info"), _presses(line, BY_TONES, "tones"))


async def test_keys_count_also_by_sip_info_and_as_tones_in_the_sound(line: Line, evening: Outcomes) -> None:
    await evening(whose_phones_send_no_events)

    for who in (BY_INFO, BY_TONES):
        change = await line.cancelled(who.code)
        assert (await line.town.call_from(who.number)).receipts == (change.receipt,)


async def test_forty_calls_at_once_are_all_confirmed(line: Line, evening: Outcomes, tmp_path: Path) -> None:
    await evening.all()

    listeners = asyncio.gather(*(_presses(line, who, "rfc4733") for who in LISTENERS))
    _, heard = await asyncio.gather(crowd_calls(line.pbx, tmp_path, CROWD), listeners)

    await line.town.call_from(CROWD[-1].number)
    everybody, calls = await line.town.everybody(MONDAY), await line.town.calls()
    for who in CROWD:
        presence, [change] = everybody[who.code]
        assert (presence, calls[change.session].receipts) == (CANCELLED, (change.receipt,))
    assert len({everybody[who.code][1][0].session for who in CROWD}) == CALLS
    for caller in heard:
        await line.voice.assert_heard(caller, "welcome", confirm_cancel(MONDAY, "Anna"), "phrase/cancelled-1")
    await no_channel_left(line.pbx)


async def test_no_keyed_code_or_pin_stands_in_any_file_that_asterisk_or_the_gateway_wrote(
    line: Line, evening: Outcomes
) -> None:
    await evening.all()

    # Alone, since part of a longer number, such as an instant's microseconds, was keyed by nobody.
    keyed = "|".join([*WRONG_PINS, *(word for who in (CODED, MISTAKEN, LOCKED) for word in (who.code, who.pin))])
    secret = re.compile(rf"(?<![0-9A-Za-z.])({keyed})(?![0-9A-Za-z.])".encode())
    entered = line.town.folder / "config"
    written = [
        path
        for folder in (line.pbx.folder, line.town.folder)
        for path in folder.rglob("*")
        if path.is_file() and entered not in path.parents and not path.name.startswith("mensa.db")
    ]
    assert {line.pbx.log, line.gateways[0].log} <= set(written)
    assert [path for path in written if secret.search(path.read_bytes())] == []
    events = json.dumps([event.fields for event in await line.town.call_events()])
    assert secret.search(events.encode()) is None
