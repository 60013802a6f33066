"""Which days are service days, and until when each can be changed: R1 to R5, R22."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from core.calendar import (
    ContradictionError,
    Service,
    closing_instant,
    contradictions,
    opening_instant,
)
from core.changes import Presence
from core.desk import Cancel
from core.people import ClassGroup
from tests.towns import (
    ANNA,
    BRUNO,
    CLASS_1A,
    CLASS_2C,
    CLASS_3B,
    CLASS_BLU,
    CLASSES,
    PATRON,
    ROME,
    PaperDesk,
    calendar,
    closed,
    cutoff,
    day,
    local,
    opened,
    town,
)

SPRING = date(2027, 3, 28)
AUTUMN = date(2026, 10, 25)
NEXT_AUTUMN = date(2027, 10, 31)


def test_R1_a_pupil_of_whom_nobody_said_anything_eats_on_every_service_day() -> None:
    desk = PaperDesk()

    presences = desk.presences(desk.town.calendar.service_days(CLASS_1A, day("2026-09-01")))

    assert set(presences.values()) == {Presence.PRESENT}
    assert min(presences) == day("2026-09-14")
    assert max(presences) == day("2027-06-08")


@pytest.mark.parametrize(
    ("on", "service"),
    [
        ("2026-09-11", Service.OUT_OF_YEAR),
        ("2026-09-14", Service.SERVED),
        ("2026-11-11", Service.PATRON),
        ("2026-11-21", Service.WEEKDAY),
        ("2026-11-23", Service.SERVED),
        ("2026-12-08", Service.HOLIDAY),
        ("2027-06-08", Service.SERVED),
        ("2027-06-09", Service.OUT_OF_YEAR),
    ],
)
def test_R2_the_calendar_says_why_a_date_is_a_service_day_or_is_none(on: str, service: Service) -> None:
    assert calendar().status(CLASS_1A, day(on)).service is service


def test_R2_a_holiday_has_its_name_and_an_exception_the_offices_words() -> None:
    seat = closed("2026-11-24")
    told = calendar(type(seat)(seat.days, opens=False, why="Seggio elettorale"))

    assert told.status(CLASS_1A, day("2026-12-08")).why == "Immacolata"
    assert told.status(CLASS_1A, day("2026-11-24")).why == "Seggio elettorale"


def test_R2_a_class_group_eats_on_its_own_weekdays_only() -> None:
    week = [day("2026-11-23") + timedelta(days=number) for number in range(7)]

    served = [each.isoformat() for each in week if calendar().is_served(CLASS_3B, each)]

    assert served == ["2026-11-23", "2026-11-26"]


def test_R2_a_school_may_have_its_own_school_year() -> None:
    town_calendar = calendar()

    assert not town_calendar.is_served(CLASS_BLU, day("2026-09-14"))
    assert town_calendar.is_served(CLASS_BLU, day("2026-09-21"))
    assert town_calendar.is_served(CLASS_BLU, day("2027-06-30"))
    assert not town_calendar.is_served(CLASS_1A, day("2027-06-30"))
    assert not town_calendar.is_served(CLASS_BLU, day("2027-07-01"))


@pytest.mark.parametrize(
    "on",
    [
        pytest.param("2026-11-22", id="weekday"),
        pytest.param("2026-12-08", id="holiday"),
        pytest.param(PATRON.isoformat(), id="patron"),
        pytest.param("2026-08-31", id="before the school year"),
        pytest.param("2027-06-21", id="after the school year"),
    ],
)
@pytest.mark.parametrize(
    ("school", "class_group"), [(None, None), ("primaria", None), ("primaria", "3B")], ids=["town", "school", "class"]
)
def test_R2_open_of_any_scope_beats_weekday_holiday_patron_and_school_year(
    on: str, school: str | None, class_group: str | None
) -> None:
    told = calendar(opened(on, school=school, class_group=class_group))

    assert told.status(CLASS_3B, day(on)).service is Service.OPENED
    assert told.last_day >= day(on)
    assert told.first_useful_day(CLASS_3B, day(on)) == day(on)


def test_R2_open_serves_every_class_group_in_its_scope_and_none_outside() -> None:
    # A Saturday, on which nobody eats; neither does 3B on the Tuesday.
    saturday, tuesday = day("2026-11-21"), day("2026-11-24")
    told = calendar(opened("2026-11-21", school="primaria"), opened("2026-11-24"))

    assert [group.name for group in CLASSES.values() if told.is_served(group, saturday)] == ["1A", "3B"]
    assert [group.name for group in CLASSES.values() if told.is_served(group, tuesday)] == ["1A", "3B", "Blu", "2C"]


def test_R2_open_before_its_own_school_year_serves_a_school_that_starts_later() -> None:
    told = calendar(opened("2026-09-14", school="infanzia"))

    assert told.is_served(CLASS_BLU, day("2026-09-14"))
    assert not told.is_served(CLASS_BLU, day("2026-09-15"))


def test_R2_the_most_specific_scope_wins_whichever_kind_it_is() -> None:
    told = calendar(
        closed("2026-11-23", "2026-11-27"),
        opened("2026-11-24", "2026-11-26", school="primaria"),
        closed("2026-11-26", school="primaria", class_group="3B"),
        opened("2026-11-27", school="primaria", class_group="3B"),
    )

    def served(group_name: str) -> list[int]:
        group = CLASSES["primaria", group_name]
        return [number for number in range(23, 28) if told.is_served(group, date(2026, 11, number))]

    assert served("1A") == [24, 25, 26]
    assert served("3B") == [24, 25, 27]
    assert not any(told.is_served(CLASS_2C, date(2026, 11, number)) for number in range(23, 28))


def test_R2_a_class_group_that_is_gone_has_no_service_day_whatever_is_opened() -> None:
    told = calendar(opened("2026-11-21"), opened("2026-11-22", school="primaria"))
    gone, nowhere = ClassGroup("primaria", "9Z", frozenset(range(7))), ClassGroup("serale", "1A", frozenset(range(7)))

    for group in (gone, nowhere):
        assert told.first_useful_day(group, day("2026-09-01")) is None
        assert told.status(group, day("2026-11-21")).service is Service.NO_CLASS_GROUP
    assert told.status(gone, day("2026-11-23")).why == "primaria/9Z is not in schools.yaml"


def test_R5_a_school_that_is_gone_has_the_towns_year_and_its_latest_cutoff() -> None:
    told = calendar(cutoffs=[cutoff("2026-11-24", "11:15", school="infanzia")])

    assert told.school_year("serale") == told.service
    assert told.cutoff("serale", day("2026-11-23")) == local("2026-11-23 10:00")
    assert told.cutoff("serale", day("2026-11-24")) == local("2026-11-24 11:15")


def test_R2_a_class_group_of_the_same_name_in_another_school_is_another_class_group() -> None:
    told = calendar(closed("2026-11-24", school="secondaria", class_group="1A"))

    assert told.is_served(CLASS_1A, day("2026-11-24"))


def test_R2_contradicting_exceptions_of_one_scope_on_one_date_are_an_error() -> None:
    with pytest.raises(ContradictionError) as raised:
        calendar(closed("2026-12-23", "2027-01-06", school="primaria"), opened("2026-12-28", school="primaria"))

    assert raised.value.day == day("2026-12-28")


def test_R2_exceptions_that_agree_or_differ_in_scope_are_no_contradiction() -> None:
    exceptions = (
        closed("2026-12-23", "2027-01-06"),
        closed("2026-12-24"),
        opened("2026-12-28", school="primaria"),
        closed("2026-12-28", school="primaria", class_group="3B"),
        opened("2026-12-28", school="infanzia"),
    )

    assert list(contradictions(exceptions)) == []
    assert calendar(*exceptions).is_served(CLASS_1A, day("2026-12-28"))


def test_R2_every_pair_of_exceptions_that_contradict_is_told_once() -> None:
    exceptions = (closed("2026-11-02", "2026-11-13"), opened("2026-11-05", "2026-11-06"), opened("2026-11-09"))

    told = [(each.first, each.second, each.day.isoformat()) for each in contradictions(exceptions)]

    assert told == [
        (exceptions[0], exceptions[1], "2026-11-05"),
        (exceptions[0], exceptions[2], "2026-11-09"),
    ]


@pytest.mark.parametrize(
    ("group", "on", "useful"),
    [
        (CLASS_1A, "2026-11-24", "2026-11-24"),
        (CLASS_1A, "2026-11-28", "2026-11-30"),
        (CLASS_3B, "2026-11-24", "2026-11-26"),
        (CLASS_1A, "2026-12-08", "2026-12-09"),
        (CLASS_1A, "2026-08-01", "2026-09-14"),
        (CLASS_1A, "2027-06-09", None),
        (CLASS_BLU, "2027-06-09", "2027-06-09"),
        (CLASS_BLU, "2027-07-01", None),
    ],
)
def test_R3_the_first_useful_day_is_the_earliest_service_day_from_a_date(
    group: ClassGroup, on: str, useful: str | None
) -> None:
    found = calendar().first_useful_day(group, day(on))

    assert found == (day(useful) if useful else None)


def test_R3_an_opening_after_the_school_year_is_still_a_useful_day() -> None:
    told = calendar(opened("2027-07-05", school="primaria", class_group="3B"))

    assert told.first_useful_day(CLASS_3B, day("2027-06-09")) == day("2027-07-05")
    assert told.first_useful_day(CLASS_1A, day("2027-06-09")) is None


def test_R5_every_school_has_its_own_cutoff() -> None:
    told = calendar()

    assert told.cutoff("primaria", day("2026-11-24")) == local("2026-11-24 09:30")
    assert told.cutoff("infanzia", day("2026-11-24")) == local("2026-11-24 08:45")


def test_R5_the_calendar_overrides_a_cutoff_for_one_date_and_the_schools_own_word_comes_first() -> None:
    told = calendar(
        cutoffs=[cutoff("2026-11-27", "08:30"), cutoff("2026-11-27", "09:00", school="primaria")],
    )

    assert told.cutoff_time("primaria", day("2026-11-27")) == time(9, 0)
    assert told.cutoff_time("secondaria", day("2026-11-27")) == time(8, 30)
    assert told.cutoff_time("primaria", day("2026-11-26")) == time(9, 30)


def test_R4_a_cutoff_is_wall_clock_time_on_both_sides_of_a_clock_change() -> None:
    told = calendar()

    assert told.cutoff("primaria", SPRING - timedelta(days=1)) == datetime(2027, 3, 27, 8, 30, tzinfo=UTC)
    assert told.cutoff("primaria", SPRING) == datetime(2027, 3, 28, 7, 30, tzinfo=UTC)
    assert told.cutoff("primaria", AUTUMN - timedelta(days=1)) == datetime(2026, 10, 24, 7, 30, tzinfo=UTC)
    assert told.cutoff("primaria", AUTUMN) == datetime(2026, 10, 25, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize("skipped", ["02:00", "02:00:00.500000", "02:30", "02:59:59.999999"])
def test_R4_a_time_that_spring_skips_is_the_moment_of_the_change(skipped: str) -> None:
    change = datetime(2027, 3, 28, 1, 0, tzinfo=UTC)

    assert opening_instant(SPRING, time.fromisoformat(skipped), ROME) == change
    assert closing_instant(SPRING, time.fromisoformat(skipped), ROME) == change


@pytest.mark.parametrize("autumn", [AUTUMN, NEXT_AUTUMN])
def test_R4_in_the_hour_that_autumn_repeats_the_first_pass_opens_and_the_second_closes(autumn: date) -> None:
    first_pass = datetime.combine(autumn, time(0, 30), UTC)

    assert opening_instant(autumn, time(2, 30), ROME) == first_pass
    assert closing_instant(autumn, time(2, 30), ROME) == first_pass + timedelta(hours=1)


@pytest.mark.parametrize("autumn", [AUTUMN, NEXT_AUTUMN])
def test_R4_only_the_repeated_hour_has_two_passes(autumn: date) -> None:
    for at in (time(1, 59, 59), time(3, 0)):
        assert opening_instant(autumn, at, ROME) == closing_instant(autumn, at, ROME)
    assert opening_instant(autumn, time(2, 0), ROME) < closing_instant(autumn, time(2, 0), ROME)


def test_R4_a_municipality_may_live_by_another_clock() -> None:
    # On Lord Howe Island the clocks change by half an hour, at 02:00.
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    change = datetime(2026, 10, 3, 15, 30, tzinfo=UTC)

    assert closing_instant(date(2026, 10, 4), time(2, 15), lord_howe) == change
    assert closing_instant(date(2026, 10, 4), time(2, 30), lord_howe) == change


def test_R22_an_edit_that_closes_a_day_takes_effect_from_its_changes_and_gives_it_back() -> None:
    desk = PaperDesk()
    desk.ask(Cancel(day("2026-11-25")), "2026-11-23 12:00")

    desk.town = town(calendar(closed("2026-11-25")))
    while_closed = desk.presence("2026-11-25")
    desk.town = town()

    assert while_closed is Presence.NO_SERVICE
    assert desk.presence("2026-11-25") is Presence.CANCELLED
    assert desk.presence("2026-11-26") is Presence.PRESENT


def test_R22_siblings_of_other_schools_keep_their_day_when_one_school_closes() -> None:
    edited = town(calendar(closed("2026-11-26", school="primaria", class_group="3B")))

    assert PaperDesk(edited, BRUNO).presence("2026-11-26") is Presence.NO_SERVICE
    assert PaperDesk(edited, ANNA).presence("2026-11-26") is Presence.PRESENT
