"""What a caller was asked to confirm, kept as text while the question is open (R18), and keyed dates (R15)."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.changes import ChangeId
from core.clock import Reading
from core.desk import Action, Bland, Cancel, Resume, Suspend, Undo
from core.outcomes import Cancelled, OutsideWindow
from core.people import GuardianId, PupilId
from ivr.flow import first_date
from ivr.pending import ASKED_MAX, NotPendingError, Pending
from tests.towns import PaperDesk, at, day, local

words = st.text("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-", min_size=1, max_size=40)
dates = st.dates(date(2000, 1, 1), date(2100, 12, 31))
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Cancel, dates),
    st.builds(Bland, dates),
    st.builds(Suspend, dates, st.none() | dates),
    st.builds(Resume, dates),
    st.builds(Undo, st.none() | dates, st.none() | st.integers(1, 2**63 - 1).map(ChangeId)),
)
ids = st.integers(1, 2**63 - 1)
pendings = st.builds(
    Pending,
    town=words,
    key=words,
    session=words,
    guardian=ids.map(GuardianId),
    asked_at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds
    actions=st.lists(st.tuples(ids.map(PupilId), actions), min_size=1, max_size=ASKED_MAX).map(tuple),
)
ASKED = Pending(
    "roccachiara", "key", "1763.7", GuardianId(11), local("2026-11-24 09:29:55").astimezone(UTC),
    ((PupilId(1), Cancel(day("2026-11-24"))),),
)  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(pendings)
def test_R18_what_was_asked_comes_back_whole_to_the_microsecond(pending: Pending) -> None:
    assert Pending.parse(pending.text()) == pending


@settings(deadline=None, max_examples=50)
@given(pendings)
def test_R18_the_text_has_nothing_that_a_layer_between_would_quote(pending: Pending) -> None:
    assert re.fullmatch(r"[0-9A-Za-z;:,._-]+", pending.text())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1;t;k;s;11;0",
        "2;t;k;s;11;0;1:cancel:2026-11-24",
        "1;;k;s;11;0;1:cancel:2026-11-24",
        "1;t;;s;11;0;1:cancel:2026-11-24",
        "1;t;k;;11;0;1:cancel:2026-11-24",
        "1;t;k;s;;0;1:cancel:2026-11-24",
        "1;t;k;s;eleven;0;1:cancel:2026-11-24",
        "1;t;k;s;11;soon;1:cancel:2026-11-24",
        f"1;t;k;s;11;{10**30};1:cancel:2026-11-24",
        "1;t;k;s;11;0;",
        "1;t;k;s;11;0;1",
        "1;t;k;s;11;0;1:",
        "1;t;k;s;11;0;1:cancel",
        "1;t;k;s;11;0;1:cancel:",
        "1;t;k;s;11;0;1:cancel:2026-02-30",
        "1;t;k;s;11;0;1:cancel:2026-11-24:2026-11-25",
        "1;t;k;s;11;0;1:resume:",
        "1;t;k;s;11;0;1:suspend::2026-11-24",
        "1;t;k;s;11;0;1:suspend:2026-11-24",
        "1;t;k;s;11;0;1:undo",
        "1;t;k;s;11;0;1:undo::one",
        "1;t;k;s;11;0;1:erase:2026-11-24",
        "1;t;k;s;11;0;1:cancel:2026-11-24;more",
        "1;t;k;s;11;0;" + ",".join(f"{number}:cancel:2026-11-24" for number in range(ASKED_MAX + 1)),
    ],
)
def test_R18_a_text_that_nobody_asked_with_is_not_pending(text: str) -> None:
    with pytest.raises(NotPendingError):
        Pending.parse(text)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60) | st.text("0123456789:;,-cancelundo", max_size=60))
def test_R18_whatever_the_text_it_is_pending_or_is_not(text: str) -> None:
    try:
        pending = Pending.parse(text)
    except NotPendingError:
        return
    assert Pending.parse(pending.text()) == pending


def test_R18_the_complaint_shows_no_more_than_the_texts_beginning() -> None:
    with pytest.raises(NotPendingError) as raised:
        Pending.parse("x" * 10_000)

    assert len(str(raised.value)) < 100


def test_R10_the_key_was_pressed_between_the_question_and_the_hangup() -> None:
    hung_up = at("2026-11-24 09:30:05", bound_ms=20)

    decided = ASKED.decided(hung_up)

    assert (decided.earliest, decided.latest) == (ASKED.asked_at, hung_up.latest)


def test_R10_the_doubt_about_a_key_at_the_cutoff_goes_to_the_family() -> None:
    tuesday, hung_up = Cancel(day("2026-11-24")), at("2026-11-24 09:30:05")

    assert isinstance(PaperDesk().phone(tuesday, hung_up), OutsideWindow)
    assert isinstance(PaperDesk().phone(tuesday, ASKED.decided(hung_up)), Cancelled)


def test_R10_a_clock_that_went_back_meanwhile_gives_an_instant_all_the_same() -> None:
    hung_up = at("2026-11-24 09:29:50", bound_ms=20)

    assert ASKED.decided(hung_up) == hung_up


def test_R10_a_doubtful_clock_stays_doubtful() -> None:
    decided = ASKED.decided(at("2026-11-24 09:30:05", bound_ms=2000, synchronised=False))

    assert isinstance(decided, Reading)
    assert not decided.synchronised


@pytest.mark.parametrize(
    ("digits", "today", "keyed"),
    [
        ("2411", "2026-11-24", "2026-11-24"),
        ("2311", "2026-11-24", "2027-11-23"),
        ("0101", "2026-11-24", "2027-01-01"),
        ("3112", "2026-12-31", "2026-12-31"),
        ("2902", "2026-11-24", "2028-02-29"),
        ("2902", "2028-02-29", "2028-02-29"),
        ("2902", "2096-03-01", "2104-02-29"),
        ("3002", "2026-11-24", None),
        ("3104", "2026-11-24", None),
        ("0013", "2026-11-24", None),
        ("0100", "2026-11-24", None),
        ("1301", "2026-11-24", "2027-01-13"),
        ("0113", "2026-11-24", None),
        ("241", "2026-11-24", None),
        ("24112", "2026-11-24", None),
        ("", "2026-11-24", None),
        ("24*1", "2026-11-24", None),
        ("-111", "2026-11-24", None),
    ],
)
def test_R15_a_keyed_date_is_day_and_month_the_first_such_from_today_on(
    digits: str, today: str, keyed: str | None
) -> None:
    assert first_date(digits, day(today)) == (day(keyed) if keyed else None)


@settings(deadline=None, max_examples=50)
@given(st.dates(date(2020, 1, 1), date(2199, 12, 31)), st.integers(0, 9999))
def test_R15_the_first_such_date_is_found_by_looking_at_each(today: date, number: int) -> None:
    digits = f"{number:04}"
    nine_years = (today + timedelta(days=ahead) for ahead in range(9 * 366))

    assert first_date(digits, today) == next((each for each in nine_years if f"{each:%d%m}" == digits), None)
