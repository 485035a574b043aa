"""Bounded inbox of received messages that wait for their commit, so that a broken log never fills the memory.

A broker with a backlog sends it faster than it can be written, whatever limits it was asked to keep: Mosquitto 2.0.11
sends thousands of unanswered messages beyond them. So a full inbox blocks the network thread, and with it the broker,
which keeps the rest. If there is no room after a while, the log is stalled: from then on a message that doesn't fit is
refused, until something was written. A refused message isn't in the log, no `down/ack` covers it, and its sender sends
it again.

Live messages go before backfill, which gets a bounded part of each group: an alarm doesn't wait for another gateway's
readings of yesterday. Backfill has at most half of the room and never blocks the network thread; it keeps a share of
each group that no flood of live messages takes.
"""

import threading
from collections import deque
from collections.abc import Sequence

from core.mqtt.client import MqttMessage
from core.runtime.clock import monotonic
from core.wire.topics import MessageKind

MESSAGES = 20_000
BYTES = 64 * 2**20
"""Bytes of messages; the largest that a broker lets through is a small part of it."""
GROUP_BYTES = 2**20
"""Bytes of a group of messages except its last: messages that arrive meanwhile wait for its commit."""
BACKFILL_SHARE = 8
"""One in so many messages of a group is backfill while both kinds wait."""
FULL_WAIT_S = 2.0
"""Seconds that a message waits for room. With the keep-alive they are less than the 1.5 keep-alives after which a
broker gives a client up."""
_POLL_S = 0.2


class Inbox:
    """Bounded queue that the network thread fills and another empties."""

    def __init__(self) -> None:
        self._live: deque[MqttMessage] = deque()
        self._backfill: deque[MqttMessage] = deque()
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._arrived = threading.Condition(self._lock)
        self._wanted = 0
        """Messages that the other thread waits for; 0 while it doesn't wait."""
        self._is_stalled = False
        self._messages = 0
        self._bytes = 0
        self._backfill_messages = 0
        self._backfill_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and everything that was taken out is done."""
        return self._messages == 0

    def holds_more_than(self, taken: Sequence[MqttMessage]) -> bool:
        """Return whether others wait behind the messages that were taken out last."""
        return self._messages > len(taken)

    def put(self, message: MqttMessage) -> bool:
        """Append a message, or wait a while for room; return False when there is none."""
        queue = self._backfill if _is_backfill(message) else self._live
        with self._lock:
            if queue is self._live and not self._fits(message) and not self._is_stalled:
                self._is_stalled = not self._room.wait_for(lambda: self._fits(message), FULL_WAIT_S)
            if not self._fits(message):
                return False
            self._messages += 1
            self._bytes += len(message.payload)
            if queue is self._backfill:
                self._backfill_messages += 1
                self._backfill_bytes += len(message.payload)
            queue.append(message)
            if self._wanted and len(self._live) + len(self._backfill) >= self._wanted:
                self._arrived.notify()
        return True

    def gather(self, most: int, linger: float) -> list[MqttMessage]:
        """Return up to `most` messages that arrived within `linger` seconds of the first; none if none comes."""
        with self._lock:
            if not self._wait_for(1, _POLL_S):
                return []
            self._wait_for(most, linger)
            backfill_share = min(len(self._backfill), max(1, most // BACKFILL_SHARE)) if self._backfill else 0
            taken: list[MqttMessage] = []
            size = 0
            for queue, limit in ((self._live, most - backfill_share), (self._backfill, most)):
                first = len(taken)
                while queue and len(taken) < limit and (size < GROUP_BYTES or len(taken) == first):
                    taken.append(queue.popleft())
                    size += len(taken[-1].payload)
            return taken

    def done(self, taken: Sequence[MqttMessage]) -> None:
        """Make room: these messages are in the log, or given up."""
        with self._lock:
            self._messages -= len(taken)
            self._bytes -= sum(len(message.payload) for message in taken)
            if self._backfill_messages:
                sizes = [len(message.payload) for message in taken if _is_backfill(message)]
                self._backfill_messages -= len(sizes)
                self._backfill_bytes -= sum(sizes)
            self._is_stalled = False
            self._room.notify_all()

    def _wait_for(self, messages: int, seconds: float) -> bool:
        """Wait until so many messages are there; the caller holds the lock."""
        self._wanted = messages
        ends = monotonic() + seconds
        while len(self._live) + len(self._backfill) < messages and (left := ends - monotonic()) > 0:
            self._arrived.wait(left)
        self._wanted = 0
        return len(self._live) + len(self._backfill) >= messages

    def _fits(self, message: MqttMessage) -> bool:
        room = self._messages < MESSAGES and self._bytes + len(message.payload) <= BYTES
        if not _is_backfill(message):
            return room
        has_backfill_room = (
            self._backfill_messages * 2 < MESSAGES and (self._backfill_bytes + len(message.payload)) * 2 <= BYTES
        )
        return room and has_backfill_room


def _is_backfill(message: MqttMessage) -> bool:
    return message.topic.endswith(MessageKind.BACKFILL)
