"""Telemetry writer: follows every shard of the intake log by cursor into telemetry.

It looks for new entries every `LOOK_S`: a look is one small query, and what has gathered since is one commit of the
store. The cursor moves with the samples (or after them, if the store has no transactions: a second write changes
nothing), and names its log. If it doesn't fit the log, nothing is followed (`collector.alignment_gate`). Each sample
carries its entry's origin (live, backfill, released) in `q`. Readings that the directory refuses, or that the store
will never take, go into quarantine before the cursor passes them. While the store or the records are down, or answer
nonsense, the log keeps everything and the same rows are tried again.
"""

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from collector.alignment_gate import AlignmentGate
from collector.counters import Counters
from collector.storing.freshness_index import FreshnessIndex
from core.devices.directory import RESOLVABLE, Directory, Place, RefusalReason, RefusedReading
from core.devices.timeline import END
from core.intake.cursor_marks import mark
from core.intake.port import IntakeLog, IntakeUnavailable, LogEntry, QuarantinedReading, StampedReading
from core.intake.round_robin import round_robin
from core.intake.states import QuarantineReason
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant
from core.runtime.logs import logger
from core.runtime.trouble import TroubleKind, first_line
from core.telemetry.port import SamplesRejected, StoredReading, StoreReplaced, Telemetry
from core.wire.quality import of_origin
from core.wire.shards import GatewayNumber, Shard

log = logger(__name__)

READER = "telemetry"
"""Reason of a reading that the store will never take, such as one from before its retention."""
ENTRIES = 500
SAMPLES = 20_000
FEWEST = 20
"""Entries of a shard that are read at once if each has many readings: the other shards wait for them."""
POLL_S = 1.0
"""Time between two passes while the log doesn't grow: records may have changed."""
LOOK_S = 0.1
"""Time between two looks at the log. Late readings are evaluated once telemetry has come as far as alerting: a writer
that lags behind it delays them (`alerting.late_queue`)."""
SHORTEST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
LATE_S = 2.0
_PAGE = 1_000


class _Refused(NamedTuple):
    """Reading of the log that isn't stored, as `IntakeLog.hold` takes it."""

    shard: Shard
    n: int
    place: int
    reason: QuarantineReason
    detail: str


class _Chunk:
    """Samples that are stored at once, and the readings that are held instead."""

    def __init__(self) -> None:
        self.samples: list[StoredReading] = []
        self.refused: list[_Refused] = []
        self._sources: list[tuple[Shard, int, Sequence[int]]] = []
        """Position of each entry, in the order of the samples, with the indexes of its readings among them."""

    def add(self, shard: Shard, entry: LogEntry, directory: Directory) -> Instant:
        """Add an entry; return when the oldest of its readings was taken."""
        batch = entry.batch
        gw, oldest, refused, origin = batch.gw, END, [], int(of_origin(batch.origin))
        for index, reading in enumerate(batch.readings):
            at = reading.at
            if at < oldest:  # noqa: PLR1730 (`min` would take five times as long)
                oldest = at
            place = directory.allot(gw, reading.p, reading.quantity, at)
            if isinstance(place, Place):
                self.samples.append(StoredReading(place.series, at, reading.value, reading.q | origin))
            else:
                refused.append(_Refused(shard, entry.n, index, QuarantineReason(place.reason), place.detail))
        stored: Sequence[int] = range(len(batch.readings))
        if refused:
            self.refused += refused
            stored = sorted(set(stored) - {reading.place for reading in refused})
        self._sources.append((shard, entry.n, stored))
        return oldest

    def rejected(self, rejection: SamplesRejected) -> list[_Refused]:
        """Return the readings that the store rejected; of several at one instant it was given only the last."""
        places = ((shard, n, index) for shard, n, stored in self._sources for index in stored)
        return [
            _Refused(*position, QuarantineReason.REJECTED, reason)
            for sample, position in zip(self.samples, places, strict=True)
            if (reason := rejection.reasons.get((sample.series, sample.at)))
        ]


