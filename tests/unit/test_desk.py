"""The booking desk, rule by rule: R3, R12 to R22, R26, R29 to R31."""

from dataclasses import replace
from datetime import date, timedelta

import pytest

from core.access import Actor
from core.calendar import Service
from core.changes import Kind, NewChange, Presence, standing
from core.desk import (
    RECEIPT_DIGITS,
    Action,
    Bland,
    BookingDesk,
    Cancel,
    NotTheirPupilError,
    Request,
    Resume,
    Suspend,
    Town,
    Undecided,
    Undo,
    decide,
)
from core.outcomes import (
    Accepted,
    AlreadyBland,
    AlreadyCancelled,
    AlreadySuspended,
    BlandLimit,
    BlandMeal,
    Cancelled,
    CancelledDay,
    NoService,
    NothingToUndo,
    NotSuspended,
    Outcome,
    OutsideWindow,
    Resumed,
    Suspended,
    SuspendedDay,
    TooFar,
    TooLate,
    Undone,
)
from core.people import Pupil
from core.window import Channel
from tests.towns import (
    ANNA,
    BRUNO,
    CARLA,
    DARIO,
    VERDINI,
    PaperDesk,
    PaperStore,
    at,
    calendar,
    closed,
    cutoff,
    day,
    opened,
    stored,
    town,
)

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2026, 11, number) for number in range(23, 28))
SATURDAY, SUNDAY, NEXT_MONDAY = date(2026, 11, 28), date(2026, 11, 29), date(2026, 11, 30)
EVE = "2026-11-22 12:00"
MONDAY_NIGHT = "2026-11-23 19:00"
TUESDAY_MORNING = "2026-11-24 08:00"
TUESDAY_NOON = "2026-11-24 12:00"


def made(desk: PaperDesk, *actions: Action, when: str = EVE) -> PaperDesk:
    """The desk after these actions, each accepted on the portal."""
    for action in actions:
        outcome = desk.ask(action, when)
        assert isinstance(outcome, Accepted), outcome
    return desk


def change(outcome: Outcome) -> NewChange:
    assert isinstance(outcome, Accepted), outcome
    return outcome.change


# Cancelling


def test_R12_a_cancelled_day_is_cancelled_whatever_it_was() -> None:
    desk = made(PaperDesk(), Bland(WEDNESDAY))

    desk.ask(Cancel(TUESDAY), EVE)
    desk.ask(Cancel(WEDNESDAY), EVE)

    assert desk.presence(TUESDAY) is desk.presence(WEDNESDAY) is Presence.CANCELLED


def test_R12_cancelling_twice_changes_nothing_and_says_the_first_receipt() -> None:
    desk = PaperDesk()
    first = change(desk.phone(Cancel(TUESDAY), MONDAY_NIGHT))

    again = desk.ask(Cancel(TUESDAY), TUESDAY_MORNING, by=Channel.TELEGRAM)

    assert isinstance(again, AlreadyCancelled)
    assert again.change.receipt == first.receipt
    assert len(desk.history) == 1


def test_R12_a_suspended_day_has_nothing_to_cancel() -> None:
    desk = made(PaperDesk(), Suspend(MONDAY))

    assert desk.phone(Cancel(TUESDAY), MONDAY_NIGHT) == SuspendedDay(TUESDAY)


def test_R12_a_suspended_day_that_was_cancelled_before_is_suspended() -> None:
    desk = made(PaperDesk(), Cancel(TUESDAY), Suspend(MONDAY))

    assert desk.ask(Cancel(TUESDAY), EVE) == SuspendedDay(TUESDAY)


# Bland meals


def test_R13_a_bland_meal_on_a_cancelled_or_suspended_day_is_refused_with_that_reason() -> None:
    cancelled, suspended = made(PaperDesk(), Cancel(TUESDAY)), made(PaperDesk(), Suspend(TUESDAY, TUESDAY))

    assert cancelled.ask(Bland(TUESDAY), EVE) == CancelledDay(TUESDAY)
    assert suspended.ask(Bland(TUESDAY), EVE) == SuspendedDay(TUESDAY)


def test_R13_a_bland_meal_twice_changes_nothing_and_says_the_first_receipt() -> None:
    desk = PaperDesk()
    first = change(desk.ask(Bland(TUESDAY), EVE))

    again = desk.phone(Bland(TUESDAY), MONDAY_NIGHT)

    assert isinstance(again, AlreadyBland)
    assert again.change.receipt == first.receipt


def test_R13_undoing_the_cancellation_of_a_bland_day_brings_the_bland_meal_back() -> None:
    desk = made(PaperDesk(), Bland(TUESDAY), Cancel(TUESDAY))

    outcome = desk.phone(Undo(), MONDAY_NIGHT)

    assert isinstance(outcome, Undone)
    assert desk.presence(TUESDAY) is Presence.BLAND


# Bland runs


def blands(desk: PaperDesk, *days: date) -> PaperDesk:
    return made(desk, *(Bland(each) for each in days))


def test_R30_a_fourth_bland_meal_in_a_row_is_refused_with_the_limit() -> None:
    desk = blands(PaperDesk(), MONDAY, TUESDAY, WEDNESDAY)

    assert desk.ask(Bland(THURSDAY), EVE) == BlandLimit(3)
    assert isinstance(desk.ask(Bland(FRIDAY), EVE), BlandMeal)


def test_R30_bland_days_after_the_day_count_as_those_before_it() -> None:
    desk = blands(PaperDesk(), TUESDAY, WEDNESDAY, THURSDAY)

    assert desk.ask(Bland(MONDAY), EVE) == BlandLimit(3)


def test_R30_a_day_between_two_runs_joins_them() -> None:
    desk = blands(PaperDesk(), MONDAY, TUESDAY, THURSDAY)

    assert desk.ask(Bland(WEDNESDAY), EVE) == BlandLimit(3)


