"""How what is in the outbox reaches people: claim, look whether it is still true, hand over, write what came of it.

Guarantees, tried by tests/integration/test_delivery.py and test_delivery_kills.py on both databases:
* A row leaves `queued` only with a reason: handed over (`sent`), no longer true (`superseded`), or refused by every
  channel that could carry it (`failed`). Without a configured channel it stays queued and visible (AL-15).
* A row is claimed under a lease, sent outside any transaction, and finished only by the holder of the lease.
* After kill -9 between send and finish a row is sent again with the same bytes: by the worker's next life at once, by
  another worker when the lease ends. Where the provider drops copies (WeChat: 10 real minutes for one
  `client_msg_id`) nobody sees two. When the crash is mended later than that, or on other channels, a person may.
* Every try that came back is an `attempt` with outcome, code and detail (AL-06).
* While a channel takes nothing (five failures in a row, the quota of the minute, an account that is shut out) its rows
  wait untried, or go another way.

Leases and back-off are real time; `sent_at` and `at` are the system's clock.
"""

import threading
from collections.abc import Mapping
from queue import Empty, SimpleQueue

import msgspec
from sqlalchemy import and_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from alerting.channels.gate import Gate
from alerting.channels.port import Channel, NotSent, Receipt, Refused, Retry
from alerting.claim import Claimed, Lease, as_sibling, claim, due_exists
from alerting.relevance import Relevance, Standing, relevance
from core.alarms.message import on_channel
from core.alarms.tables import Alarm, Attempt, Outbox
from core.db.engine import Records
from core.db.insert import insert_missing
from core.runtime.clock import Clock, monotonic, real_now
from core.runtime.instant import SECOND, Instant
from core.runtime.logs import logger
from core.units.tables import Person

log = logger(__name__)

THREADS = 16
LONGEST_BACK_OFF_S = 60.0
TRIES_ALONE = 3
"""After so many failed tries another channel is asked too."""
LOOK_S = 0.05
LAST_WORDS_S = 2.0


class Waits(msgspec.Struct, frozen=True):
    """Not tried: its turn comes again after so many seconds."""

    seconds: float
    elsewhere: bool = False
    """Meanwhile another channel may take it."""


class Superseded(msgspec.Struct, frozen=True):
    """Not tried, and need not be."""


Outcome = Receipt | Retry | Refused | Waits | Superseded


