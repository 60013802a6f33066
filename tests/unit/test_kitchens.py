"""What a command closes before it changes who is on a roll (R25)."""

import asyncio
from datetime import date, timedelta

from core.access import Actor
from core.clock import exactly
from core.desk import Cancel, Request
from core.window import Channel
from gateway.clock import FixedClock
from gateway.kitchens import close_what_is_due
from gateway.logs import get_log
from gateway.municipality import Municipality
from gateway.store.memory import MemoryStore
from gateway.store.port import Node
from gateway.telephone import TownDesks, open_desks
from tests.store_people import HASHER, no_pin, people
from tests.towns import local, town

KEY = "roccachiara"
TUESDAY = date(2026, 11, 24)
# Primaria's; the infants' school closes at 08:45.
CUTOFF = local("2026-11-24 09:30")
NOON = FixedClock(local("2026-11-24 09:45"))


def desks_in(store: MemoryStore) -> TownDesks:
    municipality = Municipality(KEY, "Roccachiara", ("it",), (), 5, 4, timedelta(seconds=2), town())
    return open_desks(lambda: municipality, store, HASHER)


async def test_R25_a_town_of_which_nothing_was_known_is_closed_from_now_on() -> None:
    store = MemoryStore()
    desks = desks_in(store)

    assert await close_what_is_due(store, desks, NOON, get_log()) == ()

    assert await store.closings_since([KEY], local("2027-01-01 12:00")) == {KEY: NOON.read().midpoint}


async def test_R25_what_is_due_is_closed_once_whoever_comes_after() -> None:
    store = MemoryStore()
    desks = desks_in(store)
    await store.closings_since([KEY], local("2026-11-24 07:00"))

    first, second = [await close_what_is_due(store, desks, NOON, get_log()) for _ in range(2)]

    assert [(each.headcount.school, each.headcount.day) for each in first] == [
        ("infanzia", TUESDAY),
        ("primaria", TUESDAY),
    ]
    assert second == ()


async def test_R25_gateways_are_waited_for_so_that_what_was_decided_in_time_counts() -> None:
    store = MemoryStore()
    desks = desks_in(store)
    await store.closings_since([KEY], local("2026-11-24 07:00"))
    await desks.store.import_people(people(), HASHER, no_pin)
    now = NOON.read().midpoint
    await store.beat(Node("gateway", now, CUTOFF - timedelta(seconds=1), "hash", 1))
    anna, _ = await desks.store.all_pupils()

    closing = asyncio.create_task(close_what_is_due(store, desks, NOON, get_log()))
    for _ in range(20):
        await asyncio.sleep(0)
    before = await desks.store.closing("primaria", TUESDAY)
    actor = Actor(Channel.PHONE, "call-1", None, frozenset({anna.id}))
    [outcome] = await desks.booking.act(actor, [Request(anna, Cancel(TUESDAY), "key-1")], exactly(CUTOFF))
    settled = Node("gateway", now, CUTOFF + timedelta(seconds=1), "hash", 1)
    await store.beat(settled)
    closed = await closing

    assert (before, outcome.word) == (None, "cancelled")
    assert {each.headcount.school: each.headcount.meals for each in closed} == {"infanzia": 0, "primaria": 1}
    # The command is no gateway any more.
    assert await store.beat(settled) == (settled,)
