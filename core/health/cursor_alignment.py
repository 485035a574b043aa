"""Alignment of the intake log with the stores that its readers write: whether each cursor is of this log and within it.

Any store may have been put back to an older state, emptied, or made anew. Positions of a log that begins again are
below the cursors, so readers would skip what is appended there. So whoever appends, follows or prunes looks here first,
and does nothing while a cursor is misplaced; `coldchain realign` mends it (docs/adr/0009).

Each reader's cursor is kept twice: in the store that the reader writes, where it counts, and as a copy in the log,
which is never ahead of it. Read in this order, copies, cursors and heads tell which store was put back.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.alarms.tables import FollowCursor
from core.db.engine import Records
from core.figures.tables import RollupCursor
from core.intake.cursor_marks import read_mark
from core.intake.port import IntakeLog
from core.runtime.clock import real_now
from core.runtime.trouble import Trouble, TroubleKind, kind_of
from core.telemetry.port import Telemetry
from core.wire.shards import Shard

STORE_OF = {"telemetry": "telemetry", "alerting": "records", "rollups": "records"}
"""Where each reader of the log keeps its cursor, by the name of the part."""

CursorMarks = Mapping[Shard, tuple[int, str]]
"""Positions with their marks."""


class CursorFault(StrEnum):
    """Reason why a cursor doesn't fit."""

    OTHER_LOG = "other_log"
    """It is of a log of another name: this one was made anew, or is from before it was realigned."""
    BEYOND_HEAD = "beyond_head"
    """The log ends before it: an older copy."""
    OTHER_ENTRY = "other_entry"
    """Another entry is at its position: an older copy that has grown since."""
    ENTRIES_MISSING = "entries_missing"
    """The next entry is missing, and wasn't pruned: the log was damaged."""
    PUT_BACK = "put_back"
    """The store had come farther, as the copy in the log says: it was put back, emptied or made anew."""


class Misaligned(Exception):
    """A reader can't follow the log: its cursor is misplaced."""

    def __init__(self, found: Sequence["MisplacedCursor"]) -> None:
        super().__init__(f"{found[0]}" + (f", and {len(found) - 1} more" if found[1:] else ""))
        self.part = found[0].part
        """Which part is not what it was."""
        self.kind = found[0].kind


class MisplacedCursor(msgspec.Struct, frozen=True):
    """A cursor that doesn't fit."""

    reader: str
    shard: Shard
    fault: CursorFault
    position: int
    copy: int
    """The position that the log has noted of this reader."""
    head: int

    @property
    def part(self) -> str:
        """Which part is not what it was."""
        return STORE_OF[self.reader] if self.fault is CursorFault.PUT_BACK else "intake log"

    @property
    def kind(self) -> TroubleKind:
        """Kind of trouble that it is."""
        return TroubleKind.INCOMPLETE if self.fault is CursorFault.ENTRIES_MISSING else TroubleKind.PUT_BACK

    def __str__(self) -> str:
        where = f"{self.reader}, shard {self.shard}: at {self.position}"
        return {
            CursorFault.OTHER_LOG: f"{where} of another log",
            CursorFault.BEYOND_HEAD: f"{where}, and the log ends at {self.head}",
            CursorFault.OTHER_ENTRY: f"{where}, where the log has another entry now",
            CursorFault.ENTRIES_MISSING: f"{where}, and the next entries are missing; the log ends at {self.head}",
            CursorFault.PUT_BACK: f"{where}, and had come to {self.copy}",
        }[self.fault]


def of_telemetry(log: IntakeLog, telemetry: Telemetry) -> list[MisplacedCursor]:
    """Return the misplaced cursors of the telemetry store; raises what the stores raise."""
    copy = log.cursor("telemetry")
    return _compared(log, "telemetry", telemetry.cursor(), copy)


