"""The measured clock: intervals, doubt, drift, silence, contradiction, steps (R10)."""

import asyncio
import io
import json
import struct
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from structlog.testing import capture_logs

from gateway.clock import (
    Chrony,
    Claim,
    Disagreement,
    FixedClock,
    HostTime,
    Kernel,
    MeasuredClock,
    NtpServer,
    OffsetClock,
    Sntp,
    Source,
    TownClock,
    Trusted,
    Unmeasured,
    Unusable,
    describe,
    elect,
    host_time,
    usual_sources,
)
from gateway.clock.host import chrony_claim, kernel_claim
from gateway.clock.sntp import sntp_claim

MS = 1_000_000
S = 1_000_000_000
LIMIT = timedelta(seconds=2)
ROME = ZoneInfo("Europe/Rome")
# Tuesday 24 November 2026, 09:30:00 in Rome: a cutoff.
CUTOFF = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)
GOOD_LINE = "7F000001,192.0.2.1,9,1795346149.262529633,0.005,0.0,0.0,-0.430,0.111,7.872,0.020,0.003,64.2,Normal"


@dataclass(slots=True)
class Machine:
    """A machine whose clocks we turn by hand."""

    realtime_ns: int = int(CUTOFF.timestamp()) * S
    monotonic_ns: int = 1000 * S
    blur_ns: int = 0

    def __call__(self) -> HostTime:
        return HostTime(self.realtime_ns, self.monotonic_ns, self.blur_ns)

    def wait(self, seconds: float) -> None:
        self.realtime_ns += int(seconds * S)
        self.monotonic_ns += int(seconds * S)

    def step(self, seconds: float) -> None:
        self.realtime_ns += int(seconds * S)


@dataclass(slots=True)
class Says:
    """A source that says what the test tells it to."""

    name: str
    machine: Machine
    offset_ms: float = 0.0
    uncertainty_ms: float = 10.0
    voice: str = ""
    silent: str = ""
    pause_s: float = 0.0
    asked: int = field(default=0)

    async def ask(self) -> Claim | Unusable:
        self.asked += 1
        if self.silent:
            return Unusable(self.silent, self.pause_s)
        voice = self.voice or self.name
        return Claim(self.name, voice, int(self.offset_ms * MS), int(self.uncertainty_ms * MS), self.machine())


@dataclass(frozen=True, slots=True)
class Hangs:
    name: str = "hangs"

    async def ask(self) -> Claim | Unusable:
        await asyncio.Event().wait()
        raise AssertionError


@dataclass(frozen=True, slots=True)
class Breaks:
    name: str = "breaks"

    async def ask(self) -> Claim | Unusable:
        raise RuntimeError("a fault of ours")


def claim(source: str, offset_ms: float, uncertainty_ms: float, voice: str = "") -> Claim:
    return Claim(source, voice or source, int(offset_ms * MS), int(uncertainty_ms * MS), HostTime(0, 0))


def measured(machine: Machine, *sources: Source) -> MeasuredClock:
    clock = MeasuredClock(sources, now=machine, ask_timeout_s=0.05)
    asyncio.run(clock.measure())
    return clock


def bound_ms(clock: MeasuredClock) -> float:
    return clock.read(LIMIT).bound / timedelta(milliseconds=1)


# The interval


def test_R10_a_reading_is_the_system_clock_give_or_take_the_bound() -> None:
    machine = Machine()

    reading = measured(machine, Says("chrony", machine, uncertainty_ms=40)).read(LIMIT)

    assert reading.earliest == CUTOFF - timedelta(milliseconds=40)
    assert reading.latest == CUTOFF + timedelta(milliseconds=40)
    assert reading.source == "chrony"
    assert reading.synchronised


def test_R10_a_known_offset_widens_the_interval_and_never_moves_it() -> None:
    machine = Machine()

    reading = measured(machine, Says("chrony", machine, offset_ms=-300, uncertainty_ms=10)).read(LIMIT)

    assert reading.midpoint == CUTOFF
    assert reading.bound == timedelta(milliseconds=310)


def test_R10_both_ends_are_rounded_outwards() -> None:
    machine = Machine()
    machine.realtime_ns += 500

    reading = measured(machine, Says("chrony", machine, uncertainty_ms=0)).read(LIMIT)

    assert reading.earliest == CUTOFF
    assert reading.latest == CUTOFF + timedelta(microseconds=1)


