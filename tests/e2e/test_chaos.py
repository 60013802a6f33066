"""`kill -9` of the gateway at random instants while calls are up: what callers were told agrees with the database (R18, R20).

`CHAOS_ROUNDS` rounds (`make chaos`: 200); `CHAOS_SEED` repeats the choices of a run, though not the machine's own timing.
Every call cancels the meal of a pupil of its own. In the last third of the rounds a second gateway stays up.
"""

import asyncio
import contextlib
import os
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from ami_reader import AmiEvents, ami_events
from caller import Caller
from heard import PHONE_HZ, Samples, from_alaw, heard, to_alaw
from product import Dial, StartAsterisk, no_channel_left
from town import Gateway, TownOnDisk, open_town

from gateway.asterisk import RunningAsterisk
from gateway.files.phrases import phrases_folder, read_catalogues
from ivr.spoken import required_clips

pytestmark = pytest.mark.e2e

ROUNDS = int(os.environ.get("CHAOS_ROUNDS") or 6)
SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1, 1_000_000))
CALLERS_MAX = 4
# A round takes about eight seconds; the rest is for a machine that others use too.
ROUND_S_MAX = 60
# Rounds between two lines that say how far it is.
TOLD_EVERY = 10

# Long enough to be told apart from any other, short enough that a call lasts two seconds.
CLIP_S = 0.2
KEY_DOWN_MS = 100
# Most kills fall around the end of a confirming key, when Asterisk hands it to the gateway, which stores the change within
# some milliseconds: from so long after the first caller's key went down, while the others press theirs a little later.
NEAR_KEY_SHARE = 0.75
NEAR_KEY_S = (0.04, 0.16)
PRESSING_SPREAD_S = 0.08
# Beyond the longest call, so that kills elsewhere fall into any part of one.
CALL_S = 2.5
# A step of a call that has not come by then is not coming: its gateway is dead.
STEP_S = 3.0
# After its gateway died, a question goes on until a key ends it.
NUDGES, NUDGE_EVERY_S = 8, 0.6

FALLBACKS = ("nothing-changed", "perhaps", "saved", "saved-all")
SAID = (
    "phrase/welcome-1",
    "phrase/confirm-cancel-1",
    "phrase/cancelled-2",
    *(f"phrase/fallback-{it}" for it in FALLBACKS),
)


@dataclass(slots=True)
class Call:
    """One caller: what they are going to do, then what they did and were told."""

    code: str
    number: str
    dials_after_s: float
    first_key_after_s: float
    confirming_after_s: float
    hangs_up_with_the_key: bool
    stays_after_the_receipt: bool
    # Set when the confirming key goes down, however much of it arrives.
    pressed: bool = False
    # The receipt that was heard to its end after "registered", by the gateway or by the fallback.
    receipt: str = ""
    fallback: str = ""
    fallback_receipt: str = ""
    recording: Samples = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(slots=True)
class Round:
    """What the callers of a round and the one who kills wait for from each other."""

    calls: list[Call]
    near_key: bool
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    # All callers who get so far press the confirming key at almost the same moment, if the kill is to fall near it.
    ready: Counter[str] = field(default_factory=Counter)
    all_ready: asyncio.Event = field(default_factory=asyncio.Event)
    pressing: asyncio.Event = field(default_factory=asyncio.Event)
    killed: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.mark.timeout(120 + ROUNDS * ROUND_S_MAX)
