"""What `mensa clock` prints: the time, its bound, where it comes from and what each source says."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from core.clock import Reading
from gateway.clock.claims import Claim, Trusted
from gateway.clock.measured import MeasuredClock
from gateway.clock.rehearsal import moved
from gateway.clock.sources import Unusable


@dataclass(frozen=True, slots=True)
class SourceReport:
    """One source's own reading: `stance` is trusted, agrees, outvoted, contradicts or unusable; then `why` says why."""

    name: str
    stance: str
    offset_ms: float | None = None
    uncertainty_ms: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class ClockReport:
    """The clock as one town sees it; `bound_ms` is what was measured, the reading's is the limit if that is larger."""

    reading: Reading
    timezone: ZoneInfo
    limit: timedelta
    bound_ms: float | None
    why: str
    sources: tuple[SourceReport, ...]
    rehearsal_offset: timedelta
    last_step_ms: float | None

    @property
    def local(self) -> datetime:
        return self.reading.midpoint.astimezone(self.timezone)

    def as_json(self) -> dict[str, object]:
        """For `--json`: instants in ISO 8601, durations in milliseconds, null where something is unknown."""
        return {
            "local": self.local.isoformat(timespec="milliseconds"),
            "timezone": str(self.timezone),
            "earliest": self.reading.earliest.isoformat(),
            "latest": self.reading.latest.isoformat(),
            "synchronised": self.reading.synchronised,
            "why": self.why,
            "source": self.reading.source,
            "bound_ms": self.bound_ms,
            "limit_ms": self.limit / timedelta(milliseconds=1),
            "rehearsal_offset_s": self.rehearsal_offset.total_seconds(),
            "last_step_ms": self.last_step_ms,
            "sources": [
                {
                    "name": source.name,
                    "stance": source.stance,
                    "offset_ms": source.offset_ms,
                    "uncertainty_ms": source.uncertainty_ms,
                    "why": source.why,
                }
                for source in self.sources
            ],
        }

    def __rich__(self) -> RenderableType:
        bound_ms = self.reading.bound / timedelta(milliseconds=1)
        lines = [
            Text.assemble(
                (f"{self.local:%a %d %b %Y %H:%M:%S.%f}"[:-3], "bold"), f" {self.timezone} ± {bound_ms:.1f} ms"
            ),
            Text(f"synchronised by {self.reading.source}", "green")
            if self.reading.synchronised
            else Text(f"not synchronised: {self.why}; taking ± {bound_ms:.1f} ms", "bold red"),
        ]
        if self.rehearsal_offset:
            lines.append(
                Text(f"rehearsing: {self.rehearsal_offset.total_seconds():+.0f} s from the real time", "yellow")
            )
        if self.last_step_ms is not None:
            lines.append(Text(f"the system clock was stepped by {self.last_step_ms:+.1f} ms", "yellow"))

        table = Table("source", "", "offset ms", "± ms", "", box=None, pad_edge=False, header_style="dim")
        for column in (2, 3):
            table.columns[column].justify = "right"
        styles = {"trusted": "green", "agrees": "green", "outvoted": "red", "contradicts": "red", "unusable": "dim"}
        for source in self.sources:
            figures = (_figure(source.offset_ms, "+.3f"), _figure(source.uncertainty_ms, ".3f"))
            table.add_row(source.name, source.stance, *figures, source.why, style=styles[source.stance])
        return Group(*lines, Text(), table)


async def describe(
    clock: MeasuredClock, *, limit: timedelta, timezone: ZoneInfo, rehearsal_offset: timedelta = timedelta(0)
) -> ClockReport:
    """Ask every source once, then report."""
    await clock.measure()
    return report(clock, limit=limit, timezone=timezone, rehearsal_offset=rehearsal_offset)


def report(
    clock: MeasuredClock, *, limit: timedelta, timezone: ZoneInfo, rehearsal_offset: timedelta = timedelta(0)
) -> ClockReport:
    """What is known already, without asking anybody: for health and the operator's page."""
    state = clock.state(limit)
    return ClockReport(
        reading=moved(state.reading, rehearsal_offset) if rehearsal_offset else state.reading,
        timezone=timezone,
        limit=limit,
        bound_ms=None if state.bound_ns is None else round(state.bound_ns / 1e6, 3),
        why=state.why,
        sources=tuple(_source(clock, name, answer) for name, answer in clock.answers.items()),
        rehearsal_offset=rehearsal_offset,
        last_step_ms=None if clock.last_step is None else round(clock.last_step.by_ns / 1e6, 3),
    )


def _source(clock: MeasuredClock, name: str, answer: Claim | Unusable) -> SourceReport:
    if isinstance(answer, Unusable):
        return SourceReport(name, "unusable", why=answer.why)
    match clock.verdict:
        case Trusted(claim) if claim.source == name:
            stance = "trusted"
        case Trusted(claim):
            stance = "agrees" if answer.aged(claim.at).agrees_with(claim) else "outvoted"
        case _:
            stance = "contradicts"
    return SourceReport(name, stance, round(answer.offset_ns / 1e6, 3), round(answer.uncertainty_ns / 1e6, 3))


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
