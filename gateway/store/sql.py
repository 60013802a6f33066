"""The store in a database: every statement, and what each request does with them.

The statements are Core's and name no dialect. What a request writes it writes through a `Transaction`, in a function that
runs on the writer's thread; what is only read, readers read beside it.
"""

import asyncio
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import cache, partial
from typing import Any, TypeVar

from sqlalchemy import BindParameter, Select, bindparam, delete, distinct, func, insert, select, update

from core.access import cook_pin_digest
from core.calendar import NONE_CLOSED, ClosedDays
from core.changes import Change, History
from core.headcount import Closing, Roll
from core.people import CookId, Family, GuardianId, People, Pupil, PupilId, UserCode
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
from gateway.store import closings, outbox, rows
from gateway.store.enrolment import GuardianRecord, PupilRecord, enrol, match_guardians
from gateway.store.port import (
    CALL_EVENTS_BATCH,
    CALL_EVENTS_PAGE,
    INSTALLATION,
    MESSAGES_PAGE,
    WHOLE_TOWN,
    Asked,
    CallEventFilter,
    CallEventRow,
    ImportReport,
    Lane,
    Message,
    MessageState,
    NewCallEvent,
    NewCook,
    Node,
    OutboxState,
    Reach,
    Readers,
    Statement,
    StoreConflictError,
    Transaction,
    Writer,
)
from gateway.store.tables import (
    call_events,
    changes,
    guardians,
    municipalities,
    pupil_guardians,
    pupils,
    refusals,
    settings,
    wrong_answers,
)

Answer = TypeVar("Answer")

# What a request has to itself that only wants to know its municipality's id.
NOTHING = Reach()
# Towns of which one transaction says since when they are served; a change that comes meanwhile waits for one.
CLAIMS_AT_ONCE = 200
# Ids in one statement: a family needs a few, a whole town takes a statement for each so many.
IDS_PER_STATEMENT = 512

_MUNICIPALITY: BindParameter[int] = bindparam("municipality")

SELECT_MUNICIPALITY = select(municipalities.c.id).where(municipalities.c.key == bindparam("key"))
INSERT_MUNICIPALITY = insert(municipalities)

_PUPILS = select(*rows.PUPIL_COLUMNS).where(pupils.c.municipality == _MUNICIPALITY).order_by(pupils.c.user_code)
SELECT_ALL_PUPILS = _PUPILS.where(pupils.c.user_code.is_not(None))
_IN_TOWN = (pupils.c.municipality == _MUNICIPALITY, pupils.c.user_code.is_not(None))
COUNT_CLASSES = (
    select(pupils.c.school, pupils.c.class_group, func.count())
    .where(*_IN_TOWN)
    .group_by(pupils.c.school, pupils.c.class_group)
)
SELECT_FIRST_NAMES = select(pupils.c.name).where(*_IN_TOWN).distinct()
SELECT_PUPIL_BY_CODE = _PUPILS.where(pupils.c.user_code == bindparam("user_code"))


@cache
def select_pupils(ids: int) -> Select[Any]:
    return SELECT_ALL_PUPILS.where(pupils.c.id.in_([bindparam(f"id_{number}") for number in range(ids)]))


# A guardian with the pupils: no row where there is none to speak for.
_FAMILY = (
    select(guardians.c.id, guardians.c.language, *rows.PUPIL_COLUMNS)
    .join_from(guardians, pupil_guardians, pupil_guardians.c.guardian == guardians.c.id)
    .join(pupils, pupils.c.id == pupil_guardians.c.pupil)
    .where(guardians.c.municipality == _MUNICIPALITY)
    .order_by(pupils.c.user_code)
)
SELECT_FAMILY = _FAMILY.where(guardians.c.id == bindparam("guardian"))
_others = guardians.alias("others")
SELECT_FAMILY_BY_NUMBER = _FAMILY.where(
    guardians.c.number_digest == bindparam("number_digest"),
    ~select(_others.c.id)
    .join(pupil_guardians, pupil_guardians.c.guardian == _others.c.id)
    .where(
        _others.c.municipality == guardians.c.municipality,
        _others.c.phone == guardians.c.phone,
        _others.c.id != guardians.c.id,
    )
    .correlate(guardians)
    .exists(),
)
SELECT_CREDENTIALS = (
    select(guardians.c.id, guardians.c.pin_digest)
    .join(pupil_guardians, pupil_guardians.c.guardian == guardians.c.id)
    .where(
        pupil_guardians.c.municipality == _MUNICIPALITY,
        pupil_guardians.c.pupil == bindparam("pupil"),
        guardians.c.pin_digest.is_not(None),
    )
    .order_by(guardians.c.id)
)

