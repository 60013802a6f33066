"""A town under its line: the window that is shut, a calendar edited meanwhile, rivals at one pupil, a wrong key, `make run`.

Each scene has a town of its own; all are played at once, since they are mostly waiting.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest
import pytest_asyncio
from caller import Caller, free_udp_port
from product import PEOPLE, Line, Outcomes, PutUp, Someone, Together, Voice, confirm_cancel, state
from town import EVENING, HOUSE, MONDAY, NOON, STARTS_S, STOPS_S, TOWN, free_tcp_port, open_town

from core.changes import Presence
from core.window import Channel
from gateway.installation import PIN_KEY_FILE, secrets_folder
from gateway.pin_key import load_or_create_pin_key

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

FIRST, SECOND = PEOPLE[:2]
TUESDAY = date(2026, 11, 24)
RIVALS = PEOPLE[2:5]
# Seconds from the start of the other process, which takes about as long to begin, to the confirming key.
LEADS_S = (0.8, 1.6, 2.4)
ANNA, ANNAS_NUMBER = "50004", "+390350000101"

SCENES = Together()
at_once = SCENES.at_once


@dataclass(frozen=True, slots=True)
class Place:
    """What a scene is played with."""

    put_up: PutUp
    voice: Voice
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scenes(put_up: PutUp, voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Outcomes]:
    """All scenes, played at the same time."""
    async with SCENES.going_on(Place(put_up, voice, tmp_path_factory.mktemp("scenes"))) as outcomes:
        yield outcomes


@at_once
async def noon(place: Place) -> None:
    async with place.put_up("noon", at=NOON) as line:
        async with line.call(FIRST.number) as caller:
            await line.voice.wait_for(caller, "offer-more")
            await caller.press("1")
            await caller.wait_until_heard(line.voice.clip("hour/18"), times=2)

        shut = ("phrase/outside_window-1", "hour/18")
        await line.voice.assert_heard(caller, "welcome", *shut, "offer-more", *shut, never=("offer-cancel",))
        assert await line.changes(FIRST.code) == []
        [refusal] = await line.town.refusals(FIRST.code)
        assert (refusal.action, refusal.outcome, refusal.channel) == ("cancel", "outside_window", Channel.PHONE)
        record = await line.town.call_from(FIRST.number)
        assert (record.outcome, record.call) == ("outside_window", refusal.session)


async def test_R11_R26_at_noon_the_line_says_when_it_opens_and_the_refusal_is_kept(scenes: Outcomes) -> None:
    await scenes(noon)


SIX_MISTAKES = """\
exceptions:
  - {closed: 2026-02-30, why: A day that is none}
  - {closed: 2026-12-05..2026-12-01, why: Backwards}
  - {closed: 2026-12-14, why: A school that is none, school: liceo}
  - {open: 2026-12-23, why: Contradiction}
