"""Which worker does a piece of housekeeping that is due: the one that claims its row."""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms.tables import Tick
from core.db.insert import insert_missing
from core.runtime.instant import Instant, Milliseconds


class Claim(msgspec.Struct, frozen=True):
    """A turn that is ours, and when the last one was."""

    last: Instant | None


def claim(tx: Session, name: str, every: Milliseconds, now: Instant) -> Claim | None:
    """Take the turn of a tick if it is due and nobody else is taking it; the next is due `every` later.

    Turns that were missed are not made up for.
    """
    insert_missing(tx, Tick, [{"name": name, "due_at": now}])
    due = select(Tick).where(Tick.name == name, Tick.due_at <= now).with_for_update(skip_locked=True)
    row = tx.scalar(due)
    if row is None:
        return None
    last = row.ran_at
    row.ran_at, row.due_at = now, Instant(now + every)
    return Claim(last)


def is_due(tx: Session, name: str, now: Instant) -> bool:
    """Return whether a turn might be had: asked first, so that looking costs no writing transaction."""
    due_at = next_due(tx, name)
    return due_at is None or due_at <= now


def next_due(tx: Session, name: str) -> Instant | None:
    """Return when the next turn is due; None when there never was one."""
    return tx.scalar(select(Tick.due_at).where(Tick.name == name))
