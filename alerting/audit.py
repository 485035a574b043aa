"""Whether alerting itself does its work: overdue steps, messages that don't leave, a log that isn't followed.

Runs on the scheduler's thread, so that it also sees an engine that hangs. What it finds is told to level 1 of the top
units, stands in the row of its tick for whoever asks (readiness, metrics), and keeps the dead-man's ping from leaving:
the other end notices when that stays away, whatever has stopped here.
"""

import time
import urllib.request
from collections.abc import Collection, Sequence
from http.client import HTTPException

import msgspec
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from alerting import ticks
from alerting.follow import positions
from core.alarms.message import OpsFacts
from core.alarms.post import Draft, Post
from core.alarms.tables import AlarmStep, Attempt, Outbox, Tick
from core.db.engine import Records
from core.intake.port import IntakeLog
from core.runtime.clock import Clock, monotonic, real_now
from core.runtime.instant import HOUR, MINUTE, Instant, Milliseconds
from core.runtime.logs import logger
from core.units.contacts import ContactLevel
from core.units.tables import Contact, Person, Unit

log = logger(__name__)

TICK = "audit"
EVERY = MINUTE
OVERDUE = MINUTE
STUCK = Milliseconds(5 * MINUTE)
"""A lease that ended so long ago, in real time, was abandoned by everybody."""
UNSENT = Milliseconds(5 * MINUTE)
"""Of the system's clock: a message that has waited so long in the outbox is late."""
LASTING_S = 45.0
"""Real seconds that messages must have been late: retries are real time, and five minutes may be a moment of the clock.
Less than a minute, so that the second look on the machine's own clock tells."""
AWAY = Milliseconds(5 * MINUTE)
PING_TIMEOUT_S = 5.0
CONFIRM_S = 2.0
"""Real seconds after which a finding must still be there: to a fast clock a moment's work looks late."""


class Finding(msgspec.Struct, frozen=True):
    """Something that isn't as it should be. `trouble` is a key of the message catalogue."""

    trouble: str
    count: int
    since: Instant


class Audit:
    """Looks once a minute of the clock; one worker of all does."""

    def __init__(
        self,
        records: Records,
        intake: IntakeLog,
        post: Post,
        clock: Clock,
        *,
        channels: Collection[str],
        dead_man_url: str,
        confirm_s: float = CONFIRM_S,
        lasting_s: float = LASTING_S,
    ) -> None:
        """`channels`: those configured. What is queued for others waits on purpose (AL-15)."""
        self._channels = channels
        self._confirm_s = confirm_s
        self._lasting_s = lasting_s
        self._unsent_since: float | None = None
        self._records = records
        self._log = intake
        self._post = post
        self._clock = clock
        self._dead_man_url = dead_man_url
        self.findings: Sequence[Finding] = ()
        """Of the last look."""

    def run(self) -> bool:
        """Take the turn if it is due; returns whether it was ours."""
        now = self._clock.now()
        with self._records.read() as tx:
            if not ticks.is_due(tx, TICK, now):
                return False
        with self._records.write() as tx:
            turn = ticks.claim(tx, TICK, EVERY, now)
        if turn is None:
            return False
        last = turn.last
        if last is None or now - last > AWAY:
            # What fell due while we were away is being done right now.
            return True
        self.findings = self._look(last, now)
        if self.findings:
            time.sleep(self._confirm_s)
            self.findings = self._look(last, now)
        if self.findings:
            self._tell(now)
        else:
            self._ping()
        return True

    def _look(self, last: Instant, now: Instant) -> list[Finding]:
        with self._records.read() as tx:
            return [
                *_overdue_steps(tx, last, now),
                *_stuck_leases(tx, now),
                *self._unsent(tx, now),
                *_refused(tx, self._channels, now),
                *self._unfollowed(tx, now),
            ]

    def _unsent(self, tx: Session, now: Instant) -> list[Finding]:
        """Messages that no channel takes, such as those of an account that is shut out.

        Those about ourselves don't count: what tells of a finding must not keep it up.
        """
        late = (
            Outbox.state == "queued",
            Outbox.kind != "ops",
            Outbox.channel.in_(self._channels),
            Outbox.created_at < now - UNSENT,
        )
        count, since = tx.execute(select(func.count(), func.min(Outbox.created_at)).where(*late)).one()
        if not count:
            self._unsent_since = None
            return []
        if self._unsent_since is None:
            self._unsent_since = monotonic()
        lasts = monotonic() - self._unsent_since >= self._lasting_s
        return [Finding("outbox_behind", count, since)] if lasts else []

    def _unfollowed(self, tx: Session, now: Instant) -> list[Finding]:
        known = positions(tx)
        waiting = []
        for shard in self._log.shards():
            entries = self._log.read(shard, known.get(shard, 0), 1)
            waiting += [entry.batch.received for entry in entries if now - entry.batch.received > OVERDUE]
        return [Finding("log_behind", len(waiting), min(waiting))] if waiting else []

    def _tell(self, now: Instant) -> None:
        told = ", ".join(f"{finding.trouble} {finding.count}" for finding in self.findings)
        log.error("alerting is not well", findings=told)
        with self._records.write() as tx:
            tx.get_one(Tick, TICK).detail = told
            drafts = [
                Draft(
                    kind="ops",
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
                    # Once an hour as long as it lasts.
                    about=f"ops-{finding.trouble}-{now // HOUR}",
                )
                for unit, person in _top_managers(tx)
                for finding in self.findings
            ]
            self._post.queue(tx, drafts, now)

    def _ping(self) -> None:
        with self._records.write() as tx:
            tx.get_one(Tick, TICK).detail = ""
        if not self._dead_man_url:
            return
        try:
            with urllib.request.urlopen(self._dead_man_url, timeout=PING_TIMEOUT_S):  # noqa: S310  # the operator's own setting
                pass
        except (HTTPException, OSError, ValueError) as error:
            # Not its text, which may have the address: whoever knows that can speak for us.
            log.warning("dead-man's ping not taken", problem=str(getattr(error, "reason", type(error).__name__)))


