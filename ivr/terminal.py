"""Calls without Asterisk: the scripted line of rehearsals and tests, and the phone in your terminal.

Both read keys as Asterisk's Read does: what is keyed beyond one question is kept for the next.
"""

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ivr.line import HungUp, Keys, Prompt

SILENCE, HANG_UP, HASH = "-", "x", "#"
KEYPAD = frozenset("0123456789*#")
# As on the real line: five seconds to the first key, two between keys.
FIRST_KEY_S, NEXT_KEY_S = 5.0, 2.0


class NoKeysError(ValueError):
    """A word of scripted keys holds something that no keypad has."""


def parse_keys(words: str) -> tuple[str, ...]:
    """Scripted keys, one word for each question: keys as pressed, `-` is silence, `x` hangs up there.

    Raises `NoKeysError` with the word.
    """
    parsed = tuple(words.split())
    for word in parsed:
        keys = word.removesuffix(HANG_UP)
        if word != SILENCE and not set(keys) <= KEYPAD:
            raise NoKeysError(
                f"{word!r} is not keyed on a telephone; expected 0-9, * or #, - for silence, x to hang up"
            )
    return parsed


class SilentJournal:
    """The journal of a call that stands in no call log."""

    def note(self, event: str, **fields: str | int | bool | None) -> None:
        """Keep nothing."""


@dataclass(slots=True)
class ScriptedLine:
    """A caller who keys the given words; when they run out, silence. Nothing waits."""

    words: Iterable[str] = ()
    language: str = "it"
    prompts: list[Prompt] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    saves: list[str] = field(default_factory=list)
    pending: str | None = None
    on_prompt: Callable[[Prompt, str], None] | None = None
    on_key: Callable[[str], None] | None = None
    # What was keyed, a word for each question, as `parse_keys` reads it.
    keyed: list[str] = field(default_factory=list)
    receipts: tuple[str, ...] = ()
    _left: Iterator[str] = field(init=False)
    _buffer: list[str] = field(init=False, default_factory=list)
    _is_gone: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._left = iter(self.words)

    @property
    def heard(self) -> tuple[str, ...]:
        """The ids of what was played, in order."""
        return tuple(each.id for each in self.prompts)

    async def say(self, *prompts: Prompt, interruptible: bool = True) -> None:
        if self._is_gone:
            raise HungUp
        self._play(prompts)
        if not interruptible:
            # Asterisk throws away what is keyed while such a prompt plays.
            self._is_gone = HANG_UP in self._buffer
            self._buffer.clear()

    async def ask(self, *prompts: Prompt, digits: int = 1) -> Keys:
        if self._is_gone:
            raise HungUp
        self._play(prompts)
        if not self._buffer:
            word = next(self._left, SILENCE)
            self._key(word)
            if word == SILENCE:
                return Keys("", timed_out=True)
            self._buffer = list(word)
        keys = ""
        while len(keys) < digits:
            if not self._buffer:
                return Keys(keys, timed_out=True)
            key = self._buffer.pop(0)
            if key == HASH:
                return Keys(keys)
            if key == HANG_UP:
                self._is_gone = True
                raise HungUp(keys)
            keys += key
        if self._buffer == [HANG_UP]:
            self._is_gone = True
        return Keys(keys)

    async def before_confirming(self, request: str) -> None:
        self.pending = request

    async def before_saving(self) -> None:
        self.saves.append("pending")

    async def saved(self, receipts: Sequence[str]) -> None:
        self.saves.append("-".join(receipts))
        self.receipts = tuple(receipts)

    async def outcome(self, word: str) -> None:
        self.outcomes.append(word)

    def _key(self, word: str) -> None:
        self.keyed.append(word)
        if self.on_key is not None:
            self.on_key(word)

    def _play(self, prompts: Iterable[Prompt]) -> None:
        for each in prompts:
            self.prompts.append(each)
            if self.on_prompt is not None:
                self.on_prompt(each, self.language)


@dataclass(slots=True)
class TerminalLine(ScriptedLine):
    """A person at this terminal: each key counts as it is pressed, `x` hangs up. Needs a terminal on standard input."""

    async def ask(self, *prompts: Prompt, digits: int = 1) -> Keys:
        if self._is_gone:
            raise HungUp
        self._play(prompts)
        keys, ended_by = self._read(digits)
        self._key(keys + ended_by or SILENCE)
        if ended_by == HANG_UP:
            self._is_gone = True
            raise HungUp(keys)
        return Keys(keys, timed_out=len(keys) < digits and ended_by != HASH)

    def _read(self, digits: int) -> tuple[str, str]:
        """The keys of one answer, and what ended it sooner: `#`, hanging up, or nothing."""
        keys, wait_s = "", FIRST_KEY_S
        with _single_keys(sys.stdin.fileno()):
            while len(keys) < digits:
                key = _key(sys.stdin.fileno(), wait_s)
                if key is None:
                    return keys, ""
                if key in {HANG_UP, "\x03", "\x04", ""}:
                    return keys, HANG_UP
                if key == HASH:
                    return keys, HASH
                if key in KEYPAD:
                    keys += key
                    wait_s = NEXT_KEY_S
        return keys, ""


@contextmanager
def _single_keys(terminal: int) -> Iterator[None]:
    """Keys come one by one, without echo, and the terminal is put back as it was."""
    before = termios.tcgetattr(terminal)
    try:
        tty.setcbreak(terminal, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _key(terminal: int, wait_s: float) -> str | None:
    """The next key, `""` when the terminal is closed, None when none came within `wait_s`."""
    ready, _, _ = select.select([terminal], [], [], wait_s)
    return os.read(terminal, 1).decode("ascii", "ignore") if ready else None
