"""What a rule is given, and what it answers."""

from enum import StrEnum

import msgspec

from core.ids import Centi
from core.runtime.instant import Instant
from core.wire.quality import FAILED, Quality

UNUSABLE = int(FAILED | Quality.STALE)
"""With any of these a reading says nothing of the temperature now: it neither starts nor ends an excursion."""


class Condition(StrEnum):
    """Where a rule stands for one probe: ok → pending → active → clearing → ok."""

    OK = "ok"
    PENDING = "pending"
    """Beyond the limit, not yet for long enough."""
    ACTIVE = "active"
    CLEARING = "clearing"
    """Inside again, not yet for long enough."""


GOING_ON = (Condition.ACTIVE, Condition.CLEARING)


class Rule(StrEnum):
    """What is looked for. An alarm is of one rule and one zone."""

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
    """A stretch of event time in which a condition was active. `ended` is None while it isn't known to be over."""

    onset: Instant
    ended: Instant | None
    last: Instant
    """As far as it is known to have reached: the newest sample, or when it came inside while that isn't long enough."""
    peak: Centi | None

    @property
    def until(self) -> Instant:
        """When it was over, as far as is known."""
        return self.last if self.ended is None else self.ended
