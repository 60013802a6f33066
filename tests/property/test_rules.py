"""The rules against oracles written from their words alone, over calendars, clocks and histories made up at random."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from core.calendar import (
    ContradictionError,
    CutoffOverride,
    DayException,
    ServiceCalendar,
    closing_instant,
    opening_instant,
)
from core.changes import Change, Kind, Presence, fold, standing
from core.clock import Reading, exactly
from core.desk import Action, Bland, Cancel, Resume, Suspend, Town, Undo
from core.outcomes import Accepted, Undone
from core.people import ClassGroup, Period, Pupil
from core.window import Anytime, Channel, Evening, Open, Shut, judge
from tests.towns import (
    ANNA,
    BRUNO,
    CARLA,
    CLASSES,
    DARIO,
    HOLIDAYS,
    OPENS,
    PATRON,
    ROME,
    SCHOOL_YEAR,
    SCHOOLS,
    PaperDesk,
    calendar,
    town,
)

ONE_DAY = timedelta(days=1)
SPRING, AUTUMN, NEXT_AUTUMN = date(2027, 3, 28), date(2026, 10, 25), date(2027, 10, 31)


def days_from(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += ONE_DAY


# Service days (R2, R3)

groups = st.sampled_from(list(CLASSES.values()))
# Around the start of two school years, the patron's day, Christmas, and the end of both.
edges = (date(2026, 9, 14), date(2026, 11, 11), date(2026, 12, 25), date(2027, 6, 8), date(2027, 6, 30))
dates = st.builds(lambda edge, off: edge + timedelta(days=off), st.sampled_from(edges), st.integers(-20, 20))
scopes = st.sampled_from(
    [(None, None)] + [(school, None) for school in SCHOOLS] + [(group.school, group.name) for group in CLASSES.values()]
)


@st.composite
def exceptions(draw: st.DrawFn) -> DayException:
    first, length = draw(dates), draw(st.integers(0, 10))
    school, class_group = draw(scopes)
    return DayException(Period(first, first + timedelta(days=length)), draw(st.booleans()), "", school, class_group)


def is_served_by_the_words(made: Sequence[DayException], group: ClassGroup, on: date) -> bool:
    """R2, sentence by sentence."""
    said = {exception.scope: exception.opens for exception in made if exception.days.first <= on <= exception.days.last}
    if (group.school, group.name) in said:
        return said[group.school, group.name]
    if (group.school, None) in said:
        return said[group.school, None]
    if (None, None) in said:
        return said[None, None]
    year = SCHOOLS[group.school].service or SCHOOL_YEAR
    lies_in_the_school_year = year.first <= on <= year.last
    return lies_in_the_school_year and on.weekday() in group.weekdays and on not in HOLIDAYS and on != PATRON


@settings(deadline=None, max_examples=100)
@given(st.lists(exceptions(), max_size=6), groups, dates)
def test_R2_a_date_is_a_service_day_by_the_words_of_the_rule(
    made: list[DayException], group: ClassGroup, on: date
) -> None:
    contradict = any(
        one.scope == other.scope
        and one.opens != other.opens
        and one.days.first <= other.days.last
        and other.days.first <= one.days.last
        for one in made
        for other in made
    )

    try:
        told = calendar(*made)
    except ContradictionError:
        assert contradict
        return

    assert not contradict
    for each in days_from(on, on + timedelta(days=14)):
        assert told.is_served(group, each) == is_served_by_the_words(made, group, each)


@settings(deadline=None, max_examples=100)
@given(st.lists(exceptions(), max_size=4), groups, dates)
def test_R3_the_first_useful_day_is_the_earliest_service_day_there_is(
    made: list[DayException], group: ClassGroup, on: date
) -> None:
    try:
        told = calendar(*made)
    except ContradictionError:
        assume(False)

    useful = told.first_useful_day(group, on)

    ahead = days_from(on, date(2027, 9, 1))
    assert useful == next((each for each in ahead if is_served_by_the_words(made, group, each)), None)


# Windows and clocks (R4, R5, R7, R10)


@settings(deadline=None, max_examples=100)
@given(
    st.sampled_from([SPRING, AUTUMN, NEXT_AUTUMN, date(2026, 11, 24)]),
    st.times(),
    st.integers(-4 * 3600 * 10**6, 4 * 3600 * 10**6),
)
@example(SPRING, time(2, 0, 0, 500_000), 0)
def test_R4_a_boundary_is_where_the_wall_clock_reaches_and_passes_its_time(on: date, at: time, off: int) -> None:
    boundary = datetime.combine(on, at)
    instant = closing_instant(on, at, ROME) + timedelta(microseconds=off)
    wall = instant.astimezone(ROME).replace(tzinfo=None, fold=0)

    # Once past the closing the wall clock never shows its time again; up to the opening it has never shown it.
    if instant > closing_instant(on, at, ROME):
        assert wall > boundary
    if instant < opening_instant(on, at, ROME):
        assert wall < boundary
    assert opening_instant(on, at, ROME) <= closing_instant(on, at, ROME)
    # Both show the very time, but where spring skips it: there they are the moment of the change.
    for found in (opening_instant(on, at, ROME), closing_instant(on, at, ROME)):
        shown = found.astimezone(ROME).replace(tzinfo=None, fold=0)
        assert shown == boundary or (on == SPRING and at.hour == 2 and shown == datetime.combine(on, time(3)))


def walls(reading: Reading) -> tuple[datetime, datetime]:
    """What the wall clock shows at both ends."""
    earliest, latest = reading.earliest.astimezone(ROME), reading.latest.astimezone(ROME)
    return earliest.replace(tzinfo=None, fold=0), latest.replace(tzinfo=None, fold=0)


def reached_by_the_words(told: ServiceCalendar, school: str, reading: Reading) -> date | None:
    """The D of R7 by wall clocks, which is right where neither boundary lies in an hour that is skipped or repeated."""
    earliest, latest = walls(reading)
    for on in days_from(earliest.date() - 3 * ONE_DAY, latest.date() + 3 * ONE_DAY):
        opened = datetime.combine(on - ONE_DAY, OPENS) <= latest
        if opened and earliest <= datetime.combine(on, told.cutoff_time(school, on)):
            return on
    return None


around = st.sampled_from([SPRING, AUTUMN, NEXT_AUTUMN, date(2026, 11, 24), date(2026, 11, 28), date(2027, 6, 8)])
boundaries = st.sampled_from([time(0), time(2), time(3), time(8, 30), time(9, 30), time(10), time(18)])
offs_us = st.one_of(
    st.integers(-2, 2), st.integers(-3 * 10**6, 3 * 10**6), st.integers(-12 * 3600 * 10**6, 12 * 3600 * 10**6)
)
bounds_us = st.one_of(st.integers(0, 2), st.integers(0, 2 * 10**6), st.integers(0, 3600 * 10**6))


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    """Instants at, just beside and far from boundaries, often exactly as far from them as their bound."""
    at = closing_instant(draw(around), draw(boundaries), ROME)
    bound = timedelta(microseconds=draw(bounds_us))
    off = draw(st.one_of(offs_us.map(lambda each: timedelta(microseconds=each)), st.sampled_from([bound, -bound])))
    return replace(exactly(at + off, bound=bound), synchronised=draw(st.booleans()))


overrides = st.lists(
    st.builds(
        CutoffOverride,
        around,
        st.sampled_from([time(7), time(8, 30), time(11, 15)]),
        st.just(""),
        st.sampled_from([None, *SCHOOLS]),
    ),
    max_size=3,
    unique_by=lambda each: (each.school, each.day),
)


@settings(deadline=None, max_examples=300)
@given(readings(), overrides, st.sampled_from(list(SCHOOLS)))
def test_R7_the_window_is_open_for_the_date_the_rule_says_and_else_says_when_it_opens(
    reading: Reading, cutoffs: list[CutoffOverride], school: str
) -> None:
    told = calendar(cutoffs=cutoffs)

    judged = judge(Evening(OPENS), told, school, reading)

    expected = reached_by_the_words(told, school, reading)
    match judged:
        case Open(first, _):
            assert first == expected
        case Shut(opens_at):
            assert expected is None
            assert reading.latest < opens_at <= reading.latest + ONE_DAY
            assert opens_at.astimezone(ROME).time() == OPENS
            reopened = judge(Evening(OPENS), told, school, exactly(opens_at))
            assert isinstance(reopened, Open)
            just_before = exactly(opens_at - timedelta(microseconds=1))
            assert isinstance(judge(Evening(OPENS), told, school, just_before), Shut)


@settings(deadline=None, max_examples=100)
@given(readings(), st.integers(0, 10**7))
def test_R10_more_doubt_never_shuts_a_window_that_less_doubt_leaves_open(reading: Reading, more_us: int) -> None:
    wider = replace(
        reading,
        earliest=reading.earliest - timedelta(microseconds=more_us),
        latest=reading.latest + timedelta(microseconds=more_us),
    )

    for window in (Evening(OPENS), Anytime(60)):
        sure, doubtful = (judge(window, calendar(), "primaria", each) for each in (reading, wider))
        if isinstance(sure, Open):
            assert isinstance(doubtful, Open)
            assert doubtful.first <= sure.first


# Requests, their answers, and what they leave (R12 to R22, R30 to R32)

# A weekend and a holiday, Tuesday the 8th, in the middle.
FIRST, LAST = date(2026, 12, 3), date(2026, 12, 14)
near = st.integers(0, (LAST - FIRST).days).map(lambda number: FIRST + timedelta(days=number))
pupils = st.sampled_from([ANNA, ANNA, ANNA, BRUNO, CARLA, DARIO])
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Cancel, near),
    st.builds(Bland, near),
    st.builds(Bland, near),
    st.builds(Bland, near),
    st.builds(Suspend, near, st.none() | near),
    st.builds(Resume, near),
    st.builds(Undo, st.none() | near),
)
# Walked through in steps short and long, so that days close meanwhile.
steps = st.sampled_from([0, 0, 0, 0, 1, 60, 180, 330, 720, 1440])
doubts = st.sampled_from([timedelta(0), timedelta(0), timedelta(milliseconds=50), timedelta(hours=2)])
channels = st.sampled_from([Channel.PORTAL, Channel.PORTAL, Channel.PHONE, Channel.TELEGRAM])
rules = st.sampled_from(
    [
        town(),
        town(bland_days_max=1, look_ahead_days=5),
        town(bland_days_max=0),
        town(calendar(DayException(Period(date(2026, 12, 10), date(2026, 12, 11)), opens=False))),
        town(
            calendar(
                DayException(Period(date(2026, 12, 5), date(2026, 12, 5)), opens=True, school="primaria"),
                cutoffs=[CutoffOverride(date(2026, 12, 4), time(8))],
            )
        ),
    ]
)


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[Town, Action, Channel, Reading]]:
    """Requests one after another, the calendar edited now and then between them."""
    at, edited = opening_instant(date(2026, 12, 2), draw(st.sampled_from([time(9), time(19)])), ROME), draw(rules)
    script = []
    for _ in range(draw(st.integers(1, 14))):
        at += timedelta(minutes=draw(steps))
        if draw(st.integers(0, 4)) == 0:
            edited = draw(rules)
        script.append((edited, draw(actions), draw(channels), exactly(at, bound=draw(doubts))))
    return script


def presence_by_the_words(history: Sequence[Change], on: date) -> Presence:
    """R32, sentence by sentence, for a service day."""
    gone = {change.takes_back for change in history if change.kind is Kind.UNDO}
    stand = [change for change in history if change.kind is not Kind.UNDO and change.id not in gone]
    over = [change for change in stand if change.first <= on and (change.last is None or on <= change.last)]
    numbered = list(enumerate(over))
    suspensions = [number for number, change in numbered if change.kind is Kind.SUSPEND]
    resumptions = [number for number, change in numbered if change.kind is Kind.RESUME]
    if suspensions and (not resumptions or max(suspensions) > max(resumptions)):
        return Presence.SUSPENDED
    kinds = {change.kind for change in over}
    if Kind.CANCEL in kinds:
        return Presence.CANCELLED
    return Presence.BLAND if Kind.BLAND in kinds else Presence.PRESENT


class ByTheWords:
    """What R31 and the rules it names answer, by wall clocks and without any of the desk's own functions."""

    def __init__(self, desk: PaperDesk, by: Channel, reading: Reading) -> None:
        self.town, self.history, self.by = desk.town, desk.history, by
        self.pupil: Pupil = desk.pupil
        self.group = CLASSES[desk.pupil.school, desk.pupil.class_group]
        self.now = walls(reading)[0]
        self.reading = reading

    def served(self, on: date) -> bool:
        return is_served_by_the_words(self.town.calendar.exceptions, self.group, on)

    def closed(self, on: date) -> bool:
        return self.now > datetime.combine(on, self.town.calendar.cutoff_time(self.pupil.school, on))

    def presence(self, on: date) -> Presence:
        return presence_by_the_words(self.history, on)

    def service_days(self, first: date, last: date | None) -> list[date]:
        return [each for each in days_from(first, last or date(2027, 7, 1)) if self.served(each)]

    def word(self, action: Action) -> str:
        reached = reached_by_the_words(self.town.calendar, self.pupil.school, self.reading)
        if self.by is Channel.PHONE and reached is None:
            return "outside_window"
        match action:
            case Cancel(on) | Bland(on):
                return self.of_day(action, on, reached)
            case Suspend(first, until):
                return self.of_range(first, until, reached) or (
                    "already_suspended"
                    if {self.presence(each) for each in self.service_days(first, until)} == {Presence.SUSPENDED}
                    else "suspended"
                )
            case Resume(first):
                return self.of_range(first, None, None) or (
                    "resumed"
                    if Presence.SUSPENDED in {self.presence(each) for each in self.service_days(first, None)}
                    else "not_suspended"
                )
            case Undo(on):
                refused = self.of_date(on) if on is not None else None
                return refused or ("undone" if self.undoable(on) else "nothing_to_undo")

    def of_date(self, on: date) -> str | None:
        if self.closed(on):
            return "too_late" if self.served(on) else "no_service"
        return None if self.served(on) else "no_service"

    def of_day(self, action: Cancel | Bland, on: date, reached: date | None) -> str:
        refused = self.of_date(on)
        if refused is not None:
            return refused
        if on > self.furthest(reached):
            return "too_far"
        presence, cancels = self.presence(on), isinstance(action, Cancel)
        if presence is Presence.SUSPENDED:
            return "suspended_day"
        if presence is Presence.CANCELLED:
            return "already_cancelled" if cancels else "cancelled_day"
        if cancels:
            return "cancelled"
        if presence is Presence.BLAND:
            return "already_bland"
        limit = self.town.bland_days_max
        return "bland_limit" if limit and self.run_with(on) > limit else "bland"

    def furthest(self, reached: date | None) -> date:
        if self.by is Channel.PHONE:
            assert reached is not None
            return self.service_days(reached, None)[0]
        window = self.town.windows[self.by]
        assert isinstance(window, Anytime)
        return walls(self.reading)[1].date() + timedelta(days=window.look_ahead_days)

    def run_with(self, on: date) -> int:
        """The longest row of bland service days around `on`, if it were one."""
        row = self.service_days(date(2026, 9, 14), None)
        is_bland = [each == on or self.presence(each) is Presence.BLAND for each in row]
        start = end = row.index(on)
        while start > 0 and is_bland[start - 1]:
            start -= 1
        while end + 1 < len(row) and is_bland[end + 1]:
            end += 1
        return end - start + 1

    def of_range(self, first: date, last: date | None, reached: date | None) -> str | None:
        if self.closed(first):
            return "too_late"
        days = self.service_days(first, last)
        if not days:
            return "no_service"
        # By phone a suspension starts with the first useful day (R14).
        if self.by is Channel.PHONE and reached is not None and days[0] > self.service_days(reached, None)[0]:
            return "too_far"
        return None

    def undoable(self, on: date | None) -> Change | None:
        """R16: the latest that stands, has service days, and none of them closed."""
        gone = {change.takes_back for change in self.history if change.kind is Kind.UNDO}
        for change in reversed(self.history):
            if change.kind is Kind.UNDO or change.id in gone:
                continue
            days = self.service_days(change.first, change.last)
            covers = on is None or (change.first <= on and (change.last is None or on <= change.last))
            if covers and days and not any(self.closed(each) for each in days):
                return change
        return None


