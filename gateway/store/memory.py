"""The store in memory, for rehearsals and tests: it keeps nothing, and otherwise passes the contract of the database."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import TypeVar

from core.changes import Change, ChangeId, History, NewChange
from core.people import Family, GuardianId, NewPupil, People, Pupil, PupilId, UserCode
from core.ports import Attempts, Credential, Entries, PinHasher, Refusal, WrongAnswer
from gateway.store.enrolment import GuardianRecord, PupilRecord, enrol, match_guardians
from gateway.store.port import (
    CALL_EVENTS_PAGE,
    CallEventFilter,
    CallEventRow,
    ImportReport,
    NewCallEvent,
    StoreClosedError,
    StoreConflictError,
)
from gateway.store.rows import fields_text

Answer = TypeVar("Answer")


@dataclass(slots=True)
class _Kept:
    """One municipality's rows."""

    guardians: dict[GuardianId, GuardianRecord] = field(default_factory=dict)
    # A pupil without a value is erased.
    pupils: dict[PupilId, PupilRecord | None] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    wrong_answers: list[WrongAnswer] = field(default_factory=list)


class MemoryStore:
    """One installation's store in this process; every request runs at once and whole."""

    def __init__(self) -> None:
        self._towns: dict[str, _Kept] = {}
        self._settings: dict[str, str] = {}
        self._events: list[CallEventRow] = []
        self._ids = count(1)
        self._is_closed = False

    def at(self, municipality: str) -> "MemoryTown":
        return MemoryTown(self, self._towns.setdefault(municipality, _Kept()))

    async def migrate(self) -> None:
        """Nothing to bring up to date."""

    async def close(self) -> None:
        self._is_closed = True

    async def add_call_events(self, events: Sequence[NewCallEvent]) -> None:
        self.check_open()
        added = []
        for number, each in enumerate(events, len(self._events) + 1):
            fields = json.loads(fields_text(each.fields))
            values = (each.call, each.at, each.event, each.town, each.number_masked, each.number_digest)
            added.append(CallEventRow(*values, fields, number))
        self._events += added

    async def call_events(
        self,
        after_id: int = 0,
        wanted: CallEventFilter | None = None,
        *,
        limit: int = CALL_EVENTS_PAGE,
        newest: bool = False,
    ) -> tuple[CallEventRow, ...]:
        limit = min(limit, CALL_EVENTS_PAGE)
        found = [each for each in self._events[after_id:] if wanted is None or _is_wanted(each, wanted)]
        return tuple(found[max(len(found) - limit, 0) :] if newest else found[:limit])

    async def get_setting(self, key: str) -> str | None:
        return self._settings.get(key)

    async def set_setting(self, key: str, value: str) -> None:
        self.check_open()
        self._settings[key] = value

    async def claim_setting(self, key: str, value: str) -> str:
        self.check_open()
        return self._settings.setdefault(key, value)

    def next_id(self) -> int:
        return next(self._ids)

    def check_open(self) -> None:
        if self._is_closed:
            raise StoreClosedError("memory: the store is closed; nothing of the request was kept")


