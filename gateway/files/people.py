"""people.csv: pupils and guardians, all or nothing, every bad row with its place.

A message shows user codes, schools and classes, which are needed to find the row; names, numbers, PINs and codici fiscali
are personal, so it shows those masked or not at all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TypeVar

from stdnum.exceptions import ValidationError
from stdnum.it import codicefiscale

from core.people import Diet, NewGuardian, NewPupil, People, UserCode
from gateway.files.csv_rows import Field, Row, columns, rows
from gateway.files.mistakes import Mistake, one_of, shown
from gateway.files.shapes import DIET_CHARACTERS_MAX, parse_address, parse_day, parse_words
from gateway.files.sources import read_bytes
from gateway.files.tree import decode
from gateway.municipality import Municipality
from gateway.numbers import mask_number, normalise_number

# The pupils of the largest Italian town with two guardians each, at 150 bytes a row, twice over.
BYTES_MAX = 100_000_000

COLUMNS = (
    *(
        "user_code",
        "pupil_name",
        "pupil_surname",
        "codice_fiscale",
        "school",
        "class",
        "diet",
        "diet_from",
        "diet_until",
    ),
    *("guardian_name", "guardian_surname", "guardian_email", "guardian_phone", "recognise_number", "language", "pin"),
)
REQUIRED_COLUMNS = ("user_code", "pupil_name", "school", "class")
# A row with any of these speaks of a guardian.
GUARDIAN_COLUMNS = ("guardian_name", "guardian_surname", "guardian_email", "guardian_phone", "pin")


@dataclass(frozen=True, slots=True)
class PeopleRules:
    """What a town's own files say about its people; None where those files have mistakes that leave it open."""

    user_code_digits: int | None
    pin_digits: int
    languages: tuple[str, ...]
    classes: Mapping[str, Sequence[str]] | None


def rules_of(town: Municipality) -> PeopleRules:
    calendar = town.town.calendar
    classes = {school: [name for key, name in calendar.classes if key == school] for school in calendar.schools}
    return PeopleRules(town.user_code_digits, town.pin_digits, town.languages, classes)


def read_people(file: Path, town: Municipality) -> People | tuple[Mistake, ...]:
    """Everybody in the file, or every mistake in it."""
    return check_people(file, rules_of(town))


def check_people(file: Path, rules: PeopleRules) -> People | tuple[Mistake, ...]:
    """As `read_people`, with as much as is known of the town."""
    content = read_bytes(file, BYTES_MAX)
    if isinstance(content, str):
        return (Mistake(file, 1, 1, f"the file cannot be read: {content}; expected a CSV file in UTF-8"),)
    return parse_people(file, content, rules)


def parse_people(file: Path, content: bytes, rules: PeopleRules) -> People | tuple[Mistake, ...]:
    """Everybody in these bytes, or every mistake in them; rows without a value are passed over."""
    if len(content) > BYTES_MAX:
        return (Mistake(file, 1, 1, f"the file has more than {BYTES_MAX} bytes; at most that many are read"),)
    text, torn = decode(file, content)
    if torn is not None:
        return (torn,)
    reading = _Reading(file, rules)
    found = rows(file, text, reading.mistakes)
    header = next(found, None)
    if header is None:
        reading.mistakes.append(Mistake(file, 1, 1, f"there is no header row; expected {','.join(REQUIRED_COLUMNS)},…"))
        return tuple(reading.mistakes)
    names = columns(file, header, COLUMNS, REQUIRED_COLUMNS, reading.mistakes)
    if names is not None:
        for row in found:
            reading.take(row, names)
    if reading.mistakes:
        return tuple(sorted(set(reading.mistakes)))
    return reading.people()


