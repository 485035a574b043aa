"""Index of old readings: up to which log position there are none, noted by the telemetry writer as it reads.

It saves the reader of `collector.daily_figures.due_days` a second read of the log. Guarantee: between a position and
the one that `fresh_until` returns, no readable entry has a reading from before the given instant. Nothing is known
about what an earlier process, or another one, read: then the answer is the position itself, and the caller has to read.
"""

import threading
from collections import defaultdict, deque
from typing import NamedTuple

from core.runtime.instant import Instant
from core.wire.shards import Shard

SHORT = 500
"""Positions up to which a part of a shard's log grows until it is queried. One late reading makes its whole part old.
"""
PARTS = 64
"""Parts of a shard's log; the last of them grows without limit, so that memory doesn't."""


class _Part(NamedTuple):
    after: int
    upto: int
    oldest: Instant
    """No reading of the entries behind `after`, up to and including `upto`, is older."""


class FreshnessIndex:
    """Index of old readings. One thread notes what it reads, and one other queries."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._parts: dict[Shard, deque[_Part]] = defaultdict(deque)
        self._grows: set[Shard] = set()
        """Shards whose last part nobody has queried yet."""

    def note(self, shard: Shard, after: int, upto: int, oldest: Instant) -> None:
        """Note that no reading of the entries behind `after`, up to and including `upto`, is older than `oldest`."""
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
        """Return the position up to which nothing behind `after` is from before `since`; `after` if that isn't known.

        Parts up to `after` are forgotten: the caller has passed them.
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