"""


@at_once
async def edited(place: Place) -> None:
    async with place.put_up("edited") as line:
        [gateway] = line.gateways
        calendar = line.town.config / "municipalities" / TOWN / "calendar.yaml"
        told = calendar.read_text(encoding="utf-8")
        closed = told.replace("exceptions:\n", "exceptions:\n  - {closed: 2026-11-23, why: Sciopero}\n")
        calendar.write_text(closed, encoding="utf-8")
        await gateway.wait_for("calendar_in_force")
        caller = await _cancels(line, FIRST)
        await line.cancelled(FIRST.code, TUESDAY)
        await line.voice.assert_heard(
            caller, state("Anna", TUESDAY, Presence.PRESENT), confirm_cancel(TUESDAY, "Anna"), "phrase/cancelled-1"
        )

        wrong = closed.replace("exceptions:\n", SIX_MISTAKES).replace('at: "08:30"', 'at: "25:00"') + "patrons: none\n"
        calendar.write_text(wrong, encoding="utf-8")
        await gateway.wait_for("calendar_refused", times=6)
        refused = [each["mistake"] for each in gateway.lines("calendar_refused")]
        assert all(re.match(rf"{re.escape(str(calendar))}:\d+:\d+: ", mistake) for mistake in refused)
        code, checked, _ = await line.town.mensa("calendar", "check")
        assert (code, checked.splitlines()) == (1, refused)
        health = await gateway.health()
        assert health["status"] == "degraded"
        assert health["parts"][f"calendar:{TOWN}"] == "6 mistakes in its files; the one before is in force"
        await _cancels(line, SECOND)
        await line.cancelled(SECOND.code, TUESDAY)


async def test_R23_an_edit_counts_for_the_next_call_and_one_with_mistakes_is_refused(scenes: Outcomes) -> None:
    await scenes(edited)


async def _cancels(line: Line, who: Someone) -> Caller:
    async with line.call(who.number) as caller:
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("1")
        await line.voice.wait_for(caller, "confirm-keys")
        await caller.press("1")
        await line.voice.wait_for(caller, "phrase/cancelled-2")
    return caller


async def _rivals(line: Line, who: Someone, lead_s: float) -> None:
    async with line.call(who.number) as caller:
        await line.voice.wait_for(caller, "offer-cancel")
        await caller.press("1")
        await line.voice.wait_for(caller, "confirm-keys")
        office = asyncio.create_task(line.town.mensa("change", "cancel", who.code, "--day", str(MONDAY), "--json"))
        await asyncio.sleep(lead_s)
        await caller.press("1")
        await line.voice.wait_for(caller, "offer-undo-cancel")
        code, told, _ = await office
    change = await line.cancelled(who.code)
    answers = {(await line.town.call_from(who.number)).outcome, json.loads(told)["outcome"]}
    assert (code, answers) == (0, {"cancelled", "already_cancelled"})
    by_phone = change.channel is Channel.PHONE
    heard = "phrase/cancelled-1" if by_phone else "phrase/already_cancelled-1"
    await line.voice.assert_heard(caller, heard, f"digits/{change.receipt[:2]}")


@at_once
async def contested(place: Place) -> None:
    async with place.put_up("contested") as line:
        await asyncio.gather(*(_rivals(line, *each) for each in zip(RIVALS, LEADS_S, strict=True)))


async def test_a_call_and_the_office_that_change_one_pupil_at_once_make_one_change(scenes: Outcomes) -> None:
    await scenes(contested)


@at_once
async def with_another_key(place: Place) -> None:
    async with open_town(place.folder / "key", place.voice.folder) as town:
        load_or_create_pin_key(place.folder / "another.key")
        shutil.copy(place.folder / "another.key", secrets_folder(town.configuration) / PIN_KEY_FILE)

        code, _, told = await town.mensa("serve")

        assert code == 2
        assert "PIN key: its fingerprint is" in told
        assert "put the database's own key file back" in told


async def test_a_start_with_a_pin_key_that_is_not_the_databases_says_so_and_stops(scenes: Outcomes) -> None:
    await scenes(with_another_key)


@dataclass(slots=True)
class Rehearsal:
    """`mensa run`, what `make run` starts, on a copy of the configuration and on free ports."""

    folder: Path
    sounds: Path
    sip_port: int

    def environment(self) -> dict[str, str]:
        first = 40_000 + free_tcp_port() % 50 * 100
        ports = {
            "SIP__PORT": self.sip_port,
            "SIP__WEBSOCKET_PORT": free_tcp_port(),
            "SIP__RTP_FIRST": first,
            "SIP__RTP_LAST": first + 99,
            "SIP__CALLS_MAX": 50,
            "AMI__PORT": free_tcp_port(),
            "AGI__PORT": free_tcp_port(),
            "WEB__PORT": free_tcp_port(),
        }
        own = {f"MENSA_{name}": str(value) for name, value in ports.items()}
        return {**os.environ, "PYTHONPATH": str(HOUSE), "MENSA_SOUNDS": str(self.sounds), **own}

    async def start(self, log: Path, *options: str) -> asyncio.subprocess.Process:
        """As soon as it takes calls, or has ended."""
        with log.open("wb") as out:
            process = await self._command("run", *options, out=out.fileno())
        for _ in range(int(STARTS_S / 0.1)):
            if process.returncode is not None or '"gateway_ready"' in _text(log):
                return process
            await asyncio.sleep(0.1)
        process.kill()
        raise AssertionError(f"mensa run is not up after {STARTS_S} s: {_text(log)}")

    async def mensa(self, *arguments: str) -> str:
        process = await self._command(*arguments, out=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(process.communicate(), STARTS_S)
        return out.decode()

    async def _command(self, *arguments: str, out: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway.cli", *arguments, "--config", str(self.folder / "config"),
            stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.folder, env=self.environment(),
        )  # fmt: skip

    async def presence(self) -> str:
        told = await self.mensa("presence", ANNA, "--from", str(MONDAY), "--to", str(MONDAY), "--json")
        document: Sequence[dict[str, str]] = json.loads(told)["days"]
        return document[0]["presence"]

    def processes(self) -> list[str]:
        """Those that have something of this folder mounted: its Asterisk's."""
        found = []
        for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
            try:
                if str(self.folder) in mounts.read_text():
                    found.append(mounts.parent.name)
            except OSError:
                # It ended while we looked.
                continue
        return found


def _text(log: Path) -> str:
    return log.read_text(encoding="utf-8")


async def interrupted(process: asyncio.subprocess.Process) -> int:
    """Ctrl-C, and its exit code."""
    process.send_signal(signal.SIGINT)
    return await asyncio.wait_for(process.wait(), STOPS_S)


@at_once
async def make_run(place: Place) -> None:
    """A call, a rival start, Ctrl-C; then once more with the data kept."""
    folder = place.folder / "run"
    shutil.copytree(HOUSE / "config", folder / "config")
    run = Rehearsal(folder, place.voice.folder, free_udp_port())
    logs = [folder / f"run-{number}.log" for number in range(3)]
    processes = [await run.start(logs[0], "--at", EVENING)]
    try:
        rival = await run.start(logs[1])
        async with Caller(folder, run.sip_port, to="800000100", from_=ANNAS_NUMBER) as caller:
            await place.voice.wait_for(caller, "offer-cancel")
            await caller.press("1")
            await place.voice.wait_for(caller, "confirm-keys")
            await caller.press("1")
            await place.voice.wait_for(caller, "phrase/cancelled-2")
        presence, were_up = await run.presence(), run.processes()
        codes = [await interrupted(processes[0])]
        were_left = run.processes()
        processes.append(await run.start(logs[2], "--keep"))
        presence_kept, clock = await run.presence(), json.loads(await run.mensa("clock", "--json"))
        codes.append(await interrupted(processes[1]))
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()

    assert (rival.returncode, "another make run is up in this folder" in logs[1].read_text()) == (2, True)
    heard = (state("Anna", MONDAY, Presence.PRESENT), confirm_cancel(MONDAY, "Anna"))
    await place.voice.assert_heard(caller, "welcome", *heard)
    assert presence == presence_kept == "cancelled"
    assert were_up
    assert (codes, were_left, run.processes()) == ([0, 0], [], [])
    assert "Pronto Mensa answers for Comune di Roccachiara" in logs[0].read_text()
    # The call alone took longer than ten seconds, and no part of this takes ten minutes.
    assert "2026-11-22T18:30:10" < clock["local"] < "2026-11-22T18:40"


async def test_make_run_answers_puts_everything_away_and_goes_on_where_it_ended(scenes: Outcomes) -> None:
    await scenes(make_run)
