"""Who may act for whom, and the lock against guessing: R28 and R29."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.access import (
    ATTEMPTS_KEPT,
    CODES_BEFORE_SLOWING,
    LOCK,
    PAUSE,
    PAUSES_MAX,
    SLOWING_WITHIN,
    AccessDesk,
    Identified,
    IdentifiedCook,
    Locked,
    Wrong,
    cook_pin_digest,
    locked_until,
    pin_digest,
)
from core.people import CookId, Family, GuardianId, Pupil, UserCode
from core.ports import Cook
from tests.towns import ANNA, BRUNO, DARIO, MONTALTO, VERDINI, PaperStore, PlainHasher

START = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
NUMBER = "+390350000101"
PIN, WRONG_PIN = "1234", "9999"
UNKNOWN = UserCode("59999")
COOKS_PIN = "7315"
# The same id as a guardian's, so that nothing but the kind of person tells their PINs apart.
COOK = Cook(
    CookId(int(VERDINI.guardian)),
    UserCode("90001"),
    cook_pin_digest(PlainHasher(), CookId(int(VERDINI.guardian)), COOKS_PIN),
    ("primaria",),
    "it",
)


def minutes(number: float) -> datetime:
    return START + timedelta(minutes=number)


class Door:
    """An access desk, and a caller who keys codes and PINs at it."""

    def __init__(self) -> None:
        self.store = PaperStore()
        self.store.give_pin(VERDINI.guardian, PIN)
        self.store.give_pin(MONTALTO.guardian, "4321")
        self.store.cooks[COOK.code] = COOK
        self.desk = AccessDesk(self.store, PlainHasher())

    async def key(
        self, pin: str, at: datetime, *, code: UserCode = ANNA.user_code, caller: str | None = NUMBER
    ) -> Identified | IdentifiedCook | Wrong | Locked:
        return await self.desk.identify(code, pin, caller, at)

    async def fail(
        self, *when: datetime, code: UserCode = ANNA.user_code
    ) -> list[Identified | IdentifiedCook | Wrong | Locked]:
        """The answers to a wrong PIN at each of these instants, each from another number."""
        return [await self.key(WRONG_PIN, at, code=code, caller=f"+39035{number:07}") for number, at in enumerate(when)]


def five(start: float) -> list[datetime]:
    """Five instants, a second apart, the last one at `start` minutes."""
    return [minutes(start) - timedelta(seconds=back) for back in (4, 3, 2, 1, 0)]


async def test_R28_code_and_pin_tell_the_family_and_the_pupil_meant() -> None:
    assert await Door().key(PIN, START, code=BRUNO.user_code) == Identified(VERDINI, BRUNO)


@pytest.mark.parametrize(
    ("code", "pin"),
    [
        (ANNA.user_code, WRONG_PIN),
        (ANNA.user_code, "4321"),
        (ANNA.user_code, ""),
        (ANNA.user_code, COOKS_PIN),
        (UNKNOWN, PIN),
        (COOK.code, WRONG_PIN),
        (COOK.code, PIN),
        (COOK.code, ""),
    ],
)
async def test_R28_a_wrong_code_and_a_wrong_pin_get_one_answer(code: UserCode, pin: str) -> None:
    door = Door()

    assert await door.key(pin, START, code=code) == Wrong(timedelta(0))
    assert len(door.store.wrong) == 1


async def test_R28_any_guardian_of_a_pupil_is_known_by_an_own_pin() -> None:
    door = Door()
    father = Family(GuardianId(13), "en", (ANNA,))
    door.store.families = (VERDINI, father)
    door.store.give_pin(father.guardian, "7777")

    assert await door.key("7777", START) == Identified(father, ANNA)
    assert await door.key("7777", START, code=BRUNO.user_code) == Wrong(timedelta(0))


async def test_R28_a_guardian_without_a_pin_is_not_identified_by_an_empty_one() -> None:
    door = Door()
    door.store.credentials_of.clear()

    assert await door.key("", START) == Wrong(timedelta(0))


async def test_R28_the_fifth_wrong_pin_is_answered_locked_for_a_quarter_of_an_hour() -> None:
    door = Door()

    answers = await door.fail(*(minutes(each) for each in range(5)))

    assert answers[:4] == [Wrong(timedelta(0))] * 4
    assert answers[4] == Locked(minutes(4) + LOCK)
    assert timedelta(minutes=15) == LOCK


async def test_R28_a_cook_is_known_by_an_own_code_and_pin_and_is_no_family() -> None:
    assert await Door().key(COOKS_PIN, START, code=COOK.code) == IdentifiedCook(COOK)


@pytest.mark.parametrize("code", [ANNA.user_code, UNKNOWN, COOK.code])
async def test_R28_an_unknown_code_is_counted_and_locked_like_a_known_one(code: UserCode) -> None:
    door = Door()

    answers = await door.fail(*five(0), code=code)

    assert [type(each) for each in answers] == [Wrong, Wrong, Wrong, Wrong, Locked]
    assert await door.key(PIN, minutes(1), code=code) == Locked(minutes(15))


async def test_R28_a_lock_holds_for_a_cook_as_for_everybody() -> None:
    door = Door()
    await door.fail(*five(0), code=COOK.code)

    assert await door.key(COOKS_PIN, minutes(14), code=COOK.code) == Locked(minutes(15))
    assert await door.key(COOKS_PIN, minutes(15), code=COOK.code) == IdentifiedCook(COOK)


async def test_R28_during_a_lock_the_right_pin_is_answered_locked_unchecked() -> None:
    door = Door()
    await door.fail(*five(0))

    assert await door.key(PIN, minutes(14.99)) == Locked(minutes(15))
    assert await door.key(PIN, minutes(15)) == Identified(VERDINI, ANNA)


async def test_R28_during_a_lock_nothing_is_counted() -> None:
    door = Door()
    await door.fail(*five(0))

    await door.fail(*(minutes(each) for each in range(1, 15)))

    assert len(door.store.wrong) == 5
    assert await door.fail(minutes(15)) == [Wrong(timedelta(0))]


async def test_R28_after_a_lock_it_takes_five_wrong_pins_again() -> None:
    door = Door()
    await door.fail(*five(0))

    answers = await door.fail(*(minutes(15 + each) for each in range(5)))

    assert [type(each) for each in answers] == [Wrong, Wrong, Wrong, Wrong, Locked]


async def test_R28_a_lock_is_one_codes_and_a_siblings_code_goes_on() -> None:
    door = Door()
    await door.fail(*five(0))

    assert await door.key(PIN, minutes(1), code=BRUNO.user_code) == Identified(VERDINI, BRUNO)


async def test_R28_wrong_pins_for_several_codes_lock_none() -> None:
    door = Door()

    for each in (ANNA, BRUNO, DARIO, ANNA, BRUNO, DARIO):
        await door.key(WRONG_PIN, START, code=each.user_code)

    assert isinstance(await door.key(PIN, START), Identified)


async def test_R28_a_right_pin_in_between_takes_nothing_from_the_count() -> None:
    door = Door()
    await door.fail(*(minutes(each) for each in range(4)))
    await door.key(PIN, minutes(4))

    assert await door.fail(minutes(5)) == [Locked(minutes(20))]


def test_R28_fifteen_minutes_slide_and_the_fifteenth_is_no_longer_within() -> None:
    within = timedelta(minutes=15) - timedelta(microseconds=1)

    assert locked_until([START, *(START + within for _ in range(4))]) == START + within + LOCK
    assert locked_until([START, *(minutes(15) for _ in range(4))]) is None


def test_R28_old_wrong_pins_drop_out_one_by_one() -> None:
    spread = [minutes(each) for each in (0, 5, 10, 14, 15.1, 19.9)]

    assert locked_until(spread[:5]) is None
    assert locked_until(spread) == minutes(19.9) + LOCK


def test_R28_each_further_lock_within_a_day_doubles_the_time() -> None:
    wrong: list[datetime] = []
    ends: list[float] = []
    start = 0.0
    for _ in range(5):
        wrong += five(start + 1)
        until = locked_until(wrong)
        assert until is not None
        ends.append((until - minutes(start + 1)).total_seconds() / 60)
        start = (until - START).total_seconds() / 60

    assert ends == [15, 30, 60, 120, 240]


def test_R28_a_lock_a_day_later_starts_with_a_quarter_of_an_hour_again() -> None:
    day = timedelta(days=1)

    assert locked_until([*five(0), *(each + day for each in five(0))]) == START + day + LOCK
    sooner = day - timedelta(microseconds=1)
    assert locked_until([*five(0), *(each + sooner for each in five(0))]) == START + sooner + 2 * LOCK


def test_R28_only_the_locks_of_the_last_day_double() -> None:
    # Locks at 0 h, 20 h and 30 h: the first is more than a day before the third.
    locks = [*five(0), *five(20 * 60), *five(30 * 60)]

    assert locked_until(locks) == minutes(30 * 60) + 2 * LOCK


def test_R28_what_the_store_forgets_cannot_lengthen_or_shorten_a_lock() -> None:
    # A guesser who never tires: five wrong PINs as soon as each lock ends, for a week.
    wrong: list[datetime] = []
    at = START
    while at < START + timedelta(days=7):
        wrong += [at + timedelta(seconds=second) for second in range(5)]
        until = locked_until(wrong)
        kept = [each for each in wrong if each >= wrong[-1] - ATTEMPTS_KEPT]
        assert until == locked_until(kept)
        assert until is not None
        assert until == locked_until([each for each in wrong if each >= until - ATTEMPTS_KEPT])
        at = until


async def test_R28_the_lock_is_for_codes_only_and_a_recognised_number_goes_on() -> None:
    door = Door()
    door.store.agree_to_number(VERDINI.guardian, NUMBER)
    await door.fail(*five(0))

    assert await door.desk.recognise(NUMBER) == VERDINI


# Slowing


async def guess_through(door: Door, caller: str | None, codes: int) -> list[timedelta]:
    """The pauses after a wrong PIN for each of so many codes."""
    pauses = []
    for number in range(codes):
        answer = await door.key(WRONG_PIN, START, code=UserCode(f"{60_000 + number}"), caller=caller)
        assert isinstance(answer, Wrong)
        pauses.append(answer.pause)
    return pauses


async def test_R28_a_number_that_fails_for_many_codes_is_slowed_more_and_more_up_to_a_limit() -> None:
    pauses = await guess_through(Door(), NUMBER, CODES_BEFORE_SLOWING + PAUSES_MAX + 5)

    assert pauses[: CODES_BEFORE_SLOWING + 1] == [timedelta(0)] * (CODES_BEFORE_SLOWING + 1)
    assert pauses[CODES_BEFORE_SLOWING + 1] == PAUSE
    assert pauses == sorted(pauses)
    assert pauses[-1] == PAUSE * PAUSES_MAX


async def test_R28_callers_without_a_number_are_not_counted_as_one_caller() -> None:
    pauses = await guess_through(Door(), None, 10)

    assert set(pauses) == {timedelta(0)}


async def test_R28_a_caller_is_slowed_for_own_failures_only_and_not_for_ever() -> None:
    door = Door()
    await guess_through(door, NUMBER, 10)

    another = await door.key(WRONG_PIN, START, caller="+390350000102")
    later = await door.key(WRONG_PIN, START + SLOWING_WITHIN + timedelta(seconds=1))

    assert another == later == Wrong(timedelta(0))


async def test_R28_one_code_mistyped_again_and_again_is_not_many_codes() -> None:
    door = Door()

    answers = [await door.key(WRONG_PIN, minutes(20 * each)) for each in range(8)]

    assert answers == [Wrong(timedelta(0))] * 8


# Recognised numbers


async def test_R29_a_number_is_recognised_where_its_guardian_agreed() -> None:
    door = Door()
    door.store.agree_to_number(MONTALTO.guardian, NUMBER)

    assert await door.desk.recognise(NUMBER) == MONTALTO
    assert await door.desk.recognise("+390350000102") is None


async def test_R29_a_withheld_number_is_nobodys() -> None:
    assert await Door().desk.recognise(None) is None


async def test_R29_a_number_that_two_guardians_gave_is_neithers() -> None:
    door = Door()
    for family in (VERDINI, MONTALTO):
        door.store.agree_to_number(family.guardian, NUMBER)

    assert await door.desk.recognise(NUMBER) is None


# What is kept


async def test_what_is_kept_of_a_wrong_answer_names_neither_code_nor_pin_nor_number() -> None:
    door = Door()

    await door.key(WRONG_PIN, START)

    (kept,) = door.store.wrong
    for secret in (ANNA.user_code, WRONG_PIN, NUMBER, NUMBER[1:]):
        assert secret not in repr(kept)


def test_equal_pins_of_two_guardians_have_unlike_digests() -> None:
    assert pin_digest(PlainHasher(), VERDINI.guardian, PIN) != pin_digest(PlainHasher(), MONTALTO.guardian, PIN)


async def test_a_code_and_a_caller_of_equal_digits_have_unlike_digests() -> None:
    door = Door()

    await door.key(WRONG_PIN, START, code=UserCode("12345"), caller="12345")

    (kept,) = door.store.wrong
    assert kept.code_digest != kept.caller_digest


async def test_a_pupil_without_a_guardian_is_answered_as_an_unknown_code_is() -> None:
    door = Door()
    orphan: Pupil = replace(ANNA, user_code=UserCode("50009"))
    door.store.families = (Family(GuardianId(14), "it", (orphan,)),)

    assert await door.key(PIN, START, code=orphan.user_code) == Wrong(timedelta(0))


async def test_R29_two_guardians_of_one_pupil_with_the_same_pin_reach_that_pupil_and_nobody_elses() -> None:
    door = Door()
    other = Family(GuardianId(13), "it", (ANNA, DARIO))
    door.store.families = (VERDINI, other, MONTALTO)
    door.store.give_pin(other.guardian, PIN)

    answer = await door.key(PIN, START)

    assert isinstance(answer, Identified)
    assert answer.family.pupils == (ANNA,)
