"""Delivery: claims outbox rows, checks whether they are still true, sends them, records the results.

Guarantees, tried by tests/integration/test_delivery.py, test_delivery_at_length.py and test_delivery_kills.py on both
databases:
* A row leaves `queued` only for a reason: handed over (`sent`), no longer true (`superseded`), or refused by every
  channel that could carry it (`failed`). Without a configured channel it stays queued and visible (AL-15).
* A row is claimed under a lease, sent outside any transaction, and finished only by the holder of the lease.
* After kill -9 between send and finish a row is sent again with the same bytes: by the worker's next process at once,
  by another worker when the lease ends. Where the provider drops copies (WeChat: 10 real minutes for one
  `client_msg_id`) nobody sees two. If the row is sent again later than that, or on another channel, a person may see
  two.
* Every try that returned is an `attempt` with outcome, code and detail (AL-06).
* While a channel takes nothing (five failures in a row, a quota, a blocked account) its rows wait untried, or take
  another channel. One of them tests every few minutes whether it takes messages again; meanwhile the status file has
  the provider's answer.

Leases and back-off are real time; `sent_at` and `at` are the system's clock.
"""

import threading
from collections import deque
from collections.abc import Mapping
from queue import Empty, SimpleQueue

from sqlalchemy import and_, select
from sqlalchemy.exc import SQLAlchemyError

from alerting.delivering.channels.circuit_breaker import CircuitBreaker
from alerting.delivering.channels.port import SENDERS, Channel, MessageRefused, RetryLater
from alerting.delivering.delivery_outcome import DeliveryOutcome, Done, NotTried, Superseded, write_down
from alerting.delivering.outbox_lease import ClaimedMessage, WorkerLease, claim_messages, due_exists
from alerting.delivering.outdated_messages import AlarmStanding, Relevance, SiblingMessage, relevance
from core.alarms.tables import Alarm, OutboxMessage
from core.db.engine import Records
from core.ids import AlarmId
from core.runtime.clock import Clock, monotonic, real_now
from core.runtime.instant import SECOND
from core.runtime.logs import logger
from core.runtime.trouble import TroubleKind, Troubles

log = logger(__name__)

THREADS = SENDERS
POLL_S = 0.05
LAST_WORDS_S = 8.0