def of_records(log: IntakeLog, records: Records) -> list[MisplacedCursor]:
    """Return the misplaced cursors of the records; raises what the stores raise."""
    copies = {reader: log.cursor(reader) for reader, store in STORE_OF.items() if store == "records"}
    try:
        with records.read() as tx:
            cursors = cursors_of_records(tx)
    except SQLAlchemyError as error:
        if kind_of(error) is not TroubleKind.NOT_READY:
            raise
        cursors = {reader: {} for reader in copies}  # they have no tables yet: made anew, or about to be
    return [each for reader, cursor in cursors.items() for each in _compared(log, reader, cursor, copies[reader])]


def of_alerting(log: IntakeLog, records: Records) -> tuple[CursorMarks, list[MisplacedCursor]]:
    """Return alerting's cursor, and where it is misplaced; raises what the stores raise."""
    copy = log.cursor("alerting")
    with records.read() as tx:
        cursor = cursors_of_records(tx)["alerting"]
    return cursor, _compared(log, "alerting", cursor, copy)


def within(shards: tuple[Shard, Shard], found: Iterable[MisplacedCursor]) -> list[MisplacedCursor]:
    """Return the misplaced cursors of a range of shards, its ends included."""
    return [each for each in found if shards[0] <= each.shard <= shards[1]]


def cursors_of_records(tx: Session) -> dict[str, CursorMarks]:
    """Return the cursors that the records keep, by reader."""
    return {"alerting": _cursor_in(tx, FollowCursor), "rollups": _cursor_in(tx, RollupCursor)}


def _compared(log: IntakeLog, reader: str, cursor: CursorMarks, copy: Mapping[Shard, int]) -> list[MisplacedCursor]:
    positions = {shard: n for shard, (n, _) in cursor.items()}
    missing = log.first_missing(positions)
    return faults(reader, cursor, copy, log.names(), log.heads(), log.marks(positions), missing)


def troubles_of(found: Iterable[MisplacedCursor]) -> list[Trouble]:
    """Return one trouble for each part, with its first misplaced cursor."""
    by_part: dict[str, list[MisplacedCursor]] = {}
    for misplaced in found:
        by_part.setdefault(misplaced.part, []).append(misplaced)
    now = real_now()
    return [Trouble(part, those[0].kind, now, detail=str(Misaligned(those))) for part, those in by_part.items()]


def faults(
    reader: str,
    cursor: CursorMarks,
    copy: Mapping[Shard, int],
    names: Sequence[str],
    heads: Mapping[Shard, int],
    marks: Mapping[Shard, str],
    missing: Collection[Shard] = (),
) -> list[MisplacedCursor]:
    """Compare a cursor with a log; `marks` are the log's, at the positions of the cursor.

    `missing` are the shards whose next entry behind the cursor is missing, though it wasn't pruned.

    `copy` was read first, then the cursor, then what the log says: none of them ever goes back.
    """
    found = []
    for shard in sorted({*cursor, *copy, *missing}):
        position, mark = cursor.get(shard, (0, ""))
        fault = _fault(position, mark, names, heads.get(shard, 0), marks.get(shard, ""))
        if fault is None and shard in missing:
            fault = CursorFault.ENTRIES_MISSING
        if fault is None and position < copy.get(shard, 0):
            fault = CursorFault.PUT_BACK
        if fault:
            found.append(MisplacedCursor(reader, shard, fault, position, copy.get(shard, 0), heads.get(shard, 0)))
    return found


def _fault(position: int, mark: str, names: Sequence[str], head: int, here: str) -> CursorFault | None:
    """Return why a cursor isn't of this log, None if it is."""
    named, entry = read_mark(mark), read_mark(here)
    if named and named.log not in names:
        return CursorFault.OTHER_LOG
    if position > head:
        return CursorFault.BEYOND_HEAD
    if named and entry and named.fingerprint and entry.fingerprint not in ("", named.fingerprint):
        return CursorFault.OTHER_ENTRY
    return None


def _cursor_in(tx: Session, table: type[FollowCursor | RollupCursor]) -> CursorMarks:
    rows = tx.execute(select(table.shard, table.position, table.mark))
    return {Shard(shard): (position, mark) for shard, position, mark in rows}
