"""Cursor of the intake log in InfluxDB: how far each shard has been stored in this bucket.

A point of the measurement `cursor`, tags `shard` and `log` (the name of the log), field `n`; the highest `n` counts.
Its time is the hour of writing, so that a shard has one point an hour. A bucket that was emptied or put back to an
older state has no point, or an older one, and that is how `core.health.alignment` knows. A process that was writing
meanwhile would hide it by its next point, so each move first looks for the point that was written last.
"""

import threading
from collections.abc import Mapping
from typing import NamedTuple

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.dialect import Dialect
from influxdb_client.service.write_service import WriteService

from core.runtime.clock import real_now
from core.runtime.instant import HOUR
from core.telemetry import flux
from core.telemetry.file import Replaced
from core.telemetry.influx_answers import spoken
from core.wire.topics import Shard

_CSV = Dialect(header=True, annotations=[])  # type: ignore[no-untyped-call]  # generated code


class _Written(NamedTuple):
    """One point of the cursor, as this process wrote it."""

    shard: Shard
    log: str
    n: int
    at: int


class InfluxCursor:
    """Reads and moves the cursor of one bucket. Any thread may ask."""

    def __init__(self, client: InfluxDBClient, org: str, bucket: str) -> None:
        self._org = org
        self._bucket = bucket
        self._writing = WriteService(client.api_client)  # type: ignore[no-untyped-call]  # generated code
        self._asking = client.query_api()
        self._lock = threading.Lock()
        self._reached: dict[tuple[Shard, str], int] = {}
        """What this process knows to be there: a point of the same hour with less must not replace it."""
        self._last: _Written | None = None

    def forget(self) -> None:
        """Forget what this process has written: the cursor is read again, after a realignment for example."""
        with self._lock:
            self._reached = {}
            self._last = None

    def read(self) -> Mapping[Shard, tuple[int, str]]:
        """Return the position of every shard with the mark of its log.

        Raises: Unavailable.
        """
        found: dict[Shard, tuple[int, str, str]] = {}
        for row in self._rows(flux.cursors(self._bucket)):
            # Of two names of a log the later has the higher position; the clock may have been set back between them.
            shard, point = Shard(row["shard"]), (int(row["_value"]), row["_time"], row["log"])
            found[shard] = max(point, found.get(shard, point))
        return {shard: (n, f"{log}/" if log != flux.NO_LOG else "") for shard, (n, _, log) in found.items()}

    def move(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Note how far shards have been stored, never back.

        Raises: Replaced when the bucket has no longer what this process wrote last; Unavailable.
        """
        named = {(shard, marks.get(shard, "").partition("/")[0]): n for shard, n in positions.items()}
        with self._lock:
            if not named.keys() <= self._reached.keys():
                known = {(shard, mark.partition("/")[0]): n for shard, (n, mark) in self.read().items()}
                self._reached = {**dict.fromkeys(named, -1), **self._reached, **known}
            moved = {key: n for key, n in named.items() if n > self._reached[key]}
            if moved:
                self._must_have_last()
                self._write(moved)
                self._reached |= moved

    def place(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Write the cursor anew, after the old one was deleted.

        Raises: Unavailable.
        """
        with self._lock:
            self._reached = {}
            self._last = None
            if positions:
                self._write({(shard, marks.get(shard, "").partition("/")[0]): n for shard, n in positions.items()})

    def _must_have_last(self) -> None:
        if self._last is None:
            return
        shard, log, n, at = self._last
        rows = self._rows(flux.cursors(self._bucket, at))
        if not any(
            (row["shard"], row["log"]) == (shard, log or flux.NO_LOG) and int(row["_value"]) >= n for row in rows
        ):
            msg = f"bucket {self._bucket} was replaced or deleted: it has no longer position {n} of shard {shard}"
            raise Replaced(msg)

    def _rows(self, query: str) -> list[dict[str, str]]:
        with spoken():
            answer = self._asking.query_raw(query, dialect=_CSV)
            try:
                return flux.rows(answer.data)
            finally:
                answer.release_conn()

    def _write(self, moved: Mapping[tuple[Shard, str], int]) -> None:
        at = real_now() // HOUR * HOUR
        with spoken():
            self._writing.post_write(  # type: ignore[no-untyped-call]  # generated code
                self._org,
                self._bucket,
                flux.cursor_lines(moved, at),
                precision="ms",
                content_type="text/plain; charset=utf-8",
            )
        (shard, log), n = next(iter(moved.items()))
        self._last = _Written(shard, log, n, at)
