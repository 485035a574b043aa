"""SQL of the PostgreSQL log for the claims of workers on their shards."""

import msgspec

from core.intake.port import ShardClaim, ShardTaken
from core.intake.postgres_server import Db
from core.runtime.instant import Milliseconds


def claim(db: Db, claimed: ShardClaim, lease: Milliseconds) -> None:
    """Note that a worker lives and what it owns.

    Raises: ShardTaken.
    """
    db.execute("LOCK TABLE intake.claim IN SHARE ROW EXCLUSIVE MODE")  # two that look at once see each other
    other = db.execute(
        "SELECT service, worker, first, last, holder FROM intake.claim"
        " WHERE service = %s AND until > clock_timestamp()"
        " AND (CASE WHEN worker = %s THEN holder <> %s ELSE first <= %s AND last >= %s END)",
        (claimed.service, claimed.worker, claimed.holder, claimed.last, claimed.first),
    ).fetchone()
    if other:
        raise ShardTaken(ShardClaim(*other))
    db.execute(
        "INSERT INTO intake.claim (service, worker, first, last, holder, until)"
        " VALUES (%s, %s, %s, %s, %s, clock_timestamp() + %s * interval '1 ms')"
        " ON CONFLICT (service, worker) DO UPDATE SET first = excluded.first, last = excluded.last,"
        " holder = excluded.holder, until = excluded.until",
        (*msgspec.structs.astuple(claimed), lease),
    )


def give_up(db: Db, claimed: ShardClaim) -> None:
    """End a worker's claim before its time."""
    db.execute(
        "DELETE FROM intake.claim WHERE service = %s AND worker = %s AND holder = %s",
        (claimed.service, claimed.worker, claimed.holder),
    )


def living(db: Db) -> list[ShardClaim]:
    """Return the claims of workers that live."""
    found = db.execute(
        "SELECT service, worker, first, last, holder FROM intake.claim WHERE until > clock_timestamp()"
        " ORDER BY service, first"
    )
    return [ShardClaim(*row) for row in found.fetchall()]
