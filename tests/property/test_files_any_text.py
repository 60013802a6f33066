"""Whatever stands in a file, reading it never raises; every mistake is one line with a place inside the file."""

import re
import tempfile
from datetime import date, time, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.people import People
from gateway.files.load import GATEWAY, check_town, load_settings, load_town
from gateway.files.mistakes import Mistake
from gateway.files.people import COLUMNS, PeopleRules, parse_people
from gateway.files.shapes import WEEKDAYS
from gateway.files.sources import TOWN_FILES, TownFiles
from gateway.files.tree import full_tree, quick_tree, read_tree
from gateway.municipality import Municipality
from tests.town_files import CALENDAR, MUNICIPALITY, SCHOOLS, loaded, write_town

TEXTS = {"municipality.yaml": MUNICIPALITY, "schools.yaml": SCHOOLS, "calendar.yaml": CALENDAR}
HEADER = ",".join(COLUMNS) + "\n"
ROW = "50004,Anna,Ferrari,,primaria,1A,SG,2026-09-14,,Laura,Ferrari,laura@example.org,0350000101,yes,it,4321\n"
RULES = PeopleRules(5, 4, ("it", "en"), {"primaria": ["1A", "3B"]})

# What YAML gives a meaning to, and what our own files are made of.
YAML_TEXT = st.text(alphabet="ab1:-[]{}%#&*!|>'\"@`\n\t ,?\\UuxN0\r\x85\u2028\ufeff.")
FRAGMENTS = st.sampled_from(
    (
        *(
            "schools:",
            "classes:",
            "exceptions:",
            "cutoffs:",
            "windows:",
            "service:",
            "year:",
            "phone:",
            "class:",
            "1A:",
        ),
        *("2026-11-24", "2026-02-30", "9999-12-31", "0001-01-01..9999-12-31", "2026-09-14..2027-06-08", "0001/0002"),
        *('"18:00"', "25:99", "anytime", "[mon, fri]", "{opens: 3}", "~", "5", "-1", "1e400", "nan", "0x10", "９"),
        *(
            "\n",
            "\n  ",
            "\n    - ",
            " ",
            ", ",
            "{",
            "}",
            "[",
            "]",
            "&a ",
            "*a",
            "!!x ",
            "<<: ",
            "'",
            '"',
            "---\n",
            "\\ud800",
        ),
    )
)
PIECES = st.lists(FRAGMENTS | YAML_TEXT, max_size=12).map("".join)


@st.composite
def spoilt(draw: st.DrawFn, text: str) -> str:
    """A file of ours with a stretch of it replaced by something else."""
    start = draw(st.integers(0, len(text)))
    end = min(len(text), start + draw(st.integers(0, 30)))
    return text[:start] + draw(PIECES) + text[end:]


def lines_of(text: str) -> list[str]:
    return re.split("\r\n|[\r\n]", text.removeprefix("\ufeff"))


def assert_places(mistakes: tuple[Mistake, ...] | list[Mistake], texts: dict[str, str]) -> None:
    for mistake in mistakes:
        lines = lines_of(texts[mistake.file.name])
        assert 1 <= mistake.line <= len(lines), mistake
        assert 1 <= mistake.column <= len(lines[mistake.line - 1]) + 1, mistake
        assert mistake.message
        assert str(mistake).isprintable()


@given(st.text() | YAML_TEXT | PIECES)
@example('"\\UFFFFFFFF"')
@example("%YAML 1.1\n---\n\x85a: b")
def test_any_text_as_yaml_is_a_table_or_mistakes_inside_the_file(text: str) -> None:
    content = text.encode("utf-8", "surrogatepass")

    tree, mistakes = read_tree(Path("a.yaml"), content)

    assert tree is not None or mistakes
    assert_places(mistakes, {"a.yaml": text})


# Most of `spoilt` has a sign that the quick parser leaves to the other; this is what it takes.
PLAIN_TEXT = st.text(alphabet="ab1:-[]{}#'\"@`~\n  ,", max_size=20)


