"""Verification of an intake log: every row against its checksum, every shard against its counter.

What has no checksum needs none. A counter (`head`) that is turned upwards contradicts the last entry, here; downwards
it ends before a cursor or before what this process has appended. A copy of a cursor that is turned upwards is ahead of
the cursor, and one that is turned downwards is moved on again. A name that is turned is another log's. All of these
shut the gate of the collector (`core.health.cursor_alignment`); tried by tests/contract/intake/test_damage.py.
"""

import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Protocol

from core.intake import row_codec
from core.intake.port import EntryGap, Life, LogEntry
from core.wire.shards import GatewayNumber, Shard

PAGE = 1_000
PAUSE_S = 0.005
NAMED = 20
"""So many faults are named; one damaged page has many."""


class _Log(Protocol):
    def heads(self) -> Mapping[Shard, int]: ...

    def firsts(self) -> Mapping[Shard, int]: ...

    def pruned(self) -> Mapping[Shard, int]: ...

    def entries_after(self, shard: Shard, after: int, limit: int) -> list[LogEntry]: ...

    def seen_after(self, last: tuple[str, str, int], limit: int) -> list[row_codec.SeenRow]: ...

    def held_after(self, last: int, limit: int) -> list[row_codec.HeldRow]: ...


def damage_of(log: _Log) -> list[str]:
    """Read all rows, a page at a time, and return what is damaged."""
    return list(islice(_damage(log), NAMED))


def _damage(log: _Log) -> Iterator[str]:
    firsts = log.firsts()
    for shard, head in log.heads().items():
        yield from _damaged_entries(log, shard, firsts.get(shard, 1), head)
    yield from map(row_codec.wrong_range, _damaged_ranges(log))
    yield from _damaged_held(log)


def _damaged_entries(log: _Log, shard: Shard, first: int, head: int) -> Iterator[str]:
    """Yield what is wrong with the entries of a shard.

    A shard whose last entry isn't where its counter says, though it has entries, is made of two states of the file: an
    older copy beside the write-ahead log of the newer one. What is pruned meanwhile isn't missing.
    """
    after = 0
    while page := log.entries_after(shard, max(after, first - 1), PAGE):
        for entry in page:
            if entry.batch.damaged:
                yield f"entry {shard}/{entry.n} of gateway {entry.batch.gw}: its checksum is wrong"
            yield from _missing(log, shard, after, entry.n)
            after = entry.n
        time.sleep(PAUSE_S)
    if after < head and log.pruned().get(shard, 0) < head:
        yield f"shard {shard}: its last entry is {after}, and the counter says {head}; see coldchain realign"


def _missing(log: _Log, shard: Shard, after: int, n: int) -> Iterator[str]:
    """Yield what is missing between two entries that are there. What has been pruned meanwhile isn't missing."""
    if n > after + 1 and n > (known := max(after, log.pruned().get(shard, 0))) + 1:
        yield str(EntryGap(shard, known + 1, n - 1))


def damaged_lives(log: _Log) -> list[Life]:
    """Return the lives of which a range of numbers seen is damaged."""
    return list(dict.fromkeys((GatewayNumber(gw), ep) for gw, ep, *_ in _damaged_ranges(log)))


def _damaged_ranges(log: _Log) -> Iterator[row_codec.SeenRow]:
    last = ("", "", 0)
    while page := log.seen_after(last, PAGE):
        last = page[-1][:3]
        yield from (row for row in page if not row_codec.is_sound_range(row))
        time.sleep(PAUSE_S)


def _damaged_held(log: _Log) -> Iterator[str]:
    last = 0
    while page := log.held_after(last, PAGE):
        last = page[-1][0]
        for id_, gw, ep, boot, seq, packed in page:
            if not row_codec.is_sound(gw, ep, boot, seq, packed):
                yield f"reading {id_} in quarantine, of gateway {gw}: its checksum is wrong"
        time.sleep(PAUSE_S)
