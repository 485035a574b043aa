"""How readings are written to InfluxDB and asked of it: line protocol one way, Flux and raw CSV the other.

A reading is a point of the measurement `reading` with the series as its only tag. Fields of points at the same instant
merge, so `q` is always written, and a failed reading sets WITHOUT_VALUE in it: whatever `v` the point had before then
no longer counts. No number stands for "failed", so nobody's mean of `v` is wrong.

| bits of the field `q` | meaning |
|---|---|
| 0–7 | bits 0–7 of the reading's quality |
| 8 | WITHOUT_VALUE |
| 9–16 | bits 8–15 of the reading's quality; it had 8 bits when bit 8 was taken, and that form reads the same |
"""

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from core.telemetry import columns
from core.telemetry.columns import FAILED, LAST_AT, Columns
from core.wire.topics import Shard

MEASUREMENT = "reading"
CURSOR = "cursor"
NO_LOG = "unnamed"
"""Tag of a cursor whose log isn't known: a tag can't be empty."""
WITHOUT_VALUE = 256
"""The bit of the field `q` that says that the reading failed."""
_LOW = WITHOUT_VALUE - 1

Field = TypeVar("Field", int, npt.NDArray[np.int32])

_ASKED = ("s", "_field", "_time", "_value")
_KEEP = 'keep(columns: ["s", "_field", "_time", "_value"])'
_NANOSECONDS = 1_000_000
_EVER_FROM, _EVER_UNTIL = (f"time(v: {at * _NANOSECONDS})" for at in (-LAST_AT, LAST_AT + 1))


class Incomplete(Exception):
    """An answer that is no complete table of readings: the server gave up within it, after its 200."""


def lines(written: Columns) -> bytes:
    """Return line protocol, a point a reading, with times in milliseconds."""
    rows = zip(*(column.tolist() for column in written), strict=True)
    text = [
        f"{MEASUREMENT},s={series} v={value}i,q={q if q <= _LOW else _widened(q)}i {at}"
        if value != FAILED
        else f"{MEASUREMENT},s={series} q={_widened(q) | WITHOUT_VALUE}i {at}"
        for series, at, value, q in rows
    ]
    return "\n".join(text).encode()


def cursor_lines(moved: Mapping[tuple[Shard, str], int], at: int) -> bytes:
    """Return line protocol of a cursor: positions by shard and name of the log."""
    return "\n".join(
        f"{CURSOR},shard={shard},log={log or NO_LOG} n={n}i {at}" for (shard, log), n in moved.items()
    ).encode()


def cursors(bucket: str, written_at: int | None = None) -> str:
    """Return the query for the highest position of every shard and log, ever or of the points of one instant."""
    start, stop = _EVER_FROM, _EVER_UNTIL
    if written_at is not None:
        start, stop = (f"time(v: {at * _NANOSECONDS})" for at in (written_at, written_at + 1))
    return (
        f'from(bucket: "{bucket}") |> range(start: {start}, stop: {stop})'
        f' |> filter(fn: (r) => r._measurement == "{CURSOR}" and r._field == "n") |> max()'
        ' |> keep(columns: ["shard", "log", "_time", "_value"])'
    )


def all_series(bucket: str) -> str:
    """Return the query for the number of every series that has a reading."""
    return (
        'import "influxdata/influxdb/schema"\n'
        f'schema.tagValues(bucket: "{bucket}", tag: "s", start: {_EVER_FROM},'
        f' predicate: (r) => r._measurement == "{MEASUREMENT}")'
    )


def rows(body: bytes) -> list[dict[str, str]]:
    """Return the rows of an answer of few rows, by column.

    Raises: Incomplete.
    """
    found: list[dict[str, str]] = []
    for table in body.decode().strip("\r\n").split("\r\n\r\n"):
        head, *lines_ = csv.reader(table.splitlines()) if table.strip() else [[]]
        if head[1:2] == ["error"] or any(len(line) != len(head) for line in lines_):
            raise Incomplete(table[-300:])
        found += [dict(zip(head, line, strict=True)) for line in lines_]
    return found


