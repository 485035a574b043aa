"""Watchdog of alerting: overdue steps, unsent messages, a log that isn't followed.

It runs on the scheduler's thread, so that it also notices a hanging engine. Its findings are sent to level 1 of the top
units and stored in the row of its tick (for readiness and metrics). While there are findings the dead-man's ping isn't
sent: the other end notices the missing ping, whatever has stopped here.
"""

import time
import urllib.request
from collections.abc import Collection, Sequence
from http.client import HTTPException

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from alerting import periodic_jobs
from alerting.following.follower import positions
from core.alarms.message_text import OpsFacts
from core.alarms.outbox import MessageDraft, OutboxWriter
from core.alarms.states import AttemptOutcome, MessageState, NotificationKind, StepState
from core.alarms.tables import AlarmStep, DeliveryAttempt, OutboxMessage, PeriodicJob
from core.contacts.contacts import ContactLevel
from core.db.engine import Records
from core.intake.port import IntakeLog
from core.runtime.clock import Clock, monotonic, real_now
from core.runtime.instant import HOUR, MINUTE, Instant, Milliseconds
from core.runtime.logs import logger
from core.units.tables import Contact, Person, Unit

log = logger(__name__)

TICK = "audit"
EVERY = MINUTE
OVERDUE = MINUTE
STUCK = Milliseconds(5 * MINUTE)
"""A lease that ended so long ago (real time) was abandoned by all workers."""
UNSENT = Milliseconds(5 * MINUTE)
"""A message that has waited so long in the outbox (system's clock) is late."""
LASTING_S = 45.0
"""Real seconds for which messages must have been late: retries run in real time, and five minutes may be a moment of a
fast clock. Less than a minute, so that the second check on the machine's own clock reports it."""
AWAY = Milliseconds(5 * MINUTE)
PING_TIMEOUT_S = 5.0
CONFIRM_S = 2.0
"""Real seconds after which a finding must still hold: on a fast clock a moment's work looks late."""


class WatchdogFinding(msgspec.Struct, frozen=True):
    """Failure of alerting. `trouble` is a key of the message catalogue."""

    trouble: str
    count: int
    since: Instant


class Watchdog:
    """Check once a minute of the clock, done by one of all workers."""

    def __init__(
        self,
        records: Records,
        intake: IntakeLog,
        outbox: OutboxWriter,
        clock: Clock,
        *,
        channels: Collection[str],
        dead_man_url: str,
        confirm_s: float = CONFIRM_S,
        lasting_s: float = LASTING_S,
    ) -> None:
        """`channels`: the configured ones. Messages for other channels wait on purpose (AL-15)."""
        self._channels = channels
        self._confirm_s = confirm_s
        self._lasting_s = lasting_s
        self._unsent_since: float | None = None
        self._records = records
        self._log = intake
        self._outbox = outbox
        self._clock = clock
        self._dead_man_url = dead_man_url
        self.findings: Sequence[WatchdogFinding] = ()
        """Findings of the last check."""

    def run(self) -> bool:
        """Check if it is due; return whether this worker had the run."""
        now = self._clock.now()
        with self._records.read() as tx:
            if not periodic_jobs.is_due(tx, TICK, now):
                return False
        with self._records.write() as tx:
            run = periodic_jobs.claim_job(tx, TICK, EVERY, now)
        if run is None:
            return False
        last = run.last
        if last is None or now - last > AWAY:
            # After own downtime: the steps that fell due meanwhile are being done right now.
            return True
        self.findings = self._check(last, now)
        if self.findings:
            time.sleep(self._confirm_s)
            self.findings = self._check(last, now)
        if self.findings:
            self._tell(now)
        else:
            self._ping()
        return True

    def _check(self, last: Instant, now: Instant) -> list[WatchdogFinding]:
        with self._records.read() as tx:
            return [
                *_overdue_steps(tx, last, now),
                *_stuck_leases(tx, now),
                *self._unsent(tx, now),
                *_refused(tx, self._channels, now),
                *self._unfollowed(tx, now),
            ]

    def _unsent(self, tx: Session, now: Instant) -> list[WatchdogFinding]:
        """Return messages that no channel takes, such as those of a blocked account.

        Messages about alerting itself don't count: a report of a finding must not prolong it.
        """
        late = (
            OutboxMessage.state == MessageState.QUEUED,
            OutboxMessage.kind != NotificationKind.OPS,
            OutboxMessage.channel.in_(self._channels),
            OutboxMessage.created_at < now - UNSENT,
        )
        count, since = tx.execute(select(func.count(), func.min(OutboxMessage.created_at)).where(*late)).one()
        if not count:
            self._unsent_since = None
            return []
        if self._unsent_since is None:
            self._unsent_since = monotonic()
        is_lasting = monotonic() - self._unsent_since >= self._lasting_s
        return [WatchdogFinding("outbox_behind", count, since)] if is_lasting else []

    def _unfollowed(self, tx: Session, now: Instant) -> list[WatchdogFinding]:
        followed = positions(tx)
        overdue = []
        for shard in self._log.shards():
            entries = self._log.entries_after(shard, followed.get(shard, 0), 1)
            overdue += [entry.batch.received for entry in entries if now - entry.batch.received > OVERDUE]
        return [WatchdogFinding("log_behind", len(overdue), min(overdue))] if overdue else []

    def _tell(self, now: Instant) -> None:
        summary = ", ".join(f"{finding.trouble} {finding.count}" for finding in self.findings)
        log.error("alerting is not well", findings=summary)
        with self._records.write() as tx:
            tx.get_one(PeriodicJob, TICK).detail = summary
            drafts = [
                MessageDraft(
                    kind=NotificationKind.OPS,
                    facts=OpsFacts(
                        unit=unit.name,
                        timezone=unit.timezone,
                        subject="coldchain",
                        trouble=finding.trouble,
                        since=finding.since,
                    ),
                    person=person.id,
                    openid=person.openid,
                    tier=1,
                    # One message an hour as long as it lasts.
                    about=f"ops-{finding.trouble}-{now // HOUR}",
                )
                for unit, person in _top_managers(tx)
                for finding in self.findings
            ]
            self._outbox.queue(tx, drafts, now)

    def _ping(self) -> None:
        with self._records.write() as tx:
            tx.get_one(PeriodicJob, TICK).detail = ""
        if not self._dead_man_url:
            return
        try:
            with urllib.request.urlopen(self._dead_man_url, timeout=PING_TIMEOUT_S):  # noqa: S310  # the operator's own setting
                pass
        except (HTTPException, OSError, ValueError) as error:
            # Not its text, which may have the address: with it anybody could send the ping.
            log.warning("dead-man's ping not taken", problem=str(getattr(error, "reason", type(error).__name__)))