def test_R10_doubt_goes_to_the_family_at_the_cutoff_and_at_the_opening() -> None:
    machine = Machine()
    clock = measured(machine, Says("chrony", machine, uncertainty_ms=50))

    machine.wait(0.040)
    just_after = clock.read(LIMIT)
    machine.wait(0.020)
    surely_after = clock.read(LIMIT)

    assert not just_after.is_past(CUTOFF)
    assert just_after.is_near(CUTOFF)
    assert surely_after.is_past(CUTOFF)
    assert clock.read(LIMIT).reaches(CUTOFF + timedelta(milliseconds=100))


def test_R10_the_blur_of_reading_two_clocks_is_in_the_bound() -> None:
    machine = Machine(blur_ns=3 * MS)

    clock = measured(machine, Says("chrony", machine, uncertainty_ms=10))

    assert clock.read(LIMIT).bound >= timedelta(milliseconds=13)


@given(
    offset_ns=st.integers(-3 * S, 3 * S),
    uncertainty_ns=st.integers(0, S),
    error=st.floats(-1, 1),
    drift_ppm=st.floats(-49, 49),
    waited_s=st.integers(0, 100_000),
    stepped_ns=st.integers(-2 * S, 2 * S),
)
def test_R10_true_time_lies_in_the_interval_whatever_happened_since(
    offset_ns: int, uncertainty_ns: int, error: float, drift_ppm: float, waited_s: int, stepped_ns: int
) -> None:
    then = HostTime(10**18, 10**12)
    true_then_ns = then.realtime_ns + offset_ns + int(error * uncertainty_ns)
    waited_ns = waited_s * S
    now = HostTime(then.realtime_ns + waited_ns + stepped_ns, then.monotonic_ns + waited_ns)
    true_now_ns = true_then_ns + waited_ns + int(waited_ns * drift_ppm / 1e6)

    aged = Claim("s", "s", offset_ns, uncertainty_ns, then).aged(now)

    assert abs(true_now_ns - now.realtime_ns) <= aged.bound_ns


# The limit


def test_R10_before_any_measurement_the_interval_is_the_limit_and_unsynchronised() -> None:
    machine = Machine()

    state = MeasuredClock((), now=machine).state(LIMIT)

    assert state.reading.earliest == CUTOFF - LIMIT
    assert state.reading.latest == CUTOFF + LIMIT
    assert not state.reading.synchronised
    assert state.bound_ns is None
    assert state.why == "no source of time has given a usable answer"


def test_R10_a_bound_larger_than_the_limit_is_unsynchronised_and_the_limit_holds() -> None:
    machine = Machine()
    clock = measured(machine, Says("chrony", machine, offset_ms=5000, uncertainty_ms=10))

    state = clock.state(LIMIT)

    assert state.reading.bound == LIMIT
    assert not state.reading.synchronised
    assert state.bound_ns == 5010 * MS
    assert state.why == "the bound of 5010.0 ms by chrony is larger than the limit of 2000.0 ms"


def test_R10_each_town_has_its_own_limit() -> None:
    machine = Machine()
    clock = measured(machine, Says("chrony", machine, uncertainty_ms=500))

    strict, lenient = TownClock(clock, timedelta(milliseconds=100)), TownClock(clock, timedelta(seconds=1))

    assert strict.read().bound == timedelta(milliseconds=100)
    assert not strict.read().synchronised
    assert lenient.read().bound == timedelta(milliseconds=500)
    assert lenient.read().synchronised


def test_R10_a_bound_just_at_the_limit_is_synchronised() -> None:
    machine = Machine()

    clock = measured(machine, Says("chrony", machine, uncertainty_ms=2000))

    assert clock.read(LIMIT).synchronised


# Silence


def test_R10_while_the_sources_are_silent_the_bound_grows_by_50_ppm() -> None:
    machine = Machine()
    source = Says("chrony", machine, uncertainty_ms=10)
    clock = measured(machine, source)

    source.silent = "chronyd does not answer"
    machine.wait(3600)
    asyncio.run(clock.measure())

    assert bound_ms(clock) == 10 + 3600 * 0.050
    assert clock.read(LIMIT).source == "chrony"
    assert clock.read(LIMIT).synchronised


def test_R10_sources_silent_for_long_make_the_clock_unsynchronised() -> None:
    machine = Machine()
    source = Says("chrony", machine, uncertainty_ms=10)
    clock = measured(machine, source)

    source.silent = "chronyd does not answer"
    machine.wait(12 * 3600)
    asyncio.run(clock.measure())

    assert not clock.read(LIMIT).synchronised
    assert clock.read(LIMIT).bound == LIMIT


