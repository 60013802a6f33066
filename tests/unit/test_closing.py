"""The ticker that closes days: the clock is moved by hand, and sleeping moves it too."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TypeVar

from core.access import Actor
from core.desk import Cancel, Request, Undecided
from core.desk import Town as Rules
from core.headcount import Closing
from core.outcomes import Cancelled
from core.ports import Closings, ClosingState, MessageKind
from core.window import Channel
from gateway.clock import FixedClock
from gateway.closing import LOOK_AGAIN, SLEEP_MOST_S, DayCloser
from gateway.metrics import Metrics
from gateway.municipality import Municipality
from gateway.nodes import GONE, WAIT_MOST_S, Nodes
from gateway.store.memory import MemoryStore, MemoryTown
from gateway.store.port import Node, StoreFaultError
from gateway.telephone import TownDesks, open_desks
from tests.store_people import HASHER, people
from tests.towns import calendar, cutoff, local, town

TOWN = "roccachiara"
TUESDAY = date(2026, 11, 24)
# Primaria 09:30, infanzia 08:45, secondaria 10:00; all three are served on a Tuesday.
CUTOFF = local("2026-11-24 09:30")
A_MOMENT = timedelta(microseconds=1)
Answer = TypeVar("Answer")


def municipality(
    key: str = TOWN, rules: Rules | None = None, bound_max: timedelta = timedelta(seconds=2)
) -> Municipality:
    return Municipality(key, key.title(), ("it",), (), 5, 4, bound_max, rules or town())


@dataclass(slots=True)
class Events:
    """What was logged: each event with its fields."""

    told: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def info(self, event: str, /, **fields: object) -> None:
        self.told.append((event, fields))

    warning = error = info

    def of(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.told if name == event]


@dataclass(slots=True)
class Ticking:
    """One gateway as far as its closings go; `on_sleep` is called for each sleep, after the clock has moved."""

    store: MemoryStore
    clock: FixedClock
    towns: dict[str, Municipality]
    name: str = "first"
    on_sleep: Callable[[float], None] = lambda _: None
    undecided: Undecided = field(default_factory=Undecided)
    events: Events = field(default_factory=Events)
    metrics: Metrics = field(default_factory=Metrics)
    nodes: Nodes = field(init=False)
    closer: DayCloser = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = Nodes(
            self.name, self.store, self.undecided, self.clock.read, lambda: ("hash", 1), self.events, self.sleep
        )
        self.closer = DayCloser(
            self.store,
            self.nodes,
            towns=lambda: list(self.towns),
            desks_of=self.desks,
            clock_of=lambda _: self.clock,
            now=self.now,
            log=self.events,
            metrics=self.metrics,
            sleep=self.sleep,
        )

    def now(self) -> datetime:
        return self.clock.read().midpoint

    def desks(self, key: str = TOWN) -> TownDesks:
        return open_desks(lambda: self.towns[key], self.store, HASHER, self.undecided)

    async def sleep(self, seconds: float) -> None:
        self.clock.set(self.now() + timedelta(seconds=seconds))
        self.on_sleep(seconds)
        await asyncio.sleep(0)

    async def close_at(self, instant: datetime) -> float:
        self.clock.set(instant)
        return await self.closer.close_due()

    def closed(self) -> list[tuple[object, object]]:
        """What this gateway has closed, in order: the day and the school."""
        return [(fields["day"], fields["school"]) for fields in self.events.of("day_closed")]

    async def closing(self, school: str = "primaria", day: date = TUESDAY, key: str = TOWN) -> Closing | None:
        return await self.store.at(key).closing(school, day)


async def ticking(store: MemoryStore | None = None, towns: Sequence[str] = (TOWN,)) -> Ticking:
    """A gateway that has served its towns since Monday evening; each has two pupils in 1A of the primary school."""
    gateway = Ticking(
        store or MemoryStore(), FixedClock(local("2026-11-23 18:30")), {key: municipality(key) for key in towns}
    )
    for key in towns:
        await gateway.store.at(key).import_people(people(), HASHER, lambda: "0000")
    await gateway.closer.close_due()
    return gateway


def cancel_tuesday(gateway: Ticking) -> Callable[[], object]:
    """Cancel the first pupil's Tuesday with a key that was pressed now; it is stored when what this returns is called."""
    desks, at = gateway.desks(), gateway.clock.read()
    hold = desks.booking.deciding(at)
    hold.__enter__()

    async def store_it() -> None:
        pupil, _ = await desks.store.all_pupils()
        actor = Actor(Channel.PHONE, "call", None, frozenset({pupil.id}))
        [outcome] = await desks.booking.act(actor, [Request(pupil, Cancel(TUESDAY), "key")], at)
        assert isinstance(outcome, Cancelled)
        hold.__exit__(None, None, None)

    return lambda: asyncio.ensure_future(store_it())


