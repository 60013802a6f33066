"""What a mistake in a file looks like: where it stands, what is wrong with which value, what would be right."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# A value is quoted to be found again, not to be read: more would push the rest of the line off the screen.
SHOWN_CHARACTERS_MAX = 60
# Beyond this many a list of what would be right helps nobody; the nearest one is named in any case.
CHOICES_SHOWN_MAX = 12
# difflib's own default guesses "mon" for "man" and leaves "lun" alone, which is what a reader would do.
LIKENESS_MIN = 0.6


@dataclass(frozen=True, slots=True, order=True)
class Mistake:
    """One mistake in a file; `line` and `column` count from 1, in characters. As text it is one unwrapped line."""

    file: Path
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


def shown(value: object) -> str:
    """A value as a message shows it: on one line, and cut where it is long."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value)
    return repr(text if len(text) <= SHOWN_CHARACTERS_MAX else text[: SHOWN_CHARACTERS_MAX - 1] + "…")


def one_of(found: str, choices: Iterable[str]) -> str:
    """What would be right in place of `found`: the nearest choice, or the choices where none is near."""
    known = list(choices)
    near = _nearest(found, known)
    if near is not None:
        return f"did you mean {shown(near)}?"
    if not known:
        return "there are none yet"
    more = ", …" if len(known) > CHOICES_SHOWN_MAX else ""
    return f"expected one of {', '.join(shown(choice)[1:-1] for choice in known[:CHOICES_SHOWN_MAX])}{more}"


def is_near(found: str, choice: str) -> bool:
    """Whether `found` is so like `choice` that whoever wrote it meant that."""
    return _nearest(found, [choice]) is not None


def _nearest(found: str, choices: list[str]) -> str | None:
    folded = {choice.casefold(): choice for choice in choices}
    # A longer text is no slip of the keyboard, and comparing it would only take time.
    near = difflib.get_close_matches(found[:SHOWN_CHARACTERS_MAX].casefold(), folded, n=1, cutoff=LIKENESS_MIN)
    return folded[near[0]] if near else None