_CHANGES = select(*rows.CHANGE_COLUMNS).where(changes.c.municipality == _MUNICIPALITY).order_by(changes.c.id)
SELECT_HISTORY = _CHANGES.where(changes.c.pupil == bindparam("pupil"))


@cache
def select_histories(ids: int) -> Select[Any]:
    return _CHANGES.where(changes.c.pupil.in_([bindparam(f"id_{number}") for number in range(ids)]))


INSERT_CHANGE = insert(changes)
SELECT_REFUSALS = (
    select(*rows.REFUSAL_COLUMNS)
    .where(refusals.c.municipality == _MUNICIPALITY, refusals.c.pupil == bindparam("pupil"))
    .order_by(refusals.c.id)
)
INSERT_REFUSAL = insert(refusals)

SELECT_WRONG_FOR_CODE = (
    select(wrong_answers.c.at)
    .where(
        wrong_answers.c.municipality == _MUNICIPALITY,
        wrong_answers.c.code_digest == bindparam("code_digest"),
        wrong_answers.c.at >= bindparam("since"),
    )
    .order_by(wrong_answers.c.at)
)
COUNT_CODES_OF_CALLER = select(func.count(distinct(wrong_answers.c.code_digest))).where(
    wrong_answers.c.municipality == _MUNICIPALITY,
    wrong_answers.c.caller_digest == bindparam("caller_digest"),
    wrong_answers.c.at >= bindparam("since"),
)
INSERT_WRONG_ANSWER = insert(wrong_answers)

SELECT_GUARDIANS = (
    select(*rows.GUARDIAN_COLUMNS).where(guardians.c.municipality == _MUNICIPALITY).order_by(guardians.c.id)
)
INSERT_GUARDIAN = insert(guardians)
UPDATE_GUARDIAN = update(guardians).where(guardians.c.id == bindparam("of"))
SELECT_ENROLLED = select(*rows.ENROLLED_COLUMNS).where(
    pupils.c.municipality == _MUNICIPALITY, pupils.c.user_code.is_not(None)
)
INSERT_PUPIL = insert(pupils)
UPDATE_PUPIL = update(pupils).where(pupils.c.id == bindparam("of"), pupils.c.municipality == bindparam("within"))
SELECT_LINKS = (
    select(pupil_guardians.c.pupil, pupil_guardians.c.guardian)
    .where(pupil_guardians.c.municipality == _MUNICIPALITY)
    .order_by(pupil_guardians.c.guardian)
)
INSERT_LINK = insert(pupil_guardians)
DELETE_LINK = delete(pupil_guardians).where(
    pupil_guardians.c.municipality == _MUNICIPALITY,
    pupil_guardians.c.pupil == bindparam("pupil"),
    pupil_guardians.c.guardian == bindparam("guardian"),
)

INSERT_CALL_EVENT = insert(call_events)


@cache
def select_call_events(wanted: frozenset[str], newest: bool) -> Select[Any]:
    """The page of the call log on which the fields named in `wanted` have the values asked for."""
    conditions = {
        "town": municipalities.c.key == bindparam("town"),
        "call": call_events.c.call == bindparam("call"),
        "event": call_events.c.event == bindparam("event"),
        "number_digest": call_events.c.number_digest == bindparam("number_digest"),
        "since": call_events.c.at >= bindparam("since"),
    }
    return (
        select(*rows.CALL_EVENT_COLUMNS)
        .join_from(call_events, municipalities, municipalities.c.id == call_events.c.municipality, isouter=True)
        .where(call_events.c.id > bindparam("after_id"), *(conditions[name] for name in sorted(wanted)))
        .order_by(call_events.c.id.desc() if newest else call_events.c.id)
        .limit(bindparam("most"))
    )


@cache
def select_names(ids: int) -> Select[Any]:
    return select(pupils.c.id, pupils.c.name, pupils.c.surname).where(
        pupils.c.municipality == _MUNICIPALITY,
        pupils.c.id.in_([bindparam(f"id_{number}") for number in range(ids)]),
        pupils.c.user_code.is_not(None),
    )