@pytest.mark.parametrize(
    ("taken", "asked"),
    [
        (("2026-11-26", "2026-11-27", "2026-11-30"), "2026-12-01"),
        (("2026-11-30", "2026-12-01", "2026-11-27"), "2026-11-26"),
        (("2026-12-04", "2026-12-07", "2026-12-09"), "2026-12-10"),
        (("2026-12-09", "2026-12-10", "2026-12-07"), "2026-12-04"),
    ],
)
def test_R30_a_run_goes_on_over_weekends_and_holidays_in_both_directions(taken: tuple[str, ...], asked: str) -> None:
    desk = blands(PaperDesk(), *map(day, taken))

    assert desk.ask(Bland(day(asked)), EVE) == BlandLimit(3)


def test_R30_adjacent_are_the_service_days_of_the_class_group() -> None:
    # 3B eats on Mondays and Thursdays.
    desk = blands(PaperDesk(pupil=BRUNO), MONDAY, THURSDAY, NEXT_MONDAY)

    assert desk.ask(Bland(day("2026-12-03")), EVE) == BlandLimit(3)


@pytest.mark.parametrize("breaking", [Cancel(WEDNESDAY), Suspend(WEDNESDAY, WEDNESDAY)])
def test_R30_any_other_presence_breaks_the_run(breaking: Action) -> None:
    desk = made(blands(PaperDesk(), MONDAY, TUESDAY, WEDNESDAY), breaking)

    assert isinstance(desk.ask(Bland(THURSDAY), EVE), BlandMeal)


def test_R30_a_day_that_an_edit_closed_joins_its_neighbours() -> None:
    desk = blands(PaperDesk(town(calendar(closed("2026-11-25")))), MONDAY, TUESDAY, THURSDAY)

    assert desk.ask(Bland(FRIDAY), EVE) == BlandLimit(3)


def test_R30_bland_days_that_are_past_count_too() -> None:
    desk = blands(PaperDesk(), MONDAY, TUESDAY, WEDNESDAY)

    assert desk.phone(Bland(THURSDAY), "2026-11-25 19:00") == BlandLimit(3)


def test_R30_a_bland_day_taken_back_counts_no_more() -> None:
    desk = made(blands(PaperDesk(), MONDAY, TUESDAY, WEDNESDAY), Undo())

    assert isinstance(desk.ask(Bland(WEDNESDAY), EVE), BlandMeal)


def test_R30_a_limit_of_zero_is_no_limit() -> None:
    desk = blands(PaperDesk(town(bland_days_max=0)), MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY)

    assert isinstance(desk.ask(Bland(NEXT_MONDAY), EVE), BlandMeal)


def test_R30_a_limit_of_one_keeps_bland_days_apart() -> None:
    desk = blands(PaperDesk(town(bland_days_max=1)), MONDAY)

    assert desk.ask(Bland(TUESDAY), EVE) == BlandLimit(1)
    assert isinstance(desk.ask(Bland(WEDNESDAY), EVE), BlandMeal)


def test_R30_the_limit_is_for_asking_so_undoing_a_cancellation_may_join_two_runs() -> None:
    desk = made(blands(PaperDesk(), MONDAY, TUESDAY, WEDNESDAY), Cancel(WEDNESDAY), Bland(THURSDAY), Bland(FRIDAY))

    outcome = desk.ask(Undo(WEDNESDAY), EVE)

    assert isinstance(outcome, Undone)
    assert desk.presence(WEDNESDAY) is Presence.BLAND


# How far ahead


@pytest.mark.parametrize("action", [Cancel, Bland])
def test_R30_a_single_day_can_be_changed_so_far_ahead_and_no_further(action: type[Cancel] | type[Bland]) -> None:
    # Ten days after 23 November is 3 December.
    near = town(look_ahead_days=10)

    assert isinstance(PaperDesk(near).ask(action(day("2026-12-03")), "2026-11-23 12:00"), Accepted)
    assert PaperDesk(near).ask(action(day("2026-12-04")), "2026-11-23 12:00") == TooFar(day("2026-12-03"))


def test_R30_a_look_ahead_of_nothing_leaves_today() -> None:
    today_only = town(look_ahead_days=0)

    assert isinstance(PaperDesk(today_only).ask(Cancel(TUESDAY), TUESDAY_MORNING), Cancelled)
    assert PaperDesk(today_only).ask(Cancel(WEDNESDAY), TUESDAY_MORNING) == TooFar(TUESDAY)


def test_R30_the_new_day_is_judged_by_the_latest_end_of_the_clock() -> None:
    near = town(look_ahead_days=10)

    assert isinstance(
        PaperDesk(near).ask(Cancel(day("2026-12-04")), at("2026-11-23 23:59:59.990", bound_ms=10)), Cancelled
    )


def test_R31_the_look_ahead_limit_is_for_single_days() -> None:
    desk = PaperDesk(town(look_ahead_days=10))

    assert isinstance(desk.ask(Suspend(day("2027-03-01"), day("2027-03-05")), EVE), Suspended)
    assert isinstance(desk.ask(Resume(day("2027-03-03")), EVE), Resumed)
    assert isinstance(desk.ask(Undo(day("2027-03-05")), EVE), Undone)


# Suspending and resuming


def test_R14_a_suspension_lasts_until_further_notice_or_through_its_last_day() -> None:
    open_ended, bounded = made(PaperDesk(), Suspend(TUESDAY)), made(PaperDesk(), Suspend(TUESDAY, WEDNESDAY))

    assert open_ended.presence("2027-06-08") is Presence.SUSPENDED
    assert [bounded.presence(each) for each in (MONDAY, TUESDAY, WEDNESDAY, THURSDAY)] == [
        Presence.PRESENT,
        Presence.SUSPENDED,
        Presence.SUSPENDED,
        Presence.PRESENT,
    ]