async def test_R18_what_callers_were_told_is_true_after_kill_9_at_any_instant(
    asterisk: StartAsterisk, dial: Dial, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    sounds = short_sounds(tmp_path / "sounds")
    clips = {name: from_alaw((sounds / "it" / f"{name}.alaw").read_bytes()) for name in clip_names("it")}
    calls: list[Call] = []
    seen: dict[str, list[str]] = {}
    wrong: list[str] = []
    figures: Counter[str] = Counter()

    async with open_town(tmp_path, sounds, people=many_pupils(ROUNDS * CALLERS_MAX)) as town:
        pbx = await asterisk(town.agi_ports, **town.asterisk())
        second: Gateway | None = None
        gateway = await town.serve()
        async with ami_events(pbx.settings) as events:
            for number in range(ROUNDS):
                if second is None and number >= ROUNDS - ROUNDS // 3:
                    second = await town.serve(1)
                this = new_round(chance, first_pupil=len(calls))
                events.all.clear()
                await play(this, chance, gateway, pbx, dial, clips)
                await no_channel_left(pbx)
                await gateway.process.wait()
                gateway = await town.serve()

                stored = receipts_of(town)
                for call in this.calls:
                    listen(call, clips)
                    mistakes = [*untrue(call, stored.get(call.code, []), events, has_second=second is not None)]
                    wrong += [f"round {number}, pupil {call.code}: {mistake}" for mistake in mistakes]
                    figures.update(counted(call, stored.get(call.code, []), events, has_second=second is not None))
                    seen[call.code] = stored.get(call.code, [])
                    call.recording = np.zeros(0, np.float32)
                calls += this.calls
                if (number + 1) % TOLD_EVERY == 0:
                    sys.stdout.write(f"{number + 1} rounds, {len(calls)} calls, violations: {wrong or 'none'}\n")
                    sys.stdout.flush()
        at_the_end = receipts_of(town)

    sys.stdout.write(f"\nchaos, seed {SEED}: {ROUNDS} rounds, {len(calls)} calls, {len(wrong)} violations\n")
    sys.stdout.writelines(f"  {what}: {count}\n" for what, count in sorted(figures.items()))
    assert wrong == [], f"CHAOS_SEED={SEED} CHAOS_ROUNDS={ROUNDS}"
    # Nothing appeared later, and nothing went.
    assert {code: at_the_end.get(code, []) for code in seen} == seen
    # Chaos that reached nothing proves nothing.
    assert figures["changes stored"] > 0
    assert sum(count for what, count in figures.items() if what.startswith("fallback heard")) > 0


def new_round(chance: random.Random, first_pupil: int) -> Round:
    near_key = chance.random() < NEAR_KEY_SHARE
    calls = [
        Call(
            code=f"{first_pupil + number:05}",
            number=number_of(first_pupil + number),
            dials_after_s=chance.uniform(0, 0.3),
            first_key_after_s=chance.uniform(0, 0.4),
            confirming_after_s=chance.uniform(0, PRESSING_SPREAD_S if near_key else 0.6),
            hangs_up_with_the_key=chance.random() < 0.3,
            stays_after_the_receipt=chance.random() < 0.5,
        )
        for number in range(chance.randint(3, CALLERS_MAX))
    ]
    return Round(calls, near_key)


async def play(
    this: Round, chance: random.Random, gateway: Gateway, pbx: RunningAsterisk, dial: Dial, clips: dict[str, Samples]
) -> None:
    after_key_down_s = chance.uniform(*NEAR_KEY_S)
    anywhere_s = chance.uniform(0, CALL_S)
    try:
        async with asyncio.TaskGroup() as group:
            for call in this.calls:
                group.create_task(make_call(call, this, pbx, dial, clips))
            with contextlib.suppress(TimeoutError):
                if this.near_key:
                    async with asyncio.timeout(3 * STEP_S):
                        await this.pressing.wait()
                    await asyncio.sleep(after_key_down_s)
                else:
                    async with asyncio.timeout(STEP_S):
                        await this.answered.wait()
                    await asyncio.sleep(anywhere_s)
            gateway.kill()
            this.killed.set()
    finally:
        gateway.kill()


async def make_call(call: Call, this: Round, pbx: RunningAsterisk, dial: Dial, clips: dict[str, Samples]) -> None:
    await asyncio.sleep(call.dials_after_s)
    async with dial(pbx, from_=call.number) as caller:
        if caller.status == 200:
            this.answered.set()
            await talk(call, this, caller, clips)
        call.recording = caller.recording


async def talk(call: Call, this: Round, caller: Caller, clips: dict[str, Samples]) -> None:
    if await hears(caller, clips["phrase/welcome-1"]):
        await asyncio.sleep(call.first_key_after_s)
        await caller.press("1", on_ms=KEY_DOWN_MS, off_ms=0)
        if await hears(caller, clips["phrase/confirm-cancel-1"]):
            await together(this)
            await asyncio.sleep(call.confirming_after_s)
            call.pressed = True
            this.pressing.set()
            await caller.press("1", on_ms=KEY_DOWN_MS, off_ms=0)
            if call.hangs_up_with_the_key:
                caller.hang_up_at_once()
                await caller.wait_until_over()
                return
            if await hears(caller, clips["phrase/cancelled-2"]):
                await asyncio.sleep(3 * CLIP_S)
                if not call.stays_after_the_receipt:
                    await caller.hang_up()
                    return
    await this.killed.wait()
    for _ in range(NUDGES):
        if await is_over(caller, NUDGE_EVERY_S):
            return
        await caller.press("*", on_ms=KEY_DOWN_MS, off_ms=0)


async def together(this: Round) -> None:
    """Wait for the others, where the kill is to fall near the key; some of them may never come."""
    if not this.near_key:
        return
    this.ready["callers"] += 1
    if this.ready["callers"] == len(this.calls):
        this.all_ready.set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await this.all_ready.wait()


async def hears(caller: Caller, clip: Samples) -> bool:
    """Whether the clip is heard before the call is over or nothing more comes."""
    listening = asyncio.create_task(caller.wait_until_heard(clip, timeout_s=STEP_S))
    ending = asyncio.create_task(caller.wait_until_over(STEP_S))
    try:
        await asyncio.wait({listening, ending}, return_when=asyncio.FIRST_COMPLETED)
        return listening.done() and listening.exception() is None
    finally:
        for task in (listening, ending):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, AssertionError):
                await task


async def is_over(caller: Caller, within_s: float) -> bool:
    try:
        await caller.wait_until_over(within_s)
    except AssertionError:
        return False
    return True