async def test_R25_at_the_cutoff_itself_nothing_is_closed_and_a_moment_later_the_day_is() -> None:
    gateway = await ticking()

    await gateway.close_at(CUTOFF)
    before = await gateway.closing()
    await gateway.close_at(CUTOFF + timedelta(seconds=1))
    after = await gateway.closing()

    assert before is None
    assert after is not None
    assert (after.headcount.meals, after.cutoff, after.closed) == (2, CUTOFF, gateway.clock.read())


async def test_R25_a_doubtful_clock_closes_when_the_cutoff_has_surely_passed() -> None:
    gateway = await ticking()
    doubt = timedelta(seconds=2)

    gateway.clock.set(CUTOFF + doubt, doubt)
    pause_s = await gateway.closer.close_due()
    before = await gateway.closing()
    gateway.clock.set(CUTOFF + doubt + timedelta(seconds=pause_s), doubt)
    await gateway.closer.close_due()

    assert before is None
    assert pause_s < 0.01
    assert await gateway.closing() is not None


async def test_R25_a_change_decided_in_time_and_stored_after_the_cutoff_is_counted() -> None:
    gateway = await ticking()
    gateway.clock.set(CUTOFF)
    store_it = cancel_tuesday(gateway)
    slept: list[Closing | None] = []

    def on_sleep(_: float) -> None:
        slept.append(gateway.store._towns[TOWN].closings.get(("primaria", TUESDAY)))
        if len(slept) == 5:
            store_it()

    gateway.on_sleep = on_sleep
    await gateway.close_at(CUTOFF + A_MOMENT * 2_000)

    closing = await gateway.closing()
    assert slept[:5] == [None] * 5
    assert closing is not None
    assert closing.headcount.meals == 1
    assert len(closing.headcount.changes) == 1


async def test_R25_what_never_settles_costs_no_kitchen_its_order() -> None:
    gateway = await ticking()
    gateway.clock.set(CUTOFF)
    with gateway.undecided.holding(gateway.clock.read()):
        await gateway.close_at(CUTOFF + timedelta(seconds=1))

    [told] = gateway.events.of("closing_without")
    assert told["nodes"] == ["first"]
    assert gateway.now() - CUTOFF >= timedelta(seconds=WAIT_MOST_S)
    assert await gateway.closing() is not None


async def test_R25_a_gateway_with_something_undecided_is_waited_for_by_the_others() -> None:
    gateway = await ticking()
    other = Ticking(gateway.store, gateway.clock, gateway.towns, "second")
    gateway.clock.set(CUTOFF)
    store_it = cancel_tuesday(other)
    beats: list[object] = []

    def on_sleep(_: float) -> None:
        beats.append(asyncio.ensure_future(other.nodes.beat()))
        if len(beats) == 30:
            store_it()

    gateway.on_sleep = on_sleep
    await other.nodes.beat()
    await gateway.close_at(CUTOFF + timedelta(seconds=1))

    closing = await gateway.closing()
    assert closing is not None
    assert closing.headcount.meals == 1
    assert closing.closed.midpoint - CUTOFF > timedelta(seconds=20)