def test_R14_a_suspension_through_a_day_before_its_first_covers_nothing() -> None:
    assert isinstance(PaperDesk().ask(Suspend(TUESDAY, MONDAY), EVE), NoService)


def test_R31_already_suspended_only_when_every_service_day_of_the_range_is() -> None:
    desk = made(PaperDesk(), Suspend(TUESDAY, THURSDAY))

    assert desk.ask(Suspend(TUESDAY, THURSDAY), EVE) == AlreadySuspended()
    assert desk.ask(Suspend(WEDNESDAY, WEDNESDAY), EVE) == AlreadySuspended()
    assert isinstance(desk.ask(Suspend(TUESDAY, FRIDAY), EVE), Suspended)


def test_R31_days_without_service_are_none_of_a_ranges_service_days() -> None:
    desk = made(PaperDesk(), Suspend(TUESDAY, FRIDAY))

    assert desk.ask(Suspend(TUESDAY, SUNDAY), EVE) == AlreadySuspended()


def test_R15_who_is_not_suspended_cannot_resume() -> None:
    desk = made(PaperDesk(), Suspend(TUESDAY, WEDNESDAY), Cancel(FRIDAY))

    assert desk.ask(Resume(THURSDAY), EVE) == NotSuspended()
    assert len(desk.history) == 2


def test_R15_a_suspension_that_lies_wholly_ahead_can_be_resumed_now() -> None:
    desk = made(PaperDesk(), Suspend(day("2027-02-01"), day("2027-02-05")))

    outcome = desk.phone(Resume(TUESDAY), MONDAY_NIGHT)

    assert isinstance(outcome, Resumed)
    assert desk.presence("2027-02-03") is Presence.PRESENT


def test_R15_by_phone_a_later_date_may_be_keyed_for_the_resumption() -> None:
    desk = made(PaperDesk(), Suspend(MONDAY))

    outcome = desk.phone(Resume(FRIDAY), MONDAY_NIGHT)

    assert isinstance(outcome, Resumed)
    assert (desk.presence(THURSDAY), desk.presence(FRIDAY)) == (Presence.SUSPENDED, Presence.PRESENT)


def test_R15_a_resumption_may_start_on_a_day_without_service() -> None:
    desk = made(PaperDesk(), Suspend(MONDAY))

    outcome = desk.phone(Resume(SUNDAY), MONDAY_NIGHT)

    assert isinstance(outcome, Resumed)
    assert desk.presence(NEXT_MONDAY) is Presence.PRESENT


def test_R15_an_open_ended_suspension_never_ends_by_itself() -> None:
    desk = made(PaperDesk(), Suspend(MONDAY))

    assert desk.view("2027-06-07 19:00").presence is Presence.SUSPENDED


def test_R15_a_suspension_over_days_that_an_edit_closed_is_nothing_to_resume_until_they_open() -> None:
    desk = made(PaperDesk(), Suspend(WEDNESDAY, WEDNESDAY))

    desk.town = town(calendar(closed("2026-11-25")))
    while_closed = desk.ask(Resume(TUESDAY), EVE)
    desk.town = town()

    assert while_closed == NotSuspended()
    assert isinstance(desk.ask(Resume(TUESDAY), EVE), Resumed)


# Undo


def test_R16_undo_takes_back_the_latest_change_whatever_channel_made_it() -> None:
    desk = PaperDesk()
    desk.ask(Cancel(TUESDAY), EVE, by=Channel.PORTAL)
    desk.ask(Bland(day("2026-12-18")), EVE, by=Channel.TELEGRAM)

    first, second = desk.phone(Undo(), MONDAY_NIGHT), desk.phone(Undo(), MONDAY_NIGHT)

    assert isinstance(first, Undone)
    assert isinstance(second, Undone)
    assert (first.taken_back, second.taken_back) == (desk.history[1], desk.history[0])
    assert desk.presence(TUESDAY) is Presence.PRESENT


def test_R16_what_undo_took_back_cannot_be_undone_again_but_made_anew() -> None:
    desk = made(PaperDesk(), Cancel(TUESDAY), Undo())

    assert desk.ask(Undo(), EVE) == NothingToUndo()
    assert desk.ask(Undo(TUESDAY), EVE) == NothingToUndo()
    assert isinstance(desk.ask(Cancel(TUESDAY), EVE), Cancelled)
    assert isinstance(desk.ask(Undo(), EVE), Undone)


def test_R16_undo_is_taken_within_the_window_of_the_channel_used() -> None:
    desk = made(PaperDesk(), Cancel(FRIDAY))

    assert isinstance(desk.phone(Undo(), TUESDAY_NOON), OutsideWindow)
    assert isinstance(desk.ask(Undo(), TUESDAY_NOON), Undone)


def test_R16_a_change_whose_day_is_closed_is_passed_over_for_an_earlier_one() -> None:
    desk = made(PaperDesk(), Cancel(FRIDAY), Cancel(TUESDAY))

    outcome = desk.ask(Undo(), TUESDAY_NOON)

    assert isinstance(outcome, Undone)
    assert outcome.taken_back.first == FRIDAY


@pytest.mark.parametrize("when", ["2026-11-23 09:30:00.001", TUESDAY_MORNING])
def test_R16_a_suspension_already_in_force_is_not_undone(when: str) -> None:
    desk = made(PaperDesk(), Suspend(MONDAY, FRIDAY))

    assert desk.ask(Undo(), when) == NothingToUndo()
    assert desk.ask(Undo(THURSDAY), when) == NothingToUndo()


def test_R16_a_suspension_can_be_undone_up_to_the_cutoff_of_its_first_service_day() -> None:
    desk = made(PaperDesk(), Suspend(MONDAY, FRIDAY))

    assert isinstance(desk.ask(Undo(), "2026-11-23 09:30"), Undone)


