"""One call has one record, whatever came first and whatever came twice."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ivr.calls import FIELDS, OUTCOMES, CallEvent, Step, fold_call, permitted_fields

EVENING = datetime(2026, 11, 23, 17, 31, tzinfo=UTC)
TEXTS = st.sampled_from(["", "1", "one", "two", "it", "en", "4712", "4712-0815", "pending", "16", "-"])


@st.composite
def notes(draw: st.DrawFn) -> CallEvent:
    step = draw(st.sampled_from(Step))
    fields = {
        name: draw(st.sampled_from(sorted(OUTCOMES)) if name == "outcome" else TEXTS)
        for name in sorted(FIELDS[step])
        if draw(st.booleans())
    }
    # Few instants, so that many notes share one.
    at = EVENING + timedelta(seconds=draw(st.integers(0, 5)))
    town, number = draw(st.sampled_from([None, "roccachiara"])), draw(st.sampled_from([None, "withheld"]))
    return CallEvent("1795454400.7", at, step, town, number, permitted_fields(step, fields)[0])


@given(st.lists(notes(), min_size=1, max_size=12), st.data())
def test_the_order_of_the_notes_does_not_matter_nor_that_some_came_twice(
    events: list[CallEvent], data: st.DataObject
) -> None:
    twice = data.draw(st.lists(st.sampled_from(events)))
    shuffled = data.draw(st.permutations([*events, *twice]))

    assert fold_call(shuffled) == fold_call(events)


@given(st.lists(notes(), min_size=1, max_size=12))
def test_a_call_has_an_outcome_as_soon_as_it_is_over(events: list[CallEvent]) -> None:
    record = fold_call(events)

    if record.ended is not None:
        assert record.outcome in OUTCOMES
    if record.gateway_died:
        assert record.ended is not None


@given(st.lists(notes(), min_size=1, max_size=12))
def test_a_call_never_lasts_less_than_nothing(events: list[CallEvent]) -> None:
    record = fold_call(events)

    assert record.seconds >= 0
    assert record.steps <= len(events)
