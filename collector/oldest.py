"""From where on the log has nothing old: what the telemetry writer has just read, nobody need read again to learn that.

Guarantee: behind a position, up to the one that `fresh_until` answers, no entry that can be read has a reading from
before the instant that was asked about. Nothing is known of what was read in an earlier life, or by another process:
the answer is then the position itself, and whoever asks has to read.
"""

import threading
from collections import defaultdict, deque
from typing import NamedTuple

from core.runtime.instant import Instant
from core.wire.topics import Shard

SHORT = 500
"""Positions up to which a part of a shard's log grows, until it is asked about. A late reading costs all of a part."""
PARTS = 64
"""Of a shard's log; the last of so many grows on without an end, so that memory doesn't."""


class _Part(NamedTuple):
    after: int
    upto: int
    oldest: Instant
    """No reading of the entries behind `after`, up to and with `upto`, is older."""


class Oldest:
    """One thread notes what it reads, and one other asks."""

    def __init__(self) -> None:
        """Know nothing."""
        self._lock = threading.Lock()
        self._parts: dict[Shard, deque[_Part]] = defaultdict(deque)
        self._grows: set[Shard] = set()
        """Whose last part nobody has asked about yet."""

    def note(self, shard: Shard, after: int, upto: int, oldest: Instant) -> None:
        """Take in that of the entries behind `after`, up to and with `upto`, no reading is from before `oldest`."""
        with self._lock:
            parts = self._parts[shard]
            if parts and parts[-1].upto != after:
                parts.clear()
            grows = bool(parts) and shard in self._grows and upto - parts[-1].after <= SHORT
            if grows or len(parts) >= PARTS:
                last = parts.pop()
                after, oldest = last.after, min(last.oldest, oldest)
            parts.append(_Part(after, upto, oldest))
            self._grows.add(shard)

    def fresh_until(self, shard: Shard, after: int, since: Instant) -> int:
        """Return up to which position nothing behind `after` is from before `since`; `after` where that isn't known.

        What lies behind `after` is forgotten: whoever asks has come by it.
        """
        with self._lock:
            parts = self._parts[shard]
            self._grows.discard(shard)
            while parts and parts[0].upto <= after:
                parts.popleft()
            for part in parts:
                if part.after > after or part.oldest < since:
                    break
                after = part.upto
            return after
