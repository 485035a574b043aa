"""Follower of the intake log: writes conditions, alarms and steps of its readings in one transaction with the cursor.

Guarantees, tried by tests/integration/test_follower.py and test_alerting_races.py on both databases:
* the cursor of a shard moves in the transaction of everything that its entries led to, so a crash anywhere repeats
  nothing and skips nothing; a second process on the same shard loses the race for the cursor and changes nothing;
* memory is read from the records for each chunk, so a series may come through another shard and worker than last time;
* a chunk is settled with the devices that the records have at that moment, or repeated;
* on SQLite a chunk is smaller, and other writers get their turn after it (`Records.write_much`).
"""

from collections.abc import Mapping, Sequence

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from alerting.evaluating.live_condition_changes import condition_changes_of
from alerting.evaluating.live_readings import update_live_states
from alerting.evaluating.placed_readings import PlacedReading, PlacedReadings, place_readings, places_of
from alerting.evaluating.probe_state import load, save
from alerting.following.read_ahead import ReadAhead
from core.alarms import unplaced_readings
from core.alarms.lifecycle import settle
from core.alarms.outbox import OutboxWriter
from core.alarms.tables import FollowCursor
from core.alarms.zone_cache import CacheOutdated, ZoneCache
from core.db.engine import Records
from core.db.insert import upsert
from core.devices.directory import Directory, Place
from core.health.cursor_alignment import CursorFault, Misaligned, MisplacedCursor, of_alerting, within
from core.ids import AlarmId, ZoneId
from core.intake.cursor_marks import mark
from core.intake.port import IntakeBatch, IntakeLog, LogEntry
from core.runtime.clock import monotonic
from core.runtime.instant import SECOND, Instant, Milliseconds
from core.runtime.logs import logger
from core.units import device_revision
from core.wire.shards import Shard, shard_of

log = logger(__name__)

READER = "alerting"
CHUNK = 1000
"""Readings in one transaction, about: an entry isn't divided."""
CHUNK_SQLITE = 500
"""There other writers wait for its end: calm readings take about 10 ms."""
FRESH = Milliseconds(5 * SECOND)
"""Age since receipt up to which a reading is current: what is behind it in the log came within moments."""
MIRROR_EVERY_S = 1.0


class Overtaken(Exception):
    """Another process has moved this shard's cursor: two workers own one shard, or two generations work at once."""


