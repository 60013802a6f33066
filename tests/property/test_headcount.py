"""Counting and closing against oracles that look at every pupil and every day singly (R1, R17, R24, R25, R31, R32)."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.calendar import CutoffOverride, DayException, ServiceCalendar
from core.changes import ChangeId, Kind, NewChange, Presence, fold, standing
from core.clock import Reading, exactly
from core.desk import Action, Bland, Cancel, Resume, Suspend, Undo
from core.headcount import Closing, CountedChange, Headcount, MealCount, Tray, count_meals, digest_of, is_intact
from core.kitchen import closings_of, due_closings, next_cutoff
from core.outcomes import Accepted, NoService, OutsideWindow, TooLate
from core.people import Diet, NewPupil, Period, Pupil, PupilId
from core.ports import Entries
from core.window import Channel
from gateway.store.engine import open_store
from gateway.store.memory import MemoryStore
from gateway.store.port import Town
from ivr.explore import drive
from tests.kitchens import A_MOMENT, TownWithKitchen, enrolled_as
from tests.store_people import EVENING, HASHER, as_new, no_pin, people
from tests.towns import ANNA, BRUNO, CARLA, CLASSES, DARIO, ROME, SCHOOLS, calendar, town

ONE_DAY = timedelta(days=1)
TUESDAY = date(2026, 11, 24)
TRAYS = frozenset({"C", "N"})

# Counting

near = st.integers(-2, 2).map(lambda off: TUESDAY + off * ONE_DAY)
# Some hold on the day, some not; "Z9" is a class group that the calendar does not have.
diets = st.none() | st.builds(
    lambda code, first, days: Diet(code, first, None if days is None else (first or TUESDAY) + days * ONE_DAY),
    st.sampled_from(["C", "N", "V"]),
    st.none() | near,
    st.none() | st.integers(0, 2),
)
groups = st.sampled_from(
    [("primaria", "1A"), ("primaria", "1A"), ("primaria", "3B"), ("primaria", "Z9"), ("infanzia", "Blu")]
)


@dataclass(frozen=True)
class Wanted:
    """A change to be made: `undoes` takes back the pupil's change of that place, where there is one that can be."""

    pupil: int
    kind: Kind
    first: date
    days: int | None
    undoes: int


wanted = st.builds(
    Wanted,
    st.integers(0, 7),
    st.sampled_from([Kind.CANCEL, Kind.BLAND, Kind.SUSPEND, Kind.SUSPEND, Kind.RESUME, Kind.UNDO]),
    near,
    st.none() | st.integers(0, 3),
    st.integers(0, 3),
)


@dataclass(frozen=True)
class Population:
    enrolled: Sequence[NewPupil]
    wanted: Sequence[Wanted]


@st.composite
def populations(draw: st.DrawFn) -> Population:
    rolls = draw(st.lists(st.tuples(groups, diets), min_size=1, max_size=8))
    enrolled = [
        enrolled_as(f"{50001 + number}", class_group, diet, school=school)
        for number, ((school, class_group), diet) in enumerate(rolls)
    ]
    return Population(enrolled, draw(st.lists(wanted, max_size=12)))


async def settle_in(here: Town, population: Population) -> dict[Pupil, tuple[NewChange, ...]]:
    """Put a population into a store; its pupils, each with the standing changes."""
    await here.import_people(people((), *population.enrolled), HASHER, no_pin)
    pupils = await here.all_pupils()
    for number, each in enumerate(population.wanted):
        pupil = pupils[each.pupil % len(pupils)]
        history = (await here.histories([pupil.id]))[pupil.id]
        stand = standing(history)
        values = {"pupil": pupil.id, "receipt": f"{number:04}", "request": f"request-{number}"}
        if each.kind is Kind.UNDO:
            if not stand:
                continue
            back = stand[each.undoes % len(stand)]
            change = replace(as_new(back), kind=Kind.UNDO, takes_back=back.id, **values)  # type: ignore[arg-type]  # by name
        else:
            is_single = each.kind in (Kind.CANCEL, Kind.BLAND)
            is_open = each.kind is Kind.RESUME or each.days is None
            last = each.first if is_single else None if is_open else each.first + (each.days or 0) * ONE_DAY
            change = NewChange(
                kind=each.kind, first=each.first, last=last, channel=Channel.PORTAL, guardian=None, session="s", decided=EVENING,
                **values,  # type: ignore[arg-type]  # by name
            )  # fmt: skip
        await here.transact([pupil.id], lambda _, change=change: (Entries((change,)), None))  # type: ignore[misc]
    histories = await here.histories([each.id for each in pupils])
    return {each: standing(histories[each.id]) for each in pupils}


