"""Embedded telemetry store: compressed readings in SQLite files of one folder, for many processes of one machine.

A reading is first in a *frame* (the part of one write that lies in one hour). Sealing its hour moves it to the *hour
block* of its series; sealing its day moves it to the *day block*, in the file of its month. A range is read as layers,
oldest first: day blocks, hour blocks, then frames in the order of writing; of equal instants the last layer wins.
Compacted blocks are committed before what they replace is deleted, and are read after it. In between both hold the same
readings, and merging those twice changes nothing.

Guarantees, tried by tests/contract/telemetry: a returned `write_batch` is durable together with its cursor; an
answer is a consistent snapshot; sealing, and a crash while sealing, changes no answer; damaged bytes raise `Damaged`
and are never returned.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from core.ids import Centi, SeriesId
from core.runtime.instant import DAY, HOUR, Instant
from core.telemetry import month_files, reading_columns
from core.telemetry.codec import decode_block, decode_frame, encode_frame
from core.telemetry.day_sealing import seal_days
from core.telemetry.frame_cache import FrameCache
from core.telemetry.hot_file import HotFile
from core.telemetry.hour_sealing import drop_hours, only_sealer, seal_hours
from core.telemetry.month_files import MonthFiles
from core.telemetry.port import NO_MARKS, Capabilities, Curve, ReadOnly, StoredReading
from core.telemetry.reading_columns import LAST_AT, SERIES_BITS, ReadingColumns
from core.telemetry.verification import VerificationResult, verify
from core.wire.shards import Shard

_SERIES_MASK = (1 << SERIES_BITS) - 1
_LAST_HOUR = LAST_AT // HOUR + 1
_DAY_HOURS = DAY // HOUR
_BLOCKS = """
WITH RECURSIVE present (span) AS (
  SELECT min(key) >> 24 FROM {table} WHERE key >= :first << 24
  UNION ALL
  SELECT (SELECT min(key) >> 24 FROM {table} WHERE key >= (span + 1) << 24) FROM present WHERE span < :last
)
SELECT {table}.key, data FROM present CROSS JOIN json_each(:series) AS wanted
CROSS JOIN {table} ON {table}.key = span << 24 | wanted.value
WHERE span <= :last
"""
_HOUR_BLOCKS, _DAY_BLOCKS = _BLOCKS.format(table="hour_block"), _BLOCKS.format(table="block")
"""Queries that visit the hours or days that have blocks, not all of the range: a thousand years cost no more."""

_Blocks = list[tuple[int, bytes]]
_Pieces = list[tuple[ReadingColumns, ...]]


class EmbeddedTelemetry:
    """Telemetry store in a folder. Any number of processes may read, write and seal at the same time."""

    capabilities = Capabilities(other_processes_read=True, whole_batches=True)

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        """Create the store if it is missing; with `read_only`, answer as an empty one until a writer has created it.

        Raises: NewerFile.
        """
        self._folder = folder
        self._read_only = read_only
        self._hot = HotFile(folder / "hot.db", read_only=read_only)
        self._months = MonthFiles(folder)
        self._recent = FrameCache()

    def write_batch(
        self, samples: Sequence[StoredReading], positions: Mapping[Shard, int], marks: Mapping[Shard, str] = NO_MARKS
    ) -> None:
        """Store samples and move the cursor, which never moves back, in one durable commit.

        Raises: ValueError for a sample that can't be stored; sqlite3.OperationalError if the file can't be written now,
        try again. In both cases nothing is stored.
        """
        batch = reading_columns.from_samples(samples)
        frames = [(hour, encode_frame(hour, part)) for hour, part in reading_columns.by_hour(batch)]
        with self._hot.write() as tx:
            tx.executemany("INSERT INTO frame (hour, data) VALUES (?, ?)", frames)
            tx.executemany(
                "INSERT INTO cursor (shard, n, mark) VALUES (?, ?, ?) ON CONFLICT (shard)"
                " DO UPDATE SET n = excluded.n, mark = excluded.mark WHERE excluded.n > cursor.n",
                [(shard, n, marks.get(shard, "")) for shard, n in positions.items()],
            )

    def positions(self) -> Mapping[Shard, int]:
        """Return the position up to which each shard of the log has been stored."""
        return {shard: n for shard, (n, _) in self.cursor().items()}

    def cursor(self) -> Mapping[Shard, tuple[int, str]]:
        """Return the positions with their marks."""
        with self._hot.read() as db:
            rows = db.execute("SELECT shard, n, mark FROM cursor").fetchall() if db else []
        return {shard: (n, mark) for shard, n, mark in rows}

    def place_cursor(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Set the cursor to exactly these positions."""
        with self._hot.write() as tx:
            tx.execute("DELETE FROM cursor")
            tx.executemany(
                "INSERT INTO cursor (shard, n, mark) VALUES (?, ?, ?)",
                [(shard, n, marks.get(shard, "")) for shard, n in positions.items()],
            )

    def highest_series(self) -> int:
        """Return the highest series number in any layer.

        Raises: Damaged.
        """
        highest = 0
        with self._hot.read() as db:
            if db:
                query = "SELECT max(series), (SELECT max(key & ?) FROM hour_block) FROM latest"
                highest = max(number or 0 for number in db.execute(query, (_SERIES_MASK,)).fetchone())
                for hour, data in db.execute("SELECT hour, data FROM frame"):
                    highest = max(highest, int(decode_frame(hour, data).series.max(initial=0)))
        for month in self._months.between(0, month_files.LAST):
            with self._months.read(month) as db:
                row = db.execute("SELECT max(key & ?) FROM block", (_SERIES_MASK,)).fetchone() if db else None
                highest = max(highest, row[0] or 0) if row else highest
        return highest

    def range(self, series: SeriesId, since: Instant, until: Instant) -> Curve:
        """Return the readings of a series in [since, until).

        Raises: Damaged.
        """
        return self.multi_range([series], since, until)[series]

    def multi_range(self, series: Sequence[SeriesId], since: Instant, until: Instant) -> dict[SeriesId, Curve]:
        """Return the readings of several series in [since, until), from one snapshot of the store.

        Raises: Damaged.
        """
        layers: dict[SeriesId, list[ReadingColumns]] = {each: [] for each in series}
        if since < until:
            first, last = max(since // HOUR, -_LAST_HOUR), min((until - 1) // HOUR, _LAST_HOUR)
            days, hours, recent = self._stored(json.dumps(list(layers)), first, last)
            for span, blocks in ((DAY, days), (HOUR, hours)):
                for key, data in blocks:
                    layers[SeriesId(key & _SERIES_MASK)].append(decode_block(key, (key >> SERIES_BITS) * span, data))
            for pieces in recent:
                for each, known in layers.items():
                    known.extend(piece.of(each) for piece in pieces)
        return {each: reading_columns.later_wins(known).between(since, until).curve() for each, known in layers.items()}

    def latest(self, series: Sequence[SeriesId]) -> dict[SeriesId, StoredReading]:
        """Return each series' reading with the greatest `at`, failed or not.

        Raises: Damaged.
        """
        with self._hot.read() as db:
            if not db:
                return {}
            query = "SELECT series, at, value, q FROM latest WHERE series IN (SELECT value FROM json_each(?))"
            newest = {row[0]: _sample(*row) for row in db.execute(query, (json.dumps(list(series)),))}
            for hour, pieces in self._recent.newest_first(db, -_LAST_HOUR, _LAST_HOUR):
                unsettled = [each for each in series if each not in newest or newest[each].at < (hour + 1) * HOUR]
                if not unsettled:
                    break
                wanted = np.unique(np.array(unsettled, np.uint32))
                for row in (row for piece in pieces for row in piece.newest(wanted).rows()):
                    if row[0] not in newest or row[1] >= newest[row[0]].at:
                        newest[row[0]] = _sample(*row)
        return {SeriesId(each): sample for each, sample in newest.items()}

    def seal(self, before: Instant) -> None:
        """Compact the hours and the days that end at or before `before`; do nothing while another process seals.

        Takes about a second for a million readings, and locks hot.db for a few milliseconds at a time.
        Raises: sqlite3.OperationalError if the disk refuses; nothing is lost, try again.
        """
        self._require_writable()
        with only_sealer(self._folder, wait=False) as has_lock:
            if has_lock:
                seal_hours(self._hot, before)
                seal_days(self._hot, self._months, before)

    def drop_before(self, until: Instant) -> None:
        """Delete the months that end at or before `until`."""
        self._require_writable()
        first_kept = month_files.month_of(until // DAY)
        with only_sealer(self._folder, wait=True):
            drop_hours(self._hot, Instant(month_files.start_of(first_kept)))
            self._months.drop_before(first_kept)

    def verify(self) -> VerificationResult:
        """Check every frame and block against its checksum, beyond damaged ones too, while others read and write.

        Raises: NewerFile.
        """
        return verify(self._hot, self._months)

    def damage(self) -> list[str]:
        """Return what `verify` finds damaged."""
        return self.verify().damage

    def close(self) -> None:
        """Close the files."""
        self._hot.close()
        self._months.close()

    def _stored(self, series: str, first: int, last: int) -> tuple[_Blocks, _Blocks, _Pieces]:
        """Return (day blocks, hour blocks, decoded frames) of hours [first, last], from one snapshot.

        The month files are read after hot.db and may be newer. A day's counter in hot.db is incremented before its
        blocks are written. So if the counters are unchanged at the end, the month files hold nothing newer.
        """
        first_day, last_day = first // _DAY_HOURS, last // _DAY_HOURS
        while True:
            with self._hot.read() as db:
                seals = _count_seals(db, first_day, last_day)
                hours: _Blocks = []
                recent: _Pieces = []
                if db:
                    hours = db.execute(_HOUR_BLOCKS, {"first": first, "last": last, "series": series}).fetchall()
                    recent = [pieces for _, pieces in self._recent.newest_first(db, first, last)]
            days: _Blocks = []
            for month in self._months.between(month_files.month_of(first_day), month_files.month_of(last_day)):
                with self._months.read(month) as db:
                    if db:
                        parameters = {"first": first_day, "last": last_day, "series": series}
                        days += db.execute(_DAY_BLOCKS, parameters).fetchall()
            with self._hot.read() as db:
                if not days or _count_seals(db, first_day, last_day) == seals:
                    return days, hours, recent

    def _require_writable(self) -> None:
        if self._read_only:
            msg = f"{self._folder} was opened for reading only"
            raise ReadOnly(msg)


def _count_seals(db: sqlite3.Connection | None, first: int, last: int) -> int:
    """Return how often days in [first, last] were sealed, in total."""
    query = "SELECT total(times) FROM day_seal WHERE day BETWEEN ? AND ?"
    return int(db.execute(query, (first, last)).fetchone()[0]) if db else 0


def _sample(series: int, at: int, value: int | None, q: int) -> StoredReading:
    return StoredReading(SeriesId(series), Instant(at), None if value is None else Centi(value), q)
