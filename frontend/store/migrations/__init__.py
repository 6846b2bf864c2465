"""Alembic's migrations of the store, applied by `frontend.store.schema`."""
