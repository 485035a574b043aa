"""Read-ahead of the intake log: the next entries of every shard, live ones before those of a backlog.

Within a shard the order of the log is kept. Shards whose next entry is live go first, so a live reading waits for no
other shard's backlog (tests/integration/test_follower.py). The rest of a chunk is filled shard by shard: it then has
many readings of few probes, whose rows are written once. The next chunk begins with the next shard, so no shard waits
for the end of another's backlog.
"""

from collections.abc import Mapping

from core.intake.port import IntakeLog, LogEntry
from core.intake.round_robin import round_robin
from core.wire.shards import Shard
from core.wire.states import IntakeOrigin

BACKLOG_WEIGHT = 5
"""Readings of a backlog that count as one live reading: most are late, and only marked."""
LOOKED_AT = 256
"""Entries that are read at once, of all shards together that have none in memory."""


class ReadAhead:
    """Entries that were read and not followed yet. For one thread."""

    def __init__(self, log: IntakeLog) -> None:
        self._log = log
        self._entries: dict[Shard, list[LogEntry]] = {}
        self._served = ""
        """The shard that the last chunk ended with."""

    def clear(self) -> None:
        """Drop all entries: they may no longer be those behind the cursors."""
        self._entries.clear()

    def next(
        self, positions: Mapping[Shard, int], heads: Mapping[Shard, int], room: int
    ) -> dict[Shard, list[LogEntry]]:
        """Return the next entries, of about `room` readings; they are kept until `followed` drops them."""
        turns = round_robin((shard for shard, head in heads.items() if positions.get(shard, 0) < head), self._served)
        missing = [shard for shard in turns if not self._entries.get(shard)]
        if missing:
            self._read({shard: positions.get(shard, 0) for shard in missing}, max(1, LOOKED_AT // len(missing)))
        taken: dict[Shard, list[LogEntry]] = {}
        for live in (True, False):
            for shard in turns:
                while room > 0 and (entry := self._after(shard, len(taken.get(shard, ())), heads[shard], room)):
                    if live and entry.batch.origin != IntakeOrigin.LIVE:
                        break
                    taken.setdefault(shard, []).append(entry)
                    self._served = shard
                    room -= _weight(entry)
        return taken

    def followed(self, taken: Mapping[Shard, list[LogEntry]]) -> None:
        """Drop entries that the cursors have passed."""
        for shard, entries in taken.items():
            del self._entries[shard][: len(entries)]

    def _after(self, shard: Shard, place: int, head: int, room: int) -> LogEntry | None:
        """Return the entry of a shard at an index, read now if it isn't in memory; None behind the head."""
        known = self._entries.setdefault(shard, [])
        if place == len(known) and known and known[-1].n < head:
            self._read({shard: known[-1].n}, 1 + room // 10)
        return known[place] if place < len(known) else None

    def _read(self, after: Mapping[Shard, int], limit: int) -> None:
        for shard, entries in self._log.read_each(after, limit).items():
            self._entries.setdefault(shard, []).extend(entries)


def _weight(entry: LogEntry) -> int:
    size = len(entry.batch.readings)
    return size if entry.batch.origin == IntakeOrigin.LIVE else -(-size // BACKLOG_WEIGHT)
