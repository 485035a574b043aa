"""Database guards: no overlap in a timeline, no change in an append-only table.

A row of a timeline says what a subject had in [since, until); the row is open while `until` is null. A CHECK makes
`until` later than `since`. The overlap guard refuses two rows of one subject that share an instant.

SQLite uses triggers. PostgreSQL uses an exclusion constraint, which also holds between two transactions that can't see
each other. It compares the subject as the range [subject, subject], so that no extension is needed (docs/adr/0003).
A batch migration that rebuilds a SQLite table drops its triggers: add the guard again after it.
"""

from collections.abc import Iterable

from sqlalchemy import CheckConstraint, Connection


def longer_than_nothing() -> CheckConstraint:
    """Return the constraint that a row of a timeline ends after it begins."""
    return CheckConstraint("until IS NULL OR until > since", name="span")


def forbid_overlap(connection: Connection, table: str, subject: str) -> None:
    """Create the guard that refuses two rows of one `subject` with a common instant, by an IntegrityError."""
    ddl = _overlap_sqlite if connection.dialect.name == "sqlite" else _overlap_postgresql
    for statement in ddl(table, subject):
        connection.exec_driver_sql(statement)


def forbid_change(connection: Connection, table: str) -> None:
    """Create the guard that refuses UPDATE and DELETE on a table. A correction is a new row."""
    ddl = _frozen_sqlite if connection.dialect.name == "sqlite" else _frozen_postgresql
    for statement in ddl(table):
        connection.exec_driver_sql(statement)


def _overlap_sqlite(table: str, subject: str) -> Iterable[str]:
    forever = 2**63 - 1
    for event in ("INSERT", f"UPDATE OF {subject}, since, until"):
        yield f"""
            CREATE TRIGGER no_overlap_{table}_{event[:6].lower()} BEFORE {event} ON {table}
            WHEN EXISTS (
                SELECT 1 FROM {table} AS other
                WHERE other.{subject} = NEW.{subject} AND other.id IS NOT NEW.id
                  AND other.since < coalesce(NEW.until, {forever}) AND NEW.since < coalesce(other.until, {forever})
            )
            BEGIN SELECT RAISE(ABORT, 'overlap in {table}'); END"""  # noqa: S608  # names of our own tables


def _overlap_postgresql(table: str, subject: str) -> Iterable[str]:
    yield f"""
        ALTER TABLE {table} ADD CONSTRAINT no_overlap_{table} EXCLUDE USING gist (
            int8range({subject}, {subject}, '[]') WITH &&, int8range(since, until) WITH &&
        )"""


def _frozen_sqlite(table: str) -> Iterable[str]:
    for event in ("UPDATE", "DELETE"):
        yield f"""
            CREATE TRIGGER append_only_{table}_{event.lower()} BEFORE {event} ON {table}
            BEGIN SELECT RAISE(ABORT, '{table} is append only'); END"""


def _frozen_postgresql(table: str) -> Iterable[str]:
    yield f"""
        CREATE FUNCTION append_only_{table}() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE integrity_constraint_violation USING MESSAGE = '{table} is append only'; END $$"""
    yield f"""
        CREATE TRIGGER append_only_{table} BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION append_only_{table}()"""
