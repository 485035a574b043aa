"""De-duplication of batches before an append, for either database.

What is new, a duplicate or a clone, and its position.

The adapter reads what is known near the numbers, under a lock that no other append of these shards passes, and writes
what is decided here.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from core.intake.port import IN_PARTS, AppendResult, IntakeBatch, Life, LogEntry, Lost, WithheldReading
from core.intake.seq_ranges import SeqRangeSet
from core.runtime.instant import Instant
from core.wire.shards import GatewayNumber, Shard

Hashes = Mapping[tuple[GatewayNumber, str, int], bytes]
"""Of what is in the log, by gateway, life and number."""
Hold = tuple[int, int, IntakeBatch, WithheldReading, Instant]
"""Position, place, the batch, what is withheld of it, since when."""


def numbers(batches: Sequence[IntakeBatch], lost: Sequence[Lost]) -> dict[Life, list[tuple[int, int]]]:
    """Return the ranges of each life that are to be added."""
    asked: dict[Life, list[tuple[int, int]]] = defaultdict(list)
    for batch in batches:
        asked[batch.gw, batch.ep].append((batch.seq, batch.seq))
    for gw, ep, first, last in lost:
        asked[gw, ep].append((first, last))
    return asked


def known(batches: Sequence[IntakeBatch], seen: Mapping[Life, SeqRangeSet]) -> list[IntakeBatch]:
    """Return those whose numbers have been seen: duplicates, or clones where the hash is another."""
    return [batch for batch in batches if (ranges := seen.get((batch.gw, batch.ep))) and ranges.has(batch.seq)]


def decide(
    batches: Sequence[IntakeBatch],
    lost: Sequence[Lost],
    *,
    heads: dict[Shard, int],
    seen: Mapping[Life, SeqRangeSet],
    hashes: Hashes,
) -> tuple[list[AppendResult], list[LogEntry]]:
    """Return the answers, and the new ones at their positions; `heads` and `seen` are moved on.

    Lives whose numbers seen are damaged aren't in `seen`. What has a hash is in the log, even where it isn't in `seen`:
    a damaged row may be that of another life now.
    """
    first_hash = dict(hashes)
    answers: list[AppendResult] = []
    new: list[IntakeBatch] = []
    for batch in batches:
        ranges, key = seen.get((batch.gw, batch.ep)), (batch.gw, batch.ep, batch.seq)
        if ranges is None:
            answers.append(AppendResult.UNKNOWN)
            continue
        if ranges.has(batch.seq) or key in hashes:
            ranges.add(batch.seq, batch.seq)
            answers.append(
                AppendResult.CLONE if _differ(first_hash.get(key, batch.hash), batch.hash) else AppendResult.DUPLICATE
            )
            continue
        ranges.add(batch.seq, batch.seq)
        first_hash[key] = batch.hash
        new.append(batch)
        answers.append(AppendResult.NEW)
    for gw, ep, first, last in lost:
        if (gw, ep) in seen:
            seen[gw, ep].add(first, last)
    return answers, placed(new, heads)


def may_begin(batches: Sequence[IntakeBatch], seen: Mapping[Life, SeqRangeSet]) -> dict[Life, IntakeBatch]:
    """Return the first batch of each life of which nothing is known near its numbers: it may be a life's first."""
    first: dict[Life, IntakeBatch] = {}
    for batch in batches:
        if (ranges := seen.get((batch.gw, batch.ep))) and ranges.is_empty:
            first.setdefault((batch.gw, batch.ep), batch)
    return first


def _differ(one: bytes, other: bytes) -> bool:
    """Return whether two hashes are of different content, as far as they can be compared."""
    return one.startswith(IN_PARTS) == other.startswith(IN_PARTS) and one != other


def placed(batches: Iterable[IntakeBatch], heads: dict[Shard, int]) -> list[LogEntry]:
    """Give each batch the next position of its shard."""
    entries: list[LogEntry] = []
    for batch in batches:
        heads[batch.shard] += 1
        entries.append(LogEntry(heads[batch.shard], batch))
    return entries


def withheld(entries: Iterable[LogEntry]) -> Iterator[Hold]:
    """Yield what goes into quarantine with the append; a place below 0 is of no reading in the entry."""
    for entry in entries:
        for place, one in enumerate(entry.batch.held):
            yield entry.n, -1 - place, entry.batch, one, entry.batch.received
