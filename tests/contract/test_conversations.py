"""Every conversation on the scripted line and again through the FastAGI socket: the same outcomes, the same clips in order.

The second time a real AgiServer holds the real flow, and a stand-in for Asterisk keys what the file says.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.outcomes import Accepted
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.rehearsal import Call, Called, Rehearsed, Stage, open_town_in, parse, read
from gateway.telephone import greeting_of
from ivr.agi import AgiLine, HungUpCall, IncomingCall
from ivr.flow import Desks, complete, parents_line, receipts
from ivr.line import Prompt
from ivr.pending import Pending
from ivr.spoken import clips
from ivr.terminal import ScriptedLine, SilentJournal
from tests.agi_serving import HOST, serving
from tests.asterisk_double import AsteriskDouble, parsed_arguments

CONVERSATIONS = Path(__file__).parents[1] / "conversations"
FILES = sorted(CONVERSATIONS.glob("*.txt"))
CATALOGUES = read_catalogues(phrases_folder())


def spoken(prompt: Prompt, language: str) -> list[str]:
    return [f"{language}/{clip}" for clip in clips(prompt, CATALOGUES[language])]


@dataclass(slots=True)
class ByScript:
    """Makes calls on the scripted line, and keeps the clips of each."""

    calls: list[list[str]] = field(default_factory=list)

    async def __call__(self, town: Rehearsed, desks: Desks, call: Call, session: str) -> Called:
        played: list[str] = []
        line = ScriptedLine(call.keys, on_prompt=lambda each, language: played.extend(spoken(each, language)))
        word = await parents_line(line, SilentJournal(), greeting_of(town.municipality), desks, call.caller, session)
        self.calls.append(played)
        return Called(line.heard, word)


@dataclass(slots=True)
class ByAgi:
    """Makes calls through a FastAGI server, and keeps the clips that Asterisk was told to play in each."""

    calls: list[list[str]] = field(default_factory=list)

    async def __call__(self, town: Rehearsed, desks: Desks, call: Call, session: str) -> Called:
        asterisk = AsteriskDouble(call.keys)
        prompts: list[str] = []
        words: list[str] = []

        async def on_line(line: AgiLine, incoming: IncomingCall) -> None:
            greeting = greeting_of(town.municipality)
            words.append(
                await parents_line(line, SilentJournal(), greeting, desks, incoming.caller or None, incoming.uniqueid)
            )

        async def on_hungup(hung_up: HungUpCall) -> Sequence[str]:
            pending = Pending.parse(hung_up.request)
            completed = await complete(pending, desks.booking, town.desks.store.pupils, desks.clock.read())
            outcomes = [outcome for _, outcome in completed]
            words.append(next((each for each in outcomes if isinstance(each, Accepted)), outcomes[0]).word)
            return receipts(outcomes)

        def rendered(prompt: Prompt, language: str) -> Sequence[str]:
            prompts.append(prompt.id)
            return spoken(prompt, language)

        async with serving(on_line, on_hungup=on_hungup, clips=rendered) as running:
            # As the dialplan leaves a number that was withheld.
            await asterisk.call(HOST, running.port, caller=call.caller or "unknown", uniqueid=session)
            await asterisk.hangup_handler(HOST, running.port, uniqueid=session)
            await running.all_calls_ended()

        assert asterisk.violations == []
        if not asterisk.hung_up:
            assert asterisk.variables["IVR_ENDED"] == "1"
            assert asterisk.variables["IVR_OUTCOME"] == words[-1]
        self.calls.append([clip for line in asterisk.commands for clip in clips_in(line)])
        return Called(tuple(prompts), words[-1])


def clips_in(command: str) -> list[str]:
    """The clips that an AGI command plays."""
    match parsed_arguments(command):
        case ["EXEC", "Read", data, *_]:
            return [clip for clip in data.split(",")[1].split("&") if clip]
        case ["EXEC", "Playback", data, *_]:
            return data.split(",")[0].split("&")
        case _:
            return []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_a_conversation_goes_through_asterisks_socket_as_it_is_written(file: Path) -> None:
    steps, mistakes = parse(read(file), file)
    assert mistakes == []
    by_script, by_agi = ByScript(), ByAgi()

    failures = []
    for make_call in (by_script, by_agi):
        stage = Stage(file, open_town_in(CONVERSATIONS / "config"), make_call=make_call)
        await stage.run(steps)
        failures += [str(failure) for failure in stage.failures]

    assert failures == []
    assert by_agi.calls == by_script.calls