SELECT_CODE_OF_PUPIL = select(pupils.c.id).where(
    pupils.c.municipality == _MUNICIPALITY, pupils.c.user_code == bindparam("code")
)
SELECT_ALL_CLOSINGS_SINCE = select(municipalities.c.key, municipalities.c.closings_since)
SELECT_CLOSINGS_SINCE = select(municipalities.c.closings_since).where(municipalities.c.id == bindparam("id"))
UPDATE_CLOSINGS_SINCE = update(municipalities).where(municipalities.c.id == bindparam("of"))

SELECT_SETTING = select(settings.c.value).where(settings.c.key == bindparam("key"))
INSERT_SETTING = insert(settings)
UPDATE_SETTING = update(settings).where(settings.c.key == bindparam("of"))


class SqlStore:
    """One installation's store in a database; made by `gateway.store.engine.open_store`."""

    def __init__(self, url: str, writer: Writer, readers: Readers, migrate: Callable[[], None]) -> None:
        self._url = url
        self._writer = writer
        self._readers = readers
        self._migrate = migrate
        self._municipalities: dict[str, int] = {}

    def at(self, municipality: str) -> "SqlTown":
        return SqlTown(self, municipality)

    async def migrate(self) -> None:
        await asyncio.to_thread(self._migrate)

    async def close(self) -> None:
        try:
            await self._writer.close()
        finally:
            await self._readers.close()

    async def add_call_events(self, events: Sequence[NewCallEvent]) -> None:
        towns = {event.town for event in events if event.town is not None}
        ids: dict[str, int] = {}
        for town in towns:
            known = await self.municipality(town)
            if known is None:
                known = await self.write_in(town, lambda _, municipality: municipality, NOTHING)
            ids[town] = known
        values = [rows.call_event_values(None if each.town is None else ids[each.town], each) for each in events]

        for start in range(0, len(values), CALL_EVENTS_BATCH):
            batch = values[start : start + CALL_EVENTS_BATCH]

            def add(transaction: Transaction, batch: Sequence[rows.Values] = batch) -> None:
                with transaction.savepoint():
                    for event in batch:
                        transaction.add(INSERT_CALL_EVENT, event)

            await self.write(add, Lane.LOG)

    async def call_events(
        self,
        after_id: int = 0,
        wanted: CallEventFilter | None = None,
        *,
        limit: int = CALL_EVENTS_PAGE,
        newest: bool = False,
    ) -> tuple[CallEventRow, ...]:
        values = (
            {}
            if wanted is None
            else {name: value for name in CallEventFilter.__slots__ if (value := getattr(wanted, name)) is not None}
        )
        statement = select_call_events(frozenset(values), newest)
        found = await self.read(statement, {"after_id": after_id, "most": min(limit, CALL_EVENTS_PAGE), **values})
        return tuple(rows.call_event(row) for row in (reversed(found) if newest else found))

    async def settle(self) -> None:
        await self._writer.settle()

    async def closings_since(self, towns: Sequence[str], at: datetime) -> Mapping[str, datetime]:
        def claim(transaction: Transaction, part: Sequence[str]) -> Mapping[str, datetime]:
            since: dict[str, datetime] = {}
            for town in part:
                municipality = _claim_municipality(transaction, town)
                ((said_meanwhile,),) = transaction.rows(SELECT_CLOSINGS_SINCE, {"id": municipality})
                if said_meanwhile is None:
                    transaction.run(UPDATE_CLOSINGS_SINCE, {"of": municipality, "closings_since": at})
                since[town] = said_meanwhile or at
            return since

        # At every start but a town's first there is nothing to write, and thousands to read.
        said = {key: since for key, since in await self.read(SELECT_ALL_CLOSINGS_SINCE, {}) if since is not None}
        unsaid = [town for town in towns if town not in said]
        for start in range(0, len(unsaid), CLAIMS_AT_ONCE):
            part = unsaid[start : start + CLAIMS_AT_ONCE]
            said |= await self.write(partial(claim, part=part), alone="municipalities")
        return {town: said[town] for town in towns}

    async def closed_through(self) -> Mapping[str, Mapping[str, date]]:
        [[last]] = await self.read(closings.SELECT_LAST_CLOSED_DAY, {})
        if last is None:
            return {}
        through: dict[str, dict[str, date]] = {}
        for town, school, day in await self.read(
            closings.SELECT_CLOSED_THROUGH, {"since": last - closings.CLOSED_LATELY}
        ):
            through.setdefault(town, {})[school] = day
        return through

    async def beat(self, node: Node) -> tuple[Node, ...]:
        def say(transaction: Transaction) -> tuple[Node, ...]:
            known = [outbox.node(row) for row in transaction.rows(outbox.SELECT_NODES, {})]
            if any(each.node == node.node for each in known):
                transaction.run(outbox.UPDATE_NODE, {"of": node.node, **outbox.node_values(node)})
            else:
                transaction.run(outbox.INSERT_NODE, {"node": node.node, **outbox.node_values(node)})
            others = [each for each in known if each.node != node.node]
            return tuple(sorted([*others, node], key=lambda each: each.node))

        return await self.write(say, alone="nodes")

    async def leave(self, node: str) -> None:
        await self.write(lambda transaction: transaction.run(outbox.DELETE_NODE, {"of": node}), alone="nodes")

    async def take_messages(self, now: datetime, until: datetime, limit: int) -> tuple[Message, ...]:
        def take(transaction: Transaction) -> tuple[Message, ...]:
            found = transaction.rows(outbox.TAKE_DUE_MESSAGES, {"now": now, "most": limit})
            taken = [replace(each, tries=each.tries + 1, due=until) for each in map(outbox.message, found)]
            for each in taken:
                transaction.run(outbox.MESSAGE_TAKEN, {"of": each.id, "tries": each.tries, "due": until})
            return tuple(taken)

        # Nobody polls through the write lock: most of the time nothing is due.
        if not await self.read(outbox.SELECT_DUE_MESSAGES, {"now": now, "most": 1}):
            return ()
        return await self.write(take, alone="messages")

    async def message_sent(self, message_id: int, at: datetime) -> None:
        values = {"of": message_id, "state": MessageState.SENT.value, "sent": at, "fault": None}
        await self.write(
            lambda transaction: transaction.run(outbox.MESSAGE_SENT, values), alone=f"message {message_id}"
        )

    async def message_failed(self, message_id: int, fault: str, again: datetime | None) -> None:
        values: rows.Values = {"of": message_id, "fault": fault}
        if again is None:
            values |= {"state": MessageState.DEAD.value}
        else:
            values |= {"due": again}
        failed = outbox.MESSAGE_DEAD if again is None else outbox.MESSAGE_FAILED
        await self.write(lambda transaction: transaction.run(failed, values), alone=f"message {message_id}")

    async def retry_message(self, message_id: int, at: datetime) -> bool:
        def retry(transaction: Transaction) -> bool:
            standing = transaction.rows(outbox.SELECT_MESSAGE_STATE, {"id": message_id})
            if not standing or standing[0][0] == MessageState.SENT.value:
                return False
            waiting = {"of": message_id, "state": MessageState.WAITING.value, "tries": 0, "due": at}
            transaction.run(outbox.RETRY_MESSAGE, waiting)
            return True

        return await self.write(retry, alone=f"message {message_id}")

    async def messages(
        self, state: MessageState | None = None, *, town: str | None = None, limit: int = MESSAGES_PAGE
    ) -> tuple[Message, ...]:
        wanted = {"state": state and state.value, "town": town}
        values = {name: value for name, value in wanted.items() if value is not None}
        statement = outbox.select_messages(frozenset(values))
        found = await self.read(statement, {"most": min(limit, MESSAGES_PAGE), **values})
        return tuple(map(outbox.message, found))

    async def message(self, message_id: int) -> Message | None:
        for row in await self.read(outbox.SELECT_MESSAGE, {"id": message_id}):
            return outbox.message(row)
        return None

    async def outbox_state(self, dead_since: datetime) -> OutboxState:
        [(waiting, oldest)] = await self.read(outbox.SELECT_WAITING, {})
        [(dead,)] = await self.read(outbox.SELECT_DEAD, {"since": dead_since})
        return OutboxState(waiting, oldest, dead)

    async def get_setting(self, key: str) -> str | None:
        for (value,) in await self.read(SELECT_SETTING, {"key": key}):
            return str(value)
        return None

    async def set_setting(self, key: str, value: str) -> None:
        def put(transaction: Transaction) -> None:
            if transaction.rows(SELECT_SETTING, {"key": key}):
                transaction.run(UPDATE_SETTING, {"of": key, "value": value})
            else:
                transaction.run(INSERT_SETTING, {"key": key, "value": value})

        await self.write(put)

    async def claim_setting(self, key: str, value: str) -> str:
        def claim(transaction: Transaction) -> str:
            for (standing,) in transaction.rows(SELECT_SETTING, {"key": key}):
                return str(standing)
            transaction.run(INSERT_SETTING, {"key": key, "value": value})
            return value

        return await self.write(claim)

    # What the towns work with.

    async def write(
        self, work: Callable[[Transaction], Answer], lane: Lane = Lane.CHANGE, alone: str = INSTALLATION
    ) -> Answer:
        """Run `work` in a durable transaction; two of the same `alone` run one after the other.

        Raises `StoreError`, and what `work` raises.
        """
        return await self._writer.write(work, lane, alone)

    async def read(self, statement: Statement, values: Mapping[str, object]) -> Sequence[rows.Row]:
        """What one statement finds in the whole installation. Raises `StoreBusyError`, `StoreFaultError`."""
        [found] = await self._readers.rows([(statement, values)])
        return found

    async def read_in(self, municipality: int, asked: Sequence[Asked]) -> Sequence[Sequence[rows.Row]]:
        """What statements find, all of one moment, in one municipality. Raises `StoreBusyError`, `StoreFaultError`."""
        return await self._readers.rows(asked, municipality)

    async def municipality(self, key: str) -> int | None:
        """The id of a municipality, None while nothing of it is kept."""
        if key not in self._municipalities:
            for (id_,) in await self.read(SELECT_MUNICIPALITY, {"key": key}):
                self._municipalities[key] = id_
        return self._municipalities.get(key)

    async def write_in(
        self, town: str, work: Callable[[Transaction, int], Answer], reach: Reach = WHOLE_TOWN
    ) -> Answer:
        """Run `work` with the id of a municipality, which comes into being by that.

        Nothing is awaited before the request is on its way, so that whoever hangs up from here on has made it (R18).
        """
        self._municipalities[town], answer = await self._writer.write_in(
            self._municipalities.get(town), lambda transaction: _claim_municipality(transaction, town), work, reach
        )
        return answer


