"""How a batch lies in a row, in either database: what is looked for has a column of its own, the rest is msgpack."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from core.intake.port import Appended, Batch, DeadLetter, Entry, FaultKind, Stamped
from core.runtime.instant import Instant, Milliseconds
from core.wire.topics import GatewayNumber, Shard, sender_of

DEAD_LETTERS_PER_GATEWAY = 100
DEAD_LETTERS_KEPT = 5_000
"""Of all gateways together, so that fifty with the most don't displace the others'."""
LONGEST_DETAIL = 500
LARGEST_LETTER = 65_536

COLUMNS = "n, gw, ep, seq, hash, received, origin, batch"
"""Of an entry, as `unpack` takes them."""

Row = tuple[int, GatewayNumber, str, int, bytes, Instant, Literal["live", "backfill", "released"], bytes]
Released = tuple[Shard, GatewayNumber, str, str, int, bytes]
"""shard, gw, ep, boot, seq and the packed reading of a row that left quarantine."""


class _Rest(msgspec.Struct, frozen=True, array_like=True):
    """What of a batch isn't in a column of its entry."""

    boot: str
    shifted: Milliseconds
    readings: tuple[Stamped, ...]


_encode = msgspec.msgpack.Encoder().encode
_rest = msgspec.msgpack.Decoder(_Rest).decode
_stamped = msgspec.msgpack.Decoder(Stamped).decode
_held: msgspec.msgpack.Decoder[Stamped | bytes] = msgspec.msgpack.Decoder(Stamped | bytes)


def pack(batch: Batch) -> bytes:
    """Return what goes into the column `batch`."""
    return _encode(_Rest(batch.boot, batch.shifted, batch.readings))


def unpack(shard: Shard, row: Row) -> Entry:
    """Return the entry of a row."""
    n, gw, ep, seq, hash_, received, origin, rest = row
    left = _rest(rest)
    return Entry(n, Batch(shard, gw, ep, left.boot, seq, hash_, received, origin, left.readings, left.shifted))


def pack_reading(reading: Stamped | bytes) -> bytes:
    """Return what goes into the column `reading` of quarantine."""
    return _encode(reading)


def unpack_reading(packed: bytes) -> Stamped | bytes:
    """Return a reading of quarantine."""
    return _held.decode(packed)


FaultRow = tuple[str, FaultKind, int, Instant, Instant, str]
"""Gateway, kind, how many more, first and last time, detail of the last."""


def faults(batches: Sequence[Batch], answers: Sequence[Appended], letters: Sequence[DeadLetter]) -> list[FaultRow]:
    """Return what an append adds to the faults of gateways, ordered so that no two transactions block each other."""
    told: dict[tuple[str, FaultKind], list[tuple[Instant, str]]] = defaultdict(list)
    for letter in letters:
        told[sender_of(letter.topic), FaultKind.DEAD_LETTER].append((letter.at, letter.reason))
    for batch, answer in zip(batches, answers, strict=True):
        if answer is Appended.CLONE:
            told[batch.gw, FaultKind.CLONE].append(
                (batch.received, f"ep {batch.ep}, seq {batch.seq}, boot {batch.boot}")
            )
    return [
        (gw, kind, len(some), some[0][0], some[-1][0], some[-1][1][:LONGEST_DETAIL])
        for (gw, kind), some in sorted(told.items())
    ]


def dropped(gone: Sequence[tuple[str, str]], why: str, now: Instant) -> list[FaultRow]:
    """Return what readings (gateway, reason) that were dropped from quarantine add to the faults of gateways."""
    return [
        (gw, FaultKind.DROPPED, n, now, now, f"{why}; the most of them {Counter(reasons).most_common(1)[0][0]}")
        for gw in sorted({gw for gw, _ in gone})
        for reasons in ([reason for of, reason in gone if of == gw],)
        for n in (len(reasons),)
    ]


def released(ended: Iterable[Released], now: Instant, shift: Milliseconds) -> list[Batch]:
    """Return what readings that leave quarantine are appended as: those of one message in one batch."""
    messages: dict[tuple[Shard, GatewayNumber, str, str, int], list[Stamped]] = defaultdict(list)
    for shard, gw, ep, boot, seq, packed in ended:
        reading = _stamped(packed)
        messages[shard, gw, ep, boot, seq].append(msgspec.structs.replace(reading, at=Instant(reading.at + shift)))
    return [
        Batch(shard, gw, ep, boot, seq, b"", now, "released", tuple(readings), Milliseconds(-shift))
        for (shard, gw, ep, boot, seq), readings in messages.items()
    ]
