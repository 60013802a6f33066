"""The measured clock against real chronyds: a good one, a liar, one that vanishes, one that does not know the time."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from chrony import Chronyd, chronyd, free_port

from gateway.clock import (
    Claim,
    Disagreement,
    HostTime,
    MeasuredClock,
    NtpServer,
    Sntp,
    Source,
    Trusted,
    Unmeasured,
    Unusable,
    describe,
    host_time,
)

pytestmark = pytest.mark.e2e

LIMIT = timedelta(seconds=2)
FIVE_S_NS = 5_000_000_000
LOOK_EVERY_S = 0.05


def follows(server: Chronyd, *options: str) -> str:
    # Sixteen polls a second, so that the source is selected at once; `iburst` alone takes eight seconds.
    return " ".join((f"server 127.0.0.1 port {server.port} iburst minpoll -4 maxpoll -2", *options))


@pytest.fixture(scope="module")
def good() -> Iterator[Chronyd]:
    """One that takes this machine's clock for true and serves it."""
    with chronyd("local stratum 8") as running:
        yield running


@pytest.fixture(scope="module")
def second(good: Chronyd) -> Iterator[Chronyd]:
    """Another good one, which knows the time from the first by NTP."""
    with chronyd(follows(good)) as running:
        yield running


@pytest.fixture(scope="module")
def liar(good: Chronyd) -> Iterator[Chronyd]:
    """One that is sure that its server is 5 s behind, and passes that on."""
    with chronyd(follows(good, "offset 5")) as running:
        yield running


@pytest.fixture(scope="module")
def lost() -> Iterator[Chronyd]:
    """One that has no source, and says so."""
    with chronyd(leap="Not synchronised") as running:
        yield running


async def measured(*sources: Source) -> MeasuredClock:
    clock = MeasuredClock(sources)
    await clock.measure()
    return clock


async def test_R10_a_good_chrony_and_a_good_server_make_a_sure_clock(good: Chronyd, second: Chronyd) -> None:
    clock = await measured(second.tracking, good.sntp)

    reading = clock.read(LIMIT)
    assert reading.synchronised
    assert isinstance(clock.verdict, Trusted)
    assert {clock.verdict.claim.source, *clock.verdict.confirmed_by} == {"chrony", good.sntp.name}
    assert timedelta(0) < reading.bound < LIMIT


@pytest.mark.parametrize("way", ["tracking", "sntp"])
async def test_R10_either_way_of_asking_a_good_chrony_is_enough(second: Chronyd, way: str) -> None:
    clock = await measured(second.tracking if way == "tracking" else second.sntp)

    assert clock.read(LIMIT).synchronised


@pytest.mark.parametrize("way", ["tracking", "sntp"])
async def test_a_liar_claims_to_be_5_s_ahead_whichever_way_it_is_asked(liar: Chronyd, way: str) -> None:
    answer = await (liar.tracking if way == "tracking" else liar.sntp).ask()

    assert isinstance(answer, Claim)
    assert answer.lowest_ns < FIVE_S_NS + 1_000_000
    assert answer.highest_ns > FIVE_S_NS - 1_000_000


async def test_R10_a_liar_alone_makes_the_clock_unsynchronised(liar: Chronyd) -> None:
    clock = await measured(liar.sntp)

    state = clock.state(LIMIT)
    assert not state.reading.synchronised
    assert state.reading.bound == LIMIT
    assert "is larger than the limit of 2000.0 ms" in state.why


async def test_R10_a_liar_against_one_good_chrony_makes_the_clock_unsynchronised(
    second: Chronyd, liar: Chronyd
) -> None:
    clock = await measured(second.tracking, liar.sntp)

    assert isinstance(clock.verdict, Disagreement)
    assert not clock.read(LIMIT).synchronised
    assert liar.sntp.name in clock.state(LIMIT).why


async def test_R10_a_machine_led_astray_by_5_s_is_found_out_by_a_good_server(good: Chronyd, liar: Chronyd) -> None:
    clock = await measured(liar.tracking, good.sntp)

    assert isinstance(clock.verdict, Disagreement)
    assert not clock.read(LIMIT).synchronised


