"""Every table, on one page.

Each table of a municipality names it, and the foreign keys of pupils and guardians hold the municipality too, so that the
database itself refuses a row of one municipality that points into another. `changes`, `refusals` and `call_events` are
append-only: triggers of the migrations refuse UPDATE and DELETE on them (R19). They hold surrogate ids, never persons: a
person is erased by blanking the columns of `pupils` and `guardians`.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

# The newest migration. A start compares it with what the database says before it loads Alembic, which is slow to load.
SCHEMA = "0001"

APPEND_ONLY = ("changes", "refusals", "call_events")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware instant, kept as whole microseconds since 1970 in UTC: exact, ordered, and the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return None if value is None else EPOCH + timedelta(microseconds=value)


# SQLite numbers rows by itself only where the type says exactly INTEGER.
Id = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _municipality(*constraints: ForeignKey) -> Column[int]:
    return Column("municipality", Id, *constraints, nullable=False)


def _within(table: str, column: str) -> ForeignKeyConstraint:
    """A reference that cannot leave the row's own municipality, which it thereby proves to exist."""
    return ForeignKeyConstraint(["municipality", column], [f"{table}.municipality", f"{table}.id"])


def _decided() -> Iterable[Column[object]]:
    """The decision instant as it was known (R10, R19)."""
    yield Column("decided_earliest", Instant, nullable=False)
    yield Column("decided_latest", Instant, nullable=False)
    yield Column("decided_source", Text, nullable=False)
    yield Column("decided_synchronised", Boolean, nullable=False)


municipalities = Table(
    "municipalities", metadata, Column("id", Id, primary_key=True), Column("key", Text, nullable=False, unique=True)
)

guardians = Table(
    "guardians",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(ForeignKey("municipalities.id")),
    Column("name", Text, nullable=False),
    Column("surname", Text, nullable=False),
    Column("email", Text),
    Column("phone", Text),
    Column("number_digest", Text),  # only where calls from `phone` need no code (R29)
    Column("pin_digest", Text),
    Column("language", Text, nullable=False),
    UniqueConstraint("municipality", "id"),
    Index(None, "municipality", "phone"),
    Index(None, "municipality", "number_digest"),
)

pupils = Table(
    "pupils",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(ForeignKey("municipalities.id")),
    Column("user_code", Text),  # none once erased
    Column("name", Text, nullable=False),
    Column("surname", Text, nullable=False),
    Column("codice_fiscale", Text),
    Column("school", Text, nullable=False),
    Column("class_group", Text, nullable=False),
    Column("diet_code", Text),
    Column("diet_first", Date),
    Column("diet_last", Date),
    UniqueConstraint("municipality", "id"),
    UniqueConstraint("municipality", "user_code"),
)

pupil_guardians = Table(
    "pupil_guardians",
    metadata,
    Column("pupil", Id, primary_key=True),
    Column("guardian", Id, primary_key=True),
    _municipality(),
    _within("pupils", "pupil"),
    _within("guardians", "guardian"),
    Index(None, "guardian"),
)

changes = Table(
    "changes",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(),
    Column("pupil", Id, nullable=False),
    Column("kind", Text, nullable=False),
    Column("first_day", Date, nullable=False),
    Column("last_day", Date),
    Column("receipt", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("guardian", Id),
    Column("session", Text, nullable=False),
    *_decided(),
    Column("review", Boolean, nullable=False),
    Column("takes_back", Id, ForeignKey("changes.id")),
    _within("pupils", "pupil"),
    _within("guardians", "guardian"),
    UniqueConstraint("municipality", "request"),
    UniqueConstraint("municipality", "pupil", "receipt"),
)
# A change is taken back once (R16), whatever two undos might both have read.
Index(
    "uq_changes_takes_back",
    changes.c.takes_back,
    unique=True,
    sqlite_where=changes.c.takes_back.is_not(None),
    postgresql_where=changes.c.takes_back.is_not(None),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(),
    Column("pupil", Id, nullable=False),
    Column("action", Text, nullable=False),
    Column("day", Date),
    Column("outcome", Text, nullable=False),
    Column("request", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("guardian", Id),
    Column("session", Text, nullable=False),
    *_decided(),
    _within("pupils", "pupil"),
    _within("guardians", "guardian"),
    Index(None, "municipality", "pupil"),
)

wrong_answers = Table(
    "wrong_answers",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(ForeignKey("municipalities.id")),
    Column("code_digest", Text, nullable=False),
    Column("caller_digest", Text),
    Column("at", Instant, nullable=False),
    Index(None, "municipality", "code_digest", "at"),
    Index(None, "municipality", "caller_digest", "at"),
)

# A call may reach a number that is no municipality's, so here the municipality may be missing.
call_events = Table(
    "call_events",
    metadata,
    Column("id", Id, primary_key=True),
    Column("municipality", Id, ForeignKey("municipalities.id")),
    Column("call", Text, nullable=False),
    Column("at", Instant, nullable=False),
    Column("event", Text, nullable=False),
    Column("number_masked", Text),
    Column("number_digest", Text),
    Column("fields", Text, nullable=False),  # one JSON object
    Index(None, "call"),
    Index(None, "number_digest"),
    Index(None, "at"),
)

# Of the installation, not of a municipality.
settings = Table("settings", metadata, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))
