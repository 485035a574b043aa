"""How a batch lies in a row, in either database: what is looked for has a column of its own, the rest is msgpack."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal

import msgspec

from core.intake.port import Batch, Entry, Stamped
from core.runtime.instant import Instant, Milliseconds
from core.wire.topics import GatewayNumber, Shard

DEAD_LETTERS_KEPT = 2_000
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


def pack(batch: Batch) -> bytes:
    """Return what goes into the column `batch`."""
    return _encode(_Rest(batch.boot, batch.shifted, batch.readings))


def unpack(shard: Shard, row: Row) -> Entry:
    """Return the entry of a row."""
    n, gw, ep, seq, hash_, received, origin, rest = row
    left = _rest(rest)
    return Entry(n, Batch(shard, gw, ep, left.boot, seq, hash_, received, origin, left.readings, left.shifted))


def pack_reading(reading: Stamped) -> bytes:
    """Return what goes into the column `reading` of quarantine."""
    return _encode(reading)


def unpack_reading(packed: bytes) -> Stamped:
    """Return a reading of quarantine."""
    return _stamped(packed)


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
