"""Register decoder: pure functions from the raw words of a device to readings of the wire contract.

Values are rounded here to the stored resolution (0.01 °C, 0.01 % RH, 1 % battery, 0/1), so that rules see the stored
value. A value that can't be trusted becomes None with its cause; never 0, and never the last value.
tests/unit/test_register_decoder.py tries to break it.
"""

import math
import struct
from collections.abc import Mapping, Sequence

from core.wire.messages import Reading
from core.wire.quality import FAILED, Quality
from gateway_agent.device_profile import COILS, ByteOrder, Function, ProfileChannel, RawType

Point = tuple[Function, int]
"""Function code and address of a register or coil."""
RegisterWords = Mapping[Point, int]
"""Values that were read: registers as unsigned 16-bit words, coils as 0 or 1."""

_FORMATS: dict[RawType, str] = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "f32": ">f", "f64": ">d"}
_DECIMALS = {"t": 2, "h": 2, "batt": 0, "door": 0, "mains": 0}


def points(channel: ProfileChannel) -> list[Point]:
    """Return all points that must be read for the value of a channel."""
    needed: list[Point] = [(channel.function, channel.address + step) for step in range(channel.span)]
    if channel.status:
        needed.append((channel.status.function, channel.status.address))
    if channel.selector:
        needed.append((channel.selector.function, channel.selector.address))
    return needed


def measure(channel: ProfileChannel, words: RegisterWords) -> tuple[float | None, Quality]:
    """Return the rounded value of a channel in its unit, or None with the cause."""
    if any(point not in words for point in points(channel)):
        return None, Quality.PROTOCOL
    if channel.status and words[channel.status.function, channel.status.address] & channel.status.mask:
        return None, Quality.OPEN_OR_SHORT
    registers = [words[channel.function, channel.address + step] for step in range(channel.span)]
    number = raw(registers, channel.type, channel.order, channel.bit if channel.function not in COILS else 0)
    if math.isnan(number) or number in channel.errors or _pattern(registers, channel.order) in channel.errors:
        return None, Quality.OPEN_OR_SHORT
    scale = channel.scale
    if channel.selector:
        content = str(words[channel.selector.function, channel.selector.address])
        if content not in channel.selector.scales:
            return None, Quality.PROTOCOL
        scale = channel.selector.scales[content]
    value = number * scale + channel.offset
    if not channel.valid[0] <= value <= channel.valid[1]:
        return None, Quality.OUT_OF_RANGE
    # + 0.0 turns a rounded −0.0 into 0.0, which would be another value in JSON.
    return round(value, _DECIMALS[channel.quantity]) + 0.0, Quality.GOOD


def reading(channel: ProfileChannel, probe: str, ts: int, value: float | None, q: Quality) -> Reading:
    """Return a reading of the wire contract; a failed one has the value None.

    A stale reading without a value has failed too: no new value came in time.
    """
    if value is None and q & Quality.STALE and not q & FAILED:
        q |= Quality.TIMEOUT
    if value is None and not q & FAILED:
        msg = f"a reading of {probe} without a value says why: one of {FAILED!r}, not {q!r}"
        raise ValueError(msg)
    if channel.quantity == "t":
        return Reading(p=probe, ts=ts, t=value, q=int(q))
    return Reading(p=probe, ts=ts, k=channel.quantity, v=value, q=int(q))


def raw(registers: Sequence[int], kind: RawType, order: ByteOrder, bit: int = 0) -> float:
    """Return the number in registers that are in the device's order; for the type `bit`, that bit (0 is the lowest)."""
    if kind == "bit":
        return registers[0] >> bit & 1
    number: float = struct.unpack(_FORMATS[kind], straight(registers, order))[0]
    return number


def straight(registers: Sequence[int], order: ByteOrder) -> bytes:
    """Return the bytes of a value, most significant first, from registers in the device's order."""
    if order in ("CDAB", "DCBA"):
        registers = registers[::-1]
    layout = "<" if order in ("BADC", "DCBA") else ">"
    return struct.pack(f"{layout}{len(registers)}H", *registers)


def _pattern(registers: Sequence[int], order: ByteOrder) -> int:
    return int.from_bytes(straight(registers, order), "big")
