"""Prompts as words and as clips: the spots where Italian and English are irregular."""

from datetime import date, time

import pytest

from gateway.files.phrases import phrases_folder, read_catalogues
from ivr.line import (
    FirstName,
    FirstNames,
    Phrase,
    Prompt,
    SchoolName,
    SpokenCode,
    SpokenDay,
    SpokenDigits,
    SpokenNumber,
    SpokenPhone,
    SpokenSince,
    SpokenTime,
    SpokenWords,
    TownName,
    prompt,
)
from ivr.spoken import (
    GRAMMARS,
    clips,
    composed_clips,
    missing_clips,
    missing_names,
    name_said,
    required_clips,
    slug,
    words,
)

CATALOGUES = read_catalogues(phrases_folder())
IT, EN = CATALOGUES["it"], CATALOGUES["en"]
SAID = {language: {clip.name: clip.words for clip in required_clips(CATALOGUES[language])} for language in GRAMMARS}


def said(spoken: Prompt, language: str = "it") -> str:
    """What the clips of a prompt say, one after the other."""
    return " ".join(SAID[language].get(clip, f"<{clip}>") for clip in clips(spoken, CATALOGUES[language]))


def test_the_state_of_a_day_reads_as_italian() -> None:
    state = prompt(
        "state", name=FirstName("Anna"), day=SpokenDay(date(2026, 11, 24)), presence=Phrase("presence-present")
    )

    assert words(state, IT) == "Anna, martedì 24 novembre: il pasto è prenotato."
    assert clips(state, IT) == ("name/anna", "weekday/2", "day/1124", "phrase/presence-present")
    assert words(state, EN) == "Anna, Tuesday 24 November: meal booked."


def test_a_receipt_is_written_by_digit_and_spoken_two_at_a_time() -> None:
    cancelled = prompt("cancelled", time=SpokenTime(time(18, 31)), receipt=SpokenDigits("4712"))

    assert words(cancelled, IT) == "Disdetta registrata alle 18 e 31. Codice di conferma: 4 7 1 2."
    assert clips(cancelled, IT) == (
        "phrase/cancelled-1",
        "hour/18",
        "minute/31",
        "phrase/cancelled-2",
        "digits/47",
        "digits/12",
    )
    assert (
        said(cancelled)
        == "Disdetta registrata, alle diciotto. e trentuno Codice di conferma: quattro, sette. uno, due."
    )


def test_the_last_digit_of_an_odd_receipt_is_spoken_alone() -> None:
    already = prompt("already_cancelled", receipt=SpokenDigits("04715"))

    assert clips(already, IT)[1:] == ("digits/04", "digits/71", "digits/5")


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2027, 1, 1), "venerdì, primo gennaio."),
        (date(2026, 10, 8), "giovedì, otto ottobre."),
        (date(2026, 9, 21), "lunedì, ventuno settembre."),
        (date(2026, 11, 23), "lunedì, ventitré novembre."),
        (date(2027, 4, 28), "mercoledì, ventotto aprile."),
        (date(2027, 5, 30), "domenica, trenta maggio."),
        (date(2026, 10, 31), "sabato, trentuno ottobre."),
        (date(2028, 2, 29), "martedì, ventinove febbraio."),
    ],
)
def test_italian_days_are_said_as_italians_say_them(day: date, expected: str) -> None:
    assert said(prompt("until-day", day=SpokenDay(day))) == f"L'ultimo giorno è: {expected}"


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2027, 1, 1), "Friday, the first of January."),
        (date(2026, 12, 2), "Wednesday, the second of December."),
        (date(2026, 12, 3), "Thursday, the third of December."),
        (date(2026, 10, 12), "Monday, the twelfth of October."),
        (date(2026, 10, 20), "Tuesday, the twentieth of October."),
        (date(2026, 10, 21), "Wednesday, the twenty-first of October."),
        (date(2026, 10, 25), "Sunday, the twenty-fifth of October."),
        (date(2026, 10, 31), "Saturday, the thirty-first of October."),
    ],
)
def test_english_days_are_said_with_ordinals(day: date, expected: str) -> None:
    assert said(prompt("until-day", day=SpokenDay(day)), "en") == f"The last day is: {expected}"


@pytest.mark.parametrize(
    ("at", "written", "spoken"),
    [
        (time(0, 0), "a mezzanotte", "a mezzanotte."),
        (time(0, 1), "a mezzanotte e 1", "a mezzanotte. e uno"),
        (time(1, 0), "all'una", "all'una."),
        (time(1, 21), "all'una e 21", "all'una. e ventuno"),
        (time(9, 3), "alle 9 e 3", "alle nove. e tre"),
        (time(12, 0), "alle 12", "alle dodici."),
        (time(18, 0), "alle 18", "alle diciotto."),
        (time(21, 28), "alle 21 e 28", "alle ventuno. e ventotto"),
        (time(23, 53), "alle 23 e 53", "alle ventitré. e cinquantatré"),
    ],
)
def test_italian_times_carry_their_preposition(at: time, written: str, spoken: str) -> None:
    opens = prompt("outside_window", time=SpokenTime(at))

    assert words(opens, IT) == f"Nulla è cambiato. La linea apre {written}."
    assert said(opens) == f"Nulla è cambiato. La linea apre, {spoken}"


