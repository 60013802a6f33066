"""A call's life as values: what was noted about it, and the one record that these notes fold to.

Notes reach the log from Asterisk (ringing, answered, hung up), from the flow and, through the dialplan's hangup handler, from
a call whose gateway is dead. They come in any order and more than once; `fold_call` gives the same record for all of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import get_args

from core.outcomes import ABANDONED, FAILED, INFORMED, LOCKED, NOT_IDENTIFIED, Outcome, OutsideWindow, Refused

Value = str | int | bool | None

# What a caller does in one call fits in far fewer steps; a flow that ran wild must not fill the table or the memory.
NOTES_MAX = 500
# A value is a few prompt ids or a word. What is longer is cut, since the log is for reading.
VALUE_CHARS_MAX = 300


class Step(StrEnum):
    """What can be noted about a call; the words stand in logs, the database and JSON, so none is ever renamed."""

    # From Asterisk.
    RINGING = "ringing"
    ANSWERED = "answered"
    HUNG_UP = "hung_up"
    # What the dialplan's hangup handler knew of the call, there even when the gateway died in it.
    LAST_WORDS = "last_words"
    # Asterisk no longer has the call, and nobody saw it end: the link was down, or Asterisk itself was.
    VANISHED = "vanished"
    # From the gateway.
    TAKEN = "taken"
    LANGUAGE = "language"
    WRONG_CODE = "wrong_code"
    LOCKED = "locked"
    IDENTIFIED = "identified"
    ASKED = "asked"
    OUTCOME = "outcome"
    # A change completed after the caller had hung up on the confirming key (R18).
    COMPLETED = "completed"
    FAULT = "fault"
    FINISHED = "finished"


# What a note may hold beside its call, town and number. A field that is not named here is dropped: no keyed code or PIN
# reaches the log because somebody passed it along. `key` is a key of a menu; a question for a code or a PIN has none.
FIELDS: Mapping[Step, frozenset[str]] = {
    Step.RINGING: frozenset({"node", "dialled"}),
    Step.ANSWERED: frozenset(),
    Step.HUNG_UP: frozenset({"cause", "cause_text"}),
    Step.LAST_WORDS: frozenset({"dialled", "started", "saved", "outcome", "fallback", "ended", "cause"}),
    Step.VANISHED: frozenset(),
    Step.TAKEN: frozenset({"node", "language"}),
    Step.LANGUAGE: frozenset({"language"}),
    Step.WRONG_CODE: frozenset(),
    Step.LOCKED: frozenset(),
    Step.IDENTIFIED: frozenset({"how", "pupils"}),
    # `heard` is prompt ids, `key` a key of a menu or `-` for silence; `day` is a keyed date as it was understood.
    Step.ASKED: frozenset({"heard", "key", "day"}),
    # `pupil` is a surrogate id; `outcome` is the outcome's word.
    Step.OUTCOME: frozenset({"pupil", "outcome", "receipt"}),
    Step.COMPLETED: frozenset({"pupil", "outcome", "receipt"}),
    Step.FAULT: frozenset({"fault"}),
    Step.FINISHED: frozenset({"outcome"}),
}
# Every word that can stand as an outcome, and those of them that refuse a change.
REFUSALS = frozenset(refusal.word for refusal in get_args(Refused))
OUTCOMES = frozenset(answer.word for answer in get_args(Outcome)) | {
    NOT_IDENTIFIED,
    LOCKED,
    ABANDONED,
    INFORMED,
    FAILED,
}
_MENU_KEYS = frozenset("0123456789*#-")
_STEPS = frozenset(Step)
_RANK = {step: rank for rank, step in enumerate(Step)}


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One note. `call` is Asterisk's unique id, `at` is aware and in UTC, `number` is the caller's, masked."""

    call: str
    at: datetime
    step: Step
    town: str | None = None
    number: str | None = None
    fields: tuple[tuple[str, Value], ...] = ()

    def get(self, name: str) -> Value:
        return next((value for field, value in self.fields if field == name), None)

    def text(self, name: str) -> str:
        """The field as text; empty when it is not there."""
        value = self.get(name)
        return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class CallRecord:
    """All that the log knows of one call. `ended` is None while it lasts; `seconds` are those between answer and end.

    `outcome` is the word of the latest action, or of how a call without one ended; None while that is open. `saved` is what
    the dialplan last knew of a change: empty, `pending`, or its receipts. `steps` counts the questions.
    """

    call: str
    started: datetime
    answered: datetime | None
    ended: datetime | None
    town: str | None
    number: str | None
    dialled: str | None
    language: str | None
    identified: str | None
    pupils: int | None
    outcome: str | None
    receipts: tuple[str, ...]
    steps: int
    cause: int | None
    cause_text: str | None
    seconds: int
    saved: str
    fallback: str | None
    gateway_died: bool
    node: str | None


def known_step(word: str) -> Step | None:
    """The step of that name, None for a word that is none."""
    return Step(word) if word in _STEPS else None


def permitted_fields(step: Step, fields: Mapping[str, Value]) -> tuple[tuple[tuple[str, Value], ...], tuple[str, ...]]:
    """The fields that may stand in the log, in order, and the names of those that may not."""
    kept: list[tuple[str, Value]] = []
    dropped: list[str] = []
    for name in sorted(fields):
        value = fields[name]
        if name not in FIELDS[step]:
            dropped.append(name)
        elif value is None:
            continue
        elif name == "key" and value not in _MENU_KEYS:
            dropped.append(name)
        else:
            kept.append((name, value[:VALUE_CHARS_MAX] if isinstance(value, str) else value))
    return tuple(kept), tuple(dropped)


