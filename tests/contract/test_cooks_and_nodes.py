"""What every store does with the cooks of a town, the gateways on it, and the keys of its messages."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from core.access import cook_pin_digest, pin_digest
from core.people import GuardianId, UserCode
from core.ports import MessageKind, NewMessage
from gateway.store.port import NewCook, Node, Store, StoreConflictError, Town
from tests.store_people import HASHER, enrolled, guardian, no_pin, people, pupil

NOW = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
CODE, OTHER = UserCode("90001"), UserCode("90002")


def cook(code: UserCode = CODE, pin: str | None = "4711", *schools: str, language: str = "it") -> NewCook:
    return NewCook(code, pin, schools, language)


# Cooks


async def test_a_cook_is_found_by_the_code_within_the_town(here: Town, elsewhere: Town) -> None:
    made = await here.import_cooks(
        [cook(CODE, "4711", "primaria", "infanzia", language="en"), cook(OTHER)], HASHER, no_pin
    )

    found, other = await here.cook(CODE), await here.cook(OTHER)

    assert made == {}
    assert found is not None
    assert other is not None
    assert (found.code, found.schools, found.language) == (CODE, ("primaria", "infanzia"), "en")
    assert found.pin_digest == cook_pin_digest(HASHER, found.id, "4711")
    assert other.schools == ()
    assert await elsewhere.cook(CODE) is None
    assert await here.cook(UserCode("90003")) is None


async def test_a_pin_is_made_for_a_new_cook_without_one_and_kept_ever_after(here: Town) -> None:
    made = await here.import_cooks([cook(pin=None)], HASHER, lambda: "8080")
    before = await here.cook(CODE)

    again = await here.import_cooks([cook(CODE, None, "primaria")], HASHER, no_pin)

    after = await here.cook(CODE)
    assert (made, again) == ({CODE: "8080"}, {})
    assert before is not None
    assert after is not None
    assert (after.id, after.pin_digest) == (before.id, cook_pin_digest(HASHER, before.id, "8080"))
    assert after.schools == ("primaria",)


async def test_a_cooks_pin_in_the_file_replaces_the_one_that_was(here: Town) -> None:
    await here.import_cooks([cook()], HASHER, no_pin)

    await here.import_cooks([cook(pin="1111")], HASHER, no_pin)

    found = await here.cook(CODE)
    assert found is not None
    assert found.pin_digest == cook_pin_digest(HASHER, found.id, "1111")


async def test_the_cooks_of_the_file_replace_those_before(here: Town) -> None:
    await here.import_cooks([cook(), cook(OTHER)], HASHER, no_pin)

    await here.import_cooks([cook(OTHER)], HASHER, no_pin)

    assert await here.cook(CODE) is None
    assert await here.cook(OTHER) is not None


async def test_a_cook_may_not_have_a_pupils_code_and_nothing_of_the_file_is_kept(here: Town) -> None:
    await enrolled(here, people((guardian(),), pupil("50001", 0)))
    await here.import_cooks([cook()], HASHER, no_pin)

    with pytest.raises(StoreConflictError, match=r"50001.*nothing"):
        await here.import_cooks([cook(OTHER), cook(UserCode("50001"))], HASHER, no_pin)

    assert await here.cook(CODE) is not None
    assert await here.cook(OTHER) is None


async def test_a_pupil_may_not_have_a_cooks_code_and_nothing_of_the_file_is_kept(here: Town) -> None:
    await here.import_cooks([cook()], HASHER, no_pin)

    with pytest.raises(StoreConflictError, match=r"90001.*nothing"):
        await here.import_people(people((guardian(),), pupil("50001", 0), pupil("90001", 0)), HASHER, no_pin)

    assert await here.all_pupils() == ()


async def test_a_code_may_be_a_cooks_in_one_town_and_a_pupils_in_another(here: Town, elsewhere: Town) -> None:
    await here.import_cooks([cook()], HASHER, no_pin)

    await elsewhere.import_people(people((guardian(),), pupil("90001", 0)), HASHER, no_pin)

    assert await here.cook(CODE) is not None
    assert await here.pupil(CODE) is None
    assert await elsewhere.pupil(CODE) is not None


async def test_the_same_pin_does_not_look_alike_for_a_cook_and_a_guardian(here: Town) -> None:
    await here.import_cooks([cook()], HASHER, no_pin)

    found = await here.cook(CODE)

    assert found is not None
    assert found.pin_digest != pin_digest(HASHER, GuardianId(int(found.id)), "4711")


# Gateways


def node(name: str, seconds: int = 0, configuration: str = "hash") -> Node:
    seen = NOW + timedelta(seconds=seconds)
    return Node(name, seen, seen - timedelta(milliseconds=3), configuration, 2)


async def test_a_gateway_that_says_how_it_is_hears_of_all_in_the_order_of_their_names(store: Store) -> None:
    assert await store.beat(node("second")) == (node("second"),)
    assert await store.beat(node("first", 1)) == (node("first", 1), node("second"))

    assert await store.beat(node("second", 5, "another hash")) == (node("first", 1), node("second", 5, "another hash"))


async def test_a_gateway_that_leaves_is_gone_and_one_that_was_never_there_may_leave(store: Store) -> None:
    for name in ("first", "second"):
        await store.beat(node(name))

    await store.leave("first")
    await store.leave("third")

    assert await store.beat(node("second", 1)) == (node("second", 1),)


async def test_what_was_given_to_the_store_before_is_kept_once_it_has_settled(store: Store, here: Town) -> None:
    given = asyncio.create_task(enrolled(here))
    await asyncio.sleep(0)

    await store.settle()

    assert len(await here.all_pupils()) == 2
    await given


# Messages


async def test_a_key_is_one_message_of_its_town_and_stays_as_it_was_first_told(
    store: Store, here: Town, elsewhere: Town
) -> None:
    first = NewMessage("order-1", MessageKind.ORDER, {"order": 1}, NOW)
    later = NewMessage("order-1", MessageKind.ORDER_COPY, {"order": 1, "to": "cucina"}, NOW + timedelta(hours=1))

    one, again = await here.add_message(first), await here.add_message(later)
    other = await elsewhere.add_message(later)

    assert again == one
    assert (one.key, one.kind, one.about, one.created, one.town) == (
        "order-1", MessageKind.ORDER, {"order": 1}, NOW, "roccachiara",
    )  # fmt: skip
    assert (other.kind, other.about, other.town) == (MessageKind.ORDER_COPY, {"order": 1, "to": "cucina"}, "montelago")
    assert {each.id for each in await store.messages()} == {one.id, other.id}


async def test_messages_are_taken_oldest_first_as_many_as_are_wanted(store: Store, here: Town, elsewhere: Town) -> None:
    for number, minutes in ((1, 3), (2, 1), (3, 2)):
        created = NOW + timedelta(minutes=minutes)
        await here.add_message(NewMessage(f"order-{number}", MessageKind.ORDER, {"order": number}, created))
    await elsewhere.add_message(NewMessage("order-1", MessageKind.ORDER, {"order": 1}, NOW))
    now, until = NOW + timedelta(minutes=10), NOW + timedelta(minutes=12)

    first, then = await store.take_messages(now, until, 3), await store.take_messages(now, until, 3)

    assert [(each.town, each.about["order"]) for each in first] == [
        ("montelago", 1),
        ("roccachiara", 2),
        ("roccachiara", 3),
    ]
    assert [each.about["order"] for each in then] == [1]


async def test_a_message_is_given_to_one_of_those_who_ask_at_once(store: Store, here: Town) -> None:
    for number in range(1, 21):
        await here.add_message(NewMessage(f"order-{number}", MessageKind.ORDER, {"order": number}, NOW))

    taken = await asyncio.gather(*(store.take_messages(NOW, NOW + timedelta(minutes=2), 5) for _ in range(10)))

    ids = [each.id for some in taken for each in some]
    assert len(ids) == len(set(ids)) == 20


async def test_nothing_is_retried_that_is_sent_or_was_never_there(store: Store, here: Town) -> None:
    added = await here.add_message(NewMessage("order-1", MessageKind.ORDER, {"order": 1}, NOW))
    await store.message_sent(added.id, NOW)

    assert await store.retry_message(added.id, NOW) is False
    assert await store.retry_message(added.id + 1, NOW) is False
    assert await store.take_messages(NOW, NOW + timedelta(minutes=2), 5) == ()
