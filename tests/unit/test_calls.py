"""What the log says of one call, from what was noted about it."""

from datetime import UTC, datetime, timedelta

import pytest

from ivr.calls import FIELDS, OUTCOMES, REFUSALS, CallEvent, Step, Value, fold_call, known_step, permitted_fields

EVENING = datetime(2026, 11, 23, 17, 31, tzinfo=UTC)
CALL = "1795454400.7"
TOWN = "roccachiara"
NUMBER = "+3903*****01"


def note(step: Step, second: float, **fields: Value) -> CallEvent:
    kept, dropped = permitted_fields(step, fields)
    assert not dropped
    return CallEvent(CALL, EVENING + timedelta(seconds=second), step, TOWN, NUMBER, kept)


RINGING = note(Step.RINGING, 0, node="one", dialled="+390350000100")
TAKEN = note(Step.TAKEN, 0.1, node="one", language="it")
ANSWERED = note(Step.ANSWERED, 0.2)
IDENTIFIED = note(Step.IDENTIFIED, 0.3, how="number", pupils=2)
FIRST_QUESTION = note(Step.ASKED, 8, heard="state offer-cancel", key="1")
SECOND_QUESTION = note(Step.ASKED, 14, heard="confirm-cancel confirm-keys", key="1")
CANCELLED = note(Step.OUTCOME, 14.1, pupil=4, outcome="cancelled", receipt="4712")
FINISHED = note(Step.FINISHED, 22, outcome="cancelled")
LAST_WORDS = note(Step.LAST_WORDS, 22.1, started="1", saved="4712", outcome="cancelled", ended="1", cause="16")
HUNG_UP = note(Step.HUNG_UP, 22.2, cause="16", cause_text="Normal Clearing")
WHOLE = (
    RINGING,
    TAKEN,
    ANSWERED,
    IDENTIFIED,
    FIRST_QUESTION,
    SECOND_QUESTION,
    CANCELLED,
    FINISHED,
    LAST_WORDS,
    HUNG_UP,
)
# What is left of that call when the gateway is killed right after the confirming key.
UNTIL_THE_KILL = (RINGING, TAKEN, ANSWERED, IDENTIFIED, FIRST_QUESTION)


def test_a_whole_call_is_one_record() -> None:
    record = fold_call(WHOLE)

    assert (record.call, record.town, record.number, record.dialled) == (CALL, TOWN, NUMBER, "+390350000100")
    assert (record.started, record.answered, record.ended) == (RINGING.at, ANSWERED.at, HUNG_UP.at)
    assert (record.identified, record.pupils, record.language, record.node) == ("number", 2, "it", "one")
    assert (record.outcome, record.receipts, record.steps) == ("cancelled", ("4712",), 2)
    assert (record.cause, record.cause_text, record.seconds) == (16, "Normal Clearing", 22)
    assert (record.saved, record.fallback, record.gateway_died) == ("4712", None, False)


def test_a_call_that_lasts_has_neither_end_nor_outcome() -> None:
    record = fold_call(UNTIL_THE_KILL)

    assert record.ended is None
    assert record.outcome is None
    assert not record.gateway_died


def test_a_call_in_which_the_gateway_died_failed_and_says_what_the_caller_heard() -> None:
    words = note(Step.LAST_WORDS, 30, started="1", fallback="fallback-nothing-changed", cause="16")

    record = fold_call((*UNTIL_THE_KILL, words))

    assert record.gateway_died
    assert record.outcome == "failed"
    assert record.fallback == "fallback-nothing-changed"
    assert record.ended == words.at


def test_what_the_dialplan_knew_counts_where_the_gateway_died_after_storing() -> None:
    words = note(
        Step.LAST_WORDS, 30, started="1", saved="4712-0815", outcome="cancelled", fallback="fallback-saved-all"
    )

    record = fold_call((*UNTIL_THE_KILL, words))

    assert record.gateway_died
    assert record.outcome == "cancelled"
    assert record.receipts == ("4712", "0815")


def test_nothing_is_known_of_a_change_that_was_being_stored_when_the_gateway_died() -> None:
    words = note(Step.LAST_WORDS, 30, started="1", saved="pending", fallback="fallback-perhaps")

    record = fold_call((*UNTIL_THE_KILL, words))

    assert (record.outcome, record.saved, record.receipts) == ("failed", "pending", ())


def test_a_call_of_which_only_the_hangup_handler_spoke_has_its_record() -> None:
    record = fold_call(
        [note(Step.LAST_WORDS, 30, started="1", fallback="fallback-nothing-changed", dialled="+390350000100")]
    )

    assert (record.town, record.number, record.dialled) == (TOWN, NUMBER, "+390350000100")
    assert record.outcome == "failed"
    assert record.gateway_died


def test_a_call_that_no_gateway_took_failed() -> None:
    words = note(Step.LAST_WORDS, 9, fallback="fallback-nothing-changed", cause="16")

    record = fold_call((RINGING, ANSWERED, words, HUNG_UP))

    assert record.outcome == "failed"
    assert not record.gateway_died


