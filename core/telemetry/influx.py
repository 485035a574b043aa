"""InfluxDB 2 as telemetry store, the one of a province.

Guarantees, tried by tests/contract/test_telemetry.py and tests/integration/test_influx_telemetry.py on a real server:
* `write_batch` returns once the server has synced its log to disk. Writing again is harmless, so after any failure
  (the server was killed, answered 500, or not at all) the same batch is simply written again.
* A batch that the server refuses (400, 413, 422) is split until the points at fault stand alone. All others are stored,
  and `Rejected` tells those.
* There are no transactions: the cursor of the log is written once all of a batch is stored, and a reader may see a part
  of a batch.

Time-outs, and when to try again, are the caller's: no request is repeated here, and none waits beyond the time-out.
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

from config.settings import Telemetry as TelemetrySettings
from core.ids import Centi, SeriesId
from core.runtime.instant import DAY, Instant
from core.telemetry import columns, flux
from core.telemetry.columns import LAST_AT, Columns
from core.telemetry.file import ReadOnly
from core.telemetry.influx_answers import message, spoken
from core.telemetry.influx_cursor import InfluxCursor
from core.telemetry.port import NO_MARKS, Capabilities, Curve, Rejected, Sample, Unavailable
from core.wire.topics import Shard

LINES = 10_000
"""In one request."""
SERIES = 200
"""In one query."""

_CSV = Dialect(header=True, annotations=[])  # type: ignore[no-untyped-call]  # generated code
_SPLIT = (400, 413, 422)
_CODES = {400: "invalid", 422: "unprocessable entity"}
"""What InfluxDB itself says with these, so that some proxy's 400 is never taken for a point's fault."""
_DROPPED = re.compile(r"dropped=(\d+)")


class _Refusal(msgspec.Struct, frozen=True):
    """Why the server did not take a whole request."""

    reason: str
    of_points: bool
    """It is InfluxDB that says so, of what it was given."""
    dropped: int | None
    """How many of the points it left out, where it tells; it has stored the others."""

    @classmethod
    def of(cls, error: ApiException) -> "_Refusal":
        """Read the server's answer."""
        reason = message(error)
        dropped = _DROPPED.search(reason)
        return cls(reason, f'"{_CODES.get(error.status)}"' in str(error.body), int(dropped[1]) if dropped else None)