class Delivery:
    """Worker of the outbox, one a process: `run`, or `run_once` and `close`, in one thread; `idle` from any."""

    def __init__(
        self, records: Records, channels: Mapping[str, Channel], clock: Clock, *, worker: str, lease_s: float
    ) -> None:
        """`channels` in the order of falling back; no other living process has the name `worker`.

        Raises: ValueError when a lease could end while a channel is still trying.
        """
        for name, channel in channels.items():
            if lease_s <= channel.longest_send_s:
                msg = (
                    f"alerting.lease = {lease_s}: a {name} message may take {channel.longest_send_s} s; make it longer"
                )
                raise ValueError(msg)
        self._records = records
        self._channels = dict(channels)
        self._breakers = {name: CircuitBreaker() for name in channels}
        self._clock = clock
        self._lease = WorkerLease(worker)
        self._lease_ms = int(lease_s * SECOND)
        self._is_first_pass = bool(channels)
        self._busy = False
        self._in_flight = 0
        self._to_send: SimpleQueue[ClaimedMessage | None] = SimpleQueue()
        self._queues: dict[tuple[AlarmId | None, int], deque[ClaimedMessage]] = {}
        """Rows behind one that is being sent: an alarm's messages to a person are sent one after another."""
        self._results: SimpleQueue[Done] = SimpleQueue()
        self._done: list[Done] = []
        self.troubles = Troubles()
        """Reasons why the outbox can't be worked on."""
        for number in range(THREADS if channels else 0):
            threading.Thread(target=self._send_all, name=f"delivery-{number}", daemon=True).start()

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop`; wait for a missing database, and go on after errors of this program."""
        while not stop.is_set():
            try:
                moved = self.run_once()
            except SQLAlchemyError as error:
                # Without its trace: the trace has the statement, which holds messages and their links.
                if self.troubles.note("records", error):
                    log.warning("outbox not reached", error=type(error).__name__)
                stop.wait(1.0)
            except Exception as error:
                if self.troubles.note("messages", error):
                    log.exception("delivery failed; it goes on")
                stop.wait(1.0)
            else:
                for part in ("records", "messages"):
                    self.troubles.note(part, None)
                if not moved:
                    stop.wait(POLL_S)
        self.close()

    def run_once(self) -> int:
        """Record results and claim due rows; return how many rows moved.

        Waits a moment for results when there are none. Raises SQLAlchemyError when the records can't be reached.
        Nothing is lost then: call it again.
        """
        self._busy = True
        try:
            self._collect(0.0)
            # As many rows as there are threads are kept in stock, and refilled in one commit.
            free = 2 * THREADS - (self._in_flight - len(self._done))
            fetch = free >= THREADS and (self._is_first_pass or self._due_exists())
            moved = self._write_down(free if fetch else 0)
            if not moved:
                self._collect(POLL_S)
            return moved
        finally:
            self._busy = False

    def idle(self) -> bool:
        """Return whether no row can be sent now: none in flight, and none due on a channel that takes messages."""
        if self._busy or self._is_first_pass or self._in_flight or self._due_exists():
            return False
        # Checked again: a row that was claimed since the first check is no longer due, but in flight.
        return not (self._busy or self._in_flight)

    def close(self) -> None:
        """Stop sending; wait a little for rows in flight. A row without a result is sent again, as after a crash."""
        unsent = [row for queue in self._queues.values() for row in queue]
        self._queues.clear()
        while not self._to_send.empty():
            row = self._to_send.get()
            if row is not None:
                unsent.append(row)
        for row in unsent:
            self._results.put((row, NotTried(0.0)))
        for _ in range(THREADS):
            self._to_send.put(None)
        ends = monotonic() + LAST_WORDS_S
        try:
            while self._in_flight and monotonic() < ends:
                self._collect(POLL_S)
                self._write_down(0)
        except SQLAlchemyError as error:
            log.warning("outbox not reached", error=type(error).__name__)

    def _due_exists(self) -> bool:
        if not self._channels:
            return False
        with self._records.read() as tx:
            return due_exists(tx, self._worth_claiming())

    def _worth_claiming(self) -> list[str]:
        """Return the channels that take messages or have another to fall back to."""
        last = list(self._channels)[-1]
        return [name for name, breaker in self._breakers.items() if name != last or not breaker.blocked_for()]

    def _collect(self, within_s: float) -> None:
        """Take the available results; wait for one when there is none and rows are in flight."""
        try:
            if within_s and self._in_flight and not self._done:
                self._done.append(self._results.get(timeout=within_s))
            while True:
                self._done.append(self._results.get_nowait())
        except Empty:
            return

    def _write_down(self, free: int) -> int:
        """Record results and claim up to `free` more rows, in one commit."""
        if not (self._done or free):
            return 0
        with self._records.write() as tx:
            if self._is_first_pass:
                self._lease.free_last_life(tx)
            write_down(tx, self._done, self._channels, self._clock.now())
            channels = self._worth_claiming()
            claimed = (
                claim_messages(tx, self._lease.fresh(), channels, limit=free, lease_ms=self._lease_ms) if free else []
            )
        moved = len(self._done) + len(claimed)
        self._is_first_pass = False
        self._in_flight += len(claimed) - len(self._done)
        for row, _ in self._done:
            self._send_next(_queue_key(row))
        self._done.clear()
        for row in claimed:
            key = _queue_key(row)
            if key in self._queues:
                self._queues[key].append(row)
            else:
                self._queues[key] = deque()
                self._to_send.put(row)
        return moved

    def _send_next(self, key: tuple[AlarmId | None, int]) -> None:
        """Send the next row of a queue, now that the result of the one before it is recorded."""
        waiting = self._queues.get(key)
        if waiting:
            self._to_send.put(waiting.popleft())
        else:
            self._queues.pop(key, None)

    def _send_all(self) -> None:
        """Send rows until the end, outside any transaction; body of a sender thread."""
        while (row := self._to_send.get()) is not None:
            self._results.put((row, self._hand_over(row)))

    def _hand_over(self, row: ClaimedMessage) -> DeliveryOutcome:
        channel, breaker = self._channels[row.channel], self._breakers[row.channel]
        try:
            hindrance = self._hindrance(row, channel, breaker)
            if hindrance is not None:
                return hindrance
            receipt = channel.send(row.message, row.address)
        except RetryLater as error:
            # `held` is the provider's answer about one message, so the provider can be reached.
            if error.held:
                breaker.answered()
            else:
                breaker.failed(error)
            if error.ops:
                part = row.channel if error.channel_wide else _kind_on_channel(row)
                self.troubles.note(part, error, kind=TroubleKind.HELD)
            return error
        except MessageRefused as error:
            breaker.answered()
            return error
        except Exception as error:
            # An error of this program must neither end this message for good nor stop the others.
            breaker.gave_up()
            log.exception("message not handed over", outbox=row.id)
            return RetryLater(type(error).__name__, "see the log", ops=True)
        breaker.answered()
        for part in (row.channel, _kind_on_channel(row)):
            self.troubles.note(part, None)
        return receipt

    def _hindrance(
        self, row: ClaimedMessage, channel: Channel, breaker: CircuitBreaker
    ) -> NotTried | Superseded | None:
        """Return why a row isn't sent now, None when it is."""
        blocked_for_s = breaker.blocked_for()
        if blocked_for_s:
            return NotTried(blocked_for_s, elsewhere=True)
        if row.lease_until - real_now() <= channel.longest_send_s * SECOND:
            return NotTried(0.0)
        match self._relevance(row):
            case Relevance.SUPERSEDE:
                return Superseded()
            case Relevance.WAIT:
                # Another worker is sending to this person: of our own rows only one of a queue is in flight.
                return NotTried(POLL_S)
            case Relevance.SEND:
                wait_s = breaker.admit()
                return NotTried(wait_s, elsewhere=True) if wait_s else None

    def _relevance(self, row: ClaimedMessage) -> Relevance:
        if row.alarm is None:
            return Relevance.SEND
        same_person = and_(
            OutboxMessage.alarm_id == Alarm.id,
            OutboxMessage.cycle == row.cycle,
            OutboxMessage.person_id == row.person,
            OutboxMessage.id != row.id,
        )
        columns = (
            OutboxMessage.key,
            OutboxMessage.kind,
            OutboxMessage.tier,
            OutboxMessage.state,
            OutboxMessage.attempts,
            OutboxMessage.lease_until,
        )
        standing_and_others = (
            select(Alarm.state, Alarm.cycle, *columns)
            .outerjoin(OutboxMessage, same_person)
            .where(Alarm.id == row.alarm)
        )
        with self._records.read() as tx:
            rows = tx.execute(standing_and_others).all()
        siblings = [SiblingMessage(*row_of[2:]) for row_of in rows if row_of[2] is not None]
        return relevance(row.as_sibling, row.cycle, AlarmStanding(*rows[0][:2]), siblings, real_now())


def _kind_on_channel(row: ClaimedMessage) -> str:
    """Return the part under which a trouble with messages of this kind is reported."""
    return f"{row.channel} {row.message.kind}"


def _queue_key(row: ClaimedMessage) -> tuple[AlarmId | None, int]:
    return (row.alarm, row.person) if row.alarm is not None else (None, row.id)
