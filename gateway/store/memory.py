"""The store in memory, for rehearsals and tests: it keeps nothing, and otherwise passes the contract of the database."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from itertools import count
from typing import TypeVar

from core.access import cook_pin_digest
from core.calendar import ClosedDays
from core.changes import Change, ChangeId, History, NewChange
from core.changes import standing as standing_of
from core.headcount import ClassRoll, Closing, OnRoll, Roll
from core.people import CookId, Diet, Family, GuardianId, NewPupil, People, Pupil, PupilId, UserCode
from core.ports import (
    NO_SCHOOLS,
    Attempts,
    Closings,
    ClosingState,
    Cook,
    Credential,
    Entries,
    Kept,
    NewMessage,
    PinHasher,
    Refusal,
    WrongAnswer,
)
from gateway.store.enrolment import GuardianRecord, PupilRecord, enrol, match_guardians
from gateway.store.port import (
    CALL_EVENTS_PAGE,
    MESSAGES_PAGE,
    CallEventFilter,
    CallEventRow,
    ImportReport,
    Message,
    MessageState,
    NewCallEvent,
    NewCook,
    Node,
    OutboxState,
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
    closings: dict[tuple[str, date], Closing] = field(default_factory=dict)
    cooks: dict[UserCode, Cook] = field(default_factory=dict)
    closings_since: datetime | None = None


class MemoryStore:
    """One installation's store in this process; every request runs at once and whole."""

    def __init__(self) -> None:
        self._towns: dict[str, _Kept] = {}
        self._settings: dict[str, str] = {}
        self._events: list[CallEventRow] = []
        self._messages: dict[int, Message] = {}
        self._nodes: dict[str, Node] = {}
        self._ids = count(1)
        self._is_closed = False

    def at(self, municipality: str) -> "MemoryTown":
        return MemoryTown(self, municipality, self._towns.setdefault(municipality, _Kept()))

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

    async def settle(self) -> None:
        """Every request is whole before the next one begins."""

    async def closings_since(self, towns: Sequence[str], at: datetime) -> Mapping[str, datetime]:
        self.check_open()
        since: dict[str, datetime] = {}
        for town in towns:
            kept = self._towns.setdefault(town, _Kept())
            kept.closings_since = since[town] = kept.closings_since or at
        return since

    async def closed_through(self) -> Mapping[str, Mapping[str, date]]:
        through: dict[str, dict[str, date]] = {}
        for town, kept in self._towns.items():
            for school, day in sorted(kept.closings):
                through.setdefault(town, {})[school] = day
        return through

    async def beat(self, node: Node) -> tuple[Node, ...]:
        self.check_open()
        self._nodes[node.node] = node
        return tuple(self._nodes[name] for name in sorted(self._nodes))

    async def leave(self, node: str) -> None:
        self.check_open()
        self._nodes.pop(node, None)

    async def take_messages(self, now: datetime, until: datetime, limit: int) -> tuple[Message, ...]:
        self.check_open()
        waiting = [each for each in self._messages.values() if each.state is MessageState.WAITING and each.due <= now]
        taken = sorted(waiting, key=lambda each: (each.due, each.id))[:limit]
        return tuple(self._put(replace(each, tries=each.tries + 1, due=until)) for each in taken)

    async def message_sent(self, message_id: int, at: datetime) -> None:
        self._put(replace(self._messages[message_id], state=MessageState.SENT, sent=at, fault=None))

    async def message_failed(self, message_id: int, fault: str, again: datetime | None) -> None:
        if self._messages[message_id].state is not MessageState.WAITING:
            return
        failed = replace(self._messages[message_id], fault=fault)
        self._put(replace(failed, state=MessageState.DEAD) if again is None else replace(failed, due=again))

    async def retry_message(self, message_id: int, at: datetime) -> bool:
        self.check_open()
        standing = self._messages.get(message_id)
        if standing is None or standing.state is MessageState.SENT:
            return False
        self._put(replace(standing, state=MessageState.WAITING, tries=0, due=at))
        return True

    async def messages(
        self, state: MessageState | None = None, *, town: str | None = None, limit: int = MESSAGES_PAGE
    ) -> tuple[Message, ...]:
        found = [each for each in self._messages.values() if state in (None, each.state) and town in (None, each.town)]
        return tuple(sorted(found, key=lambda each: -each.id)[: min(limit, MESSAGES_PAGE)])

    async def message(self, message_id: int) -> Message | None:
        return self._messages.get(message_id)

    async def outbox_state(self, dead_since: datetime) -> OutboxState:
        waiting = [each.created for each in self._messages.values() if each.state is MessageState.WAITING]
        dead = [each for each in self._messages.values() if each.state is MessageState.DEAD]
        lately = sum(each.created >= dead_since for each in dead)
        return OutboxState(len(waiting), min(waiting, default=None), lately)

    def add_message(self, town: str, new: NewMessage) -> Message:
        for standing in self._messages.values():
            if (standing.town, standing.key) == (town, new.key):
                return standing
        values = (new.key, new.kind, json.loads(fields_text(new.about)), new.created, self.next_id(), town)
        return self._put(Message(*values, MessageState.WAITING, 0, new.created, None, None))

    def _put(self, message: Message) -> Message:
        self.check_open()
        self._messages[message.id] = message
        return message

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

    def __init__(self, store: MemoryStore, key: str, kept: _Kept) -> None:
        self._store = store
        self._key = key
        self._kept = kept

    async def pupil(self, code: UserCode) -> Pupil | None:
        return next((pupil for pupil in self._pupils() if pupil.user_code == code), None)

    async def pupils(self, ids: Sequence[PupilId]) -> tuple[Pupil, ...]:
        return tuple(pupil for pupil in self._pupils() if pupil.id in ids)

    async def all_pupils(self) -> tuple[Pupil, ...]:
        return self._pupils()

    async def class_sizes(self) -> Mapping[tuple[str, str], int]:
        return Counter((pupil.school, pupil.class_group) for pupil in self._pupils())

    async def first_names(self) -> frozenset[str]:
        return frozenset(pupil.name for pupil in self._pupils())

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
        decide: Callable[[Kept], tuple[Entries, Answer]],
        schools: Mapping[str, date] = NO_SCHOOLS,
    ) -> Answer:
        self._store.check_open()
        entries, answer = decide(Kept(self._histories(pupils), await self.closed_days(schools)))
        changes: list[Change] = []
        for new in entries.changes:
            self._check(new, [*self._kept.changes, *changes])
            changes.append(_with_id(new, ChangeId(self._store.next_id())))
        for refusal in entries.refusals:
            self._check_persons(refusal)
        self._kept.changes += changes
        self._kept.refusals += entries.refusals
        return answer

    async def closed_days(self, schools: Mapping[str, date]) -> ClosedDays:
        return ClosedDays(
            {
                school: {
                    day: frozenset(closing.headcount.class_groups)
                    for (other, day), closing in self._kept.closings.items()
                    if other == school and day >= since
                }
                for school, since in schools.items()
            }
        )

    async def roll(self, school: str, day: date, tray_diets: Collection[str]) -> Roll:
        return self._roll(school, day, tray_diets)

    async def closing(self, school: str, day: date) -> Closing | None:
        return self._kept.closings.get((school, day))

    async def order(self, number: int) -> tuple[Closing, ...]:
        found = [closing for closing in self._kept.closings.values() if closing.order == number]
        return tuple(sorted(found, key=lambda closing: closing.headcount.school))

    async def transact_closing(
        self,
        day: date,
        schools: Sequence[str],
        tray_diets: Collection[str],
        decide: Callable[[ClosingState], tuple[Closings, Answer]],
    ) -> Answer:
        self._store.check_open()
        standing = self._kept.closings
        still_open = [school for school in schools if (school, day) not in standing]
        rolls = {school: self._roll(school, day, tray_diets) for school in still_open}
        last = max((closing.order for closing in standing.values()), default=0)
        added, answer = decide(ClosingState(rolls, last + 1))
        for closing in added.closings:
            key = closing.headcount.school, closing.headcount.day
            if key in standing:
                raise _conflict(f"{key[0]} is already closed on {key[1]}")
            counted, trays = closing.headcount.changes, closing.headcount.trays
            if not {each.pupil for each in counted} | {each.pupil for each in trays} <= self._kept.pupils.keys():
                raise _conflict("a pupil is not of this municipality")
            if not {each.change for each in counted} <= {change.id for change in self._kept.changes}:
                raise _conflict("a change is not known")
        standing.update(((each.headcount.school, each.headcount.day), each) for each in added.closings)
        for message in added.messages:
            self._store.add_message(self._key, message)
        return answer

    async def cook(self, code: UserCode) -> Cook | None:
        return self._kept.cooks.get(code)

    async def import_cooks(
        self, cooks: Sequence[NewCook], hasher: PinHasher, make_pin: Callable[[], str]
    ) -> Mapping[UserCode, str]:
        self._store.check_open()
        codes = {pupil.user_code for pupil in self._pupils()}
        made: dict[UserCode, str] = {}
        enrolled: dict[UserCode, Cook] = {}
        for new in cooks:
            if new.code in codes:
                raise _conflict(f"a pupil has the code {new.code} of a cook")
            known = self._kept.cooks.get(new.code)
            id_ = known.id if known else CookId(self._store.next_id())
            pin, digest = new.pin, known.pin_digest if known else ""
            if pin is None and not digest:
                pin = made[new.code] = make_pin()
            if pin is not None:
                digest = cook_pin_digest(hasher, id_, pin)
            enrolled[new.code] = Cook(id_, new.code, digest, new.schools, new.language)
        self._kept.cooks = enrolled
        return made

    async def names(self, pupils: Sequence[PupilId]) -> Mapping[PupilId, tuple[str, str]]:
        return {each.id: (each.name, each.surname) for each in self._pupils() if each.id in pupils}

    async def add_message(self, message: NewMessage) -> Message:
        self._store.check_open()
        return self._store.add_message(self._key, message)

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
        taken = kept.cooks.keys() & {each.user_code for each in people.pupils if each.user_code not in stored_pupils}
        if taken:
            raise _conflict(f"a cook has the code {min(taken)} of a pupil")
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

    def _roll(self, school: str, day: date, tray_diets: Collection[str]) -> Roll:
        pupils = [pupil for pupil in self._pupils() if pupil.school == school]
        classes = Counter((pupil.class_group, pupil.diet) for pupil in pupils)
        by_id = sorted(pupils, key=lambda pupil: pupil.id)
        changed = [
            OnRoll(pupil.id, pupil.class_group, pupil.diet, covering)
            for pupil, history in zip(by_id, self._histories([each.id for each in by_id]).values(), strict=True)
            if (covering := tuple(change for change in standing_of(history) if change.covers(day)))
        ]
        on_trays = [
            OnRoll(pupil.id, pupil.class_group, pupil.diet)
            for pupil in by_id
            if pupil.diet and pupil.diet.code in tray_diets
        ]
        rolls = [ClassRoll(class_group, diet, number) for (class_group, diet), number in classes.items()]
        return Roll(tuple(sorted(rolls, key=_order_of_rolls)), tuple(changed), tuple(on_trays))

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


def _order_of_rolls(roll: ClassRoll) -> tuple[str, str, date, date]:
    diet = roll.diet or Diet("")
    return roll.class_group, diet.code, diet.first or date.min, diet.last or date.min


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
