"""What has come and waits for its commit: bounded, so that a log that can't be written never takes all memory.

A broker that has a backlog sends it faster than it can be written, whatever limits it was asked to keep: Mosquitto
2.0.11 sends thousands of unanswered messages beyond them. So a full inbox lets the network thread wait, and with it the
broker, which keeps the rest. When there is no room after a while, the log stands still: from then on what doesn't fit
is refused, until something was written. That is not in the log, no `down/ack` covers it, and its sender sends it again.

Live messages go before backfill, of which a group has a bounded part: an alarm doesn't wait for what another gateway
measured yesterday. Backfill has at most half of the room and never lets the network thread wait; a group of it keeps a
share that no flood of live messages takes.
"""

import threading
from collections import deque
from collections.abc import Sequence

from core.bus.client import Message
from core.runtime.clock import monotonic
from core.wire.topics import Kind

MESSAGES = 20_000
BYTES = 64 * 2**20
"""Of messages; the largest that a broker lets through is a small part of it."""
GROUP_BYTES = 2**20
"""Of a group of messages, but for its last: what comes meanwhile waits for its commit."""
BACKFILL_SHARE = 8
"""One in so many of a group are backfill, while there is both."""
PATIENCE_S = 2.0
"""How long a message waits for room: with the keep-alive, less than the half more that a broker waits for a sign."""
_LOOK_S = 0.2


class Inbox:
    """Filled by the network thread and emptied by another."""

    def __init__(self) -> None:
        self._live: deque[Message] = deque()
        self._backfill: deque[Message] = deque()
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._arrived = threading.Condition(self._lock)
        self._wanted = 0
        """Messages that the other thread waits for; 0 while it doesn't."""
        self._stands_still = False
        self._messages = 0
        self._bytes = 0
        self._backfill_messages = 0
        self._backfill_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and all that was taken out is done."""
        return self._messages == 0

    def holds_more_than(self, taken: Sequence[Message]) -> bool:
        """Whether others wait behind those that were taken out last."""
        return self._messages > len(taken)

    def put(self, message: Message) -> bool:
        """Take a message in, or wait a while for room; False when there is none."""
        lane = self._backfill if _is_backfill(message) else self._live
        with self._lock:
            if lane is self._live and not self._fits(message) and not self._stands_still:
                self._stands_still = not self._room.wait_for(lambda: self._fits(message), PATIENCE_S)
            if not self._fits(message):
                return False
            self._messages += 1
            self._bytes += len(message.payload)
            if lane is self._backfill:
                self._backfill_messages += 1
                self._backfill_bytes += len(message.payload)
            lane.append(message)
            if self._wanted and len(self._live) + len(self._backfill) >= self._wanted:
                self._arrived.notify()
        return True

    def gather(self, most: int, linger: float) -> list[Message]:
        """Return up to `most` messages that came within `linger` seconds of the first; none after a while without."""
        with self._lock:
            if not self._wait_for(1, _LOOK_S):
                return []
            self._wait_for(most, linger)
            kept = min(len(self._backfill), max(1, most // BACKFILL_SHARE)) if self._backfill else 0
            taken: list[Message] = []
            size = 0
            for lane, upto in ((self._live, most - kept), (self._backfill, most)):
                first = len(taken)
                while lane and len(taken) < upto and (size < GROUP_BYTES or len(taken) == first):
                    taken.append(lane.popleft())
                    size += len(taken[-1].payload)
            return taken

    def done(self, taken: Sequence[Message]) -> None:
        """Make room for others: these are in the log, or given up."""
        with self._lock:
            self._messages -= len(taken)
            self._bytes -= sum(len(message.payload) for message in taken)
            if self._backfill_messages:
                sizes = [len(message.payload) for message in taken if _is_backfill(message)]
                self._backfill_messages -= len(sizes)
                self._backfill_bytes -= sum(sizes)
            self._stands_still = False
            self._room.notify_all()

    def _wait_for(self, messages: int, seconds: float) -> bool:
        """Wait until so many are there; hold the lock."""
        self._wanted = messages
        ends = monotonic() + seconds
        while len(self._live) + len(self._backfill) < messages and (left := ends - monotonic()) > 0:
            self._arrived.wait(left)
        self._wanted = 0
        return len(self._live) + len(self._backfill) >= messages

    def _fits(self, message: Message) -> bool:
        room = self._messages < MESSAGES and self._bytes + len(message.payload) <= BYTES
        if not _is_backfill(message):
            return room
        its_own = self._backfill_messages * 2 < MESSAGES and (self._backfill_bytes + len(message.payload)) * 2 <= BYTES
        return room and its_own


def _is_backfill(message: Message) -> bool:
    return message.topic.endswith(Kind.BACKFILL)
