"""Cursor of the intake log in InfluxDB: how far each shard has been stored in this bucket.

A point of the measurement `cursor`, tags `shard` and `log` (the name of the log), field `n`; the highest `n` counts.
Its time is the hour of writing, so that a shard has one point an hour. A bucket that was emptied or put back to an
older state has no point, or an older one, and that is how `core.health.alignment` knows.
"""

import threading
from collections.abc import Mapping

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.dialect import Dialect
from influxdb_client.service.write_service import WriteService

from core.runtime.clock import real_now
from core.runtime.instant import HOUR
from core.telemetry import flux
from core.telemetry.influx_answers import spoken
from core.wire.topics import Shard

_CSV = Dialect(header=True, annotations=[])  # type: ignore[no-untyped-call]  # generated code


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

    def read(self) -> Mapping[Shard, tuple[int, str]]:
        """Return the position of every shard with the mark of its log.

        Raises: Unavailable.
        """
        with spoken():
            answer = self._asking.query_raw(flux.cursors(self._bucket), dialect=_CSV)
            try:
                told = flux.rows(answer.data)
            finally:
                answer.release_conn()
        found: dict[Shard, tuple[int, str, str]] = {}
        for row in told:
            # Of two names of a log the later has the higher position; the clock may have been set back between them.
            shard, point = Shard(row["shard"]), (int(row["_value"]), row["_time"], row["log"])
            found[shard] = max(point, found.get(shard, point))
        return {shard: (n, f"{log}/" if log != flux.NO_LOG else "") for shard, (n, _, log) in found.items()}

    def move(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Note how far shards have been stored, never back.

        Raises: Unavailable.
        """
        named = {(shard, marks.get(shard, "").partition("/")[0]): n for shard, n in positions.items()}
        with self._lock:
            if not named.keys() <= self._reached.keys():
                known = {(shard, mark.partition("/")[0]): n for shard, (n, mark) in self.read().items()}
                self._reached = {**dict.fromkeys(named, -1), **self._reached, **known}
            moved = {key: n for key, n in named.items() if n > self._reached[key]}
            if moved:
                self._write(moved)
                self._reached |= moved

    def place(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Write the cursor anew, after the old one was deleted.

        Raises: Unavailable.
        """
        with self._lock:
            self._reached = {}
            if positions:
                self._write({(shard, marks.get(shard, "").partition("/")[0]): n for shard, n in positions.items()})

    def _write(self, moved: Mapping[tuple[Shard, str], int]) -> None:
        with spoken():
            self._writing.post_write(  # type: ignore[no-untyped-call]  # generated code
                self._org,
                self._bucket,
                flux.cursor_lines(moved, real_now() // HOUR * HOUR),
                precision="ms",
                content_type="text/plain; charset=utf-8",
            )
