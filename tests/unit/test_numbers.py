"""Telephone numbers: one way of writing them, and what a log shows of them."""

import pytest

from gateway.numbers import mask_number, normalise_number


@pytest.mark.parametrize(
    "text", ["800000100", "+39800000100", "0039800000100", "39800000100", "800 000 100", "800-000.100"]
)
def test_a_toll_free_number_is_one_however_it_is_written(text: str) -> None:
    assert normalise_number(text) == "+39800000100"


@pytest.mark.parametrize(
    "text", ["0350000100", "+390350000100", "00390350000100", "390350000100", "035 0000100", "035/0000100"]
)
def test_a_landline_number_is_one_however_it_is_written(text: str) -> None:
    assert normalise_number(text) == "+390350000100"


def test_a_number_from_abroad_keeps_its_country() -> None:
    assert normalise_number("+1 202 555 0100") == "+12025550100"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "anonymous",
        "unknown",
        "101",
        "6001",
        "1800FLOWERS",
        "+",
        "++39",
        "\x00",
        "8" * 31,
        "<sip:1@x>",
        "+39 035;ext=1",
    ],
)
def test_what_is_no_number_is_none(text: str) -> None:
    assert normalise_number(text) is None


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+390350000101", "+3903******01"),
        ("800000100", "80000**00"),
        ("12345", "*****"),
        (None, "withheld"),
        ("", "withheld"),
    ],
)
def test_a_masked_number_shows_where_it_is_from_and_how_it_ends(number: str | None, masked: str) -> None:
    assert mask_number(number) == masked