def all_presences(desk: PaperDesk) -> dict[date, Presence]:
    return desk.presences(days_from(FIRST - ONE_DAY, LAST + 14 * ONE_DAY))


@settings(deadline=None, max_examples=150)
@given(scripts(), pupils)
def test_R31_every_request_is_answered_by_the_words_of_the_rules(
    script: list[tuple[Town, Action, Channel, Reading]], pupil: Pupil
) -> None:
    desk = PaperDesk(pupil=pupil)

    for edited, action, by, reading in script:
        desk.town = edited
        oracle = ByTheWords(desk, by, reading)
        expected, taken_back = oracle.word(action), oracle.undoable(action.day if isinstance(action, Undo) else None)
        outcome = desk.ask(action, reading, by=by)

        assert outcome.word == expected
        if isinstance(outcome, Undone):
            assert outcome.taken_back == taken_back


@settings(deadline=None, max_examples=100)
@given(
    st.permutations([FIRST + timedelta(days=number) for number in range(12)]),
    st.sets(near, max_size=2),
    st.sets(near, max_size=2),
    st.integers(0, 4),
    st.sampled_from([ANNA, BRUNO]),
)
def test_R30_bland_days_are_taken_up_to_the_limit_in_a_row_in_whatever_order_they_are_asked_for(
    order: list[date], cancelled: set[date], shut: set[date], limit: int, pupil: Pupil
) -> None:
    edited = calendar(*(DayException(Period(on, on), opens=False) for on in shut))
    desk = PaperDesk(town(edited, bland_days_max=limit), pupil)
    reading = exactly(opening_instant(date(2026, 12, 1), time(12), ROME))

    for on in order:
        action: Action = Cancel(on) if on in cancelled else Bland(on)
        expected = ByTheWords(desk, Channel.PORTAL, reading).word(action)
        assert desk.ask(action, reading).word == expected

    row = "".join(
        "b" if each is Presence.BLAND else "." for each in all_presences(desk).values() if each != "no_service"
    )
    assert not limit or "b" * (limit + 1) not in row