class SqlTown:
    """One municipality's part of the store: every statement it runs holds the municipality."""

    def __init__(self, store: SqlStore, key: str) -> None:
        self._store = store
        self._key = key

    async def pupil(self, code: UserCode) -> Pupil | None:
        for row in await self._read(SELECT_PUPIL_BY_CODE, {"user_code": code}):
            return rows.pupil(row)
        return None

    async def pupils(self, ids: Sequence[PupilId]) -> tuple[Pupil, ...]:
        found: dict[PupilId, Pupil] = {}
        for part in _parts(ids):
            for row in await self._read(select_pupils(len(part)), part):
                pupil = rows.pupil(row)
                found[pupil.id] = pupil
        return tuple(sorted(found.values(), key=lambda pupil: pupil.user_code))

    async def all_pupils(self) -> tuple[Pupil, ...]:
        return tuple(rows.pupil(row) for row in await self._read(SELECT_ALL_PUPILS, {}))

    async def class_sizes(self) -> Mapping[tuple[str, str], int]:
        return {(school, group): count for school, group, count in await self._read(COUNT_CLASSES, {})}

    async def first_names(self) -> frozenset[str]:
        return frozenset(name for (name,) in await self._read(SELECT_FIRST_NAMES, {}))

    async def family(self, guardian: GuardianId) -> Family | None:
        return _family(await self._read(SELECT_FAMILY, {"guardian": guardian}))

    async def family_by_number(self, number_digest: str) -> Family | None:
        return _family(await self._read(SELECT_FAMILY_BY_NUMBER, {"number_digest": number_digest}))

    async def credentials(self, pupil: PupilId) -> tuple[Credential, ...]:
        return tuple(Credential(*row) for row in await self._read(SELECT_CREDENTIALS, {"pupil": pupil}))

    async def histories(self, pupils: Sequence[PupilId]) -> Mapping[PupilId, History]:
        found: dict[PupilId, list[Change]] = {pupil: [] for pupil in pupils}
        for part in _parts(list(found)):
            for row in await self._read(select_histories(len(part)), part):
                change = rows.change(row)
                found[change.pupil].append(change)
        return {pupil: tuple(history) for pupil, history in found.items()}

    async def refusals(self, pupil: PupilId) -> tuple[Refusal, ...]:
        return tuple(rows.refusal(row) for row in await self._read(SELECT_REFUSALS, {"pupil": pupil}))

    async def transact(
        self,
        pupils: Sequence[PupilId],
        decide: Callable[[Kept], tuple[Entries, Answer]],
        schools: Mapping[str, date] = NO_SCHOOLS,
    ) -> Answer:
        def work(transaction: Transaction, municipality: int) -> Answer:
            histories = {pupil: _history(transaction, municipality, pupil) for pupil in dict.fromkeys(pupils)}
            closed = closings.closed_days(
                (school, transaction.rows(closings.SELECT_CLOSED_DAYS, values))
                for school, values in closings.closed_days_wanted(municipality, schools)
            )
            entries, answer = decide(Kept(histories, closed))
            if len(entries.changes) + len(entries.refusals) > 1:
                with transaction.savepoint():
                    _add(transaction, municipality, entries)
            else:
                _add(transaction, municipality, entries)
            return answer

        def asks(municipality: int) -> Sequence[Asked]:
            histories = [_history_asked(municipality, pupil) for pupil in dict.fromkeys(pupils)]
            wanted = closings.closed_days_wanted(municipality, schools)
            return [*histories, *((closings.SELECT_CLOSED_DAYS, values) for _, values in wanted)]

        return await self._store.write_in(self._key, work, Reach(pupils=tuple(pupils), asks=asks))

    async def closed_days(self, schools: Mapping[str, date]) -> ClosedDays:
        municipality = await self._store.municipality(self._key)
        if municipality is None:
            return NONE_CLOSED
        return closings.closed_days(
            [
                (school, (await self._store.read_in(municipality, [(closings.SELECT_CLOSED_DAYS, values)]))[0])
                for school, values in closings.closed_days_wanted(municipality, schools)
            ]
        )

    async def roll(self, school: str, day: date, tray_diets: Collection[str]) -> Roll:
        municipality = await self._store.municipality(self._key)
        if municipality is None:
            return Roll(())
        asked = closings.rolls_asked(municipality, [school], day, tray_diets)
        return closings.rolls([school], await self._store.read_in(municipality, asked))[school]

    async def closing(self, school: str, day: date) -> Closing | None:
        for row in await self._read(closings.SELECT_CLOSING, {"school": school, "day": day}):
            return await self._whole(row)
        return None

    async def order(self, number: int) -> tuple[Closing, ...]:
        found = await self._read(closings.SELECT_ORDER, {"number": number})
        whole = [await self._whole(row) for row in found]
        return tuple(sorted(whole, key=lambda closing: closing.headcount.school))

    async def _whole(self, row: rows.Row) -> Closing:
        """The closing of a row, whose parts nobody can have changed since."""
        parts = (closings.SELECT_COUNTS, closings.SELECT_COUNTED_CHANGES, closings.SELECT_TRAYS)
        counts, changed, trays = [await self._read(part, {"closing": row[0]}) for part in parts]
        return closings.closing(row, counts, changed, trays)

    async def transact_closing(
        self,
        day: date,
        schools: Sequence[str],
        tray_diets: Collection[str],
        decide: Callable[[ClosingState], tuple[Closings, Answer]],
    ) -> Answer:
        def work(transaction: Transaction, municipality: int) -> Answer:
            closed = {school for (school,) in transaction.rows(*closings.closed_asked(municipality, schools, day))}
            still_open = [school for school in schools if school not in closed]
            asked = closings.rolls_asked(municipality, still_open, day, tray_diets) if still_open else ()
            rolls = closings.rolls(still_open, [transaction.rows(*each) for each in asked]) if asked else {}
            ((last,),) = transaction.rows(closings.SELECT_LAST_ORDER, {"municipality": municipality})
            added, answer = decide(ClosingState(rolls, (last or 0) + 1))
            with transaction.savepoint():
                for closing in added.closings:
                    closings.add_closing(transaction, municipality, closing)
                for message in added.messages:
                    transaction.add(outbox.INSERT_MESSAGE, outbox.message_values(municipality, message))
            return answer

        return await self._store.write_in(self._key, work)

    async def cook(self, code: UserCode) -> Cook | None:
        for row in await self._read(outbox.SELECT_COOK, {"code": code}):
            return outbox.cook(row)
        return None

    async def import_cooks(
        self, cooks: Sequence[NewCook], hasher: PinHasher, make_pin: Callable[[], str]
    ) -> Mapping[UserCode, str]:
        def work(transaction: Transaction, municipality: int) -> Mapping[UserCode, str]:
            with transaction.savepoint():
                return _import_cooks(transaction, municipality, cooks, hasher, make_pin)

        return await self._store.write_in(self._key, work)

    async def names(self, pupils: Sequence[PupilId]) -> Mapping[PupilId, tuple[str, str]]:
        found = [row for part in _parts(pupils) for row in await self._read(select_names(len(part)), part)]
        return {PupilId(id_): (name, surname) for id_, name, surname in found}

    async def add_message(self, message: NewMessage) -> Message:
        def work(transaction: Transaction, municipality: int) -> Message:
            wanted = {"municipality": municipality, "key": message.key}
            if not transaction.rows(outbox.SELECT_MESSAGE_BY_KEY, wanted):
                transaction.add(outbox.INSERT_MESSAGE, outbox.message_values(municipality, message))
            [row] = transaction.rows(outbox.SELECT_MESSAGE_BY_KEY, wanted)
            return outbox.message(row)

        return await self._store.write_in(self._key, work)

    async def transact_attempt(
        self,
        code_digest: str,
        caller_digest: str | None,
        decide: Callable[[Attempts], tuple[WrongAnswer | None, Answer]],
        since: datetime,
        caller_since: datetime,
    ) -> Answer:
        def asks(municipality: int) -> Sequence[Asked]:
            of_code = {"municipality": municipality, "code_digest": code_digest, "since": since}
            of_caller = {"municipality": municipality, "caller_digest": caller_digest, "since": caller_since}
            return (SELECT_WRONG_FOR_CODE, of_code), (COUNT_CODES_OF_CALLER, of_caller)

        def work(transaction: Transaction, municipality: int) -> Answer:
            # No caller's digest equals NULL, so callers without a number count as none.
            wrong_ones, ((codes,),) = [transaction.rows(*each) for each in asks(municipality)]
            wrong, answer = decide(Attempts(tuple(at for (at,) in wrong_ones), codes))
            if wrong is not None:
                transaction.add(INSERT_WRONG_ANSWER, rows.wrong_answer_values(municipality, wrong))
            return answer

        words = tuple(digest for digest in (code_digest, caller_digest) if digest is not None)
        return await self._store.write_in(self._key, work, Reach(words=words, asks=asks))

    async def import_people(self, people: People, hasher: PinHasher, make_pin: Callable[[], str]) -> ImportReport:
        def work(transaction: Transaction, municipality: int) -> ImportReport:
            with transaction.savepoint():
                return _import(transaction, municipality, people, hasher, make_pin)

        return await self._store.write_in(self._key, work)

    async def erase_pupil(self, pupil: PupilId) -> None:
        def work(transaction: Transaction, municipality: int) -> None:
            with transaction.savepoint():
                _erase(transaction, municipality, pupil)

        await self._store.write_in(self._key, work)

    async def _read(self, statement: Select[Any], values: Mapping[str, object]) -> Sequence[rows.Row]:
        municipality = await self._store.municipality(self._key)
        if municipality is None:
            return ()
        [found] = await self._store.read_in(municipality, [(statement, {"municipality": municipality, **values})])
        return found


