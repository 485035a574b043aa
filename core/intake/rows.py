"""Rows of the intake log in either database: what is looked for has a column of its own, the rest is msgpack.

| bytes of the column `batch` | meaning |
|---|---|
| 0 | 0xC1, which no msgpack begins with; without it the row is of an earlier version, and all of it is msgpack |
| 1–4 | CRC-32, big-endian, of gw, ep, seq, received, origin, hash and of what follows |
| 5… | msgpack of boot, shift and readings |

Databases have no checksums of their pages, and a value with one bit turned would be another temperature. A row whose
checksum is wrong is read as a batch without readings, and said to be damaged.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal
from zlib import crc32

import msgspec

from core.intake.port import Appended, Batch, DeadLetter, Entry, FaultKind, Stamped
from core.runtime.instant import Instant, Milliseconds
from core.wire.topics import GatewayNumber, Shard, sender_of

DEAD_LETTERS_PER_GATEWAY = 100
DEAD_LETTERS_KEPT = 5_000
"""Of all gateways together, so that fifty with the most don't displace the others'."""
LONGEST_DETAIL = 500
LARGEST_LETTER = 65_536

_CHECKED = 0xC1
_FIRST = bytes([_CHECKED])
_HEAD = struct.Struct(">BI")

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
    rest = _encode(_Rest(batch.boot, batch.shifted, batch.readings))
    crc = _crc(batch.gw, batch.ep, batch.seq, batch.received, batch.origin, batch.hash, rest)
    return _HEAD.pack(_CHECKED, crc) + rest


def unpack(shard: Shard, row: Row) -> Entry:
    """Return the entry of a row; one that is damaged has no readings."""
    n, gw, ep, seq, hash_, received, origin, packed = row
    try:
        left = _rest(_checked(gw, ep, seq, received, origin, hash_, packed))
    except (ValueError, TypeError, struct.error, msgspec.MsgspecError):
        return Entry(n, Batch(shard, gw, ep, "", seq, hash_, received, origin, (), damaged=True))
    return Entry(n, Batch(shard, gw, ep, left.boot, seq, hash_, received, origin, left.readings, left.shifted))


def _checked(gw: str, ep: str, seq: int, received: int, origin: str, hash_: bytes, packed: bytes) -> bytes:
    """Return the msgpack of a row.

    Raises: ValueError when its checksum is wrong.
    """
    if packed[:1] != _FIRST:
        return packed
    rest = packed[_HEAD.size :]
    if _HEAD.unpack_from(packed)[1] != _crc(gw, ep, seq, received, origin, hash_, rest):
        msg = f"entry of {gw}, seq {seq}: checksum"
        raise ValueError(msg)
    return rest


def _crc(gw: str, ep: str, seq: int, received: int, origin: str, hash_: bytes, rest: bytes) -> int:
    return crc32(rest, crc32(hash_, crc32(f"{gw}\0{ep}\0{seq}\0{received}\0{origin}\0".encode())))


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
