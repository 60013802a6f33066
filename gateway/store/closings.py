"""Day closings in a database: the rolls they are counted from, and their rows (R25).

As in `gateway.store.sql`, the statements are Core's. What is one moment's is read by one statement.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Select, bindparam, exists, func, insert, select, union_all

from core.calendar import ClosedDays
from core.changes import Change, ChangeId, Kind, Presence
from core.clock import Reading
from core.headcount import ClassRoll, Closing, CountedChange, Headcount, MealCount, OnRoll, Roll, Tray
from core.kitchen import DAYS_BACK_MAX
from core.people import PupilId
from gateway.store import rows
from gateway.store.port import Transaction
from gateway.store.tables import (
    changes,
    closing_changes,
    closing_counts,
    closing_trays,
    closings,
    municipalities,
    pupils,
)

_MUNICIPALITY: BindParameter[int] = bindparam("municipality")
_ON_ROLL = (pupils.c.municipality == _MUNICIPALITY, pupils.c.user_code.is_not(None))
_DIET = (pupils.c.diet_code, pupils.c.diet_first, pupils.c.diet_last)
_ROLL_COLUMNS = (pupils.c.id, pupils.c.school, pupils.c.class_group, *_DIET)
_undo = changes.alias("undo")
_begun = changes.alias("begun")
_BEGUN = select(_begun.c.id).where(_begun.c.municipality == _MUNICIPALITY, _begun.c.first_day <= bindparam("day"))
# In two halves, each looked up by its last day: asked for with OR, it would be all that the town has ever changed.
_COVERING = union_all(_BEGUN.where(_begun.c.last_day.is_(None)), _BEGUN.where(_begun.c.last_day >= bindparam("day")))


def _of(column: ColumnElement[Any], name: str, number: int) -> ColumnElement[bool]:
    names: list[BindParameter[str]] = [bindparam(f"{name}_{each}") for each in range(number)]
    return column.in_(names)


@cache
def select_class_rolls(schools: int) -> Select[Any]:
    classes = (pupils.c.school, pupils.c.class_group, *_DIET)
    of_schools = _of(pupils.c.school, "school", schools)
    return select(*classes, func.count()).where(*_ON_ROLL, of_schools).group_by(*classes).order_by(*classes)


@cache
def select_changed(schools: int) -> Select[Any]:
    """The standing changes that cover the day: no undo, and none that an undo took back."""
    return (
        select(*_ROLL_COLUMNS, *rows.CHANGE_COLUMNS)
        .join_from(changes, pupils, pupils.c.id == changes.c.pupil)
        .where(
            changes.c.id.in_(_COVERING),
            changes.c.kind != Kind.UNDO.value,
            ~exists().where(_undo.c.takes_back == changes.c.id),
            *_ON_ROLL,
            _of(pupils.c.school, "school", schools),
        )
        .order_by(pupils.c.id, changes.c.id)
    )


@cache
def select_on_trays(schools: int, diets: int) -> Select[Any]:
    of_schools, of_diets = _of(pupils.c.school, "school", schools), _of(pupils.c.diet_code, "diet", diets)
    return select(*_ROLL_COLUMNS).where(*_ON_ROLL, of_schools, of_diets).order_by(pupils.c.id)


_CLOSING = select(
    closings.c.id,
    closings.c.school,
    closings.c.day,
    closings.c.order_number,
    closings.c.cutoff,
    closings.c.class_groups,
    closings.c.closed_earliest,
    closings.c.closed_latest,
    closings.c.closed_source,
    closings.c.closed_synchronised,
    closings.c.digest,
).where(closings.c.municipality == _MUNICIPALITY)
SELECT_CLOSING = _CLOSING.where(closings.c.school == bindparam("school"), closings.c.day == bindparam("day"))
# Not sorted by school: to save sorting a handful, SQLite would read all closings of the town in that order.
SELECT_ORDER = _CLOSING.where(closings.c.order_number == bindparam("number"))
SELECT_CLOSED_DAYS = select(closings.c.day, closings.c.class_groups).where(
    closings.c.municipality == _MUNICIPALITY,
    closings.c.school == bindparam("school"),
    closings.c.day >= bindparam("since"),
)


@cache
def select_closed(schools: int) -> Select[Any]:
    return select(closings.c.school).where(
        closings.c.municipality == _MUNICIPALITY,
        closings.c.day == bindparam("day"),
        _of(closings.c.school, "school", schools),
    )


SELECT_LAST_ORDER = select(func.max(closings.c.order_number)).where(closings.c.municipality == _MUNICIPALITY)
# What a gateway looks back for closings that were missed, twice over: years of closings before that are not read.
CLOSED_LATELY = 2 * timedelta(days=DAYS_BACK_MAX)
SELECT_LAST_CLOSED_DAY = select(func.max(closings.c.day))
SELECT_CLOSED_THROUGH = (
    select(municipalities.c.key, closings.c.school, func.max(closings.c.day))
    .join_from(closings, municipalities, municipalities.c.id == closings.c.municipality)
    .where(closings.c.day >= bindparam("since"))
    .group_by(municipalities.c.key, closings.c.school)
)


def _parts_of(table: Any, *columns: str) -> Select[Any]:
    return (
        select(*(table.c[name] for name in columns))
        .where(table.c.municipality == _MUNICIPALITY, table.c.closing == bindparam("closing"))
        .order_by(table.c.id)
    )


SELECT_COUNTS = _parts_of(closing_counts, "class_group", "kind", "diet_code", "meals")
SELECT_COUNTED_CHANGES = _parts_of(closing_changes, "pupil", "presence", "change")
SELECT_TRAYS = _parts_of(closing_trays, "pupil", "class_group", "kind", "diet_code")
INSERT_CLOSING = insert(closings)
INSERT_COUNT = insert(closing_counts)
INSERT_COUNTED_CHANGE = insert(closing_changes)
INSERT_TRAY = insert(closing_trays)

# A statement with its values; those of rolls in the order in which `rolls` takes what they find.
Asked = tuple[Select[Any], Mapping[str, object]]


def rolls_asked(municipality: int, schools: Collection[str], day: date, tray_diets: Collection[str]) -> Sequence[Asked]:
    of_schools = {"municipality": municipality, **_numbered("school", schools)}
    asked: list[Asked] = [
        (select_class_rolls(len(schools)), of_schools),
        (select_changed(len(schools)), {**of_schools, "day": day}),
    ]
    if tray_diets:
        of_trays = {**of_schools, **_numbered("diet", tray_diets)}
        asked.append((select_on_trays(len(schools), len(tray_diets)), of_trays))
    return asked


def rolls(schools: Collection[str], found: Sequence[Sequence[rows.Row]]) -> Mapping[str, Roll]:
    """The roll of each school, from what the statements of `rolls_asked` found."""
    classes, changed, *on_trays = found
    enrolled: dict[str, list[ClassRoll]] = {school: [] for school in schools}
    for school, class_group, *diet, pupils_with_it in classes:
        enrolled[school].append(ClassRoll(class_group, rows.diet(*diet), pupils_with_it))
    by_pupil: dict[PupilId, list[rows.Row]] = {}
    for row in changed:
        by_pupil.setdefault(row[0], []).append(row)
    singly: dict[str, list[OnRoll]] = {school: [] for school in schools}
    for of_pupil in by_pupil.values():
        singly[of_pupil[0][1]].append(_on_roll(of_pupil[0], [rows.change(row[6:]) for row in of_pupil]))
    trays: dict[str, list[OnRoll]] = {school: [] for school in schools}
    for row in on_trays[0] if on_trays else ():
        trays[row[1]].append(_on_roll(row))
    return {school: Roll(tuple(enrolled[school]), tuple(singly[school]), tuple(trays[school])) for school in schools}


def _on_roll(row: rows.Row, standing: Iterable[Change] = ()) -> OnRoll:
    return OnRoll(row[0], row[2], rows.diet(*row[3:6]), tuple(standing))


def closed_asked(municipality: int, schools: Collection[str], day: date) -> Asked:
    """Which of the schools are closed on the day."""
    return select_closed(len(schools)), {"municipality": municipality, "day": day, **_numbered("school", schools)}


def _numbered(name: str, values: Collection[str]) -> Mapping[str, str]:
    return {f"{name}_{number}": value for number, value in enumerate(sorted(values))}


def closed_days_wanted(municipality: int, schools: Mapping[str, date]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each school with the values of SELECT_CLOSED_DAYS for it."""
    for school, since in schools.items():
        yield school, {"municipality": municipality, "school": school, "since": since}