@settings(deadline=None, max_examples=100)
@given(scripts(), pupils)
def test_R32_every_presence_is_what_the_words_of_the_fold_say(
    script: list[tuple[Town, Action, Channel, Reading]], pupil: Pupil
) -> None:
    desk = PaperDesk(pupil=pupil)

    for desk.town, action, by, reading in script:
        desk.ask(action, reading, by=by)

    for on in days_from(FIRST, LAST):
        assert fold(standing(desk.history), on).presence is presence_by_the_words(desk.history, on)


@settings(deadline=None, max_examples=100)
@given(scripts(), pupils)
def test_R17_no_request_alters_the_presence_of_a_day_that_is_closed(
    script: list[tuple[Town, Action, Channel, Reading]], pupil: Pupil
) -> None:
    desk = PaperDesk(pupil=pupil)

    for desk.town, action, by, reading in script:
        before = all_presences(desk)
        desk.ask(action, reading, by=by)
        after = all_presences(desk)

        told = desk.town.calendar
        altered = [on for on in before if before[on] is not after[on]]
        assert all(reading.earliest <= told.cutoff(pupil.school, on) for on in altered)


@settings(deadline=None, max_examples=100)
@given(scripts(), pupils)
def test_R12_R15_an_accepted_request_does_what_it_says_and_any_other_changes_nothing(
    script: list[tuple[Town, Action, Channel, Reading]], pupil: Pupil
) -> None:
    desk = PaperDesk(pupil=pupil)

    for desk.town, action, by, reading in script:
        history = list(desk.history)
        before = all_presences(desk)
        outcome = desk.ask(action, reading, by=by)
        after = all_presences(desk)

        if not isinstance(outcome, Accepted):
            assert desk.history == history
            continue
        assert desk.history[:-1] == history
        match action:
            case Cancel(on):
                assert after == {**before, on: Presence.CANCELLED}
            case Bland(on):
                assert after == {**before, on: Presence.BLAND}
            case Suspend(first, until):
                suspended = [on for on in before if first <= on and (until is None or on <= until)]
                served = [on for on in suspended if before[on] is not Presence.NO_SERVICE]
                assert after == {**before, **dict.fromkeys(served, Presence.SUSPENDED)}
            case Resume(first):
                assert all(after[on] is before[on] for on in before if on < first)
                assert all(after[on] is not Presence.SUSPENDED for on in before if on >= first)
            case Undo():
                assert desk.history[-1].takes_back in {change.id for change in history}


