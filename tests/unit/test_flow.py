"""The parents' line, one behaviour each; whole calls stand in tests/conversations and tests/property/test_every_call.py."""

from datetime import UTC, date, datetime, timedelta

import pytest

from core.access import Actor
from core.desk import Action, Bland, BookingDesk, Cancel, Request, Undo
from core.outcomes import CancelledDay
from core.ports import NothingStoredError
from core.window import Channel
from gateway.clock import FixedClock
from gateway.rehearsal import Rehearsed
from gateway.telephone import greeting_of
from ivr.explore import drive, play
from ivr.flow import Desks, complete, first_date, parents_line
from ivr.line import HungUp, Keys, Prompt
from ivr.pending import Pending
from ivr.terminal import ScriptedLine, SilentJournal
from tests.flow_bench import EVENING, OPEN_TOWN, TUESDAY, bench_at


class RecordingJournal:
    def __init__(self) -> None:
        self.notes: list[tuple[str, dict[str, str | int | bool | None]]] = []

    def note(self, event: str, **fields: str | int | bool | None) -> None:
        self.notes.append((event, fields))


def test_a_code_and_pin_never_reach_the_journal_not_even_keyed_out_of_habit_at_a_menu() -> None:
    town = OPEN_TOWN("esempio")
    journal = RecordingJournal()
    desks = Desks(town.desks.booking, town.desks.access, town.desks.kitchen, FixedClock(EVENING), lambda: "key")
    line = ScriptedLine(("5", "0", "0", "0", "3", "4", "7", "1", "2"))

    drive(parents_line(line, journal, greeting_of(town.municipality), desks, "+390350000202", "call"))

    digits = [str(fields["key"]) for event, fields in journal.notes if event == "asked" and fields.get("key")]
    assert "".join(digits).replace("-", "") not in {"50003", "4712", "500034712"}
    assert not any(key in "03457" for key in digits)


def test_a_fault_that_stored_nothing_leaves_the_earlier_receipt_with_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    town = OPEN_TOWN("esempio")
    desks = Desks(
        town.desks.booking, town.desks.access, town.desks.kitchen, FixedClock(EVENING), iter("abcdef").__next__
    )
    line = ScriptedLine(("1", "1", "3", "1", "1"))
    act_as_it_is = BookingDesk.act
    calls = 0

    async def full_the_second_time(self, *args):  # type: ignore[no-untyped-def]  # stands in for `act` as it is
        nonlocal calls
        calls += 1
        if calls == 2:
            raise NothingStoredError("the disk is full")
        return await act_as_it_is(self, *args)

    monkeypatch.setattr(BookingDesk, "act", full_the_second_time)

    with pytest.raises(NothingStoredError):
        drive(parents_line(line, SilentJournal(), greeting_of(town.municipality), desks, "+390350000202", "call"))

    assert line.saves[0] == line.saves[2] == "pending"
    assert line.saves[1] == line.saves[3] != ""


def test_R18_a_key_that_the_gateway_reads_only_after_the_hang_up_counts() -> None:
    bench = bench_at("evening")

    class LastMoment(ScriptedLine):
        async def ask(self, *prompts: Prompt, digits: int = 1) -> Keys:
            if any(each.id == "confirm-keys" for each in prompts):
                self._is_gone = True
                raise HungUp("1")
            return await super().ask(*prompts, digits=digits)

    line = LastMoment(("1",))

    word = drive(bench.start(line))

    assert word == "cancelled"
    assert line.saves[0] == "pending"
    assert line.saves[1]


def test_R20_completing_a_request_that_was_stored_already_is_the_same_change() -> None:
    town = OPEN_TOWN("esempio")
    desks = Desks(town.desks.booking, town.desks.access, town.desks.kitchen, FixedClock(EVENING), lambda: "key")
    line = ScriptedLine(("1", "1"))
    drive(parents_line(line, SilentJournal(), greeting_of(town.municipality), desks, "+390350000202", "call"))
    assert line.pending is not None

    [(_, again)] = drive(
        complete(Pending.parse(line.pending), town.desks.booking, town.desks.store.pupils, FixedClock(EVENING).read())
    )

    assert again.word == "cancelled"
    assert again.change.receipt == line.receipts[0]  # type: ignore[union-attr]  # cancelled, by the line above


def test_R18_completed_by_another_gateway_after_the_cutoff_the_key_still_counts_from_when_it_could_be_pressed() -> None:
    town = OPEN_TOWN("esempio")
    before = datetime(2026, 11, 24, 8, 29, 59, tzinfo=UTC)
    desks = Desks(town.desks.booking, town.desks.access, town.desks.kitchen, FixedClock(before), lambda: "key")
    line = ScriptedLine(("1", "x"))
    drive(parents_line(line, SilentJournal(), greeting_of(town.municipality), desks, "+390350000202", "call"))
    assert line.pending is not None

    after = FixedClock(before + timedelta(seconds=3)).read()
    [(_, outcome)] = drive(complete(Pending.parse(line.pending), town.desks.booking, town.desks.store.pupils, after))

    assert outcome.word == "cancelled"