def test_R10_a_source_that_answers_again_takes_the_width_back() -> None:
    machine = Machine()
    source = Says("chrony", machine, uncertainty_ms=10)
    clock = measured(machine, source)
    source.silent = "chronyd does not answer"
    machine.wait(12 * 3600)
    asyncio.run(clock.measure())

    source.silent = ""
    asyncio.run(clock.measure())

    assert bound_ms(clock) == 10


def test_a_source_that_hangs_or_breaks_costs_its_own_voice_only() -> None:
    machine = Machine()

    clock = measured(machine, Hangs(), Breaks(), Says("chrony", machine))

    assert clock.read(LIMIT).synchronised
    assert clock.answers["hangs"] == Unusable("no answer within 0.05 s")
    assert clock.answers["breaks"] == Unusable("failed: RuntimeError")


def test_a_server_that_asks_to_be_left_alone_is_left_alone() -> None:
    machine = Machine()
    server = Says("sntp 192.0.2.1", machine, silent="asks to be left alone (RATE)", pause_s=3600)
    clock = measured(machine, server)

    machine.wait(3599)
    asyncio.run(clock.measure())
    asked_in_the_pause = server.asked
    machine.wait(2)
    asyncio.run(clock.measure())

    assert asked_in_the_pause == 1
    assert server.asked == 2


# Contradiction


def test_no_claims_make_no_verdict() -> None:
    assert elect([]) == Unmeasured()


def test_of_sources_that_agree_the_tightest_is_trusted() -> None:
    sure, unsure = claim("sntp 192.0.2.1", 3, 5), claim("chrony", 0, 20)

    assert elect([unsure, sure]) == Trusted(sure, confirmed_by=("chrony",))


def test_two_sources_that_contradict_each_other_are_neither_believed() -> None:
    honest, liar = claim("chrony", 0, 10), claim("sntp 192.0.2.1", 5000, 10)

    assert elect([honest, liar]) == Disagreement((honest, liar))


def test_the_majority_of_three_wins_and_the_liar_is_named() -> None:
    honest, second, liar = claim("chrony", 0, 10), claim("sntp 192.0.2.1", 2, 20), claim("sntp 192.0.2.2", 5000, 10)

    assert elect([liar, honest, second]) == Trusted(honest, ("sntp 192.0.2.1",), (liar,))


def test_two_against_two_is_no_majority() -> None:
    claims = [claim("a", 0, 10), claim("b", 0, 10), claim("c", 5000, 10), claim("d", 5000, 10)]

    assert isinstance(elect(claims), Disagreement)


def test_when_it_is_not_plain_who_lies_nobody_is_believed() -> None:
    left, middle, right = claim("a", 0, 10), claim("b", 15, 10), claim("c", 30, 10)

    assert isinstance(elect([left, middle, right]), Disagreement)


def test_kernel_and_chrony_have_one_voice_so_they_cannot_outvote_a_server() -> None:
    chrony, kernel = claim("chrony", 0, 10, "host"), claim("kernel", 0, 200, "host")
    server = claim("sntp 192.0.2.1", 5000, 10)

    assert elect([kernel, chrony, server]) == Disagreement((chrony, server))


def test_kernel_and_chrony_that_contradict_each_other_are_two_voices() -> None:
    chrony, kernel = claim("chrony", 5000, 10, "host"), claim("kernel", 0, 200, "host")
    server = claim("sntp 192.0.2.1", 5000, 20)

    assert isinstance(elect([kernel, chrony]), Disagreement)
    assert elect([kernel, chrony, server]) == Trusted(chrony, ("sntp 192.0.2.1",), (kernel,))


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 30)), min_size=1, max_size=7),
    st.integers(-6000, 6000),
)
def test_liars_in_the_minority_are_never_believed_against_every_honest_source(
    honest: list[tuple[int, int]], lie: int
) -> None:
    claims = [claim(f"honest {i}", error, abs(error) + slack) for i, (error, slack) in enumerate(honest)]
    liars = [claim(f"liar {i}", lie, 0.001) for i in range(len(honest) - 1)]

    verdict = elect([*claims, *liars])

    match verdict:
        case Trusted(trusted):
            assert any(trusted.agrees_with(honest_claim) for honest_claim in claims)
        case other:
            assert isinstance(other, Disagreement)
            assert liars


