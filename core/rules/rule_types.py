"""Input and output types of the rules: samples, conditions and episodes."""

from enum import StrEnum

import msgspec

from core.ids import Centi
from core.runtime.instant import Instant

BEGINNING, END = Instant(-(2**62)), Instant(2**62)
"""Event times before and behind all others."""


class Condition(StrEnum):
    """State of a rule for one probe: ok → pending → active → clearing → ok."""

    OK = "ok"
    PENDING = "pending"
    """Beyond the limit, not yet for long enough."""
    ACTIVE = "active"
    CLEARING = "clearing"
    """Inside the limit again, not yet for long enough."""


GOING_ON = (Condition.ACTIVE, Condition.CLEARING)


class Rule(StrEnum):
    """Kind of rule. An alarm belongs to one rule and one zone."""

    ABOVE = "above"
    BELOW = "below"
    BAD_SENSOR = "bad_sensor"
    PROBE_OFFLINE = "probe_offline"


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """A temperature reading as the rules see it. `at` is event time."""

    at: Instant
    value: Centi | None
    q: int


class Episode(msgspec.Struct, frozen=True):
    """Span of event time in which a condition was active. `ended` is None while its end isn't known."""

    onset: Instant
    ended: Instant | None
    last: Instant
    """Latest time at which it is known to last: the newest sample, or, while clearing, the return inside the limit."""
    peak: Centi | None

    @property
    def until(self) -> Instant:
        """Return the end as far as it is known."""
        return self.last if self.ended is None else self.ended
