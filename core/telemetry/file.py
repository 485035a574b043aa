"""A SQLite file of the embedded store: one for what is recent, one a month for what is sealed.

Durable means `synchronous=FULL` in WAL mode: when a write returned, it survives kill -9 and a loss of power. Every
write is one BEGIN IMMEDIATE; a reader sees one moment.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.runtime.sqlite import FileId, file_id, malformed_text, to_wal

_BUSY_S = 5.0
_LARGEST_WAL = 64 * 2**20
"""Bytes that the write-ahead log keeps on disk after a rush."""

Steps = Sequence[Sequence[str]]
"""What brings a file from each version to the next; the first step makes it."""


class WrongVersion(Exception):
    """The file was written by a newer coldchain."""


class ReadOnly(Exception):
    """A store that was opened for reading was asked to write."""


class Closed(Exception):
    """A store was asked after it had been closed."""


class Replaced(OSError):
    """Another file is at the path than the one that was open. The next call opens it; nothing was written to either."""


class StoreFile:
    """One file, used by any number of processes; of this one a thread at a time reads, and one writes."""

    def __init__(self, path: Path, steps: Steps, *, read_only: bool, page_bytes: int = 4096) -> None:
        """Make the file, with pages of a size, or bring it up to date, unless `read_only`.

        Raises: WrongVersion.
        """
        self._page_bytes = page_bytes
        self.path = path
        self._steps = steps
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._read_file: FileId | None = None
        self._written_file: FileId | None = None
        self._read_only = read_only
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open_to_write()

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Yield a transaction that is durable when it ends without an exception.

        Raises: ReadOnly; Closed; Replaced; sqlite3.OperationalError when other writers held the file for five seconds,
        or the disk is full.
        """
        with self._writing, malformed_text():
            self._must_be_open()
            if self._read_only:
                msg = f"{self.path} was opened for reading only"
                raise ReadOnly(msg)
            if self._writer is not None and file_id(self.path) != self._written_file:
                self._writer.close()
                self._writer = None
                msg = f"{self.path} was replaced or deleted while it was open"
                raise Replaced(msg)
            writer = self._writer or self._open_to_write()
            writer.execute("BEGIN IMMEDIATE")
            try:
                yield writer
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection | None]:
        """Yield what the file held at one moment, or None until a writer has made it or brought it up to date.

        Raises: Closed, WrongVersion.
        """
        with self._reading, malformed_text():
            self._must_be_open()
            if self._reader is not None and file_id(self.path) != self._read_file:
                self._reader.close()
                self._reader = None
            if self._reader is None:
                self._read_file = file_id(self.path)
                self._reader = self._open_to_read()
            if self._reader is None:
                yield None
                return
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                if self._reader.in_transaction:  # SQLite ends it itself when the disk fails: that is to be told
                    self._reader.execute("COMMIT")

    def fold(self) -> None:
        """Bring the write-ahead log into the file, as far as readers let it."""
        with self._writing:
            if self._writer is not None:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connections, after what runs on them."""
        with self._writing, self._reading:
            self._closed = True
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _must_be_open(self) -> None:
        if self._closed:
            msg = f"{self.path} was closed"
            raise Closed(msg)

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)

    def _open_to_write(self) -> sqlite3.Connection:
        writer = self._connect("rwc")
        try:
            with malformed_text():
                self._prepare(writer)
        except BaseException:
            writer.close()
            raise
        self._writer, self._written_file = writer, file_id(self.path)
        return writer

    def _prepare(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) != len(self._steps):
            connection.execute(f"PRAGMA page_size={self._page_bytes}")  # has effect on a new file alone
            to_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={_LARGEST_WAL}")
        if self._version(connection) == len(self._steps):
            return  # nothing is written: a full disk can be read
        connection.execute("BEGIN IMMEDIATE")
        try:
            for step in self._steps[self._version(connection) :]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={len(self._steps)}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:  # a disk that is full leaves no half of it
                connection.execute("ROLLBACK")

    def _open_to_read(self) -> sqlite3.Connection | None:
        if not self.path.exists():
            return None
        connection = self._connect("ro")
        try:
            version = self._version(connection)
        except BaseException:
            connection.close()
            raise
        if version == len(self._steps):
            return connection
        connection.close()
        return None

    def _version(self, connection: sqlite3.Connection) -> int:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > (known := len(self._steps)):
            msg = f"{self.path} has version {version}, this coldchain knows {known}: install the newer one again"
            raise WrongVersion(msg)
        return version
