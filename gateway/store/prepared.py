"""Core statements compiled once for a database's driver: their SQL, and how values go in and come out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine

from gateway.store.port import Statement

Values = Mapping[str, object]
Process = Callable[[Any], Any]


class Prepared:
    """A statement for values of these `names`, which go to the driver by position."""

    def __init__(self, statement: Statement, names: Sequence[str], dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=names)
        self.sql = str(compiled)
        self._binds = [(name, bind_process(compiled.binds[name].type, dialect)) for name in compiled.positiontup or ()]
        # What SQLAlchemy itself puts in, such as the offset that goes with a limit.
        self._constants = {name: bind.value for name, bind in compiled.binds.items() if name not in names}
        self._results = result_processes(statement.selected_columns, dialect) if isinstance(statement, Select) else []

    def bind(self, values: Values) -> list[object]:
        if self._constants:
            values = {**self._constants, **values}
        return [values[name] if process is None else process(values[name]) for name, process in self._binds]

    def result(self, row: Iterable[Any]) -> list[Any]:
        return processed(list(row), self._results)


def bind_process(type_: TypeEngine[Any], dialect: Dialect) -> Process | None:
    """What makes the driver's value of a column's; None where they are the same."""
    return type_.dialect_impl(dialect).bind_processor(dialect)


def result_processes(columns: Iterable[ColumnElement[Any]], dialect: Dialect) -> list[tuple[int, Process]]:
    """What makes columns' values of the driver's, by place, where they differ."""
    processes = [each.type.dialect_impl(dialect).result_processor(dialect, None) for each in columns]
    return [(index, process) for index, process in enumerate(processes) if process is not None]


def processed(row: list[Any], results: Sequence[tuple[int, Process]]) -> list[Any]:
    for index, process in results:
        row[index] = process(row[index])
    return row