async def test_R25_a_gateway_that_has_died_is_waited_for_until_it_counts_as_dead() -> None:
    gateway = await ticking()
    died = CUTOFF - timedelta(seconds=10)
    await gateway.store.beat(Node("second", died, died, "hash", 1))

    await gateway.close_at(CUTOFF + timedelta(seconds=1))

    closing = await gateway.closing()
    assert closing is not None
    assert GONE <= closing.closed.midpoint - died <= GONE + timedelta(seconds=2)


async def test_R25_a_gateway_that_left_is_not_waited_for() -> None:
    gateway = await ticking()
    other = Ticking(gateway.store, gateway.clock, gateway.towns, "second")
    gateway.clock.set(CUTOFF - timedelta(seconds=10))
    await other.nodes.beat()
    await other.nodes.leave()
    # A beat that was on its way when it left does not bring it back.
    await other.nodes.beat()
    slept: list[float] = []
    gateway.on_sleep = slept.append

    await gateway.close_at(CUTOFF + timedelta(seconds=1))

    assert await gateway.closing() is not None
    assert slept == []


async def test_R25_two_gateways_at_once_close_each_day_once_and_order_once() -> None:
    keys = [f"borgo-{number}" for number in range(20)]
    first = await ticking(towns=keys)
    second = Ticking(first.store, first.clock, first.towns, "second")
    await second.closer.close_due()

    first.clock.set(local("2026-11-24 12:00"))
    await asyncio.gather(first.closer.close_due(), second.closer.close_due())

    told = [(fields["town"], fields["school"]) for each in (first, second) for fields in each.events.of("day_closed")]
    orders = [message for message in await first.store.messages() if message.kind is MessageKind.ORDER]
    assert sorted(told) == sorted((key, school) for key in keys for school in ("primaria", "infanzia", "secondaria"))
    # The infants and the secondary school have no pupils here: the primary school alone orders.
    assert sorted(message.town for message in orders) == sorted(keys)


async def test_two_gateways_begin_with_different_towns() -> None:
    keys = [f"borgo-{number}" for number in range(20)]
    began: list[set[object]] = []
    for name, other in (("first", "second"), ("second", "first")):
        before = await ticking(towns=keys)
        gateway = Ticking(before.store, before.clock, before.towns, name)
        gateway.clock.set(CUTOFF + timedelta(seconds=1))
        await Ticking(gateway.store, gateway.clock, gateway.towns, other).nodes.beat()
        await gateway.closer.close_due()
        began.append({fields["town"] for fields in gateway.events.of("day_closed")[:10]})

    assert not began[0] & began[1]


async def test_R5_a_cutoff_that_an_edit_moves_is_the_one_that_closes() -> None:
    gateway = await ticking()
    later = calendar(cutoffs=[cutoff("2026-11-24", "11:00", school="primaria")])

    gateway.towns[TOWN] = municipality(rules=town(later))
    gateway.closer.edited(TOWN)
    await gateway.close_at(local("2026-11-24 10:59:59"))
    before = gateway.closed()
    await gateway.close_at(local("2026-11-24 11:00:01"))

    assert before == [("2026-11-24", "infanzia"), ("2026-11-24", "secondaria")]
    assert gateway.closed()[2:] == [("2026-11-24", "primaria")]


async def test_an_edit_that_moves_a_cutoff_into_the_past_closes_the_day_at_once() -> None:
    gateway = await ticking()
    await gateway.close_at(local("2026-11-24 09:00"))
    earlier = calendar(cutoffs=[cutoff("2026-11-24", "08:30", school="primaria")])

    gateway.towns[TOWN] = municipality(rules=town(earlier))
    gateway.closer.edited(TOWN)
    await gateway.closer.close_due()

    assert gateway.closed() == [("2026-11-24", "infanzia"), ("2026-11-24", "primaria")]