def test_R16_a_suspension_from_a_day_without_service_is_not_in_force_before_a_service_day_is_closed() -> None:
    desk = made(PaperDesk(), Suspend(SATURDAY), when="2026-11-27 12:00")

    outcome = desk.ask(Undo(), "2026-11-30 09:00")

    assert isinstance(outcome, Undone)


def test_R16_a_resumption_already_in_force_is_ended_by_suspending_not_by_undo() -> None:
    desk = made(PaperDesk(), Suspend(MONDAY))
    desk.ask(Resume(TUESDAY), MONDAY_NIGHT)

    assert desk.ask(Undo(), TUESDAY_NOON) == NothingToUndo()
    assert isinstance(desk.ask(Suspend(WEDNESDAY), TUESDAY_NOON), Suspended)


def test_R16_a_resumption_still_ahead_is_undone_and_the_suspension_holds_on() -> None:
    desk = made(PaperDesk(), Suspend(MONDAY), Resume(FRIDAY))

    outcome = desk.ask(Undo(), TUESDAY_NOON)

    assert isinstance(outcome, Undone)
    assert outcome.taken_back.kind is Kind.RESUME
    assert desk.presence(FRIDAY) is Presence.SUSPENDED


def test_R16_undo_of_a_day_takes_back_the_latest_change_that_covers_it() -> None:
    desk = made(PaperDesk(), Bland(WEDNESDAY), Suspend(TUESDAY, THURSDAY), Cancel(FRIDAY))

    first, second, third = (desk.ask(Undo(WEDNESDAY), EVE) for _ in range(3))

    assert isinstance(first, Undone)
    assert first.taken_back.kind is Kind.SUSPEND
    assert isinstance(second, Undone)
    assert second.taken_back.kind is Kind.BLAND
    assert third == NothingToUndo()
    assert desk.presence(FRIDAY) is Presence.CANCELLED


def test_R16_undo_of_a_day_takes_the_whole_change_back() -> None:
    desk = made(PaperDesk(), Suspend(TUESDAY))

    desk.ask(Undo(FRIDAY), EVE)

    assert desk.presence(TUESDAY) is Presence.PRESENT


def test_R16_undo_of_a_day_passes_over_a_suspension_in_force_for_what_lies_under_it() -> None:
    desk = made(PaperDesk(), Cancel(FRIDAY), Suspend(MONDAY))

    outcome = desk.ask(Undo(FRIDAY), TUESDAY_NOON)

    assert isinstance(outcome, Undone)
    assert outcome.taken_back.kind is Kind.CANCEL
    assert desk.presence(FRIDAY) is Presence.SUSPENDED


@pytest.mark.parametrize(
    ("covered", "word"),
    [(MONDAY, "too_late"), (TUESDAY, "too_late"), (day("2026-11-22"), "no_service"), (SATURDAY, "no_service")],
)
def test_R16_undo_of_a_closed_day_or_one_without_service_says_so(covered: date, word: str) -> None:
    desk = made(PaperDesk(), Suspend(MONDAY), Resume(day("2026-12-01")))

    assert desk.ask(Undo(covered), TUESDAY_NOON).word == word


def test_R16_a_change_that_covers_no_service_day_ahead_is_not_looked_at() -> None:
    desk = made(PaperDesk(), Cancel(THURSDAY), Cancel(WEDNESDAY))

    desk.town = town(calendar(closed("2026-11-25")))
    outcome = desk.ask(Undo(), EVE)

    assert isinstance(outcome, Undone)
    assert outcome.taken_back.first == THURSDAY
    assert desk.ask(Undo(), EVE) == NothingToUndo()


def test_R16_after_the_last_service_day_there_is_nothing_to_undo() -> None:
    desk = made(PaperDesk(), Suspend(day("2027-06-07")))

    assert desk.ask(Undo(), "2027-06-08 12:00") == NothingToUndo()


def test_R16_the_view_offers_what_undo_would_take_back() -> None:
    desk = made(PaperDesk(), Cancel(FRIDAY), Cancel(TUESDAY))

    assert desk.view(TUESDAY_MORNING).undoable == desk.history[1]
    assert desk.view(TUESDAY_NOON).undoable == desk.history[0]
    assert desk.view("2026-11-27 12:00").undoable is None


# Closed days


@pytest.mark.parametrize("action", [Suspend(TUESDAY), Suspend(MONDAY, FRIDAY), Resume(TUESDAY), Resume(MONDAY)])
def test_R17_a_range_cannot_start_on_a_day_whose_cutoff_has_passed(action: Suspend | Resume) -> None:
    desk = made(PaperDesk(), Suspend(day("2026-10-05"), day("2026-10-06")), when="2026-10-01 12:00")

    outcome = desk.ask(action, TUESDAY_NOON)

    assert outcome == TooLate(action.first, desk.town.calendar.cutoff("primaria", action.first))


def test_R31_a_range_from_a_closed_day_is_too_late_service_day_or_not() -> None:
    assert isinstance(PaperDesk().ask(Suspend(SATURDAY), "2026-11-28 12:00"), TooLate)
    assert isinstance(PaperDesk().ask(Resume(SATURDAY), "2026-11-28 12:00"), TooLate)
    assert isinstance(PaperDesk().ask(Suspend(SATURDAY, SUNDAY), "2026-11-28 12:00"), TooLate)


def test_R17_a_suspension_in_force_keeps_its_closed_days_when_it_is_resumed() -> None:
    desk = made(PaperDesk(), Suspend(MONDAY))

    desk.phone(Resume(TUESDAY), TUESDAY_MORNING)

    assert (desk.presence(MONDAY), desk.presence(TUESDAY)) == (Presence.SUSPENDED, Presence.PRESENT)


# What a change carries


