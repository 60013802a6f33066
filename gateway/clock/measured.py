"""The clock of the service: asks the sources in the background, keeps the last good measurement, answers at once."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from core.clock import Reading
from gateway.clock.claims import Claim, Disagreement, HostTime, Trusted, Unmeasured, Verdict, elect
from gateway.clock.sources import Source, Unusable, host_time

# The shortest interval at which NTP servers like to be asked (RFC 5905: minpoll 6 is 64 s).
POLL_S = 64.0

# After a step the sources are asked at once, but a clock that is stepped again and again must not pester the servers.
REPOLL_MIN_S = 15.0

# How often we look whether the clock was stepped; `read` sees a step at once all the same.
STEP_WATCH_S = 1.0

# What two readings of the clocks may differ by without anybody having set one; a leap second is a hundred times that.
STEP_MIN_NS = 10_000_000

# A source has this long for its whole answer, name look-up included.
ASK_TIMEOUT_S = 5.0

# An older claim no longer counts when the sources are heard against each other: chrony may have slewed since then.
COUNTS_FOR_NS = 900 * 1_000_000_000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ClockState:
    """A reading for one town, and why it is not synchronised (empty when it is); `bound_ns` is None when unknown."""

    reading: Reading
    bound_ns: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """CLOCK_REALTIME was set by somebody: `by_ns` forward (back: negative), noticed at `noticed`."""

    by_ns: int
    noticed: HostTime


class MeasuredClock:
    """One per process. `read` and `state` never wait; `measure` asks every source once; `run` goes on doing that.

    What was measured lies in one attribute that is replaced whole, so other threads may read too.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        now: Callable[[], HostTime] = host_time,
        poll_s: float = POLL_S,
        repoll_min_s: float = REPOLL_MIN_S,
        ask_timeout_s: float = ASK_TIMEOUT_S,
    ) -> None:
        self._sources = tuple(sources)
        self._now = now
        self._poll_s = poll_s
        self._repoll_min_s = repoll_min_s
        self._ask_timeout_s = ask_timeout_s
        self._claims: dict[str, Claim] = {}
        self._answers: dict[str, Claim | Unusable] = {}
        self._paused_until_ns: dict[str, int] = {}
        self._verdict: Verdict = Unmeasured()
        self._watched = now()
        self._last_step: Step | None = None
        self._told: dict[str, bool] = {}

    @property
    def verdict(self) -> Verdict:
        return self._verdict

    @property
    def answers(self) -> Mapping[str, Claim | Unusable]:
        """What each source said last, by its name, in the order of the sources."""
        return {source.name: self._answers.get(source.name, Unusable("not asked yet")) for source in self._sources}

    @property
    def last_step(self) -> Step | None:
        return self._last_step

    def read(self, limit: timedelta) -> Reading:
        """The time now, give or take its bound; when that is unknown or above `limit`, give or take `limit` (R10)."""
        return self.state(limit).reading

    def state(self, limit: timedelta) -> ClockState:
        """The reading, and why it is not synchronised."""
        now, verdict = self._now(), self._verdict
        limit_ns = limit // timedelta(microseconds=1) * 1000
        match verdict:
            case Trusted(claim):
                bound_ns = claim.aged(now).bound_ns
                if bound_ns <= limit_ns:
                    return ClockState(_reading(now, bound_ns, claim.source, synchronised=True), bound_ns)
                why = f"the bound of {_ms(bound_ns)} by {claim.source} is larger than the limit of {_ms(limit_ns)}"
                return ClockState(_reading(now, limit_ns, claim.source, synchronised=False), bound_ns, why)
            case Disagreement(claims):
                said = ", ".join(
                    f"{c.source} says {c.offset_ns / 1e9:+.3f} s ± {_ms(c.uncertainty_ns)}" for c in claims
                )
                why = f"the sources contradict each other and there is no majority: {said}"
            case Unmeasured():
                why = "no source of time has given a usable answer"
        return ClockState(_reading(now, limit_ns, "system", synchronised=False), None, why)

    async def measure(self) -> None:
        """Ask every source once, all at the same time, and decide anew whom to believe."""
        for source, answer in zip(self._sources, await asyncio.gather(*map(self._ask, self._sources)), strict=True):
            self._answers[source.name] = answer
            if isinstance(answer, Claim):
                self._claims[source.name] = answer

        now = self._now()
        counting = [c for c in self._claims.values() if now.monotonic_ns - c.at.monotonic_ns <= COUNTS_FOR_NS]
        # When all are silent, what was believed last stands and grows wider.
        if counting:
            before, self._verdict = self._verdict, elect(claim.aged(now) for claim in counting)
            _log_verdict(before, self._verdict)

    async def _ask(self, source: Source) -> Claim | Unusable:
        now_ns = self._now().monotonic_ns
        if now_ns < self._paused_until_ns.get(source.name, now_ns):
            return self.answers[source.name]
        try:
            async with asyncio.timeout(self._ask_timeout_s):
                answer = await source.ask()
        except TimeoutError:
            answer = Unusable(f"no answer within {self._ask_timeout_s:g} s")
        except Exception as fault:
            # A clock that fails must not take the telephone down with it: the bound grows, and health says so.
            log.exception("clock_source_failed", source=source.name)
            answer = Unusable(f"failed: {type(fault).__name__}")
        if isinstance(answer, Unusable) and answer.pause_s:
            self._paused_until_ns[source.name] = now_ns + int(answer.pause_s * 1e9)
        return answer

    def watch(self) -> Step | None:
        """The step by which the clock was set since the last look, if it was."""
        now, before = self._now(), self._watched
        self._watched = now
        by_ns = now.stepped_since(before)
        if abs(by_ns) - now.blur_ns - before.blur_ns < STEP_MIN_NS:
            return None
        self._last_step = Step(by_ns, now)
        log.warning("clock_stepped", by_s=round(by_ns / 1e9, 3))
        return self._last_step

    def tell(self, limits: Mapping[str, timedelta]) -> None:
        """Log each town whose clock became unsynchronised, or synchronised again, since the last call."""
        for town, limit in limits.items():
            state = self.state(limit)
            if state.reading.synchronised != self._told.get(town, True):
                if state.reading.synchronised:
                    log.info("clock_synchronised", town=town, source=state.reading.source)
                else:
                    log.warning("clock_unsynchronised", town=town, why=state.why)
                self._told[town] = state.reading.synchronised

    async def run(self, limits: Callable[[], Mapping[str, timedelta]] = dict) -> None:
        """Measure until cancelled; `limits` are the towns' own, asked anew each time since an edit may change them."""
        loop = asyncio.get_running_loop()
        while True:
            polled_s = loop.time()
            await self.measure()
            due_s = polled_s + self._poll_s
            while loop.time() < due_s:
                self.tell(limits())
                await asyncio.sleep(min(STEP_WATCH_S, max(due_s - loop.time(), 0)))
                if self.watch():
                    due_s = min(due_s, polled_s + self._repoll_min_s)


