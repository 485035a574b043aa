"""The order in which alerting works: follow the log to its head, look for silence, then tell people.

What came in by an instant is taken in before anything that is due at it is done, so a recovery at 29:59 is seen before
level 2 would be told at 30:00. Only level 1 of what readings of now have opened is told before that: another gateway's
backlog says nothing of them. What comes in later is not waited for: a log that never stands still holds nobody up.
When it takes too long all the same (our own standstill of hours, another worker's), people are told after `HOLD_S` of
what is known by then.
"""

import sqlite3
import threading
from collections.abc import Mapping

from sqlalchemy.exc import SQLAlchemyError

from alerting import offline, ticks
from alerting.escalate import can_resume, escalate, next_due, tell_fresh
from alerting.follow import Follower, Overtaken, positions, shards_behind
from core.alarms.post import Post
from core.alarms.watched import Outdated, Zones
from core.db.engine import Records
from core.health.alignment import Misaligned
from core.intake.port import IntakeLog, Unavailable
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant
from core.runtime.logs import logger
from core.runtime.trouble import Kind, Troubles, first_line
from core.wire.topics import Shard

log = logger(__name__)

HOLD_S = 60.0
"""Real seconds that escalation waits at most for the log."""
AGAIN_S = 0.5
PARTS = ("records", "intake log", "engine")
"""What a pass may fail by."""
FLOOR_S = 0.1
"""Real seconds between two passes while a step that is due is held, or is in another worker's hands."""


class Engine:
    """One worker's loop. `wake` and `is_idle` may be called from any thread."""

    def __init__(
        self,
        records: Records,
        *,
        intake: IntakeLog,
        follower: Follower,
        zones: Zones,
        post: Post,
        clock: Clock,
        poll: float,
    ) -> None:
        """`poll`: real seconds between two passes that nobody asked for."""
        self._records = records
        self._log = intake
        self._follower = follower
        self._zones = zones
        self._post = post
        self._clock = clock
        self._poll = poll
        self._asked = threading.Event()
        self._done: Instant | None = None
        self._next: Instant | None = None
        self._behind_since: float | None = None
        self._scan_at: Instant | None = None
        self._knows_positions = False
        self._misaligned_since: float | None = None
        self._passing = False
        self.troubles = Troubles()
        """Why the last pass failed."""

    def wake(self) -> None:
        """Ask for a pass soon."""
        self._asked.set()

    def run(self, stop: threading.Event) -> None:
        """Work until `stop`. Whatever fails is tried again, and the audit tells when that lasts."""
        while not stop.is_set():
            self._asked.clear()
            try:
                self.run_once(stop)
            except Outdated as error:
                log.info("records have changed within a pass, which is done again", number=str(error))
                self._knows_positions = False
                stop.wait(FLOOR_S)
                continue
            except (SQLAlchemyError, sqlite3.Error, Unavailable, Overtaken, Misaligned, OSError) as error:
                self._fail(error)
            except Exception as error:
                log.exception("pass failed by a fault of ours")
                self._fail(error)
            else:
                self._well()
                self._wait()
                continue
            stop.wait(AGAIN_S)

    def run_once(self, stop: threading.Event | None = None) -> None:
        """Do all that is due by now."""
        self._done = None
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
            # What isn't read yet may say that it is over: whoever comes after us reads it first.
            return
        self._look_for_silence(now)
        if followed or self._held_long_enough():
            self._escalate(now)
        with self._records.read() as tx:
            self._next = next_due(tx)
        if followed:
            self._done = now

    def _start(self) -> None:
        """Read where following goes on. Where it can't, steps that are due are told by what is known, after a while."""
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
        """Whether there are readings that weren't followed. Cheap."""
        return self._follower.behind()

    def is_idle(self) -> bool:
        """Whether all that is due at the clock's now has been done; asks for it when it hasn't. Cheap."""
        done = self._done
        if done is not None and done >= self._clock.now() and not self._follower.behind():
            # A pass may have begun between the two looks.
            return self._done == done
        if not self._passing:
            self.wake()
        return False

    def _follow(self, stop: threading.Event | None) -> tuple[Instant, bool]:
        """Follow as far as the log goes now; returns the instant by which all is known, and whether it is."""
        began = monotonic()
        now, heads = self._clock.now(), self._log.heads()
        self._follower.fresh.clear()
        while self._follower.step(self._clock.now()) and not self._follower.has_reached(heads):
            self._tell_fresh()
            if monotonic() - began > HOLD_S or (stop and stop.is_set()):
                return now, False
        return now, self._others_have_reached(heads)

    def _tell_fresh(self) -> None:
        """Tell level 1 at once of what readings of now have opened, however much of a backlog is still to be read.

        What is behind in the log can't say that it is over: it was received within moments of those.
        """
        fresh, self._follower.fresh = self._follower.fresh, set()
        if fresh:
            with self._records.write_much() as tx:
                self._zones.refresh(tx)
                tell_fresh(tx, self._zones, self._post, self._clock.now(), fresh)

    def _others_have_reached(self, heads: Mapping[Shard, int]) -> bool:
        """Whether no other worker is behind that either: a zone's probes may come through its shards."""
        if self._follower.has_all:
            return True
        with self._records.read() as tx:
            known = positions(tx)
        behind = any(n > known.get(shard, 0) for shard, n in heads.items())
        if not behind:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = monotonic()
        return not behind

    def _held_long_enough(self) -> bool:
        return self._behind_since is None or monotonic() - self._behind_since > HOLD_S

    def _look_for_silence(self, now: Instant) -> None:
        if self._scan_at is not None and now < self._scan_at:
            return
        offline.scan(self._records, self._zones, self._post, now, lambda tx: shards_behind(tx, self._log))
        with self._records.read() as tx:
            self._scan_at = ticks.next_due(tx, offline.TICK)

    def _escalate(self, now: Instant) -> None:
        with self._records.read() as tx:
            due = next_due(tx)
            if (due is None or due > now) and not can_resume(tx, now):
                return
        settled = 1
        while settled:
            with self._records.write_much() as tx:
                self._zones.refresh(tx)
                settled = escalate(tx, self._zones, self._post, now)

    def _wait(self) -> None:
        """Wait until the next step or scan is due or somebody asks, at most `poll`."""
        due = min((at for at in (self._next, self._scan_at) if at is not None), default=None)
        if due is not None and not self._clock.pause(due):
            self._asked.wait(min(FLOOR_S, self._poll))
            return
        ends = monotonic() + self._poll
        while (left := ends - monotonic()) > 0:
            pause = left if due is None else min(left, self._clock.pause(due))
            if not pause or self._asked.wait(pause):
                return

    def _fail(self, error: Exception) -> None:
        self._knows_positions = False
        part = _part(error)
        if self.troubles.note(part, error, kind=Kind.PUT_BACK if isinstance(error, Misaligned) else None):
            log.warning("pass failed, tried again", part=part, problem=f"{type(error).__name__}: {first_line(error)}")
        for other in PARTS:
            if other != part:
                self.troubles.note(other, None)

    def _well(self) -> None:
        for part in PARTS:
            if self.troubles.note(part, None):
                log.info("passes work again", part=part)


def _part(error: Exception) -> str:
    if isinstance(error, Misaligned):
        return error.part
    if isinstance(error, SQLAlchemyError):
        return "records"
    return "intake log" if isinstance(error, Unavailable) else "engine"
