"""The first tables: people, changes, refusals, wrong answers, the call log, settings."""

import sqlalchemy as sa
from alembic import op

from gateway.store.migrations.append_only import refuse_update_and_delete

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
# Microseconds since 1970, UTC.
INSTANT = sa.BigInteger()


def upgrade() -> None:
    op.create_table(
        "municipalities",
        sa.Column("id", ID, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_municipalities"),
        sa.UniqueConstraint("key", name="uq_municipalities_key"),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_settings"),
    )
    op.create_table(
        "call_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("municipality", ID),
        sa.Column("call", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("number_masked", sa.Text()),
        sa.Column("number_digest", sa.Text()),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["municipality"], ["municipalities.id"], name="fk_call_events_municipality"),
        sa.PrimaryKeyConstraint("id", name="pk_call_events"),
    )
    op.create_index("ix_call_events_at", "call_events", ["at"])
    op.create_index("ix_call_events_call", "call_events", ["call"])
    op.create_index("ix_call_events_number_digest", "call_events", ["number_digest"])
    op.create_table(
        "guardians",
        sa.Column("id", ID, nullable=False),
        sa.Column("municipality", ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("surname", sa.Text(), nullable=False),
        sa.Column("email", sa.Text()),
        sa.Column("phone", sa.Text()),
        sa.Column("number_digest", sa.Text()),
        sa.Column("pin_digest", sa.Text()),
        sa.Column("language", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["municipality"], ["municipalities.id"], name="fk_guardians_municipality"),
        sa.PrimaryKeyConstraint("id", name="pk_guardians"),
        sa.UniqueConstraint("municipality", "id", name="uq_guardians_municipality_id"),
    )
    op.create_index("ix_guardians_municipality_number_digest", "guardians", ["municipality", "number_digest"])
    op.create_index("ix_guardians_municipality_phone", "guardians", ["municipality", "phone"])
    op.create_table(
        "pupils",
        sa.Column("id", ID, nullable=False),
        sa.Column("municipality", ID, nullable=False),
        sa.Column("user_code", sa.Text()),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("surname", sa.Text(), nullable=False),
        sa.Column("codice_fiscale", sa.Text()),
        sa.Column("school", sa.Text(), nullable=False),
        sa.Column("class_group", sa.Text(), nullable=False),
        sa.Column("diet_code", sa.Text()),
        sa.Column("diet_first", sa.Date()),
        sa.Column("diet_last", sa.Date()),
        sa.ForeignKeyConstraint(["municipality"], ["municipalities.id"], name="fk_pupils_municipality"),
        sa.PrimaryKeyConstraint("id", name="pk_pupils"),
        sa.UniqueConstraint("municipality", "id", name="uq_pupils_municipality_id"),
        sa.UniqueConstraint("municipality", "user_code", name="uq_pupils_municipality_user_code"),
    )
    op.create_table(
        "wrong_answers",
        sa.Column("id", ID, nullable=False),
        sa.Column("municipality", ID, nullable=False),
        sa.Column("code_digest", sa.Text(), nullable=False),
        sa.Column("caller_digest", sa.Text()),
        sa.Column("at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["municipality"], ["municipalities.id"], name="fk_wrong_answers_municipality"),
        sa.PrimaryKeyConstraint("id", name="pk_wrong_answers"),
    )
    op.create_index(
        "ix_wrong_answers_municipality_caller_digest_at", "wrong_answers", ["municipality", "caller_digest", "at"]
    )
    op.create_index(
        "ix_wrong_answers_municipality_code_digest_at", "wrong_answers", ["municipality", "code_digest", "at"]
    )
    op.create_table(
        "changes",
        sa.Column("id", ID, nullable=False),
        sa.Column("municipality", ID, nullable=False),
        sa.Column("pupil", ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("first_day", sa.Date(), nullable=False),
        sa.Column("last_day", sa.Date()),
        sa.Column("receipt", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("guardian", ID),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("decided_earliest", INSTANT, nullable=False),
        sa.Column("decided_latest", INSTANT, nullable=False),
        sa.Column("decided_source", sa.Text(), nullable=False),
        sa.Column("decided_synchronised", sa.Boolean(), nullable=False),
        sa.Column("review", sa.Boolean(), nullable=False),
        sa.Column("takes_back", ID),
        sa.ForeignKeyConstraint(
            ["municipality", "guardian"],
            ["guardians.municipality", "guardians.id"],
            name="fk_changes_municipality_guardian",
        ),
        sa.ForeignKeyConstraint(
            ["municipality", "pupil"], ["pupils.municipality", "pupils.id"], name="fk_changes_municipality_pupil"
        ),
        sa.ForeignKeyConstraint(["takes_back"], ["changes.id"], name="fk_changes_takes_back"),
        sa.PrimaryKeyConstraint("id", name="pk_changes"),
        sa.UniqueConstraint("municipality", "pupil", "receipt", name="uq_changes_municipality_pupil_receipt"),
        sa.UniqueConstraint("municipality", "request", name="uq_changes_municipality_request"),
    )
    op.create_index(
        "uq_changes_takes_back",
        "changes",
        ["takes_back"],
        unique=True,
        sqlite_where=sa.text("takes_back IS NOT NULL"),
        postgresql_where=sa.text("takes_back IS NOT NULL"),
    )
    op.create_table(
        "pupil_guardians",
        sa.Column("pupil", ID, nullable=False),
        sa.Column("guardian", ID, nullable=False),
        sa.Column("municipality", ID, nullable=False),
        sa.ForeignKeyConstraint(
            ["municipality", "guardian"],
            ["guardians.municipality", "guardians.id"],
            name="fk_pupil_guardians_municipality_guardian",
        ),
        sa.ForeignKeyConstraint(
            ["municipality", "pupil"],
            ["pupils.municipality", "pupils.id"],
            name="fk_pupil_guardians_municipality_pupil",
        ),
        sa.PrimaryKeyConstraint("pupil", "guardian", name="pk_pupil_guardians"),
    )
    op.create_index("ix_pupil_guardians_guardian", "pupil_guardians", ["guardian"])
    op.create_table(
        "refusals",
        sa.Column("id", ID, nullable=False),
        sa.Column("municipality", ID, nullable=False),
        sa.Column("pupil", ID, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("day", sa.Date()),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("guardian", ID),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("decided_earliest", INSTANT, nullable=False),
        sa.Column("decided_latest", INSTANT, nullable=False),
        sa.Column("decided_source", sa.Text(), nullable=False),
        sa.Column("decided_synchronised", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["municipality", "guardian"],
            ["guardians.municipality", "guardians.id"],
            name="fk_refusals_municipality_guardian",
        ),
        sa.ForeignKeyConstraint(
            ["municipality", "pupil"], ["pupils.municipality", "pupils.id"], name="fk_refusals_municipality_pupil"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_refusals"),
    )
    op.create_index("ix_refusals_municipality_pupil", "refusals", ["municipality", "pupil"])

    for table in ("changes", "refusals", "call_events"):
        refuse_update_and_delete(table)
