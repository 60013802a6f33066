"""cooks.csv: all or nothing, every bad row with its place, no PIN in a message."""

from pathlib import Path

import pytest

from core.people import Cooks, NewCook, UserCode
from gateway.files.cooks import parse_cooks
from gateway.files.people import PeopleRules

FILE = Path("cooks.csv")
RULES = PeopleRules(5, 4, ("it", "en"), {"infanzia": ["Blu"], "primaria": ["1A"]})


def parsed(text: str) -> Cooks | list[str]:
    found = parse_cooks(FILE, text.encode(), RULES, {UserCode("50001")})
    return found if isinstance(found, Cooks) else [str(each) for each in found]


def test_a_cook_has_a_code_and_may_have_a_pin_schools_and_a_language() -> None:
    found = parsed("code,pin,schools,language\n90001,7315,,\n\n90002,,infanzia primaria,en\n")

    assert found == Cooks(
        (
            NewCook(UserCode("90001"), "7315", (), "it"),
            NewCook(UserCode("90002"), None, ("infanzia", "primaria"), "en"),
        )
    )


def test_only_the_code_is_required() -> None:
    assert parsed("code\n90001\n") == Cooks((NewCook(UserCode("90001"), None, (), "it"),))


def test_every_mistake_is_told_at_once_and_no_pin_with_it() -> None:
    found = parsed(
        "code,pin,schools,language\n900,7315,,\n90002,73,,\n90003,7315,liceo,\n90004,7315,,de\n50001,7315,,\n90002,7315,,\n"
    )

    assert found == [
        "cooks.csv:2:1: code: '900'; expected 5 digits",
        "cooks.csv:3:7: pin: 2 characters; expected 4 digits",
        "cooks.csv:4:12: schools: there is no school 'liceo'; expected one of infanzia, primaria",
        "cooks.csv:5:13: language: the town does not speak 'de'; expected one of it, en",
        "cooks.csv:6:1: code: '50001' is a pupil's or another cook's; expected a code of this cook alone",
        "cooks.csv:7:1: code: '90002' is a pupil's or another cook's; expected a code of this cook alone",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["cooks.csv:1:1: there is no header row; expected code,pin,schools,language"]),
        ("pin\n1234\n", ["cooks.csv:1:1: missing columns: code; expected at least code"]),
        ("code,pin\n90001\n", ["cooks.csv:2:1: the row has 1 fields; expected 2, as the header has"]),
        ("code\n\n", []),
    ],
)
def test_a_file_that_is_no_table_of_cooks_says_why(text: str, expected: list[str]) -> None:
    found = parsed(text)

    assert (found if isinstance(found, list) else []) == expected


def test_a_mistaken_file_of_thousands_of_rows_is_read_row_by_row_and_not_each_against_all() -> None:
    text = "code\n" + "".join(f"{code}\n" for code in range(50_002, 99_999))

    found = parsed(text)

    assert isinstance(found, Cooks)
    assert len(found.cooks) == 49_997