def _claim_municipality(transaction: Transaction, key: str) -> int:
    for (id_,) in transaction.rows(SELECT_MUNICIPALITY, {"key": key}):
        return int(id_)
    return transaction.run(INSERT_MUNICIPALITY, {"key": key})


def _parts(ids: Sequence[PupilId]) -> Iterator[Mapping[str, PupilId]]:
    """The ids as values of statements for so many; the last id is repeated up to a power of two, so that these stay few."""
    for start in range(0, len(ids), IDS_PER_STATEMENT):
        part = ids[start : start + IDS_PER_STATEMENT]
        size = 1 << (len(part) - 1).bit_length()
        yield {f"id_{number}": part[min(number, len(part) - 1)] for number in range(size)}


def _family(found: Sequence[rows.Row]) -> Family | None:
    """From rows of one guardian, each with a pupil."""
    if not found:
        return None
    guardian, language = found[0][:2]
    return Family(guardian, language, tuple(rows.pupil(row[2:]) for row in found))


def _history(transaction: Transaction, municipality: int, pupil: PupilId) -> History:
    return tuple(rows.change(row) for row in transaction.rows(*_history_asked(municipality, pupil)))


def _history_asked(municipality: int, pupil: PupilId) -> Asked:
    return SELECT_HISTORY, {"municipality": municipality, "pupil": pupil}


