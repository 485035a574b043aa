"""Rows of the intake log in either database: what is looked for has a column of its own, the rest is msgpack.

| bytes of the column `batch` | meaning |
|---|---|
| 0 | 0xC1, which no msgpack begins with; without it the row is of an earlier version, and all of it is msgpack |
| 1–4 | CRC-32, big-endian, of gw, ep, seq, received, origin, hash and of what follows |
| 5… | msgpack of boot, shift and readings |

The column `reading` of quarantine is made the same way, with a CRC-32 of gw, ep, boot, seq and what follows.

Databases may have no checksums of their pages, and a value with one bit turned would be another temperature. An entry
whose checksum is wrong is read as a batch without readings, and said to be damaged. A reading of quarantine whose
checksum is wrong is shown as the bytes that are there, and never released. A range of numbers seen with a wrong
checksum could have a batch acknowledged that was never stored: nothing is appended of its life.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import msgspec

from core.intake.port import (
    AppendResult,
    DeadLetter,
    GatewayFaultKind,
    IntakeBatch,
    IntakeUnavailable,
    Life,
    LogEntry,
    QuarantinedReading,
    StampedReading,
)
from core.intake.states import QuarantineState
from core.runtime.instant import Instant, Milliseconds
from core.wire.shards import GatewayNumber, Shard
from core.wire.states import IntakeOrigin
from core.wire.topics import sender_of

LONGEST_DETAIL = 500

_CHECKED = 0xC1
_FIRST = bytes([_CHECKED])
_HEAD = struct.Struct(">BI")

COLUMNS = "n, gw, ep, seq, hash, received, origin, batch"
"""Of an entry, as `unpack` takes them."""

EntryRow = tuple[int, GatewayNumber, str, int, bytes, Instant, str, bytes]
Released = tuple[Shard, GatewayNumber, str, str, int, bytes]
"""shard, gw, ep, boot, seq and the packed reading of a row that left quarantine."""


class _Rest(msgspec.Struct, frozen=True, array_like=True):
    """What of a batch isn't in a column of its entry."""

    boot: str
    shifted: Milliseconds
    readings: tuple[StampedReading, ...]


_ORIGINS = {origin.value: origin for origin in IntakeOrigin}
_encode = msgspec.msgpack.Encoder().encode
_rest = msgspec.msgpack.Decoder(_Rest).decode
_stamped = msgspec.msgpack.Decoder(StampedReading).decode
_held: msgspec.msgpack.Decoder[StampedReading | bytes] = msgspec.msgpack.Decoder(StampedReading | bytes)


def pack(batch: IntakeBatch) -> bytes:
    """Return what goes into the column `batch`."""
    rest = _encode(_Rest(batch.boot, batch.shifted, batch.readings))
    crc = _crc(batch.gw, batch.ep, batch.seq, batch.received, batch.origin, batch.hash, rest)
    return _HEAD.pack(_CHECKED, crc) + rest


def unpack(shard: Shard, row: EntryRow) -> LogEntry:
    """Return the entry of a row; one that is damaged has no readings."""
    n, gw, ep, seq, hash_, received, origin_value, packed = row
    try:
        origin = _ORIGINS[origin_value]
        left = _rest(_checked(gw, ep, seq, received, origin_value, hash_, packed))
    except (KeyError, ValueError, TypeError, struct.error, msgspec.MsgspecError):
        origin = _ORIGINS.get(origin_value, IntakeOrigin.LIVE)
        return LogEntry(n, IntakeBatch(shard, gw, ep, "", seq, hash_, received, origin, (), damaged=True))
    return LogEntry(n, IntakeBatch(shard, gw, ep, left.boot, seq, hash_, received, origin, left.readings, left.shifted))


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


def pack_reading(reading: StampedReading | bytes, batch: IntakeBatch) -> bytes:
    """Return what goes into the column `reading` of quarantine."""
    encoded = _encode(reading)
    return _HEAD.pack(_CHECKED, _held_crc(batch.gw, batch.ep, batch.boot, batch.seq, encoded)) + encoded


def unpack_reading(gw: str, ep: str, boot: str, seq: int, packed: bytes) -> StampedReading | bytes:
    """Return a reading of quarantine; one that is damaged as the bytes that are there."""
    try:
        return _held.decode(_checked_reading(gw, ep, boot, seq, packed))
    except (ValueError, struct.error, msgspec.MsgspecError):
        return packed


HELD_COLUMNS = 'id, gw, reading, reason, detail, since, boot, state, ended, "by", why, ep, seq'
"""Of a reading in quarantine, as `unpack_held` takes them."""
HeldRow = tuple[int, str, str, str, int, bytes]
"""id, gw, ep, boot, seq and packed reading, as verification takes them."""


def unpack_held(row: Sequence[Any]) -> QuarantinedReading:
    """Return what is in quarantine."""
    id_, gw, packed, reason, detail, since, boot, state, *rest, ep, seq = row
    reading = unpack_reading(gw, ep, boot, seq, packed)
    return QuarantinedReading(id_, gw, reading, reason, detail, since, boot, QuarantineState(state), *rest)


def is_sound(gw: str, ep: str, boot: str, seq: int, packed: bytes) -> bool:
    """Return whether a reading of quarantine is what was written."""
    try:
        _held.decode(_checked_reading(gw, ep, boot, seq, packed))
    except (ValueError, struct.error, msgspec.MsgspecError):
        return False
    return True


