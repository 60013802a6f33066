"""The sixteen worked examples of the rules, straight on the desk.

A class group eats Monday to Friday, the cutoff is 09:30, the evening window opens at 18:00; all times are local.
"""

from datetime import UTC

from core.changes import Presence
from core.clock import Reading
from core.desk import Cancel, Suspend
from core.outcomes import Cancelled, OutsideWindow, SuspendedDay, TooLate
from tests.towns import BRUNO, PaperDesk, at, calendar, closed, cutoff, day, local, town


def reached(desk: PaperDesk, when: str | Reading) -> str:
    """The day that a caller who asks for the day shown cancels."""
    shown = desk.view(when)
    assert shown.day is not None
    outcome = desk.phone(Cancel(shown.day), when)
    assert isinstance(outcome, Cancelled), outcome
    assert desk.presence(shown.day) is Presence.CANCELLED
    return outcome.change.first.isoformat()


def opens_at(desk: PaperDesk, when: str | Reading) -> str:
    """When the line opens again, as a caller outside its window is told, whatever is asked for."""
    shown = desk.view(when)
    assert shown.day is not None
    outcome = desk.phone(Cancel(shown.day), when)
    assert isinstance(outcome, OutsideWindow), outcome
    assert shown.shut == outcome
    assert desk.history == []
    return f"{desk.town.calendar.local(outcome.opens_at):%Y-%m-%d %H:%M}"


def test_example_01_monday_evening_reaches_tuesday() -> None:
    assert reached(PaperDesk(), "2026-11-23 18:30") == "2026-11-24"


def test_example_02_closed_days_are_passed_over() -> None:
    told = calendar(closed("2026-11-24", "2026-11-25"))

    assert reached(PaperDesk(town(told)), "2026-11-23 18:30") == "2026-11-26"


def test_example_03_friday_at_the_opening_reaches_monday() -> None:
    assert reached(PaperDesk(), "2026-11-27 18:00:00") == "2026-11-30"


def test_example_04_a_second_before_the_opening_is_refused() -> None:
    assert opens_at(PaperDesk(), "2026-11-27 17:59:59") == "2026-11-27 18:00"


def test_example_05_saturday_morning_reaches_monday() -> None:
    assert reached(PaperDesk(), "2026-11-28 08:00") == "2026-11-30"


def test_example_06_saturday_noon_is_refused() -> None:
    assert opens_at(PaperDesk(), "2026-11-28 12:00") == "2026-11-28 18:00"


def test_example_07_the_cutoff_instant_itself_is_accepted() -> None:
    assert reached(PaperDesk(), "2026-11-24 09:30:00.000") == "2026-11-24"


def test_example_08_a_millisecond_after_the_cutoff_is_refused() -> None:
    assert opens_at(PaperDesk(), "2026-11-24 09:30:00.001") == "2026-11-24 18:00"


def test_example_09_doubt_about_forty_milliseconds_goes_to_the_family() -> None:
    assert reached(PaperDesk(), at("2026-11-24 09:30:00.040", bound_ms=50)) == "2026-11-24"


def test_example_10_on_the_portal_today_is_refused_after_its_cutoff_and_stays_a_meal_to_pay() -> None:
    desk = PaperDesk()

    outcome = desk.ask(Cancel(day("2026-11-24")), "2026-11-24 10:15")

    assert outcome == TooLate(day("2026-11-24"), local("2026-11-24 09:30").astimezone(UTC))
    assert desk.presence("2026-11-24") is Presence.PRESENT


def test_example_11_on_the_portal_later_days_are_accepted_at_any_time() -> None:
    desk = PaperDesk()

    outcomes = [desk.ask(Cancel(day(on)), "2026-11-24 10:15") for on in ("2026-11-25", "2026-12-18")]

    assert [outcome.word for outcome in outcomes] == ["cancelled", "cancelled"]


def test_example_12_a_national_holiday_is_passed_over() -> None:
    assert reached(PaperDesk(), "2026-12-07 19:00") == "2026-12-09"


def test_example_13_the_night_of_the_change_to_summer_time_at_easter() -> None:
    assert reached(PaperDesk(), "2027-03-28 03:10") == "2027-03-30"


def test_example_14_a_class_group_of_mondays_and_thursdays() -> None:
    assert reached(PaperDesk(pupil=BRUNO), "2026-11-23 19:00") == "2026-11-26"


def test_example_15_an_earlier_cutoff_in_the_calendar_refuses() -> None:
    told = calendar(cutoffs=[cutoff("2026-11-24", "08:30")])

    assert opens_at(PaperDesk(town(told)), "2026-11-24 08:45") == "2026-11-24 18:00"


def test_example_16_a_suspended_pupil_has_nothing_to_cancel() -> None:
    desk = PaperDesk()
    desk.ask(Suspend(day("2026-11-16")), "2026-11-13 12:00")

    shown = desk.view("2026-11-23 19:00")
    outcome = desk.phone(Cancel(day("2026-11-24")), "2026-11-23 19:00")

    assert shown.presence is Presence.SUSPENDED
    assert outcome == SuspendedDay(day("2026-11-24"))
