"""Missing entries of the intake log: those that neither the pruner nor a realignment has dropped.

The log notes of each shard the highest position that was pruned, in the pruning transaction. Every entry above it must
be there, up to the head; at or below it any may be gone. So a table that was emptied, or rows that a disk lost, are not
taken for pruned ones, and no reader passes them by silently.
"""

from collections.abc import Sequence

import msgspec

from core.intake.port import EntriesMissing, EntryGap, LogEntry
from core.wire.shards import Shard


class ShardEnds(msgspec.Struct, frozen=True, gc=False):
    """Bounds of a shard's entries, as of the moment at which they are read."""

    head: int
    pruned: int
    """Highest position that was pruned, 0 for none."""


NO_ENTRIES = ShardEnds(0, 0)


def require_unbroken(shard: Shard, after: int, limit: int, entries: Sequence[LogEntry], ends: ShardEnds) -> None:
    """Compare the entries read behind `after` with those that must be there.

    Raises: EntriesMissing.
    """
    if gap := first_gap(shard, after, limit, [entry.n for entry in entries], ends):
        raise EntriesMissing(str(gap))


def first_gap(shard: Shard, after: int, limit: int, found: Sequence[int], ends: ShardEnds) -> EntryGap | None:
    """Return the first missing positions of up to `limit` behind `after`; `found` are those read, ascending."""
    known = max(after, ends.pruned)
    if found and found[0] == known + 1 and found[-1] == known + len(found):  # as nearly always
        known = found[-1]
    for n in found:
        if n > known + 1:
            return EntryGap(shard, known + 1, n - 1)
        known = max(known, n)
    return EntryGap(shard, known + 1, ends.head) if len(found) < limit and known < ends.head else None
