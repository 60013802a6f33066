"""The figures Prometheus gets."""

from gateway.metrics import Metrics


def test_two_gateways_in_one_process_do_not_share_their_figures() -> None:
    one, other = Metrics(), Metrics()

    one.count_events_dropped(3)

    assert one.registry.get_sample_value("mensa_call_events_dropped_total") == 3
    assert other.registry.get_sample_value("mensa_call_events_dropped_total") == 0


def test_what_is_watched_is_asked_for_when_somebody_looks() -> None:
    metrics, sessions = Metrics(), [1]
    metrics.watch("agi_sessions", "Calls that this gateway guides", lambda: sessions[0])

    sessions[0] = 40

    assert b"mensa_agi_sessions 40.0" in metrics.text()


def test_watching_anew_replaces_what_was_watched() -> None:
    metrics = Metrics()
    metrics.watch("ami_connected", "Whether Asterisk tells of its calls", lambda: 0)

    metrics.watch("ami_connected", "Whether Asterisk tells of its calls", lambda: 1)

    assert b"mensa_ami_connected 1.0" in metrics.text()
