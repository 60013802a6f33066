"""The kitchen's desk, rule by rule: R16, R17, R22, R24, R25, R31 around a day's closing."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from core.calendar import ServiceCalendar
from core.changes import Presence
from core.clock import exactly
from core.desk import Bland, Cancel, Resume, Suspend, Undo
from core.headcount import CountedChange, MealCount, Tray, is_intact
from core.kitchen import DAYS_BACK_MAX, Due, NotDueError, closings_of, due_closings, next_cutoff
from core.outcomes import Accepted, NothingToUndo, OutsideWindow, TooLate
from core.people import Diet, Period
from core.ports import MessageKind
from core.window import Channel
from ivr.explore import drive
from tests.kitchens import A_MOMENT, FAMILIES, TownWithKitchen, enrolled_as
from tests.towns import ANNA, BRUNO, CARLA, DARIO, SCHOOLS, at, calendar, closed, cutoff, day, local, opened, town

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2026, 11, number) for number in range(23, 28))
SATURDAY = date(2026, 11, 28)
EVE = "2026-11-23 12:00"
NINE_THIRTY = local("2026-11-24 09:30").astimezone(UTC)
IN_SERVICE = local("2026-09-01 12:00").astimezone(UTC)
CELIAC = Diet("C", date(2026, 9, 14), date(2026, 11, 24))
PRIMARIA = Due(NINE_THIRTY, TUESDAY, ("primaria",))


def due(
    when: str, through: dict[str, date] | None = None, told: ServiceCalendar | None = None, *, bound_ms: float = 0
) -> list[tuple[date, tuple[str, ...]]]:
    found = due_closings(told or calendar(), IN_SERVICE, through or {}, at(when, bound_ms=bound_ms))
    return [(each.day, each.schools) for each in found]


ALL_THROUGH_MONDAY = dict.fromkeys(SCHOOLS, MONDAY)


# What is counted


def test_R1_R32_the_count_is_of_everybody_but_for_what_changes_make_of_it() -> None:
    pupils = [enrolled_as(f"6000{number}", "1A") for number in range(4)]
    house = TownWithKitchen(people=(*FAMILIES, *pupils, enrolled_as("60009", "1A", CELIAC)))
    house.ask(Cancel(TUESDAY), EVE)
    house.ask(Bland(TUESDAY), EVE, replace(ANNA, user_code=pupils[0].user_code))
    house.ask(Suspend(TUESDAY), EVE, replace(ANNA, user_code=pupils[1].user_code))
    house.ask(Cancel(WEDNESDAY), EVE, replace(ANNA, user_code=pupils[2].user_code))

    tuesday, closing = drive(house.kitchen.headcount("primaria", TUESDAY))
    wednesday, _ = drive(house.kitchen.headcount("primaria", WEDNESDAY))

    assert closing is None
    assert tuesday.class_groups == ("1A",)
    assert tuesday.counts == (
        MealCount("1A", Presence.PRESENT, None, 2),
        MealCount("1A", Presence.PRESENT, "C", 1),
        MealCount("1A", Presence.BLAND, None, 1),
    )
    assert (tuesday.meals, tuesday.meals_of(Presence.BLAND), dict(tuesday.meals_by_diet())) == (4, 1, {"C": 1})
    assert sorted(each.presence for each in tuesday.changes) == ["bland", "cancelled", "suspended"]
    # The diet held through Tuesday.
    assert (wednesday.meals, dict(wednesday.meals_by_diet())) == (4, {})


def test_a_class_group_that_does_not_eat_that_day_is_not_counted_whatever_its_pupils_changed() -> None:
    house = TownWithKitchen()
    house.ask(Suspend(MONDAY), "2026-11-22 12:00", BRUNO)

    found, _ = drive(house.kitchen.headcount("primaria", TUESDAY))

    assert (found.class_groups, found.meals, found.changes) == (("1A",), 1, ())


def test_a_served_class_group_where_nobody_eats_is_named_all_the_same() -> None:
    house = TownWithKitchen()
    house.ask(Cancel(TUESDAY), EVE)

    found, _ = drive(house.kitchen.headcount("primaria", TUESDAY))

    assert (found.class_groups, found.counts, found.meals) == (("1A",), (), 0)


def test_only_those_who_eat_a_diet_that_has_a_tray_of_its_own_are_named() -> None:
    diets = {"60001": CELIAC, "60002": CELIAC, "60003": CELIAC, "60004": Diet("V"), "60005": Diet("C", WEDNESDAY)}
    house = TownWithKitchen(people=[enrolled_as(code, "1A", diet) for code, diet in diets.items()])
    house.rules = replace(town(), tray_diets=frozenset({"C"}))
    first, second, *_ = [house.pupil(replace(ANNA, user_code=code)) for code in sorted(diets)]
    house.ask(Bland(TUESDAY), EVE, second)
    house.ask(Cancel(TUESDAY), EVE, replace(ANNA, user_code="60003"))

    found, _ = drive(house.kitchen.headcount("primaria", TUESDAY))

    assert found.trays == (
        Tray(first.id, "1A", Presence.PRESENT, "C"),
        Tray(second.id, "1A", Presence.BLAND, "C"),
    )


# Closing


def test_R25_a_closing_is_the_count_at_the_cutoff_with_the_changes_that_made_it() -> None:
    house = TownWithKitchen()
    house.ask(Cancel(TUESDAY), EVE)
    [change] = drive(house.here.histories([house.pupil().id]))[house.pupil().id]

    [closing] = house.close(TUESDAY, "primaria")

    assert (closing.cutoff, closing.order) == (NINE_THIRTY, 1)
    assert closing.closed == exactly(NINE_THIRTY + A_MOMENT)
    assert (closing.headcount.school, closing.headcount.day, closing.headcount.meals) == ("primaria", TUESDAY, 0)
    assert closing.headcount.changes == (CountedChange(house.pupil().id, Presence.CANCELLED, change.id),)
    assert is_intact("roccachiara", closing)
    assert drive(house.kitchen.headcount("primaria", TUESDAY)) == (closing.headcount, closing)


def test_R25_what_is_enrolled_and_changed_after_the_closing_is_in_no_count_of_that_day() -> None:
    house = TownWithKitchen()
    house.close(TUESDAY)

    house.enrol(enrolled_as("60001", "1A"))
    house.ask(Suspend(WEDNESDAY), "2026-11-24 09:31")

    assert drive(house.kitchen.headcount("primaria", TUESDAY))[0].meals == 1
    assert drive(house.kitchen.headcount("primaria", WEDNESDAY))[0].meals == 1


def test_R25_schools_of_one_cutoff_have_one_order_and_the_next_cutoff_the_next() -> None:
    house = TownWithKitchen(town(calendar(cutoffs=[cutoff("2026-11-24", "09:30", school="infanzia")])))

    made = house.close(TUESDAY)

    assert [(each.headcount.school, each.order) for each in made] == [
        ("infanzia", 1),
        ("primaria", 1),
        ("secondaria", 2),
    ]
    assert [(each.kind, each.about) for each in reversed(drive(house.store.messages()))] == [
        (MessageKind.ORDER, {"order": 1}),
        (MessageKind.ORDER, {"order": 2}),
    ]


def test_R25_a_second_closing_finds_nothing_to_do() -> None:
    house = TownWithKitchen()
    [first] = house.close(TUESDAY, "primaria")

    assert house.close(TUESDAY, "primaria") == ()

    assert drive(house.here.closing("primaria", TUESDAY)) == first
    assert len(drive(house.store.messages())) == 1


def test_a_kitchen_is_told_of_no_meals_but_not_of_a_school_where_nobody_is_enrolled() -> None:
    house = TownWithKitchen(people=FAMILIES[:2])
    house.ask(Cancel(TUESDAY), EVE)

    house.close(TUESDAY)

    # 3B does not eat on a Tuesday, the other schools have no pupils; the order of no meals for 1A is told.
    assert [each.about for each in drive(house.store.messages())] == [{"order": 2}]


@pytest.mark.parametrize(
    "early",
    [
        exactly(NINE_THIRTY),
        exactly(NINE_THIRTY - A_MOMENT),
        exactly(NINE_THIRTY + timedelta(milliseconds=40), bound=timedelta(milliseconds=50)),
    ],
)
def test_R25_no_day_is_closed_before_its_cutoff_has_surely_passed(early: object) -> None:
    house = TownWithKitchen()

    with pytest.raises(NotDueError, match="has not surely passed"):
        drive(house.kitchen.close(PRIMARIA, early))  # type: ignore[arg-type]  # a Reading

    assert drive(house.here.closing("primaria", TUESDAY)) is None


@pytest.mark.parametrize(
    "edited",
    [calendar(cutoffs=[cutoff("2026-11-24", "10:00", school="primaria")]), calendar(closed("2026-11-24"))],
)
def test_R22_a_day_that_an_edit_moved_or_took_out_before_its_closing_is_not_closed(edited: ServiceCalendar) -> None:
    house = TownWithKitchen()
    house.edit(edited)

    with pytest.raises(NotDueError, match="an edit has moved or taken out"):
        drive(house.kitchen.close(PRIMARIA, exactly(NINE_THIRTY + A_MOMENT)))

    house.edit(calendar())
    assert [each.headcount.meals for each in house.close(TUESDAY, "primaria")] == [1]


# What is due


def test_R25_a_day_is_due_from_just_after_its_cutoff_until_it_is_closed() -> None:
    through = ALL_THROUGH_MONDAY

    assert due("2026-11-24 08:45", through) == []
    assert due("2026-11-24 08:45:00.000001", through) == [(TUESDAY, ("infanzia",))]
    assert due("2026-11-24 09:30:00.049", through | {"infanzia": TUESDAY}, bound_ms=50) == []
    assert due("2026-11-24 09:30:00.051", through | {"infanzia": TUESDAY}, bound_ms=50) == [(TUESDAY, ("primaria",))]
    assert due("2026-11-24 23:59", dict.fromkeys(SCHOOLS, TUESDAY)) == []


def test_R25_after_downtime_every_missed_day_is_due_oldest_first_and_schools_of_one_cutoff_together() -> None:
    told = calendar(cutoffs=[cutoff("2026-11-26", "09:00")])

    found = due("2026-11-26 12:00", ALL_THROUGH_MONDAY, told)

    assert found == [
        (TUESDAY, ("infanzia",)),
        (TUESDAY, ("primaria",)),
        (TUESDAY, ("secondaria",)),
        (WEDNESDAY, ("infanzia",)),
        (WEDNESDAY, ("primaria",)),
        (WEDNESDAY, ("secondaria",)),
        (THURSDAY, ("infanzia", "primaria")),
    ]


def test_days_without_service_are_not_due() -> None:
    through = dict.fromkeys(SCHOOLS, FRIDAY)

    assert due("2026-11-29 12:00", through) == []
    assert due("2026-11-29 12:00", through, calendar(opened("2026-11-28", school="primaria"))) == [
        (SATURDAY, ("primaria",))
    ]


def test_R24_a_past_day_that_an_edit_opens_before_the_last_closed_one_is_not_due() -> None:
    through = dict.fromkeys(SCHOOLS, day("2026-11-30"))

    assert due("2026-11-30 12:00", through, calendar(opened("2026-11-28", "2026-11-29"))) == []


def test_what_was_before_the_town_came_into_service_is_not_due() -> None:
    since = local("2026-11-24 09:00").astimezone(UTC)

    found = due_closings(calendar(), since, {}, at("2026-11-24 12:00"))

    assert [each.schools for each in found] == [("primaria",), ("secondaria",)]


def test_what_nobody_waits_for_any_more_is_not_due() -> None:
    [first, *_] = due("2026-11-26 12:00")

    assert first[0] == THURSDAY - timedelta(days=DAYS_BACK_MAX)


def test_a_clock_that_is_set_back_makes_nothing_due() -> None:
    assert due("2026-11-20 12:00", ALL_THROUGH_MONDAY) == []


@pytest.mark.parametrize(
    ("day_", "at_wall", "passes"),
    [
        # On the spring night 02:30 does not exist: the clocks jump at 01:00 UTC. In autumn its second pass closes.
        (date(2027, 3, 28), "02:30", datetime(2027, 3, 28, 1, 0, tzinfo=UTC)),
        (date(2026, 10, 25), "02:30", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    ],
)
def test_R4_on_the_nights_when_the_clocks_change_a_day_closes_once_and_never_too_early(
    day_: date, at_wall: str, passes: datetime
) -> None:
    told = calendar(opened(str(day_), school="primaria"), cutoffs=[cutoff(str(day_), at_wall)])
    through = dict.fromkeys(SCHOOLS, day_ - timedelta(days=1))

    before, after = (due_closings(told, IN_SERVICE, through, exactly(passes + off)) for off in (-A_MOMENT, A_MOMENT))

    assert before == ()
    assert after == (Due(passes, day_, ("primaria",)),)
    assert due_closings(told, IN_SERVICE, through | {"primaria": day_}, exactly(passes + timedelta(hours=2))) == ()


def test_the_next_cutoff_is_that_of_the_next_school_that_is_served() -> None:
    def following(when: str, told: ServiceCalendar | None = None) -> datetime | None:
        return next_cutoff(told or calendar(), at(when))

    assert following("2026-11-24 08:45") == local("2026-11-24 08:45")
    assert following("2026-11-24 08:45:00.000001") == local("2026-11-24 09:30")
    # The secondary school eats on Tuesdays and Wednesdays only.
    assert following("2026-11-26 09:31") == local("2026-11-27 08:45")
    assert following("2026-11-27 12:00") == local("2026-11-30 08:45")
    assert following("2027-07-01 12:00") is None


def test_the_closings_of_a_day_are_in_the_order_of_their_cutoffs() -> None:
    found = closings_of(calendar(cutoffs=[cutoff("2026-11-24", "08:45", school="secondaria")]), TUESDAY)

    assert [each.schools for each in found] == [("infanzia", "secondaria"), ("primaria",)]
    assert closings_of(calendar(), SATURDAY) == ()


# After the closing


@pytest.mark.parametrize("by", [Channel.PORTAL, Channel.TELEGRAM, Channel.OFFICE])
@pytest.mark.parametrize(
    "action",
    [Cancel(TUESDAY), Bland(TUESDAY), Suspend(TUESDAY), Resume(TUESDAY), Undo(TUESDAY), Suspend(MONDAY, FRIDAY)],
)
def test_R24_a_cutoff_that_an_edit_moves_later_reopens_no_closed_day(
    action: Cancel | Bland | Suspend | Resume | Undo, by: Channel
) -> None:
    house = TownWithKitchen()
    house.ask(Bland(TUESDAY), EVE)
    house.close(TUESDAY)
    house.edit(calendar(cutoffs=[cutoff("2026-11-24", "14:00")]))

    assert isinstance(house.ask(action, "2026-11-24 09:31", by=by), TooLate)
    assert house.presence(TUESDAY) is Presence.BLAND


def test_R24_R31_by_phone_the_line_is_outside_its_window_once_the_day_is_closed() -> None:
    house = TownWithKitchen()
    house.close(TUESDAY)
    house.edit(calendar(cutoffs=[cutoff("2026-11-24", "14:00")]))

    outcome = house.ask(Cancel(TUESDAY), "2026-11-24 09:31", by=Channel.PHONE)

    assert outcome == OutsideWindow(local("2026-11-24 18:00").astimezone(UTC))
    assert house.view("2026-11-24 09:31", by=Channel.PHONE).shut == outcome
    assert house.view("2026-11-24 09:31").day == WEDNESDAY
    assert isinstance(house.ask(Cancel(WEDNESDAY), "2026-11-24 18:00", by=Channel.PHONE), Accepted)


def test_R24_where_no_closing_exists_yet_the_edited_cutoff_holds() -> None:
    house = TownWithKitchen()
    house.close(TUESDAY, "infanzia")
    house.edit(calendar(cutoffs=[cutoff("2026-11-24", "14:00")]))

    assert isinstance(house.ask(Cancel(TUESDAY), "2026-11-24 09:31"), Accepted)
    assert isinstance(house.ask(Cancel(TUESDAY), "2026-11-24 09:31", CARLA), TooLate)


def test_R24_a_closed_day_that_is_taken_out_and_put_back_stays_closed_and_as_it_was_counted() -> None:
    house = TownWithKitchen()
    house.ask(Bland(TUESDAY), EVE)
    house.close(TUESDAY)

    for edited in (calendar(closed("2026-11-24")), calendar(cutoffs=[cutoff("2026-11-24", "14:00")])):
        house.edit(edited)
        for action in (Cancel(TUESDAY), Undo(TUESDAY), Suspend(TUESDAY)):
            assert isinstance(house.ask(action, "2026-11-24 09:31"), TooLate)
        assert house.presence(TUESDAY) is Presence.BLAND
        assert drive(house.kitchen.headcount("primaria", TUESDAY))[0].meals_of(Presence.BLAND) == 1


def test_R24_a_class_group_that_an_edit_adds_to_a_closed_day_gets_nothing_on_it() -> None:
    house = TownWithKitchen()
    house.close(TUESDAY)
    house.edit(calendar(opened("2026-11-24", class_group="3B", school="primaria")))

    assert house.presence(TUESDAY, BRUNO) is Presence.NO_SERVICE
    assert isinstance(house.ask(Bland(TUESDAY), "2026-11-24 09:31", BRUNO), TooLate)
    assert [each.day for each in drive(house.booking.coming_days(house.pupil(BRUNO), TUESDAY, 1))] == [THURSDAY]
    assert drive(house.kitchen.headcount("primaria", TUESDAY))[0].class_groups == ("1A",)


def test_R16_R24_a_change_with_a_counted_day_is_not_undone_where_an_edit_has_taken_that_day_out() -> None:
    house = TownWithKitchen()
    house.ask(Suspend(TUESDAY, FRIDAY), EVE)
    house.close(TUESDAY)
    house.edit(calendar(closed("2026-11-24")))

    assert house.view("2026-11-24 12:00").undoable is None
    assert isinstance(house.ask(Undo(), "2026-11-24 12:00"), NothingToUndo)
    assert isinstance(house.ask(Undo(WEDNESDAY), "2026-11-24 12:00"), NothingToUndo)
    assert isinstance(house.ask(Resume(WEDNESDAY), "2026-11-24 12:00"), Accepted)


def test_R22_a_change_whose_first_day_an_edit_took_out_before_it_was_closed_can_be_undone() -> None:
    house = TownWithKitchen()
    house.ask(Suspend(TUESDAY, FRIDAY), EVE)
    house.edit(calendar(closed("2026-11-24")))
    assert house.close(TUESDAY) == ()

    assert isinstance(house.ask(Undo(), "2026-11-24 12:00"), Accepted)


def test_R16_a_suspension_that_was_counted_last_school_year_is_resumed_in_the_next_never_undone() -> None:
    house = TownWithKitchen()
    house.ask(Suspend(day("2027-05-31")), "2027-05-30 12:00")
    house.close(day("2027-05-31"))
    next_year = replace(calendar(), service=Period(date(2027, 9, 13), date(2028, 6, 8)), exceptions=())
    house.edit(next_year)

    assert house.view("2027-09-01 12:00").undoable is None
    assert isinstance(house.ask(Undo(), "2027-09-01 12:00"), NothingToUndo)
    assert isinstance(house.ask(Resume(day("2027-09-13")), "2027-09-01 12:00"), Accepted)


def test_R25_a_clock_that_was_set_back_finds_closed_days_closed() -> None:
    house = TownWithKitchen()
    house.close(TUESDAY)

    assert isinstance(house.ask(Cancel(TUESDAY), EVE), TooLate)
    assert isinstance(house.ask(Suspend(MONDAY, FRIDAY), "2026-11-23 08:00"), TooLate)
    assert isinstance(house.ask(Suspend(WEDNESDAY, FRIDAY), EVE), Accepted)
    assert isinstance(house.ask(Cancel(TUESDAY), EVE, by=Channel.OFFICE), TooLate)
    assert isinstance(house.ask(Cancel(TUESDAY), EVE, DARIO), TooLate)
