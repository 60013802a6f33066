"""Triggers that make a table append-only, in the words of each database."""

from alembic import op


def refuse_update_and_delete(table: str) -> None:
    """Let the database refuse every UPDATE and DELETE on `table`, whoever asks (R19)."""
    dialect = op.get_context().dialect.name
    if dialect == "postgresql":
        op.execute(_FUNCTION)
    for verb in ("update", "delete") if dialect == "sqlite" else ("update", "delete", "truncate"):
        for statement in _STATEMENTS[dialect]:
            op.execute(statement.format(table=table, verb=verb, VERB=verb.upper()))


# The rules' own class of errors, a constraint that is violated, so that the store tells it from a fault.
_FUNCTION = """
    CREATE OR REPLACE FUNCTION refuse_to_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only: % refused, add a row instead', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation';
    END
    $$
"""
# By dialect; the last statements of each are the trigger.
_STATEMENTS = {
    "sqlite": (
        """
        CREATE TRIGGER {table}_refuse_{verb} BEFORE {VERB} ON {table}
        BEGIN
            SELECT RAISE(ABORT, '{table} is append-only: {VERB} refused, add a row instead');
        END
        """,
    ),
    # For the statement, so that one which finds no row is refused too; ALWAYS, so that a replica's role does not pass it.
    "postgresql": (
        """
        CREATE TRIGGER {table}_refuse_{verb} BEFORE {VERB} ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change()
        """,
        "ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_refuse_{verb}",
    ),
}
