"""Limits of quarantine, and the pruning rule that holds them, for either database.

Of one gateway the newest `most` held readings stay, and nothing stays that came before an instant. What is dropped is
counted as a fault of its gateway. Each transaction drops a small part, so that no append waits for the whole.
"""

import time
from collections.abc import Callable, Iterable

import msgspec

from core.intake.port import QuarantineBacklog
from core.runtime.instant import DAY, Instant, Milliseconds
from core.wire.shards import GatewayNumber

RETENTION = Milliseconds(90 * DAY)
MOST_OF_A_GATEWAY = 100_000
"""Nine days of eight probes that are read once a minute. The oldest are dropped first, and counted."""
_AT_ONCE = 2_000
_PAUSE_S = 0.02
_EVER = Instant(2**62)


class Excess(msgspec.Struct, frozen=True):
    """What of a gateway is to be dropped: the oldest `n` of what came before an instant, or all of it."""

    gw: GatewayNumber
    n: int
    before: Instant
    why: str


def prune(
    backlogs: Callable[[int], Iterable[QuarantineBacklog]],
    drop: Callable[[Excess, int], int],
    *,
    before: Instant,
    most: int,
) -> int:
    """Drop what is too old, then what is too much; returns how many readings.

    `backlogs` returns those of at least so many readings; `drop` drops up to so many in one transaction, and returns
    how many.
    """
    old = [Excess(one.gw, one.n, before, "held for too long") for one in backlogs(1) if one.first < before]
    dropped = sum(_drop(excess, drop) for excess in old)
    much = [Excess(one.gw, one.n - most, _EVER, f"more than {most} were held") for one in backlogs(most + 1)]
    return dropped + sum(_drop(excess, drop) for excess in much)


def _drop(excess: Excess, drop: Callable[[Excess, int], int]) -> int:
    dropped = 0
    while dropped < excess.n:
        part = min(_AT_ONCE, excess.n - dropped)
        gone = drop(excess, part)
        dropped += gone
        if gone < part:
            break
        time.sleep(_PAUSE_S)
    return dropped
