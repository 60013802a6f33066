"""Day closings, cooks, the outbox, the gateways; indexes for what covers a day; the fence between municipalities."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

from gateway.store.migrations.append_only import refuse_update_and_delete
from gateway.store.migrations.fence import fence, make_role

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Microseconds since 1970, UTC.
INSTANT = sa.BigInteger()


def upgrade() -> None:
    op.add_column("municipalities", sa.Column("closings_since", INSTANT))
    op.create_index("ix_pupils_municipality_school_class_group", "pupils", ["municipality", "school", "class_group"])
    op.create_index("ix_changes_municipality_last_day", "changes", ["municipality", "last_day"])
    op.create_table(
        "closings",
        sa.Column("id", ID, nullable=False),
        sa.Column("municipality", ID, nullable=False),
        sa.Column("school", sa.Text(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("order_number", sa.BigInteger(), nullable=False),
        sa.Column("cutoff", INSTANT, nullable=False),
        sa.Column("class_groups", sa.Text(), nullable=False),
        sa.Column("closed_earliest", INSTANT, nullable=False),
        sa.Column("closed_latest", INSTANT, nullable=False),
        sa.Column("closed_source", sa.Text(), nullable=False),
        sa.Column("closed_synchronised", sa.Boolean(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["municipality"], ["municipalities.id"], name="fk_closings_municipality"),
        sa.PrimaryKeyConstraint("id", name="pk_closings"),
        sa.UniqueConstraint("municipality", "id", name="uq_closings_municipality_id"),
        sa.UniqueConstraint("municipality", "school", "day", name="uq_closings_municipality_school_day"),
    )
    op.create_index("ix_closings_municipality_order_number", "closings", ["municipality", "order_number"])
    op.create_index("ix_closings_day_municipality_school", "closings", ["day", "municipality", "school"])
    op.create_table(
        "closing_counts",
        *_part_of_closing("closing_counts"),
        sa.Column("class_group", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("diet_code", sa.Text()),
        sa.Column("meals", sa.Integer(), nullable=False),
    )
    op.create_index("ix_closing_counts_closing", "closing_counts", ["closing"])
    op.create_table(
        "closing_changes",
        *_part_of_closing("closing_changes"),
        sa.Column("pupil", ID, nullable=False),
        sa.Column("presence", sa.Text(), nullable=False),
        sa.Column("change", ID, nullable=False),
        _within("closing_changes", "pupils", "pupil"),
        sa.ForeignKeyConstraint(["change"], ["changes.id"], name="fk_closing_changes_change"),
        sa.UniqueConstraint("closing", "pupil", name="uq_closing_changes_closing_pupil"),
    )
    op.create_table(
        "closing_trays",
        *_part_of_closing("closing_trays"),
        sa.Column("pupil", ID, nullable=False),
        sa.Column("class_group", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("diet_code", sa.Text(), nullable=False),
        _within("closing_trays", "pupils", "pupil"),
        sa.UniqueConstraint("closing", "pupil", name="uq_closing_trays_closing_pupil"),
    )
    for table in ("closings", "closing_counts", "closing_changes", "closing_trays"):
        refuse_update_and_delete(table)
    op.create_table(
        "cooks",
        sa.Column("id", ID, nullable=False),
        sa.Column("municipality", ID, nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("pin_digest", sa.Text(), nullable=False),
        sa.Column("schools", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["municipality"], ["municipalities.id"], name="fk_cooks_municipality"),
        sa.PrimaryKeyConstraint("id", name="pk_cooks"),
        sa.UniqueConstraint("municipality", "id", name="uq_cooks_municipality_id"),
        sa.UniqueConstraint("municipality", "code", name="uq_cooks_municipality_code"),
    )
    op.create_table(
        "messages",
        sa.Column("id", ID, nullable=False),
        sa.Column("municipality", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("created", INSTANT, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("due", INSTANT, nullable=False),
        sa.Column("fault", sa.Text()),
        sa.Column("sent", INSTANT),
        sa.ForeignKeyConstraint(["municipality"], ["municipalities.id"], name="fk_messages_municipality"),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.UniqueConstraint("municipality", "id", name="uq_messages_municipality_id"),
        sa.UniqueConstraint("municipality", "key", name="uq_messages_municipality_key"),
    )
    waiting = sa.text("state = 'waiting'")
    op.create_index("ix_messages_due_waiting", "messages", ["due"], sqlite_where=waiting, postgresql_where=waiting)
    dead = sa.text("state = 'dead'")
    op.create_index("ix_messages_created_dead", "messages", ["created"], sqlite_where=dead, postgresql_where=dead)
    op.create_table(
        "nodes",
        sa.Column("node", sa.Text(), nullable=False),
        sa.Column("seen", INSTANT, nullable=False),
        sa.Column("settled", INSTANT, nullable=False),
        sa.Column("configuration", sa.Text(), nullable=False),
        sa.Column("towns", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("node", name="pk_nodes"),
    )
    make_role()
    fence("municipalities", column="id", may=["SELECT"])
    fence("call_events", may=["SELECT"])
    for table in (
        "changes",
        "refusals",
        "wrong_answers",
        "closings",
        "closing_counts",
        "closing_changes",
        "closing_trays",
    ):
        fence(table, may=["SELECT", "INSERT"])
    fence("messages", may=["SELECT", "INSERT"])
    for table in ("guardians", "pupils"):
        fence(table, may=["SELECT", "INSERT", "UPDATE"])
    for table in ("pupil_guardians", "cooks"):
        fence(table, may=["SELECT", "INSERT", "UPDATE", "DELETE"])


def _part_of_closing(table: str) -> Iterator[sa.schema.SchemaItem]:
    yield sa.Column("id", ID, nullable=False)
    yield sa.Column("municipality", ID, nullable=False)
    yield sa.Column("closing", ID, nullable=False)
    yield _within(table, "closings", "closing")
    yield sa.PrimaryKeyConstraint("id", name=f"pk_{table}")


def _within(table: str, other: str, column: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["municipality", column], [f"{other}.municipality", f"{other}.id"], name=f"fk_{table}_municipality_{column}"
    )
