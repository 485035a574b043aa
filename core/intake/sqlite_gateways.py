"""SQL of the SQLite log for what it keeps of each gateway: dead letters, faults, quarantine, its clock."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from core.intake import dead_letter_limits, row_codec
from core.intake.port import DeadLetter, GatewayClock, GatewayFault, GatewayFaultKind, QuarantineBacklog
from core.intake.quarantine_limits import Excess
from core.intake.states import UNREAD
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber
from core.wire.topics import sender_of


def keep(db: sqlite3.Connection, letters: Sequence[DeadLetter]) -> None:
    """Keep dead letters: the newest of each gateway, and of all."""
    if not letters:
        return
    kept = [(sender_of(one.topic), one) for one in letters]
    db.executemany(
        "INSERT INTO dead_letter (gw, at, topic, reason, body) VALUES (?, ?, ?, ?, ?)",
        [(gw, one.at, one.topic, one.reason, one.body[: dead_letter_limits.LARGEST_BYTES]) for gw, one in kept],
    )
    db.executemany(
        "DELETE FROM dead_letter WHERE gw = ?1 AND id <="
        " (SELECT id FROM dead_letter WHERE gw = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        [(gw, dead_letter_limits.MOST_OF_A_GATEWAY) for gw in {gw for gw, _ in kept}],
    )
    db.execute(
        "DELETE FROM dead_letter WHERE id <= (SELECT id FROM dead_letter ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (dead_letter_limits.MOST_IN_ALL,),
    )


def count(db: sqlite3.Connection, faults: Iterable[row_codec.FaultRow]) -> None:
    """Add to the faults of gateways."""
    db.executemany(
        "INSERT INTO gateway_fault (gw, kind, n, first, last, detail) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (gw, kind) DO UPDATE SET n = n + excluded.n, last = excluded.last, detail = excluded.detail",
        faults,
    )


def faults(db: sqlite3.Connection) -> list[GatewayFault]:
    """Return what was counted."""
    found = db.execute("SELECT gw, kind, n, first, last, detail FROM gateway_fault ORDER BY gw, kind")
    return [GatewayFault(gw, GatewayFaultKind(kind), *rest) for gw, kind, *rest in found]


def backlogs(db: sqlite3.Connection, least: int) -> list[QuarantineBacklog]:
    """Return the gateways with at least so many readings in quarantine."""
    found = db.execute(
        "SELECT gw, count(*) AS readings, min(since), max(since) FROM held WHERE state = 'held'"
        " GROUP BY gw HAVING readings >= ? ORDER BY readings DESC, gw",
        (least,),
    )
    return [QuarantineBacklog(*row) for row in found]


def drop(db: sqlite3.Connection, excess: Excess, part: int, now: Instant) -> int:
    """Drop up to `part` of what is too much in quarantine, the oldest first; returns how many."""
    gone = db.execute(
        "DELETE FROM held WHERE id IN (SELECT id FROM held WHERE state = 'held' AND gw = ? AND since < ?"
        " ORDER BY since, id LIMIT ?) RETURNING gw, reason",
        (excess.gw, excess.before, part),
    ).fetchall()
    count(db, row_codec.dropped(gone, excess.why, now))
    return len(gone)


def end_as_released(db: sqlite3.Connection, ids: Sequence[int], now: Instant) -> list[row_codec.Released]:
    """End the quarantine of what may be released, and return it; what is UNREAD or damaged stays."""
    query = (
        "SELECT shard, gw, ep, boot, seq, reading FROM held WHERE id = ? AND state = 'held' AND reason NOT IN (?, ?)"
    )
    ended = {}
    for id_ in ids:
        row = db.execute(query, (id_, *UNREAD)).fetchone()
        if row and row_codec.is_sound(*row[1:]):
            ended[id_] = row
    db.executemany("UPDATE held SET state = 'released', ended = ? WHERE id = ?", [(now, id_) for id_ in ended])
    return list(ended.values())


def held_after(db: sqlite3.Connection, last: int, limit: int) -> list[row_codec.HeldRow]:
    """Return rows of quarantine behind one."""
    query = "SELECT id, gw, ep, boot, seq, reading FROM held WHERE id > ? ORDER BY id LIMIT ?"
    return db.execute(query, (last, limit)).fetchall()


def clocks(db: sqlite3.Connection) -> dict[GatewayNumber, GatewayClock]:
    """Return the clocks that run behind."""
    found = db.execute("SELECT gw, boot, behind, since FROM gateway_clock")
    return {gw: GatewayClock(boot, Milliseconds(behind), Instant(since)) for gw, boot, behind, since in found}


def note_clocks(db: sqlite3.Connection, found: Mapping[GatewayNumber, GatewayClock]) -> None:
    """Keep what was found of clocks."""
    db.executemany("DELETE FROM gateway_clock WHERE gw = ?", [(gw,) for gw in found])
    db.executemany(
        "INSERT INTO gateway_clock (gw, boot, behind, since) VALUES (?, ?, ?, ?)",
        [(gw, one.boot, one.behind, one.since) for gw, one in found.items() if one.behind],
    )
