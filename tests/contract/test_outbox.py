"""What every store does with messages that have to be told: its outbox."""

import asyncio
from datetime import UTC, datetime, timedelta

from core.ports import MessageKind, NewMessage
from gateway.store.port import MessageState, Store, Town

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
A_WEEK = timedelta(days=7)


def order(number: int, created: datetime = NOW) -> NewMessage:
    return NewMessage(f"order-{number}", MessageKind.ORDER, {"order": number}, created)


async def test_a_message_is_found_by_its_id(store: Store, here: Town) -> None:
    added = await here.add_message(order(1))

    assert await store.message(added.id) == added
    assert await store.message(added.id + 1) is None


async def test_messages_of_one_town_and_state_are_shown_newest_first(store: Store, here: Town, elsewhere: Town) -> None:
    first, second = await here.add_message(order(1)), await here.add_message(order(2))
    await elsewhere.add_message(order(1))
    await store.message_failed(first.id, "550 no such user", None)

    assert [each.id for each in await store.messages(town="roccachiara")] == [second.id, first.id]
    assert [each.id for each in await store.messages(MessageState.DEAD, town="roccachiara")] == [first.id]
    assert await store.messages(MessageState.DEAD, town="montelago") == ()
    assert [each.id for each in await store.messages(MessageState.DEAD)] == [first.id]


async def test_the_outbox_says_how_many_wait_since_when_and_how_many_died_lately(store: Store, here: Town) -> None:
    await here.add_message(order(1, NOW + timedelta(minutes=5)))
    oldest = await here.add_message(order(2, NOW - timedelta(minutes=5)))
    sent = await here.add_message(order(3))
    await store.message_sent(sent.id, NOW)
    for number, created in ((4, NOW), (5, NOW - A_WEEK - timedelta(seconds=1))):
        dead = await here.add_message(order(number, created))
        await store.message_failed(dead.id, "550 no such user", None)

    state = await store.outbox_state(NOW - A_WEEK)

    assert (state.waiting, state.oldest, state.dead) == (2, oldest.created, 1)


async def test_an_empty_outbox_is_empty(store: Store) -> None:
    state = await store.outbox_state(NOW)

    assert (state.waiting, state.oldest, state.dead) == (0, None, 0)


async def test_a_message_goes_through_its_whole_life(store: Store, here: Town) -> None:
    added = await here.add_message(order(1))

    [taken] = await store.take_messages(NOW, NOW + timedelta(minutes=2), 5)
    nobody_else = await store.take_messages(NOW + timedelta(minutes=1), NOW + timedelta(minutes=3), 5)
    await store.message_failed(added.id, "451 try later", NOW + timedelta(minutes=4))
    too_early = await store.take_messages(NOW + timedelta(minutes=3), NOW + timedelta(minutes=5), 5)
    [again] = await store.take_messages(NOW + timedelta(minutes=4), NOW + timedelta(minutes=6), 5)
    await store.message_failed(added.id, "550 no such user", None)
    is_tried = await store.retry_message(added.id, NOW + timedelta(minutes=7))
    [last] = await store.take_messages(NOW + timedelta(minutes=7), NOW + timedelta(minutes=9), 5)
    await store.message_sent(added.id, NOW + timedelta(minutes=8))

    assert (taken.id, taken.tries, nobody_else, too_early) == (added.id, 1, (), ())
    assert (again.tries, again.fault, is_tried, last.tries) == (2, "451 try later", True, 1)
    sent = await store.message(added.id)
    assert sent is not None
    assert (sent.state, sent.sent, sent.fault) == (MessageState.SENT, NOW + timedelta(minutes=8), None)


async def test_a_message_whose_lease_ran_out_is_given_to_the_next(store: Store, here: Town) -> None:
    added = await here.add_message(order(1))
    await store.take_messages(NOW, NOW + timedelta(minutes=2), 5)

    [taken_over] = await store.take_messages(NOW + timedelta(minutes=2), NOW + timedelta(minutes=4), 5)

    assert (taken_over.id, taken_over.tries) == (added.id, 2)


async def test_a_message_that_is_sent_fails_no_more_however_late_somebody_says_so(store: Store, here: Town) -> None:
    first, second = await here.add_message(order(1)), await here.add_message(order(2))
    for each in (first, second):
        await store.message_sent(each.id, NOW)

    await store.message_failed(first.id, "no answer", None)
    await store.message_failed(second.id, "no answer", NOW)

    assert {each.state for each in await store.messages()} == {MessageState.SENT}
    assert await store.take_messages(NOW + timedelta(days=1), NOW + timedelta(days=2), 5) == ()


async def test_gateways_that_take_at_once_take_different_messages(store: Store, here: Town) -> None:
    added = [await here.add_message(order(number)) for number in range(12)]
    until = NOW + timedelta(minutes=2)

    at_once = await asyncio.gather(*(store.take_messages(NOW, until, 4) for _ in range(6)))
    rest = await store.take_messages(NOW, until, 12)

    taken = [message.id for messages in (*at_once, rest) for message in messages]
    assert sorted(taken) == [each.id for each in added]