def listen(call: Call, clips: dict[str, Samples]) -> None:
    """Note what the recording says the caller was told."""
    for found in heard(call.recording, {name: clips[name] for name in SAID}):
        if found.clip == "phrase/cancelled-2":
            call.receipt = receipt_after(found.at_s, call.recording, clips)
        elif found.clip.startswith("phrase/fallback-"):
            call.fallback = found.clip.removeprefix("phrase/fallback-")
            if call.fallback == "saved":
                call.fallback_receipt = receipt_after(found.at_s, call.recording, clips)


def receipt_after(at_s: float, recording: Samples, clips: dict[str, Samples]) -> str:
    """The four digits that were heard to their end after a clip that began at `at_s`; empty when they were not."""
    begin = int((at_s + CLIP_S * 0.9) * PHONE_HZ)
    # Two clips and the short silences that Read leaves between clips.
    window = recording[begin : begin + int(2.8 * CLIP_S * PHONE_HZ)]
    digits = heard(window, {name: clip for name, clip in clips.items() if len(name) == len("digits/00")
                            and name.startswith("digits/")})  # fmt: skip
    return "".join(each.clip.removeprefix("digits/") for each in digits) if len(digits) == 2 else ""


def untrue(call: Call, stored: list[str], events: AmiEvents, *, has_second: bool) -> Iterator[str]:
    """What was said or done in this call that the database does not bear out."""
    if len(stored) > 1:
        yield f"one confirmation made {len(stored)} changes"
    if stored and not call.pressed:
        yield "a change without its confirming key"
    if call.receipt and call.receipt not in stored:
        yield f"receipt {call.receipt} was heard to its end; stored are {stored}"
    if call.fallback == "nothing-changed" and stored:
        yield f"the fallback said that nothing was changed; stored are {stored}"
    if call.fallback == "saved" and call.fallback_receipt and call.fallback_receipt not in stored:
        yield f"the fallback said {call.fallback_receipt}; stored are {stored}"
    if call.fallback == "saved" and not stored:
        yield "the fallback said that the change is registered; nothing is stored"
    if call.fallback == "saved-all":
        yield "the fallback spoke of several changes; there was one pupil"
    if has_second and call.pressed and call.hangs_up_with_the_key and not stored:
        yield "hung up right after the confirming key while a gateway was up, and nothing is stored"
    told = end_of(call, events).get("Fallback", "")
    if call.fallback and told != f"fallback-{call.fallback}":
        yield f"heard fallback-{call.fallback}, Asterisk says {told or 'none'}"


def counted(call: Call, stored: list[str], events: AmiEvents, *, has_second: bool) -> Iterator[str]:
    """The figures that this call adds to."""
    end = end_of(call, events)
    saved, started = end.get("Saved", ""), end.get("Started", "")
    if end.get("Ended") != "1":
        state = "before saving" if not saved else "while saving" if saved == "pending" else "after saving"
        yield f"left by its gateway {state if started else 'before it was taken'}"
    if call.fallback:
        yield f"fallback heard: {call.fallback}" + (" (stored)" if call.fallback == "perhaps" and stored else "")
    if call.receipt:
        yield "receipt heard from the gateway"
    if call.pressed and call.hangs_up_with_the_key:
        what = "stored" if stored else "not stored"
        yield f"hung up with the confirming key, {'second gateway up' if has_second else 'no gateway up'}: {what}"
    if stored:
        yield "changes stored"


def end_of(call: Call, events: AmiEvents) -> dict[str, str]:
    """What the hangup handler told of this call; nothing when it was never taken."""
    ends = [each for each in events.all if each.get("UserEvent") == "MensaCall" and each["CallerIDNum"] == call.number]
    return ends[-1] if ends else {}


def receipts_of(town: TownOnDisk) -> dict[str, list[str]]:
    """The receipts in the database by user code, oldest first, read past all of the product's own code."""
    with closing(sqlite3.connect(town.folder / "var" / "mensa.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute(
            "SELECT user_code, receipt FROM changes JOIN pupils ON pupils.id = changes.pupil ORDER BY changes.id"
        )
        found: dict[str, list[str]] = {}
        for code, receipt in rows:
            found.setdefault(code, []).append(receipt)
        return found


def clip_names(language: str) -> list[str]:
    return [clip.name for clip in required_clips(read_catalogues(phrases_folder())[language])] + ["name/anna"]


def short_sounds(folder: Path) -> Path:
    """Every clip of the line, each an invented sound of `CLIP_S` that no other name has."""
    folder.mkdir(mode=0o755)
    samples = int(CLIP_S * PHONE_HZ)
    for language in ("it", "en"):
        for name in clip_names(language):
            path = folder / language / f"{name}.alaw"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(list(f"{language}/{name}".encode())).normal(0, 3000, samples)
            path.write_bytes(to_alaw(np.clip(noise, -32000, 32000)))
    return folder


def many_pupils(count: int) -> str:
    """A people.csv in which each pupil has a guardian whose number is recognised."""
    assert count < 10_000
    rows = (f"{number:05},Anna,primaria,1A,{number_of(number)},yes" for number in range(count))
    return "\n".join(("user_code,pupil_name,school,class,guardian_phone,recognise_number", *rows)) + "\n"


def number_of(pupil: int) -> str:
    return f"+39035000{pupil:04}"
