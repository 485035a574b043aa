"""Columns of readings, and the one rule by which a later write replaces an earlier one.

Every merge in the embedded store (frames of an hour, frames with a block, hours with a day) is `later_wins`, so "last
write wins" is decided in one place.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from core.runtime.instant import HOUR
from core.telemetry.port import Curve, StoredReading

FAILED = -(2**31)
"""Value of a failed reading."""
LARGEST = 2**31 - 1
LAST_AT = 9_223_372_036_853
"""Last instant, in the year 2262, whose nanoseconds fit in 64 bits, as InfluxDB and numpy count them."""
SERIES_BITS = 24


class ReadingColumns(NamedTuple):
    """Readings as columns of equal length: in the order of writing, or ordered by (series, at) with each pair once."""

    series: npt.NDArray[np.uint32]
    at: npt.NDArray[np.int64]
    value: npt.NDArray[np.int32]
    q: npt.NDArray[np.uint16]

    @property
    def size(self) -> int:
        """Number of readings."""
        return len(self.at)

    def part(self, index: slice | npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "ReadingColumns":
        """Return the readings at a slice, at positions, or under a mask."""
        return ReadingColumns(self.series[index], self.at[index], self.value[index], self.q[index])

    def of(self, series: int) -> "ReadingColumns":
        """Return the readings of one series. The columns must be ordered."""
        first, last = np.searchsorted(self.series, np.array((series, series + 1), np.uint32))
        return self.part(slice(int(first), int(last)))

    def by_series(self) -> Iterator[tuple[int, "ReadingColumns"]]:
        """Yield each series with its readings. The columns must be ordered."""
        starts = np.unique(self.series, return_index=True)[1].tolist()
        for first, last in zip(starts, [*starts[1:], self.size], strict=True):
            yield int(self.series[first]), self.part(slice(first, last))

    def newest(self, wanted: npt.NDArray[np.uint32]) -> "ReadingColumns":
        """Return the last reading of each wanted series that has one. The columns must be ordered."""
        last = np.searchsorted(self.series, wanted, side="right") - 1
        return self.part(last[(last >= 0) & (self.series[last] == wanted)] if self.size else slice(0))

    def rows(self) -> Iterator[tuple[int, int, int | None, int]]:
        """Yield (series, at, value, q) one by one; a failed reading has no value."""
        for series, at, value, q in zip(*(column.tolist() for column in self), strict=True):
            yield series, at, None if value == FAILED else value, q

    def between(self, since: int, until: int) -> "ReadingColumns":
        """Return the readings in [since, until). The columns must be ordered and of one series."""
        first, last = np.searchsorted(self.at, (since, until))
        return self.part(slice(int(first), int(last)))

    def curve(self) -> Curve:
        """Return the columns of one series as a `Curve`."""
        value = self.value.astype(np.float64)
        value[self.value == FAILED] = np.nan
        return Curve(self.at, value, self.q)


def none() -> ReadingColumns:
    """Return columns without readings."""
    return ReadingColumns(np.empty(0, np.uint32), np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.uint16))


def from_samples(samples: Sequence[StoredReading]) -> ReadingColumns:
    """Turn samples into columns, in their order.

    Raises: ValueError for a series number of 2^24 or more, a value beyond 31 bits or an instant beyond LAST_AT;
    OverflowError for a number beyond 64 bits.
    """
    series = np.array([sample.series for sample in samples], np.int64)
    at = np.array([sample.at for sample in samples], np.int64)
    value = np.array([FAILED if sample.value is None else sample.value for sample in samples], np.int64)
    invalid = (series < 0) | (series >= 1 << SERIES_BITS) | (value > LARGEST) | (value < FAILED) | (abs(at) > LAST_AT)
    for index in np.flatnonzero(value == FAILED).tolist():
        invalid[index] |= samples[index].value is not None
    if invalid.any():
        msg = f"{samples[int(np.argmax(invalid))]} can't be stored: see the bounds of series, at and value"
        raise ValueError(msg)
    return ReadingColumns(
        series.astype(np.uint32),
        at,
        value.astype(np.int32),
        np.array([sample.q for sample in samples], np.uint16),
    )


def by_hour(columns: ReadingColumns) -> Iterator[tuple[int, ReadingColumns]]:
    """Yield (hour since 1970, its readings in the order of writing)."""
    hours = columns.at // HOUR
    for hour in np.unique(hours).tolist():
        yield hour, columns.part(hours == hour)


def later_wins(pieces: Sequence[ReadingColumns]) -> ReadingColumns:
    """Merge pieces, given in the order of writing, into ordered columns; of equal (series, at) the last one is kept.

    The merge is associative, and merging the same pieces again changes nothing. So a crash while sealing is harmless.
    """
    pieces = [piece for piece in pieces if piece.size]
    if not pieces:
        return none()
    columns = ReadingColumns(*map(np.concatenate, zip(*pieces, strict=True))) if len(pieces) > 1 else pieces[0]
    series, at = columns.series, columns.at
    is_after = (series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & (at[1:] > at[:-1]))
    if is_after.all():
        return columns
    order = np.lexsort((at, series))  # stable: equal pairs stay in the order of writing
    series, at = series[order], at[order]
    is_last = np.append((series[1:] != series[:-1]) | (at[1:] != at[:-1]), True)
    return columns.part(order[is_last])
