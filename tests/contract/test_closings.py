"""What every store does with a school's roll and with the closings that are made of it (R25)."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from core.access import Actor
from core.changes import ChangeId, Kind, Presence
from core.clock import exactly
from core.desk import BookingDesk, Cancel, Request
from core.headcount import (
    ClassRoll,
    Closing,
    CountedChange,
    Headcount,
    MealCount,
    OnRoll,
    Roll,
    Tray,
    count_meals,
    digest_of,
)
from core.kitchen import Due, KitchenDesk, order_message
from core.people import Diet, NewPupil
from core.ports import Closings, ClosingState, Entries, Kept, MessageKind
from core.window import Channel
from gateway.store.port import Store, StoreConflictError, Town
from tests.store_people import DAY, HASHER, add, cancel, enrolled, guardian, history, no_pin, people, pupil
from tests.towns import at, calendar, local
from tests.towns import town as rules

CUTOFF = local("2026-11-24 09:30").astimezone(UTC)
AFTER = exactly(CUTOFF + timedelta(seconds=1), bound=timedelta(microseconds=41_003), source="chrony")
WEDNESDAY = DAY + timedelta(days=1)
NOW = datetime(2026, 11, 23, 17, 30, tzinfo=UTC)
CELIAC = Diet("C", date(2026, 9, 14), date(2027, 6, 8))
NONE: frozenset[str] = frozenset()


def of_infanzia(code: str, *guardians: int) -> NewPupil:
    return replace(pupil(code, *guardians, class_group="Blu"), school="infanzia")


async def two_schools(town: Town) -> None:
    await enrolled(town, people((guardian(),), pupil("50001", 0), of_infanzia("50002", 0)))


def closing(school: str, roll: Roll, order: int, day: date = DAY) -> Closing:
    headcount = count_meals(calendar(), NONE, school, day, roll)
    return Closing(headcount, order, CUTOFF, AFTER, digest_of("roccachiara", headcount, order, CUTOFF))


async def close(
    town: Town, *schools: str, day: date = DAY, order: int | None = None, tells: bool = False
) -> Sequence[Closing]:
    """Close these schools' day in one transaction, under the order number that is next unless one is given."""

    def decide(state: ClosingState) -> tuple[Closings, Sequence[Closing]]:
        number = state.next_order if order is None else order
        made = tuple(closing(school, roll, number, day) for school, roll in state.rolls.items())
        messages = (order_message(number, NOW),) if tells and made else ()
        return Closings(made, messages), made

    return await town.transact_closing(day, schools, NONE, decide)


# Rolls


async def test_a_roll_has_the_pupils_of_its_school_by_class_group_and_diet(here: Town, elsewhere: Town) -> None:
    bruno = replace(pupil("50003", 0), diet=CELIAC)
    everybody = (pupil("50001", 0), pupil("50002", 0), bruno, pupil("50004", 0, class_group="3B"))
    await enrolled(here, people((guardian(),), *everybody, of_infanzia("50005", 0)))
    await enrolled(elsewhere)

    roll = await here.roll("primaria", DAY, NONE)

    assert set(roll.classes) == {ClassRoll("1A", None, 2), ClassRoll("1A", CELIAC, 1), ClassRoll("3B", None, 1)}
    assert (roll.changed, roll.on_trays) == ((), ())


async def test_of_a_school_without_pupils_and_of_a_town_without_rows_the_roll_is_empty(here: Town) -> None:
    assert await here.roll("primaria", DAY, NONE) == Roll(())

    await enrolled(here)

    assert await here.roll("secondaria", DAY, frozenset({"C"})) == Roll(())


