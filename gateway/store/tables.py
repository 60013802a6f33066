"""Every table, on one page.

Each table of a municipality names it, and the foreign keys of pupils and guardians hold the municipality too, so that the
database itself refuses a row of one municipality that points into another. Those in
`APPEND_ONLY` refuse UPDATE and DELETE by triggers of the migrations (R19). They hold surrogate ids, never persons: a person is
erased by blanking the columns of `pupils` and `guardians`.
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
SCHEMA = "0002"

APPEND_ONLY = (
    "changes",
    "refusals",
    "call_events",
    "closings",
    "closing_counts",
    "closing_changes",
    "closing_trays",
)
# The tables whose every row is a municipality's: a town's part of the store sees no other's rows in them.
OF_ONE_TOWN = (
    "guardians",
    "pupils",
    "pupil_guardians",
    "changes",
    "refusals",
    "wrong_answers",
    "closings",
    "closing_counts",
    "closing_changes",
    "closing_trays",
    "cooks",
    "messages",
)

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


def _reading(what: str) -> Iterable[Column[object]]:
    """An instant as it was known (R10, R19)."""
    yield Column(f"{what}_earliest", Instant, nullable=False)
    yield Column(f"{what}_latest", Instant, nullable=False)
    yield Column(f"{what}_source", Text, nullable=False)
    yield Column(f"{what}_synchronised", Boolean, nullable=False)


municipalities = Table(
    "municipalities",
    metadata,
    Column("id", Id, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column(
        "closings_since", Instant
    ),  # no day is closed whose cutoff lies before it; none until a gateway serves the town
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
    Index(None, "municipality", "school", "class_group"),
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
    *_reading("decided"),
    Column("review", Boolean, nullable=False),
    Column("takes_back", Id, ForeignKey("changes.id")),
    _within("pupils", "pupil"),
    _within("guardians", "guardian"),
    UniqueConstraint("municipality", "request"),
    UniqueConstraint("municipality", "pupil", "receipt"),
    # What covers a day: single days from it on, ranges through it or later, and those without an end.
    Index(None, "municipality", "last_day"),
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
    *_reading("decided"),
    _within("pupils", "pupil"),
    _within("guardians", "guardian"),
    Index(None, "municipality", "pupil"),
)

# One row for each school and day, whatever closes it twice (R25).
closings = Table(
    "closings",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(ForeignKey("municipalities.id")),
    Column("school", Text, nullable=False),
    Column("day", Date, nullable=False),
    Column("order_number", BigInteger, nullable=False),  # one for all schools that were closed together
    Column("cutoff", Instant, nullable=False),
    Column("class_groups", Text, nullable=False),  # those served that day: one JSON array
    *_reading("closed"),
    Column("digest", Text, nullable=False),
    UniqueConstraint("municipality", "id"),
    UniqueConstraint("municipality", "school", "day"),
    Index(None, "municipality", "order_number"),
    Index(None, "day", "municipality", "school"),
)

closing_counts = Table(
    "closing_counts",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(),
    Column("closing", Id, nullable=False),
    Column("class_group", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("diet_code", Text),
    Column("meals", Integer, nullable=False),
    _within("closings", "closing"),
    Index(None, "closing"),
)

closing_changes = Table(
    "closing_changes",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(),
    Column("closing", Id, nullable=False),
    Column("pupil", Id, nullable=False),
    Column("presence", Text, nullable=False),
    Column("change", Id, ForeignKey("changes.id"), nullable=False),
    _within("closings", "closing"),
    _within("pupils", "pupil"),
    UniqueConstraint("closing", "pupil"),
)

closing_trays = Table(
    "closing_trays",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(),
    Column("closing", Id, nullable=False),
    Column("pupil", Id, nullable=False),
    Column("class_group", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("diet_code", Text, nullable=False),
    _within("closings", "closing"),
    _within("pupils", "pupil"),
    UniqueConstraint("closing", "pupil"),
)

# Who may hear the kitchen's counts by phone.
cooks = Table(
    "cooks",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(ForeignKey("municipalities.id")),
    Column("code", Text, nullable=False),
    Column("pin_digest", Text, nullable=False),
    Column("schools", Text, nullable=False),  # one JSON array; empty for every school
    Column("language", Text, nullable=False),
    UniqueConstraint("municipality", "id"),
    UniqueConstraint("municipality", "code"),
)

# The outbox: what has to be told, stored in the transaction that made it so.
messages = Table(
    "messages",
    metadata,
    Column("id", Id, primary_key=True),
    _municipality(ForeignKey("municipalities.id")),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("about", Text, nullable=False),  # one JSON object
    Column("created", Instant, nullable=False),
    Column("state", Text, nullable=False),  # waiting, sent, dead
    Column("tries", Integer, nullable=False),
    Column("due", Instant, nullable=False),  # not to be tried before; while it is being tried, when another may
    Column("fault", Text),  # of the last try
    Column("sent", Instant),
    UniqueConstraint("municipality", "id"),
    UniqueConstraint("municipality", "key"),
)
Index(
    "ix_messages_due_waiting",
    messages.c.due,
    sqlite_where=messages.c.state == "waiting",
    postgresql_where=messages.c.state == "waiting",
)
Index(
    "ix_messages_created_dead",
    messages.c.created,
    sqlite_where=messages.c.state == "dead",
    postgresql_where=messages.c.state == "dead",
)

# The gateways on this database, each as it last said of itself.
nodes = Table(
    "nodes",
    metadata,
    Column("node", Text, primary_key=True),
    Column("seen", Instant, nullable=False),
    Column("settled", Instant, nullable=False),  # of what was decided before, nothing is undecided on it
    Column("configuration", Text, nullable=False),  # the hash of the towns' files that it runs
    Column("towns", Integer, nullable=False),
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
