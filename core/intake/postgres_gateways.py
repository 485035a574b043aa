"""SQL of the PostgreSQL log for what it keeps of each gateway: dead letters, faults, quarantine, its clock."""

from collections.abc import Mapping, Sequence

from core.intake import dead_letter_limits, row_codec
from core.intake.port import (
    DeadLetter,
    GatewayClock,
    GatewayFault,
    GatewayFaultKind,
    QuarantineBacklog,
    QuarantinedReading,
)
from core.intake.postgres_append import text
from core.intake.postgres_server import Db
from core.intake.quarantine_limits import Excess
from core.intake.states import UNREAD
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber
from core.wire.topics import sender_of


def keep(db: Db, letters: Sequence[DeadLetter]) -> None:
    """Keep dead letters: the newest of each gateway, and of all."""
    if not letters:
        return
    kept = [(sender_of(one.topic), one) for one in letters]
    cursor = db.cursor()
    cursor.executemany(
        "INSERT INTO intake.dead_letter (gw, at, topic, reason, body) VALUES (%s, %s, %s, %s, %s)",
        [
            (gw, one.at, text(one.topic), text(one.reason), one.body[: dead_letter_limits.LARGEST_BYTES])
            for gw, one in kept
        ],
    )
    cursor.execute(
        "DELETE FROM intake.dead_letter WHERE id IN (SELECT old.id FROM unnest(%s::text[]) AS k (gw) CROSS JOIN LATERAL"
        " (SELECT id FROM intake.dead_letter WHERE gw = k.gw ORDER BY id DESC OFFSET %s) AS old)",
        (sorted({gw for gw, _ in kept}), dead_letter_limits.MOST_OF_A_GATEWAY),
    )
    cursor.execute(
        "DELETE FROM intake.dead_letter WHERE id <="
        " (SELECT id FROM intake.dead_letter ORDER BY id DESC OFFSET %s LIMIT 1)",
        (dead_letter_limits.MOST_IN_ALL,),
    )


def count(db: Db, faults: Sequence[row_codec.FaultRow]) -> None:
    """Add to the faults of gateways."""
    if faults:
        db.cursor().executemany(
            "INSERT INTO intake.gateway_fault AS kept (gw, kind, n, first, last, detail)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (gw, kind) DO UPDATE"
            " SET n = kept.n + excluded.n, last = excluded.last, detail = excluded.detail",
            [(*rest, text(detail)) for *rest, detail in faults],
        )


def faults(db: Db) -> list[GatewayFault]:
    """Return what was counted."""
    found = db.execute("SELECT gw, kind, n, first, last, detail FROM intake.gateway_fault ORDER BY gw, kind")
    return [GatewayFault(gw, GatewayFaultKind(kind), *rest) for gw, kind, *rest in found]


def backlogs(db: Db, least: int) -> list[QuarantineBacklog]:
    """Return the gateways with at least so many readings in quarantine."""
    found = db.execute(
        "SELECT gw, count(*) AS readings, min(since), max(since) FROM intake.held WHERE state = 'held'"
        " GROUP BY gw HAVING count(*) >= %s ORDER BY readings DESC, gw",
        (least,),
    )
    return [QuarantineBacklog(*row) for row in found]


def drop(db: Db, excess: Excess, part: int, now: Instant) -> int:
    """Drop up to `part` of what is too much in quarantine, the oldest first; returns how many."""
    gone = db.execute(
        "DELETE FROM intake.held WHERE id = ANY(ARRAY(SELECT id FROM intake.held WHERE state = 'held' AND gw = %s"
        " AND since < %s ORDER BY since, id LIMIT %s)) AND state = 'held' RETURNING gw, reason",
        (excess.gw, excess.before, part),
    ).fetchall()
    count(db, row_codec.dropped([(gw, reason) for gw, reason in gone], excess.why, now))
    return len(gone)


def held(db: Db, criteria: Mapping[str, str | None], after: int, limit: int) -> list[QuarantinedReading]:
    """Return what is in quarantine behind one, by columns that have a value."""
    given = {name: value for name, value in criteria.items() if value is not None}
    where = " AND ".join(f"{name} = %({name})s" for name in given)
    found = db.execute(
        f"SELECT {row_codec.HELD_COLUMNS} FROM intake.held"  # noqa: S608 (names are ours)
        f" WHERE {where} AND id > %(after)s ORDER BY id LIMIT %(limit)s",
        {**given, "after": after, "limit": limit},
    ).fetchall()
    return [row_codec.unpack_held(row) for row in found]


def end_as_released(db: Db, ids: Sequence[int], now: Instant) -> list[row_codec.Released]:
    """End the quarantine of what may be released, and return it; what is UNREAD or damaged stays."""
    found = db.execute(
        "SELECT shard, gw, ep, boot, seq, reading, id FROM intake.held WHERE id = ANY(%s) AND state = 'held'"
        " AND reason <> ALL(%s) ORDER BY id FOR UPDATE",
        (list(ids), list(UNREAD)),
    ).fetchall()
    ended = {row[-1]: row[:-1] for row in found if row_codec.is_sound(*row[1:-1])}
    db.execute("UPDATE intake.held SET state = 'released', ended = %s WHERE id = ANY(%s)", (now, list(ended)))
    return list(ended.values())


def clocks(db: Db) -> dict[GatewayNumber, GatewayClock]:
    """Return the clocks that run behind."""
    found = db.execute("SELECT gw, boot, behind, since FROM intake.gateway_clock")
    return {gw: GatewayClock(boot, Milliseconds(behind), Instant(since)) for gw, boot, behind, since in found}


def note_clocks(db: Db, found: Mapping[GatewayNumber, GatewayClock]) -> None:
    """Keep what was found of clocks."""
    db.execute("DELETE FROM intake.gateway_clock WHERE gw = ANY(%s)", (list(found),))
    db.cursor().executemany(
        "INSERT INTO intake.gateway_clock (gw, boot, behind, since) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT (gw) DO UPDATE SET boot = excluded.boot, behind = excluded.behind, since = excluded.since",
        [(gw, one.boot, one.behind, one.since) for gw, one in found.items() if one.behind],
    )
