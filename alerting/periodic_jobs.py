"""Periodic jobs of alerting, each run done by one worker, which claims the job's row."""

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms.tables import PeriodicJob
from core.db.insert import insert_missing
from core.runtime.instant import Instant, Milliseconds


class ClaimedJob(msgspec.Struct, frozen=True):
    """Run of a tick that this worker has claimed, with the time of the run before."""

    last: Instant | None


def claim_job(tx: Session, name: str, every: Milliseconds, now: Instant) -> ClaimedJob | None:
    """Claim a tick's run if it is due and no other worker has it; the next is due `every` later.

    Missed runs are not made up for.
    """
    insert_missing(tx, PeriodicJob, [{"name": name, "due_at": now}])
    due = (
        select(PeriodicJob).where(PeriodicJob.name == name, PeriodicJob.due_at <= now).with_for_update(skip_locked=True)
    )
    row = tx.scalar(due)
    if row is None:
        return None
    last = row.ran_at
    row.ran_at, row.due_at = now, Instant(now + every)
    return ClaimedJob(last)


def is_due(tx: Session, name: str, now: Instant) -> bool:
    """Return whether a run can be claimed; checked first, so that most calls cost no writing transaction."""
    due_at = next_due(tx, name)
    return due_at is None or due_at <= now


def next_due(tx: Session, name: str) -> Instant | None:
    """Return when the next run is due; None when there never was one."""
    return tx.scalar(select(PeriodicJob.due_at).where(PeriodicJob.name == name))
