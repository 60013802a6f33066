"""A CSV file's rows, each field with its place, and the columns that its header names; every mistake is told."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.files.mistakes import Mistake, one_of, shown


@dataclass(frozen=True, slots=True)
class Field:
    text: str
    line: int
    column: int


Row = tuple[Field, ...]


def rows(file: Path, text: str, mistakes: list[Mistake]) -> Iterator[Row]:
    """The rows that have any value, each field with its place."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, strict=True)
    while True:
        start = reader.line_num
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = min(start + 1, len(lines))
            message = f"this row is no CSV: {error}; expected fields parted by commas, quotes closed"
            mistakes.append(Mistake(file, line, 1, message))
            continue
        places = _places("".join(lines[start : reader.line_num]), start + 1)
        row = tuple(Field(value.strip(), *next(places)) for value in values)
        if any(each.text for each in row):
            yield row


def _places(raw: str, line: int) -> Iterator[tuple[int, int]]:
    """Where each field of a row begins: after each comma that does not stand between quotes."""
    column, is_quoted = 1, False
    yield line, column
    for position, character in enumerate(raw):
        column += 1
        if character == '"':
            is_quoted = not is_quoted
        elif character == "\n" or (character == "\r" and raw[position + 1 : position + 2] != "\n"):
            line, column = line + 1, 1
        elif character == "," and not is_quoted:
            yield line, column
    # The reader and this count differ only on quotes inside an unquoted field; the row is then still the right one.
    while True:
        yield line, 1


def columns(
    file: Path, header: Row, known: Sequence[str], required: Sequence[str], mistakes: list[Mistake]
) -> list[str] | None:
    """The column names in the order of the file; None when the rows cannot be read by them."""
    names = [each.text for each in header]
    if len(names) == 1 and any(mark in names[0] for mark in ";\t"):
        mark = ";" if ";" in names[0] else "a tab"
        message = f"the columns are parted by {mark}; expected commas: save the file as CSV with commas"
        mistakes.append(Mistake(file, header[0].line, header[0].column, message))
        return None
    for position, each in enumerate(header):
        if each.text not in known:
            message = f"unknown column {shown(each.text)}; {one_of(each.text, known)}"
            mistakes.append(Mistake(file, each.line, each.column, message))
        elif each.text in names[:position]:
            message = f"column {shown(each.text)} is there twice; expected it once"
            mistakes.append(Mistake(file, each.line, each.column, message))
    missing = [name for name in required if name not in names]
    if missing:
        message = f"missing columns: {', '.join(missing)}; expected at least {', '.join(required)}"
        mistakes.append(Mistake(file, header[0].line, 1, message))
        return None
    return names
