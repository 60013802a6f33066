"""Questions as every caller hears them: asked again after silence or a key that means nothing, and given up after a few."""

from collections.abc import Sequence

from ivr.line import Journal, Keys, Line, Prompt, prompt

# A question that was not understood three times is not the caller's problem; then comes the office's number.
TRIES_MAX = 3
# More rounds than any errand needs; a key that is stuck, or a machine, does not hold a channel until the longest call ends.
ROUNDS_MAX = 20


class GaveUpError(Exception):
    """The caller did not answer, or not understandably, three times."""


class Questions:
    """The questions of one call."""

    def __init__(self, line: Line, journal: Journal) -> None:
        self._line, self._journal = line, journal
        self._code_was_full = False

    async def ask_key(
        self,
        question: Sequence[Prompt],
        allowed: set[str],
        confirming: str = "",
        shorter: Sequence[Sequence[Prompt]] = (),
        notes_digits: bool = True,
    ) -> str:
        """One key out of `allowed`, `#` included where it is.

        After silence or another key the question is repeated as the next of `shorter`, or as it is without one. A digit
        that is no answer, or any without `notes_digits`, does not reach the call log: at a menu it may be part of a code that is
        keyed out of habit, and what was chosen shows in what is heard next.
        `confirming` is left with the line each time it is asked: the line forgets it with the answer, whatever that was.
        Raises `GaveUpError` at the third silence or the third wrong key.
        """
        silences = wrong = 0
        repetitions = iter(shorter)
        asked = list(question)
        for _ in range(ROUNDS_MAX):
            keys = await self.ask(asked, 1, confirming)
            key = "#" if keys.is_lone_hash else keys.digits
            noted = (key or "-") if (notes_digits and key in allowed) or not key.isdecimal() else None
            self._journal.note("asked", heard=" ".join(each.id for each in asked), key=noted)
            if key in allowed:
                return key
            if key == "*":
                asked = list(question)
            elif keys.is_silence:
                silences += 1
                asked = [prompt("no-key"), *next(repetitions, question)]
            else:
                wrong += 1
                # What was keyed ahead of a key that means nothing here was meant for another question.
                await self._line.say(prompt("wrong-key"), interruptible=False)
                asked = list(next(repetitions, question))
            if TRIES_MAX in (silences, wrong):
                break
        raise GaveUpError

    async def ask_digits(self, id: str, digits: int) -> str:  # noqa: A002 - a phrase's id
        """A code of exactly `digits` digits; nothing of it is noted. Raises `GaveUpError`."""
        silences = wrong = 0
        while True:
            asked = id if silences + wrong == 0 else f"{id}-again"
            keys = await self.ask([prompt(asked)], digits)
            self._journal.note("asked", heard=asked)
            if len(keys.digits) == digits and keys.digits.isdecimal():
                return keys.digits
            if keys.is_silence:
                silences += 1
            else:
                wrong += 1
            if TRIES_MAX in (silences, wrong):
                raise GaveUpError

    async def ask(self, question: Sequence[Prompt], digits: int, confirming: str = "") -> Keys:
        """One question; a `#` that only ends the code keyed before it is no answer, and the question is asked again."""
        for _ in range(2):
            if confirming:
                await self._line.before_confirming(confirming)
            keys = await self._line.ask(*question, digits=digits)
            if not (keys.is_lone_hash and self._code_was_full):
                break
            self._code_was_full = False
        self._code_was_full = digits > 1 and len(keys.digits) == digits
        return keys
