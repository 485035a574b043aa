"""How readings are written into bytes, and read back exactly or not at all.

A frame is what one write stored of one hour, in the order in which it came. A block is one series over an hour (a day,
a month: the codec doesn't mind), ordered, each instant once. Both begin with a version and end with a CRC-32 over
themselves and the key that they are stored under, so that bytes that rotted, or stand in another's place, are found
and never read.

A block holds: count; first instant, from the start of its span; cadence; scale (the greatest common divisor of the
value's steps, 10 for a 0.1 °C sensor); first value; then the differences of instants less the cadence and of values by
the scale, in the narrowest whole numbers that hold them; failed readings as a bit map; qualities where any isn't 0.
All deflated.
"""

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from core.runtime.instant import HOUR
from core.telemetry.columns import FAILED, SERIES_BITS, Columns

_FRAME = struct.Struct("<BI")
_FRAME_VERSION = 1
_BYTES_A_READING = 13

_BLOCK_VERSION = 0x10
_DEFLATED, _FAILURES, _QUALITIES = 1, 2, 4
_WIDTHS: tuple[np.dtype[Any], ...] = tuple(np.dtype(name) for name in ("<i1", "<i2", "<i4", "<i8"))
_CRC_BYTES = 4
_MORE = 0x80
"""Set in every byte of a number but its last."""
_SERIES = (1 << SERIES_BITS) - 1

Whole = npt.NDArray[np.int64]


class Damaged(Exception):
    """Stored bytes that fail their checksum; the text says which. Nothing of them is handed out."""


def encode_frame(hour: int, columns: Columns) -> bytes:
    """Write the readings of an hour, in their order."""
    body = b"".join(
        (
            _planes(columns.series.astype("<u4")),
            _planes((columns.at - hour * HOUR).astype("<u4")),
            _planes(columns.value.astype("<i4")),
            columns.q.tobytes(),
        )
    )
    data = _FRAME.pack(_FRAME_VERSION, columns.size) + zlib.compress(body, 1)
    return data + _checksum(hour, data)


def decode_frame(hour: int, data: bytes) -> Columns:
    """Read a frame back.

    Raises: Damaged.
    """
    _check(hour, data, f"frame of hour {hour}", _FRAME_VERSION)
    _, count = _FRAME.unpack_from(data)
    body = zlib.decompress(data[_FRAME.size : -_CRC_BYTES], bufsize=count * _BYTES_A_READING)
    return Columns(
        _columns_of(body, 0, count, "<u4").astype(np.uint32, copy=False),
        _columns_of(body, 4 * count, count, "<u4").astype(np.int64) + hour * HOUR,
        _columns_of(body, 8 * count, count, "<i4").astype(np.int32, copy=False),
        np.frombuffer(body, np.uint8, count, 12 * count),
    )


