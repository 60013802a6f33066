"""The FastAGI server behind a real Asterisk: what its source promises and the stand-in of the unit tests repeats."""

import asyncio
from collections.abc import Sequence

import pytest
from conftest import Crowd, Dial, SippCall, StartAsterisk
from heard import Samples

from ivr.agi import AgiLine, IncomingCall
from ivr.line import Keys, Prompt, prompt
from tests.agi_serving import Serving, serving

pytestmark = pytest.mark.e2e

# A TCP port nothing answers at: the discard service, which no Debian runs.
NOBODY = 9
REQUEST = "1;k3y;session;7;0;12:cancel:2026-11-24,13:cancel:2026-11-24"


def phrase(prompt: Prompt, language: str) -> Sequence[str]:
    return (f"{language}/phrase/{prompt.id}",)


class Desk:
    """A call of a few questions; what was answered and stored."""

    def __init__(self) -> None:
        self.answers: list[Keys] = []
        self.calls: list[IncomingCall] = []
        self.stored = 0

    async def on_line(self, line: AgiLine, call: IncomingCall) -> None:
        self.calls.append(call)
        await line.say(prompt("welcome"))
        self.answers.append(await line.ask(prompt("menu")))
        await line.before_confirming(REQUEST)
        self.answers.append(await line.ask(prompt("confirm")))
        if self.answers[-1].digits == "1":
            await line.before_saving()
            self.stored += 1
            await line.saved(["4712"])
            await line.outcome("cancelled")
            line.language = "en"
            await line.say(prompt("done"))


async def test_a_call_is_asked_confirmed_stored_and_ended(
    asterisk: StartAsterisk, dial: Dial, clips: dict[str, Samples]
) -> None:
    desk = Desk()

    async with serving(desk.on_line, clips=phrase) as running:
        pbx = await asterisk(gateways=(running.port, NOBODY))
        async with dial(pbx) as caller:
            await caller.wait_until_heard(clips["it/phrase/menu"])
            await caller.press("1")
            await caller.wait_until_heard(clips["it/phrase/confirm"])
            await caller.press("1")
            await caller.wait_until_over()

    assert desk.answers == [Keys("1"), Keys("1")]
    assert (desk.calls[0].dialled, desk.calls[0].caller) == ("800000100", "+390350000101")
    assert caller.heard(clips) == ["it/phrase/welcome", "it/phrase/menu", "it/phrase/confirm", "en/phrase/done"]
    assert (desk.stored, running.endings) == (1, ["completed"])
    assert caller.they_hung_up


@pytest.mark.parametrize(("on_ms", "off_ms"), [(60, 40), (100, 60)])
async def test_a_burst_through_four_questions_loses_no_key(
    asterisk: StartAsterisk, sipp_call: SippCall, on_ms: int, off_ms: int
) -> None:
    answers: list[str] = []

    async def on_line(line: AgiLine, call: IncomingCall) -> None:
        await line.say(prompt("welcome"))
        for question, digits in (("menu", 5), ("menu", 4), ("menu", 1)):
            answers.append((await line.ask(prompt(question), digits=digits)).digits)
        await line.before_confirming(REQUEST)
        answers.append((await line.ask(prompt("confirm"))).digits)

    async with serving(on_line, clips=phrase) as running:
        pbx = await asterisk(gateways=(running.port, NOBODY))
        await sipp_call(pbx, keys="50004432111", pause_s=0.5, on_ms=on_ms, off_ms=off_ms)

    assert answers == ["50004", "4321", "1", "1"]


async def test_silence_a_lone_hash_and_too_few_digits_are_told_apart(
    asterisk: StartAsterisk, dial: Dial, clips: dict[str, Samples]
) -> None:
    answers: list[Keys] = []

    async def on_line(line: AgiLine, call: IncomingCall) -> None:
        for name in ("welcome", "menu", "confirm"):
            answers.append(await line.ask(prompt(name), digits=4))

    async with serving(on_line, clips=phrase) as running:
        pbx = await asterisk(gateways=(running.port, NOBODY))
        async with dial(pbx) as caller:
            await caller.wait_until_heard(clips["it/phrase/menu"])
            await caller.press("#")
            await caller.wait_until_heard(clips["it/phrase/confirm"])
            await caller.press("12")
            await caller.wait_until_over()

    assert answers == [Keys("", timed_out=True), Keys(""), Keys("12", timed_out=True)]