@settings(deadline=None, max_examples=100)
@given(scripts(), pupils)
def test_R16_an_undo_at_once_restores_exactly_what_was_before(
    script: list[tuple[Town, Action, Channel, Reading]], pupil: Pupil
) -> None:
    desk = PaperDesk(pupil=pupil)

    for desk.town, action, by, reading in script:
        before = all_presences(desk)
        stood = standing(desk.history)
        outcome = desk.ask(action, reading, by=by)
        if not isinstance(outcome, Accepted) or isinstance(outcome, Undone):
            continue
        kept = list(desk.history)
        undone = desk.ask(Undo(), reading, by=by)

        assert isinstance(undone, Undone)
        assert undone.taken_back == kept[-1]
        assert all_presences(desk) == before
        assert standing(desk.history) == stood
        desk.history = kept


@settings(deadline=None, max_examples=100)
@given(scripts(), pupils, near)
def test_R32_suspending_and_resuming_at_once_brings_back_what_lay_under(
    script: list[tuple[Town, Action, Channel, Reading]], pupil: Pupil, first: date
) -> None:
    desk = PaperDesk(pupil=pupil)
    for desk.town, action, by, reading in script:
        desk.ask(action, reading, by=by)
    reading = script[-1][3]
    before = all_presences(desk)
    unsuspended = [each for each in standing(desk.history) if each.kind in (Kind.CANCEL, Kind.BLAND)]

    suspended = desk.ask(Suspend(first), reading)
    resumed = desk.ask(Resume(first), reading)

    assume(isinstance(suspended, Accepted) or suspended.word == "already_suspended")
    assert resumed.word == "resumed"
    for on, presence in all_presences(desk).items():
        if on < first or before[on] is Presence.NO_SERVICE:
            assert presence is before[on]
        else:
            assert presence is fold(unsuspended, on).presence


