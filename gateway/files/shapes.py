"""The shape of the YAML files: which keys each has, and what a value of each looks like.

Every field may be missing here, so that the rest of a file with a mistake can still be looked at; what must not be missing is
said once in `REQUIRED` and checked, with everything that needs more than one value, in `check.py`.
"""

import re
from datetime import date, time
from email.errors import MessageError
from email.headerregistry import Address
from functools import cache
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator

from core.people import Period
from gateway.files.mistakes import one_of, shown
from gateway.numbers import normalise_number
from ivr.spoken import GRAMMARS

# A name is spoken in one breath and printed on one line.
NAME_CHARACTERS_MAX = 100
# A key is typed on a command line and stands in file names, headings and logs.
KEY_CHARACTERS_MAX = 40
# The largest Italian town has some 400 schools and each of its own town's folder would still be read in a second.
SCHOOLS_MAX = 500
CLASSES_MAX = 100
# One for every day of the year and school would be a calendar nobody can read; the days themselves are walked at each check.
EXCEPTIONS_MAX = 1_000
CUTOFFS_MAX = 1_000
# A town has a toll-free number, a landline, and a few that it is giving up.
NUMBERS_MAX = 20
# A town has one host name, and the one before it for those who kept the address.
HOSTS_MAX = 10
# RFC 1035: a whole name, and labels of letters, digits and inner hyphens.
HOST_CHARACTERS_MAX = 253
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
# https://core.telegram.org/bots/features#botfather: 5 to 32 Latin letters, digits and underscores, ending in `bot`.
_BOT = re.compile(r"[a-z][a-z0-9_]{1,28}bot")
# A school year with its summer centre; a longer range is a slip in the year.
RANGE_DAYS_MAX = 400
# What can be keyed without a mistake; towns use 4, 5, 6 and 10.
USER_CODE_DIGITS_MIN, USER_CODE_DIGITS_MAX = 3, 12
# Below four a PIN is guessed within the five tries of R28, above eight nobody remembers it.
PIN_DIGITS_MIN, PIN_DIGITS_MAX = 4, 8
LOOK_AHEAD_DAYS_MAX = 366
# A diet is a code of the kitchen, printed in a column of its own; a kitchen with more diets than this cooks to order.
DIET_CHARACTERS_MAX = 20
TRAY_DIETS_MAX = 100
BLAND_DAYS_MAX = 366
# Above a minute a clock says nothing about a cutoff; R10 then goes on without it.
CLOCK_BOUND_MS_MAX = 60_000

WEEKDAYS = {"mon": 0, "tue": 1, "wed": 2, "thu": 3, "fri": 4, "sat": 5, "sun": 6}
# What Italian hands write instead; difflib alone would not find "mon" in "lun".
_ITALIAN_WEEKDAYS = {"lun": "mon", "mar": "tue", "mer": "wed", "gio": "thu", "ven": "fri", "sab": "sat", "dom": "sun"}


def parse_day(value: object) -> date:
    """The day that a text such as 2026-11-24 names; raises ValueError with what is wrong."""
    text = value if isinstance(value, str) else ""
    shape_is_right = len(text) == len("2026-11-24") and text.isascii() and text[4] == text[7] == "-"
    if shape_is_right and text.replace("-", "").isdigit():
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise ValueError(f"{shown(value)} does not exist; expected a day of the calendar") from None
    raise ValueError(f"{shown(value)} is no day; expected year, month and day as 2026-11-24")


