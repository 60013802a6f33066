"""Telephone numbers: one way of writing them (E.164), and the way a log may show them."""

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, ValidationResult

# E.164 has 15 digits; twice that leaves room for "00", spaces and dashes, and anything longer is no number.
CHARACTERS_MAX = 30
# A caller may send letters ("anna", "1800FLOWERS"): those are names of devices, never numbers to be recognised.
_CHARACTERS = frozenset("0123456789+ -./()")
# What stays readable of a masked number: country and district tell a clerk where a call came from, the end which one it was.
_SHOWN_FIRST, _SHOWN_LAST = 5, 2


def normalise_number(text: str, region: str = "IT") -> str | None:
    """This number in E.164 ("+390350000100"), None when it is none; without a prefix it is one of `region`.

    Judged by its length alone: a range that was opened after the library's tables were made is a number too.
    """
    if len(text) > CHARACTERS_MAX or not _CHARACTERS.issuperset(text):
        return None
    try:
        number = phonenumbers.parse(text, region)
    except NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def mask_number(number: str | None) -> str:
    """The number as a log line may show it; `withheld` where there was none."""
    if not number:
        return "withheld"
    hidden = len(number) - _SHOWN_FIRST - _SHOWN_LAST
    if hidden <= 0:
        return "*" * len(number)
    return f"{number[:_SHOWN_FIRST]}{'*' * hidden}{number[-_SHOWN_LAST:]}"
