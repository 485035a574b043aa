"""Loop of alerting: follow the log to its head, scan for offline probes, then escalate.

Everything received by an instant is evaluated before the steps that are due at that instant. So a recovery at 29:59 is
seen before level 2 would be told at 30:00. Only level 1 of alarms that current readings have opened is told earlier:
another gateway's backlog says nothing about them. Entries that arrive later are not waited for, so a log that never
stands still delays nobody. If it takes too long all the same (own downtime of hours, another worker's delay), people
are told after `HOLD_S` by what is known then.
"""

import sqlite3
import threading
from collections.abc import Mapping

from sqlalchemy.exc import SQLAlchemyError

from alerting import periodic_jobs
from alerting.escalating.due_steps import can_resume, escalate, next_due, notify_level_1
from alerting.evaluating import offline_scan
from alerting.following.follower import Follower, Overtaken, positions, shards_behind
from core.alarms.outbox import OutboxWriter
from core.alarms.zone_cache import CacheOutdated, ZoneCache
from core.db.engine import Records
from core.health.cursor_alignment import Misaligned
from core.intake.port import IntakeLog, IntakeUnavailable
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant
from core.runtime.logs import logger
from core.runtime.trouble import Troubles, first_line
from core.wire.shards import Shard

log = logger(__name__)

HOLD_S = 60.0
"""Longest real time that escalation waits for the log."""
AGAIN_S = 0.5
PARTS = ("records", "intake log", "engine")
"""Parts whose failure makes a pass fail."""
FLOOR_S = 0.1
"""Real seconds between two passes while a due step is held or claimed by another worker."""