async def test_an_edit_that_comes_while_a_closing_waits_is_not_forgotten() -> None:
    gateway = await ticking()
    earlier = calendar(cutoffs=[cutoff("2026-11-24", "08:30", school="primaria")])
    died = local("2026-11-24 08:44:50")
    await gateway.store.beat(Node("second", died, died, "hash", 1))

    def on_sleep(_: float) -> None:
        gateway.towns[TOWN] = municipality(rules=town(earlier))
        gateway.closer.edited(TOWN)

    gateway.on_sleep = on_sleep
    await gateway.close_at(local("2026-11-24 08:45:01"))
    gateway.on_sleep = lambda _: None
    await gateway.closer.close_due()

    assert sorted(gateway.closed()) == [("2026-11-24", "infanzia"), ("2026-11-24", "primaria")]


async def test_R25_after_three_days_of_downtime_what_was_missed_is_closed_oldest_first() -> None:
    before = await ticking()
    gateway = Ticking(before.store, before.clock, before.towns)

    await gateway.close_at(local("2026-11-26 20:00"))

    days = [day for day, school in gateway.closed() if school == "primaria"]
    closings = [await gateway.closing(day=TUESDAY + timedelta(days=number)) for number in range(3)]
    assert days == ["2026-11-24", "2026-11-25", "2026-11-26"]
    assert [closing.cutoff for closing in closings if closing] == [
        CUTOFF + timedelta(days=number) for number in range(3)
    ]
    orders = [closing.order for closing in closings if closing]
    assert orders == sorted(set(orders))


async def test_a_town_that_is_new_is_closed_from_then_on() -> None:
    gateway = await ticking()
    gateway.towns["borgo"] = municipality("borgo")

    await gateway.close_at(local("2026-11-24 09:00"))
    await gateway.close_at(local("2026-11-24 09:31"))

    assert [(fields["town"], fields["school"]) for fields in gateway.events.of("day_closed")] == [
        (TOWN, "infanzia"),
        *sorted([("borgo", "primaria"), (TOWN, "primaria")]),
    ]


async def test_a_town_that_is_gone_keeps_nobody_from_being_closed() -> None:
    gateway = await ticking(towns=(TOWN, "borgo"))
    there = gateway.desks

    gateway.closer._desks_of = lambda key: None if key == "borgo" else there(key)
    await gateway.close_at(local("2026-11-24 09:31"))

    assert {fields["town"] for fields in gateway.events.of("day_closed")} == {TOWN}


class FailingTown(MemoryTown):
    """A town whose closings fail while `is_down`."""

    is_down = True

    async def transact_closing(
        self,
        day: date,
        schools: Sequence[str],
        tray_diets: Collection[str],
        decide: Callable[[ClosingState], tuple[Closings, Answer]],
    ) -> Answer:
        if FailingTown.is_down:
            raise StoreFaultError("memory: this town's rows cannot be written; nothing of the request was kept")
        return await super().transact_closing(day, schools, tray_diets, decide)


class FailingStore(MemoryStore):
    def at(self, municipality: str) -> MemoryTown:
        town = super().at(municipality)
        if municipality != "borgo":
            return town
        return FailingTown(self, municipality, self._towns[municipality])


async def test_a_fault_of_the_store_for_one_town_holds_up_no_other_and_is_tried_again() -> None:
    FailingTown.is_down = True
    gateway = await ticking(FailingStore(), towns=("borgo", TOWN))

    pause_s = await gateway.close_at(local("2026-11-24 09:31"))
    meanwhile = {fields["town"] for fields in gateway.events.of("day_closed")}
    FailingTown.is_down = False
    await gateway.close_at(gateway.now() + timedelta(seconds=pause_s))

    [told] = gateway.events.of("closings_failed")
    assert meanwhile == {TOWN}
    assert (told["town"], told["towns"]) == ("borgo", 1)
    assert 0 < pause_s <= 1
    assert await gateway.closing(key="borgo") is not None
    assert "mensa_closings_failing 0.0" in gateway.metrics.text().decode()