async def test_R10_a_liar_is_outvoted_by_two_good_ones(good: Chronyd, second: Chronyd, liar: Chronyd) -> None:
    clock = await measured(second.tracking, liar.sntp, good.sntp)

    assert clock.read(LIMIT).synchronised
    assert isinstance(clock.verdict, Trusted)
    assert [claim.source for claim in clock.verdict.outvoted] == [liar.sntp.name]


@pytest.mark.parametrize("way", ["tracking", "sntp"])
async def test_R10_when_chrony_vanishes_its_last_word_stands_and_the_bound_grows(good: Chronyd, way: str) -> None:
    passed_ns = 0

    def later() -> HostTime:
        now = host_time()
        return HostTime(now.realtime_ns + passed_ns, now.monotonic_ns + passed_ns, now.blur_ns)

    with chronyd(follows(good)) as vanishing:
        source: Source = vanishing.tracking if way == "tracking" else vanishing.sntp
        clock = MeasuredClock((source,), now=later)
        await clock.measure()
        before = clock.read(LIMIT)
        vanishing.vanish()
    passed_ns = 3600 * 1_000_000_000
    await clock.measure()
    after = clock.read(LIMIT)

    assert isinstance(clock.answers[source.name], Unusable)
    assert after.synchronised
    assert after.source == before.source
    # 50 ppm of an hour are 180 ms; the rest is how exactly two clocks can be read.
    assert timedelta(milliseconds=175) < after.bound - before.bound < timedelta(milliseconds=185)


async def test_R10_a_chrony_that_is_not_synchronised_itself_is_not_taken(lost: Chronyd) -> None:
    clock = await measured(lost.tracking, lost.sntp)

    assert clock.answers["chrony"] == Unusable("chronyd is not synchronised itself")
    assert clock.answers[lost.sntp.name] == Unusable("the server is not synchronised itself")
    assert clock.verdict == Unmeasured()
    assert not clock.read(LIMIT).synchronised


async def test_R10_a_lost_chrony_does_not_spoil_a_good_server(lost: Chronyd, good: Chronyd) -> None:
    clock = await measured(lost.tracking, good.sntp)

    assert clock.read(LIMIT).synchronised
    assert clock.read(LIMIT).source == good.sntp.name


async def test_readings_of_a_synchronised_clock_never_go_backwards(second: Chronyd) -> None:
    clock = await measured(second.tracking)

    readings = [clock.read(LIMIT) for _ in range(1000)]

    assert all(earlier.midpoint <= later.midpoint for earlier, later in pairwise(readings))


async def test_the_report_names_each_chronyd_and_what_becomes_of_it(
    good: Chronyd, second: Chronyd, liar: Chronyd, lost: Chronyd
) -> None:
    clock = MeasuredClock((second.tracking, good.sntp, liar.sntp, lost.sntp))

    report = await describe(clock, limit=LIMIT, timezone=ZoneInfo("Europe/Rome"))

    stances = {source.name: source.stance for source in report.sources}
    assert {stances["chrony"], stances[good.sntp.name]} == {"trusted", "agrees"}
    assert stances[liar.sntp.name] == "outvoted"
    assert stances[lost.sntp.name] == "unusable"


async def test_a_clock_that_runs_notices_a_chronyd_that_starts_later() -> None:
    port = free_port()
    clock = MeasuredClock((Sntp(NtpServer("127.0.0.1", port)),), poll_s=0.05)
    running = asyncio.create_task(clock.run())
    await asyncio.sleep(LOOK_EVERY_S)
    before = clock.read(LIMIT)

    with chronyd("local stratum 8", port=port):
        for _ in range(400):
            await asyncio.sleep(LOOK_EVERY_S)
            if clock.read(LIMIT).synchronised:
                break
        running.cancel()
        await asyncio.wait([running])

    assert not before.synchronised
    assert clock.read(LIMIT).synchronised