class Delivery:
    """The outbox's worker, one a process: `run`, or `run_once` and `close`, in one thread; `idle` from any."""

    def __init__(
        self, records: Records, channels: Mapping[str, Channel], clock: Clock, *, worker: str, lease_s: float
    ) -> None:
        """`channels` in the order of falling back; no other living process has the name `worker`.

        Raises: ValueError when a lease could end while a channel is still trying.
        """
        for name, channel in channels.items():
            if lease_s <= channel.patience:
                msg = f"alerting.lease = {lease_s}: a {name} message may take {channel.patience} s; make it longer"
                raise ValueError(msg)
        self._records = records
        self._channels = dict(channels)
        self._gates = {name: Gate() for name in channels}
        self._clock = clock
        self._lease = Lease(worker)
        self._lease_ms = int(lease_s * SECOND)
        self._first_look = bool(channels)
        self._busy = False
        self._in_flight = 0
        self._to_send: SimpleQueue[Claimed | None] = SimpleQueue()
        self._results: SimpleQueue[tuple[Claimed, Outcome]] = SimpleQueue()
        self._done: list[tuple[Claimed, Outcome]] = []
        for number in range(THREADS if channels else 0):
            threading.Thread(target=self._send_all, name=f"delivery-{number}", daemon=True).start()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop`; a database that is away is waited for."""
        while not stop.is_set():
            try:
                moved = self.run_once()
            except SQLAlchemyError as error:
                log.warning("outbox not reached", error=type(error).__name__)
                stop.wait(1.0)
            else:
                if not moved:
                    stop.wait(LOOK_S)
        self.close()

    def run_once(self) -> int:
        """Write down what has come back and claim what is due; returns how many rows moved.

        Waits a moment for results when there are none. Raises SQLAlchemyError when the records can't be reached;
        nothing is forgotten: call it again.
        """
        self._busy = True
        try:
            self._collect(0.0)
            # Half of the threads' work is kept in store, and fetched in one commit when it is used up.
            free = 2 * THREADS - (self._in_flight - len(self._done))
            due = free >= THREADS and (self._first_look or self._due_exists())
            moved = self._write_down(free if due else 0)
            if not moved:
                self._collect(LOOK_S)
            return moved
        finally:
            self._busy = False

    def idle(self) -> bool:
        """Whether no row could be sent now: none is in flight, and none is due on a channel that takes any."""
        if self._busy or self._first_look or self._in_flight or self._due_exists():
            return False
        # Asked again: what was claimed since the first look is no longer due, but in flight.
        return not (self._busy or self._in_flight)

    def close(self) -> None:
        """Send no more; wait a little for what is on its way. What doesn't come back is sent again as after a crash."""
        while not self._to_send.empty():
            row = self._to_send.get()
            if row is not None:
                self._results.put((row, Waits(0.0)))
        for _ in range(THREADS):
            self._to_send.put(None)
        ends = monotonic() + LAST_WORDS_S
        try:
            while self._in_flight and monotonic() < ends:
                self._collect(LOOK_S)
                self._write_down(0)
        except SQLAlchemyError as error:
            log.warning("outbox not reached", error=type(error).__name__)

    def _due_exists(self) -> bool:
        if not self._channels:
            return False
        with self._records.read() as tx:
            return due_exists(tx, self._worth_claiming())

    def _worth_claiming(self) -> list[str]:
        """Return the channels that take messages, or have another behind them."""
        last = list(self._channels)[-1]
        return [name for name, gate in self._gates.items() if name != last or not gate.closed_for()]

    def _collect(self, within_s: float) -> None:
        """Take the results that are there; wait for one when there is none and some are on their way."""
        try:
            if within_s and self._in_flight and not self._done:
                self._done.append(self._results.get(timeout=within_s))
            while True:
                self._done.append(self._results.get_nowait())
        except Empty:
            return

    def _write_down(self, free: int) -> int:
        """Finish what is done and claim up to `free` more, in one commit."""
        if not (self._done or free):
            return 0
        with self._records.write() as tx:
            if self._first_look:
                self._lease.free_last_life(tx)
            # In order of persons, so that two workers never wait for each other's rows crosswise.
            for row, outcome in sorted(self._done, key=lambda done: done[0].person):
                self._finish(tx, row, outcome)
            channels = self._worth_claiming()
            claimed = claim(tx, self._lease.fresh(), channels, limit=free, lease_ms=self._lease_ms) if free else []
        moved = len(self._done) + len(claimed)
        self._first_look = False
        self._in_flight += len(claimed) - len(self._done)
        self._done.clear()
        for row in claimed:
            self._to_send.put(row)
        return moved

    def _send_all(self) -> None:
        """Be a thread that sends, outside any transaction."""
        while (row := self._to_send.get()) is not None:
            self._results.put((row, self._hand_over(row)))

    def _hand_over(self, row: Claimed) -> Outcome:
        channel, gate = self._channels[row.channel], self._gates[row.channel]
        try:
            before = self._hindrance(row, channel, gate)
            if before is not None:
                return before
            receipt = channel.send(row.message, row.address)
        except Retry as error:
            gate.failed(error)
            return error
        except Refused as error:
            gate.answered()
            return error
        except Exception as error:
            # A fault of ours must neither end this message for good nor stop the others.
            log.exception("message not handed over", outbox=row.id)
            return Retry(type(error).__name__, "see the log", ops=True)
        gate.answered()
        return receipt

    def _hindrance(self, row: Claimed, channel: Channel, gate: Gate) -> Waits | Superseded | None:
        """Return why a row isn't sent now, None when it is."""
        closed = gate.closed_for()
        if closed:
            return Waits(closed, elsewhere=True)
        if row.lease_until - real_now() <= channel.patience * SECOND:
            return Waits(0.0)
        match self._relevance(row):
            case Relevance.SUPERSEDE:
                return Superseded()
            case Relevance.WAIT:
                return Waits(1.0)
            case Relevance.SEND:
                return None

    def _relevance(self, row: Claimed) -> Relevance:
        if row.alarm is None:
            return Relevance.SEND
        theirs = and_(Outbox.alarm_id == row.alarm, Outbox.cycle == row.cycle, Outbox.person_id == row.person)
        with self._records.read() as tx:
            alarm = tx.execute(select(Alarm.state, Alarm.cycle).where(Alarm.id == row.alarm)).one()
            others = [as_sibling(other) for other in tx.scalars(select(Outbox).where(theirs, Outbox.id != row.id))]
        standing = Standing(alarm.state, alarm.cycle)
        return relevance(row.as_sibling, row.cycle, standing, others, real_now())

    def _finish(self, tx: Session, row: Claimed, outcome: Outcome) -> None:
        mine = and_(Outbox.id == row.id, Outbox.lease == row.lease, Outbox.state == "queued")
        values = {"lease": None, "lease_until": None, **self._becomes(row, outcome)}
        ours = tx.scalar(update(Outbox).where(mine).values(values).returning(Outbox.id)) is not None
        if not isinstance(outcome, Waits | Superseded):
            tx.add(self._attempt(row, outcome, ours=ours))
        if not ours:
            log.warning("lease ended before its message came back", outbox=row.id, outcome=type(outcome).__name__)
            return
        if isinstance(outcome, Receipt) and row.unreachable:
            tx.execute(update(Person).where(Person.id == row.person).values(unreachable_since=None))
        if isinstance(outcome, Refused) and outcome.unreachable:
            marked = update(Person).where(Person.id == row.person, Person.unreachable_since.is_(None))
            tx.execute(marked.values(unreachable_since=self._clock.now()))
        elsewhere = _may_go_elsewhere(row, outcome) and self._give_on(tx, row)
        if isinstance(outcome, NotSent):
            lost = isinstance(outcome, Refused) and not elsewhere
            tell = log.error if outcome.ops or lost else log.warning
            tell("message not sent", outbox=row.id, channel=row.channel, code=outcome.code, elsewhere=elsewhere)

    def _becomes(self, row: Claimed, outcome: Outcome) -> dict[str, object]:
        """Return the new values of a row's columns."""
        match outcome:
            case Receipt():
                return {"state": "sent", "sent_at": self._clock.now(), "receipt": outcome.number[:64]}
            case Refused():
                return {"state": "failed"}
            case Superseded():
                return {"state": "superseded", "attempts": Outbox.attempts - 1}
            case Waits():
                return {"next_at": _after(outcome.seconds), "attempts": Outbox.attempts - 1}
            case Retry():
                back_off = min(LONGEST_BACK_OFF_S, 2.0 ** (row.as_sibling.attempts - 1))
                return {"next_at": _after(max(back_off, outcome.after or 0.0))}

    def _attempt(self, row: Claimed, outcome: Receipt | Retry | Refused, *, ours: bool) -> Attempt:
        late = "" if ours else "after the lease had ended"
        if isinstance(outcome, Receipt):
            said, code, detail = "sent", "", late
        else:
            said = "refused" if isinstance(outcome, Refused) else "retry"
            code, detail = outcome.code, " ".join(filter(None, (late, outcome.detail)))
        return Attempt(outbox_id=row.id, at=self._clock.now(), outcome=said, code=code[:20], detail=detail[:300])

    def _give_on(self, tx: Session, row: Claimed) -> bool:
        """Queue the message on the next channel that can carry it; a copy that is there already does."""
        names = list(self._channels)
        for name in names[names.index(row.channel) + 1 :]:
            taken = self._channels[name].take_over(row.message, row.recipient)
            if taken is not None:
                address, body = taken
                copy = {
                    "key": on_channel(row.message.key, name),
                    "alarm_id": row.alarm,
                    "cycle": row.cycle,
                    "tier": row.as_sibling.tier,
                    "kind": row.message.kind,
                    "person_id": row.person,
                    "channel": name,
                    "address": address,
                    "body": body,
                    "created_at": self._clock.now(),
                    "next_at": real_now(),
                }
                insert_missing(tx, Outbox, [copy])
                return True
        return False


def _may_go_elsewhere(row: Claimed, outcome: Outcome) -> bool:
    match outcome:
        case Refused():
            return True
        case Retry():
            return outcome.channel_wide or row.as_sibling.attempts >= TRIES_ALONE
        case Waits():
            return outcome.elsewhere
        case _:
            return False


def _after(seconds: float) -> Instant:
    return Instant(real_now() + int(seconds * SECOND))
