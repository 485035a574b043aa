"""Binary codec of the embedded store: readings to bytes, and back exactly or not at all.

A frame holds the readings of one hour that came in one write, in their order of arrival. A block holds one series over
a span (an hour or a day), ordered, each instant once. tests/unit/test_telemetry_codec.py tries to break both.

All integers are little-endian. n is the count of readings.

Frame, stored under the number of its hour since 1970:

| offset | size | meaning |
|---|---|---|
| 0 | 1 | version: 2; 1 is still read |
| 1 | 4 | n, unsigned |
| 5 | … | body, a zlib stream |
| −4 | 4 | CRC-32 |

Body of a frame, inflated. Each column is stored as byte planes: all lowest bytes, then all second bytes, and so on.

| offset | size | meaning |
|---|---|---|
| 0 | 4 n | series, unsigned |
| 4 n | 4 n | milliseconds since the start of the hour, unsigned |
| 8 n | 4 n | value in hundredths, signed; −2^31 for a failed reading |
| 12 n | 2 n | quality, unsigned; in version 1 n bytes, since qualities had 8 bits then |

Block, stored under `span << 24 | series`, the span being the number of the hour or the day since 1970:

| offset | size | meaning |
|---|---|---|
| 0 | 1 | high half: version, 3; 2 is still read. Low half: flags, see below |
| 1 | varint | n, at least 1 |
| … | varint | first instant minus the start of the span, milliseconds, zigzag |
| … | varint | cadence: the median step between instants, milliseconds, zigzag |
| … | varint | scale: the greatest common divisor of the value steps, 10 for a 0.1 °C sensor |
| … | varint | first value, hundredths, zigzag |
| … | numbers | flag 1 clear: n − 1 steps between instants, minus the cadence |
| … | 2 × numbers | flag 1 set: n − 1 distances to the nearest tick of a clock with this cadence; n − 1 skipped ticks |
| … | marks | flag 2 or 4 set: failed readings and qualities |
| … | numbers | steps between the values that are there, divided by the scale |
| −4 | 4 | CRC-32 |

| flag | meaning |
|---|---|
| 1 | the instants are written as distances from a clock, because that is shorter |
| 2 | few marks: a varint with their number, then each mark, as below |
| 4 | many marks: packed bitmap of failed readings, highest bit first; packed byte planes of n qualities |

A mark is a varint 2 × gap + failed (0 or 1), its gap being the distance from the marked reading before it, or from
reading 0; and the quality as a varint. In version 2 a quality is one byte here, and in the planes of many marks.

| element | size | meaning |
|---|---|---|
| varint | 1–10 | seven bits a byte, lowest first; the high bit is set in every byte but the last |
| zigzag | – | 0, −1, 1, −2 … written as 0, 1, 2, 3 … |
| numbers | 1 + packed | width code 0–3: packed byte planes of signed 1, 2, 4 or 8 byte numbers; 255: all zero |
| packed | varint + length | 2 × length + deflated (0 or 1), then so many bytes; raw deflate if deflated |
| CRC-32 | 4 | over the key (8 bytes, signed) and all bytes before it: bytes under a wrong key fail too |
"""

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from core.runtime.instant import HOUR
from core.telemetry.reading_columns import FAILED, SERIES_BITS, ReadingColumns

_FRAME = struct.Struct("<BI")
_FRAME_VERSIONS = (1, 2)
_BYTES_A_READING = 14

_BLOCK_VERSIONS = (0x20, 0x30)
_WIDE_QUALITIES = 0x30
"""The block version from which qualities have 16 bits."""
_BY_CLOCK, _FEW_MARKS, _MANY_MARKS = 1, 2, 4
_FEW = 8
"""Marks are written one by one where at most one reading in this many has one."""
_WIDTHS: tuple[np.dtype[Any], ...] = tuple(np.dtype(name) for name in ("<i1", "<i2", "<i4", "<i8"))
_CRC_BYTES = 4
_MORE = 0x80
"""Bit of a varint's byte: another byte follows."""
_SERIES_MASK = (1 << SERIES_BITS) - 1
_ALL_ZERO = 0xFF
"""Width code of numbers that are all zero."""
_SHORT = 128
"""Bytes below which a second deflate strategy gains nothing worth its time."""

Whole = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Qualities = npt.NDArray[np.uint16]


class Damaged(Exception):
    """Stored bytes that fail their checksum or have an unknown version; the text says which. Nothing is returned."""


def encode_frame(hour: int, columns: ReadingColumns) -> bytes:
    """Encode the readings of an hour, in their order."""
    body = b"".join(
        (
            _to_planes(columns.series.astype("<u4")),
            _to_planes((columns.at - hour * HOUR).astype("<u4")),
            _to_planes(columns.value.astype("<i4")),
            _to_planes(columns.q.astype("<u2")),
        )
    )
    data = _FRAME.pack(_FRAME_VERSIONS[-1], columns.size) + zlib.compress(body, 1)
    return data + _checksum(hour, data)