@dataclass(frozen=True, slots=True)
class TownClock:
    """The measured clock with one town's limit (`clock.bound_max_ms`): the desks' port."""

    clock: MeasuredClock
    limit: timedelta

    def read(self) -> Reading:
        return self.clock.read(self.limit)


def _reading(now: HostTime, bound_ns: int, source: str, *, synchronised: bool) -> Reading:
    # A datetime has microseconds: both ends are rounded outwards.
    earliest_us = (now.realtime_ns - bound_ns) // 1000
    latest_us = -(-(now.realtime_ns + bound_ns) // 1000)
    return Reading(
        _EPOCH + timedelta(microseconds=earliest_us), _EPOCH + timedelta(microseconds=latest_us), source, synchronised
    )


def _ms(duration_ns: int) -> str:
    return f"{duration_ns / 1e6:.1f} ms"


def _log_verdict(before: Verdict, after: Verdict) -> None:
    """One line when it changes whom we believe or who contradicts, none while it stays."""
    old_source, old_doubted = _standing(before)
    source, doubted = _standing(after)
    if source and source != old_source:
        log.info("clock_source", source=source)
    if doubted and doubted != old_doubted:
        log.warning("clock_sources_contradict", trusted=source or "nobody", doubted=sorted(doubted))


def _standing(verdict: Verdict) -> tuple[str, frozenset[str]]:
    match verdict:
        case Trusted(claim, _, outvoted):
            return claim.source, frozenset(other.source for other in outvoted)
        case Disagreement(claims):
            return "", frozenset(claim.source for claim in claims)
        case Unmeasured():
            return "", frozenset()