class InfluxTelemetry:
    """A `Telemetry` in a bucket of InfluxDB 2."""

    capabilities = Capabilities(other_processes_read=True, whole_batches=False)

    def __init__(self, settings: TelemetrySettings, token: str, *, read_only: bool = False) -> None:
        """Connect to nothing yet: the server may come up later."""
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
        # The service below the client's write API: synchronous as SYNCHRONOUS is, but with a say in how to compress.
        self._writing = WriteService(self._client.api_client)  # type: ignore[no-untyped-call]  # generated code
        # Answers come as they are: to compress one takes the server longer than all else.
        self._asking = self._client.query_api()
        self._cursor = InfluxCursor(self._client, self._org, self._bucket)

    def write_batch(
        self, samples: Sequence[Sample], positions: Mapping[Shard, int], marks: Mapping[Shard, str] = NO_MARKS
    ) -> None:
        """Store samples durably, then the cursor.

        Raises: ValueError for a sample that can't be stored, and nothing is; Rejected; Unavailable.
        """
        self._must_write()
        written = columns.later_wins([columns.from_samples(samples)])
        reasons: dict[tuple[SeriesId, Instant], str] = {}
        for first in range(0, written.size, LINES):
            self._write(written.part(slice(first, first + LINES)), reasons)
        if reasons:
            raise Rejected(reasons)
        if positions:
            self._cursor.move(positions, marks)

    def positions(self) -> Mapping[Shard, int]:
        """Return how far each shard of the log has been stored; what is written from now on goes on from there.

        Raises: Unavailable.
        """
        self._cursor.forget()
        return {shard: n for shard, (n, _) in self.cursor().items()}

    def cursor(self) -> Mapping[Shard, tuple[int, str]]:
        """Return the positions with the name of the log that they are of.

        Raises: Unavailable.
        """
        return self._cursor.read()

    def place_cursor(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Set the cursor to exactly this.

        Raises: Unavailable.
        """
        self._must_write()
        self._delete(flux.CURSOR, LAST_AT)
        self._cursor.place(positions, marks)

    def highest_series(self) -> int:
        """Return the highest number of a series in the bucket.

        Raises: Unavailable.
        """
        with spoken():
            answer = self._asking.query_raw(flux.all_series(self._bucket), dialect=_CSV)
            try:
                return max((int(row["_value"]) for row in flux.rows(answer.data)), default=0)
            finally:
                answer.release_conn()

    def range(self, series: SeriesId, since: Instant, until: Instant) -> Curve:
        """Return the readings of a series in [since, until).

        Raises: Unavailable.
        """
        return self.multi_range([series], since, until)[series]

    def multi_range(self, series: Sequence[SeriesId], since: Instant, until: Instant) -> dict[SeriesId, Curve]:
        """Return several series, up to 200 by one query.

        Raises: Unavailable.
        """
        first, end = max(since, -LAST_AT), min(until, LAST_AT + 1)
        curves = {each: columns.none().curve() for each in series}
        if first < end:
            for some in _pages(list(curves)):
                v, q = self._ask(flux.everything(self._bucket, some, first, end))
                curves |= {each: flux.joined(v.of(each), q.of(each)).curve() for each in some}
        return curves

    def latest(self, series: Sequence[SeriesId]) -> dict[SeriesId, Sample]:
        """Return each series' reading with the greatest `at`, failed or not.

        Raises: Unavailable.
        """
        found: dict[SeriesId, Sample] = {}
        for some in _pages(list(series)) if series else [[]]:  # asked for none it still says whether the server answers
            v, q = self._ask(flux.newest(self._bucket, some))
            values = {SeriesId(row[0]): row for row in v.rows()}
            for each, at, marks, _ in q.rows():
                one = self._newest(SeriesId(each), Instant(at), marks or 0, values.get(SeriesId(each)))
                if one:
                    found[one.series] = one
        return found

    def damage(self) -> list[str]:
        """Return nothing: InfluxDB looks after its own files."""
        return []

    def seal(self, before: Instant) -> None:
        """Do nothing: InfluxDB compacts by itself."""

    def drop_before(self, until: Instant) -> None:
        """Delete the readings before `until`.

        Raises: Unavailable.
        """
        self._must_write()
        self._delete(flux.MEASUREMENT, until)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def _delete(self, measurement: str, until: int) -> None:
        with spoken():
            self._client.delete_api().delete(
                _written(-LAST_AT), _written(until - 1), f'_measurement="{measurement}"', self._bucket, self._org
            )

    def _must_write(self) -> None:
        if self._read_only:
            msg = f"bucket {self._bucket} was opened for reading only"
            raise ReadOnly(msg)

    def _write(self, points: Columns, reasons: dict[tuple[SeriesId, Instant], str]) -> None:
        """Write points; those that the server refuses, found by halving, go into `reasons`."""
        refusal = self._post(points)
        if refusal is None:
            return
        if refusal.dropped == points.size or (points.size == 1 and refusal.of_points):
            for series, at, _value, _q in points.rows():
                reasons[SeriesId(series), Instant(at)] = refusal.reason
        elif points.size == 1:
            msg = f"InfluxDB was not to be written: {refusal.reason}"
            raise Unavailable(msg)
        else:
            half = points.size // 2
            self._write(points.part(slice(half)), reasons)
            self._write(points.part(slice(half, points.size)), reasons)

    def _post(self, points: Columns) -> _Refusal | None:
        # Level 1 takes a twentieth of the time of 9, for a quarter more bytes.
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

    def _ask(self, query: str) -> tuple[Columns, Columns]:
        with spoken():
            answer = self._asking.query_raw(query, dialect=_CSV)
            try:
                return flux.parse(answer.data)
            finally:
                answer.release_conn()

    def _newest(
        self, series: SeriesId, at: Instant, marks: int, v: tuple[int, int, int | None, int] | None
    ) -> Sample | None:
        q = flux.quality_of(marks)
        if marks & flux.WITHOUT_VALUE:
            return Sample(series, at, None, q)
        if v is not None and v[1] == at and v[2] is not None:
            return Sample(series, at, Centi(v[2]), q)
        # The point is being written: what is whole already is the newest.
        near = self.range(series, Instant(at - DAY), Instant(LAST_AT + 1))
        return list(near.samples(series))[-1] if len(near) else None


def _pages(series: list[SeriesId]) -> Iterator[list[SeriesId]]:
    for first in range(0, len(series), SERIES):
        yield series[first : first + SERIES]


def _written(at: int) -> str:
    return f"{np.datetime_as_string(np.datetime64(at, 'ms'))}Z"
