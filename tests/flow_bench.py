"""Calls on fresh data for the flow's own tests: a town of the conversations, an in-memory store, a clock that stands still."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from core.access import Actor
from core.changes import Change
from core.desk import Cancel, Request, Suspend
from core.ports import Clock
from core.window import Channel
from gateway.clock import FixedClock
from gateway.rehearsal import Rehearsed, open_town_in
from gateway.telephone import greeting_of
from ivr.explore import Explored, drive
from ivr.flow import Desks, parents_line
from ivr.terminal import ScriptedLine, SilentJournal

CONVERSATIONS = Path(__file__).parent / "conversations"
OPEN_TOWN = open_town_in(CONVERSATIONS / "config")
# Tuesday 24 November 2026 is the first useful day of the evening before, 18:30 in Rome.
EVENING = datetime(2026, 11, 23, 17, 30, tzinfo=UTC)
NOON = datetime(2026, 11, 24, 11, 0, tzinfo=UTC)
TUESDAY = date(2026, 11, 24)


@dataclass(slots=True)
class FlowBench:
    """Starts calls of one kind. Every call gets fresh data; `changes_of` tells what it added."""

    caller: str | None
    clock: Clock
    prepare: Callable[[Rehearsed], None]
    is_shut: bool = False
    needs_code: bool = False
    town: str = "esempio"
    _fresh: dict[int, tuple[Rehearsed, int]] = field(default_factory=dict)

    async def start(self, line: ScriptedLine) -> str:
        town = OPEN_TOWN(self.town)
        self.prepare(town)
        self._fresh = {id(line): (town, len(_all_changes(town)))}
        keys = iter(range(1000))
        desks = Desks(
            town.desks.booking, town.desks.access, town.desks.kitchen, self.clock, lambda: f"key-{next(keys)}"
        )
        return await parents_line(line, SilentJournal(), greeting_of(town.municipality), desks, self.caller, "call-1")

    def changes_of(self, call: Explored) -> Sequence[Change]:
        """What the latest call played, which must be this one, has added."""
        town, before = self._fresh[id(call.line)]
        return _all_changes(town)[before:]


def _all_changes(town: Rehearsed) -> list[Change]:
    async def read() -> str:
        nonlocal found
        store = town.desks.store
        pupils = await store.all_pupils()
        histories = await store.histories([pupil.id for pupil in pupils])
        found = sorted((change for history in histories.values() for change in history), key=lambda each: each.id)
        return ""

    found: list[Change] = []
    drive(read())
    return found


def _nothing(town: Rehearsed) -> None:
    """As enrolled: everybody is present."""


def _act(town: Rehearsed, code: str, *actions: Cancel | Suspend) -> None:
    async def act() -> str:
        store = town.desks.store
        pupil = next(each for each in await store.all_pupils() if each.user_code == code)
        actor = Actor(Channel.PORTAL, "prepared", None, frozenset({pupil.id}))
        requests = [Request(pupil, action, f"prepared-{number}") for number, action in enumerate(actions)]
        await town.desks.booking.act(actor, requests, FixedClock(EVENING).read())
        return ""

    drive(act())


def _suspended(town: Rehearsed) -> None:
    _act(town, "50003", Suspend(TUESDAY))


def _one_cancelled(town: Rehearsed) -> None:
    _act(town, "50001", Cancel(TUESDAY))


def bench_at(kind: str) -> FlowBench:
    """One of the situations a caller can be in."""
    match kind:
        case "evening":
            return FlowBench("+390350000202", FixedClock(EVENING), _nothing)
        case "noon":
            return FlowBench("+390350000202", FixedClock(NOON), _nothing, is_shut=True)
        case "suspended":
            return FlowBench("+390350000202", FixedClock(EVENING), _suspended)
        case "siblings":
            return FlowBench("+390350000201", FixedClock(EVENING), _one_cancelled)
        case "anonymous":
            return FlowBench(None, FixedClock(EVENING), _nothing, needs_code=True)
        case "cook":
            return FlowBench(None, FixedClock(EVENING), _nothing, needs_code=True, town="cucina")
        case _:
            raise ValueError(kind)