class AlertingLoop:
    """Loop of one worker. `wake` and `is_idle` may be called from any thread."""

    def __init__(
        self,
        records: Records,
        *,
        intake: IntakeLog,
        follower: Follower,
        zones: ZoneCache,
        outbox: OutboxWriter,
        clock: Clock,
        poll: float,
    ) -> None:
        """`poll`: real seconds between two passes without a request."""
        self._records = records
        self._log = intake
        self._follower = follower
        self._zones = zones
        self._outbox = outbox
        self._clock = clock
        self._poll = poll
        self._pass_requested = threading.Event()
        self._done_until: Instant | None = None
        self._next_step_at: Instant | None = None
        self._behind_since: float | None = None
        self._scan_at: Instant | None = None
        self._knows_positions = False
        self._misaligned_since: float | None = None
        self._passing = False
        self.troubles = Troubles()
        """Causes of the last pass's failure."""

    def wake(self) -> None:
        """Ask for a pass soon."""
        self._pass_requested.set()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop`. Every failure is tried again; the watchdog reports one that lasts."""
        while not stop.is_set():
            self._pass_requested.clear()
            try:
                self.run_once(stop)
            except CacheOutdated as error:
                log.info("records have changed within a pass, which is done again", number=str(error))
                self._knows_positions = False
                stop.wait(FLOOR_S)
                continue
            except (SQLAlchemyError, sqlite3.Error, IntakeUnavailable, Overtaken, Misaligned, OSError) as error:
                self._note_failure(error)
            except Exception as error:
                log.exception("pass failed by a fault of ours")
                self._note_failure(error)
            else:
                self._note_success()
                self._wait()
                continue
            stop.wait(AGAIN_S)

    def run_once(self, stop: threading.Event | None = None) -> None:
        """Do everything that is due now."""
        self._done_until = None
        self._passing = True
        try:
            self._pass(stop)
        finally:
            self._passing = False

    def _pass(self, stop: threading.Event | None) -> None:
        if not self._knows_positions:
            self._start()
        try:
            now, followed = self._follow(stop)
        except Exception:
            self._knows_positions = False
            raise
        if not followed and stop and stop.is_set():
            # Entries that aren't read yet may end an alarm: the next process reads them before it escalates.
            return
        self._scan_for_offline(now)
        if followed or self._held_long_enough():
            self._escalate(now)
        with self._records.read() as tx:
            self._next_step_at = next_due(tx)
        if followed:
            self._done_until = now

    def _start(self) -> None:
        """Read the position to follow from. If that fails for a while, escalate by what is known."""
        try:
            self._follower.start()
        except Misaligned as error:
            if error.part == "intake log":
                self._misaligned_since = self._misaligned_since or monotonic()
                if monotonic() - self._misaligned_since > HOLD_S:
                    self._escalate(self._clock.now())
            raise
        self._misaligned_since = None
        self._knows_positions = True

    def is_behind(self) -> bool:
        """Return whether there are readings that weren't followed. Cheap."""
        return self._follower.behind()

    def is_idle(self) -> bool:
        """Return whether everything due at the clock's now is done; request a pass if not. Cheap."""
        done_until = self._done_until
        if done_until is not None and done_until >= self._clock.now() and not self._follower.behind():
            # A pass may have begun between the two checks.
            return self._done_until == done_until
        if not self._passing:
            self.wake()
        return False

    def _follow(self, stop: threading.Event | None) -> tuple[Instant, bool]:
        """Follow to the log's present head; return the instant up to which all is known, and whether it was reached."""
        began = monotonic()
        now, heads = self._clock.now(), self._log.heads()
        self._follower.fresh.clear()
        while self._follower.step(self._clock.now()) and not self._follower.has_reached(heads):
            self._notify_level_1()
            if monotonic() - began > HOLD_S or (stop and stop.is_set()):
                return now, False
        return now, self._others_have_reached(heads)

    def _notify_level_1(self) -> None:
        """Tell level 1 at once of alarms that current readings opened, however long the backlog behind them is.

        The entries that are still to be read can't end such an alarm: they were received within moments of its
        readings.
        """
        fresh, self._follower.fresh = self._follower.fresh, set()
        if fresh:
            with self._records.write_much() as tx:
                self._zones.refresh(tx)
                notify_level_1(tx, self._zones, self._outbox, self._clock.now(), fresh)

    def _others_have_reached(self, heads: Mapping[Shard, int]) -> bool:
        """Return whether the other workers have reached these heads: a zone's probes may be in their shards."""
        if self._follower.has_all:
            return True
        with self._records.read() as tx:
            others = positions(tx)
        behind = any(head > others.get(shard, 0) for shard, head in heads.items())
        if not behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = monotonic()
        return not behind

    def _held_long_enough(self) -> bool:
        return self._behind_since is None or monotonic() - self._behind_since > HOLD_S

    def _scan_for_offline(self, now: Instant) -> None:
        if self._scan_at is not None and now < self._scan_at:
            return
        offline_scan.scan(self._records, self._zones, self._outbox, now, lambda tx: shards_behind(tx, self._log))
        with self._records.read() as tx:
            self._scan_at = periodic_jobs.next_due(tx, offline_scan.TICK)

    def _escalate(self, now: Instant) -> None:
        with self._records.read() as tx:
            due_at = next_due(tx)
            if (due_at is None or due_at > now) and not can_resume(tx, now):
                return
        settled = 1
        while settled:
            with self._records.write_much() as tx:
                self._zones.refresh(tx)
                settled = escalate(tx, self._zones, self._outbox, now)

    def _wait(self) -> None:
        """Wait until the next step or scan is due or a pass is requested, at most `poll`."""
        due_at = min((at for at in (self._next_step_at, self._scan_at) if at is not None), default=None)
        if due_at is not None and not self._clock.pause(due_at):
            self._pass_requested.wait(min(FLOOR_S, self._poll))
            return
        ends = monotonic() + self._poll
        while (remaining_s := ends - monotonic()) > 0:
            pause_s = remaining_s if due_at is None else min(remaining_s, self._clock.pause(due_at))
            if not pause_s or self._pass_requested.wait(pause_s):
                return

    def _note_failure(self, error: Exception) -> None:
        self._knows_positions = False
        part = _failed_part(error)
        if self.troubles.note(part, error, kind=error.kind if isinstance(error, Misaligned) else None):
            log.warning("pass failed, tried again", part=part, problem=f"{type(error).__name__}: {first_line(error)}")
        for other in PARTS:
            if other != part:
                self.troubles.note(other, None)

    def _note_success(self) -> None:
        for part in PARTS:
            if self.troubles.note(part, None):
                log.info("passes work again", part=part)


def _failed_part(error: Exception) -> str:
    if isinstance(error, Misaligned):
        return error.part
    if isinstance(error, SQLAlchemyError):
        return "records"
    return "intake log" if isinstance(error, IntakeUnavailable) else "engine"