async def test_what_goes_on_failing_is_tried_ever_more_slowly() -> None:
    FailingTown.is_down = True
    gateway = await ticking(FailingStore(), towns=("borgo",))
    gateway.clock.set(local("2026-11-24 08:46"))

    pauses = []
    for _ in range(10):
        pauses.append(await gateway.closer.close_due())
        again_in_s = gateway.events.of("closings_failed")[-1]["again_in_s"]
        assert isinstance(again_in_s, float)
        gateway.clock.set(gateway.now() + timedelta(seconds=again_in_s))

    assert pauses[:4] == [1, 2, 4, 8]
    assert gateway.events.of("closings_failed")[-1]["again_in_s"] == 60


class UnreachableStore(MemoryStore):
    """A store that cannot be reached while `is_down`."""

    is_down = False

    async def settle(self) -> None:
        if self.is_down:
            raise StoreFaultError("memory: the store cannot be reached; nothing was kept")


async def test_a_store_that_cannot_be_reached_stops_the_ticker_for_no_longer_than_it_lasts() -> None:
    store = UnreachableStore()
    gateway = await ticking(store)
    gateway.clock.set(CUTOFF + timedelta(seconds=1))
    store.is_down = True

    def on_sleep(_: float) -> None:
        if len(gateway.events.of("closings_wait")) == 3:
            store.is_down = False
        if gateway.closed():
            gateway.closer.stop()

    gateway.on_sleep = on_sleep
    await gateway.closer.run()

    assert [each["again_in_s"] for each in gateway.events.of("closings_wait")] == [1, 2, 4]
    assert ("2026-11-24", "primaria") in gateway.closed()


async def test_the_ticker_sleeps_until_the_next_cutoff_and_never_long() -> None:
    gateway = await ticking()

    in_the_evening = await gateway.close_at(local("2026-11-23 19:00"))
    before_the_cutoff = await gateway.close_at(CUTOFF - timedelta(seconds=3))

    assert in_the_evening == SLEEP_MOST_S
    assert 3 <= before_the_cutoff <= 3.01


async def test_an_edit_that_nobody_told_of_is_found_within_an_hour() -> None:
    gateway = await ticking()
    await gateway.close_at(local("2026-11-24 07:00"))

    gateway.towns[TOWN] = municipality(rules=town(calendar(cutoffs=[cutoff("2026-11-24", "07:30")])))
    await gateway.close_at(local("2026-11-24 07:00") + LOOK_AGAIN)

    assert len(gateway.closed()) == 3


async def test_a_ticker_that_stops_finishes_the_closing_under_way_and_begins_no_other() -> None:
    gateway = await ticking(towns=[f"borgo-{number}" for number in range(20)])
    gateway.clock.set(local("2026-11-24 08:46"))
    begun = gateway.desks
    asked: list[str] = []

    def desks_of(key: str) -> TownDesks:
        asked.append(key)
        if len(asked) > 20 + 5:
            gateway.closer.stop()
        return begun(key)

    gateway.closer._desks_of = desks_of
    await gateway.closer.run()

    assert 0 < len(gateway.closed()) < 20
    for fields in gateway.events.of("day_closed"):
        assert await gateway.closing("infanzia", key=str(fields["town"])) is not None


async def test_what_is_told_of_a_closing_names_no_person() -> None:
    gateway = await ticking()

    await gateway.close_at(CUTOFF + timedelta(seconds=1, milliseconds=500))

    assert gateway.events.of("day_closed")[-1] == {
        "town": TOWN,
        "school": "primaria",
        "day": "2026-11-24",
        "order": 2,
        "meals": 2,
        "late_s": 1.5,
    }
    figures = gateway.metrics.text().decode()
    assert "mensa_closings_total 2.0" in figures
    assert "mensa_meals_total 2.0" in figures
    assert "mensa_closing_delay_seconds_count 2.0" in figures
