"""Claim of outbox rows: due rows, leased so that no other worker can send them.

A claimed row falls due again when its lease ends, so one index finds waiting, backed-off and abandoned rows alike.
"""

import secrets
from collections.abc import Sequence
from hashlib import sha256

import msgspec
from sqlalchemy import ColumnElement, and_, select, update
from sqlalchemy.orm import Session

from alerting.delivering.channels.port import OutgoingMessage, Recipient
from alerting.delivering.outdated_messages import SiblingMessage
from core.alarms.states import MessageState
from core.alarms.tables import OutboxMessage
from core.ids import AlarmId, PersonId
from core.runtime.clock import real_now
from core.runtime.instant import Instant
from core.units.tables import Person


class ClaimedMessage(msgspec.Struct, frozen=True):
    """Outbox row that this worker holds until `lease_until` (real time)."""

    id: int
    lease: str
    lease_until: Instant
    alarm: AlarmId | None
    cycle: int
    person: PersonId
    channel: str
    address: str
    as_sibling: SiblingMessage
    message: OutgoingMessage
    recipient: Recipient
    unreachable: bool
    """Whether the person was marked so at the claim."""


class WorkerLease:
    """Generator of a worker's leases. They share a prefix, so that the next process recognises those of the last."""

    def __init__(self, worker: str) -> None:
        self._prefix = sha256(worker.encode()).hexdigest()[:12]

    def fresh(self) -> str:
        """Return a new, unique lease."""
        return self._prefix + secrets.token_hex(10)

    def free_last_life(self, tx: Session) -> None:
        """Make due the rows that this worker held before it died; only when no other process has its name."""
        held = and_(OutboxMessage.state == MessageState.QUEUED, OutboxMessage.lease.startswith(self._prefix))
        tx.execute(update(OutboxMessage).where(held).values(lease=None, lease_until=None, next_at=real_now()))


def is_due(channels: Sequence[str]) -> ColumnElement[bool]:
    """Return the condition of rows that could be sent on one of `channels` now."""
    return and_(
        OutboxMessage.state == MessageState.QUEUED,
        OutboxMessage.next_at <= real_now(),
        OutboxMessage.channel.in_(channels),
    )


def due_exists(tx: Session, channels: Sequence[str]) -> bool:
    """Return whether any row is due on one of `channels`."""
    return bool(channels) and tx.scalar(select(OutboxMessage.id).where(is_due(channels)).limit(1)) is not None


def claim_messages(
    tx: Session, lease: str, channels: Sequence[str], *, limit: int, lease_ms: int
) -> list[ClaimedMessage]:
    """Lease up to `limit` due rows, oldest first; skip rows that another worker is claiming.

    On PostgreSQL by SKIP LOCKED; on SQLite `tx` is the only writer.
    """
    due = (
        select(OutboxMessage.id).where(is_due(channels)).order_by(OutboxMessage.next_at, OutboxMessage.id).limit(limit)
    )
    ids = tx.scalars(due.with_for_update(skip_locked=True)).all()
    if not ids:
        return []
    until = Instant(real_now() + lease_ms)
    leased = {"lease": lease, "lease_until": until, "next_at": until, "attempts": OutboxMessage.attempts + 1}
    tx.execute(update(OutboxMessage).where(OutboxMessage.id.in_(ids)).values(leased))
    with_person = (
        select(OutboxMessage, Person)
        .join(Person, Person.id == OutboxMessage.person_id)
        .where(OutboxMessage.id.in_(ids))
    )
    rows = tx.execute(with_person.order_by(OutboxMessage.id), execution_options={"populate_existing": True})
    return [_claimed(row, person, lease, until) for row, person in rows]


def _claimed(row: OutboxMessage, person: Person, lease: str, until: Instant) -> ClaimedMessage:
    return ClaimedMessage(
        id=row.id,
        lease=lease,
        lease_until=until,
        alarm=row.alarm_id,
        cycle=row.cycle,
        person=row.person_id,
        channel=row.channel,
        address=row.address,
        as_sibling=SiblingMessage(row.key, row.kind, row.tier, row.state, row.attempts, row.lease_until),
        message=OutgoingMessage(row.key, row.kind, row.body),
        recipient=Recipient(person.openid, person.phone),
        unreachable=person.unreachable_since is not None,
    )
