"""SQLite file of the embedded store: hot.db, or the file of a month.

Durable means `synchronous=FULL` in WAL mode: a write that has returned survives kill -9 and a power failure. Every
write is one BEGIN IMMEDIATE; a read sees one snapshot. tests/integration/test_embedded_telemetry.py tries to break it.
"""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.runtime.sqlite import FileId, file_id, malformed_text, to_wal
from core.telemetry.port import ReadOnly, StoreReplaced

_BUSY_S = 5.0
_LARGEST_WAL = 64 * 2**20
"""Bytes that the write-ahead log may keep on disk after many writes."""

Steps = Sequence[Sequence[str]]
"""SQL statements that bring a file from each version to the next; the first step creates it."""


class NewerFile(Exception):
    """The file was written by a newer coldchain."""


class Closed(Exception):
    """Call on a store that has been closed."""


class StoreFile:
    """SQLite file shared by any number of processes. In one process, one thread reads at a time, and one writes."""

    def __init__(self, path: Path, steps: Steps, *, read_only: bool, page_bytes: int = 4096) -> None:
        """Create the file with pages of `page_bytes`, or bring it up to date, unless `read_only`.

        Raises: NewerFile.
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
        """Yield a transaction that is durable once it ends without an exception.

        Raises: ReadOnly; Closed; StoreReplaced; sqlite3.OperationalError if other writers held the file for five
        seconds or the disk is full.
        """
        with self._writing, malformed_text():
            self._require_open()
            if self._read_only:
                msg = f"{self.path} was opened for reading only"
                raise ReadOnly(msg)
            if self._writer is not None and file_id(self.path) != self._written_file:
                self._writer.close()
                self._writer = None
                msg = f"{self.path} was replaced or deleted while it was open"
                raise StoreReplaced(msg)
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
        """Yield a snapshot of the file, or None until a writer has created it or brought it up to date.

        Raises: Closed, NewerFile.
        """
        with self._reading, malformed_text():
            self._require_open()
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
                if self._reader.in_transaction:  # if the disk fails SQLite ends it, and its error must come through
                    self._reader.execute("COMMIT")

    def fold(self) -> None:
        """Move the write-ahead log into the file, as far as readers allow."""
        with self._writing:
            if self._writer is not None:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connections, once running reads and writes have ended."""
        with self._writing, self._reading:
            self._closed = True
            for connection in (self._reader, self._writer):
                if connection is not None:
                    connection.close()
            self._reader = self._writer = None

    def _require_open(self) -> None:
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
            connection.execute(f"PRAGMA page_size={self._page_bytes}")  # has an effect on a new file only
            to_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={_LARGEST_WAL}")
        if self._version(connection) == len(self._steps):
            return  # write nothing, so that a file on a full disk can be read
        connection.execute("BEGIN IMMEDIATE")
        try:
            for step in self._steps[self._version(connection) :]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version={len(self._steps)}")
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:  # a full disk must not leave half of the steps
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
            raise NewerFile(msg)
        return version