def test_R10_contradicting_sources_make_the_clock_unsynchronised_and_say_who_says_what() -> None:
    machine = Machine()

    clock = measured(machine, Says("chrony", machine), Says("sntp 192.0.2.1", machine, offset_ms=5000))

    state = clock.state(LIMIT)
    assert not state.reading.synchronised
    assert state.reading.bound == LIMIT
    assert state.reading.source == "system"
    assert state.why == (
        "the sources contradict each other and there is no majority: "
        "chrony says +0.000 s ± 10.0 ms, sntp 192.0.2.1 says +5.000 s ± 10.0 ms"
    )


def test_a_liar_that_falls_silent_keeps_the_doubt_alive_for_a_quarter_of_an_hour() -> None:
    machine = Machine()
    liar = Says("sntp 192.0.2.1", machine, offset_ms=5000)
    clock = measured(machine, Says("chrony", machine), liar)

    liar.silent = "no answer within 3 s"
    machine.wait(899)
    asyncio.run(clock.measure())
    in_doubt = clock.read(LIMIT).synchronised
    machine.wait(2)
    asyncio.run(clock.measure())

    assert not in_doubt
    assert clock.read(LIMIT).synchronised


def test_what_is_wrong_with_the_sources_is_logged_once_and_so_is_its_end() -> None:
    machine = Machine()
    server = Says("sntp 192.0.2.1", machine, offset_ms=5000)
    clock = MeasuredClock((Says("chrony", machine), server), now=machine)
    limits = {"roccachiara": LIMIT}

    with capture_logs() as logs:
        for server.offset_ms in (5000, 5000, 0, 0):
            asyncio.run(clock.measure())
            clock.tell(limits)

    assert [entry["event"] for entry in logs] == [
        "clock_sources_contradict",
        "clock_unsynchronised",
        "clock_source",
        "clock_synchronised",
    ]
    assert logs[0]["doubted"] == ["chrony", "sntp 192.0.2.1"]
    assert logs[1]["town"] == "roccachiara"


# Steps


def test_R10_an_operator_who_sets_the_clock_wrong_is_noticed_by_the_very_next_reading() -> None:
    machine = Machine()
    clock = measured(machine, Says("chrony", machine))

    machine.step(3600)

    assert not clock.read(LIMIT).synchronised


def test_R10_a_small_step_is_added_to_the_bound() -> None:
    machine = Machine()
    clock = measured(machine, Says("chrony", machine, uncertainty_ms=10))

    machine.step(-0.5)

    assert bound_ms(clock) == 510


def test_R10_a_step_that_mends_the_clock_makes_the_interval_narrow_again() -> None:
    machine = Machine()
    clock = measured(machine, Says("chrony", machine, offset_ms=5000, uncertainty_ms=10))

    machine.step(5)

    assert clock.read(LIMIT).synchronised
    assert bound_ms(clock) == 10


@pytest.mark.parametrize("seconds", [5.0, -5.0, 0.02])
def test_a_step_is_detected_and_logged_once(seconds: float) -> None:
    machine = Machine()
    clock = measured(machine)
    machine.wait(1)

    with capture_logs() as logs:
        before = clock.watch()
        machine.step(seconds)
        machine.wait(1)
        step = clock.watch()
        after = clock.watch()

    assert before is None
    assert step is not None
    assert step.by_ns == int(seconds * S)
    assert clock.last_step == step
    assert after is None
    assert logs == [{"event": "clock_stepped", "by_s": seconds, "log_level": "warning"}]


def test_slow_reading_of_the_clocks_is_no_step() -> None:
    machine = Machine(blur_ns=30 * MS)
    clock = measured(machine)

    machine.realtime_ns += 50 * MS

    assert clock.watch() is None


async def test_the_clock_goes_on_measuring_in_the_background() -> None:
    source = Says("chrony", Machine())
    third = asyncio.Event()

    @dataclass(frozen=True, slots=True)
    class Counts:
        name: str = "chrony"

        async def ask(self) -> Claim | Unusable:
            answer = await source.ask()
            if source.asked == 3:
                third.set()
            return answer

    clock = MeasuredClock((Counts(),), now=source.machine, poll_s=0.01)
    running = asyncio.create_task(clock.run(lambda: {"roccachiara": LIMIT}))
    async with asyncio.timeout(20):
        await third.wait()
    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    assert clock.read(LIMIT).synchronised


