"""Two gateways on one database: whatever one has begun the other knows, and one may go while the other serves.

The two serve all tests of a kind of database, about the infants' cutoff; the last test sends one of them away.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from town import MONDAY, TOWN, Gateway, TownOnDisk, open_town

from core.changes import Kind
from tests.asterisk_double import AsteriskDouble
from tests.postgres import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

HOST = "127.0.0.1"
TUESDAY = MONDAY + timedelta(days=1)
# The infants' day is closed at 9:00, while the calls go on; the others' half an hour later.
AT = "2026-11-23T08:59:30"
CLOSES_FIRST = "infanzia"
# Invented families of the example town: code, PIN where it is keyed, and the number that is recognised.
GIULIA, PIN = "50001", "3816"
EMMA, EMMAS_NUMBER = "50013", "+390350000112"
MARCO, PAOLOS_NUMBER = "50005", "+390350000102"
STRANGER = "+390350009001"
# An edit is in force within seconds and told with the next beat; a busy machine gets time.
TOLD_WITHIN_S = 120


@dataclass(frozen=True, slots=True)
class Pair:
    """A town and the two gateways that serve it."""

    town: TownOnDisk
    first: Gateway
    second: Gateway

    def closed(self) -> list[dict[str, Any]]:
        return [line for each in (self.first, self.second) for line in each.lines("day_closed")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["sqlite", "postgresql"])
async def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, line_sounds: Path
) -> AsyncIterator[Pair]:
    settings = {"MENSA_AMI__ENABLED": "false"}
    if request.param == "postgresql":
        cluster: Cluster = request.getfixturevalue("postgres")
        settings["MENSA_DATABASE__URL"] = cluster.database()
    # The gateways and the commands of the town read their settings from the environment.
    with patch.dict(os.environ, settings):
        async with open_town(tmp_path_factory.mktemp("nodes"), line_sounds, AT) as town:
            # As an installation that has been in service for long.
            async with town.house() as house:
                await house.store.closings_since([TOWN], house.now() - timedelta(hours=1))
            yield Pair(town, await town.serve(0), await town.serve(1))


async def call(gateway: Gateway, *keys: str, caller: str, uniqueid: str) -> AsteriskDouble:
    asterisk = AsteriskDouble(keys)
    await asterisk.call(HOST, gateway.port, caller=caller, uniqueid=uniqueid)
    return asterisk


async def nodes_of(gateway: Gateway) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await gateway.health())["nodes"]
    return nodes


async def test_R28_five_wrong_pins_spread_over_two_gateways_lock_the_code_on_both(pair: Pair) -> None:
    three = await call(pair.first, GIULIA, "0001", GIULIA, "0002", GIULIA, "0003", caller=STRANGER, uniqueid="1.1")
    fifth = await call(pair.second, GIULIA, "0004", GIULIA, "0005", caller=STRANGER, uniqueid="1.2")
    right = [
        await call(each, GIULIA, PIN, "1", "1", caller=STRANGER, uniqueid=f"1.{number}")
        for number, each in enumerate((pair.first, pair.second), 3)
    ]

    assert three.variables["IVR_OUTCOME"] == "not_identified"
    assert [each.variables["IVR_OUTCOME"] for each in (fifth, *right)] == ["locked"] * 3


async def test_R20_a_request_that_one_gateway_stored_is_not_stored_again_by_the_other(pair: Pair) -> None:
    asterisk = await call(pair.first, "1", "1x", caller=EMMAS_NUMBER, uniqueid="2.1")
    was_asked = await asterisk.hangup_handler(HOST, pair.second.port, caller=EMMAS_NUMBER, uniqueid="2.1")
    [change] = await pair.town.changes(EMMA)

    assert was_asked
    assert change.kind is Kind.CANCEL
    assert asterisk.variables["IVR_SAVED"].split("-")[-1] == change.receipt


async def test_an_edit_on_the_shared_folder_reaches_both_gateways(pair: Pair) -> None:
    before = {node["configuration"] for node in await nodes_of(pair.second)}
    calendar = pair.town.config / "municipalities" / TOWN / "calendar.yaml"
    text = calendar.read_text(encoding="utf-8")
    edited = text.replace("exceptions:\n", f"exceptions:\n  - {{closed: {TUESDAY}, why: Neve}}\n", 1)
    calendar.write_text(edited, encoding="utf-8")

    for gateway in (pair.first, pair.second):
        await gateway.wait_for("calendar_in_force", timeout_s=TOLD_WITHIN_S)
    for _ in range(TOLD_WITHIN_S):
        shown = [node["configuration"] for each in (pair.first, pair.second) for node in await nodes_of(each)]
        if before.isdisjoint(shown):
            break
        await asyncio.sleep(1)

    assert edited != text
    assert len(before) == 1
    assert before.isdisjoint(shown)
    assert (len(shown), len(set(shown))) == (4, 1)


async def test_R25_two_gateways_that_serve_close_a_school_once(pair: Pair) -> None:
    for _ in range(TOLD_WITHIN_S):
        if pair.closed():
            break
        await asyncio.sleep(1)

    async with pair.town.house() as house:
        closing = await house.store.at(TOWN).closing(CLOSES_FIRST, MONDAY)
        orders = await house.store.messages()
    assert [line["school"] for line in pair.closed()] == [CLOSES_FIRST]
    assert closing is not None
    assert [(order.key, dict(order.about)) for order in orders] == [("order-1", {"order": closing.order})]


class Thinking(AsteriskDouble):
    """A caller who takes time over the first question, until `goes_on` is set."""

    def __init__(self, *keys: str) -> None:
        super().__init__(keys)
        self.is_asked, self.goes_on = asyncio.Event(), asyncio.Event()

    async def _command(self, link: Any) -> str | None:
        line = await super()._command(link)
        if line is not None and "Read" in line:
            self.is_asked.set()
            await self.goes_on.wait()
        return line


async def test_draining_one_gateway_loses_no_call_while_the_other_serves(pair: Pair) -> None:
    caller = Thinking("1", "1", "1")
    calling = asyncio.create_task(caller.call(HOST, pair.first.port, caller=PAOLOS_NUMBER, uniqueid="4.1"))
    await caller.is_asked.wait()
    pair.first.process.terminate()
    await pair.first.wait_for("gateway_draining")
    refused = await call(pair.first, "1", "1", caller=STRANGER, uniqueid="4.2")
    meanwhile = await call(pair.second, "5", "1", caller=EMMAS_NUMBER, uniqueid="4.3")
    caller.goes_on.set()
    await calling
    status = await pair.first.process.wait()
    for _ in range(TOLD_WITHIN_S):
        left = await nodes_of(pair.second)
        if len(left) == 1:
            break
        await asyncio.sleep(1)
    [change] = await pair.town.changes(MARCO)

    assert change.kind is Kind.CANCEL
    assert refused.variables["IVR_REFUSED"] == "draining"
    assert meanwhile.variables["IVR_OUTCOME"] == "undone"
    assert status == 0
    assert len(left) == 1
