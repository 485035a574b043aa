"""InfluxDB formats: readings as line protocol, queries in Flux, answers from raw CSV.

A reading is a point of the measurement `reading`, with the series as its only tag. InfluxDB merges the fields of points
at the same instant. So `q` is always written, and a failed reading sets WITHOUT_VALUE in it, which overrides a `v` that
the point may already have. No value of `v` means "failed", so a mean of `v` that somebody else computes is right.
tests/integration/test_influx_telemetry.py tries to break it on a real server.

| bits of the field `q` | meaning |
|---|---|
| 0–7 | bits 0–7 of the reading's quality |
| 8 | WITHOUT_VALUE |
| 9–16 | bits 8–15 of the reading's quality; qualities had 8 bits when bit 8 was taken, and old points read the same |
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from core.telemetry import reading_columns
from core.telemetry.reading_columns import FAILED, LAST_AT, ReadingColumns
from core.wire.shards import Shard

MEASUREMENT = "reading"
CURSOR = "cursor"
NO_LOG = "unnamed"
"""Tag of a cursor whose log is unknown, since a tag can't be empty."""
WITHOUT_VALUE = 256
"""Bit of the field `q`: the reading failed."""
_LOW = WITHOUT_VALUE - 1
"""Bits of a quality that the field `q` has at the same place."""

Field = TypeVar("Field", int, npt.NDArray[np.int32])

_CSV_COLUMNS = ("s", "_field", "_time", "_value")
_KEEP = 'keep(columns: ["s", "_field", "_time", "_value"])'
_NANOSECONDS = 1_000_000
_EVER_FROM, _EVER_UNTIL = (f"time(v: {at * _NANOSECONDS})" for at in (-LAST_AT, LAST_AT + 1))


class IncompleteAnswer(Exception):
    """An answer that is no complete table: the server failed after it had sent status 200."""


def lines(written: ReadingColumns) -> bytes:
    """Return one line of line protocol for each reading, with times in milliseconds."""
    rows = zip(*(column.tolist() for column in written), strict=True)
    text = [
        f"{MEASUREMENT},s={series} v={value}i,q={q if q <= _LOW else _widened(q)}i {at}"
        if value != FAILED
        else f"{MEASUREMENT},s={series} q={_widened(q) | WITHOUT_VALUE}i {at}"
        for series, at, value, q in rows
    ]
    return "\n".join(text).encode()


def cursor_lines(moved: Mapping[tuple[Shard, str], int], at: int) -> bytes:
    """Return the line protocol of a cursor: positions by shard and name of the log."""
    return "\n".join(
        f"{CURSOR},shard={shard},log={log or NO_LOG} n={n}i {at}" for (shard, log), n in moved.items()
    ).encode()


def cursors(bucket: str, written_at: int | None = None) -> str:
    """Return the query for the highest position of every shard and log, of all points or of those of one instant."""
    start, stop = _EVER_FROM, _EVER_UNTIL
    if written_at is not None:
        start, stop = (f"time(v: {at * _NANOSECONDS})" for at in (written_at, written_at + 1))
    return (
        f'from(bucket: "{bucket}") |> range(start: {start}, stop: {stop})'
        f' |> filter(fn: (r) => r._measurement == "{CURSOR}" and r._field == "n") |> max()'
        ' |> keep(columns: ["shard", "log", "_time", "_value"])'
    )


def all_series(bucket: str) -> str:
    """Return the query for the numbers of all series that have a reading."""
    return (
        'import "influxdata/influxdb/schema"\n'
        f'schema.tagValues(bucket: "{bucket}", tag: "s", start: {_EVER_FROM},'
        f' predicate: (r) => r._measurement == "{MEASUREMENT}")'
    )


def rows(body: bytes) -> list[dict[str, str]]:
    """Return the rows of a short answer, each as a dict by column.

    Raises: Incomplete.
    """
    parsed: list[dict[str, str]] = []
    for table in body.decode().strip("\r\n").split("\r\n\r\n"):
        head, *lines_ = csv.reader(table.splitlines()) if table.strip() else [[]]
        if head[1:2] == ["error"] or any(len(line) != len(head) for line in lines_):
            raise IncompleteAnswer(table[-300:])
        parsed += [dict(zip(head, line, strict=True)) for line in lines_]
    return parsed