async def test_after_a_step_the_sources_are_asked_at_once() -> None:
    machine = Machine()
    again = asyncio.Event()

    @dataclass(slots=True)
    class Steps:
        """Steps the machine once it was asked, so that being asked again is the step's doing."""

        name: str = "chrony"
        asked: int = 0

        async def ask(self) -> Claim | Unusable:
            self.asked += 1
            if self.asked == 2:
                again.set()
            answer = Claim("chrony", "host", 0, 0, machine())
            machine.step(3600 if self.asked == 1 else 0)
            return answer

    running = asyncio.create_task(MeasuredClock((Steps(),), now=machine, poll_s=1e6, repoll_min_s=0).run())
    async with asyncio.timeout(20):
        await again.wait()
    running.cancel()
    await asyncio.wait([running])

    assert again.is_set()


# The kernel


def test_the_kernels_maxerror_is_its_bound() -> None:
    found = kernel_claim(700_000, 0, 0, HostTime(0, 0))

    assert isinstance(found, Claim)
    assert found.bound_ns == 700 * MS


@pytest.mark.parametrize(("offset", "status"), [(50_000, 0), (-50_000, 0), (50_000_000, 0x2000)])
def test_what_the_kernel_still_has_to_slew_is_in_its_bound(offset: int, status: int) -> None:
    found = kernel_claim(700_000, offset, status, HostTime(0, 0))

    assert isinstance(found, Claim)
    assert found.bound_ns == 750 * MS


def test_a_kernel_bound_of_zero_is_not_believed() -> None:
    found = kernel_claim(0, 0, 0, HostTime(0, 0))

    assert isinstance(found, Claim)
    assert found.bound_ns == 200 * MS


@pytest.mark.parametrize(("maxerror_us", "status"), [(16_000_000, 0), (16_000_000, 0x40), (10_000, 0x40), (-1, 0)])
def test_a_kernel_that_is_not_synchronised_is_not_taken(maxerror_us: int, status: int) -> None:
    assert isinstance(kernel_claim(maxerror_us, 0, status, HostTime(0, 0)), Unusable)


async def test_this_machines_kernel_answers() -> None:
    before = host_time()

    answer = await Kernel().ask()

    assert isinstance(answer, Unusable) or answer.at.monotonic_ns >= before.monotonic_ns
    assert not isinstance(answer, Unusable) or answer.why.startswith(("not synchronised", "adjtimex: "))


def test_this_machines_clocks_are_read_together() -> None:
    both = host_time()

    assert both.blur_ns >= 0
    assert abs(both.realtime_ns / S - datetime.now(UTC).timestamp()) < 60


# Chrony


def test_chronys_bound_is_offset_and_dispersion_and_half_the_delay() -> None:
    found = chrony_claim(GOOD_LINE, HostTime(0, 0))

    assert isinstance(found, Claim)
    assert found.voice == "host"
    assert found.offset_ns == 5 * MS
    assert found.uncertainty_ns == pytest.approx(13 * MS, abs=1)


@pytest.mark.parametrize(
    "line",
    [
        "00000000,,0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,1.0,0.0,Not synchronised",
        GOOD_LINE.replace("Normal", "Not synchronised"),
        GOOD_LINE.replace(",9,", ",0,"),
        GOOD_LINE.replace("7F000001", "00000000"),
        GOOD_LINE.replace("7F000001", ""),
    ],
)
def test_a_chrony_that_is_not_synchronised_itself_is_not_taken(line: str) -> None:
    assert chrony_claim(line, HostTime(0, 0)) == Unusable("chronyd is not synchronised itself")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "506 Cannot talk to daemon",
        GOOD_LINE + ",more",
        GOOD_LINE.replace("Normal", "Perhaps"),
        GOOD_LINE.replace("0.005", "soon"),
        GOOD_LINE.replace("0.005", "nan"),
        GOOD_LINE.replace("0.005", "-inf"),
        GOOD_LINE.replace("0.005", "1e300"),
        GOOD_LINE.replace("0.003", "nan"),
        GOOD_LINE.replace("0.003", "1e300"),
        GOOD_LINE.replace("0.020", "-0.020"),
        GOOD_LINE.replace(",9,", ",16,"),
        GOOD_LINE.replace(",9,", ",-1,"),
        GOOD_LINE.replace(",9,", ",nine,"),
    ],
)
def test_a_line_that_chronyc_would_not_print_is_not_taken(line: str) -> None:
    assert isinstance(chrony_claim(line, HostTime(0, 0)), Unusable)


