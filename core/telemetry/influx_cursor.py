"""Cursor of the intake log in InfluxDB: the position up to which each shard is stored in this bucket.

It is a point of the measurement `cursor`, with tags `shard` and `log` (the name of the log) and field `n`; the highest
`n` counts. Its time is the hour of writing, so a shard has one point an hour. A bucket that was emptied or restored to
an older state has no point, or an older one; `core.health.cursor_alignment` detects it by that. The next point of a
process that was writing meanwhile would hide it, so each move first checks that the last point it wrote still exists.
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
from core.telemetry.influx_errors import spoken
from core.telemetry.port import StoreReplaced
from core.wire.shards import Shard

_CSV = Dialect(header=True, annotations=[])  # type: ignore[no-untyped-call]  # generated code


class _Written(NamedTuple):
    """Point of the cursor that this process wrote."""

    shard: Shard
    log: str
    n: int
    at: int


class InfluxCursor:
    """Cursor of one bucket. Thread-safe."""

    def __init__(self, client: InfluxDBClient, org: str, bucket: str) -> None:
        self._org = org
        self._bucket = bucket
        self._writing = WriteService(client.api_client)  # type: ignore[no-untyped-call]  # generated code
        self._query = client.query_api()
        self._lock = threading.Lock()
        self._reached: dict[tuple[Shard, str], int] = {}
        """Positions known to be stored. A lower one must not be written, since a point of the same hour replaces it."""
        self._last: _Written | None = None

    def forget(self) -> None:
        """Forget the points that this process wrote: the cursor is read again, for example after a realignment."""
        with self._lock:
            self._reached = {}
            self._last = None

    def read(self) -> Mapping[Shard, tuple[int, str]]:
        """Return the position of every shard with the mark of its log.

        Raises: TelemetryUnavailable.
        """
        highest: dict[Shard, tuple[int, str, str]] = {}
        for row in self._rows(flux.cursors(self._bucket)):
            # Compare positions first: of two logs the later one has higher positions, but the clock may have been set
            # back between them.
            shard, point = Shard(row["shard"]), (int(row["_value"]), row["_time"], row["log"])
            highest[shard] = max(point, highest.get(shard, point))
        return {shard: (n, f"{log}/" if log != flux.NO_LOG else "") for shard, (n, _, log) in highest.items()}

    def move(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Move the cursor of shards forward; a position behind the stored one is ignored.

        Raises: StoreReplaced if the bucket no longer has the last point that this process wrote; TelemetryUnavailable.
        """
        named = {(shard, marks.get(shard, "").partition("/")[0]): n for shard, n in positions.items()}
        with self._lock:
            if not named.keys() <= self._reached.keys():
                known = {(shard, mark.partition("/")[0]): n for shard, (n, mark) in self.read().items()}
                self._reached = {**dict.fromkeys(named, -1), **self._reached, **known}
            moved = {key: n for key, n in named.items() if n > self._reached[key]}
            if moved:
                self._require_last()
                self._write(moved)
                self._reached |= moved

    def place(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Write a new cursor, after the old one was deleted.

        Raises: TelemetryUnavailable.
        """
        with self._lock:
            self._reached = {}
            self._last = None
            if positions:
                self._write({(shard, marks.get(shard, "").partition("/")[0]): n for shard, n in positions.items()})

    def _require_last(self) -> None:
        if self._last is None:
            return
        shard, log, n, at = self._last
        rows = self._rows(flux.cursors(self._bucket, at))
        if not any(
            (row["shard"], row["log"]) == (shard, log or flux.NO_LOG) and int(row["_value"]) >= n for row in rows
        ):
            msg = f"bucket {self._bucket} was replaced or deleted: it has no longer position {n} of shard {shard}"
            raise StoreReplaced(msg)

    def _rows(self, query: str) -> list[dict[str, str]]:
        with spoken():
            answer = self._query.query_raw(query, dialect=_CSV)
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