def closed_days(found: Iterable[tuple[str, Sequence[rows.Row]]]) -> ClosedDays:
    """From what SELECT_CLOSED_DAYS found of each school."""
    return ClosedDays({school: {day: frozenset(json.loads(groups)) for day, groups in days} for school, days in found})


def closing(
    row: rows.Row, counts: Sequence[rows.Row], changed: Sequence[rows.Row], trays: Sequence[rows.Row]
) -> Closing:
    """From a row of SELECT_CLOSING and those of its parts."""
    _, school, day, number, cutoff, groups, earliest, latest, source, synchronised, digest = row
    headcount = Headcount(
        school,
        day,
        tuple(json.loads(groups)),
        tuple(MealCount(group, Presence(kind), diet, meals) for group, kind, diet, meals in counts),
        tuple(
            CountedChange(PupilId(pupil), Presence(presence), ChangeId(change)) for pupil, presence, change in changed
        ),
        tuple(Tray(PupilId(pupil), group, Presence(kind), diet) for pupil, group, kind, diet in trays),
    )
    return Closing(headcount, number, cutoff, Reading(earliest, latest, source, synchronised), digest)


def add_closing(transaction: Transaction, municipality: int, new: Closing) -> None:
    """Add a closing with all its parts; the caller's savepoint holds them together."""
    here, headcount = {"municipality": municipality}, new.headcount
    values = {
        **here,
        "school": headcount.school,
        "day": headcount.day,
        "order_number": new.order,
        "cutoff": new.cutoff,
        "class_groups": json.dumps(headcount.class_groups, ensure_ascii=False),
        "closed_earliest": new.closed.earliest,
        "closed_latest": new.closed.latest,
        "closed_source": new.closed.source,
        "closed_synchronised": new.closed.synchronised,
        "digest": new.digest,
    }
    of_closing = {**here, "closing": transaction.run(INSERT_CLOSING, values)}
    for count in headcount.counts:
        kind = count.kind.value
        transaction.add(
            INSERT_COUNT,
            {
                **of_closing,
                "class_group": count.class_group,
                "kind": kind,
                "diet_code": count.diet,
                "meals": count.meals,
            },
        )
    for change in headcount.changes:
        transaction.add(
            INSERT_COUNTED_CHANGE,
            {**of_closing, "pupil": change.pupil, "presence": change.presence.value, "change": change.change},
        )
    for tray in headcount.trays:
        kind = tray.kind.value
        transaction.add(
            INSERT_TRAY,
            {**of_closing, "pupil": tray.pupil, "class_group": tray.class_group, "kind": kind, "diet_code": tray.diet},
        )
