"""How the records are reached: one engine a process, one transaction a use case.

On SQLite a write transaction is BEGIN IMMEDIATE with a busy time-out of 5 s, ends within 10 ms and holds no I/O; where
hundreds of alarms open at once it takes about 100 ms, and others get their turn behind it (`Records.write_much`). A
read-only session never takes IMMEDIATE. On PostgreSQL a read-only one is REPEATABLE READ: all of it sees one moment, as
on SQLite. No request to it waits longer than `ANSWER_S`, and no attempt to connect longer than `CONNECT_S`.
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
"""Real seconds that PostgreSQL may take for one statement; a migration has no limit."""
CONNECT_S = 3
POOL_S = 10.0
"""Real seconds to wait for a connection that others in this process have."""
IDLE_IN_TRANSACTION_S = 60
"""A process that was stopped within a transaction holds its locks no longer than this."""
_ALIVE = {"keepalives_idle": 10, "keepalives_interval": 3, "keepalives_count": 3}
"""After these seconds without a sign of life a connection is taken as lost."""


def url_for(url: str, data_dir: str) -> str:
    """Return the SQLAlchemy URL of the records: the setting, or records.db in the data folder."""
    return url or f"sqlite:///{Path(data_dir) / 'records.db'}"


def connect(url: str, *, pool_size: int = 5) -> Engine:
    """Make the engine of a process. The folder of a SQLite file is made when it is missing.

    What a statement was given stays out of its errors, which logs and answers may show: names, links, hashes.
    """
    if not url.startswith("sqlite"):
        return _postgres(url, pool_size)
    file = re.sub(r"^sqlite(\+\w+)?:///", "", url)
    pool: dict[str, Any] = {}
    if file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        pool = {"pool_size": pool_size, "pool_timeout": POOL_S}
    ours = {"timeout": BUSY_MS / 1000, "isolation_level": None, "check_same_thread": False}
    engine = create_engine(url, connect_args=ours, hide_parameters=True, **pool)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    if file and file != ":memory:":
        _follow_path(engine, Path(file))
    return engine


def _follow_path(engine: Engine, path: Path) -> None:
    """Open another file that came to the path: what is written to one that no path leads to is lost at the end."""

    def note(_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = file_id(path)

    def compare(_connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        if record.info["file"] != file_id(path):
            msg = f"{path} was replaced or deleted while it was open"
            raise DisconnectionError(msg)

    event.listen(engine, "connect", note)
    event.listen(engine, "checkout", compare)


def _postgres(url: str, pool_size: int) -> Engine:
    from core.db.patience import Patient  # noqa: PLC0415 (one machine does without the driver)

    answer_s = ANSWER_S
    limits = {"connect_timeout": CONNECT_S, "tcp_user_timeout": int(answer_s * 1000), **_ALIVE}
    ours = {name: value for name, value in limits.items() if name not in make_url(url).query}
    engine = create_engine(
        url, pool_size=pool_size, pool_timeout=POOL_S, pool_pre_ping=True, connect_args=ours, hide_parameters=True
    )

    def open_one(_dialect: object, _record: object, args: tuple[Any, ...], named: dict[str, Any]) -> Patient:
        connection = Patient.connect(*args, **named)
        connection.patience_s = answer_s
        return connection

    def limit(connection: Patient, _record: object) -> None:
        connection.execute(f"SET statement_timeout = {int(answer_s * 1000)}")
        connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'")
        connection.commit()

    event.listen(engine, "do_connect", open_one)
    event.listen(engine, "connect", limit)
    return engine


@contextmanager
def unhurried(connection: Connection) -> Iterator[None]:
    """Let what the transaction that stands does meanwhile take as long as it needs."""
    if connection.dialect.name != "postgresql":
        yield
        return
    driver: Any = connection.connection.driver_connection
    usual, driver.patience_s = driver.patience_s, None
    try:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        yield
    finally:
        driver.patience_s = usual


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
        self._pause_until = 0.0

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
    def write_much(self) -> Iterator[Session]:
        """Yield one of many long transactions in a row, all of one thread.

        On SQLite others who wait look only now and then whether they may write, so the file is left to them in between:
        for as long as the last transaction had it, and at most `LONGEST_PAUSE_S`.
        """
        if not self.is_sqlite:
            with self.write() as tx:
                yield tx
            return
        if (left := self._pause_until - monotonic()) > 0:
            time.sleep(left)
        with self.write() as tx:
            tx.connection()  # now it has the file
            began = monotonic()
            yield tx
        ended = monotonic()
        self._pause_until = ended + min(ended - began, LONGEST_PAUSE_S)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Yield a session that only reads, of one moment."""
        with self._read() as tx:
            yield tx

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()
