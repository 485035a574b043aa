"""InfluxDB 2 telemetry store, for an installation of several servers.

Guarantees, tried by tests/contract/telemetry and tests/integration/test_influx_telemetry.py on a real server:
* `write_batch` returns once the server has synced its log to disk. Writing again is harmless, so after any failure
  (the server was killed, answered 500, or did not answer) the caller writes the same batch again.
* A batch that the server refuses (400, 413, 422) is split until the invalid points are isolated. All others are stored,
  and `SamplesRejected` names the invalid ones.
* There are no transactions: the cursor of the log is written once the whole batch is stored, and a reader may see a
  part of a batch.

Retries are up to the caller: no request is repeated here, and none waits longer than the time-out.
"""

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.domain.dialect import Dialect
from influxdb_client.rest import ApiException
from influxdb_client.service.write_service import WriteService

from config.settings import TelemetrySettings
from core.ids import Centi, SeriesId
from core.runtime.instant import DAY, Instant
from core.telemetry import flux, reading_columns
from core.telemetry.influx_cursor import InfluxCursor
from core.telemetry.influx_errors import message, spoken
from core.telemetry.port import (
    NO_MARKS,
    Capabilities,
    Curve,
    ReadOnly,
    SamplesRejected,
    StoredReading,
    TelemetryUnavailable,
)
from core.telemetry.reading_columns import LAST_AT, ReadingColumns
from core.wire.shards import Shard

LINES = 10_000
"""Points in one write request."""
SERIES = 200
"""Series in one query."""

_CSV = Dialect(header=True, annotations=[])  # type: ignore[no-untyped-call]  # generated code
_SPLIT = (400, 413, 422)
_CODES = {400: "invalid", 422: "unprocessable entity"}
"""InfluxDB's own codes for these statuses. A proxy's 400 lacks them, and is never blamed on a point."""
_DROPPED = re.compile(r"dropped=(\d+)")


class _Refusal(msgspec.Struct, frozen=True):
    """Server's refusal of a request, or of some of its points."""

    reason: str
    of_points: bool
    """InfluxDB itself refused points; not a proxy."""
    dropped: int | None
    """Number of points that it dropped, if it says so; it has stored the others."""

    @classmethod
    def of(cls, error: ApiException) -> "_Refusal":
        """Parse the server's answer."""
        reason = message(error)
        dropped = _DROPPED.search(reason)
        return cls(reason, f'"{_CODES.get(error.status)}"' in str(error.body), int(dropped[1]) if dropped else None)


