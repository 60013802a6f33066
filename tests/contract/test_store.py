"""What every store does: one suite for the database and for its twin in memory."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from core.access import WRONG_PINS_MAX, AccessDesk, Actor, Identified, Locked, Wrong, number_digest, pin_digest
from core.changes import Kind
from core.clock import Reading
from core.desk import BookingDesk, Cancel, Request, Undo
from core.people import Diet, GuardianId, NewGuardian, PupilId, UserCode
from core.ports import Attempts, Entries, Kept, WrongAnswer
from core.window import Channel
from gateway.store.port import (
    CALL_EVENTS_BATCH,
    CALL_EVENTS_PAGE,
    CallEventFilter,
    NewCallEvent,
    Store,
    StoreClosedError,
    StoreConflictError,
    Town,
)
from tests.store_people import (
    DAY,
    EVENING,
    HASHER,
    LANDLINE,
    MOBILE,
    add,
    as_new,
    cancel,
    enrolled,
    guardian,
    history,
    no_pin,
    people,
    pupil,
    refusal,
)
from tests.towns import at, local
from tests.towns import town as rules

NOW = datetime(2026, 11, 23, 17, 30, tzinfo=UTC)
NOBODY = PupilId(999_999)


# People


async def test_a_pupil_is_found_by_the_user_code(here: Town) -> None:
    anna = replace(
        pupil("50001", 0), codice_fiscale="VRDNNA15A41Z999X", diet=Diet("SG", date(2026, 9, 14), date(2027, 6, 8))
    )
    await here.import_people(people((guardian(),), anna), HASHER, no_pin)

    found = await here.pupil(UserCode("50001"))

    assert found is not None
    assert (found.name, found.surname, found.school, found.class_group) == ("Anna", "Verdini", "primaria", "1A")
    assert found.diet == Diet("SG", date(2026, 9, 14), date(2027, 6, 8))


async def test_an_unknown_code_is_nobody(here: Town) -> None:
    assert await here.pupil(UserCode("50001")) is None

    await enrolled(here)

    assert await here.pupil(UserCode("59999")) is None


async def test_pupils_come_in_the_order_of_their_codes_without_the_unknown(here: Town) -> None:
    await here.import_people(people((guardian(),), pupil("50003", 0), pupil("50001", 0)), HASHER, no_pin)
    first, last = await here.all_pupils()

    found = await here.pupils([last.id, NOBODY, first.id])

    assert [each.user_code for each in found] == ["50001", "50003"]


async def test_class_groups_are_counted_and_first_names_told_once(here: Town, elsewhere: Town) -> None:
    await enrolled(
        here, people((guardian(),), pupil("50001", 0), pupil("50002", 0), pupil("50003", 0, class_group="3B"))
    )
    await enrolled(elsewhere)
    [anna, *_] = await here.all_pupils()
    await here.erase_pupil(anna.id)

    assert await here.class_sizes() == {("primaria", "1A"): 1, ("primaria", "3B"): 1}
    assert await here.first_names() == {"Anna"}
    assert await elsewhere.first_names() == {"Anna", "Bruno"}


async def test_no_pupils_are_asked_for_and_none_come(here: Town) -> None:
    await enrolled(here)

    assert await here.pupils([]) == ()
    assert await here.histories([]) == {}


async def test_a_family_has_its_pupils_in_the_order_of_their_codes(here: Town) -> None:
    pupils = await enrolled(here, people((guardian(language="en"),), pupil("50002", 0), pupil("50001", 0)))
    (credential,) = await here.credentials(pupils[0].id)

    family = await here.family(credential.guardian)

    assert family is not None
    assert (family.guardian, family.language, family.pupils) == (credential.guardian, "en", pupils)


async def test_an_unknown_guardian_has_no_family(here: Town) -> None:
    await enrolled(here)

    assert await here.family(GuardianId(999_999)) is None


async def test_R29_a_number_is_recognised_where_its_guardian_agreed(here: Town) -> None:
    pupils = await enrolled(here)

    family = await here.family_by_number(number_digest(HASHER, MOBILE))

    assert family is not None
    assert family.pupils == pupils


async def test_R29_a_number_is_not_recognised_where_its_guardian_did_not_agree(here: Town) -> None:
    await enrolled(here, people((guardian(recognise=False),)))

    assert await here.family_by_number(number_digest(HASHER, MOBILE)) is None


@pytest.mark.parametrize("other_agreed", [True, False])
async def test_R29_a_number_that_several_guardians_gave_is_not_recognised(here: Town, other_agreed: bool) -> None:
    two = (guardian(), guardian("Paolo", email="paolo@example.org", recognise=other_agreed))
    await enrolled(here, people(two, pupil("50001", 0), pupil("50002", 1)))

    assert await here.family_by_number(number_digest(HASHER, MOBILE)) is None


async def test_R29_a_guardian_who_withdraws_the_agreement_is_no_longer_recognised(here: Town) -> None:
    await enrolled(here)

    await enrolled(here, people((guardian(recognise=False),)))

    assert await here.family_by_number(number_digest(HASHER, MOBILE)) is None


async def test_each_guardian_of_a_pupil_has_credentials_and_nobody_elses_guardian(here: Town) -> None:
    three = (guardian(), guardian("Paolo", email="p@example.org", pin="1234"), guardian("Ugo", email="u@example.org"))
    anna, bruno = await enrolled(here, people(three, pupil("50001", 0, 1), pupil("50002", 2)))

    credentials = await here.credentials(anna.id)

    assert [each.pin_digest for each in credentials] == [
        pin_digest(HASHER, credentials[0].guardian, "4711"),
        pin_digest(HASHER, credentials[1].guardian, "1234"),
    ]
    assert len(await here.credentials(bruno.id)) == 1
    assert await here.credentials(NOBODY) == ()


# The people's file


async def test_an_import_says_what_it_did(here: Town) -> None:
    first = await here.import_people(people(), HASHER, no_pin)
    moved = people((guardian(phone=LANDLINE),), pupil("50001", 0, class_group="3B"), pupil("50003", 0))
    second = await here.import_people(moved, HASHER, no_pin)

    assert (first.pupils_added, first.pupils_updated, first.pupils_absent) == (2, 0, 0)
    assert (first.guardians_added, first.guardians_updated) == (1, 0)
    assert (second.pupils_added, second.pupils_updated, second.pupils_absent) == (1, 1, 1)
    assert (second.guardians_added, second.guardians_updated) == (0, 1)


async def test_importing_the_same_file_again_changes_nothing(here: Town) -> None:
    before = await enrolled(here)

    report = await here.import_people(people(), HASHER, no_pin)

    assert (report.pupils_added, report.pupils_updated, report.guardians_added, report.guardians_updated) == (
        0,
        0,
        0,
        0,
    )
    assert await here.all_pupils() == before


async def test_a_pupil_keeps_the_id_and_the_history_when_enrolled_again(here: Town) -> None:
    anna, _ = await enrolled(here)
    await add(here, cancel(anna.id))

    again, _ = await enrolled(here, people((guardian(),), pupil("50001", 0, name="Anna Maria"), pupil("50002", 0)))

    assert (again.id, again.name) == (anna.id, "Anna Maria")
    assert len(await history(here, again.id)) == 1


async def test_pupils_who_are_not_in_the_file_stay(here: Town) -> None:
    _, bruno = await enrolled(here)

    after = await enrolled(here, people((guardian(),), pupil("50001", 0)))

    assert bruno in after


async def test_a_failed_import_leaves_everything_as_it_was(here: Town) -> None:
    before = await enrolled(here)
    credentials = await here.credentials(before[0].id)
    file = people(
        (guardian("Marta", pin="9999"), guardian("Ugo", email="u@example.org", pin=None)), pupil("50001", 0, 1)
    )

    with pytest.raises(AssertionError, match="a PIN was made"):
        await here.import_people(file, HASHER, no_pin)

    assert await here.all_pupils() == before
    assert await here.credentials(before[0].id) == credentials


async def test_a_pin_is_made_for_a_new_guardian_without_one_and_kept_ever_after(here: Town) -> None:
    without = people((guardian(pin=None),))
    report = await here.import_people(without, HASHER, lambda: "8080")
    anna, _ = await here.all_pupils()
    (credential,) = await here.credentials(anna.id)

    again = await here.import_people(without, HASHER, no_pin)

    assert [(made.guardian, made.pin) for made in report.pins] == [(credential.guardian, "8080")]
    assert "8080" not in repr(report)
    assert again.pins == ()
    assert await here.credentials(anna.id) == (credential,)


async def test_a_pin_in_the_file_replaces_the_one_that_was(here: Town) -> None:
    anna, _ = await enrolled(here)

    await enrolled(here, people((guardian(pin="1111"),)))

    (credential,) = await here.credentials(anna.id)
    assert credential.pin_digest == pin_digest(HASHER, credential.guardian, "1111")


async def test_a_made_pin_is_not_that_of_the_other_guardian_of_the_same_pupil(here: Town) -> None:
    throws = iter(["4711", "4711", "0815"])
    two = (guardian(), guardian("Paolo", email="paolo@example.org", pin=None))

    report = await here.import_people(people(two, pupil("50001", 0, 1)), HASHER, lambda: next(throws))

    assert [made.pin for made in report.pins] == ["0815"]


async def test_a_maker_of_pins_that_never_varies_is_a_fault_and_nothing_is_kept(here: Town) -> None:
    two = (guardian(), guardian("Paolo", email="paolo@example.org", pin=None))

    with pytest.raises(ValueError, match="expected a maker that varies"):
        await here.import_people(people(two, pupil("50001", 0, 1)), HASHER, lambda: "4711")

    assert await here.all_pupils() == ()


@pytest.mark.parametrize(
    ("first", "then"),
    [
        pytest.param(guardian(), guardian("Mary", phone=LANDLINE, email="MARIA@example.org"), id="by email"),
        pytest.param(guardian(email=None), guardian("Mary", email=None), id="by phone where there is no email"),
        pytest.param(guardian(email=None), guardian(), id="an email was added"),
        pytest.param(guardian(), guardian(email=None), id="an email was taken away"),
        pytest.param(guardian(), guardian(email="new@example.org"), id="an email has changed"),
    ],
)
async def test_a_guardian_of_the_file_is_the_one_in_the_store(
    here: Town, first: NewGuardian, then: NewGuardian
) -> None:
    anna, _ = await enrolled(here, people((first,)))
    before = await here.credentials(anna.id)

    await here.import_people(people((replace(then, pin=None),)), HASHER, no_pin)

    assert await here.credentials(anna.id) == before


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(guardian("Paolo", email=None, pin="1234"), id="without an email"),
        pytest.param(guardian("Paolo", email="paolo@example.org", pin="1234"), id="with another email"),
    ],
)
async def test_two_guardians_who_share_a_telephone_stay_two(here: Town, other: NewGuardian) -> None:
    anna, _ = await enrolled(here)

    *_, carlo = await enrolled(here, people((other,), pupil("50003", 0, name="Carlo")))

    (of_anna,), (of_carlo,) = await here.credentials(anna.id), await here.credentials(carlo.id)
    assert of_anna.guardian != of_carlo.guardian


async def test_the_guardians_of_the_file_replace_those_the_pupil_had(here: Town) -> None:
    anna, bruno = await enrolled(here)
    (maria,) = await here.credentials(anna.id)

    await enrolled(here, people((guardian("Paolo", email="paolo@example.org", phone=None),), pupil("50001", 0)))

    (paolo,) = await here.credentials(anna.id)
    family = await here.family(maria.guardian)
    assert paolo.guardian != maria.guardian
    assert family is not None
    assert family.pupils == (bruno,)


async def test_a_file_without_guardians_leaves_those_of_its_pupils(here: Town) -> None:
    anna, _ = await enrolled(here)
    before = await here.credentials(anna.id)

    await enrolled(here, people((), pupil("50001")))

    assert await here.credentials(anna.id) == before


async def test_a_guardian_who_no_longer_speaks_for_anybody_blocks_nobodys_number(here: Town) -> None:
    await enrolled(here, people((guardian(),), pupil("50001", 0)))

    await enrolled(here, people((guardian("Paolo", email="paolo@example.org"),), pupil("50001", 0)))

    family = await here.family_by_number(number_digest(HASHER, MOBILE))
    assert family is not None
    assert [each.user_code for each in family.pupils] == ["50001"]


# Erasure


async def test_R19_an_erased_pupil_is_gone_and_the_changes_stay(here: Town) -> None:
    anna, bruno = await enrolled(here)
    await add(here, cancel(anna.id))
    before = await history(here, anna.id)

    await here.erase_pupil(anna.id)

    assert await here.pupil(anna.user_code) is None
    assert await here.pupils([anna.id, bruno.id]) == (bruno,)
    assert await here.all_pupils() == (bruno,)
    assert await here.credentials(anna.id) == ()
    assert await history(here, anna.id) == before


async def test_a_guardian_is_erased_with_the_last_pupil(here: Town) -> None:
    anna, bruno = await enrolled(here)
    (maria,) = await here.credentials(anna.id)

    await here.erase_pupil(anna.id)
    after_one = await here.family_by_number(number_digest(HASHER, MOBILE))
    await here.erase_pupil(bruno.id)

    assert after_one is not None
    assert after_one.pupils == (bruno,)
    assert await here.family_by_number(number_digest(HASHER, MOBILE)) is None
    assert await here.family(maria.guardian) is None


async def test_an_erased_code_that_is_enrolled_again_is_somebody_new(here: Town) -> None:
    anna, _ = await enrolled(here)
    await add(here, cancel(anna.id))
    await here.erase_pupil(anna.id)

    again, _ = await enrolled(here)

    assert again.id != anna.id
    assert await history(here, again.id) == ()


# Changes


async def test_R19_a_change_comes_back_as_it_was_decided(here: Town) -> None:
    anna, _ = await enrolled(here)
    (maria,) = await here.credentials(anna.id)
    earliest = datetime(2026, 11, 23, 17, 30, 0, 1, tzinfo=UTC)
    decided = Reading(earliest, earliest + timedelta(microseconds=3), "chrony", synchronised=False)
    suspended = cancel(anna.id, kind=Kind.SUSPEND, last=None, guardian=maria.guardian, decided=decided, review=True)

    await add(here, suspended)
    (first,) = await history(here, anna.id)
    undo = cancel(anna.id, kind=Kind.UNDO, channel=Channel.TELEGRAM, takes_back=first.id)
    await add(here, undo)

    assert [as_new(change) for change in await history(here, anna.id)] == [suspended, undo]


async def test_histories_are_in_the_order_of_acceptance_and_empty_for_who_has_none(here: Town) -> None:
    anna, bruno = await enrolled(here)
    changes = [cancel(anna.id, receipt=receipt) for receipt in ("0009", "0001", "0005")]
    for change in changes:
        await add(here, change)

    histories = await here.histories([anna.id, bruno.id, anna.id, NOBODY])

    assert [change.receipt for change in histories[anna.id]] == ["0009", "0001", "0005"]
    assert [change.id for change in histories[anna.id]] == sorted(change.id for change in histories[anna.id])
    assert (histories[bruno.id], histories[NOBODY]) == ((), ())


async def test_a_decision_sees_what_was_accepted_before_it(here: Town) -> None:
    anna, bruno = await enrolled(here)
    await add(here, cancel(anna.id, receipt="0001"))

    def look(kept: Kept) -> tuple[Entries, list[list[str]]]:
        return Entries(), [[change.receipt for change in kept.histories[each.id]] for each in (anna, bruno)]

    assert await here.transact([anna.id, bruno.id, anna.id], look) == [["0001"], []]


async def test_a_decision_that_fails_keeps_nothing_and_fails_alone(here: Town) -> None:
    anna, _ = await enrolled(here)

    def fail(_: Kept) -> tuple[Entries, None]:
        raise ZeroDivisionError

    failed, kept = await asyncio.gather(
        here.transact([anna.id], fail), add(here, cancel(anna.id, receipt="0001")), return_exceptions=True
    )

    assert isinstance(failed, ZeroDivisionError)
    assert kept is None
    assert [change.receipt for change in await history(here, anna.id)] == ["0001"]


async def test_R21_siblings_are_changed_in_one_transaction(here: Town) -> None:
    anna, bruno = await enrolled(here)
    entries = Entries((cancel(anna.id), cancel(bruno.id)), (refusal(anna.id),))

    answer = await here.transact([anna.id, bruno.id], lambda _: (entries, "both"))

    assert answer == "both"
    assert [len(each) for each in (await here.histories([anna.id, bruno.id])).values()] == [1, 1]
    assert await here.refusals(anna.id) == (refusal(anna.id),)


async def test_R21_of_a_request_that_cannot_be_kept_whole_nothing_is_kept(here: Town) -> None:
    anna, bruno = await enrolled(here)
    await add(here, cancel(bruno.id, receipt="0001"))
    entries = Entries((cancel(anna.id), cancel(bruno.id, receipt="0001")), (refusal(anna.id),))

    with pytest.raises(StoreConflictError, match="nothing of it was kept"):
        await here.transact([anna.id, bruno.id], lambda _: (entries, None))

    assert [len(each) for each in (await here.histories([anna.id, bruno.id])).values()] == [0, 1]
    assert await here.refusals(anna.id) == ()


async def test_R20_one_request_is_one_change_however_often_it_is_sent(here: Town) -> None:
    anna, _ = await enrolled(here)
    desk = BookingDesk(rules, here)
    actor = Actor(Channel.PORTAL, "session", None, frozenset({anna.id}))
    request = Request(anna, Cancel(DAY), "double-click")

    outcomes = await asyncio.gather(*(desk.act(actor, [request], at("2026-11-23 18:30")) for _ in range(5)))

    assert {(each.word, each.change.receipt) for (each,) in outcomes} == {  # type: ignore[union-attr]  # else it fails
        ("cancelled", (await history(here, anna.id))[0].receipt)
    }
    assert len(await history(here, anna.id)) == 1


async def test_R20_a_request_is_one_change_within_the_municipality(here: Town, elsewhere: Town) -> None:
    anna, bruno = await enrolled(here)
    stranger, _ = await enrolled(elsewhere)
    await add(here, cancel(anna.id, request="once"))

    with pytest.raises(StoreConflictError):
        await add(here, cancel(bruno.id, request="once"))
    await add(elsewhere, cancel(stranger.id, request="once"))

    assert await history(here, bruno.id) == ()


async def test_R19_a_receipt_is_unique_among_its_pupils_changes_only(here: Town) -> None:
    anna, bruno = await enrolled(here)
    await add(here, cancel(anna.id, receipt="0001"))

    with pytest.raises(StoreConflictError):
        await add(here, cancel(anna.id, receipt="0001"))
    await add(here, cancel(bruno.id, receipt="0001"))

    assert [len(each) for each in (await here.histories([anna.id, bruno.id])).values()] == [1, 1]


async def test_R16_a_change_is_taken_back_once(here: Town) -> None:
    anna, _ = await enrolled(here)
    await add(here, cancel(anna.id))
    (first,) = await history(here, anna.id)
    await add(here, cancel(anna.id, kind=Kind.UNDO, takes_back=first.id))

    with pytest.raises(StoreConflictError):
        await add(here, cancel(anna.id, kind=Kind.UNDO, takes_back=first.id))

    assert len(await history(here, anna.id)) == 2


async def test_an_undo_of_nothing_is_not_kept(here: Town) -> None:
    anna, _ = await enrolled(here)

    with pytest.raises(StoreConflictError):
        await add(here, cancel(anna.id, kind=Kind.UNDO, takes_back=999_999))

    assert await history(here, anna.id) == ()


async def test_R26_refusals_are_kept_as_they_were_decided(here: Town) -> None:
    anna, bruno = await enrolled(here)
    (maria,) = await here.credentials(anna.id)
    undated = replace(refusal(anna.id), action="undo", day=None, guardian=maria.guardian)

    for each in (refusal(anna.id), undated, refusal(anna.id)):
        await here.transact([anna.id], lambda _, each=each: (Entries((), (each,)), None))  # type: ignore[misc]

    assert await here.refusals(anna.id) == (refusal(anna.id), undated, refusal(anna.id))
    assert await here.refusals(bruno.id) == ()


async def test_of_64_who_cancel_one_day_at_once_one_is_accepted(here: Town) -> None:
    anna, _ = await enrolled(here)
    desk = BookingDesk(rules, here)
    actor = Actor(Channel.PORTAL, "session", None, frozenset({anna.id}))

    outcomes = await asyncio.gather(
        *(desk.act(actor, [Request(anna, Cancel(DAY), f"caller-{n}")], at("2026-11-23 18:30")) for n in range(64))
    )

    words = [outcome.word for (outcome,) in outcomes]
    assert sorted(words) == ["already_cancelled"] * 63 + ["cancelled"]
    assert len(await history(here, anna.id)) == 1


async def test_of_many_who_undo_one_change_at_once_one_does(here: Town) -> None:
    anna, _ = await enrolled(here)
    desk = BookingDesk(rules, here)
    actor = Actor(Channel.PORTAL, "session", None, frozenset({anna.id}))
    await desk.act(actor, [Request(anna, Cancel(DAY), "cancel")], at("2026-11-23 18:30"))

    outcomes = await asyncio.gather(
        *(desk.act(actor, [Request(anna, Undo(), f"undo-{n}")], at("2026-11-23 18:31")) for n in range(20))
    )

    assert sorted(outcome.word for (outcome,) in outcomes) == ["nothing_to_undo"] * 19 + ["undone"]


async def test_R18_who_hangs_up_once_the_change_is_on_its_way_has_made_it(here: Town) -> None:
    anna, _ = await enrolled(here)
    confirmed = asyncio.create_task(add(here, cancel(anna.id, receipt="0001")))
    await asyncio.sleep(0)

    confirmed.cancel()
    await asyncio.wait([confirmed])
    await add(here, cancel(anna.id, receipt="0002"))

    assert [change.receipt for change in await history(here, anna.id)] == ["0001", "0002"]


# One town and another


async def test_a_town_never_sees_another_towns_rows(here: Town, elsewhere: Town) -> None:
    anna, _ = await enrolled(here)
    (maria,) = await here.credentials(anna.id)
    await add(here, cancel(anna.id))
    await here.transact([anna.id], lambda _: (Entries((), (refusal(anna.id),)), None))
    await enrolled(elsewhere, people((guardian("Ugo", email="u@example.org", phone=None),), pupil("60001", 0)))

    assert await elsewhere.pupil(anna.user_code) is None
    assert await elsewhere.pupils([anna.id]) == ()
    assert [each.user_code for each in await elsewhere.all_pupils()] == ["60001"]
    assert await elsewhere.family(maria.guardian) is None
    assert await elsewhere.family_by_number(number_digest(HASHER, MOBILE)) is None
    assert await elsewhere.credentials(anna.id) == ()
    assert await elsewhere.histories([anna.id]) == {anna.id: ()}
    assert await elsewhere.transact([anna.id], lambda found: (Entries(), len(found.histories[anna.id]))) == 0
    assert await elsewhere.refusals(anna.id) == ()


async def test_a_town_cannot_change_another_towns_rows(here: Town, elsewhere: Town) -> None:
    anna, bruno = await enrolled(here)
    (maria,) = await here.credentials(anna.id)
    ugo, _ = await enrolled(elsewhere)

    with pytest.raises(StoreConflictError):
        await add(elsewhere, cancel(anna.id))
    with pytest.raises(StoreConflictError):
        await elsewhere.transact([], lambda _: (Entries((), (refusal(anna.id),)), None))
    with pytest.raises(StoreConflictError):
        await add(elsewhere, cancel(ugo.id, guardian=maria.guardian))
    await elsewhere.erase_pupil(anna.id)

    assert await here.all_pupils() == (anna, bruno)
    assert await here.credentials(anna.id) == (maria,)
    assert await history(here, anna.id) == ()


async def test_the_same_people_in_two_towns_are_different_people(here: Town, elsewhere: Town) -> None:
    anna, _ = await enrolled(here)
    other, _ = await enrolled(elsewhere)

    assert anna.user_code == other.user_code
    assert anna.id != other.id
    assert (await here.credentials(anna.id))[0].guardian != (await elsewhere.credentials(other.id))[0].guardian
    family = await here.family_by_number(number_digest(HASHER, MOBILE))
    assert family is not None
    assert anna in family.pupils


# Wrong answers


async def attempts(
    town: Town, code: str, caller: str | None = None, *, since: datetime = NOW, caller_since: datetime = NOW
) -> Attempts:
    return await town.transact_attempt(code, caller, lambda found: (None, found), since, caller_since)


async def wrong(town: Town, code: str, caller: str | None = None, when: datetime = NOW) -> None:
    await town.transact_attempt(code, caller, lambda _: (WrongAnswer(code, caller, when), None), when, when)


async def test_R28_the_wrong_answers_for_a_code_are_those_since_the_instant_asked_for(here: Town) -> None:
    later, before = NOW + timedelta(microseconds=1), NOW - timedelta(microseconds=1)
    for when in (later, before, NOW):
        await wrong(here, "code-a", when=when)
    await wrong(here, "code-b")

    assert (await attempts(here, "code-a")).for_code == (NOW, later)
    assert (await attempts(here, "code-a", since=before)).for_code == (before, NOW, later)
    assert (await attempts(here, "code-c")).for_code == ()


async def test_R28_a_caller_is_counted_by_the_codes_that_were_wrong(here: Town) -> None:
    await wrong(here, "code-a", "caller", NOW - timedelta(hours=1))
    for code in ("code-b", "code-b", "code-c"):
        await wrong(here, code, "caller")
    await wrong(here, "code-d", "somebody else")

    assert (await attempts(here, "code-x", "caller")).codes_of_caller == 2
    assert (await attempts(here, "code-x", "caller", caller_since=NOW - timedelta(hours=1))).codes_of_caller == 3


async def test_R28_callers_without_a_number_are_not_one_caller(here: Town) -> None:
    for code in ("code-a", "code-b"):
        await wrong(here, code, None)

    assert (await attempts(here, "code-a", None)).codes_of_caller == 0


async def test_R28_wrong_answers_are_counted_within_the_town(here: Town, elsewhere: Town) -> None:
    await wrong(here, "code-a", "caller")

    assert await attempts(elsewhere, "code-a", "caller") == Attempts((), 0)


async def test_R28_twenty_wrong_pins_at_once_lock_at_the_fifth_and_the_rest_are_not_counted(here: Town) -> None:
    anna, _ = await enrolled(here)
    desk = AccessDesk(here, HASHER)

    answers = await asyncio.gather(*(desk.identify(anna.user_code, "0000", None, NOW) for _ in range(20)))
    right = await desk.identify(anna.user_code, "4711", None, NOW + timedelta(minutes=14))

    assert [type(each) for each in answers].count(Wrong) == WRONG_PINS_MAX - 1
    assert right == Locked(NOW + timedelta(minutes=15))
    code_digest = HASHER.digest(f"code:{anna.user_code}")
    assert len((await attempts(here, code_digest)).for_code) == WRONG_PINS_MAX


async def test_R28_the_right_pin_opens_and_counts_nothing(here: Town) -> None:
    anna, bruno = await enrolled(here)

    answer = await AccessDesk(here, HASHER).identify(anna.user_code, "4711", MOBILE, NOW)

    assert isinstance(answer, Identified)
    assert (answer.pupil, answer.family.pupils) == (anna, (anna, bruno))
    assert (await attempts(here, HASHER.digest(f"code:{anna.user_code}"))).for_code == ()


async def test_an_attempt_whose_judgement_fails_is_not_counted(here: Town) -> None:
    def fail(_: Attempts) -> tuple[WrongAnswer | None, None]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await here.transact_attempt("code-a", None, fail, NOW, NOW)

    assert (await attempts(here, "code-a")).for_code == ()


# The call log


def event(call: str = "call-1", what: str = "ringing", **values: object) -> NewCallEvent:
    return replace(NewCallEvent(call, NOW, what, "roccachiara", "+39340***101", "digest"), **values)  # type: ignore[arg-type]


async def test_call_events_come_back_as_they_were_in_the_order_given(store: Store) -> None:
    fields = {"seconds": 1.5, "outcome": "cancelled", "steps": ["a", {"perché": None}], "on": True}
    given = [
        event(),
        event(what="ended", fields=fields),
        event("call-2", town=None, number_masked=None, number_digest=None),
    ]

    await store.add_call_events(given)

    found = await store.call_events()
    assert [
        replace(event(), **{name: getattr(each, name) for name in NewCallEvent.__slots__}) for each in found
    ] == given
    assert [each.id for each in found] == sorted(each.id for each in found)


async def test_the_call_log_is_followed_by_asking_for_what_came_after(store: Store) -> None:
    await store.add_call_events([event("call-1"), event("call-2")])
    seen = await store.call_events()
    await store.add_call_events([event("call-3")])

    assert [each.call for each in await store.call_events(seen[-1].id)] == ["call-3"]
    assert await store.call_events((await store.call_events())[-1].id) == ()


async def test_the_call_log_gives_the_first_or_the_newest_up_to_the_limit(store: Store) -> None:
    await store.add_call_events([event(f"call-{n}") for n in range(CALL_EVENTS_PAGE + CALL_EVENTS_BATCH)])

    assert [each.call for each in await store.call_events(limit=2)] == ["call-0", "call-1"]
    assert [each.call for each in await store.call_events(limit=2, newest=True)] == ["call-698", "call-699"]
    assert len(await store.call_events(limit=CALL_EVENTS_PAGE + 1)) == CALL_EVENTS_PAGE


@pytest.mark.parametrize(
    ("wanted", "calls"),
    [
        (CallEventFilter(), ["call-1", "call-2", "call-3"]),
        (CallEventFilter(town="montelago"), ["call-2"]),
        (CallEventFilter(call="call-3"), ["call-3"]),
        (CallEventFilter(event="ended"), ["call-2", "call-3"]),
        (CallEventFilter(number_digest="other"), ["call-3"]),
        (CallEventFilter(since=NOW), ["call-1", "call-2"]),
        (CallEventFilter(event="ended", since=NOW), ["call-2"]),
        (CallEventFilter(town="nowhere"), []),
    ],
)
async def test_the_call_log_is_filtered(store: Store, wanted: CallEventFilter, calls: list[str]) -> None:
    before = NOW - timedelta(microseconds=1)
    await store.add_call_events(
        [
            event(),
            event("call-2", "ended", town="montelago"),
            event("call-3", "ended", at=before, number_digest="other"),
        ]
    )

    assert [each.call for each in await store.call_events(0, wanted)] == calls


async def test_what_json_cannot_hold_is_not_kept(store: Store) -> None:
    with pytest.raises((TypeError, ValueError)):
        await store.add_call_events([event(), event(fields={"seconds": float("nan")})])

    assert await store.call_events() == ()


# Settings


async def test_a_setting_is_what_was_last_set(store: Store) -> None:
    assert await store.get_setting("offset") is None

    await store.set_setting("offset", "1")
    await store.set_setting("offset", "2")

    assert await store.get_setting("offset") == "2"


async def test_of_those_who_claim_a_setting_at_once_the_first_wins(store: Store) -> None:
    standing = await asyncio.gather(*(store.claim_setting("key", f"claim-{n}") for n in range(20)))

    assert set(standing) == {await store.get_setting("key")}


# The end


async def test_a_closed_store_takes_nothing_more(store: Store, here: Town) -> None:
    anna, _ = await enrolled(here)
    await store.close()

    with pytest.raises(StoreClosedError, match="nothing of"):
        await add(here, cancel(anna.id))


def test_the_example_instants_are_those_of_the_rules() -> None:
    assert EVENING.midpoint == local("2026-11-23 18:30")
