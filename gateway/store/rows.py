"""Values as rows and rows as values: the one place that knows the order of the columns."""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from core.changes import Change, ChangeId, Kind, NewChange
from core.clock import Reading
from core.people import Diet, NewPupil, Pupil, PupilId
from core.ports import Refusal, WrongAnswer
from core.window import Channel
from gateway.store.enrolment import GuardianRecord
from gateway.store.port import CallEventRow, NewCallEvent
from gateway.store.tables import call_events, changes, guardians, municipalities, pupils, refusals

Row = Sequence[Any]
Values = dict[str, Any]

_DECIDED = ("decided_earliest", "decided_latest", "decided_source", "decided_synchronised")

CHANGE_COLUMNS = tuple(
    changes.c[name]
    for name in (
        "pupil", "kind", "first_day", "last_day", "receipt", "request", "channel", "guardian", "session",
        *_DECIDED, "review", "takes_back", "id",
    )
)  # fmt: skip
REFUSAL_COLUMNS = tuple(
    refusals.c[name]
    for name in ("pupil", "action", "day", "outcome", "request", "channel", "guardian", "session", *_DECIDED)
)
PUPIL_COLUMNS = tuple(
    pupils.c[name]
    for name in ("id", "user_code", "name", "surname", "school", "class_group", "diet_code", "diet_first", "diet_last")
)
ENROLLED_COLUMNS = (*PUPIL_COLUMNS, pupils.c.codice_fiscale)
GUARDIAN_COLUMNS = tuple(
    guardians.c[name] for name in ("id", "name", "surname", "email", "phone", "number_digest", "pin_digest", "language")
)
CALL_EVENT_COLUMNS = (
    *(call_events.c[name] for name in ("id", "call", "at", "event", "number_masked", "number_digest", "fields")),
    municipalities.c.key,
)


def change(row: Row) -> Change:
    """From CHANGE_COLUMNS."""
    pupil, kind, first, last, receipt, request, channel, guardian, session = row[:9]
    earliest, latest, source, synchronised, review, takes_back, id_ = row[9:]
    return Change(
        pupil, Kind(kind), first, last, receipt, request, Channel(channel), guardian, session,
        Reading(earliest, latest, source, synchronised), review, takes_back, ChangeId(id_),
    )  # fmt: skip


def change_values(municipality: int, new: NewChange) -> Values:
    return {
        "municipality": municipality,
        "pupil": new.pupil,
        "kind": new.kind.value,
        "first_day": new.first,
        "last_day": new.last,
        "receipt": new.receipt,
        "request": new.request,
        "channel": new.channel.value,
        "guardian": new.guardian,
        "session": new.session,
        **_decided_values(new.decided),
        "review": new.review,
        "takes_back": new.takes_back,
    }


def refusal(row: Row) -> Refusal:
    """From REFUSAL_COLUMNS."""
    pupil, action, day, outcome, request, channel, guardian, session, earliest, latest, source, synchronised = row
    decided = Reading(earliest, latest, source, synchronised)
    return Refusal(pupil, action, day, outcome, request, Channel(channel), guardian, session, decided)


def refusal_values(municipality: int, new: Refusal) -> Values:
    return {
        "municipality": municipality,
        "pupil": new.pupil,
        "action": new.action,
        "day": new.day,
        "outcome": new.outcome,
        "request": new.request,
        "channel": new.channel.value,
        "guardian": new.guardian,
        "session": new.session,
        **_decided_values(new.decided),
    }


def _decided_values(decided: Reading) -> Values:
    return {
        "decided_earliest": decided.earliest,
        "decided_latest": decided.latest,
        "decided_source": decided.source,
        "decided_synchronised": decided.synchronised,
    }


def wrong_answer_values(municipality: int, new: WrongAnswer) -> Values:
    return {
        "municipality": municipality,
        "code_digest": new.code_digest,
        "caller_digest": new.caller_digest,
        "at": new.at,
    }


def pupil(row: Row) -> Pupil:
    """From PUPIL_COLUMNS."""
    id_, code, name, surname, school, class_group, diet_code, diet_first, diet_last = row[:9]
    return Pupil(id_, code, name, surname, school, class_group, diet(diet_code, diet_first, diet_last))


def diet(code: str | None, first: date | None, last: date | None) -> Diet | None:
    return None if code is None else Diet(code, first, last)


def enrolled(row: Row) -> tuple[PupilId, NewPupil]:
    """From ENROLLED_COLUMNS: the pupil without its guardians."""
    each, codice_fiscale = pupil(row), row[9]
    return each.id, NewPupil(
        each.user_code, each.name, each.surname, codice_fiscale, each.school, each.class_group, each.diet, ()
    )


def enrolled_values(new: NewPupil) -> Values:
    eats = new.diet
    return {
        "user_code": new.user_code,
        "name": new.name,
        "surname": new.surname,
        "codice_fiscale": new.codice_fiscale,
        "school": new.school,
        "class_group": new.class_group,
        "diet_code": eats and eats.code,
        "diet_first": eats and eats.first,
        "diet_last": eats and eats.last,
    }


# What is left of an erased pupil: where somebody ate, for the counts of those days, and no longer who.
ERASED_PUPIL: Mapping[str, str | None] = {
    "user_code": None,
    "name": "",
    "surname": "",
    "codice_fiscale": None,
    "diet_code": None,
    "diet_first": None,
    "diet_last": None,
}


def guardian_record(row: Row) -> GuardianRecord:
    """From GUARDIAN_COLUMNS."""
    return GuardianRecord(*row)


def guardian_values(record: GuardianRecord) -> Values:
    return {
        "name": record.name,
        "surname": record.surname,
        "email": record.email,
        "phone": record.phone,
        "number_digest": record.number_digest,
        "pin_digest": record.pin_digest,
        "language": record.language,
    }


def call_event(row: Row) -> CallEventRow:
    """From CALL_EVENT_COLUMNS."""
    id_, call, at, event, number_masked, number_digest, fields, town = row
    return CallEventRow(call, at, event, town, number_masked, number_digest, json.loads(fields), id_)


def call_event_values(municipality: int | None, new: NewCallEvent) -> Values:
    return {
        "municipality": municipality,
        "call": new.call,
        "at": new.at,
        "event": new.event,
        "number_masked": new.number_masked,
        "number_digest": new.number_digest,
        "fields": fields_text(new.fields),
    }


def fields_text(fields: Mapping[str, Any]) -> str:
    """One JSON object; raises `TypeError` or `ValueError` for what JSON cannot hold."""
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
