"""Whose turn is it? Who follows the log takes so much at once, and one shard's backlog must not hold up the others."""

from collections.abc import Iterable

from core.wire.topics import Shard


def in_turn(shards: Iterable[Shard], served: str) -> list[Shard]:
    """Return shards in their order, beginning behind the one that was served last (none yet: an empty text)."""
    return sorted(shards, key=lambda shard: (shard <= served, shard))