FIGURES = st.floats().map(str) | st.integers().map(str) | st.text(max_size=5)


@given(
    st.text(max_size=200)
    | st.lists(FIGURES, min_size=14, max_size=14).map(",".join)
    | st.tuples(FIGURES, FIGURES, FIGURES, st.integers(-1, 17)).map(
        lambda f: f"7F000001,x,{f[3]},0,{f[0]},0,0,0,0,0,{f[1]},{f[2]},0,Normal"
    )
)
def test_garbage_from_chronyc_is_an_unusable_source_and_never_a_fault(line: str) -> None:
    found = chrony_claim(line, HostTime(0, 0))

    assert isinstance(found, Unusable) or found.uncertainty_ns >= 0


async def test_a_machine_without_chrony_has_one_source_less() -> None:
    assert await Chrony(program="no-such-chronyc").ask() == Unusable("no-such-chronyc is not installed")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 1", "chronyd does not answer"),
        (
            "echo 506 Cannot talk to daemon; exit 1",
            "chronyc says '506 Cannot talk to daemon', expected fourteen fields",
        ),
        ("head -c 60000 /dev/zero", f"chronyc says {60 * chr(0)!r}, expected fourteen fields"),
        ("sleep 2 & exit 0", "chronyd does not answer"),
    ],
)
async def test_a_chronyc_that_fails_is_an_unusable_source(script: str, why: str) -> None:
    assert await Chrony(program="/bin/sh", options=("-c", script)).ask() == Unusable(why)


@pytest.mark.parametrize("script", ["exec sleep 1000", "exec cat /dev/zero"])
async def test_a_chronyc_that_hangs_or_never_stops_talking_is_ended(script: str) -> None:
    clock = MeasuredClock((Chrony(program="/bin/sh", options=("-c", script)),), ask_timeout_s=0.1)

    await clock.measure()

    assert clock.answers["chrony"] == Unusable("no answer within 0.1 s")


# NTP servers

NONCE = b"\x01\x02\x03\x04\x05\x06\x07\x08"
NTP_1900_S = 2_208_988_800
SENT = HostTime(1_795_000_000 * S, 1000 * S)


def reply(
    *,
    leap: int = 0,
    mode: int = 4,
    stratum: int = 2,
    root_delay_s: float = 0.020,
    root_dispersion_s: float = 0.003,
    reference: bytes = b"\xc0\x00\x02\x01",
    origin: bytes = NONCE,
    received_s: float = 1_795_000_000.010,
    sent_s: float = 1_795_000_000.010,
) -> bytes:
    def stamp(at_s: float) -> bytes:
        return struct.pack("!II", int(at_s + NTP_1900_S) % 2**32, int(at_s % 1 * 2**32))

    head = struct.pack("!BBbbII", leap << 6 | 4 << 3 | mode, stratum, 6, -20, *_short(root_delay_s, root_dispersion_s))
    return head + reference + stamp(received_s) + origin + stamp(received_s) + stamp(sent_s)


def _short(*seconds: float) -> tuple[int, ...]:
    return tuple(int(s * 2**16) for s in seconds)


def answered(data: bytes, elapsed_ns: int = 20 * MS) -> Claim | Unusable:
    return sntp_claim("sntp 192.0.2.1", data, NONCE, SENT, elapsed_ns)


def test_a_servers_bound_is_offset_half_the_round_trip_dispersion_and_half_the_delay() -> None:
    found = answered(reply(received_s=1_795_000_005.010, sent_s=1_795_000_005.010))

    assert isinstance(found, Claim)
    assert found.offset_ns == pytest.approx(5 * S, abs=2000)
    assert found.uncertainty_ns == pytest.approx((10 + 3 + 10) * MS, abs=50_000)
    assert found.voice == "sntp 192.0.2.1"


