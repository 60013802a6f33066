"""The dialplan on a real Asterisk, with the tests' own AGI program in the gateway's place."""

import asyncio
import contextlib
import signal
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from ami_reader import ami_events
from caller import KeysBy
from conftest import CALLER, Crowd, Dial, RunAgi, SippCall, StartAsterisk, Starter, no_channel_left
from heard import Samples

from gateway.asterisk import AsteriskFailed

pytestmark = pytest.mark.e2e

# A TCP port nothing answers at: the discard service, which no Debian runs.
NOBODY = 9

TAKE = ["ANSWER", "SET VARIABLE IVR_STARTED 1", "SET VARIABLE TIMEOUT(response) 3", "SET VARIABLE TIMEOUT(digit) 2"]
END = ["SET VARIABLE IVR_ENDED 1"]

NOTHING_CHANGED = "it/phrase/fallback-nothing-changed"


def question(clips: str = "phrase/menu", digits: int = 1, seconds: int = 20) -> list[Any]:
    """A question as the gateway asks it: the dead-man timer first."""
    return [f"SET VARIABLE TIMEOUT(absolute) {seconds}", ["ask", clips, digits]]


def confirmation(request: str) -> list[Any]:
    """A confirmation as the gateway asks it: the key of the question before is emptied first."""
    return [
        'SET VARIABLE IVR_KEYS ""',
        f"SET VARIABLE IVR_REQUEST {request}",
        f"SET VARIABLE IVR_ASKED confirm-{request}",
        *question("phrase/confirm"),
    ]


