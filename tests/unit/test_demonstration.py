"""`make run` up to the moment before Asterisk: the data and the clock it prepares."""

import asyncio
import dataclasses
import shutil
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console
from structlog.testing import capture_logs

from core.access import cook_pin_digest
from core.changes import Presence
from core.people import UserCode
from gateway import demonstration
from gateway.app import Log
from gateway.demonstration import SUSPENDED_CODE, Demonstration, DemonstrationFailed
from gateway.files.load import Configuration, load_configuration
from gateway.installation import REHEARSAL, Installation, open_installation
from gateway.logs import get_log
from gateway.store.port import StoreBusyError

HOUSE = Path(__file__).parents[2]


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configuration:
    for name in ("MENSA_DATABASE__URL", "MENSA_SECRETS"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(HOUSE / "config", tmp_path / "config")
    loaded = load_configuration(tmp_path / "config")
    assert isinstance(loaded, Configuration)
    return loaded


async def prepared(configuration: Configuration, at: str | None, *, keep: bool = False) -> None:
    """Prepares as `make run` does, and stops before anything is served."""
    stop = asyncio.Event()
    stop.set()
    await Demonstration(configuration, Console(quiet=True), cast(Log, get_log())).run(at, keep, stop)


async def presence(house: Installation, code: str, day: date) -> Any:
    desks = house.desks_of(next(iter(house.configuration.municipalities)))
    pupil = await desks.pupil(code)
    assert pupil is not None
    [found] = await desks.booking.presences(pupil, day, day)
    return found


@pytest.mark.parametrize("at", ["2026-09-20T18:30", "2027-05-02T18:30"])
async def test_the_examples_suspension_is_in_force_when_the_rehearsal_begins(
    configuration: Configuration, at: str
) -> None:
    await prepared(configuration, at)

    async with open_installation(configuration) as house:
        began = house.now().date()
        day = {9: date(2026, 9, 21), 5: date(2027, 5, 3)}[began.month]
        found = await presence(house, SUSPENDED_CODE, day)
        assert found.presence is Presence.SUSPENDED
        assert found.change.decided.midpoint.date() == began


async def test_the_examples_cooks_are_enrolled_and_one_of_every_school_is_told_of(configuration: Configuration) -> None:
    await prepared(configuration, "2026-09-20T18:30")

    async with open_installation(configuration) as house:
        town = next(iter(house.configuration.municipalities))
        cook = await house.store.at(town.key).cook(UserCode("90001"))
        assert cook is not None
        assert cook.schools == ()
        assert cook.pin_digest == cook_pin_digest(house.hasher, cook.id, "7315")
        assert (
            demonstration._callers(town).lines[-1] == "likewise the kitchen: code 90001, PIN 7315; it hears the counts"
        )


async def test_an_instant_that_is_none_leaves_the_data_of_the_last_run_alone(configuration: Configuration) -> None:
    await prepared(configuration, "2026-09-20T18:30")

    with pytest.raises(DemonstrationFailed, match="AT: 'tomorrow' is no instant"):
        await prepared(configuration, "tomorrow")

    async with open_installation(configuration) as house:
        assert (await presence(house, SUSPENDED_CODE, date(2026, 9, 21))).presence is Presence.SUSPENDED


async def test_a_database_of_real_families_is_never_rehearsed_on(configuration: Configuration) -> None:
    async with open_installation(configuration, makes_database=True):
        pass

    with pytest.raises(DemonstrationFailed, match="not a rehearsal's"):
        await prepared(configuration, None)


@dataclass
class StoreDownForAWhile:
    """A database that is down for the first writes."""

    fails: int
    kept: asyncio.Event = field(default_factory=asyncio.Event)

    async def set_setting(self, key: str, value: str) -> None:
        self.fails -= 1
        if self.fails >= 0:
            raise StoreBusyError(f"database: busy; {key} was not kept")
        self.kept.set()


async def test_a_store_that_is_down_for_a_while_is_told_once_and_the_clock_is_kept_afterwards(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demonstration, "HEARTBEAT_S", 0)
    store = StoreDownForAWhile(fails=3)
    async with open_installation(configuration, purpose=REHEARSAL, makes_database=True) as house:
        with capture_logs() as told:
            beats = asyncio.create_task(
                Demonstration(configuration, Console(quiet=True), cast(Log, get_log()))._heartbeat(
                    dataclasses.replace(house, store=cast(Any, store))
                )
            )
            async with asyncio.timeout(10):
                await store.kept.wait()
            beats.cancel()

    assert [each["event"] for each in told] == ["rehearsal_instant_not_kept"]