def test_the_servers_seconds_may_wrap_round() -> None:
    eve = HostTime((2**32 - NTP_1900_S) * S - S, 1000 * S)
    wrapped = 2**32 - NTP_1900_S + 4.0

    found = sntp_claim("s", reply(received_s=wrapped, sent_s=wrapped), NONCE, eve, 20 * MS)

    assert isinstance(found, Claim)
    assert found.offset_ns == pytest.approx(5 * S - 10 * MS, abs=2000)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (reply(leap=3), "the server is not synchronised itself"),
        (reply(leap=3, stratum=0), "the server is not synchronised itself"),
        (reply(stratum=0), "the server is not synchronised itself"),
        (reply(stratum=16), "stratum 16 is not from 1 to 15"),
        (reply(origin=b"\0" * 8), "the reply is not to our question"),
        (reply(mode=3), "the reply has mode 3, expected 4"),
        (reply(sent_s=-NTP_1900_S), "the reply has no time in it"),
        (reply(sent_s=1_795_000_001.0), "the server says it took longer to answer than the answer took"),
        (reply(sent_s=1_795_000_000.0), "the server says it took longer to answer than the answer took"),
        (reply()[:47], "the reply has 47 bytes, expected 48"),
        (b"", "the reply has 0 bytes, expected 48"),
    ],
)
def test_a_reply_that_cannot_be_believed_is_not_taken(data: bytes, why: str) -> None:
    assert answered(data) == Unusable(why)


@pytest.mark.parametrize("code", [b"RATE", b"DENY", b"RSTR"])
def test_a_kiss_of_death_pauses_the_server_for_an_hour(code: bytes) -> None:
    found = answered(reply(leap=3, stratum=0, reference=code))

    assert found == Unusable(f"asks to be left alone ({code.decode()})", 3600)


@given(st.binary(max_size=60), st.integers(0, 10 * S))
def test_garbage_from_a_server_is_an_unusable_source_and_never_a_fault(data: bytes, elapsed_ns: int) -> None:
    found = answered(data[:24] + NONCE + data[32:], elapsed_ns)

    assert isinstance(found, Unusable) or found.uncertainty_ns >= 0


async def test_a_name_that_is_nobodys_is_an_unusable_source() -> None:
    answer = await Sntp(NtpServer("a" * 70 + ".invalid")).ask()

    assert isinstance(answer, Unusable)
    assert answer.why.startswith("cannot be asked: ")