def parse_days(value: object) -> Period:
    """One day or a range of days, `2026-12-23..2027-01-06`; raises ValueError with what is wrong."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is no day; expected one as 2026-11-24, or a range as 2026-12-23..2027-01-06")
    first_text, dots, last_text = value.partition("..")
    first = parse_day(first_text.strip())
    last = parse_day(last_text.strip()) if dots else first
    if last < first:
        raise ValueError(f"{shown(value)} ends before it starts; expected the earlier day first")
    if (last - first).days >= RANGE_DAYS_MAX:
        raise ValueError(f"{shown(value)} is longer than {RANGE_DAYS_MAX} days; expected days of one school year")
    return Period(first, last)


def parse_range(value: object) -> Period:
    """A range of days; raises ValueError with what is wrong."""
    if isinstance(value, str) and ".." not in value:
        parse_day(value)
        raise ValueError(f"{shown(value)} is one day; expected first and last as 2026-09-14..2027-06-08")
    return parse_days(value)


def parse_time(value: object) -> time:
    """A local time as 09:30; raises ValueError with what is wrong."""
    hours, colon, minutes = value.partition(":") if isinstance(value, str) else ("", "", "")
    is_time = colon and len(hours) in (1, 2) and len(minutes) == 2 and f"{hours}{minutes}".isascii()
    if is_time and f"{hours}{minutes}".isdigit() and int(hours) < 24 and int(minutes) < 60:
        return time(int(hours), int(minutes))
    raise ValueError(f'{shown(value)} is no time of day; expected hours and minutes as "09:30"')


def parse_year(value: object) -> int:
    """The first year of a school year written as 2026/2027; raises ValueError with what is wrong."""
    first, slash, second = value.partition("/") if isinstance(value, str) else ("", "", "")
    digits = f"{first}{second}"
    if slash and len(first) == len(second) == 4 and digits.isascii() and digits.isdigit():
        if int(second) == int(first) + 1 and date.min.year < int(first) < date.max.year - 1:
            return int(first)
        raise ValueError(f"{shown(value)} is no school year; expected two years that follow each other, as 2026/2027")
    raise ValueError(f"{shown(value)} is no school year; expected it as 2026/2027")


def parse_words(value: object) -> str:
    """Words to be read by people: one line, not empty; raises ValueError with what is wrong."""
    # A no-break space comes along when a name is copied from a web page.
    words = " ".join(value.replace("\xa0", " ").strip(" ").split(" ")) if isinstance(value, str) else ""
    if not words:
        raise ValueError(f"{shown(value)} is no text; expected a few words")
    if not words.isprintable():
        raise ValueError(f"{shown(value)} has line breaks or control characters; expected words on one line")
    if len(words) > NAME_CHARACTERS_MAX:
        raise ValueError(f"{shown(value)} has {len(words)} characters; at most {NAME_CHARACTERS_MAX} are taken")
    return words


def parse_key(value: object) -> str:
    """The key of a town, a school or a class: letters, digits, `-` and `_`; raises ValueError with what is wrong."""
    if isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum():
        if len(value) > KEY_CHARACTERS_MAX:
            raise ValueError(f"{shown(value)} has {len(value)} characters; at most {KEY_CHARACTERS_MAX} are taken")
        return value
    raise ValueError(f"{shown(value)} cannot be a key; expected letters, digits, `-` or `_`, without spaces")


def parse_diet(value: object) -> str:
    """A kitchen's code for a diet; raises ValueError with what is wrong."""
    if isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= DIET_CHARACTERS_MAX:
        return value.strip()
    raise ValueError(
        f"{shown(value)} is no diet; expected a code of the kitchen, {DIET_CHARACTERS_MAX} characters at most"
    )


def parse_weekday(value: object) -> int:
    """The number of a weekday, Monday being 0; raises ValueError with what is wrong."""
    if isinstance(value, str) and value in WEEKDAYS:
        return WEEKDAYS[value]
    folded = value[:3].casefold() if isinstance(value, str) else ""
    meant = folded if folded in WEEKDAYS else _ITALIAN_WEEKDAYS.get(folded)
    right = f"did you mean {shown(meant)}?" if meant else f"expected one of {', '.join(WEEKDAYS)}"
    raise ValueError(f"{shown(value)} is no weekday; {right}")


def parse_number(value: object) -> str:
    """A telephone number in E.164; raises ValueError with what is wrong."""
    number = normalise_number(value) if isinstance(value, str) else None
    if number is None:
        raise ValueError(f'{shown(value)} is no telephone number; expected it as "+390350000100" or "800000100"')
    return number


def parse_host(value: object) -> str:
    """A host name in small letters; raises ValueError with what is wrong."""
    host = value.lower() if isinstance(value, str) else ""
    if _HOST.fullmatch(host) and len(host) <= HOST_CHARACTERS_MAX:
        return host
    raise ValueError(
        f"{shown(value)} is no host name; expected one without scheme, port or path, as mensa.comune.example.org"
    )


def parse_bot(value: object) -> str:
    """A Telegram bot's user name in small letters; raises ValueError with what is wrong."""
    name = value.lower() if isinstance(value, str) else ""
    if _BOT.fullmatch(name):
        return name
    what = f"{shown(value)} is no bot's user name"
    raise ValueError(f"{what}; expected 5 to 32 letters, digits or _ without the @, ending in bot, as borgo_mensa_bot")


def parse_language(value: object) -> str:
    """A language that the line speaks; raises ValueError with what is wrong."""
    if isinstance(value, str) and value in GRAMMARS:
        return value
    raise ValueError(f"the line does not speak {shown(value)}; {one_of(str(value), GRAMMARS)}")


def parse_timezone(value: object) -> ZoneInfo:
    """A time zone by its name in the tz database; raises ValueError with what is wrong."""
    if isinstance(value, str) and value in _timezones():
        return ZoneInfo(value)
    raise ValueError(f"there is no time zone {shown(value)}; {_near_timezone(str(value))}")


