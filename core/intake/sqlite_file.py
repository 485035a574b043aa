"""SQLite file of the embedded intake log: its tables, and connections to it.

Durable means WAL with `synchronous=FULL`: a commit that returned survives kill -9 and a loss of power. Every write is
one BEGIN IMMEDIATE, so writers of all processes come one after another and order of position is order of commit.

A file that was replaced or deleted while it was open is opened again (tried by tests/scenario/test_restore.py): what
is written to a file without a path is gone with the last process that has it open.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from core.intake import sqlite_entries, sqlite_seen
from core.intake.cursor_marks import fresh_name
from core.intake.port import IntakeUnavailable, NewerLog
from core.runtime.sqlite import FileId, file_id, malformed_text, open_read_only, to_wal

BUSY_S = 5.0
_CACHE_KIB = 16_384
"""Of a connection at most. An append writes to the last page of every shard and spool: with SQLite's 2 MiB they would
leave the cache before the next one, a fifth of the time that an append takes (benchmarks/ingest.py)."""
_LARGEST_WAL = 64 * 2**20
_STEPS = (
    (
        "CREATE TABLE head (shard TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID",
        # `hash` tells a clone from a duplicate; `batch` is msgpack of what the columns don't say.
        """CREATE TABLE entry (
             shard TEXT NOT NULL, n INTEGER NOT NULL, gw TEXT NOT NULL, ep TEXT NOT NULL, seq INTEGER NOT NULL,
             hash BLOB NOT NULL, received INTEGER NOT NULL, origin TEXT NOT NULL, batch BLOB NOT NULL,
             PRIMARY KEY (shard, n)) WITHOUT ROWID""",
        "CREATE UNIQUE INDEX entry_seq ON entry (gw, ep, seq) WHERE origin <> 'released'",
        sqlite_seen.SCHEMA,
        # A reading of entry (shard, n): by `place` in it, or below 0 when it was withheld as the entry was appended.
        """CREATE TABLE held (
             id INTEGER PRIMARY KEY AUTOINCREMENT, shard TEXT NOT NULL, n INTEGER NOT NULL, place INTEGER NOT NULL,
             gw TEXT NOT NULL, ep TEXT NOT NULL, boot TEXT NOT NULL, seq INTEGER NOT NULL, reading BLOB NOT NULL,
             reason TEXT NOT NULL, detail TEXT NOT NULL, since INTEGER NOT NULL,
             state TEXT NOT NULL DEFAULT 'held', ended INTEGER, by TEXT NOT NULL DEFAULT '',
             why TEXT NOT NULL DEFAULT '', UNIQUE (shard, n, place))""",
        "CREATE INDEX held_state ON held (state, reason, gw)",
        """CREATE TABLE dead_letter (
             id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL,
             body BLOB NOT NULL)""",
        """CREATE TABLE cursor (
             reader TEXT NOT NULL, shard TEXT NOT NULL, n INTEGER NOT NULL,
             PRIMARY KEY (reader, shard)) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE claim (
             service TEXT NOT NULL, worker TEXT NOT NULL, first TEXT NOT NULL, last TEXT NOT NULL, holder TEXT NOT NULL,
             until INTEGER NOT NULL, PRIMARY KEY (service, worker)) WITHOUT ROWID""",
    ),
    (
        # The names that the log ever had; the highest number has the present one.
        "CREATE TABLE name (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL)",
        # What earlier versions noted of a store behind a network has no counterpart there: it is written once more.
        "DELETE FROM cursor WHERE reader = 'telemetry'",
    ),
    (
        # `gw` as the topic names it, empty where it names none.
        "ALTER TABLE dead_letter ADD COLUMN gw TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX dead_letter_gw ON dead_letter (gw)",
        "DROP INDEX held_state",
        "CREATE INDEX held_state ON held (state, reason, gw, boot)",
        "CREATE INDEX held_gw ON held (state, gw, since)",
        # How often something was wrong with what a gateway sent, ever.
        """CREATE TABLE gateway_fault (
             gw TEXT NOT NULL, kind TEXT NOT NULL, n INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
             detail TEXT NOT NULL, PRIMARY KEY (gw, kind)) WITHOUT ROWID""",
        # Clocks that run behind, by so many ms.
        """CREATE TABLE gateway_clock (
             gw TEXT PRIMARY KEY, boot TEXT NOT NULL, behind INTEGER NOT NULL, since INTEGER NOT NULL) WITHOUT ROWID""",
    ),
    # Rows of an earlier version have no checksum, and are believed.
    ("ALTER TABLE seen ADD COLUMN crc INTEGER",),
    sqlite_entries.SCHEMA,
)
"""What brings a file from each version to the next. The first step makes it."""

VERSION = len(_STEPS)


class _OpenFile(NamedTuple):
    """A connection, and the file that it leads to."""

    db: sqlite3.Connection
    file: FileId | None


class LogFile:
    """Transactions on the file, for any thread; as many connections stay open as were ever in use at once."""

    def __init__(self, path: Path) -> None:
        """Make the file where it is missing.

        Raises: NewerLog, IntakeUnavailable.
        """
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[_OpenFile] = []
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with malformed_text(), self._connection():
                pass
        except (OSError, sqlite3.Error) as error:
            self.close()
            msg = f"{path}: {error}"
            raise IntakeUnavailable(msg) from error
        except NewerLog:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield a transaction that is durable when it ends, and did nothing when it raises.

        Raises: IntakeUnavailable.
        """
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Yield what was committed at one moment.

        Raises: IntakeUnavailable.
        """
        with self._transaction("BEGIN") as db:
            yield db

    def close(self) -> None:
        """Close the connections; one that is in use closes at the end of its transaction."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for opened in idle:
            opened.db.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            with malformed_text(), self._connection() as db:
                db.execute(begin)
                try:
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            msg = f"{self._path}: {error}"
            raise IntakeUnavailable(msg) from error

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection. None belongs to a thread: whoever looks in a thread of its own would leave one behind."""
        with self._lock:
            opened = self._idle.pop() if self._idle else None
        if opened and opened.file != file_id(self._path):
            opened.db.close()
            opened = None
        opened = opened or self._connect()
        db = opened.db
        try:
            yield db
        finally:
            with self._lock:
                kept = not (self._closed or db.in_transaction)
                if kept:
                    self._idle.append(opened)
            if not kept:
                db.close()

    def _connect(self) -> "_OpenFile":
        db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
            db.execute("PRAGMA synchronous=FULL")
            db.execute(f"PRAGMA journal_size_limit={_LARGEST_WAL}")
            db.execute(f"PRAGMA cache_size={-_CACHE_KIB}")
        except BaseException:
            db.close()
            raise
        return _OpenFile(db, file_id(self._path))

    def _prepare(self, db: sqlite3.Connection) -> None:
        if self._version(db) == VERSION and db.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            return  # nothing is written: a full disk can be read
        to_wal(db)
        db.execute("BEGIN IMMEDIATE")
        try:
            for step in _STEPS[self._version(db) :]:
                for statement in step:
                    db.execute(statement)
            if db.execute("SELECT 1 FROM name").fetchone() is None:
                db.execute("INSERT INTO name (name) VALUES (?)", (fresh_name(),))
            db.execute(f"PRAGMA user_version={VERSION}")
            db.execute("COMMIT")
        finally:
            if db.in_transaction:  # a disk that is full leaves no half of it
                db.execute("ROLLBACK")

    def _version(self, db: sqlite3.Connection) -> int:
        return _version(db, self._path)


def file_version(path: Path) -> int:
    """Return the version of a file, 0 where there is none; changes nothing.

    Raises: NewerLog, IntakeUnavailable.
    """
    if not path.exists():
        return 0
    try:
        with malformed_text(), closing(open_read_only(path)) as db:
            return _version(db, path)
    except sqlite3.Error as error:
        msg = f"{path}: {error}"
        raise IntakeUnavailable(msg) from error


def _version(db: sqlite3.Connection, path: Path) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        msg = f"{path} has version {version}, this coldchain knows {VERSION}: install the newer one again"
        raise NewerLog(msg)
    return version