class TakenBackElsewhere(ScriptedLine):
    """While the confirmation is being asked, another channel takes back the change it speaks of."""

    async def ask(self, *prompts: Prompt, digits: int = 1) -> Keys:
        if any(each.id == "confirm-undo" for each in prompts):
            act(self.town, "50003", "elsewhere", Undo())
        return await super().ask(*prompts, digits=digits)

    town: Rehearsed


def act(town: Rehearsed, code: str, key: str, *actions: Action) -> None:
    async def taken() -> str:
        pupil = await town.desks.pupil(code)
        assert pupil is not None
        actor = Actor(Channel.PORTAL, "portal", None, frozenset({pupil.id}))
        requests = [Request(pupil, action, f"{key}-{number}") for number, action in enumerate(actions)]
        await town.desks.booking.act(actor, requests, FixedClock(EVENING).read())
        return ""

    drive(taken())


@pytest.mark.parametrize("keys", [("5", "1", "x"), ("5", "1x")])
def test_R16_an_undo_takes_back_what_was_spoken_or_nothing(keys: tuple[str, ...]) -> None:
    town = OPEN_TOWN("esempio")
    act(town, "50003", "earlier", Bland(date(2026, 11, 26)), Cancel(TUESDAY))
    desks = Desks(town.desks.booking, town.desks.access, town.desks.kitchen, FixedClock(EVENING), lambda: "key")
    line = TakenBackElsewhere(keys)
    line.town = town

    word = drive(parents_line(line, SilentJournal(), greeting_of(town.municipality), desks, "+390350000202", "call"))

    assert word == "nothing_to_undo"
    assert line.receipts == ()


def test_R16_an_undo_left_with_the_line_names_the_change_that_was_spoken() -> None:
    town = OPEN_TOWN("esempio")
    act(town, "50003", "earlier", Bland(date(2026, 11, 26)), Cancel(TUESDAY))
    desks = Desks(town.desks.booking, town.desks.access, town.desks.kitchen, FixedClock(EVENING), lambda: "key")
    line = ScriptedLine(("5", "x"))
    drive(parents_line(line, SilentJournal(), greeting_of(town.municipality), desks, "+390350000202", "call"))
    act(town, "50003", "elsewhere", Undo())
    assert line.pending is not None

    [(_, outcome)] = drive(
        complete(Pending.parse(line.pending), town.desks.booking, town.desks.store.pupils, FixedClock(EVENING).read())
    )

    assert outcome.word == "nothing_to_undo"


def test_R31_a_key_that_is_not_offered_is_told_its_reason_then_what_is_offered() -> None:
    bench = bench_at("evening")

    call = play(bench.start, ("1", "1", "2", "x"))

    assert call.word == CancelledDay.word
    heard = call.line.heard
    assert heard.index("cancelled_day") < len(heard) - 1 - heard[::-1].index("offer-undo-cancel")


def test_R15_a_date_is_the_first_such_from_today_on() -> None:
    today = datetime(2026, 11, 23, tzinfo=UTC).date()

    assert str(first_date("2311", today)) == "2026-11-23"
    assert str(first_date("2211", today)) == "2027-11-22"
    assert str(first_date("2902", today)) == "2028-02-29"
    assert first_date("3002", today) is None
    assert first_date("12", today) is None
    assert first_date("1*11", today) is None


def test_silence_and_wrong_keys_are_counted_apart_and_the_third_of_either_ends_the_call() -> None:
    bench = bench_at("evening")

    mixed = play(bench.start, ("-", "7", "-", "7", "x"))
    wrong = play(bench.start, ("7", "9", "7"))

    assert "offer-office" not in mixed.line.heard
    assert wrong.line.heard[-2:] == ("offer-office", "goodbye")


def test_each_repetition_is_shorter_and_the_last_names_the_way_out() -> None:
    bench = bench_at("evening")

    heard = play(bench.start, ()).line.heard

    first, second = (index for index, each in enumerate(heard) if each == "no-key")
    assert first > second - first - 1 > 0
    assert "menu-help" in heard[second:]


def test_the_line_speaks_english_after_8() -> None:
    bench = bench_at("evening")

    line = ScriptedLine(("8", "x"))
    drive(bench.start(line))

    assert line.language == "en"


def test_R21_what_was_refused_for_a_sibling_is_not_done_because_the_others_was_confirmed() -> None:
    bench = bench_at("siblings")

    call = play(bench.start, ("9", "1", "1", "x"))

    # One of the two had cancelled before: only the other was named, and only the other is changed.
    assert [change.kind.value for change in bench.changes_of(call)] == ["cancel"]
    assert "already_cancelled" in call.line.heard


def test_keys_pressed_ahead_of_a_refusal_do_nothing() -> None:
    bench = bench_at("evening")

    call = play(bench.start, ("411",))

    assert "not_suspended" in call.line.heard
    assert call.word == "not_suspended"
    assert not bench.changes_of(call)


def test_a_code_keyed_out_of_habit_by_a_recognised_caller_changes_nothing() -> None:
    bench = bench_at("evening")

    call = play(bench.start, ("50003471211",))

    assert not bench.changes_of(call)


def test_keys_pressed_ahead_of_a_wrong_key_do_nothing() -> None:
    bench = bench_at("evening")

    call = play(bench.start, ("711",))

    assert "wrong-key" in call.line.heard
    assert not bench.changes_of(call)
