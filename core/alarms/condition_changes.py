"""Condition change: the result of a rule for a zone through one of its probes."""

import msgspec

from core.ids import Centi, ProbeId, ZoneId
from core.rules.rule_types import Rule
from core.runtime.instant import MINUTE, Instant, Milliseconds

FOLLOWED_LATE = Milliseconds(10 * MINUTE)
"""A reading that alerting reaches this long after it was taken says nothing about the current state."""


class ConditionChange(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a rule for a zone through one probe. Its condition is already stored in `rule_state`."""

    zone: ZoneId
    rule: Rule
    probe: ProbeId
    onset: Instant
    """Event time; server time for the silence rule."""
    at: Instant | None = None
    """Event time of the newest reading; None for rules that don't evaluate late readings."""
    value: Centi | None = None
    """Value of the newest reading."""
    peak: Centi | None = None
    limit: Centi | None = None
    ended: Instant | None = None
    """End of the condition; None while it lasts."""
    draining: bool | None = None
    """True: the newest reading is from a backlog, more may follow; False: the backlog is over; None: there was none."""
    measured: bool = True
    """False when the condition ended without a measurement: the probe was taken away or the equipment was stopped."""
