"""Core statements in the words of PostgreSQL's driver: each compiled once, and several of a kind sent as one.

Values go to asyncpg by position and in their own types; what a column's type makes of them, and of what comes back, is
SQLAlchemy's. Nothing here is sent: see `gateway.store.postgres`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Select,
    Table,
    bindparam,
    column,
    func,
    insert,
    select,
    true,
)
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from gateway.store.port import Statement
from gateway.store.prepared import Prepared, Process, Values, bind_process, processed, result_processes
from gateway.store.tables import metadata

_DIALECT: Dialect = asyncpg_dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves its dialects untyped
# Each table's place in an order in which none refers to a later one.
_PLACES = {table: place for place, table in enumerate(metadata.sorted_tables)}


class PreparedForMany:
    """A SELECT for many values at once; each row found comes with the number of the values that it was found for."""

    def __init__(self, statement: Select[Any], names: Sequence[str]) -> None:
        types = {each.key: each.type for each in visitors.iterate(statement) if isinstance(each, BindParameter)}
        asked = (
            func.unnest(*(bindparam(name, type_=ARRAY(types[name])) for name in names))
            .table_valued(*(column(name, types[name]) for name in names), with_ordinality="number")
            .render_derived(name="asked")
        )

        def of_asked(element: Any, **_: Any) -> Any:
            return asked.c[element.key] if isinstance(element, BindParameter) and element.key in types else None

        per_values = cast(Select[Any], visitors.replacement_traverse(statement, {}, of_asked))
        found = per_values.lateral("found")
        whole: Select[Any] = select(asked.c.number, *found.c).select_from(asked.join(found, true()))
        self.sql = str(whole.compile(dialect=_DIALECT))
        self._binds = [(name, bind_process(types[name], _DIALECT)) for name in names]
        self._results = result_processes(statement.selected_columns, _DIALECT)

    def bind(self, values: Sequence[Values]) -> list[list[object]]:
        return [_column(values, name, process) for name, process in self._binds]

    def result(self, rows: Sequence[Sequence[Any]], number_of_values: int) -> list[list[list[Any]]]:
        """The rows found for each of the values, in their order."""
        found: list[list[list[Any]]] = [[] for _ in range(number_of_values)]
        for number, *row in rows:
            found[number - 1].append(processed(row, self._results))
        return found


class PreparedInsert:
    """An INSERT of any number of rows."""

    def __init__(self, table: Table, names: Sequence[str]) -> None:
        types: dict[str, TypeEngine[Any]] = {name: table.c[name].type for name in names}
        rows = (
            func.unnest(*(bindparam(name, type_=ARRAY(types[name])) for name in names))
            .table_valued(*(column(name, types[name]) for name in names))
            .render_derived(name="added")
        )
        statement = insert(table).from_select(list(names), select(*rows.c), include_defaults=False)
        self.sql = str(statement.compile(dialect=_DIALECT))
        self._binds = [(name, bind_process(types[name], _DIALECT)) for name in names]

    def bind(self, values: Sequence[Values]) -> list[list[object]]:
        return [_column(values, name, process) for name, process in self._binds]


class Statements:
    """What has been compiled so far; one for all connections of a store."""

    def __init__(self) -> None:
        self._one: dict[tuple[Statement, tuple[str, ...]], Prepared] = {}
        self._many: dict[Statement, PreparedForMany] = {}
        self._inserts: dict[tuple[Table, tuple[str, ...]], PreparedInsert] = {}

    def one(self, statement: Statement, values: Values) -> Prepared:
        key = (statement, tuple(values))
        prepared = self._one.get(key)
        if prepared is None:
            prepared = self._one[key] = Prepared(statement, key[1], _DIALECT)
        return prepared

    def for_many(self, statement: Select[Any], values: Values) -> PreparedForMany:
        prepared = self._many.get(statement)
        if prepared is None:
            prepared = self._many[statement] = PreparedForMany(statement, list(values))
        return prepared

    def insert(self, table: Table, names: tuple[str, ...]) -> PreparedInsert:
        prepared = self._inserts.get((table, names))
        if prepared is None:
            prepared = self._inserts[table, names] = PreparedInsert(table, names)
        return prepared


class Pending:
    """What has been written and not been sent: rows of each table together, hence few statements for many rows.

    INSERTs wait for an UPDATE or DELETE to come between them; until then they go in the order of the tables, in which no
    row comes before one that it refers to.
    """

    def __init__(self) -> None:
        self._parts: list[dict[tuple[Table, tuple[str, ...]], list[Values]] | tuple[Statement, list[Values]]] = []

    def __bool__(self) -> bool:
        return bool(self._parts)

    def insert(self, table: Table, values: Values) -> None:
        last = self._parts[-1] if self._parts else None
        if not isinstance(last, dict):
            last = {}
            self._parts.append(last)
        last.setdefault((table, tuple(values)), []).append(values)

    def run(self, statement: Statement, values: Values) -> None:
        last = self._parts[-1] if self._parts else None
        if isinstance(last, tuple) and last[0] is statement and last[1][0].keys() == values.keys():
            last[1].append(values)
        else:
            self._parts.append((statement, [values]))

    def take(self, later: "Pending") -> None:
        """Put another's after these."""
        for part in later._parts:
            if isinstance(part, dict):
                for (table, _), rows in part.items():
                    for values in rows:
                        self.insert(table, values)
            else:
                for values in part[1]:
                    self.run(part[0], values)

    def to_send(self, statements: Statements) -> Iterable[tuple[str, list[Any], bool]]:
        """SQL with its arguments, in order; True where these are a list of arguments, to be run once for each."""
        for part in self._parts:
            if isinstance(part, dict):
                for (table, names), rows in sorted(part.items(), key=lambda each: _PLACES[each[0][0]]):
                    prepared = statements.insert(table, names)
                    yield prepared.sql, prepared.bind(rows), False
            else:
                one = statements.one(part[0], part[1][0])
                yield one.sql, [one.bind(values) for values in part[1]], True

    def clear(self) -> None:
        self._parts.clear()


def _column(values: Sequence[Values], name: str, process: Process | None) -> list[object]:
    if process is None:
        return [each[name] for each in values]
    return [process(each[name]) for each in values]
