"""What a device's registers mean: pure functions from raw words to readings of the wire contract.

The agent rounds here, to what is stored (0.01 °C, 0.01 % RH, 1 % battery, 0/1), so that what alarms is what is stored.
A value that can't be trusted becomes None with its cause, never 0 and never the last value.
"""

import math
import struct
from collections.abc import Mapping, Sequence

from core.wire.messages import Reading
from core.wire.quality import FAILED, Quality
from gateway_agent.profile import COILS, Channel, Function, Order, RawType

Point = tuple[Function, int]
"""A place in a device: function code and address."""
Words = Mapping[Point, int]
"""What was read: registers as unsigned 16-bit words, coils as 0 or 1."""

_FORMATS: dict[RawType, str] = {"u16": ">H", "s16": ">h", "u32": ">I", "s32": ">i", "f32": ">f", "f64": ">d"}
_DECIMALS = {"t": 2, "h": 2, "batt": 0, "door": 0, "mains": 0}


def points(channel: Channel) -> list[Point]:
    """Return every place that must be read to know the value of a channel."""
    found: list[Point] = [(channel.function, channel.address + step) for step in range(channel.span)]
    if channel.status:
        found.append((channel.status.function, channel.status.address))
    if channel.selector:
        found.append((channel.selector.function, channel.selector.address))
    return found


def measure(channel: Channel, words: Words) -> tuple[float | None, Quality]:
    """Return the value of a channel in its unit, rounded, or None and why there is none."""
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
    # + 0.0: a rounded −0.0 would travel as a value of its own.
    return round(value, _DECIMALS[channel.quantity]) + 0.0, Quality.GOOD


def reading(channel: Channel, probe: str, ts: int, value: float | None, q: Quality) -> Reading:
    """Write a value as a reading of the wire contract; a failed one has None."""
    if value is None and not q & FAILED:
        msg = f"a reading of {probe} without a value says why: one of {FAILED!r}, not {q!r}"
        raise ValueError(msg)
    if channel.quantity == "t":
        return Reading(p=probe, ts=ts, t=value, q=int(q))
    return Reading(p=probe, ts=ts, k=channel.quantity, v=value, q=int(q))


def raw(registers: Sequence[int], kind: RawType, order: Order, bit: int = 0) -> float:
    """Return the number in registers as they came off the wire; of `bit`, the bit (0 the lowest)."""
    if kind == "bit":
        return registers[0] >> bit & 1
    number: float = struct.unpack(_FORMATS[kind], straight(registers, order))[0]
    return number


def straight(registers: Sequence[int], order: Order) -> bytes:
    """Return the bytes of a value, highest first, from registers in the device's order."""
    if order in ("CDAB", "DCBA"):
        registers = registers[::-1]
    layout = "<" if order in ("BADC", "DCBA") else ">"
    return struct.pack(f"{layout}{len(registers)}H", *registers)


def _pattern(registers: Sequence[int], order: Order) -> int:
    return int.from_bytes(straight(registers, order), "big")
