"""Alembic's folder; `core.migrations.migrate` runs it."""
