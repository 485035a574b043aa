"""How readings are written into bytes, and read back exactly or not at all.

A frame is what one write stored of one hour, in the order in which it came. A block is one series over an hour (a day,
a month: the codec doesn't mind), ordered, each instant once. Both begin with a version and end with a CRC-32 over
themselves and the key that they are stored under, so that bytes that rotted, or stand in another's place, are found
and never read.

A block holds: count; first instant, from the start of its span; cadence; scale (the greatest common divisor of the
value's steps, 10 for a 0.1 °C sensor); first value; then, each packed by itself since each has its own small alphabet:
the instants, either by how far each is from a clock that ticks at the cadence (a poller that keeps time) or by how much
longer than the cadence each step is (one that doesn't), whichever is shorter; which readings failed and their
qualities, where there are any: one by one, or as columns where they are many; the steps of values by the scale. Numbers
take the narrowest width that holds them all.

Qualities have 16 bits. Frames of version 1 and blocks of version 2 were written when they had 8, and are still read.
"""

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from core.runtime.instant import HOUR
from core.telemetry.columns import FAILED, SERIES_BITS, Columns

_FRAME = struct.Struct("<BI")
_FRAME_VERSIONS = (1, 2)
_BYTES_A_READING = 14

_BLOCK_VERSIONS = (0x20, 0x30)
_WIDE = 0x30
"""The block version from which qualities have 16 bits."""
_BY_CLOCK, _FEW_MARKS, _MANY_MARKS = 1, 2, 4
_FEW = 8
"""Where fewer than one in so many readings failed or has a quality, these are written one by one."""
_WIDTHS: tuple[np.dtype[Any], ...] = tuple(np.dtype(name) for name in ("<i1", "<i2", "<i4", "<i8"))
_CRC_BYTES = 4
_MORE = 0x80
"""Set in every byte of a number but its last."""
_SERIES = (1 << SERIES_BITS) - 1
_ZEROS = 0xFF
"""Stands for a width: nothing but zeros."""
_SHORT = 128
"""Bytes below which one way to pack is enough."""

Whole = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Qualities = npt.NDArray[np.uint16]


class Damaged(Exception):
    """Stored bytes that fail their checksum or are of another version; the text says which. Nothing is handed out."""


def encode_frame(hour: int, columns: Columns) -> bytes:
    """Write the readings of an hour, in their order."""
    body = b"".join(
        (
            _planes(columns.series.astype("<u4")),
            _planes((columns.at - hour * HOUR).astype("<u4")),
            _planes(columns.value.astype("<i4")),
            _planes(columns.q.astype("<u2")),
        )
    )
    data = _FRAME.pack(_FRAME_VERSIONS[-1], columns.size) + zlib.compress(body, 1)
    return data + _checksum(hour, data)


def decode_frame(hour: int, data: bytes) -> Columns:
    """Read a frame back.

    Raises: Damaged.
    """
    _check(hour, data, f"frame of hour {hour}", _FRAME_VERSIONS)
    version, count = _FRAME.unpack_from(data)
    body = zlib.decompress(data[_FRAME.size : -_CRC_BYTES], bufsize=count * _BYTES_A_READING)
    return Columns(
        _columns_of(body, 0, count, "<u4").astype(np.uint32, copy=False),
        _columns_of(body, 4 * count, count, "<u4").astype(np.int64) + hour * HOUR,
        _columns_of(body, 8 * count, count, "<i4").astype(np.int32, copy=False),
        _columns_of(body, 12 * count, count, "<u1" if version == 1 else "<u2").astype(np.uint16, copy=False),
    )


