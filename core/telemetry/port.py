"""Port of a telemetry store. `tests/contract/telemetry` is its definition.

Guarantees: a batch whose `write_batch` has returned survives kill -9; of two writes of one (series, at) the later one
counts; a failed reading is stored with its quality; only `drop_before` deletes readings. Windowed figures
(`core.telemetry.window_figures`) and rollups are computed over `range`, so every adapter gives the same numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from core.ids import Centi, SeriesId
from core.runtime.instant import Instant
from core.wire.shards import Shard


class StoredReading(msgspec.Struct, frozen=True, gc=False):
    """Stored reading of a series; `value` is None if it failed."""

    series: SeriesId
    at: Instant
    value: Centi | None
    q: int


class Curve:
    """Readings of one series in order of `at`, as columns of equal length.

    `value` is in hundredths as float64, exact since a value has at most 32 bits; NaN for a failed reading.
    """

    __slots__ = ("at", "q", "value")

    def __init__(self, at: npt.NDArray[np.int64], value: npt.NDArray[np.float64], q: npt.NDArray[np.uint16]) -> None:
        self.at = at
        self.value = value
        self.q = q

    def __len__(self) -> int:
        return len(self.at)

    def samples(self, series: SeriesId) -> Iterable[StoredReading]:
        """Yield the readings one by one."""
        for at, value, q in zip(self.at.tolist(), self.value.tolist(), self.q.tolist(), strict=True):
            yield StoredReading(series, Instant(at), None if value != value else Centi(int(value)), q)  # noqa: PLR0124 (NaN)


class Capabilities(msgspec.Struct, frozen=True):
    """Properties in which adapters differ."""

    other_processes_read: bool
    whole_batches: bool
    """A batch and its cursor are written in one transaction. Otherwise a reader may see a part of a batch, and the
    cursor moves once the whole batch is stored."""


class TelemetryUnavailable(OSError):
    """The store can't be reached or gives no valid answer. It is unknown whether a write was stored: write it again."""


class StoreReplaced(OSError):
    """The open store was replaced, emptied or deleted. Nothing was written; the next call uses what is there now."""


class ReadOnly(Exception):
    """Write on a store that was opened for reading only."""


class SamplesRejected(Exception):
    """The store will never accept some samples of a batch. All others of the batch are stored."""

    def __init__(self, reasons: Mapping[tuple[SeriesId, Instant], str]) -> None:
        super().__init__(f"{len(reasons)} readings were rejected by the store: {next(iter(reasons.values()))}")
        self.reasons = reasons


NO_MARKS: Mapping[Shard, str] = {}


class Telemetry(Protocol):
    """Telemetry store. Its methods are thread-safe. A store on another machine may raise TelemetryUnavailable."""

    capabilities: Capabilities

    def write_batch(
        self, samples: Sequence[StoredReading], positions: Mapping[Shard, int], marks: Mapping[Shard, str] = NO_MARKS
    ) -> None:
        """Store samples durably and move the cursor of the intake log, never back; `marks` name the log.

        Raises: ValueError for a sample that no store can keep, then nothing is stored; TelemetryUnavailable;
        StoreReplaced; ReadOnly; SamplesRejected, then the cursor stays: keep the rejected samples elsewhere, and call again with the positions
        only.
        """

    def positions(self) -> Mapping[Shard, int]:
        """Return the cursor: the position up to which each shard of the log has been stored."""

    def cursor(self) -> Mapping[Shard, tuple[int, str]]:
        """Return the positions with their marks (`core.intake.cursor_marks`).

        A store may keep only the log's name of a mark.
        """

    def place_cursor(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Set the cursor to exactly these positions, backwards too. Only `coldchain realign` calls this."""

    def highest_series(self) -> int:
        """Return the highest series number that has a reading, 0 if there is none. May take long."""

    def range(self, series: SeriesId, since: Instant, until: Instant) -> Curve:
        """Return the readings of a series in [since, until)."""

    def multi_range(self, series: Sequence[SeriesId], since: Instant, until: Instant) -> dict[SeriesId, Curve]:
        """Return the readings of several series in [since, until); a series without readings has an empty curve."""

    def latest(self, series: Sequence[SeriesId]) -> dict[SeriesId, StoredReading]:
        """Return each series' reading with the greatest `at`, failed or not; a series without readings is left out."""

    def damage(self) -> list[str]:
        """Check all checksums and return what is damaged; empty for a store that checks its own files."""

    def seal(self, before: Instant) -> None:
        """Compact the readings before an instant; the telemetry writer calls it about every minute.

        It never changes an answer, also if it is killed. A store that compacts by itself does nothing here.
        """

    def drop_before(self, until: Instant) -> None:
        """Delete readings before `until`, for retention only; an adapter may keep up to a month more."""

    def close(self) -> None:
        """Release files or connections."""