def _add(transaction: Transaction, municipality: int, entries: Entries) -> None:
    for change in entries.changes:
        transaction.add(INSERT_CHANGE, rows.change_values(municipality, change))
    for refusal in entries.refusals:
        transaction.add(INSERT_REFUSAL, rows.refusal_values(municipality, refusal))


def _import(
    transaction: Transaction, municipality: int, people: People, hasher: PinHasher, make_pin: Callable[[], str]
) -> ImportReport:
    here = {"municipality": municipality}
    stored_guardians = [rows.guardian_record(row) for row in transaction.rows(SELECT_GUARDIANS, here)]
    linked: dict[PupilId, list[GuardianId]] = {}
    for pupil, guardian in transaction.rows(SELECT_LINKS, here):
        linked.setdefault(pupil, []).append(guardian)
    stored_pupils = {}
    for row in transaction.rows(SELECT_ENROLLED, here):
        id_, person = rows.enrolled(row)
        stored_pupils[person.user_code] = PupilRecord(id_, person, tuple(linked.get(id_, ())))

    cooks = {code for _, code, _ in transaction.rows(outbox.SELECT_COOK_CODES, here)}

    # A PIN's digest holds its guardian's id, so new guardians get their rows first and what stands in them afterwards.
    blank = rows.guardian_values(GuardianRecord(GuardianId(0)))
    ids = [
        GuardianId(transaction.run(INSERT_GUARDIAN, here | blank)) if id_ is None else id_
        for id_ in match_guardians(people.guardians, stored_guardians)
    ]
    by_id = {record.id: record for record in stored_guardians}
    enrolment = enrol(people, ids, by_id, stored_pupils, hasher, make_pin)

    for record in enrolment.guardians:
        if record != by_id.get(record.id):
            transaction.run(UPDATE_GUARDIAN, {"of": record.id, **rows.guardian_values(record)})
    for known, person, named in enrolment.pupils:
        if known is None and person.user_code in cooks:
            raise StoreConflictError(
                f"pupil {person.user_code}: a cook has this code; expected one of the pupil's own; nothing was kept"
            )
        values = rows.enrolled_values(person)
        if known is None:
            pupil = PupilId(transaction.run(INSERT_PUPIL, here | values))
        else:
            pupil = known
            if person != stored_pupils[person.user_code].enrolled:
                transaction.run(UPDATE_PUPIL, {"of": pupil, "within": municipality, **values})
        before = set(linked.get(pupil, ()))
        for guardian in before - set(named):
            transaction.run(DELETE_LINK, here | {"pupil": pupil, "guardian": guardian})
        for guardian in sorted(set(named) - before):
            transaction.add(INSERT_LINK, here | {"pupil": pupil, "guardian": guardian})
    return enrolment.report


