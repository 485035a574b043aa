"""The telemetry store of one machine: compressed bytes in SQLite, in a folder, for many processes.

A reading is first in a *frame* (what one write stored of one hour) and, once its hour is sealed, in the *block* of its
series and hour. What a series was in a span is read by laying layers over each other, oldest first: blocks, then
frames in the order of their writing, and of equal instants the last layer stands. Whatever compacts further (days,
months) adds a layer below, is committed before what it replaces is dropped, and is read after it: between the two the
same readings are in both, and laying them over each other changes nothing.

Guarantees, tried by tests/contract/test_telemetry.py: a returned `write_batch` is durable together with its cursor; an
answer is of one moment; sealing and its crashes change no answer; damaged bytes raise `Damaged` and are never handed
out.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from core.ids import Centi, SeriesId
from core.runtime.instant import HOUR, Instant
from core.telemetry import columns
from core.telemetry.codec import Damaged, decode_block, decode_frame, encode_frame
from core.telemetry.columns import LAST_AT, SERIES_BITS, Columns
from core.telemetry.hot import Hot, ReadOnly
from core.telemetry.port import Capabilities, Curve, Sample
from core.telemetry.recent import Recent
from core.telemetry.sealing import drop_hours, only_sealer, seal_hours
from core.wire.topics import Shard

_SERIES_MASK = (1 << SERIES_BITS) - 1
_LAST_HOUR = LAST_AT // HOUR + 1
_PAGE = 500

_BLOCKS_OF_HOURS = """
WITH RECURSIVE present (hour) AS (
  SELECT min(key) >> 24 FROM hour_block WHERE key >= :first << 24
  UNION ALL
  SELECT (SELECT min(key) >> 24 FROM hour_block WHERE key >= (hour + 1) << 24) FROM present WHERE hour < :last
)
SELECT hour_block.key, data FROM present CROSS JOIN json_each(:series) AS wanted
CROSS JOIN hour_block ON hour_block.key = hour << 24 | wanted.value
WHERE hour <= :last
"""
"""Visits the hours that are there, not those that are asked for: a range of a thousand years costs no more."""


class Verified(msgspec.Struct, frozen=True):
    """What a look at every stored byte found."""

    frames: int
    blocks: int
    readings: int
    damage: list[str]


class EmbeddedTelemetry:
    """A `Telemetry` in a folder. Any number of processes may read, write and seal at once."""

    capabilities = Capabilities(cursor_inside=True, other_processes_read=True, whole_batches=True)

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        """Make the folder's store where it is missing; a `read_only` one answers empty until a writer has made it.

        Raises: WrongVersion.
        """
        self._folder = folder
        self._read_only = read_only
        self._hot = Hot(folder / "hot.db", read_only=read_only)
        self._recent = Recent()

    def write_batch(self, samples: Sequence[Sample], positions: Mapping[Shard, int]) -> None:
        """Store samples and move the cursor, which never moves back, in one durable commit.

        Raises: ValueError for a sample that can't be stored, and nothing is; sqlite3.OperationalError when the file
        can't be written now: nothing is stored, try again.
        """
        written = columns.from_samples(samples)
        frames = [(hour, encode_frame(hour, part)) for hour, part in columns.by_hour(written)]
        with self._hot.write() as tx:
            tx.executemany("INSERT INTO frame (hour, data) VALUES (?, ?)", frames)
            tx.executemany(
                "INSERT INTO cursor (shard, n) VALUES (?, ?)"
                " ON CONFLICT (shard) DO UPDATE SET n = excluded.n WHERE excluded.n > cursor.n",
                positions.items(),
            )

    def positions(self) -> Mapping[Shard, int]:
        """Return how far each shard of the log has been stored."""
        with self._hot.read() as db:
            return dict(db.execute("SELECT shard, n FROM cursor")) if db else {}

    def range(self, series: SeriesId, since: Instant, until: Instant) -> Curve:
        """Return the readings of a series in [since, until).

        Raises: Damaged.
        """
        return self.multi_range([series], since, until)[series]

    def multi_range(self, series: Sequence[SeriesId], since: Instant, until: Instant) -> dict[SeriesId, Curve]:
        """Return several series at one moment of the store.

        Raises: Damaged.
        """
        layers: dict[SeriesId, list[Columns]] = {each: [] for each in series}
        if since < until:
            first, last = max(since // HOUR, -_LAST_HOUR), min((until - 1) // HOUR, _LAST_HOUR)
            with self._hot.read() as db:
                if db:
                    query = {"first": first, "last": last, "series": json.dumps(list(layers))}
                    blocks = db.execute(_BLOCKS_OF_HOURS, query).fetchall()
                    recent = [pieces for _, pieces in self._recent.newest_first(db, first, last)]
                else:
                    blocks, recent = [], []
            for key, data in blocks:
                layers[SeriesId(key & _SERIES_MASK)].append(decode_block(key, (key >> SERIES_BITS) * HOUR, data))
            for pieces in recent:
                for each, known in layers.items():
                    known.extend(piece.of(each) for piece in pieces)
        return {each: columns.later_wins(known).between(since, until).curve() for each, known in layers.items()}

    def latest(self, series: Sequence[SeriesId]) -> dict[SeriesId, Sample]:
        """Return each series' reading with the greatest `at`, failed or not.

        Raises: Damaged.
        """
        with self._hot.read() as db:
            if not db:
                return {}
            query = "SELECT series, at, value, q FROM latest WHERE series IN (SELECT value FROM json_each(?))"
            found = {row[0]: _sample(*row) for row in db.execute(query, (json.dumps(list(series)),))}
            for hour, pieces in self._recent.newest_first(db, -_LAST_HOUR, _LAST_HOUR):
                unsettled = [each for each in series if each not in found or found[each].at < (hour + 1) * HOUR]
                if not unsettled:
                    break
                wanted = np.unique(np.array(unsettled, np.uint32))
                for row in (row for piece in pieces for row in piece.newest(wanted).rows()):
                    if row[0] not in found or row[1] >= found[row[0]].at:
                        found[row[0]] = _sample(*row)
        return {SeriesId(each): sample for each, sample in found.items()}

    def seal(self, before: Instant) -> None:
        """Turn the frames of hours that end at or before `before` into blocks; nothing while another process does it.

        Takes about a second for a million readings, and holds the file for a few milliseconds at a time.
        """
        self._must_write()
        with only_sealer(self._folder, wait=False) as alone:
            if alone:
                seal_hours(self._hot, before)

    def drop_before(self, until: Instant) -> None:
        """Forget what lies in hours that end at or before `until`."""
        self._must_write()
        with only_sealer(self._folder, wait=True):
            drop_hours(self._hot, until)

    def verify(self) -> Verified:
        """Read every frame and block again against its checksum. Others read and write meanwhile."""
        frames, frame_readings, frame_damage = self._check("frame", "id", "hour")
        blocks, block_readings, block_damage = self._check("hour_block", "key", "key")
        return Verified(frames, blocks, frame_readings + block_readings, [*frame_damage, *block_damage])

    def close(self) -> None:
        """Close the file."""
        self._hot.close()

    def _must_write(self) -> None:
        if self._read_only:
            msg = f"{self._folder} was opened for reading only"
            raise ReadOnly(msg)

    def _check(self, table: str, order: str, key: str) -> tuple[int, int, list[str]]:
        rows = readings = 0
        damage: list[str] = []
        behind = -(2**63)
        while True:
            with self._hot.read() as db:
                query = f"SELECT {order}, {key}, data FROM {table} WHERE {order} > ? ORDER BY {order} LIMIT {_PAGE}"  # noqa: S608 (names are ours)
                page = db.execute(query, (behind,)).fetchall() if db else []
            for place, stored_under, data in page:
                try:
                    start = (stored_under >> SERIES_BITS) * HOUR
                    read = (
                        decode_frame(stored_under, data)
                        if table == "frame"
                        else decode_block(stored_under, start, data)
                    )
                    readings += read.size
                except Damaged as error:
                    damage.append(f"{self._folder / 'hot.db'}, {table} {place}: {error}")
            rows += len(page)
            if len(page) < _PAGE:
                return rows, readings, damage
            behind = page[-1][0]


def _sample(series: int, at: int, value: int | None, q: int) -> Sample:
    return Sample(SeriesId(series), Instant(at), None if value is None else Centi(value), q)
