"""Round-robin order of shards: a reader takes a bounded part at once, so that one backlog holds up no other shard."""

from collections.abc import Iterable

from core.wire.shards import Shard


def round_robin(shards: Iterable[Shard], served: str) -> list[Shard]:
    """Return shards in order, beginning behind the one that was served last (empty: none yet)."""
    return sorted(shards, key=lambda shard: (shard <= served, shard))
