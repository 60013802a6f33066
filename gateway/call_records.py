"""The call log read back: which calls there were, what is known of each, and what happens now."""

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from core.calendar import ONE_DAY, opening_instant
from gateway.call_log import CallEventStore, event_of_row, every_event
from gateway.store.port import CallEventFilter, CallEventRow
from ivr.calls import NOTES_MAX, CallEvent, CallRecord, fold_call

# A week of a large town at ten notes a call: reading more takes seconds and nobody looks through it line by line.
ROWS_MAX = 200_000
# No call lasts as long: one that began before `since` is not shown without its beginning.
CALL_LASTS_AT_MOST = timedelta(hours=1)
# Asked for so often a clerk sees each key as it is pressed, and the database notices nothing.
POLL_S = 0.5
# How many times the store is asked after a call's end before it is told: its last notes come in a later batch.
POLLS_TO_SETTLE = 3
# What is remembered of calls that go on, and of the towns and numbers of their notes, while following.
CALLS_FOLLOWED_MAX = 1000

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
# No call log goes back further; a year mistyped is not a wish to see everything.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which calls are wanted; what is None does not matter. `since` is when a call began (UTC), at the earliest."""

    since: datetime | None = None
    town: str | None = None
    number_digest: str | None = None
    outcome: str | None = None


@dataclass(slots=True)
class StoredCall:
    """A call's notes as they are stored, oldest first."""

    rows: list[CallEventRow] = field(default_factory=list)

    def notes(self) -> list[CallEvent]:
        return [note for row in self.rows if (note := event_of_row(row)) is not None]

    def is_of(self, wanted: Wanted) -> bool:
        """Whether the call is one of those wanted, its outcome and its beginning aside."""
        return (wanted.town is None or any(row.town == wanted.town for row in self.rows)) and (
            wanted.number_digest is None or any(row.number_digest == wanted.number_digest for row in self.rows)
        )


def parse_since(text: str, now: datetime, timezone: ZoneInfo) -> datetime:
    """The instant (UTC) that `08:30`, `2026-11-23`, `2026-11-23T08:30` or `2h` means where the wall clock is `timezone`'s.

    A time alone is the last such time. Raises ValueError with what is expected.
    """
    try:
        since = _since(text, now, timezone)
    except (ValueError, OverflowError):
        since = None
    if since is None or since < EARLIEST:
        raise ValueError(f"{text!r}; expected 08:30, 2026-11-23, 2026-11-23T08:30, 30m, 2h or 3d")
    return since


def _since(text: str, now: datetime, timezone: ZoneInfo) -> datetime:
    amount, unit = text[:-1], text[-1:]
    if unit in _UNITS and amount.isascii() and amount.isdigit():
        return now - int(amount) * _UNITS[unit]
    if len(text) == len("08:30"):
        today, at = now.astimezone(timezone).date(), time.fromisoformat(text)
        latest = opening_instant(today, at, timezone)
        return latest if latest <= now else opening_instant(today - ONE_DAY, at, timezone)
    since = datetime.fromisoformat(text)
    return since.astimezone(UTC) if since.tzinfo else opening_instant(since.date(), since.time(), timezone)


async def records(store: CallEventStore, wanted: Wanted) -> list[CallRecord]:
    """The wanted calls in the order in which they began; those going on have no `ended`."""
    calls: dict[str, StoredCall] = {}
    since = None if wanted.since is None else wanted.since - CALL_LASTS_AT_MOST
    async for row in every_event(store, CallEventFilter(since=since), rows_max=ROWS_MAX):
        calls.setdefault(row.call, StoredCall()).rows.append(row)
    found = [fold_call(notes) for call in calls.values() if call.is_of(wanted) and (notes := call.notes())]
    return sorted(
        (record for record in found if _is_wanted(record, wanted)), key=lambda record: (record.started, record.call)
    )


async def one_call(store: CallEventStore, call: str) -> StoredCall:
    """What is stored of one call; without rows when there is none of that name."""
    rows = [row async for row in every_event(store, CallEventFilter(call=call), rows_max=2 * NOTES_MAX)]
    return StoredCall(rows)


async def last_id(store: CallEventStore) -> int:
    """The id of the newest event, 0 when there is none."""
    newest = await store.call_events(newest=True, limit=1)
    return newest[-1].id if newest else 0


async def follow(
    store: CallEventStore, wanted: Wanted, after_id: int, pause: Callable[[], Awaitable[None]]
) -> AsyncIterator[CallEvent | CallRecord]:
    """What happens from now on: each note of a wanted call as it is stored, and its record when it is over.

    `pause` is awaited between two looks at the store; it ends this by raising. With an outcome wanted only records come,
    since no note says yet how its call will end.
    """
    calls: OrderedDict[str, StoredCall] = OrderedDict()
    settling: dict[str, int] = {}
    while True:
        async for row in every_event(store, CallEventFilter(), after_id=after_id, rows_max=ROWS_MAX):
            after_id = row.id
            call = calls.setdefault(row.call, StoredCall())
            if len(call.rows) < 2 * NOTES_MAX:
                call.rows.append(row)
            note = event_of_row(row)
            if note is not None and wanted.outcome is None and call.is_of(wanted):
                yield note
        for name, call in list(calls.items()):
            notes = call.notes()
            if not notes or fold_call(notes).ended is None:
                continue
            settling[name] = settling.get(name, 0) + 1
            if settling[name] < POLLS_TO_SETTLE:
                continue
            del calls[name], settling[name]
            # The beginning may have been stored before this began to look.
            whole = await one_call(store, name)
            record = fold_call(whole.notes())
            if whole.is_of(wanted) and (wanted.outcome is None or record.outcome == wanted.outcome):
                yield record
        _forget(calls, settling)
        await pause()


def _forget(calls: "OrderedDict[str, StoredCall]", settling: dict[str, int]) -> None:
    while len(calls) > CALLS_FOLLOWED_MAX:
        name, _ = calls.popitem(last=False)
        settling.pop(name, None)


def _is_wanted(record: CallRecord, wanted: Wanted) -> bool:
    return (wanted.since is None or record.started >= wanted.since) and (
        wanted.outcome is None or record.outcome == wanted.outcome
    )