def _overdue_steps(tx: Session, last: Instant, now: Instant) -> list[WatchdogFinding]:
    """Return steps that were due at the last check already; a step of the clock makes others due all at once."""
    due_by = min(last, now - OVERDUE)
    count, since = tx.execute(
        select(func.count(), func.min(AlarmStep.due_at)).where(
            AlarmStep.state == StepState.DUE, AlarmStep.due_at <= due_by
        )
    ).one()
    return [WatchdogFinding("step_overdue", count, since)] if count else []


def _stuck_leases(tx: Session, now: Instant) -> list[WatchdogFinding]:
    ended = Instant(real_now() - STUCK)
    stuck = select(func.count()).where(OutboxMessage.state == MessageState.QUEUED, OutboxMessage.lease_until <= ended)
    count = tx.scalar(stuck) or 0
    return [WatchdogFinding("lease_stuck", count, Instant(now - STUCK))] if count else []


def _refused(tx: Session, channels: Collection[str], now: Instant) -> list[WatchdogFinding]:
    """Return messages refused within the last hour, except to unreachable people: the unit's page shows those.

    `next_at` is when the lease would have ended, in real time. It only saves the query from reading every message that
    ever failed, since no clock is slower than the real one.
    """
    refused = (
        OutboxMessage.state == MessageState.FAILED,
        OutboxMessage.kind != NotificationKind.OPS,
        OutboxMessage.channel.in_(channels),
        OutboxMessage.next_at > real_now() - HOUR,
        DeliveryAttempt.outcome == AttemptOutcome.REFUSED,
        DeliveryAttempt.at > now - HOUR,
        Person.unreachable_since.is_(None),
    )
    count, since = tx.execute(
        select(func.count(OutboxMessage.id.distinct()), func.min(DeliveryAttempt.at))
        .join(DeliveryAttempt, DeliveryAttempt.outbox_id == OutboxMessage.id)
        .join(Person, Person.id == OutboxMessage.person_id)
        .where(*refused)
    ).one()
    return [WatchdogFinding("messages_failed", count, since)] if count else []


def _top_managers(tx: Session) -> list[tuple[Unit, Person]]:
    rows = tx.execute(
        select(Unit, Person)
        .join(Contact, Contact.unit_id == Unit.id)
        .join(Person, Person.id == Contact.person_id)
        .where(Unit.parent_id.is_(None), Contact.level == ContactLevel.VACCINE_MANAGER)
    )
    return [(unit, person) for unit, person in rows]