def encode_block(key: int, start: int, columns: Columns) -> bytes:
    """Write ordered readings of one series, at least one, in a span that begins at `start`."""
    at = columns.at
    failed = columns.value == FAILED
    value = columns.value.astype(np.int64)
    flags = 0
    if failed.any():
        flags |= _FAILURES
        value = value[~failed]
    between = np.diff(at)
    cadence = int(np.sort(between)[len(between) // 2]) if len(between) else 0
    times, times_width = _narrow(between - cadence)
    steps = np.diff(value)
    scale = int(np.gcd.reduce(steps)) or 1 if len(steps) else 1
    values, values_width = _narrow(steps // scale)
    first = int(value[0]) if len(value) else 0
    parts = [bytes((times_width | values_width << 4,)), *map(_varint, (len(at), _zigzag(int(at[0]) - start)))]
    parts += [_varint(_zigzag(cadence)), _varint(scale), _varint(_zigzag(first)), times, values]
    if flags & _FAILURES:
        parts.append(np.packbits(failed).tobytes())
    if columns.q.any():
        flags |= _QUALITIES
        parts.append(columns.q.tobytes())
    body = b"".join(parts)
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    small = deflate.compress(body) + deflate.flush()
    if len(small) < len(body):
        flags |= _DEFLATED
        body = small
    data = bytes((_BLOCK_VERSION | flags,)) + body
    return data + _checksum(key, data)


def decode_block(key: int, start: int, data: bytes) -> Columns:
    """Read a block back; `key` is what it is stored under, its lowest 24 bits the series.

    Raises: Damaged.
    """
    _check(key, data, f"block {key} (series {key & _SERIES})", _BLOCK_VERSION, version_bits=0xF0)
    flags = data[0]
    body = data[1:-_CRC_BYTES]
    if flags & _DEFLATED:
        body = zlib.decompress(body, -15)
    count, place = _read_varint(body, 1)
    offset, place = _read_varint(body, place)
    cadence, place = _read_varint(body, place)
    scale, place = _read_varint(body, place)
    first, place = _read_varint(body, place)
    times, values = _WIDTHS[body[0] & 15], _WIDTHS[body[0] >> 4]

    at = np.empty(count, np.int64)
    at[0] = start + _unzigzag(offset)
    np.add(np.frombuffer(body, times, count - 1, place), _unzigzag(cadence), out=at[1:], dtype=np.int64)
    place += (count - 1) * times.itemsize
    np.add.accumulate(at, out=at)

    good: npt.NDArray[np.bool_] | None = None
    measured = count
    if flags & _FAILURES:
        bitmap_bytes = (count + 7) // 8
        tail = bitmap_bytes + (count if flags & _QUALITIES else 0)
        bitmap = np.frombuffer(body, np.uint8, bitmap_bytes, len(body) - tail)
        good = np.unpackbits(bitmap, count=count) == 0
        measured = int(good.sum())
    value = np.empty(measured, np.int64)
    if measured:
        value[0] = _unzigzag(first)
        np.multiply(np.frombuffer(body, values, measured - 1, place), scale, out=value[1:], dtype=np.int64)
        np.add.accumulate(value, out=value)
    if good is not None:
        spread = np.full(count, FAILED, np.int64)
        spread[good] = value
        value = spread
    q = np.frombuffer(body, np.uint8, count, len(body) - count) if flags & _QUALITIES else np.zeros(count, np.uint8)
    return Columns(np.full(count, key & _SERIES, np.uint32), at, value.astype(np.int32), q)


def _check(key: int, data: bytes, what: str, version: int, version_bits: int = 0xFF) -> None:
    if data[-_CRC_BYTES:] != _checksum(key, data[:-_CRC_BYTES]):
        msg = f"{what}: its {len(data)} bytes fail their checksum"
        raise Damaged(msg)
    if data[0] & version_bits != version:
        msg = f"{what}: version {data[0]} was written by a newer coldchain"
        raise Damaged(msg)


def _checksum(key: int, data: bytes) -> bytes:
    return zlib.crc32(data, zlib.crc32(key.to_bytes(8, "little", signed=True))).to_bytes(_CRC_BYTES, "little")


def _planes(column: npt.NDArray[Any]) -> bytes:
    """Put all lowest bytes first, then all second ones …: long runs of equal bytes, which deflate fast and small."""
    return column.view(np.uint8).reshape(-1, column.itemsize).T.tobytes()


def _columns_of(body: bytes, place: int, count: int, kind: str) -> npt.NDArray[Any]:
    width = np.dtype(kind).itemsize
    planes = np.frombuffer(body, np.uint8, count * width, place).reshape(width, count)
    return np.ascontiguousarray(planes.T).view(kind).reshape(count)


def _narrow(numbers: Whole) -> tuple[bytes, int]:
    """Return whole numbers in the narrowest width that holds them, and which of `_WIDTHS` it is."""
    low, high = (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)
    bits = max(low ^ (low >> 63), high ^ (high >> 63)).bit_length() + 1
    width = max(0, (bits - 1).bit_length() - 3)
    return numbers.astype(_WIDTHS[width]).tobytes(), width


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
