"""A gateway with many towns: whatever is done to the folder of one, the calls to fifty others are answered (issue 3)."""

import asyncio
import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from bench.calling import call
from bench.serving import free_port, gateway_at, silent_clips
from tests.town_files import CALENDAR, MUNICIPALITY, write_town

pytestmark = pytest.mark.e2e

OTHERS = 50
WRONG = CALENDAR.replace("2026-11-11", "2026-02-30")
# An edit is seen after a second or two; a machine with much else to do gets half a minute.
SEEN_WITHIN_S = 30


def number(town: int) -> str:
    return f"03500002{town:02}"


def municipality(town: int, more: str = "") -> str:
    return MUNICIPALITY.replace("0350000200", number(town)).replace("di Borgo", f"di Borgo {town}") + more


class Installation:
    """A gateway that serves fifty towns and `borgo`, and a caller of each."""

    def __init__(self, config: Path, agi_port: int, web_port: int) -> None:
        self.config, self.agi_port, self.web_port = config, agi_port, web_port
        self.calls = 0

    def town(self, key: str) -> Path:
        return self.config / "municipalities" / key

    async def answers(self, town: int) -> bool:
        """Whether whoever dials this town's number is asked something, rather than told that nobody is there."""
        self.calls += 1
        dialogue = await call(
            self.agi_port, [], caller="+393400000101", number=self.calls, dialled=f"+39{number(town)}"
        )
        assert dialogue.commands
        return not any("number-not-in-service" in command for command in dialogue.commands)

    async def assert_others_answer(self) -> None:
        answered = [await self.answers(town) for town in range(OTHERS)]
        assert all(answered)

    async def soon(self, town: int, *, answers: bool) -> None:
        deadline = time.monotonic() + SEEN_WITHIN_S
        while await self.answers(town) != answers:
            assert time.monotonic() < deadline, f"town {town}: {'no answer' if answers else 'still answers'}"
            await asyncio.sleep(0.1)

    async def health(self, query: str = "") -> Mapping[str, object]:
        return await asyncio.to_thread(self._health, query)

    def _health(self, query: str) -> Mapping[str, object]:
        try:
            with urlopen(f"http://127.0.0.1:{self.web_port}/health{query}", timeout=5) as answer:
                found: dict[str, object] = json.load(answer)
        except HTTPError as error:
            found = {"status_code": error.code, **json.load(error)}
        return found


@pytest.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    config = tmp_path / "config"
    for town in range(OTHERS):
        write_town(config / "municipalities" / f"comune-{town:02}", municipality=municipality(town))
    write_town(config / "municipalities" / "borgo", municipality=municipality(90))
    silent_clips(tmp_path / "sounds")
    web_port = free_port()
    async with gateway_at(config, tmp_path / "sounds", tmp_path / "gateway.log", MENSA_WEB__PORT=str(web_port)) as at:
        yield Installation(config, at.port, web_port)


def mistakes(health: Mapping[str, object]) -> object:
    towns = health["towns"]
    assert isinstance(towns, dict)
    return towns["with_mistakes"]


async def until_mistakes(here: Installation, count: int) -> Mapping[str, object]:
    deadline = time.monotonic() + SEEN_WITHIN_S
    while mistakes(health := await here.health()) != count:
        assert time.monotonic() < deadline, health
        await asyncio.sleep(0.1)
    return health


async def test_a_town_is_added_broken_mended_renamed_and_removed_and_fifty_others_answer(
    installation: Installation,
) -> None:
    here = installation
    await here.assert_others_answer()
    assert await here.answers(90)
    assert not await here.answers(91)

    # Added.
    write_town(here.town("nuovo"), municipality=municipality(91))
    await here.soon(91, answers=True)
    await here.assert_others_answer()

    # Broken: what worked answers on, and /health says so, in general and of the town.
    before = await here.health("?town=nuovo")
    (here.town("nuovo") / "calendar.yaml").write_text(WRONG, encoding="utf-8")
    health = await until_mistakes(here, 1)
    broken = await here.health("?town=nuovo")
    assert health["status"] == "degraded"
    assert dict(health["parts"])["calendar:nuovo"] == "1 mistakes in its files; the one before is in force"
    assert broken["configuration"] == before["configuration"]
    assert "calendar.yaml:3:9: patron: '2026-02-30' does not exist" in str(broken["mistakes"])
    assert await here.answers(91)
    await here.assert_others_answer()

    # Mended, with another number.
    write_town(here.town("nuovo"), municipality=municipality(92))
    await here.soon(92, answers=True)
    assert not await here.answers(91)
    mended = await until_mistakes(here, 0)
    assert (await here.health("?town=nuovo"))["configuration"] != before["configuration"]
    await here.assert_others_answer()

    # Renamed, and the number goes along: nobody is enrolled under the old name.
    os.rename(here.town("nuovo"), here.town("antico"))
    deadline = time.monotonic() + SEEN_WITHIN_S
    while not (await here.health("?town=antico"))["served"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert await here.answers(92)
    assert (await here.health("?town=nuovo"))["status_code"] == 404
    await here.assert_others_answer()

    # Removed.
    shutil.rmtree(here.town("antico"))
    await here.soon(92, answers=False)
    health = await until_mistakes(here, 0)
    assert health["towns"] == {"served": OTHERS + 1, "with_mistakes": 0}
    assert health["configuration"] != mended["configuration"]
    assert await here.answers(90)
    await here.assert_others_answer()
