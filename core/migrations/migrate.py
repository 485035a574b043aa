"""Migration of the records to the version that this program needs, by Alembic without an ini file.

Every process may call `upgrade` at its start: one of them migrates, the others wait and find nothing left to do.
`python -m core.migrations.migrate "what it adds"` drafts the next migration by comparing the tables with the migrations
so far. tests/integration/test_migrations.py tries to break it.
"""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine

from core.db.engine import connect, unhurried

MIGRATIONS = Path(__file__).parent
_LOCK = 0x_C01D_C4A1
"""Key of the advisory lock that only one migrating process holds (PostgreSQL)."""


class NewerDatabase(Exception):
    """The records were migrated by a newer version of the program. This version could damage them."""


def upgrade(engine: Engine) -> None:
    """Bring the database to this version in one transaction. Idempotent.

    Raises: NewerDatabase.
    """
    if not pending(engine):
        return
    with engine.execution_options(writes=True).connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if sqlite:
            _enforce_references(connection, on=False)
        try:
            with connection.begin(), unhurried(connection):
                if not sqlite:
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                command.upgrade(config(connection), "head")
                if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
                    msg = (
                        f"the migration left {len(broken)} dangling references, first {broken[0]}; nothing was changed"
                    )
                    raise RuntimeError(msg)
        finally:
            if sqlite:
                _enforce_references(connection, on=True)


def pending(engine: Engine) -> bool:
    """Return whether the database must be migrated to this version.

    Raises: NewerDatabase.
    """
    scripts = ScriptDirectory(str(MIGRATIONS))
    with engine.connect() as connection:
        return _current(connection, scripts) != scripts.get_current_head()


def config(connection: Connection) -> Config:
    """Return Alembic's configuration for running in the transaction of a connection."""
    alembic_config = Config(attributes={"connection": connection})
    alembic_config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    alembic_config.set_main_option("path_separator", "os")
    return alembic_config


def draft(message: str) -> None:
    """Write a draft of the next migration file.

    The difference between `core.migrations.all_tables` and the migrations so far.
    """
    engine = connect("sqlite:///:memory:")
    with engine.execution_options(writes=True).connect() as connection, connection.begin():
        settings = config(connection)
        command.upgrade(settings, "head")
        number = len(list((MIGRATIONS / "versions").glob("[0-9]*.py"))) + 1
        command.revision(settings, message, autogenerate=True, rev_id=f"{number:04}")


def _current(connection: Connection, scripts: ScriptDirectory) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        msg = f"the records are at revision {revision}, which this version doesn't know; install the newer version"
        raise NewerDatabase(msg)
    return revision


def _enforce_references(connection: Connection, *, on: bool) -> None:
    """Switch SQLite's foreign keys on or off, outside a transaction only. Rebuilding a table needs them off."""
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA foreign_keys={'ON' if on else 'OFF'}")
    cursor.close()


if __name__ == "__main__":
    draft(" ".join(sys.argv[1:]))