def parse_address(value: object) -> str:
    """A mail address; raises ValueError with what is wrong."""
    try:
        return Address(addr_spec=value if isinstance(value, str) else "").addr_spec
    # The standard library says most of what is wrong with its own errors, and of an empty half with an IndexError.
    except (MessageError, ValueError, IndexError):
        raise ValueError(f"{shown(value)} is no mail address; expected one as ufficio@example.org") from None


@cache
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


def _near_timezone(name: str) -> str:
    near = one_of(name, sorted(_timezones()))
    return near if near.startswith("did") else 'expected a name of the tz database, as "Europe/Rome"'


def _text(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": [example]})


_DAY = r"\d{4}-\d{2}-\d{2}"

Day = Annotated[date, BeforeValidator(parse_day), _text(f"^{_DAY}$", "2026-11-24")]
Days = Annotated[Period, BeforeValidator(parse_days), _text(rf"^{_DAY}(\.\.{_DAY})?$", "2026-12-23..2027-01-06")]
Range = Annotated[Period, BeforeValidator(parse_range), _text(rf"^{_DAY}\.\.{_DAY}$", "2026-09-14..2027-06-08")]
TimeOfDay = Annotated[time, BeforeValidator(parse_time), _text(r"^([01]?\d|2[0-3]):[0-5]\d$", "09:30")]
SchoolYear = Annotated[int, BeforeValidator(parse_year), _text(r"^\d{4}/\d{4}$", "2026/2027")]
Words = Annotated[
    str,
    BeforeValidator(parse_words),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": NAME_CHARACTERS_MAX}),
]
Key = Annotated[str, BeforeValidator(parse_key), _text(rf"^[\w-]{{1,{KEY_CHARACTERS_MAX}}}$", "primaria")]
ClassWay = Annotated[str, _text(rf"^[\w-]{{1,{KEY_CHARACTERS_MAX}}}/[\w-]{{1,{KEY_CHARACTERS_MAX}}}$", "primaria/3B")]
DietCode = Annotated[
    str,
    BeforeValidator(parse_diet),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": DIET_CHARACTERS_MAX}),
]
Weekday = Annotated[int, BeforeValidator(parse_weekday), WithJsonSchema({"enum": list(WEEKDAYS)})]
Number = Annotated[str, BeforeValidator(parse_number), _text(r"^\+?[0-9 ./()-]{3,29}$", "800000100")]
Host = Annotated[str, BeforeValidator(parse_host), _text(r"^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$", "mensa.example.org")]
Bot = Annotated[str, BeforeValidator(parse_bot), _text(r"^[A-Za-z][A-Za-z0-9_]{1,28}[Bb][Oo][Tt]$", "borgo_mensa_bot")]
Language = Annotated[str, BeforeValidator(parse_language), WithJsonSchema({"enum": list(GRAMMARS)})]
Timezone = Annotated[ZoneInfo, BeforeValidator(parse_timezone), WithJsonSchema({"type": "string"})]
MailAddress = Annotated[str, BeforeValidator(parse_address), _text(r"^\S+@\S+$", "ufficio@example.org")]


class Shape(BaseModel):
    """One table of a file. `REQUIRED` are the keys it cannot do without, each with what it is for."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    REQUIRED: ClassVar[dict[str, str]] = {}


class EveningShape(Shape):
    opens: TimeOfDay | None = Field(None, description="When the line opens for the next day, local time (R7)")

    REQUIRED: ClassVar[dict[str, str]] = {"opens": 'the time at which the window opens, as "18:00"'}


def _window(value: Any) -> Any:
    if value == "anytime":
        return None
    if isinstance(value, dict):
        return value
    raise ValueError(f'{shown(value)} is no window; expected anytime, or {{opens: "18:00"}}')


_EVENING = {
    "type": "object",
    "properties": {"opens": TypeAdapter(TimeOfDay).json_schema()},
    "required": ["opens"],
    "additionalProperties": False,
}
# None is `anytime`, as it is after `_window`; a window that is not in the file has its channel's default instead.
Window = Annotated[
    EveningShape | None,
    BeforeValidator(_window),
    WithJsonSchema({"anyOf": [{"const": "anytime"}, _EVENING]}),
]
PHONE_WINDOW = EveningShape.model_validate({"opens": "18:00"})


class WindowsShape(Shape):
    phone: Window = Field(PHONE_WINDOW, description='Default {opens: "18:00"} (R7)')
    portal: Window = Field(None, description="Default anytime (R8)")
    telegram: Window = Field(None, description="Default anytime (R8)")


class OfficeShape(Shape):
    phone: Number | None = None
    hours: Words | None = None
    address: MailAddress | None = None


class ClockShape(Shape):
    bound_max_ms: int = Field(
        2_000, ge=0, le=CLOCK_BOUND_MS_MAX, description="A clock known less exactly counts as unsynchronised (R10)"
    )


class MunicipalityShape(Shape):
    """municipality.yaml"""

    name: Words | None = Field(None, description="The municipality as callers hear it")
    timezone: Timezone = ZoneInfo("Europe/Rome")
    languages: list[Language] = Field(["it"], description="What the line speaks; the first is what it answers in")
    numbers: list[Number] = Field([], max_length=NUMBERS_MAX, description="Dialled numbers that reach this town")
    hosts: list[Host] = Field([], max_length=HOSTS_MAX, description="Host names of this town's pages")
    bot: Bot | None = Field(None, description="The user name of this town's Telegram bot, without the @")
    user_code_digits: int | None = Field(None, ge=USER_CODE_DIGITS_MIN, le=USER_CODE_DIGITS_MAX)
    look_ahead_days: int = Field(
        60, ge=1, le=LOOK_AHEAD_DAYS_MAX, description="How far ahead a day can be changed (R30)"
    )
    pin_digits: int = Field(4, ge=PIN_DIGITS_MIN, le=PIN_DIGITS_MAX)
    bland_days_max: int = Field(
        3, ge=0, le=BLAND_DAYS_MAX, description="Bland meals in a row without a certificate; 0 is no limit (R30)"
    )
    office: OfficeShape | None = None
    windows: WindowsShape = WindowsShape()
    clock: ClockShape = ClockShape()

    REQUIRED: ClassVar[dict[str, str]] = {
        "name": "the municipality as callers hear it, as `Comune di Roccachiara`",
        "numbers": 'the dialled numbers that reach this town, as ["800000100"]',
        "user_code_digits": "how many digits a user code has, as 5",
    }


class SchoolShape(Shape):
    name: Words | None = None
    cutoff: TimeOfDay | None = Field(None, description="Until when a service day can be changed, local time (R5)")
    service: Range | None = Field(None, description="The school's own service period, where it differs from the town's")
    classes: dict[Key, list[Weekday]] = Field(
        {}, max_length=CLASSES_MAX, description="The weekdays on which each class eats at school"
    )

    REQUIRED: ClassVar[dict[str, str]] = {
        "name": "the school as parents know it",
        "cutoff": 'until when a day can be changed, as "09:30"',
        "classes": "each class with its weekdays, as 1A: [mon, wed]",
    }


class KitchenShape(Shape):
    name: Words | None = None
    email: MailAddress | None = Field(None, description="Where the orders go; without it they go nowhere")
    trays: list[DietCode] = Field(
        [],
        max_length=TRAY_DIETS_MAX,
        description="Diets that are served on a tray with the pupil's name; the kitchen is told no other names",
    )


class SchoolsShape(Shape):
    """schools.yaml"""

    kitchen: KitchenShape | None = None
    schools: dict[Key, SchoolShape] = Field({}, max_length=SCHOOLS_MAX)

    REQUIRED: ClassVar[dict[str, str]] = {"schools": "each school with its name, cutoff and classes"}


class ExceptionShape(Shape):
    """Days on which weekday, holiday, patron and school year do not count (R2)."""

    closed: Days | None = None
    open: Days | None = None
    why: Words | None = None
    school: str | None = Field(None, description="Only this school")
    class_group: ClassWay | None = Field(None, alias="class", description="Only this class, as school/class")

    @model_validator(mode="after")
    def _is_one_thing(self) -> "ExceptionShape":
        if (self.closed is None) == (self.open is None):
            both = "both closed and open" if self.closed else "neither closed nor open"
            raise ValueError(f"the exception is {both}; expected one of the two, with a day or a range")
        if self.school is not None and self.class_group is not None:
            raise ValueError(
                "the exception has a school and a class; expected one of the two, the class as school/class"
            )
        return self

    @property
    def days(self) -> Period:
        days = self.closed or self.open
        if days is None:
            raise ValueError("an exception without days")
        return days


class CutoffShape(Shape):
    """Another cutoff on one date (R5)."""

    day: Day | None = Field(None, alias="date")
    at: TimeOfDay | None = None
    why: Words | None = None
    school: str | None = Field(None, description="Only this school")

    REQUIRED: ClassVar[dict[str, str]] = {
        "date": "the day with the other cutoff, as 2026-11-27",
        "at": 'the cutoff of that day, as "08:30"',
    }


class CalendarShape(Shape):
    """calendar.yaml"""

    year: SchoolYear | None = Field(None, description="The school year that all days of this file lie in")
    service: Range | None = Field(None, description="First and last day of service")
    patron: Day | None = Field(None, description="The patron saint's day of this school year")
    exceptions: list[ExceptionShape] = Field([], max_length=EXCEPTIONS_MAX)
    cutoffs: list[CutoffShape] = Field([], max_length=CUTOFFS_MAX)

    REQUIRED: ClassVar[dict[str, str]] = {"service": "first and last day of service, as 2026-09-14..2027-06-08"}