def code_on(diet: Diet | None, day: date) -> str | None:
    if diet is None or not (diet.first or day) <= day <= (diet.last or day):
        return None
    return diet.code


def one_by_one(pupils: dict[Pupil, tuple[NewChange, ...]], day: date) -> Headcount:
    """The primary school's count, pupil by pupil."""
    serves = calendar().is_served
    meals: Counter[tuple[str, Presence, str | None]] = Counter()
    changes, trays = [], []
    for pupil, stand in sorted(pupils.items(), key=lambda each: each[0].id):
        group = CLASSES.get((pupil.school, pupil.class_group))
        if pupil.school != "primaria" or group is None or not serves(group, day):
            continue
        held, diet = fold(stand, day), code_on(pupil.diet, day)  # type: ignore[arg-type]  # they are stored changes
        if held.change is not None:
            changes.append(CountedChange(pupil.id, held.presence, held.change.id))
        if held.presence in (Presence.PRESENT, Presence.BLAND):
            meals[pupil.class_group, held.presence, diet] += 1
            if diet in TRAYS:
                trays.append(Tray(pupil.id, pupil.class_group, held.presence, diet))
    served = tuple(
        sorted(name for (school, name), group in CLASSES.items() if school == "primaria" and serves(group, day))
    )
    in_order = sorted(meals, key=lambda key: (key[0], key[1] is Presence.BLAND, key[2] or ""))
    counts = tuple(MealCount(*key, meals=meals[key]) for key in in_order)
    return Headcount("primaria", day, served, counts, tuple(changes), tuple(trays))


async def counted(here: Town, day: date) -> Headcount:
    roll = await here.roll("primaria", day, TRAYS)
    return count_meals(calendar(), TRAYS, "primaria", day, roll)


@settings(deadline=None, max_examples=150)
@given(populations(), near)
def test_R1_R32_the_count_is_that_of_every_pupil_one_by_one(population: Population, day: date) -> None:
    here = MemoryStore().at("roccachiara")
    pupils = drive(settle_in(here, population))

    assert drive(counted(here, day)) == one_by_one(pupils, day)


@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(populations(), min_size=5, max_size=10), near)
def test_R1_R32_a_database_counts_every_pupil_as_one_by_one(crowd: list[Population], day: date) -> None:
    async def count_all(folder: Path) -> None:
        store = await open_store(f"sqlite:///{folder}/mensa.db")
        try:
            await store.migrate()
            for number, population in enumerate(crowd):
                here = store.at(f"town-{number}")
                pupils = await settle_in(here, population)
                assert await counted(here, day) == one_by_one(pupils, day)
        finally:
            await store.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(count_all(Path(folder)))


@settings(deadline=None, max_examples=100)
@given(populations(), near)
def test_R25_who_eats_and_who_does_not_are_together_everybody_enrolled_in_a_served_class_group(
    population: Population, day: date
) -> None:
    here = MemoryStore().at("roccachiara")
    pupils = drive(settle_in(here, population))

    found = drive(counted(here, day))

    absent = [each for each in found.changes if each.presence in (Presence.CANCELLED, Presence.SUSPENDED)]
    enrolled = [each for each in pupils if each.school == "primaria" and each.class_group in found.class_groups]
    assert found.meals_of(Presence.PRESENT) + found.meals_of(Presence.BLAND) + len(absent) == len(enrolled)
    assert found.meals == found.meals_of(Presence.PRESENT) + found.meals_of(Presence.BLAND)
    assert all(each.meals > 0 for each in found.counts)


# The digest

kinds = st.sampled_from([Presence.PRESENT, Presence.BLAND])
names = st.sampled_from(["1A", "3B", "1", "A", "", '"', ",1A", "présent"])
ids = st.integers(1, 12)
meals = st.builds(MealCount, names, kinds, st.none() | names, ids)
changes = st.builds(CountedChange, ids.map(PupilId), st.sampled_from(list(Presence)), ids.map(ChangeId))
trays = st.builds(Tray, ids.map(PupilId), names, kinds, names)
headcounts = st.builds(
    Headcount,
    st.sampled_from(["primaria", "infanzia"]),
    near,
    st.lists(names, max_size=2).map(tuple),
    st.lists(meals, max_size=3).map(tuple),
    st.lists(changes, max_size=3).map(tuple),
    st.lists(trays, max_size=2).map(tuple),
)
cutoffs = st.integers(0, 2).map(lambda off: datetime(2026, 11, 24, 9, 30, tzinfo=ROME) + off * A_MOMENT)
towns = st.sampled_from(["roccachiara", "montelago"])
digested = st.tuples(towns, headcounts, ids, cutoffs)