def decode_frame(hour: int, data: bytes) -> ReadingColumns:
    """Decode a frame.

    Raises: Damaged.
    """
    _check(hour, data, f"frame of hour {hour}", _FRAME_VERSIONS)
    version, count = _FRAME.unpack_from(data)
    body = zlib.decompress(data[_FRAME.size : -_CRC_BYTES], bufsize=count * _BYTES_A_READING)
    return ReadingColumns(
        _from_planes(body, 0, count, "<u4").astype(np.uint32, copy=False),
        _from_planes(body, 4 * count, count, "<u4").astype(np.int64) + hour * HOUR,
        _from_planes(body, 8 * count, count, "<i4").astype(np.int32, copy=False),
        _from_planes(body, 12 * count, count, "<u1" if version == 1 else "<u2").astype(np.uint16, copy=False),
    )


def encode_block(key: int, start: int, columns: ReadingColumns) -> bytes:
    """Encode ordered readings of one series, at least one, in a span that begins at `start`."""
    at = columns.at
    failed = columns.value == FAILED
    value = columns.value[~failed].astype(np.int64)
    intervals = np.diff(at)
    cadence = int(np.sort(intervals)[len(intervals) // 2]) if len(intervals) else 0
    steps = np.diff(value)
    scale = int(np.gcd.reduce(steps)) or 1 if len(steps) else 1
    first = int(value[0]) if len(value) else 0
    flags, times = 0, _pack_numbers(intervals - cadence)
    by_clock = b"".join(map(_pack_numbers, _clock_offsets(at, cadence))) if len(intervals) else times
    if len(by_clock) < len(times):
        flags, times = _BY_CLOCK, by_clock
    marks_flag, marks = _encode_marks(failed, columns.q)
    flags |= marks_flag
    head = (len(at), _zigzag(int(at[0]) - start), _zigzag(cadence), scale, _zigzag(first))
    parts = [*map(_varint, head), times, marks, _pack_numbers(steps // scale)]
    data = b"".join((bytes((_BLOCK_VERSIONS[-1] | flags,)), *parts))
    return data + _checksum(key, data)


def decode_block(key: int, start: int, data: bytes) -> ReadingColumns:
    """Decode a block; `key` is what it is stored under, its lowest 24 bits the series.

    Raises: Damaged.
    """
    _check(key, data, f"block {key} (series {key & _SERIES_MASK})", _BLOCK_VERSIONS, version_bits=0xF0)
    flags, offset = data[0], 1
    head = []
    for _ in range(5):
        number, offset = _read_varint(data, offset)
        head.append(number)
    count, scale = head[0], head[3]
    first_at, cadence, first = (_unzigzag(head[index]) for index in (1, 2, 4))

    at = np.empty(count, np.int64)
    at[0] = start + first_at
    if flags & _BY_CLOCK:
        distances, offset = _unpack_numbers(data, offset, count - 1)
        skipped, offset = _unpack_numbers(data, offset, count - 1)
        ticks = np.add.accumulate(skipped, dtype=np.int64)
        ticks += np.arange(1, count)
        np.add(ticks * cadence, distances, out=at[1:])
        at[1:] += at[0]
    else:
        steps, offset = _unpack_numbers(data, offset, count - 1)
        np.add(steps, cadence, out=at[1:], dtype=np.int64)
        np.add.accumulate(at, out=at)

    failed, q, offset = _decode_marks(data, offset, flags, count)
    measured = count - int(failed.sum())
    steps, offset = _unpack_numbers(data, offset, max(0, measured - 1))
    value = np.empty(measured, np.int64)
    if measured:
        value[0] = first
        np.multiply(steps, scale, out=value[1:], dtype=np.int64)
        np.add.accumulate(value, out=value)
    if measured < count:
        with_failed = np.full(count, FAILED, np.int64)
        with_failed[~failed] = value
        value = with_failed
    return ReadingColumns(np.full(count, key & _SERIES_MASK, np.uint32), at, value.astype(np.int32), q)


def _encode_marks(failed: Mask, q: Qualities) -> tuple[int, bytes]:
    """Encode which readings failed and the qualities; return the flag of the form that was used, and the bytes."""
    marked = np.flatnonzero(failed | (q != 0))
    if not len(marked):
        return 0, b""
    if len(marked) * _FEW > len(q):
        return _MANY_MARKS, _pack(np.packbits(failed).tobytes()) + _pack(_to_planes(q.astype("<u2")))
    gaps = np.diff(marked, prepend=0).tolist()
    parts = [_varint(len(marked))]
    for gap, is_failed, quality in zip(gaps, failed[marked].tolist(), q[marked].tolist(), strict=True):
        parts += [_varint(gap << 1 | is_failed), _varint(quality)]
    return _FEW_MARKS, b"".join(parts)


def _decode_marks(data: bytes, offset: int, flags: int, count: int) -> tuple[Mask, Qualities, int]:
    """Return the failed readings, the qualities, and the offset behind them."""
    is_wide = flags & 0xF0 >= _WIDE_QUALITIES
    if flags & _MANY_MARKS:
        bitmap, offset = _unpack(data, offset)
        qualities, offset = _unpack(data, offset)
        failed = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=count) != 0
        dtype = "<u2" if is_wide else "<u1"
        return failed, _from_planes(qualities, 0, count, dtype).astype(np.uint16, copy=False), offset
    failed, q = np.zeros(count, np.bool_), np.zeros(count, np.uint16)
    if flags & _FEW_MARKS:
        marked, offset = _read_varint(data, offset)
        index = 0
        for _ in range(marked):
            gap_and_failed, offset = _read_varint(data, offset)
            index += gap_and_failed >> 1
            failed[index] = gap_and_failed & 1
            q[index], offset = _read_varint(data, offset) if is_wide else (data[offset], offset + 1)
    return failed, q, offset


def _clock_offsets(at: Whole, cadence: int) -> tuple[Whole, Whole]:
    """Return, for each reading but the first, its distance from the nearest tick and the ticks skipped before it."""
    elapsed = at - at[0]
    tick = (elapsed + cadence // 2) // cadence
    return (elapsed - tick * cadence)[1:], np.diff(tick) - 1


def _check(key: int, data: bytes, what: str, versions: tuple[int, ...], version_bits: int = 0xFF) -> None:
    if data[-_CRC_BYTES:] != _checksum(key, data[:-_CRC_BYTES]):
        msg = f"{what}: its {len(data)} bytes fail their checksum"
        raise Damaged(msg)
    if (version := data[0] & version_bits) not in versions:
        lowest_bit = version_bits & -version_bits
        known = " and ".join(str(each // lowest_bit) for each in versions)
        problem = f"{what}: has version {version // lowest_bit}, this coldchain knows {known}: "
        if version > versions[-1]:
            raise Damaged(problem + "install the newer one again")
        raise Damaged(problem + "go back to the older one, or begin anew with another telemetry folder (CHANGELOG.md)")


def _checksum(key: int, data: bytes) -> bytes:
    return zlib.crc32(data, zlib.crc32(key.to_bytes(8, "little", signed=True))).to_bytes(_CRC_BYTES, "little")


def _to_planes(column: npt.NDArray[Any]) -> bytes:
    """Return the byte planes of a column. Their long runs of equal bytes deflate fast and small."""
    return column.view(np.uint8).reshape(-1, column.itemsize).T.tobytes()


def _from_planes(body: bytes, offset: int, count: int, dtype: str) -> npt.NDArray[Any]:
    width = np.dtype(dtype).itemsize
    planes = np.frombuffer(body, np.uint8, count * width, offset).reshape(width, count)
    return np.ascontiguousarray(planes.T).view(dtype).reshape(count)


def _pack_numbers(numbers: Whole) -> bytes:
    """Pack whole numbers in the narrowest width that holds all; if all are zero they take one byte."""
    if not numbers.any():
        return bytes((_ALL_ZERO,))
    low, high = int(numbers.min()), int(numbers.max())
    bits = max(low ^ (low >> 63), high ^ (high >> 63)).bit_length() + 1
    width = max(0, (bits - 1).bit_length() - 3)
    return bytes((width,)) + _pack(_to_planes(numbers.astype(_WIDTHS[width])))


def _unpack_numbers(data: bytes, offset: int, count: int) -> tuple[npt.NDArray[Any], int]:
    """Return `count` packed numbers, and the offset behind them."""
    width = data[offset]
    if width == _ALL_ZERO:
        return np.zeros(count, np.int8), offset + 1
    body, offset = _unpack(data, offset + 1)
    dtype = _WIDTHS[width]
    return (np.frombuffer(body, dtype) if not width else _from_planes(body, 0, count, dtype.str)), offset


def _pack(body: bytes) -> bytes:
    """Deflate bytes if that makes them shorter. Such numbers have runs and few symbols, but no longer matches."""
    best = body
    for strategy in (zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY) if len(body) >= _SHORT else (zlib.Z_RLE,):
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15, 8, strategy)
        deflated = deflate.compress(body) + deflate.flush()
        best = deflated if len(deflated) < len(best) else best
    return _varint(len(best) << 1 | (best is not body)) + best


def _unpack(data: bytes, offset: int) -> tuple[bytes, int]:
    """Return packed bytes, and the offset behind them."""
    length_and_deflated, offset = _read_varint(data, offset)
    end = offset + (length_and_deflated >> 1)
    body = data[offset:end]
    return (zlib.decompress(body, -15) if length_and_deflated & 1 else body), end


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


def _read_varint(data: bytes, offset: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[offset]
        offset += 1
        number |= (byte & (_MORE - 1)) << shift
        if byte < _MORE:
            return number, offset
        shift += 7
