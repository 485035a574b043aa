"""Which blocks are read to know the channels of a unit: as few requests as its profile allows.

A request costs its turnaround: eight registers one by one take five times as long as in one block.
"""

from collections.abc import Iterable

import msgspec

from gateway_agent.decode import Point, points
from gateway_agent.profile import COILS, Block, Channel, Function

REQUEST_BYTES = 8
"""Length of any read request as an RTU frame."""


class BlockRead(msgspec.Struct, frozen=True):
    """One request: `count` registers or coils from `address` on."""

    function: Function
    address: int
    count: int

    @property
    def reply_bytes(self) -> int:
        """Length of the reply as an RTU frame."""
        return 5 + ((self.count + 7) // 8 if self.function in COILS else 2 * self.count)


def blocks(channels: Iterable[Channel], block: Block) -> list[BlockRead]:
    """Return the fewest reads that hold every point of the channels, each value whole within one read.

    A value is never split over two requests: its halves could be of two moments.
    """
    spans = sorted({span for channel in channels for span in _spans(channel)})
    found: list[BlockRead] = []
    for function, address, count in spans:
        end = address + count
        if found and found[-1].function == function:
            last = found[-1]
            last_end = last.address + last.count
            if address - last_end <= block.gap and end - last.address <= block.longest:
                found[-1] = BlockRead(function, last.address, max(end, last_end) - last.address)
                continue
        found.append(BlockRead(function, address, count))
    return found


def _spans(channel: Channel) -> list[tuple[Function, int, int]]:
    """Return (function, first address, count) of what must be read in one piece."""
    wanted: list[Point] = points(channel)
    value = (channel.function, channel.address, channel.span)
    return [value, *((function, address, 1) for function, address in wanted[channel.span :])]