class InfluxTelemetry:
    """Telemetry store in a bucket of InfluxDB 2."""

    capabilities = Capabilities(other_processes_read=True, whole_batches=False)

    def __init__(self, settings: TelemetrySettings, token: str, *, read_only: bool = False) -> None:
        """Prepare a client; the first connection is made by the first call, so the server may start later."""
        self._bucket = settings.bucket
        self._org = settings.org
        self._read_only = read_only
        self._client = InfluxDBClient(
            settings.url,
            token,
            timeout=round(settings.timeout * 1000),
            org=settings.org,
            ssl_ca_cert=settings.tls_ca or None,
            retries=False,
        )
        # The client's write API in SYNCHRONOUS mode uses this service too, but compresses at its own level.
        self._writing = WriteService(self._client.api_client)  # type: ignore[no-untyped-call]  # generated code
        # Answers are not compressed: that takes the server longer than everything else.
        self._query = self._client.query_api()
        self._cursor = InfluxCursor(self._client, self._org, self._bucket)

    def write_batch(
        self, samples: Sequence[StoredReading], positions: Mapping[Shard, int], marks: Mapping[Shard, str] = NO_MARKS
    ) -> None:
        """Store samples durably, then the cursor.

        Raises: ValueError for a sample that can't be stored, then nothing is stored; SamplesRejected;
        TelemetryUnavailable.
        """
        self._require_writable()
        points = reading_columns.later_wins([reading_columns.from_samples(samples)])
        reasons: dict[tuple[SeriesId, Instant], str] = {}
        for first in range(0, points.size, LINES):
            self._write(points.part(slice(first, first + LINES)), reasons)
        if reasons:
            raise SamplesRejected(reasons)
        if positions:
            self._cursor.move(positions, marks)

    def positions(self) -> Mapping[Shard, int]:
        """Return the position up to which each shard of the log has been stored; later writes go on from there.

        Raises: TelemetryUnavailable.
        """
        self._cursor.forget()
        return {shard: n for shard, (n, _) in self.cursor().items()}

    def cursor(self) -> Mapping[Shard, tuple[int, str]]:
        """Return the positions, each with the name of its log.

        Raises: TelemetryUnavailable.
        """
        return self._cursor.read()

    def place_cursor(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Set the cursor to exactly these positions.

        Raises: TelemetryUnavailable.
        """
        self._require_writable()
        self._delete(flux.CURSOR, LAST_AT)
        self._cursor.place(positions, marks)

    def highest_series(self) -> int:
        """Return the highest series number in the bucket.

        Raises: TelemetryUnavailable.
        """
        with spoken():
            answer = self._query.query_raw(flux.all_series(self._bucket), dialect=_CSV)
            try:
                return max((int(row["_value"]) for row in flux.rows(answer.data)), default=0)
            finally:
                answer.release_conn()

    def range(self, series: SeriesId, since: Instant, until: Instant) -> Curve:
        """Return the readings of a series in [since, until).

        Raises: TelemetryUnavailable.
        """
        return self.multi_range([series], since, until)[series]

    def multi_range(self, series: Sequence[SeriesId], since: Instant, until: Instant) -> dict[SeriesId, Curve]:
        """Return the readings of several series in [since, until), up to 200 series by one query.

        Raises: TelemetryUnavailable.
        """
        first, end = max(since, -LAST_AT), min(until, LAST_AT + 1)
        curves = {each: reading_columns.none().curve() for each in series}
        if first < end:
            for page in _pages(list(curves)):
                v, q = self._run_query(flux.everything(self._bucket, page, first, end))
                curves |= {each: flux.joined(v.of(each), q.of(each)).curve() for each in page}
        return curves

    def latest(self, series: Sequence[SeriesId]) -> dict[SeriesId, StoredReading]:
        """Return each series' reading with the greatest `at`, failed or not.

        Raises: TelemetryUnavailable.
        """
        newest: dict[SeriesId, StoredReading] = {}
        for page in _pages(list(series)) if series else [[]]:  # without series, still query: it tests the connection
            v, q = self._run_query(flux.newest(self._bucket, page))
            values = {SeriesId(row[0]): row for row in v.rows()}
            for number, at, q_field, _ in q.rows():
                sample = self._newest(SeriesId(number), Instant(at), q_field or 0, values.get(SeriesId(number)))
                if sample:
                    newest[sample.series] = sample
        return newest

    def damage(self) -> list[str]:
        """Return an empty list: InfluxDB checks its own files."""
        return []

    def seal(self, before: Instant) -> None:
        """Do nothing: InfluxDB compacts by itself."""

    def drop_before(self, until: Instant) -> None:
        """Delete the readings before `until`.

        Raises: TelemetryUnavailable.
        """
        self._require_writable()
        self._delete(flux.MEASUREMENT, until)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _delete(self, measurement: str, until: int) -> None:
        with spoken():
            self._client.delete_api().delete(
                _rfc3339(-LAST_AT), _rfc3339(until - 1), f'_measurement="{measurement}"', self._bucket, self._org
            )

    def _require_writable(self) -> None:
        if self._read_only:
            msg = f"bucket {self._bucket} was opened for reading only"
            raise ReadOnly(msg)

    def _write(self, points: ReadingColumns, reasons: dict[tuple[SeriesId, Instant], str]) -> None:
        """Write points. Find those that the server refuses by halving, and put them into `reasons`."""
        refusal = self._post(points)
        if refusal is None:
            return
        if refusal.dropped == points.size or (points.size == 1 and refusal.of_points):
            for series, at, _value, _q in points.rows():
                reasons[SeriesId(series), Instant(at)] = refusal.reason
        elif points.size == 1:
            msg = f"InfluxDB was not to be written: {refusal.reason}"
            raise TelemetryUnavailable(msg)
        else:
            half = points.size // 2
            self._write(points.part(slice(half)), reasons)
            self._write(points.part(slice(half, points.size)), reasons)

    def _post(self, points: ReadingColumns) -> _Refusal | None:
        # Level 1 takes a twentieth of the time of level 9, for a quarter more bytes.
        body = gzip.compress(flux.lines(points), 1)
        with spoken():
            try:
                self._writing.post_write(  # type: ignore[no-untyped-call]  # generated code
                    self._org,
                    self._bucket,
                    body,
                    precision="ms",
                    content_encoding="gzip",
                    content_type="text/plain; charset=utf-8",
                )
            except ApiException as error:
                if error.status not in _SPLIT:
                    raise
                return _Refusal.of(error)
        return None

    def _run_query(self, query: str) -> tuple[ReadingColumns, ReadingColumns]:
        with spoken():
            answer = self._query.query_raw(query, dialect=_CSV)
            try:
                return flux.parse(answer.data)
            finally:
                answer.release_conn()

    def _newest(
        self, series: SeriesId, at: Instant, q_field: int, v: tuple[int, int, int | None, int] | None
    ) -> StoredReading | None:
        q = flux.quality_of(q_field)
        if q_field & flux.WITHOUT_VALUE:
            return StoredReading(series, at, None, q)
        if v is not None and v[1] == at and v[2] is not None:
            return StoredReading(series, at, Centi(v[2]), q)
        # The point is being written. The newest reading is the last complete point.
        curve = self.range(series, Instant(at - DAY), Instant(LAST_AT + 1))
        return list(curve.samples(series))[-1] if len(curve) else None


def _pages(series: list[SeriesId]) -> Iterator[list[SeriesId]]:
    for first in range(0, len(series), SERIES):
        yield series[first : first + SERIES]


def _rfc3339(at: int) -> str:
    return f"{np.datetime_as_string(np.datetime64(at, 'ms'))}Z"
