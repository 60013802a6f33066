"""The catalogues: the same phrases in every language, and mistakes in their files named by place."""

from pathlib import Path
from typing import get_args

import pytest

from core.outcomes import Outcome
from gateway.files.phrases import PhrasesWrong, phrases_folder, read_catalogue, read_catalogues, read_names
from ivr.prompts import PHRASES, Catalogue, Entry, SlotName, Stretch, mistakes_in
from ivr.spoken import GRAMMARS

CATALOGUES = read_catalogues(phrases_folder())


@pytest.fixture(params=sorted(GRAMMARS))
def catalogue(request: pytest.FixtureRequest) -> Catalogue:
    return CATALOGUES[request.param]


def written(folder: Path, text: str) -> Path:
    file = folder / "phrases.it.yaml"
    file.write_text(text, "utf-8")
    return file


def mistakes_of(file: Path) -> list[str]:
    with pytest.raises(PhrasesWrong) as wrong:
        read_catalogue(file)
    return [str(mistake).removeprefix(f"{file}:") for mistake in wrong.value.mistakes]


def test_every_language_has_every_phrase(catalogue: Catalogue) -> None:
    assert set(catalogue.entries) == set(PHRASES)


def test_every_language_fills_the_same_slots_in_the_same_order(catalogue: Catalogue) -> None:
    assert {entry.id: entry.slots for entry in catalogue.entries.values()} == dict(PHRASES)


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_every_outcome_of_an_action_has_a_prompt_of_its_own_word(outcome: type[Outcome]) -> None:
    assert outcome.word in PHRASES


def test_nobody_is_asked_to_press_a_key_that_does_something_else(catalogue: Catalogue) -> None:
    keys = {"cancel": "1", "bland": "2", "suspend": "3", "resume": "4", "undo": "5", "more": "6"}

    for phrase_id, entry in catalogue.entries.items():
        if phrase_id.startswith("offer-") and phrase_id not in {"offer-office", "offer-language"}:
            assert entry.words.endswith(f" {keys[phrase_id.split('-')[1]]}.")


def test_another_language_is_offered_in_that_language() -> None:
    assert CATALOGUES["it"]["offer-language"].voice == "en"
    assert CATALOGUES["en"]["offer-language"].voice == "it"


def test_a_slot_stands_between_the_stretches_that_are_clips() -> None:
    entry = CATALOGUES["it"]["cancelled"]

    assert entry.parts == (
        Stretch("Disdetta registrata ", "phrase/cancelled-1"),
        SlotName("time"),
        Stretch(". Codice di conferma: ", "phrase/cancelled-2"),
        SlotName("receipt"),
        Stretch(".", ""),
    )


def test_the_voice_reads_a_whole_sentence_or_one_that_goes_on_with_a_slot() -> None:
    said = {clip.name: clip.words for clip in CATALOGUES["it"].clips}

    assert said["phrase/goodbye"] == "Arrivederci."
    assert said["phrase/presence-present"] == "il pasto è prenotato."
    assert said["phrase/cancelled-1"] == "Disdetta registrata,"
    assert said["phrase/cancelled-2"] == "Codice di conferma:"


def test_silence_is_a_clip_without_words() -> None:
    (clip,) = CATALOGUES["it"]["silence-2"].clips

    assert (clip.name, clip.words, clip.silence_s) == ("phrase/silence-2", "", 2.0)


def test_no_clip_is_named_twice(catalogue: Catalogue) -> None:
    names = [clip.name for clip in catalogue.clips]

    assert len(names) == len(set(names))


def test_slots_in_another_order_are_a_mistake() -> None:
    entry = Entry("cancelled", "Codice {receipt}, {time}.", "outcome", "it")

    assert mistakes_in(entry) == ("phrase 'cancelled' has the slots {receipt} {time}; expected {time} {receipt}",)


def test_every_mistake_of_a_phrase_file_is_named_with_its_place(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "language: it\n"
        "phrases:\n"
        "  goodbye: {words: Arrivederci., where: end, vioce: en}\n"
        "  hello: {words: Ciao., where: nowhere}\n"
        "  locked: {words: Bloccato., where: start}\n"
        "  enter-pin: Digiti il PIN.\n",
    )

    found = mistakes_of(file)

    assert "3:3: unknown key 'vioce' in 'goodbye'; did you mean 'voice'?" in found
    assert "4:3: unknown phrase 'hello'; expected one of those in ivr/prompts.py" in found
    assert "5:3: phrase 'locked' has the slots none; expected {time}" in found
    assert "6:3: phrase 'enter-pin' is 'Digiti il PIN.'; expected {words: …, where: …}" in found
    assert "2:1: phrase 'welcome' is missing; expected it here" in found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("language: xx\nphrases: {}\n", "1:1: unknown language 'xx'"),
        ("language: it\n", "1:1: 'phrases' is nothing; expected a mapping"),
        ("- a\n", "1:1: the file is a list; expected a mapping"),
        ("language: it\nlanguage: en\n", '2:1: found duplicate key "language"'),
        ("language: [\n", "2:1: "),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused_with_its_place(tmp_path: Path, text: str, found: str) -> None:
    assert mistakes_of(written(tmp_path, text))[0].startswith(found)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "1:1: cannot be read (No such file or directory)" in mistakes_of(tmp_path / "phrases.it.yaml")[0]


def test_the_ready_made_names_are_names_only() -> None:
    names = read_names(phrases_folder())

    assert len(names) > 250
    assert all(name.isalpha() and name[0].isupper() for name in names)
