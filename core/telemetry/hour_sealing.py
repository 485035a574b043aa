"""Hour sealing: turns the frames of past hours into blocks; crash-safe, repeatable, and never blocking writes for long.

`core.telemetry.day_sealing` turns hours into days.

For each hour: read its frames, merge them over the existing blocks, encode, then write. A transaction only writes
finished bytes, at most `CHUNK` blocks, and is followed by a pause for other writers. The frames of an hour are deleted
in the transaction that writes its last block. After a crash in between, the blocks already hold the readings of the
frames, and merging those frames again changes nothing (`later_wins`). A frame that arrives while its hour is sealed is
newer than all that was read; it isn't deleted, and is merged the next time.

One process seals at a time, under a lock that ends with the process; two could overwrite each other's merged blocks.
tests/integration/test_embedded_telemetry.py tries to break it.
"""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.runtime import logs
from core.runtime.instant import DAY, HOUR, Instant
from core.telemetry.codec import Damaged, decode_block, decode_frame, encode_block
from core.telemetry.hot_file import HotFile
from core.telemetry.reading_columns import SERIES_BITS, ReadingColumns, later_wins

log = logs.logger(__name__)

CHUNK = 2_000
PAUSE_S = 0.02


@contextmanager
def only_sealer(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the sealer's lock, which every process needs that rewrites blocks; yield False if another process has it.

    With `wait` it waits for the lock instead.
    """
    with (folder / "seal.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class _Step(NamedTuple):
    """Content of one transaction."""

    blocks: list[tuple[int, bytes]]
    newest: list[tuple[int, int, int | None, int]]
    done: tuple[int, int] | None
    """Hour that is complete with this step, and the id of its last frame."""


def seal_hours(hot: HotFile, before: Instant) -> int:
    """Turn the frames of hours that end at or before `before` into blocks; return the number of hours.

    The caller holds the sealer's lock. An hour with damaged bytes is logged and left as it is; the others are sealed.
    """
    with hot.read() as db:
        rows = (
            db.execute("SELECT DISTINCT hour FROM frame WHERE hour < ? ORDER BY hour", (before // HOUR,)) if db else ()
        )
        hours = [hour for (hour,) in rows]
    sealed = 0
    pending: list[_Step] = []
    for hour in hours:
        try:
            for step in _steps(hot, hour):
                if pending and sum(len(each.blocks) for each in (*pending, step)) > CHUNK:
                    _write(hot, pending)
                    pending = []
                pending.append(step)
        except Damaged as damage:
            log.exception("hour not sealed, its bytes are damaged", hour=hour, damage=str(damage))
        else:
            sealed += 1
    if pending:
        _write(hot, pending)
    return sealed


def _steps(hot: HotFile, hour: int) -> Iterator[_Step]:
    """Yield the writes that seal an hour."""
    with hot.read() as db:
        rows = db.execute("SELECT id, data FROM frame WHERE hour = ? ORDER BY id", (hour,)).fetchall() if db else []
    merged = later_wins([decode_frame(hour, data) for _, data in rows])
    by_series = list(merged.by_series())
    newest = list(merged.newest(np.unique(merged.series)).rows())
    for first in range(0, len(by_series), CHUNK):
        chunk = by_series[first : first + CHUNK]
        is_last = first + CHUNK >= len(by_series)
        yield _Step(_blocks(hot, hour, chunk), newest[first : first + CHUNK], (hour, rows[-1][0]) if is_last else None)


def _blocks(hot: HotFile, hour: int, by_series: list[tuple[int, ReadingColumns]]) -> list[tuple[int, bytes]]:
    keys = [hour << SERIES_BITS | series for series, _ in by_series]
    with hot.read() as db:
        query = "SELECT key, data FROM hour_block WHERE key IN (SELECT value FROM json_each(?))"
        existing: dict[int, bytes] = dict(db.execute(query, (json.dumps(keys),))) if db else {}
    start = hour * HOUR
    blocks = []
    for key, (_, columns) in zip(keys, by_series, strict=True):
        older = [decode_block(key, start, existing[key])] if key in existing else []
        blocks.append((key, encode_block(key, start, later_wins([*older, columns]))))
    return blocks


def _write(hot: HotFile, steps: list[_Step]) -> None:
    with hot.write() as tx:
        for step in steps:
            tx.executemany("INSERT OR REPLACE INTO hour_block (key, data) VALUES (?, ?)", step.blocks)
            tx.executemany(
                "INSERT INTO latest (series, at, value, q) VALUES (?, ?, ?, ?) ON CONFLICT (series) DO UPDATE"
                " SET at = excluded.at, value = excluded.value, q = excluded.q WHERE excluded.at >= latest.at",
                step.newest,
            )
            if step.done:
                tx.execute("DELETE FROM frame WHERE hour = ? AND id <= ?", step.done)
    time.sleep(PAUSE_S)


def drop_hours(hot: HotFile, until: Instant) -> None:
    """Delete, in chunks, the hours that end at or before `until`. The caller holds the sealer's lock."""
    first_kept = until // HOUR
    for query, bound in (
        ("DELETE FROM frame WHERE id IN (SELECT id FROM frame WHERE hour < ? LIMIT ?)", first_kept),
        (
            "DELETE FROM hour_block WHERE key IN (SELECT key FROM hour_block WHERE key < ? LIMIT ?)",
            first_kept << SERIES_BITS,
        ),
        ("DELETE FROM day_seal WHERE day IN (SELECT day FROM day_seal WHERE day < ? LIMIT ?)", until // DAY),
        ("DELETE FROM latest WHERE series IN (SELECT series FROM latest WHERE at < ? LIMIT ?)", first_kept * HOUR),
    ):
        deleted = CHUNK
        while deleted == CHUNK:
            with hot.write() as tx:
                deleted = tx.execute(query, (bound, CHUNK)).rowcount
            time.sleep(PAUSE_S if deleted == CHUNK else 0)