@settings(deadline=None, max_examples=200)
@given(digested, digested, st.data())
def test_R25_the_digest_changes_with_anything_that_was_counted(
    one: tuple[str, Headcount, int, datetime], other: tuple[str, Headcount, int, datetime], data: st.DataObject
) -> None:
    assert (digest_of(*one) == digest_of(*other)) == (one == other)

    # And where they differ in one thing alone.
    name = data.draw(st.sampled_from([each.name for each in fields(Headcount)]))
    altered = replace(one[1], **{name: getattr(other[1], name)})
    assert (digest_of(one[0], altered, *one[2:]) == digest_of(*one)) == (altered == one[1])


# What is due

SPRING, AUTUMN = date(2027, 3, 28), date(2026, 10, 25)
starts = st.sampled_from([AUTUMN - 2 * ONE_DAY, SPRING - 2 * ONE_DAY, TUESDAY, date(2026, 12, 23)])
walls = st.sampled_from(["01:30", "02:00", "02:30", "03:00", "08:00", "09:30", "11:00", "23:59"])


@st.composite
def edits(draw: st.DrawFn, start: date) -> ServiceCalendar:
    """A calendar around `start`, with days opened, closed and given other cutoffs, the nights of the clocks included."""
    days = st.integers(-3, 5).map(lambda off: start + off * ONE_DAY)
    made = draw(
        st.lists(
            st.tuples(days, st.booleans(), st.sampled_from([None, *SCHOOLS])),
            max_size=4,
            unique_by=lambda each: (each[0], each[2]),
        )
    )
    moved = draw(
        st.lists(
            st.tuples(days, walls, st.sampled_from([None, *SCHOOLS])),
            max_size=4,
            unique_by=lambda each: (each[0], each[2]),
        )
    )
    exceptions = [DayException(Period(on, on), opens, school=school) for on, opens, school in made]
    overrides = [CutoffOverride(on, datetime.strptime(at, "%H:%M").time(), school=school) for on, at, school in moved]  # noqa: DTZ007 - a wall clock's
    return calendar(*exceptions, cutoffs=overrides)


@dataclass
class Ticker:
    """What a gateway does, over and over; `closed` is what the store would hold."""

    since: datetime
    closed: dict[tuple[str, date], datetime]

    @property
    def through(self) -> dict[str, date]:
        return {school: max(day for each, day in self.closed if each == school) for school, _ in self.closed}

    def tick(self, told: ServiceCalendar, at: Reading) -> None:
        before = self.through
        order: list[datetime] = []
        for due in due_closings(told, self.since, before, at):
            assert at.is_past(due.cutoff)
            assert self.since < due.cutoff
            order.append(due.cutoff)
            for school in due.schools:
                assert due.cutoff == told.cutoff(school, due.day)
                assert (school, due.day) not in self.closed
                # What an edit opens before the last closed day gets no order.
                assert school not in before or due.day > before[school]
                self.closed[school, due.day] = due.cutoff
        assert order == sorted(order)


@settings(deadline=None, max_examples=60)
@given(st.data(), starts)
def test_R25_every_day_is_due_once_and_never_too_early_whatever_restarts_and_edits_come(
    data: st.DataObject, start: date
) -> None:
    at = datetime(start.year, start.month, start.day, 5, tzinfo=ROME)
    ticker = Ticker(at, {})

    for _ in range(data.draw(st.integers(1, 12))):
        # From a second to days of downtime.
        at += timedelta(seconds=data.draw(st.sampled_from([1, 600, 3600, 6 * 3600, 86_400, 4 * 86_400])))
        bound = timedelta(milliseconds=data.draw(st.sampled_from([0, 50, 2000])))
        ticker.tick(data.draw(edits(start)), exactly(at, bound=bound))


