"""How the records are reached: one engine a process, one transaction a use case.

On SQLite a write transaction is BEGIN IMMEDIATE with a busy time-out of 5 s, ends within 10 ms and holds no I/O; a
read-only session never takes IMMEDIATE. On PostgreSQL a read-only one is REPEATABLE READ: all of it sees one moment,
as on SQLite.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker

BUSY_MS = 5_000


def url_for(url: str, data_dir: str) -> str:
    """Return the SQLAlchemy URL of the records: the setting, or records.db in the data folder."""
    return url or f"sqlite:///{Path(data_dir) / 'records.db'}"


def connect(url: str, *, pool_size: int = 5) -> Engine:
    """Make the engine of a process. The folder of a SQLite file is made when it is missing."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_size=pool_size, pool_pre_ping=True)
    file = re.sub(r"^sqlite(\+\w+)?:///", "", url)
    if file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url, connect_args={"timeout": BUSY_MS / 1000, "isolation_level": None, "check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_MS}",
        "recursive_triggers=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


class Records:
    """Hands out transactions: `with records.write() as tx` commits at its end, or takes all back."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._write = sessionmaker(engine.execution_options(writes=True), expire_on_commit=False)
        one_moment = engine if self.is_sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        self._read = sessionmaker(one_moment, expire_on_commit=False)

    @property
    def is_sqlite(self) -> bool:
        """Whether the records are a SQLite file: one writer at a time, no SKIP LOCKED."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a transaction that may write."""
        with self._write.begin() as tx:
            yield tx

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session that only reads, of one moment."""
        with self._read() as tx:
            yield tx

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