async def test_clips_are_heard_and_keys_arrive_in_order(
    asterisk: StartAsterisk, dial: Dial, agi_program: RunAgi, clips: dict[str, Samples]
) -> None:
    asked = [*question("phrase/welcome&phrase/menu"), *question("phrase/confirm"), *question("phrase/done")]
    gateway = await agi_program([*TAKE, *asked, *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    async with dial(pbx) as caller:
        await caller.wait_until_heard(clips["it/phrase/menu"])
        await caller.press("1")
        await caller.wait_until_heard(clips["it/phrase/confirm"])
        await caller.press("2")
        await caller.wait_until_over()

    assert gateway.answers == ["1|OK", "2|OK", "|TIMEOUT"]
    assert caller.heard(clips) == ["it/phrase/welcome", "it/phrase/menu", "it/phrase/confirm", "it/phrase/done"]
    assert caller.they_hung_up


@pytest.mark.parametrize(("on_ms", "off_ms"), [(60, 40), (100, 60)])
async def test_a_whole_call_typed_ahead_in_one_burst_answers_each_question(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi, on_ms: int, off_ms: int
) -> None:
    asked = [*question(digits=5), *question(digits=4), *question(), *question("phrase/confirm")]
    gateway = await agi_program([*TAKE, *asked, *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    await sipp_call(pbx, keys="50004432113", on_ms=on_ms, off_ms=off_ms)

    assert gateway.answers == ["50004|OK", "4321|OK", "1|OK", "3|OK"]


@pytest.mark.parametrize("keys_by", ["rfc4733", "info", "tones"])
async def test_keys_arrive_however_the_phone_sends_them(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi, keys_by: KeysBy
) -> None:
    gateway = await agi_program([*TAKE, *question(digits=12), *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    await sipp_call(pbx, keys="1234567890*#", keys_by=keys_by)

    assert gateway.answers == ["1234567890*|OK"]


async def test_hash_ends_an_answer_and_silence_does_too(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, *question(digits=5), *question(digits=5), *question(digits=5), *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    await sipp_call(pbx, keys="12# # 34")

    assert gateway.answers == ["12|OK", "|OK", "34|TIMEOUT"]


async def test_R18_a_confirming_key_pressed_in_the_moment_of_hanging_up_reaches_the_gateway(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, *question(), *confirmation("1;k7;s3"), ["work", 5]])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    await sipp_call(pbx, keys="2 1x")

    await gateway.wait_for("ended")
    assert [list(note.values())[1:] for note in gateway.notes("left")] == [
        ["200 result=1 (confirm-1;k7;s3)", "200 result=1 (1;k7;s3)", "200 result=1 (1)", "200 result=0",
         "200 result=1 (800000100)"]
    ]  # fmt: skip
    assert [note["reply"] for note in gateway.notes("ended")] == ["200 result=1"]


# `EXEC Read` goes on to its end without its gateway, so the caller hangs up before any fallback.
async def test_R18_the_second_gateway_completes_what_the_first_can_no_longer(
    asterisk: StartAsterisk, dial: Dial, agi_program: RunAgi
) -> None:
    first = await agi_program(
        [*TAKE, "SET VARIABLE IVR_ASKED confirm-7", "SET VARIABLE IVR_KEYS 1",
         "SET VARIABLE TIMEOUT(absolute) 20", "EXEC Read OTHER,phrase/menu,1,,1"]
    )  # fmt: skip
    second = await agi_program([])
    pbx = await asterisk(gateways=(first.port, second.port))

    async with dial(pbx) as caller:
        await first.wait_for("reply", len(TAKE) + 3)
        first.send_signal(signal.SIGKILL)
        await caller.hang_up()

    await second.wait_for("ended")
    assert second.notes("left")[0]["IVR_ASKED"] == "200 result=1 (confirm-7)"


async def test_R18_who_hangs_up_with_the_confirming_key_has_confirmed_though_the_gateway_died_while_asking(
    asterisk: StartAsterisk, dial: Dial, agi_program: RunAgi, clips: dict[str, Samples]
) -> None:
    first = await agi_program([*TAKE, *confirmation("7")])
    second = await agi_program([])
    pbx = await asterisk(gateways=(first.port, second.port))

    async with dial(pbx) as caller:
        await caller.wait_until_heard(clips["it/phrase/confirm"])
        first.send_signal(signal.SIGKILL)
        await caller.press("1", off_ms=0)
        await caller.hang_up()

    await second.wait_for("ended")
    assert second.notes("left")[0]["IVR_ASKED"] == "200 result=1 (confirm-7)"


@pytest.mark.parametrize("keys", ["1 x", "1 2x"])
async def test_R18_who_hangs_up_without_the_confirming_key_has_confirmed_nothing(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi, keys: str
) -> None:
    gateway = await agi_program([*TAKE, *question(), *confirmation("7"), ["leave"]])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    await sipp_call(pbx, keys=keys)
    await no_channel_left(pbx)

    assert gateway.notes("hungup") == []


async def test_R18_a_confirmation_that_a_frozen_gateway_was_handed_is_completed_by_the_second_once_that_is_gone(
    asterisk: StartAsterisk, dial: Dial, agi_program: RunAgi
) -> None:
    first = await agi_program(
        [*TAKE, "SET VARIABLE IVR_ASKED confirm-7", "SET VARIABLE IVR_KEYS 1",
         "SET VARIABLE TIMEOUT(absolute) 20", "EXEC Read OTHER,phrase/menu,1,,1"]
    )  # fmt: skip
    second = await agi_program([])
    pbx = await asterisk(gateways=(first.port, second.port), calls_max=1)

    async with dial(pbx) as caller:
        await first.wait_for("reply", len(TAKE) + 3)
        first.send_signal(signal.SIGSTOP)
        await caller.hang_up()
    async with dial(pbx) as next_caller:
        # The channel that waits keeps nobody out.
        assert next_caller.status == 200
        first.send_signal(signal.SIGKILL)

    await second.wait_for("ended")
    assert second.notes("left")[0]["IVR_ASKED"] == "200 result=1 (confirm-7)"


SAVED = [
    ("", "it", ["it/phrase/fallback-nothing-changed"]),
    ("", "en", ["en/phrase/fallback-nothing-changed"]),
    ("pending", "it", ["it/phrase/fallback-perhaps"]),
    ("4712", "it", ["it/phrase/fallback-saved", "it/digits/47", "it/digits/12"]),
    ("47123", "en", ["en/phrase/fallback-saved", "en/digits/47", "en/digits/12", "en/digits/3"]),
    ("4712-4713", "it", ["it/phrase/fallback-saved-all"]),
]


@pytest.mark.parametrize(
    ("how", "saved", "language", "told"),
    [*((signal.SIGKILL, *case) for case in SAVED), *((signal.SIGSTOP, *case) for case in SAVED[::2])],
)
async def test_a_caller_whose_gateway_died_in_the_call_hears_what_was_saved(
    asterisk: StartAsterisk,
    dial: Dial,
    agi_program: RunAgi,
    clips: dict[str, Samples],
    how: signal.Signals,
    saved: str,
    language: str,
    told: list[str],
) -> None:
    steps = [*TAKE, f"SET VARIABLE IVR_LANGUAGE {language}", f'SET VARIABLE IVR_SAVED "{saved}"']
    gateway = await agi_program([*steps, *question(seconds=4)])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    async with dial(pbx) as caller, ami_events(pbx.settings) as events:
        await caller.wait_until_heard(clips["it/phrase/menu"])
        gateway.send_signal(how)
        await caller.wait_until_over()
        log = await events.wait_for("UserEvent")

    assert caller.heard(clips) == ["it/phrase/menu", *told]
    assert log["Saved"] == saved
    assert log["Fallback"] == told[0].removeprefix(f"{language}/phrase/")


async def test_a_gateway_that_left_without_ending_the_call_is_a_dead_one(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi, clips: dict[str, Samples]
) -> None:
    gateway = await agi_program([*TAKE, ["leave"]])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    caller = await sipp_call(pbx)

    assert caller.heard(clips) == [NOTHING_CHANGED]


async def test_what_a_frozen_gateway_was_asked_is_not_done_after_the_caller_heard_that_nothing_changed(
    asterisk: StartAsterisk, dial: Dial, agi_program: RunAgi, clips: dict[str, Samples]
) -> None:
    gateway = await agi_program(
        [*TAKE, "SET VARIABLE IVR_ASKED confirm-7", "SET VARIABLE IVR_KEYS 1", "SET VARIABLE TIMEOUT(absolute) 2",
         ["stop"]]
    )  # fmt: skip
    other = await agi_program([])
    pbx = await asterisk(gateways=(gateway.port, other.port))

    async with dial(pbx) as caller:
        await caller.wait_until_heard(clips[NOTHING_CHANGED])
        await caller.wait_until_over()
    await no_channel_left(pbx)

    assert gateway.notes("hungup") + other.notes("hungup") == []


@pytest.mark.parametrize("first", ["absent", "refusing", "frozen"])
async def test_a_call_that_the_first_gateway_does_not_take_is_taken_by_the_second(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi, clips: dict[str, Samples], first: str
) -> None:
    second = await agi_program([*TAKE, *question(), *END])
    match first:
        case "absent":
            port = NOBODY
        case "refusing":
            port = (await agi_program(["SET VARIABLE IVR_REFUSED draining"])).port
        case _:
            port = (await agi_program([["stop"]])).port
    pbx = await asterisk(gateways=(port, second.port))

    caller = await sipp_call(pbx, keys="1")

    assert second.answers == ["1|OK"]
    assert second.notes("line")[0]["agi_extension"] == "800000100"
    assert caller.heard(clips, first_s=0.25) == ["it/phrase/menu"]


async def test_when_no_gateway_answers_the_caller_hears_that_nothing_changed(
    asterisk: StartAsterisk, sipp_call: SippCall, clips: dict[str, Samples]
) -> None:
    pbx = await asterisk(gateways=(NOBODY, NOBODY))

    async with ami_events(pbx.settings) as events:
        caller = await sipp_call(pbx)
        log = await events.wait_for("UserEvent")

    assert caller.heard(clips) == [NOTHING_CHANGED]
    assert (log["Started"], log["Fallback"], log["Dialled"]) == ("", "fallback-nothing-changed", "800000100")


async def test_when_all_gateways_are_full_the_caller_gets_a_busy_tone_and_pays_nothing(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program(["SET VARIABLE IVR_REFUSED full"])
    pbx = await asterisk(gateways=(gateway.port, gateway.port))

    caller = await sipp_call(pbx)

    assert caller.status == 486
    assert len(gateway.notes("line")) == 2


async def test_a_call_beyond_the_cap_gets_a_busy_tone_and_the_next_one_is_taken_again(
    asterisk: StartAsterisk, dial: Dial, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, *question(), *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY), calls_max=2)

    async with dial(pbx) as one, dial(pbx) as two:
        third = await sipp_call(pbx)
    await no_channel_left(pbx)
    fourth = await sipp_call(pbx, keys="1")

    assert [one.status, two.status, third.status, fourth.status] == [200, 200, 486, 200]
    assert len(gateway.notes("line")) == 3


CLAIMED = {
    "+390350000101": "+390350000101",
    "0350000101": "0350000101",
    None: "unknown",
    "anna": "unknown",
    "39%22$%7BSHELL(id)%7D0": "390",
    "9" * 60: "9" * 20,
}


async def test_only_digits_of_what_the_caller_claims_reach_the_gateway(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    for claimed in CLAIMED:
        await sipp_call(pbx, from_=claimed)

    told = [(call["agi_callerid"], call["agi_calleridname"]) for call in gateway.notes("line")]
    assert told == [(shown, "unknown") for shown in CLAIMED.values()]


ANSWERED = ("800000100", "+39800000100", "0350000100", "390350000100", "00390350000100")
NOT_FOUND = ("800000101", "80000010", "1", "T", "s", "hangup")


async def test_only_configured_numbers_answer_in_whatever_form_they_are_dialled(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    statuses = {to: (await sipp_call(pbx, to=to)).status for to in ANSWERED + NOT_FOUND}

    assert statuses == dict.fromkeys(ANSWERED, 200) | dict.fromkeys(NOT_FOUND, 404)
    assert [note["agi_extension"] for note in gateway.notes("line")] == list(ANSWERED)


async def test_nothing_that_can_call_out_or_run_a_program_is_loaded(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program(
        [*TAKE, "EXEC Dial PJSIP/line/sip:1@127.0.0.1", "EXEC System id", "GET FULL VARIABLE ${SHELL(id)}", *END]
    )
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    await sipp_call(pbx)

    replies = [note["reply"] for note in gateway.notes("reply")][len(TAKE) :]
    assert replies[:2] == ["200 result=-2", "200 result=-2"]
    assert "uid=" not in replies[2]
    applications = await pbx.command("core show applications")
    for forbidden in ("Dial:", "System:", "TrySystem:", "Originate:", "ExternalIVR:", "Record:", "MixMonitor:"):
        assert f" {forbidden}" not in applications
    assert " SHELL" not in await pbx.command("core show functions")
    assert "No such command" in await pbx.command("channel originate PJSIP/x application Hangup")


async def test_no_keyed_digit_stands_in_any_file_that_asterisk_wrote(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, *question(digits=8), *confirmation("7"), ["work", 5]])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    await sipp_call(pbx, keys="90817263 1x")
    await no_channel_left(pbx)

    assert gateway.answers[0] == "90817263|OK"
    written = [path for path in pbx.folder.rglob("*") if path.is_file()]
    assert pbx.log in written
    assert [path for path in written if b"90817263" in path.read_bytes() or b"0817" in path.read_bytes()] == []
    # An ordinary call leaves no warning either, so that one in the log means something.
    assert [line for line in pbx.log.read_text().splitlines() if "WARNING" in line or "ERROR" in line] == []


async def test_whoever_reads_along_on_the_ami_sees_calls_and_never_keys(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, "SET VARIABLE IVR_OUTCOME cancelled", *question(digits=8), *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    async with ami_events(pbx.settings) as events:
        await sipp_call(pbx, keys="90817263")
        log = await events.wait_for("UserEvent")
        await events.wait_for("Hangup")

    assert (log["UserEvent"], log["Outcome"], log["Ended"], log["Cause"]) == ("MensaCall", "cancelled", "1", "16")
    assert log["Uniqueid"] == gateway.notes("line")[0]["agi_uniqueid"]
    assert {event["Event"] for event in events.all} <= {"FullyBooted", "Newchannel", "Newstate", "UserEvent", "Hangup"}
    assert "90817263" not in str(events.all)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
async def test_an_instance_is_gone_with_its_mounts_when_who_started_it_ends(
    starter: Starter, how: signal.Signals
) -> None:
    folder, process = await starter()
    assert _processes_that_mounted(folder)

    process.send_signal(how)
    await process.wait()

    deadline = time.monotonic() + 10
    while left := _processes_that_mounted(folder):
        assert time.monotonic() < deadline, f"processes {left} outlived who started them"
        await asyncio.sleep(0.05)


def _processes_that_mounted(folder: Path) -> list[str]:
    found = []
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        # A process may end while we look.
        with contextlib.suppress(OSError):
            if str(folder) in mounts.read_text():
                found.append(mounts.parent.name)
    return found


async def test_a_second_instance_on_taken_ports_says_which_and_leaves_the_first_alone(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    for setting in ("sip_port", "ami_port", "websocket_port"):
        with pytest.raises(AsteriskFailed, match="Address already in use"):
            await asterisk(gateways=(gateway.port, NOBODY), **{setting: getattr(pbx.settings, setting)})

    assert (await sipp_call(pbx)).status == 200


async def test_a_browser_is_known_by_its_websocket_and_answered_with_encryption(asterisk: StartAsterisk) -> None:
    pbx = await asterisk(gateways=(NOBODY, NOBODY))
    sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 8\r\n"
    invite = (
        "INVITE sip:800000100@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/WS caller.invalid;branch=z9hG4bK-1\r\n"
        "From: <sip:+390350000101@127.0.0.1>;tag=1\r\nTo: <sip:800000100@127.0.0.1>\r\nCall-ID: 1\r\n"
        "CSeq: 1 INVITE\r\nContact: <sip:caller@caller.invalid;transport=ws>\r\nMax-Forwards: 70\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}"
    )

    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{pbx.settings.websocket_port}/ws", protocols=("sip",)) as socket,
    ):
        await socket.send_str(invite)
        trying, answer = [str((await socket.receive(timeout=10)).data) for _ in range(2)]

    assert trying.startswith("SIP/2.0 100 ")
    assert answer.startswith("SIP/2.0 200 ")
    assert "a=fingerprint:SHA-256 " in answer
    assert await pbx.command("channel request hangup all")


async def test_the_calls_that_are_up_can_be_asked_for(
    asterisk: StartAsterisk, dial: Dial, agi_program: RunAgi, clips: dict[str, Samples]
) -> None:
    gateway = await agi_program([*TAKE, *question(), *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    async with dial(pbx) as caller, ami_events(pbx.settings) as events:
        await caller.wait_until_heard(clips["it/phrase/menu"])
        events.ask("CoreShowChannels")
        channel = await events.wait_for("CoreShowChannel")
        await events.wait_for("CoreShowChannelsComplete")
        events.ask("Originate")
        refused = await events.wait_for("Error")

    assert (channel["CallerIDNum"], channel["Uniqueid"]) == (CALLER, gateway.notes("line")[0]["agi_uniqueid"])
    assert refused["Message"] == "Permission denied"


async def test_forty_calls_at_once_are_all_answered(asterisk: StartAsterisk, agi_program: RunAgi, crowd: Crowd) -> None:
    gateway = await agi_program([*TAKE, *question(), *question(), *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    await crowd(pbx, calls=40, keys="1,1")

    assert gateway.answers == ["1|OK"] * 80
