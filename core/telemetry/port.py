"""What can be asked of a telemetry store. `tests/contract/test_telemetry.py` is its definition.

Guarantees: a batch whose `write_batch` returned survives kill -9; the same (series, at) twice keeps the later value; a
failed reading is a fact and keeps its quality; `drop_before` is the only way that anything ever leaves. Windowed
figures (`core.telemetry.windows`) and rollups are computed over `range`, so every adapter gives the same numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from core.ids import Centi, SeriesId
from core.runtime.instant import Instant
from core.wire.topics import Shard


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One stored reading of a series; `value` is None for a failed one."""

    series: SeriesId
    at: Instant
    value: Centi | None
    q: int


class Curve:
    """Readings of one series in order of `at`, as columns of equal length.

    `value` is float64 hundredths with NaN for a failed reading: exact, since every value fits in 16 bits.
    """

    __slots__ = ("at", "q", "value")

    def __init__(self, at: npt.NDArray[np.int64], value: npt.NDArray[np.float64], q: npt.NDArray[np.uint16]) -> None:
        self.at = at
        self.value = value
        self.q = q

    def __len__(self) -> int:
        return len(self.at)

    def samples(self, series: SeriesId) -> Iterable[Sample]:
        """Yield the readings one by one."""
        for at, value, q in zip(self.at.tolist(), self.value.tolist(), self.q.tolist(), strict=True):
            yield Sample(series, Instant(at), None if value != value else Centi(int(value)), q)  # noqa: PLR0124 (NaN)


class Capabilities(msgspec.Struct, frozen=True):
    """What callers may want to know of an adapter."""

    other_processes_read: bool
    whole_batches: bool
    """A batch and its cursor are one transaction. Else a reader may see a part of a batch that is being written, and
    the cursor moves once all of it is there."""


class Unavailable(OSError):
    """The store can't be reached, or doesn't answer as it should. Nothing is known of the write: try it again."""


class Rejected(Exception):
    """The store will never take some samples of a batch, whatever is tried. All others of it are stored."""

    def __init__(self, reasons: Mapping[tuple[SeriesId, Instant], str]) -> None:
        super().__init__(f"{len(reasons)} readings were rejected by the store: {next(iter(reasons.values()))}")
        self.reasons = reasons


NO_MARKS: Mapping[Shard, str] = {}


class Telemetry(Protocol):
    """A telemetry store. Its methods may be called from any thread. One behind a network may raise Unavailable."""

    capabilities: Capabilities

    def write_batch(
        self, samples: Sequence[Sample], positions: Mapping[Shard, int], marks: Mapping[Shard, str] = NO_MARKS
    ) -> None:
        """Store samples durably and move the cursor of the intake log, never back; `marks` say which log it is of.

        Raises: ValueError for a sample that no store can keep, and nothing is stored; Unavailable; Rejected, and the
        cursor stays: call again with the positions alone once what was rejected is kept elsewhere.
        """

    def positions(self) -> Mapping[Shard, int]:
        """Return the cursor: how far each shard of the log has been stored."""

    def cursor(self) -> Mapping[Shard, tuple[int, str]]:
        """Return the positions with their marks (`core.intake.identity`), of which a store may keep the log's name alone."""

    def place_cursor(self, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        """Set the cursor to exactly this, backwards too; only `coldchain realign` does so."""

    def highest_series(self) -> int:
        """Return the highest number of a series that has a reading here, 0 without any. May take long."""

    def range(self, series: SeriesId, since: Instant, until: Instant) -> Curve:
        """Return the readings of a series in [since, until)."""

    def multi_range(self, series: Sequence[SeriesId], since: Instant, until: Instant) -> dict[SeriesId, Curve]:
        """Return several series at once; one without readings has an empty curve."""

    def latest(self, series: Sequence[SeriesId]) -> dict[SeriesId, Sample]:
        """Return each series' reading with the greatest `at`, failed or not; a series without any is left out."""

    def damage(self) -> list[str]:
        """Return what is damaged, by every checksum; reads all. Empty for a store that looks after its own files."""

    def seal(self, before: Instant) -> None:
        """Compact what lies wholly before an instant; the telemetry writer calls it every minute or so.

        Changes no answer, whenever it is called and wherever it is killed; nothing to do for a store that compacts by
        itself.
        """

    def drop_before(self, until: Instant) -> None:
        """Retention alone: forget readings before `until`; an adapter may keep up to a month more."""

    def close(self) -> None:
        """Release files or connections."""
