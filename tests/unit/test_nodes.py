"""The gateways on one database, as each sees the others; the clock is moved by hand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core.desk import Undecided
from gateway.clock import FixedClock
from gateway.nodes import BEAT_S, EDIT_SPREADS, FORGOTTEN, GONE, Nodes
from gateway.store.memory import MemoryStore
from tests.towns import local

BEGAN = local("2026-11-24 08:00")


class StopError(Exception):
    """The test has seen enough."""


@dataclass(slots=True)
class Gateways:
    """Gateways on one store, with one clock; `runs` is the hash that each goes by."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: FixedClock = field(default_factory=lambda: FixedClock(BEGAN))
    runs: dict[str, str] = field(default_factory=dict)
    told: list[tuple[str, Mapping[str, object]]] = field(default_factory=list)

    def start(self, name: str, runs: str = "a" * 64) -> Nodes:
        self.runs[name] = runs
        return Nodes(
            name, self.store, Undecided(), self.clock.read, lambda: (self.runs[name], 3), self, sleep=self.sleep
        )

    def info(self, event: str, /, **fields: object) -> None:
        self.told.append((event, fields))

    warning = info

    def later(self, by: timedelta) -> datetime:
        self.clock.set(self.clock.read().midpoint + by)
        return self.clock.read().midpoint

    async def sleep(self, seconds: float) -> None:
        self.later(timedelta(seconds=seconds))
        if self.clock.read().midpoint - BEGAN > FORGOTTEN + 2 * GONE:
            raise StopError


async def test_health_shows_every_gateway_its_files_and_when_it_was_seen() -> None:
    them = Gateways()
    first, second = them.start("first"), them.start("second")
    await second.beat()
    them.later(timedelta(seconds=7))
    await first.beat()

    assert first.shown() == [
        {"node": "first", "this": True, "configuration": "a" * 12, "towns": 3, "seen_s": 0},
        {"node": "second", "this": False, "configuration": "a" * 12, "towns": 3, "seen_s": 7},
    ]
    assert first.health() == {"node:first": None, "node:second": None}


async def test_a_gateway_that_says_nothing_for_three_beats_is_told_of_and_counts_no_more() -> None:
    them = Gateways()
    first, second = them.start("first"), them.start("second")
    await second.beat()
    them.later(GONE)
    await first.beat()
    before, seen = first.health()["node:second"], list(first.lately)
    them.later(timedelta(seconds=1))
    await first.beat()

    assert timedelta(seconds=3 * BEAT_S) == GONE
    assert (before, seen) == (None, ["first", "second"])
    assert first.health()["node:second"] == "not seen for 31 s; days are closed without it"
    assert first.lately == ["first"]


async def test_a_gateway_whose_clock_is_far_ahead_is_waited_for_by_nobody() -> None:
    them = Gateways()
    first = them.start("first")
    them.later(timedelta(hours=1))
    await them.start("ahead").beat()
    them.clock.set(BEGAN)

    await first.beat()

    assert first.lately == ["first"]


async def test_a_dead_gateway_is_forgotten_after_an_hour() -> None:
    them = Gateways()
    first, second = them.start("first"), them.start("second")
    await second.beat()

    try:
        await first.run()
    except StopError:
        await first.beat()

    assert [fields["node"] for event, fields in them.told if event == "node_forgotten"] == ["second"]
    assert [node["node"] for node in first.shown()] == ["first"]


async def test_different_files_are_told_of_when_they_stay_different_for_longer_than_an_edit_takes() -> None:
    them = Gateways()
    first, second = them.start("first"), them.start("second")
    for nodes in (first, second, first):
        await nodes.beat()
    assert "configuration" not in first.health()

    them.runs["first"] = "b" * 64
    await first.beat()
    while_it_spreads = first.health()["configuration"]
    for _ in range(int(EDIT_SPREADS / GONE) + 1):
        them.later(GONE)
        await second.beat()
        await first.beat()
    after = first.health()["configuration"]
    them.runs["second"] = "b" * 64
    await second.beat()
    await first.beat()

    assert while_it_spreads is None
    assert after is not None
    assert f"{'b' * 12} on first, {'a' * 12} on second" in after
    assert "configuration" not in first.health()


async def test_a_command_that_waits_for_the_gateways_goes_by_no_files() -> None:
    them = Gateways()
    first, command = them.start("first"), them.start("command", runs="")
    await command.beat()
    await first.beat()
    them.later(EDIT_SPREADS * 2)
    await command.beat()
    await first.beat()

    assert "configuration" not in first.health()


async def test_a_gateway_that_left_is_shown_no_more() -> None:
    them = Gateways()
    first, second = them.start("first"), them.start("second")
    await second.beat()
    await second.leave()

    await first.beat()

    assert list(first.health()) == ["node:first"]