def encode_block(key: int, start: int, columns: Columns) -> bytes:
    """Write ordered readings of one series, at least one, in a span that begins at `start`."""
    at = columns.at
    failed = columns.value == FAILED
    value = columns.value[~failed].astype(np.int64)
    between = np.diff(at)
    cadence = int(np.sort(between)[len(between) // 2]) if len(between) else 0
    steps = np.diff(value)
    scale = int(np.gcd.reduce(steps)) or 1 if len(steps) else 1
    first = int(value[0]) if len(value) else 0
    flags, times = 0, _packed_numbers(between - cadence)
    by_clock = b"".join(map(_packed_numbers, _from_clock(at, cadence))) if len(between) else times
    if len(by_clock) < len(times):
        flags, times = _BY_CLOCK, by_clock
    marked, marks = _marks(failed, columns.q)
    flags |= marked
    head = (len(at), _zigzag(int(at[0]) - start), _zigzag(cadence), scale, _zigzag(first))
    parts = [*map(_varint, head), times, marks, _packed_numbers(steps // scale)]
    data = b"".join((bytes((_BLOCK_VERSIONS[-1] | flags,)), *parts))
    return data + _checksum(key, data)


def decode_block(key: int, start: int, data: bytes) -> Columns:
    """Read a block back; `key` is what it is stored under, its lowest 24 bits the series.

    Raises: Damaged.
    """
    _check(key, data, f"block {key} (series {key & _SERIES})", _BLOCK_VERSIONS, version_bits=0xF0)
    flags, place = data[0], 1
    head = []
    for _ in range(5):
        number, place = _read_varint(data, place)
        head.append(number)
    count, scale = head[0], head[3]
    offset, cadence, first = (_unzigzag(head[which]) for which in (1, 2, 4))

    at = np.empty(count, np.int64)
    at[0] = start + offset
    if flags & _BY_CLOCK:
        away, place = _numbers(data, place, count - 1)
        skipped, place = _numbers(data, place, count - 1)
        ticks = np.add.accumulate(skipped, dtype=np.int64)
        ticks += np.arange(1, count)
        np.add(ticks * cadence, away, out=at[1:])
        at[1:] += at[0]
    else:
        steps, place = _numbers(data, place, count - 1)
        np.add(steps, cadence, out=at[1:], dtype=np.int64)
        np.add.accumulate(at, out=at)

    failed, q, place = _read_marks(data, place, flags, count)
    measured = count - int(failed.sum())
    steps, place = _numbers(data, place, max(0, measured - 1))
    value = np.empty(measured, np.int64)
    if measured:
        value[0] = first
        np.multiply(steps, scale, out=value[1:], dtype=np.int64)
        np.add.accumulate(value, out=value)
    if measured < count:
        spread = np.full(count, FAILED, np.int64)
        spread[~failed] = value
        value = spread
    return Columns(np.full(count, key & _SERIES, np.uint32), at, value.astype(np.int32), q)


def _marks(failed: Mask, q: Qualities) -> tuple[int, bytes]:
    """Return how it is written which readings failed and what their qualities are, and that."""
    marked = np.flatnonzero(failed | (q != 0))
    if not len(marked):
        return 0, b""
    if len(marked) * _FEW > len(q):
        return _MANY_MARKS, _packed(np.packbits(failed).tobytes()) + _packed(_planes(q.astype("<u2")))
    between = np.diff(marked, prepend=0).tolist()
    parts = [_varint(len(marked))]
    for gap, bad, mark in zip(between, failed[marked].tolist(), q[marked].tolist(), strict=True):
        parts += [_varint(gap << 1 | bad), _varint(mark)]
    return _FEW_MARKS, b"".join(parts)


def _read_marks(data: bytes, place: int, flags: int, count: int) -> tuple[Mask, Qualities, int]:
    """Read what `_marks` wrote, and where it ends."""
    is_wide = flags & 0xF0 >= _WIDE
    if flags & _MANY_MARKS:
        bitmap, place = _unpacked(data, place)
        qualities, place = _unpacked(data, place)
        failed = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=count) != 0
        kind = "<u2" if is_wide else "<u1"
        return failed, _columns_of(qualities, 0, count, kind).astype(np.uint16, copy=False), place
    failed, q = np.zeros(count, np.bool_), np.zeros(count, np.uint16)
    if flags & _FEW_MARKS:
        left, place = _read_varint(data, place)
        which = 0
        for _ in range(left):
            step, place = _read_varint(data, place)
            which += step >> 1
            failed[which] = step & 1
            q[which], place = _read_varint(data, place) if is_wide else (data[place], place + 1)
    return failed, q, place


def _from_clock(at: Whole, cadence: int) -> tuple[Whole, Whole]:
    """Return how far each reading but the first is from the tick next to it, and how many ticks had none before it."""
    since = at - at[0]
    tick = (since + cadence // 2) // cadence
    return (since - tick * cadence)[1:], np.diff(tick) - 1


def _check(key: int, data: bytes, what: str, versions: tuple[int, ...], version_bits: int = 0xFF) -> None:
    if data[-_CRC_BYTES:] != _checksum(key, data[:-_CRC_BYTES]):
        msg = f"{what}: its {len(data)} bytes fail their checksum"
        raise Damaged(msg)
    if (found := data[0] & version_bits) not in versions:
        one = version_bits & -version_bits
        known = " and ".join(str(version // one) for version in versions)
        there = f"{what}: has version {found // one}, this coldchain knows {known}: "
        if found > versions[-1]:
            raise Damaged(there + "install the newer one again")
        raise Damaged(there + "go back to the older one, or begin anew with another telemetry folder (CHANGELOG.md)")


def _checksum(key: int, data: bytes) -> bytes:
    return zlib.crc32(data, zlib.crc32(key.to_bytes(8, "little", signed=True))).to_bytes(_CRC_BYTES, "little")


def _planes(column: npt.NDArray[Any]) -> bytes:
    """Put all lowest bytes first, then all second ones …: long runs of equal bytes, which deflate fast and small."""
    return column.view(np.uint8).reshape(-1, column.itemsize).T.tobytes()


def _columns_of(body: bytes, place: int, count: int, kind: str) -> npt.NDArray[Any]:
    width = np.dtype(kind).itemsize
    planes = np.frombuffer(body, np.uint8, count * width, place).reshape(width, count)
    return np.ascontiguousarray(planes.T).view(kind).reshape(count)


def _packed_numbers(numbers: Whole) -> bytes:
    """Pack whole numbers in the narrowest width that holds them; all zeros take one byte."""
    if not numbers.any():
        return bytes((_ZEROS,))
    low, high = int(numbers.min()), int(numbers.max())
    bits = max(low ^ (low >> 63), high ^ (high >> 63)).bit_length() + 1
    width = max(0, (bits - 1).bit_length() - 3)
    return bytes((width,)) + _packed(_planes(numbers.astype(_WIDTHS[width])))


def _numbers(data: bytes, place: int, count: int) -> tuple[npt.NDArray[Any], int]:
    """Read what `_packed_numbers` wrote of so many, and where it ends."""
    width = data[place]
    if width == _ZEROS:
        return np.zeros(count, np.int8), place + 1
    body, place = _unpacked(data, place + 1)
    kind = _WIDTHS[width]
    return (np.frombuffer(body, kind) if not width else _columns_of(body, 0, count, kind.str)), place


def _packed(body: bytes) -> bytes:
    """Deflate, where that is shorter: runs and an alphabet's few letters are all there is to find in such numbers."""
    best = body
    for strategy in (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY) if len(body) >= _SHORT else (zlib.Z_RLE,):
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15, 8, strategy)
        small = deflate.compress(body) + deflate.flush()
        best = small if len(small) < len(best) else best
    return _varint(len(best) << 1 | (best is not body)) + best


def _unpacked(data: bytes, place: int) -> tuple[bytes, int]:
    """Read what `_packed` wrote, and where it ends."""
    length, place = _read_varint(data, place)
    end = place + (length >> 1)
    body = data[place:end]
    return (zlib.decompress(body, -15) if length & 1 else body), end


def _zigzag(number: int) -> int:
    return number * 2 if number >= 0 else -number * 2 - 1


def _unzigzag(number: int) -> int:
    return -(number + 1 >> 1) if number & 1 else number >> 1


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= _MORE:
        out.append(number & (_MORE - 1) | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & (_MORE - 1)) << shift
        if byte < _MORE:
            return number, place
        shift += 7
