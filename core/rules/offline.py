"""Offline rule: probes without a usable reading. Pure functions of server time: being offline has no event time.

A probe is silent while it sends no readings with a value. Time-outs and protocol errors (`q` 4 and 8) count as silence.
A broken sensor (`q` 1 and 2) doesn't: the sensor rule opens that alarm, and one cause must page people only once.
"""

import msgspec

from core.ids import Centi
from core.runtime.instant import Instant, Milliseconds
from core.wire.quality import BROKEN, UNUSABLE


class OfflineLimit(msgspec.Struct, frozen=True, kw_only=True):
    """Time that a probe may be silent: a number of intervals, with a minimum."""

    intervals: int
    at_least: Milliseconds

    def of(self, interval: Milliseconds) -> Milliseconds:
        """Return the time for a probe that is read every `interval`."""
        return Milliseconds(max(self.intervals * interval, self.at_least))


def has_value(value: Centi | None, q: int) -> bool:
    """Return whether a reading has a usable value, which ends a silence."""
    return value is not None and not q & UNUSABLE


def is_heard(value: Centi | None, q: int) -> bool:
    """Return whether a reading prevents a silence from beginning."""
    return has_value(value, q) or bool(q & BROKEN)


def due(heard: Instant, interval: Milliseconds, offline_limit: OfflineLimit) -> Instant:
    """Return the server time at which a probe last heard at `heard` counts as offline."""
    return Instant(heard + offline_limit.of(interval))


def heard_after(now: Instant, interval: Milliseconds, offline_limit: OfflineLimit) -> Instant:
    """Return the inverse of `due`: a probe is offline at `now` unless it was heard after this instant."""
    return Instant(now - offline_limit.of(interval))
