"""What has come and waits for its commit: bounded, so that a log that can't be written never takes all memory.

How much a broker sends before it is answered is bounded by itself: with MQTT 5 by what the bus asks for, Mosquitto's by
its configuration too, and both lie below the bounds here. The embedded broker and strange ones may send more. What
doesn't fit is refused: it is not in the log, so no `down/ack` covers it, and its sender sends it again.
"""

import queue
import threading
from collections.abc import Sequence

from core.bus.client import Message
from core.runtime.clock import monotonic

MESSAGES = 20_000
BYTES = 64 * 2**20
"""Of messages; the largest that a broker lets through is a small part of it."""
_LOOK_S = 0.2


class Inbox:
    """Filled by the network thread, which it never blocks, and emptied by another."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._messages = 0
        self._bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, and all that was taken out is done."""
        return self._messages == 0

    def put(self, message: Message) -> bool:
        """Take a message in; False when there is no room for it."""
        with self._lock:
            if self._messages >= MESSAGES or self._bytes + len(message.payload) > BYTES:
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
            while len(taken) < most:
                left = ends - monotonic()
                taken.append(self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait())
        except queue.Empty:
            pass
        return taken

    def done(self, taken: Sequence[Message]) -> None:
        """Make room for others: these are in the log, or given up."""
        with self._lock:
            self._messages -= len(taken)
            self._bytes -= sum(len(message.payload) for message in taken)
