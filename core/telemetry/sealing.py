"""How the frames of past hours become blocks: crash-safe, repeatable, and never in the way of a write.

What makes days of hours is `core.telemetry.day_sealing`.

For each hour: read its frames, merge them over the blocks that are there, encode, then write. A transaction holds only
finished bytes, at most `CHUNK` blocks of them, and is followed by a pause for other writers. The frames of an hour go
in the transaction that holds its last block. A crash between leaves blocks that already hold what the frames say, and
merging those frames over them again changes nothing (`later_wins`). A frame that comes while its hour is sealed is
newer than all that was read, isn't deleted, and is merged the next time.

One process seals at a time, by a lock that dies with it: two might each write over the other's merged block.
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
from core.telemetry.columns import SERIES_BITS, Columns, later_wins
from core.telemetry.hot import Hot

log = logs.logger(__name__)

CHUNK = 2_000
PAUSE_S = 0.02


@contextmanager
def only_sealer(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of whoever rewrites blocks; yields False when another has it and `wait` is False."""
    with (folder / "seal.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class _Step(NamedTuple):
    """What one transaction writes; `done` is the last frame of an hour that has all its blocks with this step."""

    blocks: list[tuple[int, bytes]]
    newest: list[tuple[int, int, int | None, int]]
    done: tuple[int, int] | None


def seal_hours(hot: Hot, before: Instant) -> int:
    """Turn the frames of hours that end at or before `before` into blocks; returns how many hours. Hold the lock.

    An hour with damaged bytes stays as it is, logged, and doesn't keep the others.
    """
    with hot.read() as db:
        found = (
            db.execute("SELECT DISTINCT hour FROM frame WHERE hour < ? ORDER BY hour", (before // HOUR,)) if db else ()
        )
        hours = [hour for (hour,) in found]
    sealed = 0
    waiting: list[_Step] = []
    for hour in hours:
        try:
            for step in _steps(hot, hour):
                if waiting and sum(len(each.blocks) for each in (*waiting, step)) > CHUNK:
                    _write(hot, waiting)
                    waiting = []
                waiting.append(step)
        except Damaged as damage:
            log.exception("hour not sealed, its bytes are damaged", hour=hour, damage=str(damage))
        else:
            sealed += 1
    if waiting:
        _write(hot, waiting)
    return sealed


def _steps(hot: Hot, hour: int) -> Iterator[_Step]:
    """Yield the writes that seal an hour."""
    with hot.read() as db:
        rows = db.execute("SELECT id, data FROM frame WHERE hour = ? ORDER BY id", (hour,)).fetchall() if db else []
    merged = later_wins([decode_frame(hour, data) for _, data in rows])
    by_series = list(merged.by_series())
    newest = list(merged.newest(np.unique(merged.series)).rows())
    for first in range(0, len(by_series), CHUNK):
        some = by_series[first : first + CHUNK]
        is_last = first + CHUNK >= len(by_series)
        yield _Step(_blocks(hot, hour, some), newest[first : first + CHUNK], (hour, rows[-1][0]) if is_last else None)


def _blocks(hot: Hot, hour: int, by_series: list[tuple[int, Columns]]) -> list[tuple[int, bytes]]:
    keys = [hour << SERIES_BITS | series for series, _ in by_series]
    with hot.read() as db:
        query = "SELECT key, data FROM hour_block WHERE key IN (SELECT value FROM json_each(?))"
        there: dict[int, bytes] = dict(db.execute(query, (json.dumps(keys),))) if db else {}
    start = hour * HOUR
    blocks = []
    for key, (_, columns) in zip(keys, by_series, strict=True):
        older = [decode_block(key, start, there[key])] if key in there else []
        blocks.append((key, encode_block(key, start, later_wins([*older, columns]))))
    return blocks


def _write(hot: Hot, steps: list[_Step]) -> None:
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


def drop_hours(hot: Hot, until: Instant) -> None:
    """Delete, in chunks, whatever lies in hours that end at or before `until`. Hold the lock."""
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
        gone = CHUNK
        while gone == CHUNK:
            with hot.write() as tx:
                gone = tx.execute(query, (bound, CHUNK)).rowcount
            time.sleep(PAUSE_S if gone == CHUNK else 0)
