"""Spool of one gateway: the batches that no acknowledgement has covered, in a SQLite file.

Guarantees, tried by tests/unit/test_spool.py, tests/integration/test_agent.py and tests/scenario/test_spool_restore.py:
* A batch that `append` returned survives kill -9 and loss of power (WAL, synchronous=FULL), one commit a call.
* A row leaves only when an acknowledgement covers it, or when the limits drop the oldest; what was dropped is declared
  in `lost` until an acknowledgement covers that too.
* (ep, seq) is given once: a number is never used again for other readings, whatever is deleted or killed.
* Deleting waits for the next commit: after a crash acknowledged rows may come back and be sent again, which the
  collector knows as duplicates. It saves half of the writes to a memory card.
* A row whose bytes have changed on the card (each has a CRC-32) is never sent as if it had been measured: it is put
  into `damaged`, where it can be looked at, and declared in `lost`; tried by tests/unit/test_spool_damage.py.

An acknowledgement of numbers that this spool never gave means that the file is an old copy (a restored card): the spool
then begins a new life, a new `ep`, and sends again all it has, rather than delete what was never sent. A copy that has
counted on past the numbers that were acknowledged would not notice, so numbers given since the file was opened are not
sent (`may_send_upto`) before a first acknowledgement has come, and one that covers any of them shows the copy as well.
"""

import re
import secrets
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.wire.messages import LONGEST_BATCH, MOST_LOST, Ack, Reading, SeqRanges

log = logger(__name__)

