"""The AMI link and the call log on a real Asterisk, with real calls."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from conftest import CALLER, Dial, RunAgi, SippCall, StartAsterisk
from heard import Samples

from gateway.asterisk import AsteriskSettings
from gateway.call_log import CallLog, CallLogLimits
from gateway.call_records import Wanted, records
from gateway.metrics import Metrics
from gateway.store.memory import MemoryStore
from ivr.ami import LINK_DOWN, LINK_UP, RESYNCHRONISED, AmiEvent, AmiLimits, AmiLink
from ivr.calls import CallRecord

pytestmark = pytest.mark.e2e

# A TCP port nothing answers at: the discard service, which no Debian runs.
NOBODY = 9
# A real Asterisk answers within milliseconds; beyond this something hangs.
HANGS_S = 30
TOWN_NUMBER = "+39800000100"
MASKED = "+3903******01"
TAKE = ["ANSWER", "SET VARIABLE IVR_STARTED 1", "SET VARIABLE TIMEOUT(response) 3", "SET VARIABLE TIMEOUT(digit) 2"]
ASK_PIN = ["SET VARIABLE TIMEOUT(absolute) 20", ["ask", "phrase/menu", 4]]
STORE = ["SET VARIABLE IVR_SAVED pending", "SET VARIABLE IVR_SAVED 4712", "SET VARIABLE IVR_OUTCOME cancelled"]
END = ["SET VARIABLE IVR_ENDED 1"]


@dataclass
class Listening:
    """A link and a call log on one Asterisk, with everything they heard and told."""

    settings: AsteriskSettings
    secret: str
    store: MemoryStore = field(default_factory=MemoryStore)
    events: list[AmiEvent] = field(default_factory=list)
    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.log = CallLog(
            self.store,
            now=lambda: datetime.now(UTC),
            town_of={TOWN_NUMBER: "roccachiara"}.get,
            digest=lambda number: "digest",
            log=self,
            metrics=Metrics(),
            node="one",
            limits=CallLogLimits(batch_every_s=0.05, settle_s=0.5),
        )
        self.link = AmiLink(
            "127.0.0.1",
            self.settings.ami_port,
            self.settings.ami_user,
            self.secret,
            self.take,
            self,
            AmiLimits(retry_first_s=0.1, retry_most_s=0.5),
        )

    def take(self, event: AmiEvent) -> None:
        self.events.append(event)
        self.log.on_ami(event)
        self.changed.set()

    def info(self, event: str, /, **fields: object) -> None:
        self.lines.append((event, fields))
        self.changed.set()

    warning = info

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(HANGS_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def until_event(self, name: str, times: int = 1) -> None:
        await self.until(lambda: self.names().count(name) >= times)

    async def until_told(self, line: str) -> None:
        await self.until(lambda: line in [told for told, _ in self.lines])

    async def record(self) -> CallRecord:
        """The record of the one call there was, once it was told of."""
        await self.until_told("call_ended")
        (record,) = await records(self.store, Wanted())
        return record


@contextlib.asynccontextmanager
async def listening(settings: AsteriskSettings, secret: str | None = None) -> AsyncIterator[Listening]:
    """Listen until the block ends."""
    ear = Listening(settings, settings.ami_secret if secret is None else secret)
    tasks = [asyncio.create_task(ear.link.run()), asyncio.create_task(ear.log.run())]
    try:
        yield ear
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_real_call_is_one_record_from_ringing_to_its_cause(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, *STORE, *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    async with listening(pbx.settings) as ear:
        await ear.until_event(RESYNCHRONISED)
        await sipp_call(pbx)
        record = await ear.record()

    steps = [row.event for row in await ear.store.call_events()]
    assert steps == ["ringing", "answered", "last_words", "hung_up"]
    assert record.call == gateway.notes("line")[0]["agi_uniqueid"]
    assert (record.town, record.dialled, record.number) == ("roccachiara", TOWN_NUMBER, MASKED)
    assert record.started <= (record.answered or record.started) <= (record.ended or record.started)
    assert (record.outcome, record.receipts, record.saved) == ("cancelled", ("4712",), "4712")
    assert (record.cause, record.cause_text) == (16, "Normal Clearing")
    assert not record.gateway_died
    assert CALLER not in str(ear.lines)


async def test_a_call_in_which_the_gateway_is_killed_has_its_record(
    asterisk: StartAsterisk, dial: Dial, agi_program: RunAgi, clips: dict[str, Samples]
) -> None:
    gateway = await agi_program([*TAKE, *ASK_PIN])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    async with listening(pbx.settings) as ear:
        await ear.until_event(RESYNCHRONISED)
        async with dial(pbx) as caller:
            await caller.wait_until_heard(clips["it/phrase/menu"])
            gateway.send_signal(signal.SIGKILL)
            await caller.wait_until_over()
        record = await ear.record()

    assert (record.outcome, record.gateway_died) == ("failed", True)
    assert record.fallback == "fallback-nothing-changed"
    assert record.number == MASKED


async def test_a_call_that_no_gateway_takes_has_its_record(asterisk: StartAsterisk, sipp_call: SippCall) -> None:
    pbx = await asterisk(gateways=(NOBODY, NOBODY))

    async with listening(pbx.settings) as ear:
        await ear.until_event(RESYNCHRONISED)
        await sipp_call(pbx, from_=None)
        record = await ear.record()

    assert (record.outcome, record.gateway_died) == ("failed", False)
    assert record.fallback == "fallback-nothing-changed"
    assert record.number == "withheld"


async def test_no_keyed_digit_comes_over_the_link(
    asterisk: StartAsterisk, sipp_call: SippCall, agi_program: RunAgi
) -> None:
    gateway = await agi_program([*TAKE, *ASK_PIN, *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    async with listening(pbx.settings) as ear:
        await ear.until_event(RESYNCHRONISED)
        await sipp_call(pbx, keys="7391")
        await ear.record()

    assert gateway.answers == ["7391|OK"]
    assert "7391" not in str([dict(event.headers) for event in ear.events])
    of_asterisk = {"FullyBooted", "Newchannel", "Newstate", "Hangup", "UserEvent"}
    assert set(ear.names()) <= {*of_asterisk, LINK_UP, LINK_DOWN, "CoreShowChannel", RESYNCHRONISED}


async def test_a_channel_that_is_up_before_the_link_is_found_by_it(
    asterisk: StartAsterisk, dial: Dial, agi_program: RunAgi, clips: dict[str, Samples]
) -> None:
    gateway = await agi_program([*TAKE, *ASK_PIN, *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    async with dial(pbx) as caller:
        await caller.wait_until_heard(clips["it/phrase/menu"])
        async with listening(pbx.settings) as ear:
            await ear.until_event(RESYNCHRONISED)
            listed = [event["Uniqueid"] for event in ear.events if event.name == "CoreShowChannel"]
            await caller.hang_up()
            record = await ear.record()

    assert listed == [gateway.notes("line")[0]["agi_uniqueid"]] == [record.call]
    assert record.ended is not None


async def test_a_wrong_secret_is_told_as_bad_credentials(asterisk: StartAsterisk) -> None:
    pbx = await asterisk(gateways=(NOBODY, NOBODY))

    async with listening(pbx.settings, secret="guessed") as ear:
        await ear.until_told("ami_rejected")

    assert not ear.link.connected
    assert dict(ear.lines)["ami_rejected"]["reason"] == "bad credentials"


async def test_the_link_outlives_asterisk_and_closes_the_calls_that_went_with_it(
    asterisk: StartAsterisk, dial: Dial, agi_program: RunAgi, clips: dict[str, Samples]
) -> None:
    gateway = await agi_program([*TAKE, *ASK_PIN, *END])
    pbx = await asterisk(gateways=(gateway.port, NOBODY))

    async with listening(pbx.settings) as ear:
        await ear.until_event(RESYNCHRONISED)
        async with dial(pbx) as caller:
            await caller.wait_until_heard(clips["it/phrase/menu"])
            assert pbx._process is not None
            pbx._process.kill()
            await pbx.wait()
            await ear.until_event(LINK_DOWN)
            await pbx.start()
            await ear.until_event(RESYNCHRONISED, times=2)
        record = await ear.record()

    assert ear.link.logins == 2
    assert (record.outcome, record.ended is not None) == ("failed", True)
    assert "vanished" in [row.event for row in await ear.store.call_events()]
