"""Read plan of a unit: the blocks to read for its channels, in as few requests as its profile allows.

Each request costs a turnaround: reading eight registers one by one takes five times as long as in one block.
"""

from collections.abc import Iterable

import msgspec

from gateway_agent.device_profile import COILS, BlockLimits, Function, ProfileChannel
from gateway_agent.register_decoder import Point, points

REQUEST_BYTES = 8
"""Length of any read request as an RTU frame."""


class BlockRead(msgspec.Struct, frozen=True):
    """Read request for `count` registers or coils from `address` on."""

    function: Function
    address: int
    count: int

    @property
    def reply_bytes(self) -> int:
        """Length of the reply as an RTU frame."""
        return 5 + ((self.count + 7) // 8 if self.function in COILS else 2 * self.count)


def blocks(channels: Iterable[ProfileChannel], block: BlockLimits) -> list[BlockRead]:
    """Return the fewest reads that cover every point of the channels.

    A value is never split over two requests, since its halves could be from different instants.
    """
    spans = sorted({span for channel in channels for span in _spans(channel)})
    reads: list[BlockRead] = []
    for function, address, count in spans:
        end = address + count
        if reads and reads[-1].function == function:
            last = reads[-1]
            last_end = last.address + last.count
            if address - last_end <= block.gap and end - last.address <= block.longest:
                reads[-1] = BlockRead(function, last.address, max(end, last_end) - last.address)
                continue
        reads.append(BlockRead(function, address, count))
    return reads


def _spans(channel: ProfileChannel) -> list[tuple[Function, int, int]]:
    """Return (function, first address, count) of each part of a channel that must be read in one request."""
    needed: list[Point] = points(channel)
    value = (channel.function, channel.address, channel.span)
    return [value, *((function, address, 1) for function, address in needed[channel.span :])]