@settings(deadline=None, max_examples=60)
@given(st.data(), starts)
def test_R25_with_one_calendar_every_service_day_is_closed_however_the_ticks_fall(
    data: st.DataObject, start: date
) -> None:
    told = data.draw(edits(start))
    since = at = datetime(start.year, start.month, start.day, 5, tzinfo=ROME)
    ticker = Ticker(since, {})

    while at < since + 6 * ONE_DAY:
        at += timedelta(seconds=data.draw(st.sampled_from([1800, 6 * 3600, 86_400, 3 * 86_400])))
        ticker.tick(told, exactly(at))

    days = [start + off * ONE_DAY for off in range(15)]
    expected = {
        (group.school, day): told.cutoff(group.school, day)
        for group in CLASSES.values()
        for day in days
        if told.is_served(group, day) and since < told.cutoff(group.school, day) < at
    }
    assert ticker.closed == expected


@settings(deadline=None, max_examples=100)
@given(st.data(), starts, st.integers(0, 5 * 86_400))
def test_R25_nothing_becomes_due_before_the_next_cutoff(data: st.DataObject, start: date, seconds: int) -> None:
    told = data.draw(edits(start))
    at = exactly(datetime(start.year, start.month, start.day, tzinfo=ROME) + timedelta(seconds=seconds))

    following = next_cutoff(told, at)

    assert following is not None
    assert not at.is_past(following)
    day_of = told.local(following).date()
    assert following in {due.cutoff for due in closings_of(told, day_of)}
    between = [
        due.cutoff for off in range(8) for due in closings_of(told, told.local(at.earliest).date() + off * ONE_DAY)
    ]
    assert min(cutoff for cutoff in between if not at.is_past(cutoff)) == following


# After the closing

actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Cancel, near),
    st.builds(Bland, near),
    st.builds(Suspend, near, st.none() | near),
    st.builds(Resume, near),
    st.builds(Undo, st.none() | near),
)
pupils = st.sampled_from([ANNA, BRUNO, CARLA, DARIO])
channels = st.sampled_from([Channel.PORTAL, Channel.PHONE, Channel.TELEGRAM, Channel.OFFICE])


def touches(action: Action, day: date) -> bool:
    match action:
        case Cancel(on) | Bland(on):
            return on == day
        case Suspend(first, until):
            return first <= day and (until is None or day <= until)
        case Resume(first):
            return first <= day
        case Undo(on):
            return on == day


@settings(deadline=None, max_examples=80)
@given(st.data(), st.lists(st.tuples(actions, pupils), max_size=6))
def test_R24_after_a_closing_no_request_touches_its_day_whatever_edit_came(
    data: st.DataObject, before: list[tuple[Action, Pupil]]
) -> None:
    house = TownWithKitchen()
    for action, pupil in before:
        house.ask(action, "2026-11-21 12:00", pupil)
    made: dict[str, Closing] = {each.headcount.school: each for each in house.close(TUESDAY)}
    was = {pupil: house.presence(TUESDAY, pupil) for pupil in (ANNA, BRUNO, CARLA, DARIO)}

    for _ in range(data.draw(st.integers(1, 5))):
        house.rules = town(data.draw(edits(TUESDAY)))
        action, pupil, by = data.draw(actions), data.draw(pupils), data.draw(channels)
        # Clocks that are set back, too.
        seconds = data.draw(st.integers(-86_400, 86_400))
        reading = exactly(datetime(2026, 11, 24, 9, 30, tzinfo=ROME) + timedelta(seconds=seconds))
        outcome = house.ask(action, reading, pupil, by)

        counted_classes = made[pupil.school].headcount.class_groups
        if touches(action, TUESDAY):
            expected: tuple[type, ...] = (TooLate,)
            if by is Channel.PHONE:
                expected = (TooLate, OutsideWindow)
            if isinstance(action, (Cancel, Bland, Undo)) and pupil.class_group not in counted_classes:
                expected += (NoService,)
            assert isinstance(outcome, expected), outcome
        if isinstance(outcome, Accepted):
            assert not (outcome.change.covers(TUESDAY) and pupil.class_group in counted_classes)
        undoable = house.view(reading, pupil, by).undoable
        assert undoable is None or not (undoable.covers(TUESDAY) and pupil.class_group in counted_classes)
        assert {each: house.presence(TUESDAY, each) for each in was} == was

    for school, closing in made.items():
        assert drive(house.kitchen.headcount(school, TUESDAY)) == (closing.headcount, closing)
        assert is_intact("roccachiara", closing)
