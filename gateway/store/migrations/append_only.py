"""Triggers that make a table append-only, in the words of each database."""

from alembic import op


def refuse_update_and_delete(table: str) -> None:
    """Let the database refuse every UPDATE and DELETE on `table`, whoever asks (R19)."""
    dialect = op.get_context().dialect.name
    for verb in ("update", "delete"):
        for statement in _STATEMENTS[dialect]:
            op.execute(statement.format(table=table, verb=verb, VERB=verb.upper()))


# By dialect; the last statement of each is the trigger.
_STATEMENTS = {
    "sqlite": (
        """
        CREATE TRIGGER {table}_refuse_{verb} BEFORE {VERB} ON {table}
        BEGIN
            SELECT RAISE(ABORT, '{table} is append-only: {VERB} refused, add a row instead');
        END
        """,
    ),
}
