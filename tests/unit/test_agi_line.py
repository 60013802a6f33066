"""A caller on Asterisk as a Line: questions, type-ahead, silence, hang-ups, what stands in the channel and when (R18)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from ivr.agi import AgiLimits, AgiLine, CallTooLong, IncomingCall
from ivr.agi_protocol import asked
from ivr.line import HungUp, Keys, LineFailed, Prompt, prompt
from tests.agi_serving import HOST, Serving, serving
from tests.asterisk_double import AsteriskDouble, Faults, Pressed

REQUEST = "1;k3y;session;7;0;12:cancel:2026-11-24"


async def heard_by(
    asterisk: AsteriskDouble, flow: Callable[[AgiLine], Awaitable[object]], **options: object
) -> Serving:
    """One call of `asterisk` with `flow` behind the server."""

    async def on_line(line: AgiLine, call: IncomingCall) -> None:
        await flow(line)

    async with serving(on_line, **options) as running:  # type: ignore[arg-type]  # the options of serving, passed on
        await asterisk.call(HOST, running.port)
        await running.all_calls_ended()
    assert asterisk.violations == []
    return running


async def answer_to(asterisk: AsteriskDouble, digits: int = 1, **options: object) -> Keys:
    answers: list[Keys] = []

    async def flow(line: AgiLine) -> None:
        answers.append(await line.ask(prompt("question"), digits=digits))

    await heard_by(asterisk, flow, **options)
    return answers[0]


def position(asterisk: AsteriskDouble, command: str) -> int:
    return next(index for index, line in enumerate(asterisk.commands) if line.startswith(command))


class TestQuestions:
    async def test_a_question_is_one_read_however_many_clips(self) -> None:
        asterisk = AsteriskDouble(["12345"])

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("one"), prompt("two"), prompt("three"), digits=5)

        await heard_by(asterisk, flow)

        assert 'EXEC Read "IVR_KEYS,it/one&it/two&it/three,5,,1"' in asterisk.commands
        assert sum(line.startswith("EXEC") for line in asterisk.commands) == 1

    @pytest.mark.parametrize(
        ("keys", "digits", "answer"),
        [
            ("1", 1, Keys("1")),
            ("12345", 5, Keys("12345")),
            ("12#", 5, Keys("12")),
            ("12", 5, Keys("12", timed_out=True)),
            ("#", 1, Keys("")),
            ("-", 1, Keys("", timed_out=True)),
            ("*", 1, Keys("*")),
            ("A", 1, Keys("A")),
        ],
    )
    async def test_what_was_keyed_comes_back_with_how_it_ended(self, keys: str, digits: int, answer: Keys) -> None:
        assert await answer_to(AsteriskDouble([keys]), digits) == answer

    async def test_silence_and_a_lone_hash_are_told_apart(self) -> None:
        silence = await answer_to(AsteriskDouble(["-"]))
        lone_hash = await answer_to(AsteriskDouble(["#"]))

        assert silence.is_silence
        assert lone_hash.is_lone_hash

    async def test_the_first_key_and_the_others_have_waits_of_their_own(self) -> None:
        silent = AsteriskDouble(["-"], seconds=lambda _: 1.0, work_s=0)
        partial = AsteriskDouble(["12"], seconds=lambda _: 1.0, work_s=0)

        await answer_to(silent, 5)
        await answer_to(partial, 5)

        assert silent.clock_s == pytest.approx(1.0 + 5)
        assert partial.clock_s == pytest.approx(0.1 + 0.1 + 2)

    async def test_the_language_can_change_in_mid_call(self) -> None:
        asterisk = AsteriskDouble(["8", "1"])

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("menu"))
            line.language = "en"
            await line.ask(prompt("menu"))

        await heard_by(asterisk, flow)

        assert asterisk.heard == ["it/menu", "en/menu"]
        assert asterisk.variables["IVR_LANGUAGE"] == "en"

    async def test_a_question_of_more_clips_than_fit_one_command_is_asked_in_parts(self) -> None:
        def many(prompt: Prompt, language: str) -> Sequence[str]:
            return [f"it/a-rather-long-name-of-a-clip-{number:03}" for number in range(100)]

        silent = AsteriskDouble(["-"], work_s=0)
        at_once = AsteriskDouble(["1"])
        late = AsteriskDouble(Pressed([(90.0, "2")]))

        assert (await answer_to(silent, clips=many)).is_silence
        assert await answer_to(at_once, clips=many) == Keys("1")
        assert await answer_to(late, clips=many) == Keys("2")

        assert len(silent.heard) == 100
        assert silent.clock_s == pytest.approx(100 + 99 * 0.05 + 5)
        assert len(at_once.heard) == 1
        assert len(late.heard) == 86

    async def test_a_missing_last_clip_fails_the_line_and_not_the_caller(self) -> None:
        asterisk = AsteriskDouble(["1"], missing={"it/question"})

        async def flow(line: AgiLine) -> None:
            with pytest.raises(LineFailed, match="READSTATUS is ERROR"):
                await line.ask(prompt("question"))

        await heard_by(asterisk, flow)

    async def test_more_digits_than_a_question_can_have_are_a_mistake_of_ours(self) -> None:
        asterisk = AsteriskDouble(["1"])

        async def flow(line: AgiLine) -> None:
            for digits in (0, 33):
                with pytest.raises(ValueError, match=f"digits={digits}"):
                    await line.ask(prompt("question"), digits=digits)

        await heard_by(asterisk, flow)

        assert not asterisk.up


class TestTypingAhead:
    async def test_what_can_be_interrupted_is_played_in_front_of_the_next_question(self) -> None:
        asterisk = AsteriskDouble(["-"])

        async def flow(line: AgiLine) -> None:
            await line.say(prompt("welcome"))
            await line.say(prompt("state"))
            await line.ask(prompt("menu"))

        await heard_by(asterisk, flow)

        assert 'EXEC Read "IVR_KEYS,it/welcome&it/state&it/menu,1,,1"' in asterisk.commands

    async def test_a_key_in_what_is_said_answers_the_question_after_it(self) -> None:
        asterisk = AsteriskDouble(Pressed([(0.5, "1")]), seconds=lambda _: 3.0)
        answers: list[Keys] = []

        async def flow(line: AgiLine) -> None:
            await line.say(prompt("welcome"), prompt("state"))
            answers.append(await line.ask(prompt("menu")))

        await heard_by(asterisk, flow)

        assert answers == [Keys("1")]
        assert asterisk.heard == ["it/welcome"]

    @pytest.mark.parametrize("every_s", [0.06, 0.1])
    async def test_a_whole_call_keyed_in_one_burst_answers_every_question(self, every_s: float) -> None:
        asterisk = AsteriskDouble(Pressed.burst("50004432111", start_s=0.3, every_s=every_s), work_s=0.002)
        answers: list[str] = []

        async def flow(line: AgiLine) -> None:
            await line.say(prompt("welcome"))
            for question, digits in (("enter-code", 5), ("enter-pin", 4), ("menu", 1), ("confirm", 1)):
                answers.append((await line.ask(prompt(question), digits=digits)).digits)

        await heard_by(asterisk, flow)

        assert answers == ["50004", "4321", "1", "1"]

    async def test_what_must_be_heard_plays_at_once_and_to_its_end(self) -> None:
        asterisk = AsteriskDouble(Pressed([(0.5, "1")]), seconds=lambda _: 3.0)
        answers: list[Keys] = []

        async def flow(line: AgiLine) -> None:
            await line.say(prompt("welcome"))
            await line.say(prompt("notice"), interruptible=False)
            answers.append(await line.ask(prompt("menu")))

        await heard_by(asterisk, flow)

        assert 'EXEC Playback "it/welcome&it/notice"' in asterisk.commands
        assert asterisk.heard == ["it/welcome", "it/notice", "it/menu"]
        assert answers[0].is_silence

    async def test_a_flow_that_only_talks_is_heard_before_too_much_waits(self) -> None:
        asterisk = AsteriskDouble()

        async def flow(line: AgiLine) -> None:
            for _ in range(450):
                await line.say(prompt("word"))

        await heard_by(asterisk, flow)

        assert len(asterisk.heard) == 450


class TestTheEnd:
    async def test_the_last_words_are_played_and_the_dialplan_is_told(self) -> None:
        asterisk = AsteriskDouble(["1"])

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("menu"))
            await line.say(prompt("goodbye"))

        running = await heard_by(asterisk, flow)

        assert asterisk.heard == ["it/menu", "it/goodbye"]
        assert asterisk.commands[-1] == 'SET VARIABLE IVR_ENDED "1"'
        assert running.endings == ["completed"]

    async def test_a_key_in_the_last_words_is_nobodys_answer(self) -> None:
        asterisk = AsteriskDouble(Pressed([(0.1, "2"), (0.6, "1")]))

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("menu"))
            await line.say(prompt("goodbye"))

        await heard_by(asterisk, flow)

        assert asterisk.variables["IVR_KEYS"] == "2"
        assert asterisk.variables["IVR_SKIP"] == "1"

    async def test_the_call_is_answered_by_the_first_prompt_and_not_before(self) -> None:
        asterisk = AsteriskDouble(["1"])

        async def flow(line: AgiLine) -> None:
            assert not asterisk.up
            await line.say(prompt("welcome"))
            assert not asterisk.up
            assert not line.started
            await line.ask(prompt("menu"))
            assert line.started

        await heard_by(asterisk, flow)

        assert (
            position(asterisk, "ANSWER") < position(asterisk, "SET VARIABLE IVR_STARTED") < position(asterisk, "EXEC")
        )

    async def test_a_flow_that_plays_nothing_leaves_the_call_to_the_dialplan(self) -> None:
        asterisk = AsteriskDouble()

        async def flow(line: AgiLine) -> None:
            return

        await heard_by(asterisk, flow)

        assert not asterisk.up
        assert "IVR_STARTED" not in asterisk.variables
        assert "IVR_ENDED" not in asterisk.variables

    async def test_a_fault_in_a_flow_leaves_the_truth_to_the_dialplan(self) -> None:
        asterisk = AsteriskDouble(["1"])

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("menu"))
            raise ZeroDivisionError

        running = await heard_by(asterisk, flow)

        assert "IVR_ENDED" not in asterisk.variables
        assert running.endings == ["failed"]
        assert isinstance(running.logged("agi_ended")[0]["exc_info"], ZeroDivisionError)


class TestTheDeadManTimer:
    async def test_it_is_armed_before_whatever_plays_and_never_fires_in_a_call_that_lives(self) -> None:
        asterisk = AsteriskDouble(["-", "1234", "-", "#", "-", "-"], seconds=lambda _: 3.0)

        async def flow(line: AgiLine) -> None:
            for _ in range(5):
                await line.say(prompt("state"), prompt("state"))
                await line.ask(prompt("menu"), digits=8)
            await line.say(prompt("notice"), interruptible=False)
            await line.say(prompt("goodbye"))

        running = await heard_by(asterisk, flow)

        assert not asterisk.timed_out
        assert running.endings == ["completed"]
        plays = [index for index, line in enumerate(asterisk.commands) if line.startswith("EXEC")]
        assert all(asterisk.commands[index - 1].startswith("SET VARIABLE TIMEOUT(absolute)") for index in plays)

    async def test_a_measured_clip_makes_it_exact(self) -> None:
        asterisk = AsteriskDouble(["1"])

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("menu"), digits=4)

        await heard_by(asterisk, flow, playing_s=lambda clips: 2.5 * len(clips))

        # 2.5 s of clip, 5 s for the first key, 4 times 2 s between keys, 8 s to spare: rounded up.
        assert 'SET VARIABLE TIMEOUT(absolute) "24"' in asterisk.commands

    async def test_the_time_for_a_commit_is_short(self) -> None:
        asterisk = AsteriskDouble(["1"])

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("confirm"))
            await line.before_saving()

        await heard_by(asterisk, flow)

        pending = position(asterisk, "SET VARIABLE IVR_SAVED")
        assert asterisk.commands[pending - 1] == 'SET VARIABLE TIMEOUT(absolute) "8"'


async def confirmed(line: AgiLine, stored: list[str], receipts: Sequence[str] = ("4712",)) -> None:
    """What the flow does with a confirmation."""
    await line.before_confirming(REQUEST)
    keys = await line.ask(prompt("confirm"))
    if keys.digits == "1":
        await line.before_saving()
        stored.extend(receipts)
        await line.saved(receipts)
        await line.outcome("cancelled")
        await line.say(prompt("cancelled"))


class TestStoring:
    async def test_R18_pending_stands_in_the_channel_before_anything_is_stored(self) -> None:
        asterisk = AsteriskDouble(["1"])
        seen: list[str | None] = []

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("confirm"))
            await line.before_saving()
            seen.append(asterisk.variables.get("IVR_SAVED"))
            await line.saved(["4712", "0815"])
            seen.append(asterisk.variables.get("IVR_SAVED"))
            await line.outcome("cancelled")
            seen.append(asterisk.variables.get("IVR_OUTCOME"))

        await heard_by(asterisk, flow)

        assert seen == ["pending", "4712-0815", "cancelled"]

    async def test_nothing_stored_is_said_as_nothing(self) -> None:
        asterisk = AsteriskDouble(["1"])
        seen: list[str] = []

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("confirm"))
            await line.before_saving()
            await line.saved([])
            seen.append(asterisk.variables["IVR_SAVED"])

        await heard_by(asterisk, flow)

        assert seen == [""]

    async def test_R18_the_key_of_the_question_before_never_passes_for_a_confirmation(self) -> None:
        asterisk = AsteriskDouble(["1", "x"])

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("menu"))
            await confirmed(line, [])

        await heard_by(asterisk, flow)

        cleared = position(asterisk, 'SET VARIABLE IVR_KEYS ""')
        assert cleared < position(asterisk, "SET VARIABLE IVR_REQUEST") < position(asterisk, "SET VARIABLE IVR_ASKED")
        assert asterisk.variables["IVR_KEYS"] == ""

    async def test_the_request_stands_with_the_channel_while_its_confirmation_is_asked_and_no_longer(self) -> None:
        asterisk = AsteriskDouble(["2", "1"])
        seen: list[tuple[str, str]] = []

        async def flow(line: AgiLine) -> None:
            await line.before_confirming(REQUEST)
            seen.append((asterisk.variables["IVR_ASKED"], asterisk.variables["IVR_REQUEST"]))
            await line.ask(prompt("confirm"))
            seen.append((asterisk.variables["IVR_ASKED"], asterisk.variables["IVR_REQUEST"]))

        await heard_by(asterisk, flow)

        assert seen == [(asked(REQUEST), REQUEST), ("", REQUEST)]

    async def test_R18_a_confirmed_request_stands_until_it_is_stored_so_that_another_gateway_can_do_it(self) -> None:
        dies_before, dies_after = AsteriskDouble(["1"]), AsteriskDouble(["1"])

        async def flow(line: AgiLine) -> None:
            await line.before_confirming(REQUEST)
            await line.ask(prompt("confirm"))
            await line.before_saving()

        async def whole_flow(line: AgiLine) -> None:
            await flow(line)
            await line.saved(["4712"])

        await heard_by(dies_before, flow)
        await heard_by(dies_after, whole_flow)

        assert (dies_before.variables["IVR_ASKED"], dies_before.variables["IVR_KEYS"]) == (asked(REQUEST), "1")
        assert dies_after.variables["IVR_ASKED"] == ""

    @pytest.mark.parametrize("request_text", ['a "quoted" \\ request', "${IVR_KEYS}", "a,b&c|d", "(a) (b)", "x" * 800])
    async def test_a_request_of_hostile_characters_comes_back_as_it_was(self, request_text: str) -> None:
        asterisk = AsteriskDouble(["1x"])

        async def flow(line: AgiLine) -> None:
            await line.before_confirming(request_text)
            await line.ask(prompt("confirm"))

        async def on_line(line: AgiLine, call: IncomingCall) -> None:
            await flow(line)

        async with serving(on_line) as running:
            await asterisk.call(HOST, running.port)
            await asterisk.hangup_handler(HOST, running.port)

        assert [call.request for call in running.hungup] == [request_text]

    async def test_a_request_with_a_line_end_is_refused_and_nothing_is_sent(self) -> None:
        asterisk = AsteriskDouble(["1"])

        async def flow(line: AgiLine) -> None:
            with pytest.raises(ValueError, match="printable ASCII"):
                await line.before_confirming("a\nHANGUP")

        await heard_by(asterisk, flow)

        assert "IVR_ASKED" not in asterisk.variables


class TestHangingUp:
    async def test_R18_a_hang_up_before_the_key_confirms_nothing(self) -> None:
        asterisk = AsteriskDouble(["x"])
        stored: list[str] = []

        async def on_line(line: AgiLine, call: IncomingCall) -> None:
            await confirmed(line, stored)

        async with serving(on_line) as running:
            await asterisk.call(HOST, running.port)
            reported = await asterisk.hangup_handler(HOST, running.port)

        assert not reported
        assert (stored, running.endings) == ([], ["hung_up"])

    @pytest.mark.parametrize("exits_on_hangup", [True, False])
    async def test_R18_a_hang_up_right_after_the_key_has_confirmed_even_when_asterisk_does_not_tell_us(
        self, exits_on_hangup: bool
    ) -> None:
        asterisk = AsteriskDouble(["1x"], exits_on_hangup=exits_on_hangup)
        stored: list[str] = []

        async def on_line(line: AgiLine, call: IncomingCall) -> None:
            await confirmed(line, stored)

        async with serving(on_line) as running:
            await asterisk.call(HOST, running.port)
            await asterisk.hangup_handler(HOST, running.port)

        completed = [call.request for call in running.hungup]
        assert (stored, completed) == (([], [REQUEST]) if exits_on_hangup else (["4712"], []))
        assert asterisk.variables["IVR_SAVED"] == "4712"

    @pytest.mark.parametrize("seen_by_read", [True, False])
    async def test_R18_a_key_that_read_still_delivers_counts_whatever_its_status(self, seen_by_read: bool) -> None:
        asterisk = AsteriskDouble(["1x"], commands_after_hangup=1, hangup_seen_by_read=seen_by_read)
        stored: list[str] = []

        running = await heard_by(asterisk, lambda line: confirmed(line, stored))

        assert stored == ["4712"]
        assert running.endings == ["hung_up"]

    async def test_a_hang_up_in_another_question_says_what_was_keyed(self) -> None:
        asterisk = AsteriskDouble(["12x"], commands_after_hangup=1)
        raised: list[str] = []

        async def flow(line: AgiLine) -> None:
            try:
                await line.ask(prompt("enter-code"), digits=5)
            except HungUp as hung_up:
                raised.append(hung_up.keys)

        await heard_by(asterisk, flow)

        assert raised == ["12"]

    async def test_storing_goes_on_when_the_caller_goes_and_the_next_word_says_so(self) -> None:
        asterisk = AsteriskDouble(["1x"], commands_after_hangup=1)
        did: list[str] = []

        async def flow(line: AgiLine) -> None:
            await line.before_confirming(REQUEST)
            await line.ask(prompt("confirm"))
            await line.before_saving()
            did.append("stored")
            await line.saved(["4712"])
            await line.outcome("cancelled")
            for word in (line.say(prompt("cancelled")), line.ask(prompt("menu")), line.before_confirming(REQUEST)):
                with pytest.raises(HungUp):
                    await word
            did.append("ended")

        await heard_by(asterisk, flow)

        assert did == ["stored", "ended"]

    @pytest.mark.parametrize("at", ["GET FULL", 'SET VARIABLE IVR_ASKED ""', "SET VARIABLE IVR_SAVED"])
    async def test_R18_wherever_the_connection_ends_a_change_is_stored_or_nobody_asked_for_it(self, at: str) -> None:
        whole = AsteriskDouble(["1"])
        await heard_by(whole, lambda line: confirmed(line, []))
        cut = AsteriskDouble(["1"], faults=Faults(instead={position(whole, at): None}))
        stored: list[str] = []

        running = await heard_by(cut, lambda line: confirmed(line, stored))

        # Before the key was read nothing is stored by this call; the hangup handler does it then.
        assert stored == ([] if at == "GET FULL" else ["4712"])
        assert running.endings == ["hung_up"]

    async def test_a_process_that_stood_still_after_the_key_stores_nothing_behind_the_callers_back(self) -> None:
        whole = AsteriskDouble(["1"])
        await heard_by(whole, lambda line: confirmed(line, []))
        gone = AsteriskDouble(["1"], faults=Faults(instead={position(whole, "SET VARIABLE IVR_SAVED"): None}))
        stored: list[str] = []

        # Without any margin every pause is longer than the dead-man timer's.
        await heard_by(gone, lambda line: confirmed(line, stored), limits=AgiLimits(margin_s=0))

        assert stored == []


class TestFailures:
    @pytest.mark.parametrize(
        "reply",
        [
            b"510 Invalid or unknown command\n",
            b"520-Invalid command syntax.  Proper usage follows:\n Usage: 200 result=1\n520 End of proper usage.\n",
            b"520 Invalid command syntax.  Proper usage not available.\n",
            b"200 result=-2\n",
            b"200 hello\n",
            b"\x00\xff\xfe\n",
            b"200 result=1 (nonsense)\n",
        ],
    )
    async def test_a_reply_that_cannot_be_ends_the_call_as_our_fault(self, reply: bytes) -> None:
        whole = AsteriskDouble(["1"])
        await answer_to(whole)
        asterisk = AsteriskDouble(["1"], faults=Faults(instead={position(whole, "GET FULL"): reply}))

        async def flow(line: AgiLine) -> None:
            with pytest.raises(LineFailed):
                await line.ask(prompt("menu"))
            raise LineFailed("as the flow lets it through")

        running = await heard_by(asterisk, flow)

        assert running.endings == ["line_failed"]
        assert "IVR_ENDED" not in asterisk.variables

    async def test_a_dead_channel_is_a_hang_up(self) -> None:
        whole = AsteriskDouble(["1"])
        await answer_to(whole)
        dead = b"511 Command Not Permitted on a dead channel\n"
        asterisk = AsteriskDouble(["1"], faults=Faults(instead={position(whole, "ANSWER"): dead}))

        running = await heard_by(asterisk, lambda line: line.ask(prompt("menu")))

        assert running.endings == ["hung_up"]

    async def test_hang_up_lines_and_usage_blocks_never_shift_a_reply(self) -> None:
        whole = AsteriskDouble(["1"])
        await answer_to(whole)
        while_asked = range(position(whole, "ANSWER"), len(whole.commands))
        noise = dict.fromkeys(while_asked, b"HANGUP\n100 result=0 Trying...\n")
        asterisk = AsteriskDouble(["7"], faults=Faults(before=noise))

        # The caller is gone by then, and the key still belongs to its question.
        assert await answer_to(asterisk) == Keys("7")

    async def test_an_asterisk_that_stands_still_fails_the_line_in_time(self) -> None:
        asterisk = AsteriskDouble(["1"], faults=Faults(instead={2: b""}))

        running = await heard_by(asterisk, lambda line: line.ask(prompt("menu")), limits=AgiLimits(reply_s=0.5))

        assert running.endings == ["line_failed"]

    async def test_a_failure_while_saying_what_was_stored_is_raised_at_the_next_word_only(self) -> None:
        whole = AsteriskDouble(["1"])
        await heard_by(whole, lambda line: confirmed(line, []))
        told = position(whole, 'SET VARIABLE IVR_SAVED "4712"')
        asterisk = AsteriskDouble(["1"], faults=Faults(instead={told: b"510 Invalid or unknown command\n"}))
        stored: list[str] = []

        running = await heard_by(asterisk, lambda line: confirmed(line, stored))

        assert stored == ["4712"]
        assert running.endings == ["line_failed"]

    async def test_nothing_is_stored_when_pending_could_not_be_said(self) -> None:
        whole = AsteriskDouble(["1"])
        await heard_by(whole, lambda line: confirmed(line, []))
        told = position(whole, 'SET VARIABLE IVR_SAVED "pending"')
        asterisk = AsteriskDouble(["1"], faults=Faults(instead={told: b"510 Invalid or unknown command\n"}))
        stored: list[str] = []

        running = await heard_by(asterisk, lambda line: confirmed(line, stored))

        assert stored == []
        assert running.endings == ["line_failed"]

    async def test_two_commands_are_never_in_flight(self) -> None:
        asterisk = AsteriskDouble(["1"])

        async def flow(line: AgiLine) -> None:
            answers = await asyncio.gather(line.ask(prompt("one")), line.ask(prompt("two")), return_exceptions=True)
            assert sum(isinstance(answer, LineFailed) for answer in answers) == 1

        await heard_by(asterisk, flow)

    async def test_an_abandoned_command_lets_no_other_one_out(self) -> None:
        asterisk = AsteriskDouble(["1"], faults=Faults(instead={4: b""}))

        async def flow(line: AgiLine) -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(line.ask(prompt("menu")), 0.05)
            with pytest.raises(LineFailed, match="before the reply"):
                await line.ask(prompt("menu"))

        await heard_by(asterisk, flow)

    async def test_a_call_ends_at_its_longest_length_but_never_in_the_middle_of_storing(self) -> None:
        asterisk = AsteriskDouble(["1", "1"])
        did: list[str] = []

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("confirm"))
            await asyncio.sleep(0.6)
            await line.before_saving()
            await line.saved(["4712"])
            did.append("stored")
            with pytest.raises(CallTooLong):
                await line.say(prompt("cancelled"))
            await line.ask(prompt("menu"))

        running = await heard_by(asterisk, flow, limits=AgiLimits(call_s_max=0.5))

        assert did == ["stored"]
        assert running.endings == ["too_long"]
        assert asterisk.variables["IVR_SAVED"] == "4712"

    async def test_no_keyed_digit_is_ever_logged(self) -> None:
        asterisk = AsteriskDouble(["50004", "4321", "x"])

        async def flow(line: AgiLine) -> None:
            await line.ask(prompt("enter-code"), digits=5)
            await line.ask(prompt("enter-pin"), digits=4)
            await line.ask(prompt("menu"))

        running = await heard_by(asterisk, flow)

        assert running.events
        assert "50004" not in repr(running.events)
        assert "4321" not in repr(running.events)