class MemoryTown:
    """One municipality's part of the store."""

    def __init__(self, store: MemoryStore, kept: _Kept) -> None:
        self._store = store
        self._kept = kept

    async def pupil(self, code: UserCode) -> Pupil | None:
        return next((pupil for pupil in self._pupils() if pupil.user_code == code), None)

    async def pupils(self, ids: Sequence[PupilId]) -> tuple[Pupil, ...]:
        return tuple(pupil for pupil in self._pupils() if pupil.id in ids)

    async def all_pupils(self) -> tuple[Pupil, ...]:
        return self._pupils()

    async def family(self, guardian: GuardianId) -> Family | None:
        pupils = tuple(pupil for pupil in self._pupils() if guardian in self._guardians_of(pupil.id))
        return Family(guardian, self._kept.guardians[guardian].language, pupils) if pupils else None

    async def family_by_number(self, number_digest: str) -> Family | None:
        for record in self._kept.guardians.values():
            if record.number_digest == number_digest and self._who_gave(record.phone) == {record.id}:
                return await self.family(record.id)
        return None

    async def credentials(self, pupil: PupilId) -> tuple[Credential, ...]:
        records = [self._kept.guardians[id_] for id_ in self._guardians_of(pupil)]
        return tuple(Credential(each.id, each.pin_digest) for each in records if each.pin_digest is not None)

    async def histories(self, pupils: Sequence[PupilId]) -> Mapping[PupilId, History]:
        return self._histories(pupils)

    async def refusals(self, pupil: PupilId) -> tuple[Refusal, ...]:
        return tuple(each for each in self._kept.refusals if each.pupil == pupil)

    async def transact(
        self,
        pupils: Sequence[PupilId],
        decide: Callable[[Mapping[PupilId, History]], tuple[Entries, Answer]],
    ) -> Answer:
        self._store.check_open()
        entries, answer = decide(self._histories(pupils))
        changes: list[Change] = []
        for new in entries.changes:
            self._check(new, [*self._kept.changes, *changes])
            changes.append(_with_id(new, ChangeId(self._store.next_id())))
        for refusal in entries.refusals:
            self._check_persons(refusal)
        self._kept.changes += changes
        self._kept.refusals += entries.refusals
        return answer

    async def transact_attempt(
        self,
        code_digest: str,
        caller_digest: str | None,
        decide: Callable[[Attempts], tuple[WrongAnswer | None, Answer]],
        since: datetime,
        caller_since: datetime,
    ) -> Answer:
        self._store.check_open()
        wrong_answers = self._kept.wrong_answers
        for_code = sorted(each.at for each in wrong_answers if each.code_digest == code_digest and each.at >= since)
        codes = {
            each.code_digest
            for each in wrong_answers
            if caller_digest is not None and each.caller_digest == caller_digest and each.at >= caller_since
        }
        wrong, answer = decide(Attempts(tuple(for_code), len(codes)))
        if wrong is not None:
            wrong_answers.append(wrong)
        return answer

    async def import_people(self, people: People, hasher: PinHasher, make_pin: Callable[[], str]) -> ImportReport:
        self._store.check_open()
        kept = self._kept
        matches = match_guardians(people.guardians, list(kept.guardians.values()))
        ids = [GuardianId(self._store.next_id()) if id_ is None else id_ for id_ in matches]
        stored_pupils = {each.enrolled.user_code: each for each in kept.pupils.values() if each is not None}
        enrolment = enrol(people, ids, kept.guardians, stored_pupils, hasher, make_pin)
        kept.guardians |= {record.id: record for record in enrolment.guardians}
        for known, enrolled, named in enrolment.pupils:
            id_ = PupilId(self._store.next_id()) if known is None else known
            kept.pupils[id_] = PupilRecord(id_, enrolled, named)
        return enrolment.report

    async def erase_pupil(self, pupil: PupilId) -> None:
        self._store.check_open()
        theirs = self._guardians_of(pupil)
        if pupil in self._kept.pupils:
            self._kept.pupils[pupil] = None
        spoken_for = {id_ for each in self._kept.pupils.values() if each is not None for id_ in each.guardians}
        for guardian in set(theirs) - spoken_for:
            self._kept.guardians[guardian] = GuardianRecord(guardian)

    def _pupils(self) -> tuple[Pupil, ...]:
        found = [_pupil(each.id, each.enrolled) for each in self._kept.pupils.values() if each is not None]
        return tuple(sorted(found, key=lambda pupil: pupil.user_code))

    def _guardians_of(self, pupil: PupilId) -> tuple[GuardianId, ...]:
        record = self._kept.pupils.get(pupil)
        return () if record is None else record.guardians

    def _who_gave(self, phone: str | None) -> set[GuardianId]:
        """The guardians with this phone who speak for somebody."""
        spoken_for = {id_ for each in self._kept.pupils.values() if each is not None for id_ in each.guardians}
        return {id_ for id_ in spoken_for if self._kept.guardians[id_].phone == phone}

    def _histories(self, pupils: Sequence[PupilId]) -> dict[PupilId, History]:
        return {pupil: tuple(each for each in self._kept.changes if each.pupil == pupil) for pupil in pupils}

    def _check(self, new: NewChange, standing: Sequence[Change]) -> None:
        """What the database's constraints refuse."""
        self._check_persons(new)
        for each in standing:
            if each.request == new.request:
                raise _conflict(f"request {new.request!r} is already that of a change")
            if each.pupil == new.pupil and each.receipt == new.receipt:
                raise _conflict(f"receipt {new.receipt!r} is already that of a change of the pupil")
            if new.takes_back is not None and each.takes_back == new.takes_back:
                raise _conflict(f"change {new.takes_back} is already taken back")
        if new.takes_back is not None and not any(each.id == new.takes_back for each in standing):
            raise _conflict(f"change {new.takes_back} is not known")

    def _check_persons(self, new: NewChange | Refusal) -> None:
        if new.pupil not in self._kept.pupils:
            raise _conflict(f"pupil {new.pupil} is not of this municipality")
        if new.guardian is not None and new.guardian not in self._kept.guardians:
            raise _conflict(f"guardian {new.guardian} is not of this municipality")


def _conflict(what: str) -> StoreConflictError:
    return StoreConflictError(f"memory: the request contradicts what is kept ({what}); nothing of it was kept")


def _with_id(new: NewChange, id_: ChangeId) -> Change:
    return Change(
        new.pupil,
        new.kind,
        new.first,
        new.last,
        new.receipt,
        new.request,
        new.channel,
        new.guardian,
        new.session,
        new.decided,
        new.review,
        new.takes_back,
        id_,
    )


def _pupil(id_: PupilId, each: NewPupil) -> Pupil:
    return Pupil(id_, each.user_code, each.name, each.surname, each.school, each.class_group, each.diet)


def _is_wanted(each: CallEventRow, wanted: CallEventFilter) -> bool:
    return (
        wanted.town in (None, each.town)
        and wanted.call in (None, each.call)
        and wanted.event in (None, each.event)
        and wanted.number_digest in (None, each.number_digest)
        and (wanted.since is None or each.at >= wanted.since)
    )