@settings(deadline=None, max_examples=100)
@given(scripts(), pupils)
def test_R20_every_request_sent_twice_is_taken_once(
    script: list[tuple[Town, Action, Channel, Reading]], pupil: Pupil
) -> None:
    desk = PaperDesk(pupil=pupil)
    taken: dict[str, tuple[Action, str, str]] = {}

    for number, (edited, action, by, reading) in enumerate(script):
        desk.town = edited
        key = f"key-{number}"
        outcome = desk.ask(action, reading, by=by, key=key)
        if isinstance(outcome, Accepted):
            taken[key] = action, outcome.word, outcome.change.receipt
    history = list(desk.history)

    for key, (action, word, receipt) in taken.items():
        again = desk.ask(action, script[-1][3], key=key)
        assert isinstance(again, Accepted)
        assert (again.word, again.change.receipt) == (word, receipt)
    assert desk.history == history


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=8), unique=True, min_size=1, max_size=200))
def test_R19_receipts_are_unique_among_a_pupils_changes_and_four_digits_or_more(keys: list[str]) -> None:
    desk = PaperDesk()
    when = exactly(opening_instant(date(2026, 11, 22), time(9), ROME))

    for key in keys:
        desk.ask(Undo() if len(standing(desk.history)) else Cancel(date(2026, 11, 24)), when, key=key)

    receipts = [change.receipt for change in desk.history]
    assert len(receipts) == len(keys) == len(set(receipts))
    assert all(len(receipt) >= 4 and receipt.isdecimal() for receipt in receipts)


@settings(deadline=None, max_examples=100)
@given(scripts(), pupils)
def test_R10_both_ends_of_a_doubtful_clock_answer_no_better_than_its_doubt(
    script: list[tuple[Town, Action, Channel, Reading]], pupil: Pupil
) -> None:
    desk = PaperDesk(pupil=pupil)

    for desk.town, action, by, reading in script:
        bound = timedelta(hours=1)
        doubtful = replace(reading, earliest=reading.earliest - bound, latest=reading.latest + bound)
        if isinstance(action, Cancel):
            sure = [_tried(desk, action, by, exactly(end)) for end in (doubtful.earliest, doubtful.latest)]
            if by is not Channel.PHONE and any(sure):
                assert _tried(desk, action, by, doubtful)
        desk.ask(action, reading, by=by)


def _tried(desk: PaperDesk, action: Action, by: Channel, reading: Reading) -> bool:
    """Whether the request would be accepted; the desk stays as it is."""
    return isinstance(PaperDesk(desk.town, desk.pupil, list(desk.history)).ask(action, reading, by=by), Accepted)
