"""Send queue of a spool: live batches first, then the backlog, oldest first and at a limited rate.

At most `in_flight` batches are unacknowledged. A quarter of these places is reserved for live batches, so that an
unacknowledged backlog never delays a fresh reading. A batch older than `LIVE_FOR` is backlog, and is published on
`up/backfill`. Nothing here must survive a crash, since everything in the spool is unacknowledged and is sent again.
tests/unit/test_send_order.py tries to break it.
"""

from collections.abc import Iterator

import msgspec

from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.wire.messages import Ack
from core.wire.topics import MessageKind
from gateway_agent.spool import Spool, Spooled

LIVE_FOR = Milliseconds(2 * MINUTE)
"""Age from which order doesn't matter any more, since the rules treat such a reading as late."""


class SendPace(msgspec.Struct, frozen=True):
    """Limits on batches in flight, time before resending, and rate of backfill."""

    in_flight: int
    resend_after: float
    """Real seconds."""
    backfill_rate: float
    """Batches a real second."""

    @property
    def backlog_in_flight(self) -> int:
        """Number of batches in flight that may be backlog."""
        return max(1, self.in_flight - max(1, self.in_flight // 4))


class SendOrder:
    """Send queue of one spool. Times called `real` are monotonic seconds."""

    def __init__(self, spool: Spool, pace: SendPace) -> None:
        """Begin with everything in the spool unsent."""
        self._spool = spool
        self._pace = pace
        self._sent: dict[int, float] = {}
        self._live_from = 1
        self._live_sent = 0
        self._backlog_sent = 0
        self._tokens = 1.0
        self._tokens_at = 0.0
        self._backlog_done = False
        self._holds_back = False
        """Whether batches wait for the spool's first acknowledgement."""

    def restart(self, now: Instant) -> None:
        """Take everything in the spool as unsent: after a new connection, or when rows came back."""
        self._sent.clear()
        self._backlog_sent = 0
        self._split(now)

    def added(self) -> None:
        """Note that the spool has grown."""
        self._backlog_done = False

    def acknowledged(self, ack: Ack) -> None:
        """Note that batches were acknowledged."""
        self._sent = {
            seq: at
            for seq, at in self._sent.items()
            if seq > ack.upto and not any(first <= seq <= last for first, last in ack.have)
        }
        if self._holds_back and self._spool.is_proven:  # the first acknowledgement
            self._holds_back = self._backlog_done = False

    def next(self, now: Instant, real: float) -> Iterator[tuple[Spooled, MessageKind]]:
        """Yield the batches to be published now, each with its kind of message; a yielded one counts as sent."""
        for batch in self._due_again(real):
            yield self._send(batch, now, real)
        while len(self._sent) < self._pace.in_flight and (live := self._next_live(now)):
            self._live_sent = live.seq
            yield self._send(live, now, real)
        while self._may_send_backlog(real) and (backlog := self._next_backlog()):
            self._backlog_sent = backlog.seq
            self._tokens -= 1
            yield self._send(backlog, now, real)

    def wait(self, real: float) -> float | None:
        """Return real seconds until `next` may yield something without a new event, None for never."""
        waits = [at + self._pace.resend_after - real for at in self._sent.values()]
        if not self._backlog_done and len(self._sent) < self._pace.backlog_in_flight:
            waits.append((1 - self._tokens) / self._pace.backfill_rate)
        return max(0.0, min(waits)) if waits else None

    def _send(self, row: Spooled, now: Instant, real: float) -> tuple[Spooled, MessageKind]:
        self._sent[row.seq] = real
        return row, MessageKind.BACKFILL if now - row.at > LIVE_FOR else MessageKind.DATA

    def _due_again(self, real: float) -> Iterator[Spooled]:
        for seq in sorted(seq for seq, at in self._sent.items() if real >= at + self._pace.resend_after):
            row = self._spool.get(seq)
            if row:
                yield row
            else:  # dropped by an overflow
                del self._sent[seq]

    def _next_live(self, now: Instant) -> Spooled | None:
        rows = self._spool.after(max(self._live_sent, self._live_from - 1), 1)
        if rows and now - rows[0].at > LIVE_FOR:
            # Live batches have waited too long for a free place, so the older ones are backlog now.
            self._split(now)
            rows = self._spool.after(max(self._live_sent, self._live_from - 1), 1)
        return rows[0] if rows and rows[0].seq <= self._spool.may_send_upto else None

    def _split(self, now: Instant) -> None:
        """Split backlog and live batches: the last batches that are all younger than `LIVE_FOR` are live."""
        self._live_from = self._spool.young_from(Instant(now - LIVE_FOR))
        self._live_sent = max((seq for seq in self._sent if seq >= self._live_from), default=self._live_from - 1)
        self._backlog_done = False

    def _may_send_backlog(self, real: float) -> bool:
        rate = self._pace.backfill_rate
        self._tokens = min(max(2.0, rate / 10), self._tokens + (real - self._tokens_at) * rate)
        self._tokens_at = real
        return self._tokens >= 1 and len(self._sent) < self._pace.backlog_in_flight

    def _next_backlog(self) -> Spooled | None:
        while rows := self._spool.after(self._backlog_sent, self._pace.in_flight + 1):
            for row in rows:
                if row.seq > self._spool.may_send_upto:
                    self._holds_back = True
                    break
                if row.seq >= self._live_from:
                    break
                if row.seq not in self._sent:
                    return row
                self._backlog_sent = row.seq
            else:
                continue
            break
        self._backlog_done = True
        return None
