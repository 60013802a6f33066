"""The presence of a pupil with many changes on every day of a year, against writing the same changes into a dict of days."""

import random
import statistics
import time
from datetime import UTC, date, datetime, timedelta

from bench.result import Result
from core.changes import Change, ChangeId, Kind, Presence, fold, standing
from core.clock import exactly
from core.people import PupilId
from core.window import Channel

CHANGES = 200
DAYS = 365
ROUNDS = 9
FIRST = date(2026, 9, 1)
DECIDED = exactly(datetime(2026, 8, 31, 17, 30, tzinfo=UTC))


def measure() -> Result:
    history = _history()
    days = [FIRST + timedelta(number) for number in range(DAYS)]
    ours, reference = [], []
    for _ in range(ROUNDS):
        ours.append(_ours(history, days))
        reference.append(_walk(history, days))
    return Result(
        "fold",
        f"the presence of a pupil with {CHANGES} changes on {DAYS} days",
        "writing the same changes over a dict of days, as a table of presences would be kept",
        statistics.median(ours) * 1e3,
        statistics.median(reference) * 1e3,
        "ms",
        None,
        "lower",
    )


def _history() -> list[Change]:
    chance = random.Random(1)  # noqa: S311 - the same history each time
    history: list[Change] = []
    for number in range(CHANGES):
        kind = chance.choice([Kind.CANCEL, Kind.CANCEL, Kind.BLAND, Kind.SUSPEND, Kind.RESUME, Kind.UNDO])
        first = FIRST + timedelta(chance.randrange(DAYS))
        last: date | None = first
        takes_back = None
        if kind is Kind.UNDO:
            left = standing(history)
            kind = Kind.CANCEL if not left else kind
            takes_back = left[-1].id if left else None
        if kind is Kind.SUSPEND:
            last = first + timedelta(chance.randrange(14))
        if kind is Kind.RESUME:
            last = None
        history.append(
            Change(PupilId(1), kind, first, last, f"{number:04}", f"request-{number}", Channel.PHONE, None, "call",
                   DECIDED, False, takes_back, ChangeId(number))
        )  # fmt: skip
    return history


def _ours(history: list[Change], days: list[date]) -> float:
    begun = time.process_time()
    changes = standing(history)
    for day in days:
        fold(changes, day)
    return time.process_time() - begun


def _walk(history: list[Change], days: list[date]) -> float:
    begun = time.process_time()
    kept = dict.fromkeys(days, Presence.PRESENT)
    for change in history:
        for day in days:
            if change.covers(day):
                kept[day] = Presence.CANCELLED
    return time.process_time() - begun
