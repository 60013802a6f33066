"""cooks.csv: who may hear the kitchen's counts by phone, all or nothing, every bad row with its place.

A message shows codes and schools; a PIN is not shown.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from core.people import Cooks, NewCook, UserCode
from gateway.files.csv_rows import Field, Row, columns, rows
from gateway.files.mistakes import Mistake, one_of, shown
from gateway.files.people import PeopleRules, rules_of
from gateway.files.sources import read_bytes
from gateway.files.tree import decode
from gateway.municipality import Municipality

COOKS = "cooks.csv"
# The cooks of a large town at 50 bytes a row, a thousand times over.
BYTES_MAX = 1_000_000
COLUMNS = ("code", "pin", "schools", "language")
REQUIRED_COLUMNS = ("code",)


def cooks_file(town: Municipality) -> Path | None:
    """Where a town's cooks are taken from where a file is the source, as rehearsals do; None when there is none."""
    file = None if town.folder is None else town.folder / COOKS
    return file if file is not None and file.exists() else None


def read_cooks(file: Path, town: Municipality, taken: Collection[UserCode] = ()) -> Cooks | tuple[Mistake, ...]:
    """Every cook in the file, or every mistake in it; `taken` are codes that are pupils'."""
    return check_cooks(file, rules_of(town), taken)


def check_cooks(file: Path, rules: PeopleRules, taken: Collection[UserCode] = ()) -> Cooks | tuple[Mistake, ...]:
    """As `read_cooks`, with as much as is known of the town."""
    content = read_bytes(file, BYTES_MAX)
    if isinstance(content, str):
        return (Mistake(file, 1, 1, f"the file cannot be read: {content}; expected a CSV file in UTF-8"),)
    return parse_cooks(file, content, rules, taken)


def parse_cooks(
    file: Path, content: bytes, rules: PeopleRules, taken: Collection[UserCode] = ()
) -> Cooks | tuple[Mistake, ...]:
    """Every cook in these bytes, or every mistake in them; rows without a value are passed over."""
    if len(content) > BYTES_MAX:
        return (Mistake(file, 1, 1, f"the file has more than {BYTES_MAX} bytes; at most that many are read"),)
    text, torn = decode(file, content)
    if torn is not None:
        return (torn,)
    mistakes: list[Mistake] = []
    found = rows(file, text, mistakes)
    header = next(found, None)
    if header is None:
        return (*mistakes, Mistake(file, 1, 1, f"there is no header row; expected {','.join(COLUMNS)}"))
    names = columns(file, header, COLUMNS, REQUIRED_COLUMNS, mistakes)
    cooks: dict[UserCode, NewCook] = {}
    pupils = frozenset(taken)
    for row in found if names is not None else ():
        if len(row) != len(header):
            message = f"the row has {len(row)} fields; expected {len(header)}, as the header has"
            mistakes.append(Mistake(file, row[0].line, row[0].column, message))
            continue
        cells = {each.text: cell for each, cell in zip(header, row, strict=True)}
        cook, wrong = _cook(file, row, cells, rules, lambda code: code in pupils or code in cooks)
        mistakes += wrong
        cooks[cook.code] = cook
    return tuple(sorted(set(mistakes))) if mistakes else Cooks(tuple(cooks.values()))


def _cook(
    file: Path, row: Row, cells: Mapping[str, Field], rules: PeopleRules, is_taken: Callable[[UserCode], bool]
) -> tuple[NewCook, list[Mistake]]:
    mistakes: list[Mistake] = []

    def text(column: str) -> str:
        return cells[column].text if column in cells else ""

    def wrong(column: str, message: str) -> None:
        at = cells.get(column, row[0])
        mistakes.append(Mistake(file, at.line, at.column, f"{column}: {message}"))

    code, pin, language = UserCode(text("code")), text("pin"), text("language")
    if not _is_digits(code, rules.user_code_digits):
        wrong("code", f"{shown(code) if code else 'nothing'}; expected {rules.user_code_digits or 'only'} digits")
    elif is_taken(code):
        wrong("code", f"{shown(code)} is a pupil's or another cook's; expected a code of this cook alone")
    if pin and not _is_digits(pin, rules.pin_digits):
        wrong("pin", f"{len(pin)} characters; expected {rules.pin_digits} digits")
    schools = tuple(dict.fromkeys(text("schools").split()))
    for school in schools:
        if rules.classes is not None and school not in rules.classes:
            wrong("schools", f"there is no school {shown(school)}; {one_of(school, rules.classes)}")
    if language and rules.languages and language not in rules.languages:
        wrong("language", f"the town does not speak {shown(language)}; {one_of(language, rules.languages)}")
    return NewCook(code, pin or None, schools, language or next(iter(rules.languages), "it")), mistakes


def _is_digits(text: str, count: int | None) -> bool:
    return text.isascii() and text.isdigit() and count in (None, len(text))
