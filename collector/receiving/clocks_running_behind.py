"""Gateway clocks that run behind: detection by the delay of live messages. Pure functions.

A gateway stamps each message with its own time, `sent`. A `sent` after the receipt proves at once that the clock is
wrong. A `sent` before the receipt may only mean that the message was long on its way, such as in a broker while the
collector was down. So a clock counts as running behind after CONVINCED live messages in a row whose `sent` lies over
two minutes before their receipt, always by about the same: messages that waited arrive together, so their delays differ
by as much as their sending times.

The result holds for one boot. It is added to all its times from then on, live and backfill alike, while a message's
delay agrees with it. A live message on time ends it. Messages before the third keep their own times.
"""

from typing import NamedTuple

import msgspec

from core.intake.port import GatewayClock
from core.runtime.instant import MINUTE, SECOND, Instant, Milliseconds
from core.wire.messages import Batch

CONVINCED = 3
BEHIND = Milliseconds(2 * MINUTE)
"""Longest time that `sent` may lie before its receipt, and that a delay may differ from the known lag of the clock."""
_JITTER = SECOND
"""Jitter of a network: two delays that differ by no more are the same, plus a tenth of the time between them."""
_DRIFT = 10


class _Late(NamedTuple):
    sent: Instant
    received: Instant

    @property
    def delay(self) -> int:
        return self.received - self.sent


class JudgedClock(GatewayClock, frozen=True):
    """Finding about a gateway's clock, with the messages that may change it."""

    suspects: tuple[_Late, ...] = ()
    """The last live messages, if all of them were late by the same."""

    @property
    def is_right(self) -> bool:
        """Whether nothing has to be remembered about it."""
        return not self.behind and not self.suspects


def is_late(batch: Batch, received: Instant) -> bool:
    """Return whether a message came long after it was sent; nearly none does."""
    return received - batch.sent > BEHIND


def tells_nothing(clock: JudgedClock, batch: Batch, received: Instant) -> bool:
    """Return whether a late message was received with the last suspect, like much of a backlog: that proves nothing."""
    suspects = clock.suspects
    return bool(suspects) and suspects[-1].received == received and is_late(batch, received)


def judge(clock: JudgedClock | None, batch: Batch, received: Instant) -> JudgedClock:
    """Return the finding about a clock after a live message."""
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
    return JudgedClock(batch.boot, Milliseconds(late.delay), received)


def lag_of(clock: GatewayClock | None, batch: Batch, received: Instant) -> Milliseconds:
    """Return the correction to add to a message's times, 0 if nothing known fits it."""
    fits = clock is not None and clock.boot == batch.boot and batch.sent and _explains(clock, received - batch.sent)
    return clock.behind if clock and fits else Milliseconds(0)


def _right(boot: str) -> JudgedClock:
    return JudgedClock(boot, Milliseconds(0), Instant(0))


def _explains(clock: GatewayClock, delay: int) -> bool:
    return bool(clock.behind) and abs(delay - clock.behind) <= BEHIND