@pytest.mark.parametrize(
    ("at", "written", "spoken"),
    [
        (time(0, 0), "at midnight", "at midnight."),
        (time(0, 5), "at 12:05 a.m.", "at twelve. oh five a m."),
        (time(9, 30), "at 9:30 a.m.", "at nine. thirty a m."),
        (time(12, 0), "at noon", "at noon."),
        (time(12, 10), "at 12:10 p.m.", "at twelve. ten p m."),
        (time(18, 0), "at 6 p.m.", "at six p m."),
        (time(18, 31), "at 6:31 p.m.", "at six. thirty-one p m."),
    ],
)
def test_english_times_say_which_half_of_the_day(at: time, written: str, spoken: str) -> None:
    opens = prompt("outside_window", time=SpokenTime(at))

    assert words(opens, EN) == f"Nothing has changed. The line opens {written.rstrip('.')}."
    assert said(opens, "en") == f"Nothing has changed. The line opens, {spoken}"


@pytest.mark.parametrize(
    ("language", "value", "expected"),
    [
        ("it", 0, "zero"),
        ("it", 17, "diciassette"),
        ("it", 21, "ventuno"),
        ("it", 23, "ventitré"),
        ("it", 38, "trentotto"),
        ("it", 100, "cento"),
        ("it", 101, "centouno"),
        ("it", 103, "centotré"),
        ("it", 108, "centootto"),
        ("it", 123, "centoventitré"),
        ("it", 200, "duecento"),
        ("it", 900, "novecento"),
        ("it", 1000, "mille"),
        ("it", 1001, "milleuno"),
        ("it", 2312, "duemilatrecentododici"),
        ("it", 21_000, "ventunomila"),
        ("it", 103_003, "centotremilatré"),
        ("en", 0, "zero"),
        ("en", 13, "thirteen"),
        ("en", 40, "forty"),
        ("en", 42, "forty-two"),
        ("en", 101, "one hundred and one"),
        ("en", 200, "two hundred"),
        ("en", 1001, "one thousand and one"),
        ("en", 2312, "two thousand three hundred and twelve"),
    ],
)
def test_numbers_in_words(language: str, value: int, expected: str) -> None:
    assert GRAMMARS[language].number(value) == expected


def test_a_number_above_two_hundred_is_two_clips() -> None:
    limit = prompt("bland_limit", number=SpokenNumber(345))

    assert clips(limit, IT)[1:] == ("number/300", "number/45")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1000, ("number/1000",)),
        (1972, ("number/1000", "number/900", "number/72")),
        (2000, ("number/2", "number/thousands")),
        (312_005, ("number/300", "number/12", "number/thousands", "number/5")),
    ],
)
def test_thousands_are_clips_of_their_own(count: int, expected: tuple[str, ...]) -> None:
    meals = prompt("kitchen-meals", number=SpokenNumber(count))

    assert clips(meals, IT) == (*expected, "phrase/kitchen-meals-1")


@pytest.mark.parametrize(
    ("since", "written", "expected"),
    [
        (time(9, 30), "definitivo dalle 9 e 30.", ("since/9", "minute/30")),
        (time(1, 0), "definitivo dall'una.", ("since/1",)),
        (time(0, 15), "definitivo da mezzanotte e 15.", ("since/0", "minute/15")),
    ],
)
def test_a_count_is_final_since_its_cutoff(since: time, written: str, expected: tuple[str, ...]) -> None:
    final = prompt("kitchen-final", since=SpokenSince(since))

    assert words(final, IT) == written
    assert clips(final, IT)[1:] == expected


def test_a_diets_code_is_written_as_it_is_and_spelled_for_the_ear() -> None:
    diet = prompt("kitchen-diet", number=SpokenNumber(2), code=SpokenCode("SG2"))

    assert words(diet, IT) == "2 dieta SG2,"
    assert clips(diet, IT) == ("number/2", "phrase/kitchen-diet-1", "letter/s", "letter/g", "digits/2")


def test_a_school_without_a_clip_is_one_of_the_schools() -> None:
    school = prompt("kitchen-school", school=SchoolName("Scuola primaria"))

    assert clips(school, IT) == ("school/scuola-primaria",)
    assert clips(school, IT, has=lambda clip: not clip.startswith("school/")) == ("phrase/some-school",)


@pytest.mark.parametrize("value", [-1, 1_000_000])
def test_a_number_without_clips_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match="expected 0 to 999999"):
        clips(prompt("bland_limit", number=SpokenNumber(value)), IT)


