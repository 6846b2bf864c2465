"""How Alembic runs here: over the connection it is given, all migrations in the one transaction that is open."""

from alembic import context

from frontend.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