async def test_a_roll_has_the_standing_changes_that_cover_the_day(here: Town) -> None:
    anna, bruno, carlo = await enrolled(
        here, people((guardian(),), pupil("50001", 0), pupil("50002", 0), pupil("50003", 0))
    )
    before, after = DAY - timedelta(days=1), DAY + timedelta(days=1)
    suspension = cancel(anna.id, kind=Kind.SUSPEND, first=before, last=None)
    elsewhen = (cancel(carlo.id, first=before, last=before), cancel(carlo.id, first=after, last=after))
    resumption = cancel(anna.id, kind=Kind.RESUME, first=after, last=None)
    through = cancel(bruno.id, kind=Kind.SUSPEND, first=before, last=DAY)
    await add(here, suspension, cancel(anna.id), resumption, *elsewhen, through)

    roll = await here.roll("primaria", DAY, NONE)

    assert [each.pupil for each in roll.changed] == [anna.id, bruno.id]
    assert roll.changed[0] == OnRoll(anna.id, "1A", None, tuple((await history(here, anna.id))[:2]))
    assert roll.changed[1].changes == tuple(await history(here, bruno.id))


async def test_R32_what_was_taken_back_is_not_on_the_roll(here: Town) -> None:
    anna, _ = await enrolled(here)
    await add(here, cancel(anna.id), cancel(anna.id, kind=Kind.BLAND))
    cancelled, bland = await history(here, anna.id)
    await add(here, cancel(anna.id, kind=Kind.UNDO, takes_back=cancelled.id))

    roll = await here.roll("primaria", DAY, NONE)

    assert [each.changes for each in roll.changed] == [(bland,)]


async def test_a_roll_names_singly_those_whose_diet_is_served_on_trays(here: Town) -> None:
    others = Diet("V", None, None)
    three = (
        replace(pupil("50001", 0), diet=CELIAC),
        replace(pupil("50002", 0), diet=others),
        replace(of_infanzia("50003", 0), diet=CELIAC),
    )
    anna, *_ = await enrolled(here, people((guardian(),), *three))

    assert (await here.roll("primaria", DAY, frozenset({"C", "N"}))).on_trays == (OnRoll(anna.id, "1A", CELIAC),)
    assert (await here.roll("primaria", DAY, NONE)).on_trays == ()


async def test_who_is_erased_is_on_no_roll(here: Town) -> None:
    anna, _ = await enrolled(here)
    await add(here, cancel(anna.id))

    await here.erase_pupil(anna.id)

    assert await here.roll("primaria", DAY, NONE) == Roll((ClassRoll("1A", None, 1),))


# Closings


async def test_R25_a_closing_comes_back_as_it_was_made(here: Town) -> None:
    anna, bruno = await enrolled(here)
    await add(here, cancel(anna.id))
    [change] = await history(here, anna.id)
    headcount = Headcount(
        "primaria",
        DAY,
        ("1A", "2ª"),
        (MealCount("1A", Presence.PRESENT, None, 20), MealCount("2ª", Presence.BLAND, "C", 1)),
        (CountedChange(anna.id, Presence.CANCELLED, change.id),),
        (Tray(bruno.id, "2ª", Presence.BLAND, "C"),),
    )
    made = Closing(headcount, 1, CUTOFF, replace(AFTER, synchronised=False), "the digest")

    await here.transact_closing(DAY, ["primaria"], NONE, lambda _: (Closings((made,)), None))

    assert await here.closing("primaria", DAY) == made
    assert await here.order(1) == (made,)


async def test_what_is_not_closed_has_no_closing_and_no_order(here: Town, elsewhere: Town) -> None:
    assert (await here.closing("primaria", DAY), await here.order(1)) == (None, ())

    await close(here, "primaria")

    assert await here.closing("primaria", WEDNESDAY) is None
    assert await here.closing("infanzia", DAY) is None
    assert await here.order(2) == ()
    assert (await elsewhere.closing("primaria", DAY), await elsewhere.order(1)) == (None, ())


async def test_R25_a_day_is_closed_once_and_later_tries_are_shown_nothing_to_close(here: Town) -> None:
    await enrolled(here)

    first, second = await close(here, "primaria"), await close(here, "primaria")

    assert (len(first), len(second)) == (1, 0)
    assert await here.closing("primaria", DAY) == first[0]


async def test_R25_of_many_who_close_at_once_one_does(here: Town) -> None:
    await two_schools(here)

    tries = await asyncio.gather(*(close(here, "primaria", "infanzia", tells=True) for _ in range(20)))

    assert sorted(len(each) for each in tries) == [0] * 19 + [2]
    assert [each.headcount.school for each in await here.order(1)] == ["infanzia", "primaria"]
    assert await here.order(2) == ()