def test_R19_a_change_carries_who_what_when_and_through_which_channel() -> None:
    desk = PaperDesk()
    reading = at(MONDAY_NIGHT, bound_ms=3)

    taken = change(desk.ask(Suspend(TUESDAY, FRIDAY), reading, by=Channel.TELEGRAM, key="message-7"))

    assert (taken.pupil, taken.guardian) == (ANNA.id, VERDINI.guardian)
    assert (taken.kind, taken.first, taken.last) == (Kind.SUSPEND, TUESDAY, FRIDAY)
    assert (taken.channel, taken.session, taken.request) == (Channel.TELEGRAM, "session", "message-7")
    assert taken.decided == reading
    assert not taken.review


def test_R19_an_undo_says_which_change_it_took_back_and_covers_its_days() -> None:
    desk = made(PaperDesk(), Suspend(TUESDAY, FRIDAY))

    undo = change(desk.ask(Undo(), EVE))

    assert (undo.kind, undo.takes_back) == (Kind.UNDO, desk.history[0].id)
    assert (undo.first, undo.last) == (TUESDAY, FRIDAY)


def test_R19_a_receipt_has_four_digits() -> None:
    receipt = change(PaperDesk().ask(Cancel(TUESDAY), EVE)).receipt

    assert len(receipt) == RECEIPT_DIGITS == 4
    assert receipt.isdecimal()


def _keys_of_one_receipt() -> tuple[str, str]:
    """Two request keys whose first choice of a receipt is the same."""
    seen: dict[str, str] = {}
    for number in range(10_000):
        key = f"key-{number}"
        receipt = change(PaperDesk().ask(Cancel(TUESDAY), EVE, key=key)).receipt
        if receipt in seen:
            return seen[receipt], key
        seen[receipt] = key
    raise AssertionError("ten thousand keys, ten thousand receipts")


def test_R19_two_changes_of_one_pupil_never_have_one_receipt() -> None:
    first, second = _keys_of_one_receipt()
    desk = PaperDesk()

    desk.ask(Cancel(TUESDAY), EVE, key=first)
    desk.ask(Cancel(WEDNESDAY), EVE, key=second)

    assert len({each.receipt for each in desk.history}) == 2


def test_R19_when_four_digits_run_short_a_receipt_gets_five() -> None:
    desk = PaperDesk()
    old = change(desk.ask(Cancel(TUESDAY), EVE))
    desk.history = [
        stored(replace(old, receipt=f"{number:04}", request=f"old-{number}"), number) for number in range(5000)
    ]

    receipt = change(desk.ask(Cancel(WEDNESDAY), EVE)).receipt

    assert len(receipt) == 5


# Once


@pytest.mark.parametrize("action", [Cancel(TUESDAY), Bland(TUESDAY), Suspend(TUESDAY), Resume(WEDNESDAY), Undo()])
def test_R20_the_same_request_twice_is_one_change_and_one_answer(action: Action) -> None:
    desk = made(PaperDesk(), *([Suspend(MONDAY)] if isinstance(action, Resume | Undo) else []))

    first = desk.ask(action, EVE, key="click")
    before = list(desk.history)
    second = desk.ask(action, EVE, key="click")

    assert isinstance(first, Accepted)
    assert second.word == first.word
    assert change(second).receipt == first.change.receipt
    assert desk.history == before


def test_R20_a_request_sent_again_after_the_cutoff_keeps_the_answer_it_had() -> None:
    desk = PaperDesk()
    first = change(desk.ask(Cancel(TUESDAY), TUESDAY_MORNING, key="message", by=Channel.PHONE))

    again = desk.ask(Cancel(TUESDAY), TUESDAY_NOON, key="message", by=Channel.PHONE)

    assert isinstance(again, Cancelled)
    assert again.change.receipt == first.receipt


def test_R20_a_request_sent_again_after_its_change_was_undone_does_not_make_it_anew() -> None:
    desk = PaperDesk()
    desk.ask(Cancel(TUESDAY), EVE, key="message")
    desk.ask(Undo(), EVE)

    desk.ask(Cancel(TUESDAY), EVE, key="message")

    assert desk.presence(TUESDAY) is Presence.PRESENT
    assert len(desk.history) == 2


def test_R20_an_undo_sent_again_takes_nothing_more_back() -> None:
    desk = made(PaperDesk(), Cancel(TUESDAY), Cancel(WEDNESDAY))
    desk.ask(Undo(), EVE, key="undo")

    again = desk.ask(Undo(), EVE, key="undo")

    assert isinstance(again, Undone)
    assert again.taken_back.first == WEDNESDAY
    assert desk.presence(TUESDAY) is Presence.CANCELLED


# Calendar edits


def test_R22_a_change_is_never_moved_to_another_day_by_an_edit() -> None:
    desk = made(PaperDesk(), Cancel(WEDNESDAY), Bland(THURSDAY))

    desk.town = town(calendar(closed("2026-11-25", "2026-11-26")))

    assert desk.presences((TUESDAY, WEDNESDAY, THURSDAY, FRIDAY)) == {
        TUESDAY: Presence.PRESENT,
        WEDNESDAY: Presence.NO_SERVICE,
        THURSDAY: Presence.NO_SERVICE,
        FRIDAY: Presence.PRESENT,
    }


def test_R22_when_an_edit_is_taken_back_a_cancellation_counts_again_with_its_receipt() -> None:
    desk = PaperDesk()
    first = change(desk.ask(Cancel(WEDNESDAY), EVE))

    desk.town = town(calendar(closed("2026-11-25")))
    while_closed = desk.ask(Cancel(WEDNESDAY), EVE)
    desk.town = town()
    again = desk.ask(Cancel(WEDNESDAY), EVE)

    assert while_closed == NoService(THURSDAY)
    assert isinstance(again, AlreadyCancelled)
    assert again.change.receipt == first.receipt


def test_R22_a_suspension_goes_over_days_that_an_edit_opened_after_it() -> None:
    desk = made(PaperDesk(), Suspend(MONDAY))

    desk.town = town(calendar(opened("2026-11-28")))

    assert desk.presence(SATURDAY) is Presence.SUSPENDED