def quality_of(field: Field) -> Field:
    """Return the reading's quality from a field `q`, or a column of qualities from a column of fields."""
    return field & _LOW | field >> 1 & ~_LOW


def _widened(q: int) -> int:
    return q & _LOW | (q & ~_LOW) << 1


def everything(bucket: str, series: Iterable[int], since: int, until: int) -> str:
    """Return the query for all readings of some series in [since, until).

    A `q` of 0 is left out, which halves the answer.
    """
    points = _points(bucket, series, since, until)
    return (
        f'{points} |> filter(fn: (r) => r._field == "v") |> {_KEEP} |> yield(name: "v")\n'
        f'{points} |> filter(fn: (r) => r._field == "q" and r._value != 0) |> {_KEEP} |> yield(name: "q")'
    )


def newest(bucket: str, series: Iterable[int]) -> str:
    """Return the query for the last `v` and the last `q` of some series."""
    return f"{_points(bucket, series, -LAST_AT, LAST_AT + 1)} |> last() |> {_KEEP}"


def parse(body: bytes) -> tuple[ReadingColumns, ReadingColumns]:
    """Return the fields `v` and `q` of an answer, each as ordered columns with the numbers in the column `value`.

    Raises: Incomplete.
    """
    text = body.decode().strip("\r\n")
    head, _, rows = text.partition("\r\n")
    names = head.split(",")
    if not rows:
        return reading_columns.none(), reading_columns.none()
    cells = rows.replace(f"{head}\r\n", "").replace("\r\n\r\n", "\r\n").replace("\r\n", ",").split(",")
    if not set(_CSV_COLUMNS) <= set(names) or len(cells) % len(names):
        raise IncompleteAnswer(text[-300:].strip())
    series, field, at, value = (cells[names.index(name) :: len(names)] for name in _CSV_COLUMNS)
    try:
        fields = ReadingColumns(
            np.fromiter(map(int, series), np.uint32, len(at)),
            _instants(at),
            np.fromiter(map(int, value), np.int32, len(at)),
            np.zeros(len(at), np.uint16),
        )
    except (ValueError, OverflowError) as error:
        raise IncompleteAnswer(str(error)[:300]) from error
    is_v = np.array(field, np.str_) == "v"
    return reading_columns.later_wins([fields.part(is_v)]), reading_columns.later_wins([fields.part(~is_v)])


def joined(v: ReadingColumns, q: ReadingColumns) -> ReadingColumns:
    """Return the readings of one series from its values and its non-zero `q` fields.

    A query may run between the writing of the two fields of a point. So a `q` without a value, unless it says that the
    reading failed, is not a reading yet.
    """
    value, quality = v.value.copy(), np.zeros(v.size, np.uint16)
    is_failed = (q.value & WITHOUT_VALUE) != 0
    quality_of_q = quality_of(q.value).astype(np.uint16)
    index = np.searchsorted(v.at, q.at)
    has_value = np.isin(q.at, v.at)
    quality[index[has_value]] = quality_of_q[has_value]
    value[index[has_value & is_failed]] = FAILED
    alone = is_failed & ~has_value
    failed = ReadingColumns(
        q.series[alone], q.at[alone], np.full(int(alone.sum()), FAILED, np.int32), quality_of_q[alone]
    )
    return reading_columns.later_wins([ReadingColumns(v.series, v.at, value, quality), failed])


def _points(bucket: str, series: Iterable[int], since: int, until: int) -> str:
    is_wanted = _any_of([f'r.s == "{number}"' for number in series] or ['r.s == ""'])
    return (
        f'from(bucket: "{bucket}")'
        f" |> range(start: time(v: {since * _NANOSECONDS}), stop: time(v: {until * _NANOSECONDS}))"
        f' |> filter(fn: (r) => r._measurement == "{MEASUREMENT}" and ({is_wanted}))'
    )


def _any_of(conditions: Sequence[str]) -> str:
    """Join conditions by `or` as a balanced tree, since Flux refuses a chain of 200 as nested too deeply."""
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    return f"({_any_of(conditions[:half])} or {_any_of(conditions[half:])})"


def _instants(times: Sequence[str]) -> npt.NDArray[np.int64]:
    """Convert RFC 3339 times in UTC to milliseconds. numpy parses them without the Z."""
    return np.array([time[:-1] for time in times], "datetime64[ms]").astype(np.int64)