def test_a_call_with_a_fault_failed_though_the_gateway_lives() -> None:
    words = note(Step.LAST_WORDS, 30, started="1", fallback="fallback-nothing-changed")

    record = fold_call((*UNTIL_THE_KILL, note(Step.FAULT, 9, fault="StoreBusyError"), words))

    assert (record.outcome, record.gateway_died) == ("failed", False)


def test_a_caller_who_was_gone_before_anybody_came_abandoned_the_call() -> None:
    record = fold_call((RINGING, note(Step.LAST_WORDS, 1, cause="0")))

    assert record.outcome == "abandoned"
    assert record.seconds == 0


def test_a_call_that_asterisk_lost_is_over_all_the_same() -> None:
    vanished = note(Step.VANISHED, 60)

    record = fold_call((*UNTIL_THE_KILL, vanished))

    assert (record.ended, record.outcome, record.gateway_died) == (vanished.at, "failed", True)


def test_the_hang_up_is_the_end_of_a_call_that_was_thought_to_have_vanished() -> None:
    record = fold_call((*UNTIL_THE_KILL, note(Step.VANISHED, 1), LAST_WORDS, HUNG_UP))

    assert record.ended == HUNG_UP.at


@pytest.mark.parametrize("how_it_ended", ["abandoned", "informed", "outside_window"])
def test_an_action_says_more_than_how_the_call_ended(how_it_ended: str) -> None:
    words = note(Step.LAST_WORDS, 30, started="1", outcome=how_it_ended, ended="1")

    assert fold_call((TAKEN, CANCELLED, words)).outcome == "cancelled"
    assert fold_call((TAKEN, words)).outcome == how_it_ended


def test_for_several_pupils_the_flows_own_word_counts() -> None:
    refused = note(Step.OUTCOME, 15, pupil=5, outcome="no_service")

    record = fold_call((TAKEN, CANCELLED, refused, FINISHED))

    assert record.outcome == "cancelled"
    assert record.receipts == ("4712",)


def test_R18_a_change_completed_after_the_hang_up_is_the_outcome() -> None:
    words = note(Step.LAST_WORDS, 20, started="1", outcome="abandoned")
    completed = note(Step.COMPLETED, 20.1, pupil=4, outcome="cancelled", receipt="4712")

    record = fold_call((TAKEN, ANSWERED, note(Step.FINISHED, 19, outcome="abandoned"), words, completed))

    assert record.outcome == "cancelled"
    assert record.receipts == ("4712",)
    assert not record.gateway_died


def test_the_language_is_the_one_that_was_chosen_last() -> None:
    assert fold_call((TAKEN, note(Step.LANGUAGE, 5, language="en"))).language == "en"


def test_a_record_is_of_one_call() -> None:
    other = CallEvent("1795454400.8", EVENING, Step.RINGING)

    with pytest.raises(ValueError, match="one call"):
        fold_call([RINGING, other])
    with pytest.raises(ValueError, match="one call"):
        fold_call([])


@pytest.mark.parametrize("name", ["pin", "code", "keys", "digits", "number", "caller", "name", "user_code"])
def test_no_step_has_a_field_for_what_must_not_be_logged(name: str) -> None:
    for step in Step:
        assert name not in FIELDS[step]
        kept, dropped = permitted_fields(step, {name: "4321"})
        assert kept == ()
        assert dropped == (name,)


@pytest.mark.parametrize("keyed", ["4321", "50004", "12", "a", 4321])
def test_what_cannot_be_a_key_of_a_menu_is_dropped(keyed: Value) -> None:
    kept, dropped = permitted_fields(Step.ASKED, {"heard": "enter-pin", "key": keyed})

    assert kept == (("heard", "enter-pin"),)
    assert dropped == ("key",)


@pytest.mark.parametrize("key", [*"0123456789*#", "-"])
def test_keys_of_menus_are_kept(key: str) -> None:
    assert permitted_fields(Step.ASKED, {"key": key}) == ((("key", key),), ())


def test_a_field_without_a_value_is_left_out_and_a_long_one_is_cut() -> None:
    kept, dropped = permitted_fields(Step.ASKED, {"heard": "x" * 1000, "day": None, "key": None})

    assert kept == (("heard", "x" * 300),)
    assert dropped == ()


def test_words_that_are_no_step_are_not_taken_for_one() -> None:
    assert known_step("ringing") is Step.RINGING
    assert known_step("RINGING") is None
    assert known_step("") is None


def test_every_step_says_which_fields_it_has() -> None:
    assert set(FIELDS) == set(Step)


def test_the_outcomes_are_those_of_the_interfaces() -> None:
    stated = """cancelled already_cancelled bland already_bland suspended already_suspended resumed not_suspended undone
        nothing_to_undo too_late outside_window no_service suspended_day cancelled_day too_far bland_limit
        not_identified locked abandoned informed failed"""

    assert set(stated.split()) == OUTCOMES
    assert set(stated.split()[10:17]) == REFUSALS
