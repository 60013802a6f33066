"""What Prometheus may ask: counted where it happens, named `mensa_…`, never by caller."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ivr.calls import OUTCOMES, REFUSALS, CallRecord

# An errand by a recognised number takes about twenty seconds, one by code and PIN twice that; a call ends after ten minutes.
CALL_SECONDS = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600)
# A day is closed within a second of its cutoff, half a minute later where a gateway was killed, hours later after a downtime.
CLOSING_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 3_600, 86_400)


class Metrics:
    """The figures of one process, in a registry of their own, so that two gateways in one test do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("mensa_calls", "Calls that ended", ("town", "outcome"), registry=self.registry)
        self._refusals = Counter(
            "mensa_refusals", "Changes asked for by phone and refused", ("town", "outcome"), registry=self.registry
        )
        self._seconds = Histogram(
            "mensa_call_seconds", "Seconds from answer to end", buckets=CALL_SECONDS, registry=self.registry
        )
        self._left = Counter("mensa_calls_left_by_gateway", "Calls in which a gateway died", registry=self.registry)
        self._events_dropped = Counter(
            "mensa_call_events_dropped", "Notes about calls that were never stored", registry=self.registry
        )
        self._note_faults = Counter(
            "mensa_call_note_faults", "Notes about calls that could not even be taken", registry=self.registry
        )
        self._closings = Counter("mensa_closings", "Schools' days that this gateway closed", registry=self.registry)
        self._closing_delay = Histogram(
            "mensa_closing_delay_seconds",
            "Seconds from a cutoff to its closing",
            buckets=CLOSING_SECONDS,
            registry=self.registry,
        )
        self._meals = Counter("mensa_meals", "Meals of the days that this gateway closed", registry=self.registry)
        self._gauges: dict[str, Gauge] = {}

    def watch(self, name: str, means: str, value: Callable[[], float]) -> None:
        """Show what `value` returns whenever somebody asks, as `mensa_<name>`; a second time replaces the first."""
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(f"mensa_{name}", means, registry=self.registry)
        gauge.set_function(value)

    def count_call(self, record: CallRecord) -> None:
        """Count a call that is over."""
        self._calls.labels(record.town or "", _known(record.outcome)).inc()
        if record.answered is not None:
            self._seconds.observe(record.seconds)
        if record.gateway_died:
            self._left.inc()

    def count_outcome(self, town: str | None, outcome: str) -> None:
        """Count the answer to one request of a call, where it is a refusal."""
        if outcome in REFUSALS:
            self._refusals.labels(town or "", outcome).inc()

    def count_events_dropped(self, events: int) -> None:
        self._events_dropped.inc(events)

    def count_note_fault(self) -> None:
        self._note_faults.inc()

    def count_closing(self, meals: int, late_s: float) -> None:
        """Count a school's day that this gateway has made final, `late_s` after its cutoff."""
        self._closings.inc()
        self._meals.inc(meals)
        self._closing_delay.observe(late_s)

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self.registry)


def _known(outcome: str | None) -> str:
    # Each new label value is a new series for ever, so only the words of interfaces.md become one.
    return outcome if outcome is not None and outcome in OUTCOMES else "other"