Value = TypeVar("Value")
# A guardian is known by mail address or, without one, by phone; without either each row has one of its own.
_GuardianKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A pupil or guardian in the row that spoke of it first: `values` by column, to be the same in all its rows."""

    index: int
    line: int
    values: Mapping[str, object]


@dataclass(slots=True)
class _Reading:
    """The rows taken so far. Pupils and guardians are kept by the row that named them first."""

    file: Path
    rules: PeopleRules
    mistakes: list[Mistake] = field(default_factory=list)
    _pupils: dict[str, _Seen] = field(default_factory=dict)
    _guardians: dict[_GuardianKey, _Seen] = field(default_factory=dict)
    _guardians_of: list[list[int]] = field(default_factory=list)

    def take(self, row: Row, columns: list[str]) -> None:
        """Check one row, and keep what it says where it is right."""
        if len(row) != len(columns):
            message = f"the row has {len(row)} fields; expected {len(columns)}, as the header has"
            self.mistakes.append(Mistake(self.file, row[0].line, row[0].column, message))
            return
        before = len(self.mistakes)
        cells = _Cells(self.file, self.rules, dict(zip(columns, row, strict=True)), row[0], self.mistakes)
        pupil, guardian = cells.pupil(), cells.guardian()
        # What is wrong in itself would be reported again as not the same as in another row.
        if len(self.mistakes) > before:
            return
        seen = self._seen(self._pupils, str(pupil["user_code"]), pupil, cells, "pupil")
        if seen.index == len(self._guardians_of):
            self._guardians_of.append([])
        if guardian is None:
            return
        key = _guardian_key(guardian, row[0].line)
        index = self._seen(self._guardians, key, guardian, cells, "guardian").index
        if index in self._guardians_of[seen.index]:
            cells.wrong("user_code", "this pupil and guardian have a row already; expected one for each pair")
            return
        self._guardians_of[seen.index].append(index)

    def _seen(
        self, known: dict[Value, _Seen], key: Value, values: Mapping[str, object], cells: "_Cells", who: str
    ) -> _Seen:
        first = known.setdefault(key, _Seen(len(known), cells.start.line, values))
        for column, value in values.items():
            if value != first.values[column]:
                cells.wrong(
                    column, f"not the same as for this {who} on line {first.line}; expected one and the same value"
                )
        return first

    def people(self) -> People:
        guardians = tuple(_new_guardian(each.values) for each in self._guardians.values())
        pupils = (_new_pupil(each.values, self._guardians_of[each.index]) for each in self._pupils.values())
        return People(guardians, tuple(pupils))


def _guardian_key(guardian: Mapping[str, object], line: int) -> _GuardianKey:
    for column in ("guardian_email", "guardian_phone"):
        if guardian[column]:
            return column, str(guardian[column]).casefold()
    return "line", str(line)


@dataclass(frozen=True, slots=True)
class _Cells:
    """One row by column; every check adds its mistakes and gives a value to go on with."""

    file: Path
    rules: PeopleRules
    cells: Mapping[str, Field]
    start: Field
    mistakes: list[Mistake]

    def text(self, column: str) -> str:
        return self.cells[column].text if column in self.cells else ""

    def wrong(self, column: str, message: str) -> None:
        at = self.cells.get(column, self.start)
        self.mistakes.append(Mistake(self.file, at.line, at.column, f"{column}: {message}"))

    def pupil(self) -> dict[str, object]:
        code = self.digits("user_code", self.rules.user_code_digits, is_secret=False)
        if not code:
            self.wrong("user_code", "nothing; expected the pupil's user code")
        if not self.text("pupil_name"):
            self.wrong("pupil_name", "nothing; expected the pupil's first name")
        self.school_and_class()
        return {
            "user_code": code,
            "pupil_name": self.name("pupil_name"),
            "pupil_surname": self.name("pupil_surname"),
            "codice_fiscale": self.codice_fiscale(),
            "school": self.text("school"),
            "class": self.text("class"),
            **self.diet(),
        }

    def guardian(self) -> dict[str, object] | None:
        recognise = self.text("recognise_number")
        if recognise not in ("", "yes", "no"):
            self.wrong("recognise_number", f"{shown(recognise)}; expected yes, no or nothing")
        language = self.text("language") or next(iter(self.rules.languages), "it")
        if self.rules.languages and language not in self.rules.languages:
            self.wrong(
                "language", f"the town does not speak {shown(language)}; {one_of(language, self.rules.languages)}"
            )
        phone = self.phone()
        if recognise == "yes" and not self.text("guardian_phone"):
            self.wrong("recognise_number", "yes, but there is no guardian_phone; expected the number to recognise")
        guardian: dict[str, object] = {
            "guardian_name": self.name("guardian_name"),
            "guardian_surname": self.name("guardian_surname"),
            "guardian_email": self.email(),
            "guardian_phone": phone,
            "recognise_number": recognise == "yes",
            "language": language,
            "pin": self.digits("pin", self.rules.pin_digits, is_secret=True),
        }
        return guardian if any(self.text(column) for column in GUARDIAN_COLUMNS) else None

    def digits(self, column: str, count: int | None, *, is_secret: bool) -> str:
        text = self.text(column)
        is_right = text.isascii() and text.isdigit() and count in (None, len(text))
        if text and not is_right:
            found = f"{len(text)} characters" if is_secret else shown(text)
            self.wrong(column, f"{found}; expected {count or 'only'} digits")
        return text

    def name(self, column: str) -> str:
        text = self.text(column)
        return self.parsed(column, parse_words, "", "expected a name on one line") if text else ""

    def school_and_class(self) -> None:
        school, name = self.text("school"), self.text("class")
        classes = self.rules.classes
        if not school:
            self.wrong("school", "nothing; expected the key of a school")
        if not name:
            self.wrong("class", "nothing; expected a class of the school")
        if classes is None or not school:
            return
        if school not in classes:
            self.wrong("school", f"there is no school {shown(school)}; {one_of(school, classes)}")
        elif name and name not in classes[school]:
            self.wrong("class", f"school {shown(school)} has no class {shown(name)}; {one_of(name, classes[school])}")

    def codice_fiscale(self) -> str | None:
        text = self.text("codice_fiscale")
        if not text:
            return None
        try:
            return str(codicefiscale.validate(text))
        except ValidationError as error:
            what = f"{len(text)} characters: {str(error).rstrip('.').lower()}"
            self.wrong("codice_fiscale", f"{what}; expected 16 characters with the right check character, or nothing")
            return None

    def diet(self) -> dict[str, object]:
        code = self.text("diet")
        if len(code) > DIET_CHARACTERS_MAX or not code.isprintable():
            self.wrong(
                "diet", f"{shown(code)}; expected a code of the kitchen, {DIET_CHARACTERS_MAX} characters at most"
            )
        days: dict[str, date | None] = {}
        for column in ("diet_from", "diet_until"):
            text = self.text(column)
            days[column] = self.parsed(column, parse_day, None) if text else None
            if text and not code:
                self.wrong(column, f"{shown(text)}, but there is no diet; expected a diet, or nothing here")
        first, last = days["diet_from"], days["diet_until"]
        if first and last and last < first:
            self.wrong("diet_until", f"{last} is before diet_from {first}; expected the later day")
        return {"diet": code, **days}

    def email(self) -> str | None:
        text = self.text("guardian_email")
        return self.parsed("guardian_email", parse_address, None, "expected a mail address") if text else None

    def phone(self) -> str | None:
        text = self.text("guardian_phone")
        number = normalise_number(text) if text else None
        if text and number is None:
            found = shown(mask_number(text))
            self.wrong("guardian_phone", f'{found} is no telephone number; expected it as "+390350000101"')
        return number

    def parsed(
        self, column: str, parse: Callable[[object], Value], instead: Value, personal: str | None = None
    ) -> Value:
        """What `parse` makes of a cell; `personal` is the message where the value is not to be shown."""
        try:
            return parse(self.text(column))
        except ValueError as error:
            self.wrong(column, f"the value is not right; {personal}" if personal else str(error))
            return instead


def _new_guardian(values: Mapping[str, object]) -> NewGuardian:
    return NewGuardian(
        name=_text(values["guardian_name"]),
        surname=_text(values["guardian_surname"]),
        email=_text(values["guardian_email"]) or None,
        phone=_text(values["guardian_phone"]) or None,
        recognise=values["recognise_number"] is True,
        language=_text(values["language"]),
        pin=_text(values["pin"]) or None,
    )


def _new_pupil(values: Mapping[str, object], guardians: Sequence[int]) -> NewPupil:
    return NewPupil(
        user_code=UserCode(_text(values["user_code"])),
        name=_text(values["pupil_name"]),
        surname=_text(values["pupil_surname"]),
        codice_fiscale=_text(values["codice_fiscale"]) or None,
        school=_text(values["school"]),
        class_group=_text(values["class"]),
        diet=_diet(values),
        guardians=tuple(guardians),
    )


def _diet(values: Mapping[str, object]) -> Diet | None:
    first, last = values["diet_from"], values["diet_until"]
    code = _text(values["diet"])
    if not code:
        return None
    return Diet(code, first if isinstance(first, date) else None, last if isinstance(last, date) else None)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
