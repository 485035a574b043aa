"""Verification of an intake log: every row against its checksum, every shard against its counter."""

import time
from collections.abc import Mapping
from typing import Protocol

from core.intake.port import Entry
from core.wire.topics import Shard

PAGE = 1_000
PAUSE_S = 0.005
NAMED = 20
"""So many faults are named; one damaged page has many."""


class _Log(Protocol):
    def heads(self) -> Mapping[Shard, int]: ...

    def firsts(self) -> Mapping[Shard, int]: ...

    def read(self, shard: Shard, after: int, limit: int) -> list[Entry]: ...


def damage_of(log: _Log) -> list[str]:
    """Read all rows, a page at a time, and return what is damaged.

    A shard whose last entry isn't where its counter says, though it has entries, is made of two states of the file: an
    older copy beside the write-ahead log of the newer one.
    """
    found: list[str] = []
    firsts = log.firsts()
    for shard, head in log.heads().items():
        if shard not in firsts:
            continue
        after = firsts[shard] - 1
        while page := log.read(shard, after, PAGE):
            after = page[-1].n
            found += [
                f"entry {shard}/{entry.n} of gateway {entry.batch.gw}: its checksum is wrong"
                for entry in page
                if entry.batch.damaged
            ]
            if len(found) >= NAMED:
                return found[:NAMED]
            time.sleep(PAUSE_S)
        if after < head:
            found.append(f"shard {shard}: its last entry is {after}, and the counter says {head}")
    return found
