"""Realignment of the intake log's cursors after a store was put back, emptied or made anew.

A plan is made from the stores, shown, and carried out. Made again after it was carried out in part, it has the steps
that are left. No stored reading is changed. Reading an entry twice changes nothing: telemetry keeps one value for an
instant of a series, and the log knows what it has.

* A cursor that doesn't fit the log goes to the copy that the log has of it: when that was written, this log was the one
  that was followed. Without a copy it goes to the beginning.
* Of a store that was put back the cursor stays, and the copy follows it.
* Entries that the log has lost count as pruned, so that readers pass them.
* Numbers seen of a gateway that are damaged are made again from its entries.
* New series get numbers above all that telemetry has readings of.
* The log gets a new name, so that an older copy of it is known as such from now on.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy.orm import Session

from core.alarms import late_spans, unplaced_readings
from core.alarms.tables import FollowCursor
from core.db.engine import Records
from core.db.insert import upsert
from core.devices.series_numbers import raise_series_above
from core.figures.tables import RollupCursor
from core.health.cursor_alignment import STORE_OF, CursorFault, MisplacedCursor, of_records, of_telemetry
from core.intake.port import EntryGap, IntakeLog, Life
from core.telemetry.port import Telemetry
from core.wire.shards import Shard

_TABLES: Mapping[str, type[FollowCursor | RollupCursor]] = {"alerting": FollowCursor, "rollups": RollupCursor}


class CursorMove(msgspec.Struct, frozen=True):
    """Where the cursor of one reader and shard goes."""

    found: MisplacedCursor
    to: int
    again: int
    """Entries of the log behind that, which the reader will follow, most of them for the second time."""
    gone: int
    """Entries that the reader has not followed, as far as is known, and that are no longer in the log."""


class RealignPlan(msgspec.Struct, frozen=True):
    """Steps of a realignment."""

    placings: list[CursorMove]
    highest_series: int
    """In telemetry: new ones get higher numbers."""
    gaps: list[EntryGap]
    """Entries that the log has lost, whether or not a reader still needs them."""
    damaged_lives: list[Life]
    """Lives of gateways of which the numbers seen are damaged."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is out of place."""
        return not (self.placings or self.gaps or self.damaged_lives)


def plan(log: IntakeLog, records: Records, telemetry: Telemetry) -> RealignPlan:
    """Make a plan from the stores; raises what they raise."""
    found = [*of_telemetry(log, telemetry), *of_records(log, records)]
    gaps = log.gaps()
    return RealignPlan(placings(found, log.firsts(), gaps), telemetry.highest_series(), gaps, log.damaged_lives())


def placings(
    found: Sequence[MisplacedCursor], firsts: Mapping[Shard, int], gaps: Sequence[EntryGap] = ()
) -> list[CursorMove]:
    """Return where cursors go; `firsts` are the first positions that the log still has, `gaps` what it has lost."""
    known_end: dict[Shard, int] = defaultdict(int)
    for each in found:
        known_end[each.shard] = max(known_end[each.shard], each.position)
    return [
        _of_incomplete_log(each, gaps)
        if each.fault is CursorFault.ENTRIES_MISSING
        else _placing(each, firsts.get(each.shard, each.head + 1), known_end[each.shard])
        for each in found
    ]


def carry_out(made: RealignPlan, log: IntakeLog, records: Records, telemetry: Telemetry) -> None:
    """Carry out a plan. Each step is durable by itself. Copies come last: they tell what is left to do."""
    log.rename()
    log.accept_gaps(made.gaps)
    for life in made.damaged_lives:
        log.rebuild_numbers_seen(life)
    with records.write() as tx:
        raise_series_above(tx, made.highest_series)
    for reader, store in STORE_OF.items():
        placings_of_reader = [placing for placing in made.placings if placing.found.reader == reader]
        to = {placing.found.shard: placing.to for placing in placings_of_reader}
        moved = {
            placing.found.shard: placing.to
            for placing in placings_of_reader
            if placing.found.fault not in (CursorFault.PUT_BACK, CursorFault.ENTRIES_MISSING)
        }
        marks = log.marks(moved)
        if moved and store == "telemetry":
            cursor = {**telemetry.cursor(), **{shard: (n, marks[shard]) for shard, n in moved.items()}}
            telemetry.place_cursor(
                {shard: n for shard, (n, _) in cursor.items()}, {shard: mark for shard, (_, mark) in cursor.items()}
            )
        elif moved:
            with records.write() as tx:
                _place(tx, _TABLES[reader], moved, marks)
                late_spans.forget_positions(tx)
                unplaced_readings.forget_positions(tx)
        if to:
            log.place_cursor(reader, {**log.cursor(reader), **to})


def _placing(found: MisplacedCursor, first: int, known_end: int) -> CursorMove:
    if found.fault is CursorFault.PUT_BACK:
        gone = max(0, min(first, found.head + 1) - found.position - 1)
        return CursorMove(found, found.position, found.head - found.position - gone, gone)
    to = min(found.copy, found.head)
    return CursorMove(found, to, found.head - to, max(0, known_end - found.position))


def _of_incomplete_log(found: MisplacedCursor, gaps: Sequence[EntryGap]) -> CursorMove:
    gone = sum(max(0, gap.last - max(gap.first - 1, found.position)) for gap in gaps if gap.shard == found.shard)
    return CursorMove(found, found.position, found.head - found.position - gone, gone)


def _place(
    tx: Session, table: type[FollowCursor | RollupCursor], moved: Mapping[Shard, int], marks: Mapping[Shard, str]
) -> None:
    upsert(tx, table, [{"shard": shard, "position": n, "mark": marks[shard]} for shard, n in moved.items()])
