"""Clips for what only a town has: made once, by the best engine there is, or reported as not made."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from gateway.audio import Audio
from gateway.voice import EspeakEngine, Made, clips_in, make_name_clips, make_school_clips, make_town_clips


@dataclass
class Whistle:
    """An engine that whistles whatever it is given, but not the words it does not know."""

    name: str
    unknown: frozenset[str] = frozenset()
    asked: list[tuple[str, str, bool]] = field(default_factory=list)

    def say(self, words: str, language: str, *, is_name: bool) -> tuple[Audio, int]:
        self.asked.append((words, language, is_name))
        if words in self.unknown:
            raise ValueError(words)
        return np.sin(2 * math.pi * 440 / 8000 * np.arange(4000)).astype(np.float32), 8000


def test_only_names_without_a_clip_are_made(tmp_path: Path) -> None:
    engine = Whistle("best")

    first = make_name_clips(["Anna", "Marco"], "it", tmp_path, lambda: [engine])
    second = make_name_clips(["Anna", "ANNA", "Gino"], "it", tmp_path, lambda: [engine])

    assert first == [Made("name/anna", "best"), Made("name/marco", "best")]
    assert second == [Made("name/gino", "best")]
    assert set(clips_in(tmp_path, "it")) == {"name/anna", "name/marco", "name/gino"}


def test_a_name_made_for_one_language_is_not_there_for_another(tmp_path: Path) -> None:
    make_name_clips(["Gino"], "it", tmp_path, lambda: [Whistle("best")])

    assert make_name_clips(["Gino"], "en", tmp_path, lambda: [Whistle("best")]) == [Made("name/gino", "best")]


def test_what_the_best_engine_cannot_say_is_said_by_the_next(tmp_path: Path) -> None:
    best, next_best = Whistle("best", frozenset({"Gino."})), Whistle("next")

    made = make_name_clips(["Gino", "Ugo"], "it", tmp_path, lambda: [best, next_best])

    assert sorted(made, key=lambda each: each.clip) == [Made("name/gino", "next"), Made("name/ugo", "best")]
    assert [words for words, _, _ in next_best.asked] == ["Gino."]


def test_what_no_engine_can_say_is_not_among_what_was_made(tmp_path: Path) -> None:
    assert make_name_clips(["Gino"], "it", tmp_path, lambda: [Whistle("best", frozenset({"Gino."}))]) == []
    assert make_name_clips(["Gino"], "it", tmp_path, list) == []


def test_no_engine_is_loaded_when_nothing_is_missing(tmp_path: Path) -> None:
    def loaded() -> Iterator[Whistle]:
        raise AssertionError("an engine was loaded")

    make_name_clips(["Gino"], "it", tmp_path, lambda: [Whistle("best")])

    assert make_name_clips(["Gino"], "it", tmp_path, loaded) == []


def test_a_name_is_read_as_its_ready_made_spelling_and_its_accents_say(tmp_path: Path) -> None:
    engine = Whistle("best")

    make_name_clips(["Youssef Amin", "NICOLO'", "--"], "it", tmp_path, lambda: [engine])

    assert [words for words, _, _ in engine.asked] == ["Iùssef Amin.", "Nicolò."]


def test_a_town_gets_its_name_and_its_offices_hours(tmp_path: Path) -> None:
    engine = Whistle("best")

    made = make_town_clips("Comune di Roccachiara", "lun-ven 9-12", "en", tmp_path, lambda: [engine])

    assert [each.clip for each in made] == ["town/comune-di-roccachiara", "words/lun-ven-9-12"]
    assert engine.asked == [("Roccachiara.", "en", True), ("Monday to Friday, nine to twelve.", "en", False)]


def test_a_town_without_hours_gets_its_name_only(tmp_path: Path) -> None:
    made = make_town_clips("Roccachiara", "", "it", tmp_path, lambda: [Whistle("best")])

    assert [each.clip for each in made] == ["town/roccachiara"]


def test_a_schools_name_becomes_a_clip_once_its_number_read_as_a_word(tmp_path: Path) -> None:
    engine = Whistle("best")

    made = make_school_clips(["Scuola primaria 2"], "en", tmp_path, lambda: [engine])
    again = make_school_clips(["Scuola primaria 2"], "en", tmp_path, lambda: [engine])

    assert made == [Made("school/scuola-primaria-2", "best")]
    assert again == []
    assert engine.asked == [("Scuola primaria due.", "en", True)]


@pytest.mark.e2e
def test_the_engine_of_last_resort_finishes_its_sentence(tmp_path: Path) -> None:
    made = make_name_clips(["Gino", "Ugo"], "it", tmp_path, lambda: [EspeakEngine()])

    assert [each.engine for each in made] == ["espeak-ng", "espeak-ng"]
    assert all(0.4 < seconds < 1.5 for seconds in clips_in(tmp_path, "it").values())
