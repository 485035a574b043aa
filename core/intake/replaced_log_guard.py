"""Highest positions that this process has appended: a log that ends before them was replaced while it was open."""

import threading
from collections.abc import Mapping, Sequence

from core.intake.port import LogReplaced
from core.wire.shards import Shard


class ReplacedLogGuard:
    """Highest positions that this process has given, of the log under one name. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._name = ""
        self._refused = ""
        """The name of another log in the place of ours, until it is realigned and has one more."""
        self._heads: dict[Shard, int] = {}

    def must_be_within(self, names: Sequence[str], heads: Mapping[Shard, int]) -> None:
        """Compare with the heads that an append begins at; `names` are the log's, the present one last.

        Raises: LogReplaced.
        """
        present = names[-1]
        with self._lock:
            if present != self._name:
                realigned = self._name in names or bool(self._refused and present != self._refused)
                if self._name and not realigned:
                    self._refused = present
                    msg = f"log {present} is in the place of {self._name}: another log, or an older copy"
                    raise LogReplaced(msg)
                self._name, self._refused, self._heads = present, "", {}
            for shard, head in heads.items():
                if head < self._heads.get(shard, 0):
                    msg = f"shard {shard} ends at {head}, {self._heads[shard]} was appended before: an older copy"
                    raise LogReplaced(msg)

    def note(self, heads: Mapping[Shard, int]) -> None:
        """Take in where an append has come to, once it is durable."""
        with self._lock:
            for shard, head in heads.items():
                self._heads[shard] = max(head, self._heads.get(shard, 0))