async def test_schools_that_are_closed_together_have_one_order_and_those_closed_before_keep_theirs(here: Town) -> None:
    await two_schools(here)
    await close(here, "primaria")

    await close(here, "primaria", "infanzia", "secondaria")

    assert [each.headcount.school for each in await here.order(1)] == ["primaria"]
    assert [each.headcount.school for each in await here.order(2)] == ["infanzia", "secondaria"]


async def test_orders_are_numbered_without_gaps_in_each_town(here: Town, elsewhere: Town) -> None:
    days = [DAY + timedelta(days=number) for number in range(4)]
    for day in days:
        await close(here, "primaria", day=day)
    await close(elsewhere, "primaria")
    with pytest.raises(ZeroDivisionError):
        await here.transact_closing(WEDNESDAY, ["infanzia"], NONE, lambda _: 1 // 0)  # type: ignore[arg-type, return-value]  # it fails before
    await close(here, "primaria", day=DAY)
    await close(here, "infanzia", day=DAY)

    orders = [await here.order(number) for number in range(1, 7)]
    assert [len(each) for each in orders] == [1, 1, 1, 1, 1, 0]
    assert [each.headcount.school for each in await elsewhere.order(1)] == ["primaria"]


async def test_a_closing_that_contradicts_another_is_refused_with_all_that_came_with_it(
    store: Store, here: Town
) -> None:
    await close(here, "primaria")
    twice = (closing("infanzia", Roll(()), 2), closing("primaria", Roll(()), 2))

    with pytest.raises(StoreConflictError):
        await here.transact_closing(
            DAY, ["infanzia"], NONE, lambda _: (Closings(twice, (order_message(2, NOW),)), None)
        )

    assert await here.closing("infanzia", DAY) is None
    assert await store.messages() == ()


async def test_a_closing_with_a_pupil_of_another_town_or_a_change_that_is_none_is_refused(
    here: Town, elsewhere: Town
) -> None:
    stranger, _ = await enrolled(elsewhere)
    anna, _ = await enrolled(here)
    await add(here, cancel(anna.id))
    [ours] = await history(here, anna.id)

    for counted, tray in (
        (CountedChange(stranger.id, Presence.CANCELLED, ours.id), None),
        (CountedChange(anna.id, Presence.CANCELLED, ChangeId(999_999)), None),
        (None, Tray(stranger.id, "1A", Presence.PRESENT, "C")),
    ):
        made = closing("primaria", Roll(()), 1)
        headcount = replace(made.headcount, changes=(counted,) if counted else (), trays=(tray,) if tray else ())
        wrong = replace(made, headcount=headcount)
        with pytest.raises(StoreConflictError):
            await here.transact_closing(DAY, ["primaria"], NONE, lambda _, wrong=wrong: (Closings((wrong,)), None))  # type: ignore[misc]

    assert await here.closing("primaria", DAY) is None


async def test_the_order_is_in_the_outbox_exactly_when_its_closings_are_made(store: Store, here: Town) -> None:
    await two_schools(here)

    await close(here, "primaria", "infanzia", tells=True)
    await close(here, "primaria", "infanzia", tells=True)

    [message] = await store.messages()
    assert (message.key, message.kind, message.about) == ("order-1", MessageKind.ORDER, {"order": 1})
    assert (message.town, message.due) == ("roccachiara", NOW)


async def test_R25_a_change_on_its_way_is_counted_or_finds_the_day_closed(here: Town) -> None:
    anna, _ = await enrolled(here)
    booking, kitchen = BookingDesk(rules, here), KitchenDesk("roccachiara", rules, here)
    actor = Actor(Channel.PORTAL, "session", None, frozenset({anna.id}))

    # As if the cutoff's clocks were a second apart: without the closing, each of these would be in time.
    answers = await asyncio.gather(
        *(booking.act(actor, [Request(anna, Cancel(DAY), f"request-{n}")], at("2026-11-24 09:30")) for n in range(5)),
        kitchen.close(Due(CUTOFF, DAY, ("primaria",)), AFTER),
        *(booking.act(actor, [Request(anna, Cancel(DAY), f"late-{n}")], at("2026-11-24 09:30")) for n in range(5)),
    )

    words = [each[0].word for each in answers if each and not isinstance(each[0], Closing)]
    made = await here.closing("primaria", DAY)
    assert made is not None
    assert [each.pupil for each in made.headcount.changes] == ([anna.id] if "cancelled" in words else [])
    assert made.headcount.meals == (1 if "cancelled" in words else 2)
    assert (await booking.act(actor, [Request(anna, Cancel(DAY), "last")], at("2026-11-24 09:30")))[0].word in (
        "too_late"
    )


# Closed days


async def test_closed_days_are_those_of_each_school_from_its_date_on(here: Town, elsewhere: Town) -> None:
    for day in (DAY - timedelta(days=1), DAY, WEDNESDAY):
        await close(here, "primaria", day=day)
    await close(here, "infanzia")
    await close(elsewhere, "secondaria")

    closed = await here.closed_days({"primaria": DAY, "infanzia": WEDNESDAY, "secondaria": DAY})

    assert {school: sorted(days) for school, days in closed.days.items()} == {
        "primaria": [DAY, WEDNESDAY],
        "infanzia": [],
        "secondaria": [],
    }
    assert closed.days["primaria"][DAY] == {"1A"}


async def test_a_decision_sees_the_closed_days_it_asked_for(here: Town) -> None:
    anna, _ = await enrolled(here)
    await close(here, "primaria")

    def look(kept: Kept) -> tuple[Entries, bool]:
        return Entries(), kept.closed.has("primaria", DAY)

    assert await here.transact([anna.id], look, {"primaria": DAY}) is True
    assert await here.transact([anna.id], look, {"primaria": WEDNESDAY}) is False
    assert await here.transact([anna.id], look) is False


async def test_a_town_without_rows_has_no_closed_days(here: Town) -> None:
    assert not (await here.closed_days({"primaria": DAY})).has("primaria", DAY)


async def test_closed_through_is_the_last_closed_day_of_each_school_of_each_town(
    store: Store, here: Town, elsewhere: Town
) -> None:
    assert dict(await store.closed_through()) == {}
    for day in (WEDNESDAY, DAY):
        await close(here, "primaria", day=day)
    await close(here, "infanzia")
    await close(elsewhere, "primaria")

    assert await store.closed_through() == {
        "roccachiara": {"primaria": WEDNESDAY, "infanzia": DAY},
        "montelago": {"primaria": DAY},
    }


async def test_of_years_of_closings_only_the_last_months_are_looked_at(store: Store, here: Town) -> None:
    for days_ago in (0, 30, 400):
        await close(here, "primaria" if days_ago else "infanzia", day=DAY - timedelta(days=days_ago))
    await close(here, "secondaria", day=DAY - timedelta(days=400))

    through = (await store.closed_through())["roccachiara"]

    assert (through["infanzia"], through["primaria"]) == (DAY, DAY - timedelta(days=30))
    assert through.get("secondaria") in (None, DAY - timedelta(days=400))


async def test_a_towns_closings_begin_when_it_was_first_asked_and_stay_so(store: Store, here: Town) -> None:
    later = NOW + timedelta(days=1)
    await here.import_people(people(), HASHER, no_pin)

    first = await store.closings_since(["roccachiara"], NOW)
    second = await store.closings_since(["montelago", "roccachiara"], later)

    assert first == {"roccachiara": NOW}
    assert second == {"roccachiara": NOW, "montelago": later}


async def test_of_gateways_that_begin_a_town_at_once_the_first_instant_holds_for_all(store: Store) -> None:
    instants = [NOW + timedelta(seconds=number) for number in range(10)]

    said = await asyncio.gather(*(store.closings_since(["roccachiara"], instant) for instant in instants))

    assert len({each["roccachiara"] for each in said}) == 1


async def test_the_names_of_a_tray_list_are_those_of_the_town_and_of_nobody_erased(here: Town, elsewhere: Town) -> None:
    anna, bruno = await enrolled(here)
    stranger, _ = await enrolled(elsewhere)
    await here.erase_pupil(bruno.id)

    assert await here.names([anna.id, bruno.id, stranger.id]) == {anna.id: ("Anna", "Verdini")}
    assert await here.names([]) == {}
