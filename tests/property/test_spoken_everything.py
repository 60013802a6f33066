"""Whatever a call can have to say is made of clips that exist, in every language."""

import unicodedata
from datetime import date, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.files.phrases import phrases_folder, read_catalogues
from ivr.line import (
    FirstName,
    FirstNames,
    Phrase,
    Prompt,
    SchoolName,
    Slot,
    SpokenCode,
    SpokenDay,
    SpokenDigits,
    SpokenNumber,
    SpokenPhone,
    SpokenSince,
    SpokenTime,
    SpokenWords,
    TownName,
)
from ivr.prompts import PHRASES
from ivr.spoken import (
    CODE_CHARACTERS_MAX,
    GRAMMARS,
    NUMBER_MAX,
    can_be_spelled,
    clips,
    code_clips,
    name_said,
    number_clips,
    required_clips,
    slug,
    words,
)

CATALOGUES = read_catalogues(phrases_folder())
REQUIRED = {language: {clip.name: clip.words for clip in required_clips(CATALOGUES[language])} for language in GRAMMARS}
LANGUAGES = sorted(GRAMMARS)

names = st.text(st.characters(categories=["L"]), min_size=1, max_size=30)
SLOTS: dict[str, st.SearchStrategy[Slot]] = {
    "town": names.map(TownName),
    "name": names.map(FirstName),
    "names": st.lists(names, min_size=1, max_size=4).map(lambda values: FirstNames(tuple(values))),
    "day": st.dates(date(2020, 1, 1), date(2050, 12, 31)).map(SpokenDay),
    "time": st.times().map(SpokenTime),
    "receipt": st.text("0123456789", min_size=4, max_size=9).map(SpokenDigits),
    "number": st.integers(0, NUMBER_MAX).map(SpokenNumber),
    "school": names.map(SchoolName),
    "since": st.times().map(SpokenSince),
    "code": st.from_regex(r"[A-Za-z0-9]{1,4}", fullmatch=True).map(SpokenCode),
    "phone": st.from_regex(r"\+[1-9][0-9]{5,14}", fullmatch=True).map(SpokenPhone),
    "hours": names.map(SpokenWords),
    "key": st.integers(1, 9).map(lambda key: Phrase(f"key-{key}")),
    "presence": st.sampled_from(sorted(each for each in PHRASES if each.startswith("presence-"))).map(Phrase),
    "what": st.sampled_from(sorted(each for each in PHRASES if each.startswith("undo-"))).map(Phrase),
}


@st.composite
def prompts(draw: st.DrawFn) -> Prompt:
    phrase_id = draw(st.sampled_from(sorted(PHRASES)))
    return Prompt(phrase_id, tuple((slot, draw(SLOTS[slot])) for slot in PHRASES[phrase_id]))


