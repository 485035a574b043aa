"""Gateway clocks that run behind: pure functions.

A gateway stamps each publish with its own time, `sent`. One that is ahead of its receipt is wrong at once; one that
lies before it may only have been on its way for long, such as in a broker while the collector was away. So a clock is
found to run behind after CONVINCED live messages in a row whose `sent` lies over two minutes before their receipt,
always by about the same: what waited comes at once, and its delays differ by as much as the times at which it was sent.

What is known is of one boot, and is added to all of its times from then on, live and backfill alike, while the delay of
a message agrees with it. A live message on time ends it. Messages before the third keep the times they came with.
"""

from typing import NamedTuple

import msgspec

from core.intake.port import GatewayClock
from core.runtime.instant import MINUTE, SECOND, Instant, Milliseconds
from core.wire.messages import Batch

CONVINCED = 3
BEHIND = Milliseconds(2 * MINUTE)
"""How far `sent` may lie before its receipt, and how far a delay may differ from what is known of the clock."""
_JITTER = SECOND
"""Of a network, within which two delays are the same; and a tenth of the time between them beside it."""
_DRIFT = 10


class _Late(NamedTuple):
    sent: Instant
    received: Instant

    @property
    def delay(self) -> int:
        return self.received - self.sent


class Judged(GatewayClock, frozen=True):
    """What is thought of the clock of a gateway, and why it may be thought otherwise soon."""

    suspects: tuple[_Late, ...] = ()
    """The last live messages, where all of them were late by the same."""

    @property
    def is_right(self) -> bool:
        """Whether nothing has to be remembered of it."""
        return not self.behind and not self.suspects


def is_late(batch: Batch, received: Instant) -> bool:
    """Whether a message came long after it was sent, as nearly none does."""
    return received - batch.sent > BEHIND


def tells_nothing(clock: Judged, batch: Batch, received: Instant) -> bool:
    """Whether a late message was received with the last suspect, as much of a backlog is: that proves nothing."""
    suspects = clock.suspects
    return bool(suspects) and suspects[-1].received == received and is_late(batch, received)


def judge(clock: Judged | None, batch: Batch, received: Instant) -> Judged:
    """Return what is thought of a clock after a live message."""
    if clock is None or clock.boot != batch.boot:
        clock = _right(batch.boot)
    late = _Late(Instant(batch.sent), received)
    if late.delay <= BEHIND or not batch.sent:
        return clock if clock.is_right else _right(batch.boot)
    if _explains(clock, late.delay):
        return msgspec.structs.replace(clock, suspects=()) if clock.suspects else clock
    if clock.suspects and late.sent <= clock.suspects[-1].sent:
        return clock  # the same message again, or one that was overtaken
    suspects = (*clock.suspects, late)
    first = suspects[0]
    if abs(late.delay - first.delay) > _JITTER + (late.sent - first.sent) // _DRIFT:
        return msgspec.structs.replace(clock, suspects=(late,))
    if len(suspects) < CONVINCED:
        return msgspec.structs.replace(clock, suspects=suspects)
    return Judged(batch.boot, Milliseconds(late.delay), received)


def lag_of(clock: GatewayClock | None, batch: Batch, received: Instant) -> Milliseconds:
    """Return what is to be added to the times of a message, 0 where nothing is known that fits it."""
    fits = clock is not None and clock.boot == batch.boot and batch.sent and _explains(clock, received - batch.sent)
    return clock.behind if clock and fits else Milliseconds(0)


def _right(boot: str) -> Judged:
    return Judged(boot, Milliseconds(0), Instant(0))


def _explains(clock: GatewayClock, delay: int) -> bool:
    return bool(clock.behind) and abs(delay - clock.behind) <= BEHIND
