"""Alembic's folder; `core.db.migrate` runs it."""
