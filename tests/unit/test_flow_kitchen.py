"""The kitchen's number, one behaviour each; whole calls stand in tests/conversations/the-cooks-*.txt."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from core.calendar import DayException
from core.changes import Presence
from core.headcount import Headcount, MealCount
from core.kitchen import due_closings
from core.people import NewCook, UserCode
from core.window import Anytime, Channel
from gateway.clips import Clips
from gateway.clock import FixedClock
from gateway.files.phrases import phrases_folder, read_catalogues
from gateway.rehearsal import cooks_of, read_town
from gateway.store.memory import MemoryStore
from gateway.telephone import greeting_of, open_desks
from ivr.explore import drive
from ivr.flow import parents_line
from ivr.kitchen_flow import meals_as_told
from ivr.spoken import words
from ivr.terminal import ScriptedLine
from tests.flow_bench import CONVERSATIONS
from tests.towns import PlainHasher, closed, local

CATALOGUES = read_catalogues(phrases_folder())
TUESDAY = date(2026, 11, 24)
CODE, PIN = "90001", "7315"


class RecordingJournal:
    def __init__(self) -> None:
        self.notes: list[tuple[str, Mapping[str, str | int | bool | None]]] = []

    def note(self, event: str, **fields: str | int | bool | None) -> None:
        self.notes.append((event, fields))


class Kitchen:
    """The town of the conversations whose cooks call, on fresh data; its files may be edited meanwhile."""

    def __init__(self) -> None:
        self.municipality, people = read_town(CONVERSATIONS / "config", "cucina")
        self.desks = open_desks(lambda: self.municipality, MemoryStore(), PlainHasher())
        drive(self.desks.store.import_people(people, PlainHasher(), lambda: "0000"))
        self.enrol(*cooks_of(self.municipality, people).cooks)

    def enrol(self, *cooks: NewCook) -> None:
        drive(self.desks.store.import_cooks(cooks, PlainHasher(), lambda: "0000"))

    def edit(self, exception: DayException) -> None:
        rules = self.municipality.town
        calendar = replace(rules.calendar, exceptions=(*rules.calendar.exceptions, exception))
        self.municipality = replace(self.municipality, town=replace(rules, calendar=calendar))

    def open_all_day(self) -> None:
        rules = self.municipality.town
        windows = {**rules.windows, Channel.PHONE: Anytime(60)}
        self.municipality = replace(self.municipality, town=replace(rules, windows=windows))

    def close(self, when: str) -> None:
        at = FixedClock(local(when).astimezone(UTC)).read()
        for due in due_closings(self.municipality.town.calendar, datetime(2026, 11, 23, tzinfo=UTC), {}, at):
            drive(self.desks.kitchen.close(due, at))


def call(town: Kitchen, when: str, *keys: str, code: str = CODE, pin: str = PIN) -> tuple[list[str], RecordingJournal]:
    """What a cook hears after the PIN, as words, and what the call log is told."""
    heard: list[tuple[str, str]] = []
    line = ScriptedLine(
        (code, pin, *keys, "9"),
        on_prompt=lambda each, language: heard.append((each.id, words(each, CATALOGUES[language]))),
    )
    journal = RecordingJournal()
    desks = town.desks.for_calls(FixedClock(local(when).astimezone(UTC)))
    word = drive(parents_line(line, journal, greeting_of(town.municipality), desks, None, "call"))
    assert word == "informed"
    start = next(place for place, (id_, _) in enumerate(heard) if id_ in {"kitchen-day", "no-more-days"})
    return [text for id_, text in heard[start:] if id_ not in {"kitchen-keys", "offer-language", "goodbye"}], journal


def test_a_cook_hears_each_schools_meals_with_the_bland_ones_and_each_diet() -> None:
    told, _ = call(Kitchen(), "2026-11-24 07:30")

    assert " ".join(told) == (
        "martedì 24 novembre. "
        "Scuola dell'infanzia: un pasto, nessuno in bianco, conteggio provvisorio, definitivo alle 9. "
        "Scuola primaria: 4 pasti, nessuno in bianco, 2 dieta C, una dieta SG, "
        "conteggio provvisorio, definitivo alle 9 e 30."
    )


def test_R25_after_the_closing_the_count_is_final_since_the_cutoff() -> None:
    town = Kitchen()
    town.close("2026-11-24 11:15")

    told, _ = call(town, "2026-11-24 11:16")

    assert [each for each in told if "definitivo" in each] == ["definitivo dalle 9.", "definitivo dalle 9 e 30."]


def test_R24_a_count_that_is_final_is_told_though_an_edit_has_since_closed_the_day() -> None:
    town = Kitchen()
    town.close("2026-11-24 11:15")

    town.edit(closed("2026-11-24"))
    told, _ = call(town, "2026-11-24 11:30")

    assert told[0] == "martedì 24 novembre."
    assert "definitivo dalle 9 e 30." in told


def test_a_closed_day_is_passed_over_before_anything_was_counted_on_it() -> None:
    town = Kitchen()
    town.edit(closed("2026-11-24"))

    told, _ = call(town, "2026-11-24 07:30")

    assert told[0] == "mercoledì 25 novembre."


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2026-11-24 00:00", "martedì 24 novembre."),
        ("2026-11-24 17:59:59.999", "martedì 24 novembre."),
        ("2026-11-24 18:00", "mercoledì 25 novembre."),
        ("2026-11-28 10:00", "lunedì 30 novembre."),
        ("2026-12-07 18:30", "mercoledì 9 dicembre."),
    ],
)
def test_the_day_is_todays_until_the_evening_opens(when: str, expected: str) -> None:
    told, _ = call(Kitchen(), when)

    assert told[0] == expected


def test_where_the_line_has_no_evening_the_day_is_todays_until_midnight() -> None:
    town = Kitchen()
    town.open_all_day()

    told, _ = call(town, "2026-11-24 23:59")

    assert told[0] == "martedì 24 novembre."


def test_a_cook_of_one_school_hears_no_other_in_the_cooks_own_language() -> None:
    told, _ = call(Kitchen(), "2026-11-24 07:30", code="90002", pin="4826")

    assert " ".join(told) == (
        "Tuesday 24 November. Scuola primaria: 4 meals, none of them plain, 2 diet C, one diet SG, "
        "so far, final at 9:30 a.m."
    )


def test_a_cook_whose_schools_are_gone_hears_that_there_are_no_days() -> None:
    town = Kitchen()
    town.enrol(NewCook(UserCode(CODE), PIN, ("liceo",), "it"))

    told, _ = call(town, "2026-11-24 07:30")

    assert told == ["Non ci sono altri giorni."]


def told_of(*counts: tuple[Presence, str | None, int]) -> str:
    meals = tuple(MealCount("1A", kind, diet, number) for kind, diet, number in counts)
    headcount = Headcount("primaria", TUESDAY, ("1A",), meals)
    return " ".join(words(each, CATALOGUES["it"]) for each in meals_as_told(headcount))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((), "nessun pasto."),
        (((Presence.BLAND, None, 1),), "un pasto, uno in bianco,"),
        (((Presence.PRESENT, None, 70), (Presence.BLAND, "C", 2)), "72 pasti, 2 in bianco, 2 dieta C,"),
        (
            ((Presence.PRESENT, "2B", 1), (Presence.PRESENT, "SG", 3)),
            "4 pasti, nessuno in bianco, una dieta 2B, 3 dieta SG,",
        ),
        (((Presence.PRESENT, "celiaci", 1),), "un pasto, nessuno in bianco, una dieta speciale,"),
        (
            ((Presence.PRESENT, "celiaci", 2), (Presence.PRESENT, "s/g", 1), (Presence.PRESENT, None, 1_000)),
            "1003 pasti, nessuno in bianco, 3 dieta speciale,",
        ),
    ],
)
def test_counts_are_said_as_one_says_them(counts: tuple[tuple[Presence, str | None, int], ...], expected: str) -> None:
    assert told_of(*counts) == expected


def test_the_call_log_knows_a_cook_and_no_key_of_code_or_pin() -> None:
    _, journal = call(Kitchen(), "2026-11-24 07:30", "6", "5", "*")

    assert ("identified", {"how": "cook"}) in journal.notes
    keyed = [str(fields["key"]) for event, fields in journal.notes if event == "asked" and fields.get("key")]
    assert keyed == ["*"]
    assert not any(CODE in str(fields) or PIN in str(fields) for _, fields in journal.notes)


def test_a_school_whose_name_has_no_clip_is_told_of_at_the_start(tmp_path: Path) -> None:
    town = Kitchen().municipality
    clips = Clips(tmp_path, CATALOGUES, {"it": {"school/scuola-primaria": 1.0}, "en": {}})

    missing = [each for each in clips.missing_of(town, ()) if "/school/" in each]

    assert missing == [
        "it/school/scuola-dell_27_infanzia",
        "en/school/scuola-dell_27_infanzia",
        "en/school/scuola-primaria",
    ]