@st.composite
def respelt(draw: st.DrawFn, text: str) -> str:
    """A file of ours with some stretches of it replaced by nothing stranger than its own signs."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(PLAIN_TEXT) + text[start + draw(st.integers(0, 10)) :]
    return text


@given(
    st.sampled_from(list(TEXTS.values())).flatmap(lambda text: respelt(text) | spoilt(text)) | PLAIN_TEXT | YAML_TEXT
)
@example('{"a":b}')
@example("a:\nb: ~")
@example("a: b\u2028c: d")
@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_what_the_quick_parser_takes_it_reads_as_the_other_does(text: str) -> None:
    tree = quick_tree(Path("a.yaml"), text)

    assert tree is None or (tree, []) == full_tree(Path("a.yaml"), text)


@pytest.mark.parametrize("name", list(TEXTS))
def test_files_as_clerks_write_them_are_read_quickly(name: str) -> None:
    assert quick_tree(Path(name), TEXTS[name]) is not None


@pytest.mark.parametrize("name", TOWN_FILES)
@given(data=st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_any_text_in_a_towns_file_is_a_town_or_mistakes_inside_its_files(name: str, data: st.DataObject) -> None:
    texts = {**TEXTS, name: data.draw(spoilt(TEXTS[name]) | PIECES)}
    contents = {file: text.encode("utf-8", "surrogatepass") for file, text in texts.items()}

    found = check_town(TownFiles(Path("borgo"), contents))

    if not isinstance(found, Municipality):
        assert found
        assert_places(found, texts)


@given(st.binary(max_size=200))
def test_any_bytes_in_a_towns_file_are_mistakes(content: bytes) -> None:
    contents: dict[str, bytes | str] = {name: text.encode() for name, text in TEXTS.items()}

    for name in TOWN_FILES:
        found = check_town(TownFiles(Path("borgo"), {**contents, name: content}))
        assert isinstance(found, tuple)
        assert found


@given(PIECES)
@settings(deadline=None)
def test_any_text_as_gateway_settings_is_settings_or_mistakes_inside_the_file(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / GATEWAY
        file.write_bytes(text.encode("utf-8", "surrogatepass"))

        found = load_settings(file)

    if isinstance(found, tuple):
        assert found
        assert_places(found, {GATEWAY: text})


@given(st.binary(max_size=300) | spoilt(HEADER + ROW + ROW).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'user_code,pupil_name,school,class\n"50004\x00,a"b,\r,\n')
def test_any_bytes_as_people_are_people_or_mistakes_inside_the_file(content: bytes) -> None:
    found = parse_people(Path("people.csv"), content, RULES)

    if not isinstance(found, People):
        assert found
        assert_places(found, {"people.csv": content.decode("utf-8", "replace")})


NAMES = st.text(
    st.characters(categories=["L", "N"], include_characters=" '’-.,:#&*!?|>@%{}[]"), min_size=1, max_size=40
).filter(lambda name: name.strip() and name.isprintable())
KEYS = st.text(st.sampled_from("abcXYZ019_-è"), min_size=1, max_size=10).filter(
    lambda key: key.replace("-", "").replace("_", "").isalnum()
)
CUTOFFS = st.times(time(6), time(12)).map(lambda at: at.replace(second=0, microsecond=0))
DAYS = st.dates(date(2026, 8, 1), date(2027, 8, 31))


@given(
    name=NAMES,
    schools=st.dictionaries(
        KEYS,
        st.tuples(
            NAMES,
            CUTOFFS,
            st.dictionaries(KEYS, st.sets(st.sampled_from(list(WEEKDAYS)), min_size=1), min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=3,
    ),
    closed=st.lists(st.tuples(DAYS, st.integers(0, 20), NAMES), max_size=5),
    opens=st.times(time(13)).map(lambda at: at.replace(second=0, microsecond=0)),
    digits=st.integers(3, 12),
)
@settings(deadline=None)
def test_what_is_written_by_the_rules_is_read_as_it_was_meant(
    name: str,
    schools: dict[str, tuple[str, time, dict[str, set[str]]]],
    closed: list[tuple[date, int, str]],
    opens: time,
    digits: int,
) -> None:
    quoted = {key: (title.replace("'", "''"), at, classes) for key, (title, at, classes) in schools.items()}
    municipality = (
        f"name: '{name.replace(chr(39), chr(39) * 2)}'\nnumbers: ['800000100']\nuser_code_digits: {digits}\n"
        f"windows: {{phone: {{opens: '{opens:%H:%M}'}}}}\n"
    )
    schools_text = "schools:\n" + "".join(
        f"  '{key}':\n    name: '{title}'\n    cutoff: {at:%H:%M}\n    classes:\n"
        + "".join(f"      '{group}': [{', '.join(sorted(weekdays))}]\n" for group, weekdays in classes.items())
        for key, (title, at, classes) in quoted.items()
    )
    last_day = date(2027, 8, 31)
    ranges = [(first, min(first + timedelta(days=more), last_day), why) for first, more, why in closed]
    calendar_text = "year: 2026/2027\nservice: 2026-09-14..2027-06-08\nexceptions:\n" + "".join(
        f"  - {{closed: {first}..{last}, why: '{why.replace(chr(39), chr(39) * 2)}'}}\n" for first, last, why in ranges
    )

    with tempfile.TemporaryDirectory() as folder:
        town = loaded(
            write_town(Path(folder) / "borgo", municipality=municipality, schools=schools_text, calendar=calendar_text)
        )
        again = load_town(Path(folder) / "borgo")

    assert town == again
    assert (town.name, town.user_code_digits) == (name.strip(), digits)
    calendar = town.town.calendar
    assert {key: (each.name, each.cutoff) for key, each in calendar.schools.items()} == {
        key: (title.strip(), at) for key, (title, at, _) in schools.items()
    }
    assert {each: group.weekdays for each, group in calendar.classes.items()} == {
        (key, group): frozenset(WEEKDAYS[day] for day in weekdays)
        for key, (_, _, classes) in schools.items()
        for group, weekdays in classes.items()
    }
    assert [(each.days.first, each.days.last, each.why) for each in calendar.exceptions] == [
        (first, last, why.strip()) for first, last, why in ranges
    ]
