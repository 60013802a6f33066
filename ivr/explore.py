"""Every call there is, up to a number of keys: for the tests, and for the picture of the call.

A flow does no I/O of its own, so it is driven by hand: no event loop, no waiting, some ten thousand calls a second.
"""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ivr.line import Keys, Prompt
from ivr.terminal import HANG_UP, SILENCE, ScriptedLine

# One key, silence or hanging up: all that a caller can do at a question that takes one key.
EVERYTHING = (*"0123456789*#", SILENCE, HANG_UP)
# A flow that asks on after so many silences is in a loop, which is what exploring is to find.
QUESTIONS_MAX = 200


class EndlessError(Exception):
    """A call that goes on for ever without a key."""


@dataclass(slots=True)
class _Caller(ScriptedLine):
    """Answers with the given words, then is silent; remembers the first question that was left so."""

    question: tuple[Prompt, ...] | None = None
    digits: int = 0
    heard_by_then: int = 0
    questions: int = 0
    answered: int = 0

    async def ask(self, *prompts: Prompt, digits: int = 1) -> Keys:
        self.questions += 1
        if self.questions > QUESTIONS_MAX:
            raise EndlessError(f"still asking after {QUESTIONS_MAX} questions: {[each.id for each in prompts]}")
        if not self._buffer and not self._is_gone:
            if self.question is None and self.answered == len(tuple(self.words)):
                self.question, self.digits = prompts, digits
                self.heard_by_then = len(self.prompts) + len(prompts)
            self.answered += 1
        return await super(_Caller, self).ask(*prompts, digits=digits)


@dataclass(frozen=True, slots=True)
class Explored:
    """One call: the words keyed, what was heard, and how it ended.

    `question` is what was asked when the words ran out, None when the call was over by then; the call was then left in silence.
    `heard` goes up to that question; `line` holds all that the flow did with the caller.
    """

    words: tuple[str, ...]
    question: tuple[Prompt, ...] | None
    digits: int
    heard: tuple[Prompt, ...]
    word: str
    line: ScriptedLine


# Starts one call on fresh data.
StartCall = Callable[[ScriptedLine], Coroutine[Any, Any, str]]


Result = TypeVar("Result")


def drive(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that never really waits. Raises RuntimeError where it does."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: Result = stop.value
        return result
    coroutine.close()
    raise RuntimeError("the flow waits for something; explore it on a store that answers at once")


def play(start: StartCall, words: Sequence[str]) -> Explored:
    """One call with these words, left in silence where they run out."""
    line = _Caller(tuple(words))
    word = drive(start(line))
    heard = tuple(line.prompts if line.question is None else line.prompts[: line.heard_by_then])
    return Explored(tuple(words), line.question, line.digits, heard, word, line)


def explore(
    start: StartCall, depth: int, answers: Callable[[Explored], Sequence[str]] = lambda _: EVERYTHING
) -> Iterator[Explored]:
    """Every call of up to `depth` words; `answers` gives the words to try at a call's open question."""
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        call = play(start, waiting.pop())
        yield call
        if call.question is not None and len(call.words) < depth:
            waiting += [(*call.words, word) for word in answers(call)]