def _checked_reading(gw: str, ep: str, boot: str, seq: int, packed: bytes) -> bytes:
    """Return the msgpack of a reading of quarantine.

    Raises: ValueError when its checksum is wrong.
    """
    if packed[:1] != _FIRST:
        return packed
    encoded = packed[_HEAD.size :]
    if _HEAD.unpack_from(packed)[1] != _held_crc(gw, ep, boot, seq, encoded):
        msg = f"held reading of {gw}, seq {seq}: checksum"
        raise ValueError(msg)
    return encoded


def _held_crc(gw: str, ep: str, boot: str, seq: int, encoded: bytes) -> int:
    return crc32(encoded, crc32(f"{gw}\0{ep}\0{boot}\0{seq}\0".encode()))


SeenRow = tuple[str, str, int, int, int | None]
"""gw, ep, first, last and checksum of a range of numbers seen; rows of an earlier version have none."""


def range_crc(gw: str, ep: str, first: int, last: int) -> int:
    """Return the checksum of a range of numbers seen."""
    return crc32(f"{gw}\0{ep}\0{first}\0{last}".encode())


def is_sound_range(row: SeenRow) -> bool:
    """Return whether a range of numbers seen is what was written."""
    gw, ep, first, last, crc = row
    return crc is None or crc == range_crc(gw, ep, first, last)


def checked_ranges(life: Life, found: Iterable[tuple[int, int, int | None]]) -> list[tuple[int, int]]:
    """Return the first and last numbers of ranges of a life.

    Raises: IntakeUnavailable when a checksum is wrong.
    """
    ranges = []
    for first, last, crc in found:
        if not is_sound_range((*life, first, last, crc)):
            raise IntakeUnavailable(wrong_range((*life, first, last, crc)))
        ranges.append((first, last))
    return ranges


def sound_ranges(life: Life, found: Iterable[tuple[int, int, int | None]]) -> list[tuple[int, int]]:
    """Return the first and last numbers of those ranges of a life whose checksum is right."""
    return [(first, last) for first, last, crc in found if is_sound_range((*life, first, last, crc))]


def wrong_range(row: SeenRow) -> str:
    """Return what is said of a damaged range."""
    gw, ep, first, last, _ = row
    range_text = f"numbers seen of gateway {gw}, life {ep}, {first} to {last}"
    return f"damaged: {range_text}: the checksum is wrong; see coldchain realign"


FaultRow = tuple[str, GatewayFaultKind, int, Instant, Instant, str]
"""Gateway, kind, how many more, first and last time, detail of the last."""


def faults(
    batches: Sequence[IntakeBatch],
    answers: Sequence[AppendResult],
    letters: Sequence[DeadLetter],
    renewed: Iterable[IntakeBatch] = (),
) -> list[FaultRow]:
    """Return what an append adds to the faults of gateways, ordered so that no two transactions block each other."""
    occurrences: dict[tuple[str, GatewayFaultKind], list[tuple[Instant, str]]] = defaultdict(list)
    for letter in letters:
        occurrences[sender_of(letter.topic), GatewayFaultKind.DEAD_LETTER].append((letter.at, letter.reason))
    for batch, answer in zip(batches, answers, strict=True):
        if answer is AppendResult.CLONE:
            occurrences[batch.gw, GatewayFaultKind.CLONE].append(
                (batch.received, f"ep {batch.ep}, seq {batch.seq}, boot {batch.boot}")
            )
        elif answer is AppendResult.UNKNOWN:
            occurrences[batch.gw, GatewayFaultKind.NUMBERS_DAMAGED].append((batch.received, f"ep {batch.ep}"))
    for batch in renewed:
        occurrences[batch.gw, GatewayFaultKind.RENEWED].append(
            (batch.received, f"ep {batch.ep}, from seq {batch.seq} on")
        )
    return [
        (gw, kind, len(some), some[0][0], some[-1][0], some[-1][1][:LONGEST_DETAIL])
        for (gw, kind), some in sorted(occurrences.items())
    ]


def dropped(gone: Sequence[tuple[str, str]], why: str, now: Instant) -> list[FaultRow]:
    """Return what readings (gateway, reason) that were dropped from quarantine add to the faults of gateways."""
    return [
        (gw, GatewayFaultKind.DROPPED, n, now, now, f"{why}; the most of them {Counter(reasons).most_common(1)[0][0]}")
        for gw in sorted({gw for gw, _ in gone})
        for reasons in ([reason for of, reason in gone if of == gw],)
        for n in (len(reasons),)
    ]


def released(ended: Iterable[Released], now: Instant, shift: Milliseconds) -> list[IntakeBatch]:
    """Return what readings that leave quarantine are appended as: those of one message in one batch."""
    messages: dict[tuple[Shard, GatewayNumber, str, str, int], list[StampedReading]] = defaultdict(list)
    for shard, gw, ep, boot, seq, packed in ended:
        reading = _stamped(_checked_reading(gw, ep, boot, seq, packed))
        messages[shard, gw, ep, boot, seq].append(msgspec.structs.replace(reading, at=Instant(reading.at + shift)))
    return [
        IntakeBatch(shard, gw, ep, boot, seq, b"", now, IntakeOrigin.RELEASED, tuple(readings), Milliseconds(-shift))
        for (shard, gw, ep, boot, seq), readings in messages.items()
    ]
