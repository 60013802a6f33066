"""The call log read back."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway.call_records import CALLS_FOLLOWED_MAX, Wanted, follow, last_id, one_call, parse_since, records
from gateway.store.memory import MemoryStore
from gateway.store.port import NewCallEvent
from ivr.calls import CallEvent, CallRecord

ROME = ZoneInfo("Europe/Rome")
# 08:30 in Rome.
NOW = datetime(2026, 11, 24, 7, 30, tzinfo=UTC)


class EnoughError(Exception):
    """Ends what would be followed for ever."""


def event(
    call: str,
    minute: float,
    word: str,
    town: str | None = "roccachiara",
    digest: str | None = None,
    **fields: str | int,
) -> NewCallEvent:
    return NewCallEvent(call, NOW + timedelta(minutes=minute), word, town, None, digest, fields)


def a_call(call: str, minute: float, outcome: str, town: str = "roccachiara", digest: str = "d1") -> list[NewCallEvent]:
    return [
        event(call, minute, "ringing", town, dialled="+39800000100"),
        event(call, minute + 0.1, "taken", town, digest, node="one"),
        event(call, minute + 0.2, "answered", town, digest),
        event(call, minute + 0.4, "outcome", town, digest, outcome=outcome),
        event(call, minute + 0.5, "finished", town, digest, outcome=outcome),
        event(call, minute + 0.6, "hung_up", town, digest, cause=16),
    ]


def pauses(*steps: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """What happens between one look at the store and the next; then the end."""
    coming = iter(steps)

    async def pause() -> None:
        step = next(coming, None)
        if step is None:
            raise EnoughError
        await step()

    return pause


async def nothing() -> None:
    return None


async def followed(
    store: MemoryStore, wanted: Wanted, pause: Callable[[], Awaitable[None]], after_id: int = 0
) -> list[CallEvent | CallRecord]:
    seen: list[CallEvent | CallRecord] = []
    try:
        async for each in follow(store, wanted, after_id, pause):
            seen.append(each)
    except EnoughError:
        return seen
    raise AssertionError("following ended by itself")


async def test_calls_are_told_in_the_order_in_which_they_began() -> None:
    store = MemoryStore()
    await store.add_call_events([*a_call("1.2", 5, "bland"), *a_call("1.1", 3, "cancelled")])

    found = await records(store, Wanted())

    assert [(record.call, record.outcome) for record in found] == [("1.1", "cancelled"), ("1.2", "bland")]


@pytest.mark.parametrize(
    ("wanted", "calls"),
    [
        (Wanted(town="roccachiara"), ["1.1", "1.2"]),
        (Wanted(town="valfonda"), ["1.3"]),
        (Wanted(number_digest="d2"), ["1.2"]),
        (Wanted(outcome="too_late"), ["1.2", "1.3"]),
        (Wanted(outcome="too_late", town="valfonda"), ["1.3"]),
        (Wanted(since=NOW + timedelta(minutes=2)), ["1.2", "1.3"]),
        (Wanted(since=NOW + timedelta(minutes=3.5)), ["1.3"]),
        (Wanted(outcome="resumed"), []),
    ],
)
async def test_calls_are_found_by_town_number_outcome_and_beginning(wanted: Wanted, calls: list[str]) -> None:
    store = MemoryStore()
    await store.add_call_events(
        [
            *a_call("1.1", 1, "cancelled"),
            *a_call("1.2", 3, "too_late", digest="d2"),
            *a_call("1.3", 4, "too_late", town="valfonda"),
        ]
    )

    assert [record.call for record in await records(store, wanted)] == calls


async def test_a_call_found_by_its_number_has_also_the_notes_made_before_the_number_was_known() -> None:
    store = MemoryStore()
    await store.add_call_events(a_call("1.1", 1, "cancelled", digest="d1"))

    (record,) = await records(store, Wanted(number_digest="d1"))

    assert record.dialled == "+39800000100"


async def test_more_calls_than_one_page_of_the_store_are_all_found() -> None:
    store = MemoryStore()
    for number in range(300):
        await store.add_call_events(a_call(f"1.{number}", number / 100, "cancelled"))

    assert len(await records(store, Wanted())) == 300


async def test_events_of_a_later_version_are_passed_over() -> None:
    store = MemoryStore()
    await store.add_call_events([event("1.1", 0, "telepathy"), *a_call("1.2", 1, "cancelled")])

    assert [record.call for record in await records(store, Wanted())] == ["1.2"]


async def test_one_call_is_found_by_its_id() -> None:
    store = MemoryStore()
    await store.add_call_events([*a_call("1.1", 1, "cancelled"), *a_call("1.2", 3, "bland")])

    assert len((await one_call(store, "1.2")).notes()) == 6
    assert (await one_call(store, "1.9")).rows == []


async def test_what_happens_is_told_as_it_is_stored_and_the_record_when_the_call_is_over() -> None:
    store = MemoryStore()
    await store.add_call_events(a_call("1.0", 0, "bland"))
    ringing, *rest = a_call("1.1", 1, "cancelled")

    async def rings() -> None:
        await store.add_call_events([ringing])

    async def goes_on() -> None:
        await store.add_call_events(rest)

    seen = await followed(store, Wanted(), pauses(rings, goes_on, nothing, nothing, nothing), await last_id(store))

    *notes, record = seen
    assert [note.step for note in notes if isinstance(note, CallEvent)] == [
        "ringing", "taken", "answered", "outcome", "finished", "hung_up"
    ]  # fmt: skip
    assert isinstance(record, CallRecord)
    assert (record.call, record.outcome) == ("1.1", "cancelled")


async def test_the_record_of_a_call_is_told_once_and_after_its_last_notes() -> None:
    store = MemoryStore()
    first, last = a_call("1.1", 1, "abandoned")[:-1], event("1.1", 2, "completed", digest="d1", outcome="cancelled")

    async def ends() -> None:
        await store.add_call_events(first)

    async def is_completed() -> None:
        await store.add_call_events([last])

    seen = await followed(store, Wanted(), pauses(ends, is_completed, *[nothing] * 10))

    (record,) = [each for each in seen if isinstance(each, CallRecord)]
    assert record.outcome == "cancelled"


async def test_the_record_of_a_call_that_was_going_on_has_its_beginning() -> None:
    store = MemoryStore()
    *before, finished, hung_up = a_call("1.1", 1, "cancelled")
    await store.add_call_events(before)
    seen_before = await last_id(store)

    async def ends() -> None:
        await store.add_call_events([finished, hung_up])

    seen = await followed(store, Wanted(), pauses(ends, *[nothing] * 5), seen_before)

    record = seen[-1]
    assert isinstance(record, CallRecord)
    assert record.started == before[0].at


async def test_only_what_is_wanted_is_followed() -> None:
    store = MemoryStore()

    async def calls() -> None:
        await store.add_call_events([*a_call("1.1", 1, "cancelled"), *a_call("1.2", 1, "bland", town="valfonda")])

    of_a_town = await followed(store, Wanted(town="valfonda"), pauses(calls, *[nothing] * 5))
    of_a_number = await followed(store, Wanted(number_digest="none"), pauses(*[nothing] * 5))
    of_an_outcome = await followed(store, Wanted(outcome="cancelled"), pauses(*[nothing] * 5))

    assert {each.call for each in of_a_town} == {"1.2"}
    assert of_a_number == []
    assert [type(each) for each in of_an_outcome] == [CallRecord]
    assert of_an_outcome[0].call == "1.1"


async def test_calls_that_never_end_are_forgotten_beyond_a_limit() -> None:
    store = MemoryStore()
    await store.add_call_events([event(f"1.{number}", 0, "taken") for number in range(CALLS_FOLLOWED_MAX + 200)])

    async def the_first_ends() -> None:
        await store.add_call_events([event("1.0", 1, "hung_up"), event("1.1199", 1, "hung_up")])

    seen = await followed(store, Wanted(), pauses(the_first_ends, *[nothing] * 5))

    assert {each.call for each in seen if isinstance(each, CallRecord)} == {"1.0", "1.1199"}


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("08:30", NOW),
        ("08:00", datetime(2026, 11, 24, 7, 0, tzinfo=UTC)),
        ("18:00", datetime(2026, 11, 23, 17, 0, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 22, 23, 0, tzinfo=UTC)),
        ("2026-11-23T08:30", datetime(2026, 11, 23, 7, 30, tzinfo=UTC)),
        ("2026-11-23 08:30:15", datetime(2026, 11, 23, 7, 30, 15, tzinfo=UTC)),
        ("2026-11-23T08:30+00:00", datetime(2026, 11, 23, 8, 30, tzinfo=UTC)),
        ("2026-10-25T02:30", datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
    ],
)
def test_a_clerk_says_since_when_as_clerks_do(text: str, means: datetime) -> None:
    assert parse_since(text, NOW, ROME) == means


@pytest.mark.parametrize(
    "text", ["", "h", "2x", "-2h", "25:00", "8.30", "yesterday", "2026-13-01", "0001-01-01", "99999d", "999999d", "²h"]
)
def test_what_is_no_time_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="expected 08:30, 2026-11-23"):
        parse_since(text, NOW, ROME)