def test_R22_an_edit_that_closes_the_first_day_of_a_suspension_leaves_it_to_be_undone_before_the_next() -> None:
    desk = made(PaperDesk(), Suspend(WEDNESDAY, FRIDAY))

    desk.town = town(calendar(closed("2026-11-25")))

    assert isinstance(desk.ask(Undo(), "2026-11-25 12:00"), Undone)


# Which answer comes first


def answer(
    action: Action,
    when: str,
    *before: Action,
    rules: Town | None = None,
    by: Channel = Channel.PORTAL,
    pupil: Pupil = ANNA,
) -> str:
    """The word of the answer to `action`, after `before` was taken on 1 October."""
    desk = made(PaperDesk(rules or town(), pupil), *before, when="2026-10-01 12:00")
    return desk.ask(action, when, by=by).word


# A limit of one bland day, and a look-ahead that ends on the Friday.
STRICT = town(bland_days_max=1, look_ahead_days=3)
SUSPENDED_ALREADY = Suspend(day("2026-10-02"))


@pytest.mark.parametrize("action", [Cancel, Bland])
@pytest.mark.parametrize(
    ("on", "word"), [(TUESDAY, "too_late"), (MONDAY, "too_late"), (day("2026-11-22"), "no_service")]
)
def test_R31_a_passed_cutoff_comes_before_the_days_presence(
    action: type[Cancel] | type[Bland], on: date, word: str
) -> None:
    assert answer(action(on), TUESDAY_NOON, SUSPENDED_ALREADY) == word
    assert answer(action(on), TUESDAY_NOON, Cancel(MONDAY), Cancel(TUESDAY)) == word


def test_R31_a_passed_cutoff_on_a_day_without_service_is_no_service_and_names_the_next_day() -> None:
    assert PaperDesk().ask(Cancel(SATURDAY), "2026-11-28 12:00") == NoService(NEXT_MONDAY)
    assert PaperDesk().ask(Cancel(day("2026-11-22")), TUESDAY_NOON) == NoService(WEDNESDAY)


@pytest.mark.parametrize("on", ["2026-11-29", "2026-12-05", "2026-12-08", "2027-07-14"])
@pytest.mark.parametrize("action", [Cancel, Bland])
def test_R31_no_service_comes_before_too_far(action: type[Cancel] | type[Bland], on: str) -> None:
    assert answer(action(day(on)), TUESDAY_NOON, rules=STRICT) == "no_service"


def test_R31_no_service_comes_before_the_days_presence() -> None:
    assert answer(Cancel(SATURDAY), TUESDAY_NOON, SUSPENDED_ALREADY) == "no_service"
    assert answer(Bland(SATURDAY), TUESDAY_NOON, SUSPENDED_ALREADY) == "no_service"


@pytest.mark.parametrize("before", [SUSPENDED_ALREADY, Cancel(NEXT_MONDAY), Bland(NEXT_MONDAY)])
@pytest.mark.parametrize("action", [Cancel, Bland])
def test_R31_too_far_comes_before_the_days_presence(action: type[Cancel] | type[Bland], before: Action) -> None:
    desk = made(PaperDesk(), before, when="2026-10-01 12:00")
    desk.town = STRICT

    assert desk.ask(action(NEXT_MONDAY), TUESDAY_NOON) == TooFar(FRIDAY)


def test_R31_too_far_comes_before_the_bland_limit() -> None:
    desk = made(PaperDesk(STRICT), Bland(FRIDAY), when=TUESDAY_NOON)

    assert desk.ask(Bland(NEXT_MONDAY), TUESDAY_NOON) == TooFar(FRIDAY)


def test_R31_what_the_day_is_comes_before_the_bland_limit() -> None:
    for before, word in (
        (Suspend(WEDNESDAY, WEDNESDAY), "suspended_day"),
        (Cancel(WEDNESDAY), "cancelled_day"),
    ):
        desk = made(PaperDesk(STRICT), Bland(THURSDAY), before, when="2026-11-24 12:00")
        assert desk.ask(Bland(WEDNESDAY), TUESDAY_NOON).word == word


def test_R31_already_bland_comes_before_the_bland_limit() -> None:
    desk = made(PaperDesk(town(bland_days_max=2)), Bland(WEDNESDAY), Bland(THURSDAY))
    desk.town = town(bland_days_max=1)

    assert desk.ask(Bland(WEDNESDAY), EVE).word == "already_bland"


def test_R31_suspended_comes_before_cancelled_and_bland_that_lie_under_it() -> None:
    assert answer(Bland(FRIDAY), TUESDAY_NOON, Cancel(FRIDAY), SUSPENDED_ALREADY) == "suspended_day"
    assert answer(Cancel(FRIDAY), TUESDAY_NOON, Bland(FRIDAY), SUSPENDED_ALREADY) == "suspended_day"


def test_R31_of_a_range_a_closed_first_day_comes_before_all_else() -> None:
    year_over = "2027-06-09 12:00"

    assert answer(Suspend(TUESDAY), TUESDAY_NOON, SUSPENDED_ALREADY) == "too_late"
    assert answer(Resume(TUESDAY), TUESDAY_NOON) == "too_late"
    assert answer(Suspend(day("2027-06-09")), year_over) == "too_late"
    assert answer(Resume(day("2027-06-09")), year_over) == "too_late"


def test_R31_of_a_range_no_service_day_comes_before_what_is_suspended() -> None:
    assert answer(Suspend(SATURDAY, SUNDAY), TUESDAY_NOON, SUSPENDED_ALREADY) == "no_service"
    assert answer(Resume(day("2027-06-09")), TUESDAY_NOON) == "no_service"
    assert answer(Resume(day("2027-06-09")), TUESDAY_NOON, SUSPENDED_ALREADY) == "no_service"
    assert PaperDesk().ask(Suspend(SATURDAY, SUNDAY), EVE) == NoService(NEXT_MONDAY)
    assert PaperDesk().ask(Suspend(day("2027-06-09")), EVE) == NoService(None)


