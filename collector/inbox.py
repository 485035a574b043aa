"""What has come and waits for its commit: bounded, so that a log that can't be written never takes all memory.

A broker that has a backlog sends it faster than it can be written, whatever limits it was asked to keep: Mosquitto
2.0.11 sends thousands of unanswered messages beyond them. So a full inbox lets the network thread wait, and with it the
broker, which keeps the rest. When there is no room after a while, the log stands still: from then on what doesn't fit
is refused, until something was written. That is not in the log, no `down/ack` covers it, and its sender sends it again.
"""

import queue
import threading
from collections.abc import Sequence

from core.bus.client import Message
from core.runtime.clock import monotonic

MESSAGES = 20_000
BYTES = 64 * 2**20
"""Of messages; the largest that a broker lets through is a small part of it."""
PATIENCE_S = 2.0
"""How long a message waits for room: with the keep-alive, less than the half more that a broker waits for a sign."""
_LOOK_S = 0.2


class Inbox:
    """Filled by the network thread and emptied by another."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._stands_still = False
        self._messages = 0
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and all that was taken out is done."""
        return self._messages == 0

    def holds_more_than(self, taken: Sequence[Message]) -> bool:
        """Whether others wait behind those that were taken out last."""
        return self._messages > len(taken)

    def put(self, message: Message) -> bool:
        """Take a message in, or wait a while for room; False when there is none."""
        with self._room:
            if not self._fits(message) and not self._stands_still:
                self._stands_still = not self._room.wait_for(lambda: self._fits(message), PATIENCE_S)
            if not self._fits(message):
                return False
            self._messages += 1
            self._bytes += len(message.payload)
        self._queue.put(message)
        return True

    def gather(self, most: int, linger: float) -> list[Message]:
        """Return up to `most` messages that came within `linger` seconds of the first; none after a while without."""
        taken: list[Message] = []
        try:
            taken.append(self._queue.get(timeout=_LOOK_S))
            ends = monotonic() + linger
            while len(taken) < most and (left := ends - monotonic()) > 0:
                taken.append(self._queue.get(timeout=left))
            while len(taken) < most:
                taken.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return taken

    def done(self, taken: Sequence[Message]) -> None:
        """Make room for others: these are in the log, or given up."""
        with self._room:
            self._messages -= len(taken)
            self._bytes -= sum(len(message.payload) for message in taken)
            self._stands_still = False
            self._room.notify_all()

    def _fits(self, message: Message) -> bool:
        return self._messages < MESSAGES and self._bytes + len(message.payload) <= BYTES