def test_an_italian_phone_number_is_spoken_as_it_is_dialled() -> None:
    office = prompt("offer-office", phone=SpokenPhone("+390350000199"), hours=SpokenWords("lun-ven 9-12"))

    assert words(office, IT).startswith(
        "Il numero della segreteria è: 0 3 5 0 0 0 0 1 9 9. Gli orari sono: lun-ven 9-12"
    )
    assert clips(office, IT)[1:6] == ("digits/03", "digits/50", "digits/00", "digits/01", "digits/99")


def test_hours_that_are_not_configured_leave_no_half_sentence() -> None:
    office = prompt("offer-office", phone=SpokenPhone("+390350000199"), hours=SpokenWords(""))

    assert words(office, IT) == "Il numero della segreteria è: 0 3 5 0 0 0 0 1 9 9."
    assert "phrase/offer-office-2" not in clips(office, IT)


def test_hours_without_a_clip_leave_no_half_sentence() -> None:
    office = prompt("offer-office", phone=SpokenPhone("+390350000199"), hours=SpokenWords("lun-ven 9-12"))

    heard = clips(office, IT, has=lambda clip: not clip.startswith("words/"))

    assert heard[-1] == "digits/99"


def test_the_town_follows_the_welcome_without_its_letterhead() -> None:
    welcome = prompt("welcome", town=TownName("Comune di Roccachiara"))

    assert words(welcome, IT) == "Mensa di Roccachiara."
    assert clips(welcome, IT) == ("phrase/welcome-1", "town/comune-di-roccachiara")


def test_a_town_without_a_clip_is_still_greeted() -> None:
    welcome = prompt("welcome", town=TownName("Comune di Roccachiara"))

    assert clips(welcome, IT, has=lambda clip: False) == ("phrase/welcome-1", "phrase/some-town")


def test_several_pupils_are_named_one_after_the_other() -> None:
    confirm = prompt("confirm-cancel", names=FirstNames(("Anna", "Marco")), day=SpokenDay(date(2026, 11, 24)))

    assert words(confirm, IT) == "Disdetta per Anna, Marco, martedì 24 novembre."
    assert clips(confirm, IT) == ("phrase/confirm-cancel-1", "name/anna", "name/marco", "weekday/2", "day/1124")


def test_a_double_name_without_a_clip_is_put_together() -> None:
    present = {"name/anna", "name/maria"}

    assert clips(prompt("for-pupil", name=FirstName("Anna Maria")), IT, has=present.__contains__) == (
        "name/anna",
        "name/maria",
    )


def test_a_name_without_a_clip_is_replaced_rather_than_left_out() -> None:
    heard = clips(prompt("choose-pupil", key=Phrase("key-1"), name=FirstName("Zxy")), IT, has=lambda clip: False)

    assert heard == ("phrase/key-1", "phrase/some-pupil")
    assert missing_names(["Anna", "Zxy", "Anna-Zxy"], {"name/anna"}) == ("Zxy", "Anna-Zxy")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Nicolò", "NICOLO'"),
        ("Nicolò", "Nicolo’"),
        ("Anna Maria", "anna-maria"),
        ("Anna  Maria", " Anna Maria "),
        ("José", "Jose\u0301"),
    ],
)
def test_names_that_sound_alike_share_a_clip(left: str, right: str) -> None:
    assert slug(left) == slug(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Nicolò", "Nicolo"),
        ("Noè", "Noé"),
        ("Lucía", "Lucia"),
        ("D'Angelo", "Dangelo"),
        ("Олег", "Олекса"),
        ("Anna", "Hanna"),
    ],
)
def test_names_that_sound_different_do_not_share_a_clip(left: str, right: str) -> None:
    assert slug(left) != slug(right)


def test_a_long_name_still_has_a_file_name_of_its_own() -> None:
    names = {slug("Àé" * 100), slug("Àé" * 100 + "b"), slug("Àé" * 101)}

    assert len(names) == 3
    assert all(len(name) <= 80 for name in names)


@pytest.mark.parametrize(
    ("value", "expected"),
    [("NICOLO'", "Nicolò"), ("anna maria", "Anna Maria"), ("D'Angelo", "D'Angelo"), ("-(x1)_", "X"), ("123", "")],
)
def test_the_voice_reads_the_letters_of_a_name(value: str, expected: str) -> None:
    assert name_said(value) == expected


def test_slots_that_do_not_fit_the_words_are_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match=r"was given the slots \['name'\]; its words have \['receipt', 'time'\]"):
        words(prompt("cancelled", name=FirstName("Anna")), IT)


def test_a_missing_clip_is_named() -> None:
    present = {clip.name for clip in required_clips(IT)} - {"phrase/goodbye", "day/1124", "digits/47"}

    assert missing_clips(IT, present) == ("phrase/goodbye", "day/1124", "digits/47")


def test_days_times_and_digits_have_the_counts_that_the_calendar_has() -> None:
    names = [clip.name.split("/")[0] for clip in composed_clips("it")]

    assert {kind: names.count(kind) for kind in sorted(set(names))} == {
        "day": 366,
        "digits": 110,
        "hour": 24,
        "letter": 26,
        "minute": 59,
        "number": 210,
        "since": 24,
        "weekday": 7,
    }
