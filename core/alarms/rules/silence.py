"""When a probe has gone silent: pure functions of server time, since silence has no event time of its own.

Silence is the absence of readings with a value. Time-outs and protocol errors (`q` 4 and 8) are silence; a broken
sensor (`q` 1 and 2) is not: it is told of by the rule for bad sensors, and one cause shall wake people once.
"""

import msgspec

from core.alarms.rules.sample import UNUSABLE
from core.alarms.rules.sensor import BROKEN
from core.ids import Centi
from core.runtime.instant import Instant, Milliseconds


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a probe may be silent."""

    intervals: int
    at_least: Milliseconds

    def of(self, interval: Milliseconds) -> Milliseconds:
        """Return it for a probe that is read every `interval`."""
        return Milliseconds(max(self.intervals * interval, self.at_least))


def has_value(value: Centi | None, q: int) -> bool:
    """Whether a reading ends a silence."""
    return value is not None and not q & UNUSABLE


def is_heard(value: Centi | None, q: int) -> bool:
    """Whether a reading keeps a silence from beginning."""
    return has_value(value, q) or bool(q & BROKEN)


def due(heard: Instant, interval: Milliseconds, patience: Patience) -> Instant:
    """Return the server time at which a probe last heard at `heard` counts as offline."""
    return Instant(heard + patience.of(interval))
