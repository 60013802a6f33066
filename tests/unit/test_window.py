"""When a channel may change which day, and what a doubtful clock does to it: R5 to R11, across the clock changes (R4)."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

import pytest

from core.calendar import ServiceCalendar
from core.changes import Presence
from core.clock import Reading, exactly
from core.desk import Bland, Cancel, Suspend, Undo
from core.outcomes import Accepted, Cancelled, OutsideWindow, TooFar, TooLate
from core.window import Anytime, Channel, Evening, Open, Shut, judge
from tests.towns import BRUNO, CARLA, PaperDesk, at, calendar, closed, cutoff, day, local, town


def evening(
    when: str,
    told: ServiceCalendar | None = None,
    *,
    bound_ms: float = 0,
    fold: int = 0,
    opens: str = "18:00",
    school: str = "primaria",
) -> str:
    """The date that the evening window reaches, or when it opens."""
    window = Evening(time.fromisoformat(opens))
    match judge(window, told or calendar(), school, at(when, bound_ms=bound_ms, fold=fold)):
        case Open(first, _):
            return first.isoformat()
        case Shut(opens_at):
            return f"shut until {calendar().local(opens_at):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("when", "reached"),
    [
        ("2026-11-23 09:30:00", "2026-11-23"),
        ("2026-11-23 09:30:00.000001", "shut until 2026-11-23 18:00"),
        ("2026-11-23 12:00", "shut until 2026-11-23 18:00"),
        ("2026-11-23 17:59:59.999999", "shut until 2026-11-23 18:00"),
        ("2026-11-23 18:00", "2026-11-24"),
        ("2026-11-23 23:59:59.999999", "2026-11-24"),
        ("2026-11-24 00:00", "2026-11-24"),
        ("2026-11-24 09:30", "2026-11-24"),
    ],
)
def test_R7_the_evening_window_runs_from_its_opening_to_the_cutoff_of_the_next_date(when: str, reached: str) -> None:
    assert evening(when) == reached


@pytest.mark.parametrize("when", ["2026-11-27 18:30", "2026-11-28 08:00", "2026-11-28 18:00", "2026-11-29 09:30"])
def test_R7_the_window_recurs_on_days_without_service_and_reaches_monday(when: str) -> None:
    outcome = PaperDesk().phone(Cancel(day("2026-11-30")), when)

    assert isinstance(outcome, Cancelled)


def test_R7_saturday_morning_call_targets_monday() -> None:
    assert PaperDesk().view("2026-11-28 08:00").day == day("2026-11-30")


@pytest.mark.parametrize("when", ["2026-11-28 09:30:00.001", "2026-11-28 12:00", "2026-11-29 12:00"])
def test_R7_the_window_shuts_on_days_without_service_too(when: str) -> None:
    outcome = PaperDesk().phone(Cancel(day("2026-11-30")), when)

    assert outcome == OutsideWindow(local(f"{when[:10]} 18:00").astimezone(UTC))


def test_R7_on_a_date_without_service_the_cutoff_that_holds_for_the_school_then_closes_the_window() -> None:
    early_saturday = calendar(cutoffs=[cutoff("2026-11-28", "08:00", school="primaria")])

    assert evening("2026-11-28 08:00", early_saturday) == "2026-11-28"
    assert evening("2026-11-28 08:00:01", early_saturday) == "shut until 2026-11-28 18:00"
    assert evening("2026-11-28 08:00:01", early_saturday, school="secondaria") == "2026-11-28"
    assert evening("2026-11-28 09:00", school="infanzia") == "shut until 2026-11-28 18:00"


def test_R7_a_later_cutoff_keeps_the_window_open_longer() -> None:
    late = calendar(cutoffs=[cutoff("2026-11-24", "11:00")])

    assert evening("2026-11-24 10:59", late) == "2026-11-24"
    assert evening("2026-11-24 11:00:00.001", late) == "shut until 2026-11-24 18:00"


def test_R7_an_override_on_another_date_moves_nothing() -> None:
    early_wednesday = calendar(cutoffs=[cutoff("2026-11-25", "07:00")])

    assert evening("2026-11-24 09:30", early_wednesday) == "2026-11-24"
    assert evening("2026-11-24 18:00", early_wednesday) == "2026-11-25"


def test_R7_siblings_of_two_schools_can_differ_in_the_minutes_between_their_cutoffs() -> None:
    tuesday = "2026-11-24 09:00"

    assert PaperDesk(pupil=CARLA).view(tuesday).shut == OutsideWindow(local("2026-11-24 18:00").astimezone(UTC))
    assert PaperDesk(pupil=BRUNO).view(tuesday).shut is None


def test_R7_the_earliest_date_that_is_open_counts_when_doubt_opens_two() -> None:
    # Half a day of doubt reaches from before Tuesday's cutoff to after Tuesday's opening.
    assert evening("2026-11-24 13:45", bound_ms=timedelta(hours=6).total_seconds() * 1000) == "2026-11-24"


@pytest.mark.parametrize(
    ("when", "bound_ms", "reached"),
    [
        ("2026-11-24 09:30:00.050", 50, "2026-11-24"),
        ("2026-11-24 09:30:00.051", 50, "shut until 2026-11-24 18:00"),
        ("2026-11-24 17:59:59.950", 50, "2026-11-25"),
        ("2026-11-24 17:59:59.949", 50, "shut until 2026-11-24 18:00"),
        ("2026-11-24 23:59:59.990", 50, "2026-11-25"),
        ("2026-11-25 00:00:00.010", 50, "2026-11-25"),
    ],
)
def test_R10_doubt_at_the_cutoff_the_opening_and_midnight_goes_to_the_family(
    when: str, bound_ms: int, reached: str
) -> None:
    assert evening(when, bound_ms=bound_ms) == reached


def test_R7_beyond_the_first_useful_day_the_phone_changes_nothing() -> None:
    desk = PaperDesk()

    assert desk.phone(Cancel(day("2026-11-25")), "2026-11-23 18:30") == TooFar(day("2026-11-24"))
    assert desk.phone(Bland(day("2026-11-25")), "2026-11-23 18:30") == TooFar(day("2026-11-24"))
    assert desk.phone(Suspend(day("2026-11-25")), "2026-11-23 18:30") == TooFar(day("2026-11-24"))


@pytest.mark.parametrize(
    ("when", "first_accepted"),
    [("2026-11-24 09:30", "2026-11-24"), ("2026-11-24 09:30:00.001", "2026-11-25"), ("2026-11-24 17:00", "2026-11-25")],
)
def test_R8_on_the_portal_today_can_be_changed_until_its_cutoff_and_later_days_at_any_time(
    when: str, first_accepted: str
) -> None:
    accepted = [
        on
        for on in ("2026-11-23", "2026-11-24", "2026-11-25", "2026-12-18")
        if isinstance(PaperDesk().ask(Cancel(day(on)), when), Cancelled)
    ]

    assert accepted[0] == first_accepted
    assert accepted[-1] == "2026-12-18"


def test_R9_a_phone_with_the_anytime_window_is_never_outside_it() -> None:
    configured = replace(town(), windows={Channel.PHONE: Anytime(60)})

    outcome = PaperDesk(configured).phone(Cancel(day("2026-11-27")), "2026-11-24 12:00")

    assert isinstance(outcome, Cancelled)


def test_R9_the_evening_opens_when_the_town_says() -> None:
    assert evening("2026-11-24 16:59:59", opens="17:00") == "shut until 2026-11-24 17:00"
    assert evening("2026-11-24 17:00", opens="17:00") == "2026-11-25"


def test_R5_at_the_cutoff_instant_accepted_and_any_later_refused() -> None:
    tuesday = day("2026-11-24")

    assert isinstance(PaperDesk().ask(Cancel(tuesday), "2026-11-24 09:30:00.000"), Cancelled)
    assert PaperDesk().ask(Cancel(tuesday), "2026-11-24 09:30:00.000001") == TooLate(
        tuesday, local("2026-11-24 09:30").astimezone(UTC)
    )


def test_R11_outside_the_window_the_state_that_holds_is_told_and_when_the_line_opens() -> None:
    desk = PaperDesk()
    desk.ask(Cancel(day("2026-11-24")), "2026-11-24 08:00")

    seen = desk.view("2026-11-24 12:00")

    assert (seen.day, seen.presence) == (day("2026-11-24"), Presence.CANCELLED)
    assert seen.shut == OutsideWindow(local("2026-11-24 18:00").astimezone(UTC))


def test_R11_outside_the_window_on_a_day_without_service_the_next_one_is_told() -> None:
    assert PaperDesk().view("2026-11-28 12:00").day == day("2026-11-30")


def test_R11_when_the_school_year_has_no_day_left_there_is_no_day_to_tell() -> None:
    seen = PaperDesk().view("2027-06-08 19:00")

    assert (seen.day, seen.presence) == (None, Presence.NO_SERVICE)


# The two nights when the clocks change (R4)


@pytest.mark.parametrize(
    ("when", "reached"),
    [
        ("2027-03-27 18:00", "2027-03-28"),
        ("2027-03-28 01:59:59", "2027-03-28"),
        ("2027-03-28 03:00", "2027-03-28"),
        ("2027-03-28 09:30", "2027-03-28"),
        ("2027-03-28 09:30:00.001", "shut until 2027-03-28 18:00"),
        ("2026-10-24 18:00", "2026-10-25"),
        ("2026-10-25 09:30", "2026-10-25"),
        ("2026-10-25 09:30:00.001", "shut until 2026-10-25 18:00"),
        ("2027-10-30 17:59:59.999", "shut until 2027-10-30 18:00"),
        ("2027-10-31 18:00", "2027-11-01"),
    ],
)
def test_R4_the_window_keeps_to_the_wall_clock_when_the_clocks_change(when: str, reached: str) -> None:
    assert evening(when) == reached


def test_R4_both_passes_of_the_repeated_hour_are_open() -> None:
    assert evening("2026-10-25 02:30", fold=0) == evening("2026-10-25 02:30", fold=1) == "2026-10-25"


@pytest.mark.parametrize(
    ("when", "fold", "reached"),
    [
        ("2026-10-25 02:30", 0, "2026-10-25"),
        ("2026-10-25 02:45", 0, "2026-10-25"),
        ("2026-10-25 02:30", 1, "2026-10-25"),
        ("2026-10-25 02:30:00.001", 1, "shut until 2026-10-25 18:00"),
    ],
)
def test_R4_a_cutoff_in_the_repeated_hour_closes_at_its_second_pass(when: str, fold: int, reached: str) -> None:
    told = calendar(cutoffs=[cutoff("2026-10-25", "02:30")])

    assert evening(when, told, fold=fold) == reached


def test_R4_a_cutoff_in_the_skipped_hour_closes_when_the_clocks_jump() -> None:
    told = calendar(cutoffs=[cutoff("2027-03-28", "02:30")])

    assert evening("2027-03-28 01:59:59.999999", told) == "2027-03-28"
    assert evening("2027-03-28 03:00", told) == "2027-03-28"
    assert evening("2027-03-28 03:00:00.000001", told) == "shut until 2027-03-28 18:00"


def test_R4_an_opening_in_the_repeated_hour_opens_at_its_first_pass_and_stays_open() -> None:
    told = calendar(cutoffs=[cutoff("2026-10-25", "01:30")])

    assert evening("2026-10-25 02:29:59", told, opens="02:30", fold=0) == "shut until 2026-10-25 02:30"
    assert evening("2026-10-25 02:30", told, opens="02:30", fold=0) == "2026-10-26"
    assert evening("2026-10-25 02:10", told, opens="02:30", fold=1) == "2026-10-26"


def test_R4_an_opening_in_the_skipped_hour_opens_when_the_clocks_jump() -> None:
    told = calendar(cutoffs=[cutoff("2027-03-28", "01:30")])

    assert evening("2027-03-28 01:59:59", told, opens="02:30") == "shut until 2027-03-28 03:00"
    assert evening("2027-03-28 03:00", told, opens="02:30") == "2027-03-29"


# Readings and review marks (R10)


def test_R10_a_reading_is_in_utc_and_ends_after_it_starts() -> None:
    instant = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)

    with pytest.raises(ValueError, match="UTC"):
        Reading(instant.astimezone(local("2026-11-24").tzinfo), instant, "test")
    with pytest.raises(ValueError, match="before it starts"):
        Reading(instant, instant - timedelta(microseconds=1), "test")


def test_R10_a_reading_is_its_midpoint_plus_or_minus_its_bound() -> None:
    reading = exactly(local("2026-11-24 09:30"), bound=timedelta(milliseconds=50))

    assert reading.midpoint == local("2026-11-24 09:30")
    assert reading.bound == timedelta(milliseconds=50)
    assert reading.latest - reading.earliest == timedelta(milliseconds=100)


def review(when: str, *, by: Channel, on: str, synchronised: bool = False, desk: PaperDesk | None = None) -> bool:
    """Whether a cancellation taken with two seconds of doubt is marked for review."""
    reading = at(when, bound_ms=2000, synchronised=synchronised)
    outcome = (desk or PaperDesk()).ask(Cancel(day(on)), reading, by=by)
    assert isinstance(outcome, Accepted)
    return outcome.change.review


@pytest.mark.parametrize(
    ("when", "on", "marked"),
    [
        ("2026-11-24 09:29:57.999", "2026-11-24", False),
        ("2026-11-24 09:29:58", "2026-11-24", True),
        ("2026-11-24 09:30:02", "2026-11-24", True),
        ("2026-11-24 17:59:58", "2026-11-25", True),
        ("2026-11-24 18:00:02", "2026-11-25", True),
        ("2026-11-24 18:00:02.001", "2026-11-25", False),
        ("2026-11-28 09:30:01", "2026-11-30", True),
        ("2026-11-24 23:59:59", "2026-11-25", False),
    ],
)
def test_R10_an_unsynchronised_clock_marks_a_call_within_its_limit_of_a_boundary(
    when: str, on: str, marked: bool
) -> None:
    assert review(when, by=Channel.PHONE, on=on) is marked


@pytest.mark.parametrize(
    ("when", "on", "marked"),
    [
        ("2026-11-24 09:30:02", "2026-11-24", True),
        ("2026-11-24 09:30:02", "2026-12-18", True),
        ("2026-11-24 12:00", "2026-12-18", False),
        ("2026-11-24 18:00", "2026-11-25", False),
    ],
)
def test_R10_on_the_portal_the_boundary_is_the_cutoff_of_today_whatever_day_is_asked_for(
    when: str, on: str, marked: bool
) -> None:
    assert review(when, by=Channel.PORTAL, on=on) is marked


def test_R10_midnight_is_a_boundary_where_a_new_day_brings_a_later_one_within_reach() -> None:
    # Fifty-five days after 25 November is 19 January, a Tuesday.
    desk = PaperDesk(town(look_ahead_days=55))

    assert review("2026-11-24 23:59:59", by=Channel.PORTAL, on="2027-01-19", desk=desk)


def test_R10_a_synchronised_clock_marks_nothing_however_near() -> None:
    assert not review("2026-11-24 09:30:01", by=Channel.PHONE, on="2026-11-24", synchronised=True)


def test_R10_an_unsynchronised_clock_refuses_nothing_for_that_reason_alone() -> None:
    outcome = PaperDesk().phone(Cancel(day("2026-11-24")), at("2026-11-24 08:00", bound_ms=2000, synchronised=False))

    assert isinstance(outcome, Cancelled)


def test_R10_undoing_near_the_cutoff_of_the_day_that_comes_back_is_marked_too() -> None:
    desk = PaperDesk()
    desk.ask(Cancel(day("2026-11-24")), "2026-11-23 19:00")

    outcome = desk.ask(Undo(), at("2026-11-24 09:30:01", bound_ms=2000, synchronised=False))

    assert isinstance(outcome, Accepted)
    assert outcome.change.review


def test_R10_both_ends_of_the_decision_instant_are_kept_with_the_change() -> None:
    desk = PaperDesk()
    reading = at("2026-11-24 09:30:00.040", bound_ms=50)

    desk.ask(Cancel(day("2026-11-24")), reading)

    assert (desk.history[0].decided.earliest, desk.history[0].decided.latest) == (reading.earliest, reading.latest)


def test_R11_a_shut_window_with_a_closed_day_changes_nothing() -> None:
    desk = PaperDesk(town(calendar(closed("2026-11-24"))))

    outcome = desk.phone(Cancel(day("2026-11-25")), "2026-11-24 12:00")

    assert isinstance(outcome, OutsideWindow)
    assert desk.history == []
