"""How Alembic reaches the database: through the connection that `gateway.store.engine` has opened, locked and will commit."""

from alembic import context

from gateway.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
