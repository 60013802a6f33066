"""Every key sequence up to a bound, on fresh data each: what no caller can do, whatever they press."""

from collections.abc import Sequence

import pytest

from core.changes import Change
from gateway.files.phrases import phrases_folder, read_catalogues
from ivr.explore import EVERYTHING, Explored, explore, play
from ivr.line import FirstName, FirstNames
from ivr.prompts import Catalogue
from ivr.questions import ROUNDS_MAX
from ivr.spoken import clips, composed_clips, required_clips, words
from ivr.terminal import HANG_UP
from tests.flow_bench import FlowBench, bench_at

CATALOGUES = read_catalogues(phrases_folder())
# Deep enough for every errand of the line with its confirmation, and one key more.
DEPTH_OF_EVERYTHING = 3
DEPTH_OF_WHAT_IS_OFFERED = 4
# The longest errand: code, PIN, a suspension until a date, and hearing of it again until the line gives up.
PROMPTS_MAX = 400
# What only one town needs is made at configuration.
OF_A_TOWN = ("name/", "town/", "school/", "words/")


@pytest.fixture(scope="module", params=["evening", "noon", "suspended", "siblings", "anonymous"])
def bench(request: pytest.FixtureRequest) -> FlowBench:
    return bench_at(request.param)


def _spoken_clips(call: Explored, catalogues: dict[str, Catalogue]) -> set[str]:
    return {clip for prompt in call.line.prompts for clip in clips(prompt, catalogues["it"])}


def test_R18_whatever_is_keyed_a_call_ends_and_changes_nothing_without_its_confirming_key(bench: FlowBench) -> None:
    known = {clip.name for clip in (*required_clips(CATALOGUES["it"]), *composed_clips("it"))}
    calls = confirmed = 0

    for call in explore(bench.start, DEPTH_OF_EVERYTHING):
        calls += 1
        changes = bench.changes_of(call)
        assert len(call.line.prompts) < PROMPTS_MAX, call.words
        assert not changes or _was_confirmed(call), (call.words, changes)
        confirmed += bool(changes)
        unknown = {clip for clip in _spoken_clips(call, CATALOGUES) if not clip.startswith(OF_A_TOWN)}
        assert unknown <= known, call.words
        assert all(words(prompt, CATALOGUES["en"]) for prompt in call.line.prompts if prompt.id != "silence-2")

    assert calls > 1_000
    assert confirmed or bench.is_shut or bench.needs_code


def test_R29_whatever_a_cook_keys_the_call_ends_names_no_pupil_and_changes_nothing() -> None:
    bench = bench_at("cook")
    known = {clip.name for clip in required_clips(CATALOGUES["it"])}
    told = 0

    for call in explore(bench.start, 2 + DEPTH_OF_EVERYTHING, _as_cook):
        ids = [prompt.id for prompt in call.line.prompts]
        slots = [slot for prompt in call.line.prompts for _, slot in prompt.slots]
        assert len(ids) < PROMPTS_MAX, call.words
        assert not bench.changes_of(call), call.words
        assert not [slot for slot in slots if isinstance(slot, FirstName | FirstNames)], call.words
        assert call.word == ("informed" if "kitchen-day" in ids else "not_identified"), call.words
        assert call.line.outcomes == [call.word], call.words
        assert {clip for clip in _spoken_clips(call, CATALOGUES) if not clip.startswith(OF_A_TOWN)} <= known, call.words
        told += "kitchen-day" in ids

    assert told > 1_000


def test_repeating_one_key_for_ever_ends_a_cooks_call() -> None:
    for key in EVERYTHING:
        call = play(bench_at("cook").start, ["90001", "7315", *[key] * (ROUNDS_MAX * 4)])

        assert call.question is None, key


def _as_cook(call: Explored) -> Sequence[str]:
    """The code and the PIN, once a wrong one, and then every key."""
    asked = {prompt.id for prompt in call.question or ()}
    if asked & {"enter-code", "enter-code-again"}:
        return ("90001",)
    if asked & {"enter-pin", "enter-pin-again"}:
        return ("7315", "0000")
    return EVERYTHING


def _was_confirmed(call: Explored) -> bool:
    """Whether some confirmation was spoken and answered with a 1 among the words."""
    return "confirm-keys" in call.line.heard and any(word.startswith("1") for word in call.words)


def test_R18_hanging_up_at_any_question_before_the_confirming_key_changes_nothing(bench: FlowBench) -> None:
    for call in explore(bench.start, DEPTH_OF_WHAT_IS_OFFERED, _offered):
        if call.question is None:
            continue
        before = bench.changes_of(call)

        left = play(bench.start, (*call.words, HANG_UP))

        assert bench.changes_of(left) == before, call.words


def test_R19_every_accepted_change_is_told_with_its_receipt(bench: FlowBench) -> None:
    for call in explore(bench.start, DEPTH_OF_WHAT_IS_OFFERED, _offered):
        changes: Sequence[Change] = bench.changes_of(call)
        told = " ".join(words(prompt, CATALOGUES["it"]) for prompt in call.line.prompts)

        for change in changes:
            assert " ".join(change.receipt) in told, call.words


def test_repeating_one_key_for_ever_ends_the_call(bench: FlowBench) -> None:
    for key in EVERYTHING:
        call = play(bench.start, [key] * (ROUNDS_MAX * 4))

        assert call.question is None, key


def _offered(call: Explored) -> Sequence[str]:
    """The keys that the open question names, and a date where one is asked for."""
    asked = {prompt.id for prompt in call.question or ()}
    if "enter-code" in asked or "enter-code-again" in asked:
        return ("50003", "59999")
    if "enter-pin" in asked or "enter-pin-again" in asked:
        return ("4712", "0000")
    if asked & {"enter-date", "enter-date-again"}:
        return ("0412", "3002")
    if asked & {"suspend-how", "resume-how", "confirm-keys"}:
        return ("1", "2")
    if "choose-all" in asked:
        return ("1", "2", "9")
    return ("1", "2", "3", "4", "5", "6")