async def test_a_question_in_several_commands_sounds_like_one_and_takes_a_key_anywhere(
    asterisk: StartAsterisk, dial: Dial, clips: dict[str, Samples]
) -> None:
    answers: list[Keys] = []

    def padded(prompt: Prompt, language: str) -> Sequence[str]:
        # The folders that a name goes through and out of again do not sound, but fill the command.
        return (f"{language}/phrase/" + "./" * 450 + prompt.id,)

    async def on_line(line: AgiLine, call: IncomingCall) -> None:
        for _ in range(2):
            answers.append(await line.ask(prompt("welcome"), prompt("menu"), prompt("confirm"), prompt("done")))

    async with serving(on_line, clips=padded) as running:
        pbx = await asterisk(gateways=(running.port, NOBODY))
        async with dial(pbx) as caller:
            await caller.wait_until_heard(clips["it/phrase/done"])
            await caller.wait_until_heard(clips["it/phrase/welcome"], times=2)
            await caller.press("7")
            await caller.wait_until_over()

    assert answers == [Keys("", timed_out=True), Keys("7")]
    assert caller.heard(clips)[:4] == [
        "it/phrase/welcome", "it/phrase/menu", "it/phrase/confirm", "it/phrase/done",
    ]  # fmt: skip


@pytest.mark.parametrize("round_", range(3))
async def test_R18_a_1_keyed_in_the_moment_of_hanging_up_is_stored_whoever_reads_it(
    asterisk: StartAsterisk, sipp_call: SippCall, round_: int
) -> None:
    desk = Desk()

    async with serving(desk.on_line, clips=phrase) as running:
        pbx = await asterisk(gateways=(running.port, NOBODY))
        await sipp_call(pbx, keys="2 1x")
        await the_end_of(running)

    # By the call, by the hangup handler, or by both of them: one request, stored once by its idempotency key.
    assert desk.stored + len(running.hungup) >= 1
    assert all((call.request, call.keys, call.dialled) == (REQUEST, "1", "800000100") for call in running.hungup)


@pytest.mark.parametrize("keys", ["1 x", "1 2x", "x"])
async def test_R18_who_hangs_up_without_the_confirming_key_has_changed_nothing(
    asterisk: StartAsterisk, sipp_call: SippCall, keys: str
) -> None:
    desk = Desk()

    async with serving(desk.on_line, clips=phrase) as running:
        pbx = await asterisk(gateways=(running.port, NOBODY))
        await sipp_call(pbx, keys=keys)
        await the_end_of(running)

    assert (desk.stored, running.hungup) == (0, [])
    assert len(running.endings) == 1


async def test_a_flow_that_fails_leaves_its_caller_with_the_truth(
    asterisk: StartAsterisk, dial: Dial, clips: dict[str, Samples]
) -> None:
    async def on_line(line: AgiLine, call: IncomingCall) -> None:
        await line.ask(prompt("menu"))
        raise ZeroDivisionError

    async with serving(on_line, clips=phrase) as running:
        pbx = await asterisk(gateways=(running.port, NOBODY))
        async with dial(pbx) as caller:
            await caller.wait_until_heard(clips["it/phrase/menu"])
            await caller.press("1")
            await caller.wait_until_over()

    assert caller.heard(clips)[-1] == "it/phrase/fallback-nothing-changed"


async def test_draining_sends_new_callers_to_the_other_gateway(asterisk: StartAsterisk, dial: Dial) -> None:
    first, second = Desk(), Desk()

    async with serving(first.on_line, clips=phrase) as draining, serving(second.on_line, clips=phrase) as other:
        pbx = await asterisk(gateways=(draining.port, other.port))
        async with dial(pbx):
            while not draining.server.sessions:  # noqa: ASYNC110 - a call begins in Asterisk, which tells us nothing
                await asyncio.sleep(0.01)
            drained = asyncio.create_task(draining.server.drain(30))
            async with dial(pbx):
                while not other.server.sessions:  # noqa: ASYNC110 - likewise
                    await asyncio.sleep(0.01)
            assert not drained.done()
        await drained

    assert (len(first.calls), len(second.calls)) == (1, 1)


async def test_forty_calls_at_once_are_all_served(asterisk: StartAsterisk, crowd: Crowd) -> None:
    desk = Desk()

    async with serving(desk.on_line, clips=phrase) as running:
        pbx = await asterisk(gateways=(running.port, NOBODY))
        await crowd(pbx, calls=40, keys="1,1")
        await running.all_calls_ended()

    assert desk.stored == 40


async def the_end_of(running: Serving) -> None:
    """Wait until the call has ended here and its hangup handler is through."""
    await running.all_calls_ended()
    await running.server.drain(5)