def _import_cooks(
    transaction: Transaction,
    municipality: int,
    cooks: Sequence[NewCook],
    hasher: PinHasher,
    make_pin: Callable[[], str],
) -> Mapping[UserCode, str]:
    here = {"municipality": municipality}
    stored = {code: (id_, digest) for id_, code, digest in transaction.rows(outbox.SELECT_COOK_CODES, here)}
    made: dict[UserCode, str] = {}
    for new in cooks:
        if transaction.rows(SELECT_CODE_OF_PUPIL, {**here, "code": new.code}):
            raise StoreConflictError(
                f"cook {new.code}: a pupil has this code; expected one of the cook's own; nothing was kept"
            )
        values: rows.Values = {"schools": json.dumps(new.schools), "language": new.language}
        id_, digest = stored.pop(new.code, (None, ""))
        if id_ is None:
            # A PIN's digest holds its owner's id, so a new cook gets the row first and what stands in it afterwards.
            id_ = transaction.run(outbox.INSERT_COOK, {**here, "code": new.code, "pin_digest": "", **values})
        if new.pin is not None or not digest:
            pin = new.pin
            if pin is None:
                pin = made[new.code] = make_pin()
            digest = cook_pin_digest(hasher, CookId(id_), pin)
        transaction.run(outbox.UPDATE_COOK, {"of": id_, "within": municipality, "pin_digest": digest, **values})
    for code in stored:
        transaction.run(outbox.DELETE_COOK, {**here, "code": code})
    return made


def _erase(transaction: Transaction, municipality: int, pupil: PupilId) -> None:
    here = {"municipality": municipality}
    links = [(each, guardian) for each, guardian in transaction.rows(SELECT_LINKS, here)]
    transaction.run(UPDATE_PUPIL, {"of": pupil, "within": municipality, **rows.ERASED_PUPIL})
    theirs = {guardian for each, guardian in links if each == pupil}
    others = {guardian for each, guardian in links if each != pupil}
    for guardian in theirs:
        transaction.run(DELETE_LINK, here | {"pupil": pupil, "guardian": guardian})
    for guardian in theirs - others:
        transaction.run(UPDATE_GUARDIAN, {"of": guardian, **rows.guardian_values(GuardianRecord(guardian))})