def quality_of(field: Field) -> Field:
    """Return the reading's quality in a field `q`, or in a column of them."""
    return field & _LOW | field >> 1 & ~_LOW


def _widened(q: int) -> int:
    return q & _LOW | (q & ~_LOW) << 1


def everything(bucket: str, series: Iterable[int], since: int, until: int) -> str:
    """Return the query for all readings of some series in [since, until).

    A `q` of 0 is left out of the answer, which is half as long without.
    """
    chosen = _chosen(bucket, series, since, until)
    return (
        f'{chosen} |> filter(fn: (r) => r._field == "v") |> {_KEEP} |> yield(name: "v")\n'
        f'{chosen} |> filter(fn: (r) => r._field == "q" and r._value != 0) |> {_KEEP} |> yield(name: "q")'
    )


def newest(bucket: str, series: Iterable[int]) -> str:
    """Return the query for the last `v` and the last `q` of some series."""
    return f"{_chosen(bucket, series, -LAST_AT, LAST_AT + 1)} |> last() |> {_KEEP}"


def parse(body: bytes) -> tuple[Columns, Columns]:
    """Return the `v` and the `q` of an answer, each ordered, with the field's numbers in the column `value`.

    Raises: Incomplete.
    """
    text = body.decode().strip("\r\n")
    head, _, rows = text.partition("\r\n")
    names = head.split(",")
    if not rows:
        return columns.none(), columns.none()
    cells = rows.replace(f"{head}\r\n", "").replace("\r\n\r\n", "\r\n").replace("\r\n", ",").split(",")
    if not set(_ASKED) <= set(names) or len(cells) % len(names):
        raise Incomplete(text[-300:].strip())
    series, field, at, value = (cells[names.index(name) :: len(names)] for name in _ASKED)
    try:
        told = Columns(
            np.fromiter(map(int, series), np.uint32, len(at)),
            _instants(at),
            np.fromiter(map(int, value), np.int32, len(at)),
            np.zeros(len(at), np.uint16),
        )
    except (ValueError, OverflowError) as error:
        raise Incomplete(str(error)[:300]) from error
    is_v = np.array(field, np.str_) == "v"
    return columns.later_wins([told.part(is_v)]), columns.later_wins([told.part(~is_v)])


def joined(v: Columns, q: Columns) -> Columns:
    """Return the readings of one series from its values and from those `q` that aren't 0.

    A reader may come between the two fields of a point that is being written: a `q` whose value isn't there yet is no
    reading yet.
    """
    value, marks = v.value.copy(), np.zeros(v.size, np.uint16)
    failed = (q.value & WITHOUT_VALUE) != 0
    of_wire = quality_of(q.value).astype(np.uint16)
    place = np.searchsorted(v.at, q.at)
    known = np.isin(q.at, v.at)
    marks[place[known]] = of_wire[known]
    value[place[known & failed]] = FAILED
    alone = failed & ~known
    never_good = Columns(q.series[alone], q.at[alone], np.full(int(alone.sum()), FAILED, np.int32), of_wire[alone])
    return columns.later_wins([Columns(v.series, v.at, value, marks), never_good])


def _chosen(bucket: str, series: Iterable[int], since: int, until: int) -> str:
    wanted = _any_of([f'r.s == "{each}"' for each in series] or ['r.s == ""'])
    return (
        f'from(bucket: "{bucket}")'
        f" |> range(start: time(v: {since * _NANOSECONDS}), stop: time(v: {until * _NANOSECONDS}))"
        f' |> filter(fn: (r) => r._measurement == "{MEASUREMENT}" and ({wanted}))'
    )


def _any_of(conditions: Sequence[str]) -> str:
    """Join by `or` as a balanced tree: Flux refuses a chain of two hundred as nested too deep."""
    if len(conditions) == 1:
        return conditions[0]
    half = len(conditions) // 2
    return f"({_any_of(conditions[:half])} or {_any_of(conditions[half:])})"


def _instants(times: Sequence[str]) -> npt.NDArray[np.int64]:
    """Turn RFC 3339 in UTC into milliseconds; numpy reads it but for the Z."""
    return np.array([time[:-1] for time in times], "datetime64[ms]").astype(np.int64)