_STEPS = (
    (
        "CREATE TABLE life (one INTEGER PRIMARY KEY CHECK (one = 1), ep TEXT NOT NULL, seq INTEGER NOT NULL) STRICT",
        "CREATE TABLE batch (seq INTEGER PRIMARY KEY, boot TEXT NOT NULL, at INTEGER NOT NULL, r BLOB NOT NULL) STRICT",
        "CREATE TABLE lost (first INTEGER PRIMARY KEY, last INTEGER NOT NULL) STRICT",
        "CREATE TABLE polled (bus TEXT PRIMARY KEY, due INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    ),
    (
        # Rows of an earlier version have no checksum and are believed.
        "ALTER TABLE batch ADD COLUMN crc INTEGER",
        """CREATE TABLE damaged (
             seq INTEGER NOT NULL, ep TEXT NOT NULL, boot BLOB, at BLOB, r BLOB, crc INTEGER, PRIMARY KEY (ep, seq))""",
    ),
)
"""What brings a file from each version to the next. The first step makes it."""
VERSION = len(_STEPS)
MOST_DAMAGED = 1_000
"""Rows in `damaged`; of more the oldest go."""
LARGEST_R = 60_000
"""Bytes of readings in a batch: leaves room for the rest of a 64 KiB message."""
ROW_BYTES = 64
"""What a row takes beside its readings, roughly."""
CLOCK_WAS_SET = Instant(1_577_836_800_000)
"""2020-01-01: what is stamped before was read with the clock unset; its age is unknown, so it isn't dropped for age."""
COMMIT_AFTER_DELETES = 200
_ROWS = "SELECT seq, boot, at, r, crc FROM batch"
_EP = re.compile("[0-9a-f]{16}")


class DamagedSpool(Exception):
    """The file is no spool of ours, or of a newer version; the text says which and where."""


class Spooled(msgspec.Struct, frozen=True):
    """One batch of the spool."""

    seq: int
    boot: str
    at: Instant
    """When it was spooled, by the injected clock."""
    r: bytes
    """Its readings as JSON, as they will be sent."""

    @property
    def crc(self) -> int:
        """The checksum over everything."""
        return zlib.crc32(self.r, zlib.crc32(f"{self.seq} {self.boot} {self.at}".encode()))


class Spool:
    """Spool of one gateway, used by one thread. `path` None keeps it in memory, while the disk refuses to write."""

    def __init__(self, path: Path | None, *, limit_bytes: int, limit_age: Milliseconds) -> None:
        """Open the file or make it.

        Raises: DamagedSpool; sqlite3.Error or OSError when it can't be opened for writing.
        """
        self._limit_bytes = limit_bytes
        self._limit_age = limit_age
        self._deletes = 0
        self.set_aside = 0
        """Damaged batches that were set aside since the file was opened."""
        self._ep = ""
        self._seq = self._depth = self._size = 0
        self._proven = False
        """Whether this is no old copy: it was made now, or an acknowledgement has come since it was opened."""
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, timeout=5)
        self._db.text_factory = _text
        try:
            self._open(str(path))
            self._opened_at = self._seq
        except BaseException:
            self._db.close()
            raise

    @property
    def ep(self) -> str:
        """Name of this life of the spool: 64 random bits, hex."""
        return self._ep

    @property
    def seq(self) -> int:
        """Last sequence number given."""
        return self._seq

    @property
    def may_send_upto(self) -> int:
        """Last number that may be sent now."""
        return self._seq if self._proven else self._opened_at

    @property
    def is_proven(self) -> bool:
        """Whether it is known that this is no old copy."""
        return self._proven

    @property
    def depth(self) -> int:
        """Batches that no acknowledgement has covered."""
        return self._depth

    @property
    def size(self) -> int:
        """Bytes that they take."""
        return self._size

    @property
    def polled(self) -> dict[str, Instant]:
        """For each bus, the due time of the last poll whose readings were spooled."""
        return {bus: Instant(due) for bus, due in self._db.execute("SELECT bus, due FROM polled")}

    @property
    def lost(self) -> SeqRanges:
        """Closed ranges of dropped numbers that no acknowledgement has covered, the first MOST_LOST of them."""
        rows = self._db.execute("SELECT first, last FROM lost ORDER BY first LIMIT ?", (MOST_LOST,))
        return [(first, last) for first, last in rows]

    def append(
        self, readings: Sequence[Reading], *, boot: str, at: Instant, polled: Mapping[str, Instant] | None = None
    ) -> list[Spooled]:
        """Keep readings as one batch (as more when they exceed a message), durable on return.

        Raises: sqlite3.Error when the disk refuses; the spool is then as it was after the last commit.
        """
        fresh = [Spooled(self._seq + step, boot, at, part) for step, part in enumerate(_parts(readings), start=1)]
        try:
            self._begin()
            self._db.executemany(
                "INSERT INTO batch (seq, boot, at, r, crc) VALUES (?, ?, ?, ?, ?)",
                [(row.seq, row.boot, row.at, row.r, row.crc) for row in fresh],
            )
            self._db.execute("UPDATE life SET seq = ?", (self._seq + len(fresh),))
            self._db.executemany(
                "INSERT INTO polled (bus, due) VALUES (?, ?) ON CONFLICT (bus) DO UPDATE SET due = excluded.due",
                list((polled or {}).items()),
            )
            self._seq += len(fresh)
            self._depth += len(fresh)
            self._size += sum(len(row.r) + ROW_BYTES for row in fresh)
            self._drop_oldest(at)
            self._commit()
        except sqlite3.Error:
            self._back_out()
            raise
        return fresh

    def acknowledge(self, ack: Ack) -> bool:
        """Delete exactly what an acknowledgement of this life covers; False when it began a new life instead.

        Raises: sqlite3.Error when the disk refuses.
        """
        covered = [(1, ack.upto), *ack.have] if ack.upto > 0 else list(ack.have)
        if any(last > self.may_send_upto for _, last in covered):
            log.error("spool is an old copy; a new life begins", acked=max(covered)[1], given=self._seq)
            self._new_life()
            return False
        self._proven = True
        try:
            self._begin()
            for first, last in covered:
                self._delete(first, last)
                self._db.execute("DELETE FROM lost WHERE first >= ? AND last <= ?", (first, last))
            if self._deletes >= COMMIT_AFTER_DELETES:
                self._commit()
        except sqlite3.Error:
            self._back_out()
            raise
        return True

    def after(self, seq: int, limit: int) -> list[Spooled]:
        """Return up to `limit` batches behind `seq`, in order."""
        batches: list[Spooled] = []
        while len(batches) < limit:
            missing = limit - len(batches)
            page = self._db.execute(f"{_ROWS} WHERE seq > ? ORDER BY seq LIMIT ?", (seq, missing)).fetchall()
            batches += self._sound(page)
            if len(page) < missing:
                break
            seq = page[-1][0]
        return batches

    def young_from(self, since: Instant) -> int:
        """Return the first number of the unbroken run of batches at the end that were spooled at or after `since`."""
        first = self._seq + 1
        for seq, at in self._db.execute("SELECT seq, at FROM batch ORDER BY seq DESC"):
            if at < since:
                break
            first = seq
        return first

    def get(self, seq: int) -> Spooled | None:
        """Return a batch, None when it has left."""
        rows = self._sound(self._db.execute(f"{_ROWS} WHERE seq = ?", (seq,)).fetchall())
        return rows[0] if rows else None

    def flush(self) -> None:
        """Commit deletions that wait.

        Raises: sqlite3.Error when the disk refuses.
        """
        try:
            self._commit()
        except sqlite3.Error:
            self._back_out()
            raise

    def close(self) -> None:
        """Commit what waits and close; a disk that refuses costs only that acknowledged rows come back."""
        try:
            self._commit()
        except sqlite3.Error as error:
            log.warning("spool not flushed", error=str(error))
        self._db.close()

    def _open(self, path: str) -> None:
        try:
            self._prepare(path)
            self._count()
            self._mend()
        except sqlite3.OperationalError:  # locked, full, read-only: not the file's fault
            raise
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # the latter when SQLite names what it can't read
            msg = f"{path} is not a spool: {error}"
            raise DamagedSpool(msg) from None

    def _prepare(self, path: str) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if not 0 <= version <= VERSION:
            msg = f"{path} is a spool of version {version}; this agent knows {VERSION}"
            raise DamagedSpool(msg)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA journal_size_limit = 4194304")
        if version == VERSION:
            return
        self._begin()
        for step in _STEPS[version:]:
            for statement in step:
                self._db.execute(statement)
        if version == 0:
            self._db.execute("INSERT INTO life VALUES (1, ?, 0)", (secrets.token_hex(8),))
            self._proven = True
        self._db.execute(f"PRAGMA user_version = {VERSION}")
        self._commit()

    def _mend(self) -> None:
        """Repair the counter, the lost ranges and the name of the life where a turned bit contradicts the rows.

        A number that a row has is never given again, a row that is here isn't declared lost, and a life whose name the
        wire contract doesn't allow ends.
        """
        query = "SELECT max(coalesce((SELECT max(seq) FROM batch), 0), ?)"
        [highest] = self._db.execute(query, (self._seq,)).fetchone()
        wrong = "first < 1 OR first > last OR last > ? OR EXISTS (SELECT 1 FROM batch WHERE seq BETWEEN first AND last)"
        [false] = self._db.execute(f"SELECT count(*) FROM lost WHERE {wrong}", (highest,)).fetchone()  # noqa: S608
        if highest == self._seq and not false and _EP.fullmatch(self._ep):
            return
        log.error("damaged spool mended; a new life begins", ep=self._ep, given=self._seq, highest=highest, false=false)
        self._begin()
        self._db.execute(f"DELETE FROM lost WHERE {wrong}", (highest,))  # noqa: S608
        self._db.execute("UPDATE life SET seq = ?", (highest,))
        self._new_life()

    def _count(self) -> None:
        self._ep, self._seq = self._db.execute("SELECT ep, seq FROM life").fetchone()
        self._depth, self._size = self._db.execute(
            "SELECT count(*), coalesce(sum(length(r) + ?), 0) FROM batch", (ROW_BYTES,)
        ).fetchone()

    def _begin(self) -> None:
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def _commit(self) -> None:
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._deletes = 0

    def _back_out(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")
        self._deletes = 0
        self._count()

    def _delete(self, first: int, last: int) -> None:
        query = "DELETE FROM batch WHERE seq BETWEEN ? AND ? RETURNING length(r)"
        gone = self._db.execute(query, (first, last)).fetchall()
        self._depth -= len(gone)
        self._size -= sum(length + ROW_BYTES for (length,) in gone)
        self._deletes += len(gone)

    def _drop_oldest(self, now: Instant) -> None:
        """Drop the oldest while there is too much or too old; the newest always stays."""
        first = last = 0
        while self._depth > 1:
            seq, at = self._db.execute("SELECT seq, at FROM batch ORDER BY seq LIMIT 1").fetchone()
            too_old = CLOCK_WAS_SET <= at < now - self._limit_age
            if self._size <= self._limit_bytes and not too_old:
                break
            self._delete(seq, seq)
            self._declare_lost(seq)
            first, last = first or seq, seq
        if last:
            log.error("spool overflowed, oldest batches dropped", first=first, last=last, ep=self._ep)

    def _new_life(self) -> None:
        self.flush()
        self._db.execute("UPDATE life SET ep = ?", (secrets.token_hex(8),))
        self._proven = True
        self._count()

    def _declare_lost(self, seq: int) -> None:
        merged = self._db.execute("UPDATE lost SET last = ? WHERE last = ?", (seq, seq - 1)).rowcount
        if not merged:
            self._db.execute("INSERT INTO lost VALUES (?, ?)", (seq, seq))

    def _sound(self, rows: Sequence[tuple[int, str, int, bytes, int | None]]) -> list[Spooled]:
        """Return the batches whose bytes are what was written; set the others aside."""
        batches = []
        for seq, boot, at, r, crc in rows:
            batch = Spooled(seq, boot, Instant(at), r)
            if crc is None or crc == batch.crc:
                batches.append(batch)
            else:
                self._set_aside(seq)
        return batches

    def _set_aside(self, seq: int) -> None:
        """Move a damaged row out of what is sent; while the disk refuses that, it stays and isn't sent either."""
        try:
            self._begin()
            self._db.execute(
                "INSERT OR REPLACE INTO damaged (ep, seq, boot, at, r, crc)"
                " SELECT ?, seq, boot, at, r, crc FROM batch WHERE seq = ?",
                (self._ep, seq),
            )
            self._db.execute(
                "DELETE FROM damaged WHERE rowid NOT IN (SELECT rowid FROM damaged ORDER BY rowid DESC LIMIT ?)",
                (MOST_DAMAGED,),
            )
            self._delete(seq, seq)
            self._declare_lost(seq)
            self._commit()
        except sqlite3.Error as error:
            self._back_out()
            log.warning("damaged batch not set aside yet", ep=self._ep, seq=seq, error=str(error))
        else:
            self.set_aside += 1
            log.error("damaged batch set aside, and declared lost", ep=self._ep, seq=seq)


def _text(raw: bytes) -> str:
    """Decode what may have turned bits: its row's checksum tells."""
    return raw.decode("utf-8", "replace")


def _parts(readings: Sequence[Reading]) -> list[bytes]:
    """Return the readings as JSON arrays that each fit a message."""
    if not readings:
        return []
    encoded = msgspec.json.encode(list(readings))
    if len(readings) <= LONGEST_BATCH and len(encoded) <= LARGEST_R:
        return [encoded]
    half = len(readings) // 2
    return [*_parts(readings[:half]), *_parts(readings[half:])]
