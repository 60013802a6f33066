"""The fold: what changes make of a day, and what undo takes out of it (R12 to R16, R32)."""

from datetime import date

import pytest

from core.changes import Change, ChangeId, Kind, NewChange, Presence, fold, standing
from core.clock import exactly
from core.window import Channel
from tests.towns import ANNA, day, local, stored

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2026, 11, number) for number in range(23, 28))


def history(*made: tuple[Kind, date | None, date | None] | int) -> tuple[Change, ...]:
    """Changes accepted in this order, numbered from 1; a number stands for the undo of that change."""
    changes: list[Change] = []
    for number, each in enumerate(made, 1):
        if isinstance(each, int):
            undone = changes[each - 1]
            kind, first, last, takes_back = Kind.UNDO, undone.first, undone.last, ChangeId(each)
        else:
            kind, given, last = each
            assert given is not None
            first, takes_back = given, None
        change = NewChange(
            pupil=ANNA.id,
            kind=kind,
            first=first,
            last=last,
            receipt=f"{number:04}",
            request=f"request-{number}",
            channel=Channel.PORTAL,
            guardian=None,
            session="session",
            decided=exactly(local("2026-11-20 12:00")),
            takes_back=takes_back,
        )
        changes.append(stored(change, number))
    return tuple(changes)


def cancel(on: date) -> tuple[Kind, date, date]:
    return Kind.CANCEL, on, on


def bland(on: date) -> tuple[Kind, date, date]:
    return Kind.BLAND, on, on


def suspend(first: date, until: date | None = None) -> tuple[Kind, date, date | None]:
    return Kind.SUSPEND, first, until


def resume(first: date) -> tuple[Kind, date, None]:
    return Kind.RESUME, first, None


def week(*made: tuple[Kind, date, date | None] | int) -> str:
    """The presences from Monday to Friday, a letter each: present, bland, cancelled, suspended."""
    letters = {Presence.PRESENT: "p", Presence.BLAND: "b", Presence.CANCELLED: "c", Presence.SUSPENDED: "s"}
    changes = standing(history(*made))
    return "".join(letters[fold(changes, each).presence] for each in (MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY))


def test_R1_without_changes_every_day_is_present_and_no_change_is_behind_it() -> None:
    held = fold((), MONDAY)

    assert (held.presence, held.change) == (Presence.PRESENT, None)


def test_R12_a_cancellation_is_for_its_one_day() -> None:
    assert week(cancel(TUESDAY)) == "pcppp"


def test_R13_a_bland_meal_is_for_its_one_day() -> None:
    assert week(bland(TUESDAY)) == "pbppp"


def test_R13_cancelled_lies_over_bland_and_undoing_the_cancellation_brings_the_bland_meal_back() -> None:
    assert week(bland(TUESDAY), cancel(TUESDAY)) == "pcppp"
    assert week(bland(TUESDAY), cancel(TUESDAY), 2) == "pbppp"


def test_R32_cancelled_lies_over_bland_in_whatever_order_they_were_accepted() -> None:
    assert week(cancel(TUESDAY), bland(TUESDAY)) == "pcppp"


def test_R14_a_suspension_covers_its_days_both_ends_included() -> None:
    assert week(suspend(TUESDAY, THURSDAY)) == "psssp"


def test_R14_a_suspension_until_further_notice_covers_every_day_from_its_first() -> None:
    assert week(suspend(TUESDAY)) == "pssss"
    assert fold(standing(history(suspend(TUESDAY))), day("2027-06-08")).presence is Presence.SUSPENDED


def test_R15_from_a_resumption_on_no_earlier_suspension_holds() -> None:
    assert week(suspend(MONDAY), suspend(WEDNESDAY, FRIDAY), resume(THURSDAY)) == "ssspp"


def test_R15_a_resumption_lifts_no_suspension_accepted_later() -> None:
    assert week(suspend(MONDAY), resume(TUESDAY), suspend(THURSDAY, THURSDAY)) == "sppsp"


def test_R15_a_resumption_before_a_suspension_that_starts_later_lifts_that_too() -> None:
    assert week(suspend(THURSDAY), resume(TUESDAY)) == "ppppp"


def test_R32_suspended_lies_over_cancelled_over_bland() -> None:
    under = (bland(MONDAY), bland(TUESDAY), cancel(TUESDAY), cancel(WEDNESDAY))

    assert week(*under) == "bccpp"
    assert week(*under, suspend(MONDAY)) == "sssss"


def test_R32_what_lies_under_a_suspension_comes_back_when_it_ends() -> None:
    under = (bland(MONDAY), bland(TUESDAY), cancel(TUESDAY), cancel(WEDNESDAY))

    assert week(*under, suspend(MONDAY), resume(TUESDAY)) == "sccpp"
    assert week(*under, suspend(MONDAY), 5) == "bccpp"
    assert week(*under, suspend(MONDAY, MONDAY)) == "sccpp"


def test_R32_what_was_made_while_suspended_lies_under_the_suspension_too() -> None:
    assert week(suspend(MONDAY), cancel(TUESDAY), resume(TUESDAY)) == "scppp"


def test_R32_undoing_a_resumption_brings_the_suspension_back() -> None:
    assert week(suspend(MONDAY), resume(WEDNESDAY), 2) == "sssss"


def test_R32_undoing_one_of_two_suspensions_leaves_the_other() -> None:
    assert week(suspend(MONDAY, WEDNESDAY), suspend(WEDNESDAY, FRIDAY), 1) == "ppsss"
    assert week(suspend(MONDAY, WEDNESDAY), suspend(WEDNESDAY, FRIDAY), 2) == "ssspp"


def test_R32_undo_removes_the_change_it_took_back_and_no_other() -> None:
    assert week(cancel(MONDAY), cancel(TUESDAY), cancel(WEDNESDAY), 2) == "cpcpp"


def test_R16_what_undo_took_back_and_the_undo_itself_stand_no_more() -> None:
    changes = history(cancel(MONDAY), cancel(TUESDAY), 2, cancel(TUESDAY))

    assert [change.id for change in standing(changes)] == [1, 4]


def test_R12_the_change_behind_a_cancelled_day_is_the_first_that_stands() -> None:
    assert fold(standing(history(cancel(MONDAY), cancel(MONDAY))), MONDAY).change == history(cancel(MONDAY))[0]
    again = fold(standing(history(cancel(MONDAY), 1, cancel(MONDAY))), MONDAY).change
    assert again is not None
    assert again.id == 3


def test_the_change_behind_a_suspended_day_is_the_latest_suspension_over_it() -> None:
    held = fold(standing(history(suspend(MONDAY), suspend(WEDNESDAY, FRIDAY))), WEDNESDAY)

    assert held.change is not None
    assert held.change.id == 2


def test_an_undo_is_never_folded() -> None:
    with pytest.raises(ValueError, match="undo"):
        fold(history(cancel(MONDAY), 1), MONDAY)
