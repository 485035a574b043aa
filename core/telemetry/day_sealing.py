"""Day sealing: turns the hour blocks of a past day into day blocks in the file of its month.

Days are in UTC; local days are a matter of the rollups. For each chunk of the day's series: read the hour blocks, merge
them over the existing day block, encode, then

1. increment the day's counter in hot.db (`day_seal`),
2. write the day blocks to the month's file in one durable commit,
3. delete the hour blocks from hot.db, a few at a time.

A crash between these steps leaves readings in both files, and merging the same readings again changes nothing. Late
readings arrive as frames, become hour blocks, and are merged over the day block the next time. So an hour block is
never older than what the month's file has for the same instants.

A reader reads hot.db first and the month's file second, so it never misses blocks that move between the two. At the end
it compares the counter, so that it never sees more of a day than hot.db had (`EmbeddedTelemetry`).
tests/integration/test_embedded_days.py tries to break it.
"""

import json
import sqlite3
import time
from itertools import groupby

import numpy as np

from core.runtime import logs
from core.runtime.instant import DAY, HOUR, Instant
from core.telemetry import hour_sealing, month_files
from core.telemetry.codec import Damaged, decode_block, encode_block
from core.telemetry.embedded_file import NewerFile, StoreFile
from core.telemetry.hot_file import HotFile
from core.telemetry.month_files import MonthFiles
from core.telemetry.reading_columns import SERIES_BITS, ReadingColumns, later_wins

log = logs.logger(__name__)

CHUNK = 500
"""Series of a day that are sealed in one transaction."""
_HOURS = DAY // HOUR
_SERIES_MASK = (1 << SERIES_BITS) - 1
_HOURS_OF_BLOCKS = """
WITH RECURSIVE present (hour) AS (
  SELECT min(key) >> 24 FROM hour_block
  UNION ALL
  SELECT (SELECT min(key) >> 24 FROM hour_block WHERE key >= (hour + 1) << 24) FROM present WHERE hour IS NOT NULL
)
SELECT hour FROM present WHERE hour < ?
"""


def seal_days(hot: HotFile, kept: MonthFiles, before: Instant) -> int:
    """Turn the hour blocks of days that end at or before `before` into day blocks; return the number of days.

    The caller holds the sealer's lock. A damaged block is logged and left as it is; the others are sealed.
    Raises: sqlite3.OperationalError if the disk refuses; nothing is lost, try again.
    """
    sealed = 0
    for month, days in groupby(_days(hot, before // DAY), month_files.month_of):
        try:
            with kept.write(month) as file:
                for day in days:
                    series = _series(hot, day)
                    for first in range(0, len(series), CHUNK):
                        _seal(hot, file, day, series[first : first + CHUNK])
                    sealed += 1
        except sqlite3.OperationalError:
            raise
        except (sqlite3.DatabaseError, NewerFile):
            log.exception("days not sealed, their month's file can't be written", file=str(kept.path(month)))
    return sealed


def _days(hot: HotFile, before: int) -> list[int]:
    with hot.read() as db:
        hours = db.execute(_HOURS_OF_BLOCKS, (before * _HOURS,)).fetchall() if db else []
    return sorted({hour // _HOURS for (hour,) in hours})


def _series(hot: HotFile, day: int) -> list[int]:
    bounds = [hour << SERIES_BITS for hour in (day * _HOURS, (day + 1) * _HOURS)]
    with hot.read() as db:
        keys = db.execute("SELECT key FROM hour_block WHERE key >= ? AND key < ?", bounds).fetchall() if db else []
    series: list[int] = np.unique(np.array(keys, np.int64).reshape(-1) & _SERIES_MASK).tolist()
    return series


def _seal(hot: HotFile, file: StoreFile, day: int, series: list[int]) -> None:
    """Seal some series of a day."""
    hour_blocks: dict[int, list[tuple[int, bytes]]] = {each: [] for each in series}
    hour_keys = [hour << SERIES_BITS | each for hour in range(day * _HOURS, (day + 1) * _HOURS) for each in series]
    with hot.read() as db:
        for key, data in _blocks(db, "hour_block", hour_keys):
            hour_blocks[key & _SERIES_MASK].append((key, data))
    with file.read() as db:
        day_blocks = dict(_blocks(db, "block", [day << SERIES_BITS | each for each in series]))
    blocks, sealed_keys = [], []
    for each in series:
        key = day << SERIES_BITS | each
        try:
            blocks.append((key, encode_block(key, day * DAY, _merge(key, day_blocks.get(key), hour_blocks[each]))))
        except Damaged as damage:
            log.exception("day of a series not sealed, its bytes are damaged", day=day, damage=str(damage))
        else:
            sealed_keys += [key for key, _ in hour_blocks[each]]
    _announce(hot, day)
    _commit(file, blocks)
    _drop(hot, sealed_keys)


def _merge(key: int, day: bytes | None, hours: list[tuple[int, bytes]]) -> ReadingColumns:
    layers = [] if day is None else [decode_block(key, (key >> SERIES_BITS) * DAY, day)]
    layers += [decode_block(hour, (hour >> SERIES_BITS) * HOUR, data) for hour, data in hours]
    return later_wins(layers)


def _blocks(db: sqlite3.Connection | None, table: str, keys: list[int]) -> list[tuple[int, bytes]]:
    if db is None:
        return []
    query = f"SELECT key, data FROM {table} WHERE key IN (SELECT value FROM json_each(?)) ORDER BY key"  # noqa: S608 (names are ours)
    return db.execute(query, (json.dumps(keys),)).fetchall()


def _announce(hot: HotFile, day: int) -> None:
    with hot.write() as tx:
        tx.execute(
            "INSERT INTO day_seal (day, times) VALUES (?, 1) ON CONFLICT (day) DO UPDATE SET times = times + 1", (day,)
        )


def _commit(file: StoreFile, blocks: list[tuple[int, bytes]]) -> None:
    with file.write() as tx:
        tx.executemany("INSERT OR REPLACE INTO block (key, data) VALUES (?, ?)", blocks)


def _drop(hot: HotFile, keys: list[int]) -> None:
    for first in range(0, len(keys), hour_sealing.CHUNK):
        with hot.write() as tx:
            tx.executemany(
                "DELETE FROM hour_block WHERE key = ?", [(key,) for key in keys[first : first + hour_sealing.CHUNK]]
            )
        time.sleep(hour_sealing.PAUSE_S)