@given(prompts(), st.sampled_from(LANGUAGES))
def test_every_prompt_has_words_and_only_clips_that_exist(spoken: Prompt, language: str) -> None:
    present = REQUIRED[language]

    heard = clips(spoken, CATALOGUES[language], has=present.__contains__)

    assert set(heard) <= set(present)
    assert heard
    assert "{" not in words(Prompt(spoken.id, spoken.slots), CATALOGUES[language]).replace("{'", "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_day_of_every_kind_of_year_is_spoken(language: str) -> None:
    grammar, present = GRAMMARS[language], REQUIRED[language]

    for start in (date(2026, 9, 1), date(2027, 9, 1)):
        for day in (start + timedelta(days=each) for each in range(366)):
            spoken = Prompt("until-day", (("day", SpokenDay(day)),))
            _, weekday, of_year = (present[clip] for clip in clips(spoken, CATALOGUES[language]))
            assert weekday == f"{grammar.weekdays[day.weekday()]},"
            assert of_year.endswith(f"{grammar.months[day.month - 1]}.")
            assert ("primo" in of_year) == (language == "it" and day.day == 1)
            assert f" {grammar.months[day.month - 1]}" in words(spoken, CATALOGUES[language])


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_time_of_day_is_spoken_and_no_two_are_alike(language: str) -> None:
    heard: set[tuple[str, ...]] = set()

    for at in (time(minute // 60, minute % 60) for minute in range(24 * 60)):
        spoken = Prompt("outside_window", (("time", SpokenTime(at)),))
        said = tuple(REQUIRED[language][clip] for clip in clips(spoken, CATALOGUES[language]))
        heard.add(said)
        assert ("all'una" in said[1]) == (language == "it" and at.hour == 1)

    assert len(heard) == 24 * 60


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_receipt_is_spoken_digit_for_digit(language: str) -> None:
    digit = {GRAMMARS[language].number(value): str(value) for value in range(10)}

    for receipt in (f"{each:04}" for each in range(10_000)):
        heard = clips(Prompt("already_cancelled", (("receipt", SpokenDigits(receipt)),)), CATALOGUES[language])
        said = " ".join(REQUIRED[language][clip] for clip in heard[1:]).replace(",", "").replace(".", "")
        assert "".join(digit[word] for word in said.split()) == receipt


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_count_is_spoken(language: str) -> None:
    number = GRAMMARS[language].number

    for value in range(1000):
        said = [REQUIRED[language][clip].rstrip(".") for clip in number_clips(value)]
        if value <= 200 or value % 100 == 0:
            assert said == [number(value)]
        else:
            assert said == [number(value - value % 100), number(value % 100)]


@pytest.mark.parametrize("language", LANGUAGES)
@given(value=st.integers(1000, NUMBER_MAX))
def test_a_count_of_thousands_is_spoken_as_thousands_and_the_rest(language: str, value: int) -> None:
    thousands, rest = divmod(value, 1000)
    thousand = {"it": ("mille", "mila"), "en": ("one thousand", "thousand")}[language]

    said = [REQUIRED[language][clip].rstrip(".") for clip in number_clips(value)]

    after = [REQUIRED[language][clip].rstrip(".") for clip in number_clips(rest)] if rest else []
    if thousands == 1:
        assert said == [thousand[0], *after]
    else:
        before = [REQUIRED[language][clip].rstrip(".") for clip in number_clips(thousands)]
        assert said == [*before, thousand[1], *after]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_time_since_when_a_count_is_final_is_spoken_and_no_two_are_alike(language: str) -> None:
    heard: set[tuple[str, ...]] = set()

    for since in (time(minute // 60, minute % 60) for minute in range(24 * 60)):
        spoken = Prompt("kitchen-final", (("since", SpokenSince(since)),))
        said = tuple(REQUIRED[language][clip] for clip in clips(spoken, CATALOGUES[language]))
        heard.add(said)
        assert said[1].startswith(("dalle ", "dall'una", "da mezzanotte") if language == "it" else "at ")

    assert len(heard) == 24 * 60


@given(st.text(st.characters(codec="latin-1"), max_size=CODE_CHARACTERS_MAX + 1), st.sampled_from(LANGUAGES))
def test_a_code_is_spelled_letter_for_letter_or_said_to_be_impossible(code: str, language: str) -> None:
    if not can_be_spelled(code):
        with pytest.raises(ValueError, match="cannot be spelled"):
            code_clips(code)
        return

    spelled = [clip.split("/")[1] for clip in code_clips(code)]

    assert "".join(spelled) == code.lower()
    assert set(code_clips(code)) <= set(REQUIRED[language])


@given(st.text(max_size=60))
def test_a_name_becomes_a_file_name_that_asterisk_reads_as_one(value: str) -> None:
    assert set(slug(value)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert len(slug(value)) <= 80


@given(names, names)
def test_two_names_share_a_clip_only_when_they_are_written_alike(left: str, right: str) -> None:
    def folded(value: str) -> str:
        return "".join(value.casefold().split())

    if slug(left) == slug(right):
        assert unicodedata.normalize("NFD", folded(left)) == unicodedata.normalize("NFD", folded(right))


@given(st.text(max_size=60))
def test_the_voice_is_given_letters_only(value: str) -> None:
    assert not [each for each in name_said(value) if unicodedata.category(each)[0] not in "LM" and each not in "' -"]