class Spoofs(asyncio.DatagramProtocol):
    """A server whose every answer is preceded by one to a question that was not asked."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        now_s = host_time().realtime_ns / S
        self.transport.sendto(reply(received_s=now_s + 3600, sent_s=now_s + 3600), addr)
        self.transport.sendto(reply(origin=data[40:48], received_s=now_s, sent_s=now_s), addr)


async def test_an_answer_to_another_question_is_passed_over() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Spoofs, local_addr=("127.0.0.1", 0))

    answer = await Sntp(NtpServer("127.0.0.1", transport.get_extra_info("sockname")[1])).ask()
    transport.close()

    assert isinstance(answer, Claim)
    assert answer.bound_ns < 1800 * S


async def test_a_server_that_never_answers_is_not_waited_for_long() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))

    answer = await Sntp(NtpServer("127.0.0.1", transport.get_extra_info("sockname")[1]), timeout_s=0.05).ask()
    transport.close()

    assert answer == Unusable("no answer within 0.05 s")


@pytest.mark.parametrize(
    ("text", "server", "shown"),
    [
        ("ntp.example.org", NtpServer("ntp.example.org"), "ntp.example.org"),
        ("ntp.example.org:1123", NtpServer("ntp.example.org", 1123), "ntp.example.org:1123"),
        (" 192.0.2.1 ", NtpServer("192.0.2.1"), "192.0.2.1"),
        ("2001:db8::1", NtpServer("2001:db8::1"), "2001:db8::1"),
        ("[2001:db8::1]", NtpServer("2001:db8::1"), "2001:db8::1"),
        ("[2001:db8::1]:1123", NtpServer("2001:db8::1", 1123), "[2001:db8::1]:1123"),
    ],
)
def test_a_server_is_written_as_people_write_it(text: str, server: NtpServer, shown: str) -> None:
    assert NtpServer.parse(text) == server
    assert str(server) == shown


@pytest.mark.parametrize("text", ["", ":123", "host:", "host:0", "host:65536", "host:ntp", "a b", "http://host"])
def test_what_is_no_server_is_refused_with_its_value(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        NtpServer.parse(text)

    assert repr(text) in str(refused.value)


def test_a_server_that_is_configured_twice_has_one_voice() -> None:
    server = NtpServer("192.0.2.1")

    assert [source.name for source in usual_sources((server, server))] == ["kernel", "chrony", "sntp 192.0.2.1"]


# Rehearsals


def test_a_rehearsal_clock_shows_the_same_readings_moved() -> None:
    real = FixedClock(CUTOFF, timedelta(milliseconds=50), synchronised=False, source="chrony")

    reading = OffsetClock(real, timedelta(days=-1)).read()

    assert reading.midpoint == CUTOFF - timedelta(days=1)
    assert reading.bound == timedelta(milliseconds=50)
    assert reading.source == "chrony (rehearsal)"
    assert not reading.synchronised


def test_a_fixed_clock_stands_still_until_it_is_set() -> None:
    clock = FixedClock(CUTOFF)

    first, second = clock.read(), clock.read()
    clock.set(datetime(2026, 11, 24, 18, 0, tzinfo=ROME), timedelta(seconds=1))

    assert first == second
    assert first.earliest == first.latest == CUTOFF
    assert clock.read().earliest == datetime(2026, 11, 24, 16, 59, 59, tzinfo=UTC)


def test_a_fixed_clock_is_not_set_to_an_instant_without_a_timezone() -> None:
    with pytest.raises(ValueError, match="aware"):
        FixedClock(CUTOFF.replace(tzinfo=None))


# What `mensa clock` prints


def printed(report: object) -> str:
    screen = io.StringIO()
    Console(file=screen, width=120).print(report)
    return screen.getvalue()


async def test_the_report_says_time_bound_source_and_what_each_source_says() -> None:
    machine = Machine()
    sources = (
        Says("kernel", machine, silent="not synchronised: maxerror is 16 s"),
        Says("chrony", machine, offset_ms=1, uncertainty_ms=4),
        Says("sntp 192.0.2.1", machine, offset_ms=2, uncertainty_ms=30),
        Says("sntp 192.0.2.2", machine, offset_ms=5000, uncertainty_ms=30),
    )

    report = await describe(MeasuredClock(sources, now=machine), limit=LIMIT, timezone=ROME)

    assert json.loads(json.dumps(report.as_json())) == {
        "local": "2026-11-24T09:30:00.000+01:00",
        "timezone": "Europe/Rome",
        "earliest": "2026-11-24T08:29:59.995000+00:00",
        "latest": "2026-11-24T08:30:00.005000+00:00",
        "synchronised": True,
        "why": "",
        "source": "chrony",
        "bound_ms": 5.0,
        "limit_ms": 2000.0,
        "rehearsal_offset_s": 0.0,
        "last_step_ms": None,
        "sources": [
            {
                "name": "kernel",
                "stance": "unusable",
                "offset_ms": None,
                "uncertainty_ms": None,
                "why": "not synchronised: maxerror is 16 s",
            },
            {"name": "chrony", "stance": "trusted", "offset_ms": 1.0, "uncertainty_ms": 4.0, "why": ""},
            {"name": "sntp 192.0.2.1", "stance": "agrees", "offset_ms": 2.0, "uncertainty_ms": 30.0, "why": ""},
            {"name": "sntp 192.0.2.2", "stance": "outvoted", "offset_ms": 5000.0, "uncertainty_ms": 30.0, "why": ""},
        ],
    }
    assert printed(report).splitlines()[:2] == [
        "Tue 24 Nov 2026 09:30:00.000 Europe/Rome ± 5.0 ms",
        "synchronised by chrony",
    ]


async def test_the_report_of_an_unsynchronised_rehearsal_says_why_and_by_how_much() -> None:
    machine = Machine()
    clock = MeasuredClock((Says("chrony", machine), Says("sntp 192.0.2.1", machine, offset_ms=5000)), now=machine)
    machine.step(3)
    clock.watch()

    report = await describe(clock, limit=LIMIT, timezone=ROME, rehearsal_offset=timedelta(hours=-1))

    text = printed(report)
    assert "08:30:03.000 Europe/Rome ± 2000.0 ms" in text
    assert "not synchronised: the sources contradict each other and there is no majority" in text
    assert "rehearsing: -3600 s from the real time" in text
    assert "the system clock was stepped by +3000.0 ms" in text
    assert [source.stance for source in report.sources] == ["contradicts", "contradicts"]
    assert report.as_json()["bound_ms"] is None


def test_a_claim_that_has_aged_stays_about_the_same_source() -> None:
    young = claim("chrony", 0, 10)

    assert young.aged(HostTime(0, 0)) == young
    assert young.aged(HostTime(S, S)) == replace(young, uncertainty_ns=10 * MS + 50_000, at=HostTime(S, S))