@pytest.mark.parametrize(
    "action",
    [
        Cancel(TUESDAY),
        Cancel(SATURDAY),
        Cancel(day("2027-06-08")),
        Bland(TUESDAY),
        Suspend(TUESDAY),
        Suspend(SATURDAY, SUNDAY),
        Suspend(WEDNESDAY),
        Resume(TUESDAY),
        Resume(WEDNESDAY),
        Undo(),
        Undo(TUESDAY),
        Undo(SATURDAY),
    ],
)
def test_R31_by_phone_outside_the_window_comes_before_all(action: Action) -> None:
    assert answer(action, TUESDAY_NOON, by=Channel.PHONE) == "outside_window"
    assert answer(action, TUESDAY_NOON, SUSPENDED_ALREADY, by=Channel.PHONE) == "outside_window"


def test_R31_by_phone_the_cutoff_that_an_edit_moved_is_the_one_that_holds() -> None:
    moved = town(calendar(cutoffs=[cutoff("2026-11-24", "07:30")]))

    assert answer(Cancel(TUESDAY), TUESDAY_MORNING, by=Channel.PHONE) == "cancelled"
    assert answer(Cancel(TUESDAY), TUESDAY_MORNING, rules=moved, by=Channel.PHONE) == "outside_window"
    assert answer(Cancel(TUESDAY), TUESDAY_MORNING, rules=moved) == "too_late"


def test_R3_when_the_school_year_has_no_day_left_the_answer_is_no_service() -> None:
    last_evening = "2027-06-08 19:00"

    assert PaperDesk().phone(Cancel(day("2027-06-09")), last_evening) == NoService(None)
    assert PaperDesk().phone(Suspend(day("2027-06-09")), last_evening) == NoService(None)


# The desk over its store

MORNING = at(TUESDAY_MORNING)
NOON = at(TUESDAY_NOON)
MOTHER = Actor(Channel.PORTAL, "session", VERDINI.guardian, frozenset(pupil.id for pupil in VERDINI.pupils))


def requests(*asked: tuple[Pupil, Action]) -> list[Request]:
    return [Request(pupil, action, f"click-{number}") for number, (pupil, action) in enumerate(asked)]


def desk_over(store: PaperStore) -> BookingDesk:
    return BookingDesk(town, store)


async def test_R21_each_pupil_gets_its_own_change_and_receipt_in_one_transaction() -> None:
    store = PaperStore()

    outcomes = await desk_over(store).act(MOTHER, requests((ANNA, Cancel(THURSDAY)), (BRUNO, Cancel(THURSDAY))), NOON)

    assert [outcome.word for outcome in outcomes] == ["cancelled", "cancelled"]
    assert [each.pupil for each in store.changes] == [ANNA.id, BRUNO.id]
    assert store.transactions == 1


async def test_R21_what_cannot_be_done_for_one_is_said_for_that_one_and_stops_nobody() -> None:
    store = PaperStore()
    asked = requests((BRUNO, Cancel(WEDNESDAY)), (CARLA, Cancel(WEDNESDAY)), (ANNA, Cancel(TUESDAY)))

    outcomes = await desk_over(store).act(MOTHER, asked, NOON)

    assert [outcome.word for outcome in outcomes] == ["no_service", "cancelled", "too_late"]
    assert [each.pupil for each in store.changes] == [CARLA.id]


async def test_R26_a_refusal_is_kept_with_its_instant_and_what_was_asked() -> None:
    store = PaperStore()

    await desk_over(store).act(MOTHER, requests((ANNA, Cancel(TUESDAY))), NOON)

    (kept,) = store.refusals
    assert (kept.pupil, kept.action, kept.day, kept.outcome) == (ANNA.id, "cancel", TUESDAY, "too_late")
    assert (kept.decided, kept.channel, kept.guardian) == (NOON, Channel.PORTAL, VERDINI.guardian)
    assert store.changes == []


@pytest.mark.parametrize(
    ("action", "kept"),
    [
        (Bland(MONDAY), ("bland", MONDAY)),
        (Suspend(MONDAY, FRIDAY), ("suspend", MONDAY)),
        (Resume(MONDAY), ("resume", MONDAY)),
        (Undo(MONDAY), ("undo", MONDAY)),
    ],
)
async def test_R26_every_kind_of_refused_request_is_kept(action: Action, kept: tuple[str, date]) -> None:
    store = PaperStore()

    await desk_over(store).act(MOTHER, requests((ANNA, action)), NOON)

    assert [(each.action, each.day) for each in store.refusals] == [kept]


async def test_R26_what_was_unchanged_is_no_refusal() -> None:
    store = PaperStore()

    outcomes = await desk_over(store).act(
        MOTHER, requests((ANNA, Resume(FRIDAY)), (ANNA, Undo()), (BRUNO, Undo(THURSDAY))), NOON
    )

    assert [outcome.word for outcome in outcomes] == ["not_suspended", "nothing_to_undo", "nothing_to_undo"]
    assert store.refusals == []


async def test_R26_a_refusal_that_a_preview_found_is_kept_when_it_is_told() -> None:
    store = PaperStore()
    desk = desk_over(store)
    asked = requests((ANNA, Cancel(TUESDAY)), (BRUNO, Cancel(THURSDAY)))

    outcomes = await desk.preview(MOTHER, asked, NOON)
    await desk.record_refusals(MOTHER, asked, outcomes, NOON)

    assert [(each.pupil, each.outcome) for each in store.refusals] == [(ANNA.id, "too_late")]


async def test_R20_one_key_twice_in_one_go_is_one_change() -> None:
    store = PaperStore()
    twice = [Request(ANNA, Cancel(THURSDAY), "click"), Request(ANNA, Cancel(THURSDAY), "click")]

    outcomes = await desk_over(store).act(MOTHER, twice, NOON)

    assert [outcome.word for outcome in outcomes] == ["cancelled", "cancelled"]
    assert len(store.changes) == 1


