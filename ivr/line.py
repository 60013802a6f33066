"""What a call flow may do with a caller: say something, ask for keys. Nothing here touches a socket.

Every way to have a call (Asterisk, the terminal, a rehearsal) fills `Line`; `ivr.flow` knows no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, time
from typing import Protocol


@dataclass(frozen=True, slots=True)
class FirstName:
    """A pupil's first name, spoken from a clip made when the pupil was enrolled."""

    value: str


@dataclass(frozen=True, slots=True)
class FirstNames:
    """Several pupils' first names, one after the other: what is said of all of them at once."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TownName:
    """A municipality's name, spoken from a clip made at configuration."""

    value: str


@dataclass(frozen=True, slots=True)
class SchoolName:
    """A school's name, spoken from a clip made at configuration."""

    value: str


@dataclass(frozen=True, slots=True)
class SpokenDay:
    """A date with its weekday: `martedì ventiquattro novembre`."""

    value: date


@dataclass(frozen=True, slots=True)
class SpokenTime:
    """A local wall-clock time with its preposition: `alle diciotto e trentuno`."""

    value: time


@dataclass(frozen=True, slots=True)
class SpokenSince:
    """A local wall-clock time from which on something holds, with its preposition: `dalle nove e trenta`."""

    value: time


@dataclass(frozen=True, slots=True)
class SpokenCode:
    """A kitchen's code of a diet, spelled: `SG` is `esse, come Savona; gi, come Genova`."""

    value: str


@dataclass(frozen=True, slots=True)
class SpokenDigits:
    """A receipt, spoken two digits at a time: `quarantasette, dodici` is hard to write down, `quattro, sette` is not."""

    value: str


@dataclass(frozen=True, slots=True)
class SpokenNumber:
    """A count from 0 to 999,999."""

    value: int


@dataclass(frozen=True, slots=True)
class SpokenPhone:
    """A telephone number to write down (E.164); only the office's own is ever spoken."""

    value: str


@dataclass(frozen=True, slots=True)
class SpokenWords:
    """Words of a town (the office's hours), spoken from a clip made at configuration."""

    value: str


@dataclass(frozen=True, slots=True)
class Phrase:
    """Another phrase of the catalogue inside this one, such as a presence inside `state`."""

    id: str


Slot = (
    FirstName
    | FirstNames
    | TownName
    | SchoolName
    | SpokenDay
    | SpokenTime
    | SpokenSince
    | SpokenCode
    | SpokenDigits
    | SpokenNumber
    | SpokenPhone
    | SpokenWords
    | Phrase
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One phrase of the catalogue (`sounds/phrases.<language>.yaml`) with its slots filled in the order the words have them."""

    id: str
    slots: tuple[tuple[str, Slot], ...] = ()


def prompt(id: str, /, **slots: Slot) -> Prompt:  # noqa: A002 - the catalogue's own word
    """The prompt `id` with each `{slot}` of its words filled by name."""
    return Prompt(id, tuple(slots.items()))


@dataclass(frozen=True, slots=True)
class Keys:
    """What the caller keyed as the answer to one question.

    `digits` holds `0-9` and `*`; a lone `#` is `digits == ""` with `timed_out` False; silence is `""` with `timed_out` True.
    """

    digits: str
    timed_out: bool = False

    @property
    def is_silence(self) -> bool:
        return self.timed_out and not self.digits

    @property
    def is_lone_hash(self) -> bool:
        return not self.timed_out and not self.digits


class HungUp(Exception):  # noqa: N818 - what happened to the caller, not a mistake of ours
    """Raised by a line when the caller is gone; whatever was keyed before is in `keys`."""

    def __init__(self, keys: str = "") -> None:
        super().__init__("the caller hung up")
        self.keys = keys


class LineFailed(Exception):  # noqa: N818
    """Raised by a line on which Asterisk can no longer be spoken to (broken reply, time-out): our fault, not the caller's."""


class Line(Protocol):
    """A caller on the phone. Both verbs raise `HungUp` when the caller is gone and `LineFailed` when the line is."""

    language: str

    async def say(self, *prompts: Prompt, interruptible: bool = True) -> None:
        """Play the prompts one after the other; a key stops them and is not lost for the next `ask` unless not interruptible."""

    async def ask(self, *prompts: Prompt, digits: int = 1) -> Keys:
        """Play the prompts, interrupted by the first key, and collect up to `digits` keys; `#` ends sooner."""

    async def before_confirming(self, request: str) -> None:
        """Leave `request` with the line for the very next `ask`: a 1 keyed in the moment of hanging up then counts (R18)."""

    async def before_saving(self) -> None:
        """Tell the line that a change is about to be stored: a crash from here on means "perhaps"."""

    async def saved(self, receipts: Sequence[str]) -> None:
        """Tell the line what was stored; with nothing, that nothing was changed."""

    async def outcome(self, word: str) -> None:
        """Tell the line the outcome of the latest action, for the call log."""


class Journal(Protocol):
    """Where a flow notes what happened in a call; never a keyed code or PIN, never a name."""

    def note(self, event: str, **fields: str | int | bool | None) -> None: ...