class Follower:
    """Follows the shards of one worker, in one thread."""

    def __init__(
        self,
        records: Records,
        intake: IntakeLog,
        directory: Directory,
        zones: ZoneCache,
        outbox: OutboxWriter,
        *,
        shards: str,
    ) -> None:
        """`shards` is a range such as `00-7f`."""
        self._records = records
        self._log = intake
        self._directory = directory
        self._zones = zones
        self._outbox = outbox
        self._chunk = CHUNK_SQLITE if records.is_sqlite else CHUNK
        self._first, self._last = shards.split("-")
        self.has_all = (self._first, self._last) == ("00", "ff")
        """Whether this worker has all shards."""
        self._positions: dict[Shard, int] = {}
        self._log_name = ""
        self._ahead = ReadAhead(intake)
        self._mirrored: dict[Shard, int] = {}
        self._mirror_at = 0.0
        self.readings = 0
        """Readings evaluated since the start."""
        self.begun_anew = 0
        """Probes whose memory couldn't be read since the start."""
        self.fresh: set[ZoneId] = set()
        """Zones in which current readings may have opened alarms; whoever tells people of these empties it."""

    def start(self) -> None:
        """Read the cursors from the records.

        Raises: SQLAlchemyError while the records are away; IntakeUnavailable; Misaligned.
        """
        self._ahead.clear()
        cursor, found = of_alerting(self._log, self._records)
        if misplaced := within((Shard(self._first), Shard(self._last)), found):
            raise Misaligned(misplaced)
        self._log_name = self._log.names()[-1]
        self._positions = {shard: n for shard, (n, _) in cursor.items()}
        with self._records.read() as tx:
            self._zones.refresh(tx)

    def step(self, now: Instant) -> bool:
        """Take one chunk; returns whether there was one. What it opens, opens at `now`.

        Raises: Overtaken or Misaligned, after which `start` must be called again; CacheOutdated or SQLAlchemyError,
        after which `step` may be.
        """
        if self._directory.refresh():
            with self._records.read() as tx:
                self._zones.refresh(tx)
            self._mark_newly_placed(now)
        entries = self._next()
        if not entries:
            self._pass_pruned()
            self._mirror()
            return False
        placed = place_readings(entries, self._directory)
        try:
            opened, recovered = self._settle(entries, placed, now)
        except BaseException:
            self._ahead.clear()
            raise
        self._ahead.followed(entries)
        self._positions.update({shard: of_shard[-1].n for shard, of_shard in entries.items()})
        self.readings += len(placed.readings)
        if opened:
            self.fresh |= placed.received_since(Instant(now - FRESH))
            log.info("alarms opened", alarms=opened)
        if recovered:
            log.info("alarms recovered", alarms=recovered)
        self._mirror()
        return True

    def _settle(
        self, entries: Mapping[Shard, list[LogEntry]], placed: PlacedReadings, now: Instant
    ) -> tuple[list[AlarmId], list[AlarmId]]:
        """Take a chunk from its readings to the alarms, stage by stage; return the opened and the recovered ones.

        The stages between `load` and `save` see no session.
        """
        with self._records.write_much() as tx:
            self._move(tx, {shard: (of_shard[-1].n, of_shard[-1].batch) for shard, of_shard in entries.items()})
            self._zones.refresh(tx)
            if device_revision.current(tx) != self._directory.revision:
                # Whose the readings are was looked up before: those of a probe that has come since would be passed by.
                msg = f"devices, revision {device_revision.current(tx)}"
                raise CacheOutdated(msg)
            placed.unplaced.write(tx)
            opened: list[AlarmId] = []
            recovered: list[AlarmId] = []
            begun_anew = 0
            left: Sequence[PlacedReading] = placed.readings
            while left:
                probes = load(tx, places_of(left))
                late_marks, left = update_live_states(probes, left, self._zones, now)
                condition_changes = condition_changes_of(probes, self._zones, now)
                save(tx, probes, self._zones, now)
                late_marks.write(tx, now)
                changed = settle(tx, self._zones, self._outbox, condition_changes, now)
                opened += changed[0]
                recovered += changed[1]
                begun_anew += sum(bool(probe.unreadable) for probe in probes.values())
        self.begun_anew += begun_anew
        return opened, recovered

    def has_reached(self, heads: Mapping[Shard, int]) -> bool:
        """Return whether this worker's shards were followed as far as `heads`."""
        ours = ((shard, n) for shard, n in heads.items() if self._first <= shard <= self._last)
        return all(self._positions.get(shard, 0) >= n for shard, n in ours)

    def behind(self) -> bool:
        """Return whether a shard of this worker has entries that weren't followed. Cheap: reads the log only."""
        return not self.has_reached(self._log.heads())

    def mirror(self) -> None:
        """Copy the cursors to the log, so that it can be pruned."""
        moved = {shard: n for shard, n in self._positions.items() if self._mirrored.get(shard) != n}
        if moved:
            self._log.move_cursor(READER, moved)
            self._mirrored.update(moved)
        self._mirror_at = monotonic() + MIRROR_EVERY_S

    def _mirror(self) -> None:
        if monotonic() >= self._mirror_at:
            self.mirror()

    def _next(self) -> dict[Shard, list[LogEntry]]:
        """Return the next entries of all shards, about a chunk in total."""
        heads = {shard: head for shard, head in self._log.heads().items() if self._first <= shard <= self._last}
        for shard, n in self._positions.items():
            if self._first <= shard <= self._last and n > heads.get(shard, 0):
                raise Misaligned([MisplacedCursor(READER, shard, CursorFault.BEYOND_HEAD, n, n, heads.get(shard, 0))])
        return self._ahead.next(self._positions, heads, self._chunk)

    def _mark_newly_placed(self, now: Instant) -> None:
        """Mark skipped readings of probes that have a place now for evaluation."""
        with self._records.read() as tx:
            noted = [span for span in unplaced_readings.spans(tx) if self._first <= shard_of(span.gw) <= self._last]
        placed = []
        for span in noted:
            for at in (span.until, span.since):
                place = self._directory.allot(span.gw, span.code, "t", at)
                if isinstance(place, Place):
                    placed.append((span, place.series))
                    break
        if placed:
            with self._records.write() as tx:
                unplaced_readings.mark(tx, placed, now)
            log.info("readings that were passed by are marked", probes=[span.code for span, _ in placed])

    def _pass_pruned(self) -> None:
        """Move the cursors over what was pruned up to the head: the records were restored to an older state."""
        if not self.behind():
            return
        heads, pruned = self._log.heads(), self._log.pruned()
        moved = {
            shard: head
            for shard, head in heads.items()
            if self._first <= shard <= self._last and self._positions.get(shard, 0) < head <= pruned.get(shard, 0)
        }
        if moved:
            with self._records.write_much() as tx:
                self._move(tx, {shard: (head, None) for shard, head in moved.items()})
            self._positions.update(moved)
            log.warning("entries that were pruned are passed", shards=len(moved))

    def _move(self, tx: Session, moved: Mapping[Shard, tuple[int, IntakeBatch | None]]) -> None:
        """Move the cursors, before anything else: a second process on the same shard fails here, with nothing done.

        Known rows are locked in the order of shards; of two processes that insert a shard's first row one fails.
        """
        asked = select(FollowCursor.shard, FollowCursor.position).where(FollowCursor.shard.in_(sorted(moved)))
        found = {row[0]: row[1] for row in tx.execute(asked.order_by(FollowCursor.shard).with_for_update())}
        for shard in moved:
            if found.get(shard) != self._positions.get(shard):
                msg = f"shard {shard} was followed beyond {self._positions.get(shard, 0)} by another process"
                raise Overtaken(msg)
        rows = [
            {"shard": shard, "position": n, "mark": mark(self._log_name, batch)}
            for shard, (n, batch) in sorted(moved.items())
        ]
        upsert(tx, FollowCursor, [row for row in rows if row["shard"] in found])
        if new := [row for row in rows if row["shard"] not in found]:
            try:
                tx.execute(insert(FollowCursor), new)
            except IntegrityError as error:
                msg = "a shard that nobody had followed was followed by another process"
                raise Overtaken(msg) from error


def positions(tx: Session) -> dict[Shard, int]:
    """Return how far every shard was followed, by whichever worker."""
    return {Shard(row.shard): row.position for row in tx.scalars(select(FollowCursor))}


def shards_behind(tx: Session, intake: IntakeLog) -> set[Shard]:
    """Return the shards, of any worker, whose log goes further than alerting has followed."""
    known = positions(tx)
    return {shard for shard, n in intake.heads().items() if n > known.get(shard, 0)}