def fold_call(events: Iterable[CallEvent]) -> CallRecord:
    """The record of the one call that `events` are about, whatever their order and however often each is there.

    Raises ValueError when there are none or they are of several calls.
    """
    notes = sorted(set(events), key=_order)
    if len({note.call for note in notes}) != 1:
        raise ValueError(f"a record is of one call, got notes of {len({note.call for note in notes})}")
    answered = _first_at(notes, Step.ANSWERED)
    ended = next((at for step in _ENDS if (at := _first_at(notes, step)) is not None), None)
    return CallRecord(
        call=notes[0].call,
        started=_first_at(notes, Step.RINGING) or notes[0].at,
        answered=answered,
        ended=ended,
        town=next((note.town for note in notes if note.town), None),
        number=next((note.number for note in notes if note.number), None),
        dialled=_last(notes, "dialled", Step.RINGING, Step.LAST_WORDS),
        language=_last(notes, "language", Step.TAKEN, Step.LANGUAGE),
        identified=_last(notes, "how", Step.IDENTIFIED),
        pupils=_last_number(notes, "pupils", Step.IDENTIFIED),
        outcome=_outcome(notes, is_over=ended is not None),
        receipts=_receipts(notes),
        steps=sum(note.step is Step.ASKED for note in notes),
        cause=_last_number(notes, "cause", Step.LAST_WORDS, Step.HUNG_UP),
        cause_text=_last(notes, "cause_text", Step.HUNG_UP),
        seconds=round((ended - answered).total_seconds()) if answered and ended and ended > answered else 0,
        saved=_last(notes, "saved", Step.LAST_WORDS) or "",
        fallback=_last(notes, "fallback", Step.LAST_WORDS),
        gateway_died=_gateway_died(notes),
        node=_last(notes, "node", Step.TAKEN),
    )


# What tells the end of a call, the surest first.
_ENDS = (Step.HUNG_UP, Step.LAST_WORDS, Step.VANISHED, Step.FINISHED)
# Words for a call that reached no action; an action's word says more.
_WITHOUT_ACTION = frozenset({NOT_IDENTIFIED, LOCKED, ABANDONED, INFORMED, OutsideWindow.word})


def _order(event: CallEvent) -> tuple[datetime, int, str, str, str]:
    return event.at, _RANK[event.step], repr(event.fields), event.town or "", event.number or ""


def _first_at(notes: Iterable[CallEvent], step: Step) -> datetime | None:
    return next((note.at for note in notes if note.step is step), None)


def _last(notes: Sequence[CallEvent], name: str, *steps: Step) -> str | None:
    values = (note.text(name) for note in reversed(notes) if note.step in steps)
    return next((value for value in values if value), None)


def _last_number(notes: Sequence[CallEvent], name: str, *steps: Step) -> int | None:
    text = _last(notes, name, *steps) or ""
    return int(text) if text.isascii() and text.isdigit() else None


def _outcome(notes: Sequence[CallEvent], *, is_over: bool) -> str | None:
    completed = _last(notes, "outcome", Step.COMPLETED)
    finished = _last(notes, "outcome", Step.FINISHED)
    # What the dialplan last knew is all there is of a call in which the gateway died.
    known = _last(notes, "outcome", Step.LAST_WORDS)
    noted = _last(notes, "outcome", Step.OUTCOME)
    by_action = (word for word in (finished, known) if word not in _WITHOUT_ACTION)
    for word in (completed, *by_action, noted, finished, known):
        if word:
            return word
    if not is_over:
        return None
    # A caller who was gone before anybody took the call gave up; any other call without a word is our fault.
    return ABANDONED if _nobody_came(notes) else FAILED


def _nobody_came(notes: Sequence[CallEvent]) -> bool:
    """Whether the dialplan says that neither a gateway took the call nor a fallback was played."""
    if any(note.step is Step.TAKEN for note in notes):
        return False
    last_words = [note for note in notes if note.step is Step.LAST_WORDS]
    return bool(last_words) and not any(note.text("started") or note.text("fallback") for note in last_words)


def _receipts(notes: Sequence[CallEvent]) -> tuple[str, ...]:
    noted = [note.text("receipt") for note in notes if note.step in (Step.OUTCOME, Step.COMPLETED)]
    receipts = dict.fromkeys(receipt for receipt in noted if receipt)
    if not receipts:
        saved = _last(notes, "saved", Step.LAST_WORDS) or ""
        receipts = dict.fromkeys(word for word in saved.replace("-", " ").split() if word.isdigit())
    return tuple(receipts)


def _gateway_died(notes: Sequence[CallEvent]) -> bool:
    """Whether a call that the gateway had taken is over without the gateway having said so, or what went wrong."""
    if any(note.step in (Step.FINISHED, Step.FAULT) or note.text("ended") == "1" for note in notes):
        return False
    was_taken = any(note.step is Step.TAKEN or note.text("started") for note in notes)
    return was_taken and any(note.step in (Step.HUNG_UP, Step.LAST_WORDS, Step.VANISHED) for note in notes)