async def test_several_requests_for_one_pupil_are_judged_one_after_the_other() -> None:
    store = PaperStore()
    week = [(ANNA, Bland(WEDNESDAY + timedelta(days=ahead))) for ahead in (0, 1, 2, 5)]

    outcomes = await desk_over(store).act(MOTHER, requests(*week, (ANNA, Bland(WEDNESDAY))), NOON)

    assert [outcome.word for outcome in outcomes] == ["bland", "bland", "bland", "bland_limit", "already_bland"]
    assert len({each.receipt for each in store.changes}) == 3


async def test_a_preview_answers_what_acting_would_answer() -> None:
    store = PaperStore()
    week = [(ANNA, Bland(WEDNESDAY + timedelta(days=ahead))) for ahead in (0, 1, 2, 5)]
    asked = requests(*week, (BRUNO, Cancel(WEDNESDAY)), (ANNA, Cancel(WEDNESDAY)))

    previewed = await desk_over(store).preview(MOTHER, asked, NOON)
    acted = await desk_over(PaperStore()).act(MOTHER, asked, NOON)

    assert previewed == acted
    assert (store.changes, store.refusals) == ([], [])


async def test_a_change_and_its_undo_need_a_request_each() -> None:
    store = PaperStore()

    with pytest.raises(ValueError, match="a request each"):
        await desk_over(store).act(MOTHER, requests((ANNA, Cancel(THURSDAY)), (ANNA, Undo())), NOON)

    assert store.changes == []


async def test_R29_nobody_acts_for_a_pupil_who_is_not_theirs() -> None:
    store = PaperStore()
    asked = requests((ANNA, Cancel(THURSDAY)), (DARIO, Cancel(WEDNESDAY)))

    with pytest.raises(NotTheirPupilError):
        await desk_over(store).act(MOTHER, asked, NOON)
    with pytest.raises(NotTheirPupilError):
        await desk_over(store).preview(MOTHER, asked, NOON)

    assert store.changes == []


async def test_views_are_what_a_channel_would_show_of_each_pupil() -> None:
    desk = desk_over(PaperStore())
    await desk.act(MOTHER, requests((BRUNO, Suspend(WEDNESDAY))), NOON)

    anna, bruno = await desk.views(Channel.PORTAL, (ANNA, BRUNO), NOON)

    assert (anna.day, anna.presence, anna.undoable) == (WEDNESDAY, Presence.PRESENT, None)
    assert (bruno.day, bruno.presence) == (THURSDAY, Presence.SUSPENDED)
    assert bruno.undoable is not None
    assert bruno.undoable.kind is Kind.SUSPEND


async def test_presences_tell_every_date_why_it_is_none_and_what_is_behind_it() -> None:
    store = PaperStore()
    desk = desk_over(store)
    await desk.act(MOTHER, requests((ANNA, Cancel(FRIDAY))), NOON)

    days = await desk.presences(ANNA, THURSDAY, SATURDAY)

    assert [(each.day, each.status.service, each.presence) for each in days] == [
        (THURSDAY, Service.SERVED, Presence.PRESENT),
        (FRIDAY, Service.SERVED, Presence.CANCELLED),
        (SATURDAY, Service.WEEKDAY, Presence.NO_SERVICE),
    ]
    assert [each.change for each in days] == [None, store.changes[0], None]


async def test_coming_days_are_service_days_as_many_as_asked_for_or_as_are_left() -> None:
    desk = desk_over(PaperStore())

    coming = await desk.coming_days(BRUNO, TUESDAY, 3)
    last = await desk.coming_days(ANNA, day("2027-06-07"), 5)

    assert [each.day for each in coming] == [THURSDAY, NEXT_MONDAY, day("2026-12-03")]
    assert [each.day for each in last] == [day("2027-06-07"), day("2027-06-08")]


def test_decide_is_pure_and_leaves_the_history_to_the_store() -> None:
    history = made(PaperDesk(), Cancel(TUESDAY)).history
    before = list(history)

    decide(town(), Request(ANNA, Undo(), "undo"), history, MOTHER, MORNING)

    assert history == before
    assert len(standing(history)) == 1


@pytest.mark.parametrize(("school", "class_group"), [("primaria", "9Z"), ("serale", "1A")])
async def test_R2_a_pupil_whose_class_group_is_gone_has_no_service_on_any_day(school: str, class_group: str) -> None:
    store = PaperStore()
    left = replace(ANNA, school=school, class_group=class_group)
    desk = desk_over(store)
    await desk.act(MOTHER, requests((ANNA, Suspend(FRIDAY))), NOON)

    [seen] = await desk.views(Channel.PHONE, [left], at(MONDAY_NIGHT))
    [told] = await desk.presences(left, FRIDAY, FRIDAY)
    actions = Cancel(THURSDAY), Bland(THURSDAY), Suspend(THURSDAY), Resume(THURSDAY)
    outcomes = await desk.act(MOTHER, [Request(left, action, f"now {action}") for action in actions], NOON)

    assert (seen.day, seen.presence, seen.undoable) == (None, Presence.NO_SERVICE, None)
    assert (told.presence, told.change) == (Presence.NO_SERVICE, None)
    assert outcomes == (NoService(None),) * 4
    assert await desk.coming_days(left, THURSDAY, 3) == ()


def test_R25_everything_up_to_now_is_settled_where_nothing_is_held_and_else_up_to_the_oldest_request() -> None:
    undecided = Undecided()
    night, morning = at(MONDAY_NIGHT), MORNING

    assert undecided.settled_until(morning) == morning.earliest
    with undecided.holding(night), undecided.holding(morning):
        assert undecided.settled_until(NOON) == min(night.earliest, morning.earliest)
    assert undecided.settled_until(NOON) == NOON.earliest