def _overdue_steps(tx: Session, last: Instant, now: Instant) -> list[Finding]:
    """Steps that were due at the last look already: a clock that was stepped has only just made others so."""
    due_by = min(last, now - OVERDUE)
    count, since = tx.execute(
        select(func.count(), func.min(AlarmStep.due_at)).where(AlarmStep.state == "due", AlarmStep.due_at <= due_by)
    ).one()
    return [Finding("step_overdue", count, since)] if count else []


def _stuck_leases(tx: Session, now: Instant) -> list[Finding]:
    ended = Instant(real_now() - STUCK)
    stuck = select(func.count()).where(Outbox.state == "queued", Outbox.lease_until <= ended)
    count = tx.scalar(stuck) or 0
    return [Finding("lease_stuck", count, Instant(now - STUCK))] if count else []


def _refused(tx: Session, channels: Collection[str], now: Instant) -> list[Finding]:
    """Messages refused within the last hour, unless the person can't be reached: that stands on the unit's page.

    `next_at` is when the lease would have ended, in real time: it only keeps the question from reading all that ever
    failed, for no clock is slower than the real one.
    """
    refused = (
        Outbox.state == "failed",
        Outbox.kind != "ops",
        Outbox.channel.in_(channels),
        Outbox.next_at > real_now() - HOUR,
        Attempt.outcome == "refused",
        Attempt.at > now - HOUR,
        Person.unreachable_since.is_(None),
    )
    count, since = tx.execute(
        select(func.count(Outbox.id.distinct()), func.min(Attempt.at))
        .join(Attempt, Attempt.outbox_id == Outbox.id)
        .join(Person, Person.id == Outbox.person_id)
        .where(*refused)
    ).one()
    return [Finding("messages_failed", count, since)] if count else []


def _top_managers(tx: Session) -> list[tuple[Unit, Person]]:
    rows = tx.execute(
        select(Unit, Person)
        .join(Contact, Contact.unit_id == Unit.id)
        .join(Person, Person.id == Contact.person_id)
        .where(Unit.parent_id.is_(None), Contact.level == ContactLevel.VACCINE_MANAGER)
    )
    return [(unit, person) for unit, person in rows]
