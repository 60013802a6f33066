"""The fence between municipalities: a role that sees and writes the rows of those alone that its transaction says it is for.

PostgreSQL's row-level security; SQLite has none. The owner of the tables, who migrates and does what is the installation's,
is not fenced.
"""

from collections.abc import Sequence

from alembic import op

# As in `gateway.store.postgres`; a migration keeps the words that it was written with.
ROLE = "mensa_town"
SETTING = "mensa.towns"


def make_role() -> None:
    """Make the role where the server has none yet, and let this user take it; roles belong to all databases of a server."""
    if op.get_context().dialect.name == "postgresql":
        op.execute(_MAKE_ROLE)


def fence(table: str, *, column: str = "municipality", may: Sequence[str]) -> None:
    """Show `table` to the role by `column`, with these rights on it."""
    if op.get_context().dialect.name != "postgresql":
        return
    op.execute(f"GRANT {', '.join(may)} ON {table} TO {ROLE}")
    if "INSERT" in may:
        op.execute(_GRANT_NUMBERS.format(table=table))
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    # In a sub-select, so that the setting is read once and not for every row.
    towns = f"(SELECT string_to_array(current_setting('{SETTING}', true), ',')::bigint[])"
    # Not as `column = ANY (…)`: beside a statement's own `municipality = …` that makes the planner expect no rows at all, take
    # every index for as good as any other, and read all changes of a town to find a pupil's.
    op.execute(f"CREATE POLICY {table}_of_towns ON {table} USING (array_position({towns}, {column}) IS NOT NULL)")


# From version 16 on, who makes a role is a member of it at once, and may still not take it.
_MAY_TAKE = "CASE WHEN current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'SET' END"
# Two databases of one server may be migrated at once, hence the exception; a right that is had need not be given.
_MAKE_ROLE = f"""
    DO $$
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ROLE}') THEN
            BEGIN
                CREATE ROLE {ROLE} NOLOGIN;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        IF NOT pg_has_role(current_user, '{ROLE}', {_MAY_TAKE}) THEN
            EXECUTE format('GRANT {ROLE} TO %I', current_user);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO {ROLE}', current_schema());
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'user % may not make or take the role {ROLE}; expected one with CREATEROLE, or that an administrator '
            'runs: CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO %', current_user, current_user
            USING ERRCODE = 'insufficient_privilege';
    END
    $$
"""
_GRANT_NUMBERS = f"""
    DO $$
    BEGIN
        IF EXISTS (SELECT FROM pg_attribute WHERE attrelid = '{{table}}'::regclass AND attname = 'id') THEN
            EXECUTE format('GRANT USAGE ON SEQUENCE %s TO {ROLE}', pg_get_serial_sequence('{{table}}', 'id'));
        END IF;
    END
    $$
"""