class TelemetryWriter:
    """Reader of the log. `run` in a thread; the rest may be called from any."""

    def __init__(
        self,
        intake: IntakeLog,
        telemetry: Telemetry,
        directory: Directory,
        clock: Clock,
        counts: Counters,
        *,
        shards: tuple[Shard, Shard],
        alignment: AlignmentGate | None = None,
    ) -> None:
        """`shards` are the first and the last to follow; nothing is followed while `alignment` has no epoch."""
        self._intake = intake
        self._telemetry = telemetry
        self._directory = directory
        self._clock = clock
        self._counts = counts
        self._first, self._last = shards
        self._alignment = alignment
        self._epoch: int | None = None
        self._log_name = ""
        self._positions: dict[Shard, int] | None = None
        self._served = ""
        """Shard that the last chunk ended with."""
        self._entry_size = SAMPLES // FEWEST
        """Readings in the largest of the last entries read; larger ones from before count for a while."""
        self._oldest = FreshnessIndex()
        self._knows_records = False
        self._pass_requested = threading.Event()
        self._late = ""
        self._write_began: float | None = None
        """Set while the store is written to."""
        self._more_waits = False
        """Whether the last pass has left entries that it knew of."""

    def is_idle(self) -> bool:
        """Return whether everything that is in the log now is in telemetry; if not, look for it at once."""
        try:
            is_idle = not self.lag()
        except IntakeUnavailable:
            return False
        if not is_idle:
            self.wake()
        return is_idle

    def wake(self) -> None:
        """Let `run` look at the log now, or end."""
        self._pass_requested.set()

    def lag(self) -> int:
        """Return how many entries of the log are not in telemetry yet."""
        positions = self._positions or {}
        return sum(head - positions.get(shard, 0) for shard, head in self._followed().items())

    def stored(self) -> Mapping[Shard, int]:
        """Return how far each shard can be read in telemetry; nothing before the first pass."""
        return dict(self._positions or {})

    def fresh_until(self, shard: Shard, after: int, since: Instant) -> int:
        """Return up to where the log behind `after` is known to have no reading from before `since`."""
        return self._oldest.fresh_until(shard, after, since)

    def report_slow_write(self) -> None:
        """Report a write that still runs: a store that answers late must be known before it has answered."""
        began = self._write_began
        if began is not None and monotonic() - began >= LATE_S:
            problem = f"one write has been running for over {LATE_S:.0f} s"
            self._counts.problem("telemetry", problem, kind=TroubleKind.LATE)

    def mirror(self) -> None:
        """Tell the log how far the store has come, for the pruner; never a position from before a realignment."""
        positions = self.stored()
        if positions and (self._alignment is None or self._epoch == self._alignment.epoch()):
            self._intake.move_cursor(READER, positions)

    def run(self, stop: threading.Event) -> None:
        """Follow until `stop`."""
        pause = SHORTEST_WAIT_S
        while not stop.is_set():
            self._pass_requested.clear()
            try:
                worked = self._refresh() | self._follow()
            except (SQLAlchemyError, sqlite3.Error, OSError, IntakeUnavailable) as error:
                self._fail(error)
            except Exception as error:
                # Whatever the error, the rows are still in the log, and the next attempt may succeed.
                if self._counts.problem("telemetry writer", f"{type(error).__name__}: {error}"):
                    log.exception("telemetry not written")
            else:
                pause = SHORTEST_WAIT_S
                for part in ("telemetry writer", "records", "log reader"):
                    self._counts.problem(part, "")
                if self._counts.problem("telemetry", self._late, kind=TroubleKind.LATE):
                    log.warning("telemetry answers", late=self._late)
                if not worked or not self._more_waits:
                    self._wait()
                continue
            stop.wait(pause)
            pause = min(LONGEST_WAIT_S, pause * 2)

    def _wait(self) -> None:
        """Wait until the log has grown or a pass is requested, at most `POLL_S`."""
        ends = monotonic() + POLL_S
        while not self._pass_requested.wait(LOOK_S) and monotonic() < ends:
            try:
                if self.lag():
                    return
            except IntakeUnavailable:
                return  # the pass says so

    def _fail(self, error: Exception) -> None:
        if isinstance(error, StoreReplaced) and self._alignment:
            self._alignment.doubt()
        if self._counts.problem(_part(error), error):
            log.warning("telemetry not written", error=first_line(error))

    def _followed(self) -> Mapping[Shard, int]:
        return {shard: head for shard, head in self._intake.heads().items() if self._first <= shard <= self._last}

    def _refresh(self) -> bool:
        """Read changes of the records and release the readings that they resolve; return whether there were any."""
        if self._directory.refresh():
            self._knows_records = False
        released = 0
        if not self._knows_records:
            for reason in RESOLVABLE:
                released += self._release(reason)
            self._knows_records = True
        return released > 0

    def _release(self, reason: RefusalReason) -> int:
        after = released = 0
        while page := self._intake.held(reason=reason, after=after, limit=_PAGE):
            after = page[-1].id
            ids = [held.id for held in page if self._resolves(held)]
            if ids:
                released += self._intake.release(ids, now=self._clock.now())
        if released:
            self._counts.add("released", released)
            log.info("readings released", reason=str(reason), readings=released)
        return released

    def _resolves(self, held: QuarantinedReading) -> bool:
        return isinstance(held.reading, StampedReading) and isinstance(self._place(held.gw, held.reading), Place)

    def _place(self, gw: GatewayNumber, reading: StampedReading) -> Place | RefusedReading:
        return self._directory.allot(gw, reading.p, reading.quantity, reading.at)

    def _may_follow(self) -> bool:
        """Return whether the cursor is known and fits; it is read again after each time that it didn't."""
        epoch = self._alignment.epoch() if self._alignment else 0
        if epoch is None:
            return False
        if self._positions is None or epoch != self._epoch:
            self._log_name = self._intake.names()[-1]
            copy = self._intake.cursor(READER)  # read first: it is never ahead of the store's own
            positions = dict(self._telemetry.positions())
            if self._alignment and any(
                positions.get(shard, 0) < n for shard, n in copy.items() if self._first <= shard <= self._last
            ):
                self._alignment.doubt()  # it couldn't be asked when the gate opened, and was put back
                return False
            self._positions = positions
            self._epoch = epoch
        return True

    def _follow(self) -> bool:
        """Store one chunk of every shard that has grown; return False when there was nothing."""
        if not self._may_follow() or self._positions is None:
            return False
        chunk = _Chunk()
        marks: dict[Shard, str] = {}
        moved: dict[Shard, int] = {}
        oldest: dict[Shard, Instant] = {}
        followed = self._followed()
        heads_in_turn = {shard: followed[shard] for shard in round_robin(followed, self._served)}
        largest = self._entry_size // 2
        most = max(FEWEST, min(ENTRIES, SAMPLES // self._entry_size))
        for heads in _together(heads_in_turn, self._positions, most):
            entries_of = self._intake.read_each({shard: self._positions.get(shard, 0) for shard in heads}, most)
            for shard, entries in entries_of.items():
                oldest[shard] = min([chunk.add(shard, entry, self._directory) for entry in entries], default=END)
                # Nothing to read below the head means pruned rows: this store was restored to an older state.
                moved[shard] = entries[-1].n if entries else heads[shard]
                marks[shard] = mark(self._log_name, entries[-1].batch if entries else None)
                self._served = shard
            largest = max(
                largest,
                1,
                *(len(entry.batch.readings) for entries_read in entries_of.values() for entry in entries_read[-1:]),
            )
            if len(chunk.samples) >= SAMPLES:
                break
        self._entry_size = max(1, largest)
        if not moved:
            return False
        self._hold(chunk.refused)
        rejected: list[_Refused] = []
        self._write_began = began = monotonic()
        try:
            self._telemetry.write_batch(chunk.samples, moved, marks)
        except SamplesRejected as rejection:
            rejected = chunk.rejected(rejection)
            self._hold(rejected)
            self._telemetry.write_batch([], moved, marks)
        finally:
            self._write_began = None
        self._note_speed(monotonic() - began)
        for shard, n in moved.items():
            self._oldest.note(shard, self._positions.get(shard, 0), n, oldest[shard])
        self._positions.update(moved)
        self._more_waits = any(self._positions.get(shard, 0) < head for shard, head in followed.items())
        self._counts.add("stored", len(chunk.samples) - len(rejected))
        return True

    def _note_speed(self, seconds: float) -> None:
        """Note a store that answers late: readings may come in faster than they leave."""
        self._late = f"one write took {seconds:.1f} s" if seconds >= LATE_S else ""

    def _hold(self, refused: list[_Refused]) -> None:
        if refused:
            self._intake.hold(refused, now=self._clock.now())
            self._counts.add("held", len(refused))
            log.info("readings held", detail=refused[0].detail, **Counter(str(reading.reason) for reading in refused))


def _together(heads: Mapping[Shard, int], positions: Mapping[Shard, int], most: int) -> Iterator[dict[Shard, int]]:
    """Yield the heads of shards that have grown, in groups with about `most` entries to be read."""
    group: dict[Shard, int] = {}
    expected = 0
    for shard, head in heads.items():
        if head > positions.get(shard, 0):
            group[shard] = head
            expected += min(most, head - positions.get(shard, 0))
            if expected >= most:
                yield group
                group, expected = {}, 0
    if group:
        yield group


def _part(error: Exception) -> str:
    """Return which of its three stores has failed."""
    if isinstance(error, SQLAlchemyError):
        return "records"
    return "log reader" if isinstance(error, IntakeUnavailable) else "telemetry"
