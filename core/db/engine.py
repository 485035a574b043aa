"""Engine and transactions of the records: one engine for each process, one transaction for each use case.

On SQLite a write transaction is BEGIN IMMEDIATE with a busy time-out of 5 s; it ends within 10 ms and does no other
I/O. If hundreds of alarms open at once it takes about 100 ms, and other writers get the file afterwards
(`Records.write_much`). A read-only session never begins IMMEDIATE. On PostgreSQL a read-only session is REPEATABLE
READ, so that it sees one snapshot, as on SQLite. No statement takes longer than `ANSWER_S`, and no connection attempt
longer than `CONNECT_S`; tests/integration/test_postgres_hangs.py tries to break that.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from core.runtime.clock import monotonic
from core.runtime.sqlite import file_id

BUSY_MS = 5_000
LONGEST_PAUSE_S = 0.02
ANSWER_S = 8.0
"""Real seconds that PostgreSQL may take for one statement; migrations have no limit."""
CONNECT_S = 3
POOL_S = 10.0
"""Real seconds to wait for a free connection of the pool."""
IDLE_IN_TRANSACTION_S = 60
"""Longest time that a process stopped within a transaction holds its locks."""
_TCP_KEEP_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3}
"""A connection counts as lost after 10 + 3 × 3 seconds without an answer."""


def url_for(url: str, data_dir: str) -> str:
    """Return the SQLAlchemy URL of the records: the setting, or records.db in the data folder."""
    return url or f"sqlite:///{Path(data_dir) / 'records.db'}"


def connect(url: str, *, pool_size: int = 5) -> Engine:
    """Create the engine of a process, and the folder of a SQLite file if it is missing.

    Errors don't contain the parameters of a statement (names, links, hashes), since logs and answers may show them.
    """
    if not url.startswith("sqlite"):
        return _postgres(url, pool_size)
    file = re.sub(r"^sqlite(\+\w+)?:///", "", url)
    pool: dict[str, Any] = {}
    if file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        pool = {"pool_size": pool_size, "pool_timeout": POOL_S}
    options = {"timeout": BUSY_MS / 1000, "isolation_level": None, "check_same_thread": False}
    engine = create_engine(url, connect_args=options, hide_parameters=True, **pool)
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin)
    if file and file != ":memory:":
        _follow_path(engine, Path(file))
    return engine


def _follow_path(engine: Engine, path: Path) -> None:
    """Reconnect if the file was replaced at its path: writes to a file that was moved or deleted would be lost."""

    def note(_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = file_id(path)

    def compare(_connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        if record.info["file"] != file_id(path):
            msg = f"{path} was replaced or deleted while it was open"
            raise DisconnectionError(msg)

    event.listen(engine, "connect", note)
    event.listen(engine, "checkout", compare)


def _postgres(url: str, pool_size: int) -> Engine:
    from core.db.timeouts import TimeoutConnection  # noqa: PLC0415 (an installation on SQLite has no driver for it)

    answer_s = ANSWER_S
    limits = {"connect_timeout": CONNECT_S, "tcp_user_timeout": int(answer_s * 1000), **_TCP_KEEP_ALIVE}
    options = {name: value for name, value in limits.items() if name not in make_url(url).query}
    engine = create_engine(
        url, pool_size=pool_size, pool_timeout=POOL_S, pool_pre_ping=True, connect_args=options, hide_parameters=True
    )

    def open_connection(
        _dialect: object, _record: object, args: tuple[Any, ...], named: dict[str, Any]
    ) -> TimeoutConnection:
        connection = TimeoutConnection.connect(*args, **named)
        connection.timeout_s = answer_s
        return connection

    def set_limits(connection: TimeoutConnection, _record: object) -> None:
        connection.execute(f"SET statement_timeout = {int(answer_s * 1000)}")
        connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'")
        connection.commit()

    event.listen(engine, "do_connect", open_connection)
    event.listen(engine, "connect", set_limits)
    return engine


@contextmanager
def unhurried(connection: Connection) -> Iterator[None]:
    """Lift the time limits for the statements of the current transaction."""
    if connection.dialect.name != "postgresql":
        yield
        return
    driver: Any = connection.connection.driver_connection
    previous, driver.timeout_s = driver.timeout_s, None
    try:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        yield
    finally:
        driver.timeout_s = previous


def _set_pragmas(connection: DBAPIConnection, _record: object) -> None:
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
    """Transactions on the records: `with records.write() as tx` commits at its end, or rolls back on an exception."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._write = sessionmaker(engine.execution_options(writes=True), expire_on_commit=False)
        snapshot = engine if self.is_sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        self._read = sessionmaker(snapshot, expire_on_commit=False)
        self._pause_until = 0.0

    @property
    def is_sqlite(self) -> bool:
        """Whether the records are a SQLite file. It has one writer at a time, and no SKIP LOCKED."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Yield a transaction that may write."""
        with self._write.begin() as tx:
            yield tx

    @contextmanager
    def write_much(self) -> Iterator[Session]:
        """Yield a transaction for a thread that runs many long ones in a row.

        On SQLite a waiting writer polls for the lock, and would rarely get it in between. So this pauses before the
        next transaction, for as long as the last one held the lock, but at most `LONGEST_PAUSE_S`.
        """
        if not self.is_sqlite:
            with self.write() as tx:
                yield tx
            return
        if (left := self._pause_until - monotonic()) > 0:
            time.sleep(left)
        with self.write() as tx:
            tx.connection()  # takes the write lock
            locked_at = monotonic()
            yield tx
        released_at = monotonic()
        self._pause_until = released_at + min(released_at - locked_at, LONGEST_PAUSE_S)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a read-only session that sees one snapshot."""
        with self._read() as tx:
            yield tx

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
