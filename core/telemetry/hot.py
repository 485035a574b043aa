"""Where the embedded store keeps what is recent: one SQLite file, many processes.

Durable means `synchronous=FULL` in WAL mode: when a write returned, it survives kill -9 and a loss of power. Every
write is one BEGIN IMMEDIATE; a reader sees one moment. A reader that comes before the first writer finds nothing, and
looks again.
"""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VERSION = 1
_BUSY_S = 5.0
_LARGEST_WAL = 64 * 2**20
"""Bytes that the write-ahead log keeps on disk after a rush."""
_SCHEMA = (
    # Never reused ids: order of id = order of commit, also across deletions (AUTOINCREMENT).
    """CREATE TABLE IF NOT EXISTS frame (
         id INTEGER PRIMARY KEY AUTOINCREMENT, hour INTEGER NOT NULL, data BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS frame_hour ON frame (hour)",
    # key = hour << 24 | series, so that sealing appends at the end of the tree.
    "CREATE TABLE IF NOT EXISTS hour_block (key INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    # Of sealed readings; those still in frames may be newer.
    """CREATE TABLE IF NOT EXISTS latest (
         series INTEGER PRIMARY KEY, at INTEGER NOT NULL, value INTEGER, q INTEGER NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS cursor (shard TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID",
)


class WrongVersion(Exception):
    """The file was written by a newer coldchain."""


class ReadOnly(Exception):
    """A store that was opened for reading was asked to write."""


class Hot:
    """hot.db of a folder."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        """Make the file where it is missing, unless `read_only`.

        Raises: WrongVersion.
        """
        self._path = path
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connect(f"{path.absolute().as_uri()}?mode=rwc")
            self._prepare(self._writer)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield a transaction that is durable when it ends without an exception.

        Raises: ReadOnly; sqlite3.OperationalError when other writers held the file for five seconds, or the disk is
        full.
        """
        if self._writer is None:
            msg = f"{self._path} was opened for reading only"
            raise ReadOnly(msg)
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection | None]:
        """Yield what the file held at one moment, or None while no writer has made it. One thread at a time."""
        with self._reading:
            if self._reader is None:
                self._reader = self._open_to_read()
            if self._reader is None:
                yield None
                return
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("COMMIT")

    def close(self) -> None:
        """Close the connections, after what runs on them."""
        with self._writing, self._reading:
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _connect(self, uri: str) -> sqlite3.Connection:
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        _to_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={_LARGEST_WAL}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            if not self._version(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={VERSION}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:  # a disk that is full leaves no half of it
                connection.execute("ROLLBACK")

    def _open_to_read(self) -> sqlite3.Connection | None:
        if not self._path.exists():
            return None
        connection = self._connect(f"{self._path.absolute().as_uri()}?mode=ro")
        try:
            made = self._version(connection)
        except BaseException:
            connection.close()
            raise
        if made:
            return connection
        connection.close()
        return None

    def _version(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            msg = f"{self._path} has version {version}, this coldchain knows {VERSION}: install the newer one again"
            raise WrongVersion(msg)
        return version


def _to_wal(connection: sqlite3.Connection) -> None:
    """Switch to WAL. Two processes that open a new file at once collide here without the usual wait, hence the loop."""
    ends = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.01)
        else:
            return
