"""Sensor rule: probes whose values can't be trusted. Pure functions of samples.

The agent marks open or short circuits and values beyond the sensor's range (`q` 1 and 2). This rule also finds a stuck
value: near a compressor, a working probe doesn't show the same hundredth of a degree for a whole day. Time-outs and
protocol errors say nothing about the sensor; they count as silence (`core.rules.offline`).
"""

import msgspec

from core.ids import Centi
from core.rules.rule_types import Condition, Sample
from core.runtime.instant import Instant, Milliseconds
from core.wire.quality import BROKEN, UNUSABLE


class SensorTrust(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the sensor rule."""

    good: int
    """Number of good samples in a row that end the alarm."""
    stuck: Milliseconds | None
    """A value that stays the same for this time without a gap is stuck; None: not checked."""
    gap: Milliseconds


class Sensor(msgspec.Struct, frozen=True, array_like=True):
    """State of the rule for a probe."""

    condition: Condition = Condition.OK
    onset: Instant = Instant(0)
    good: int = 0
    value: Centi | None = None
    """Value that may be stuck; `since` is the start of the unbroken time with this value."""
    since: Instant = Instant(0)
    newest: Instant = Instant(0)


UNKNOWN = Sensor()


def step(trust: SensorTrust, previous: Sensor, sample: Sample) -> Sensor:
    """Return the state after one more sample. Samples are in event order, with distinct times."""
    at = sample.at
    if sample.q & BROKEN:
        onset = at if previous.condition is Condition.OK else previous.onset
        return Sensor(Condition.ACTIVE, onset, 0, previous.value, previous.since, previous.newest)
    if sample.value is None or sample.q & UNUSABLE:
        return previous
    same = sample.value == previous.value and at - previous.newest <= trust.gap
    since = previous.since if same else at
    if trust.stuck is not None and at - since >= trust.stuck:
        onset = since if previous.condition is Condition.OK else previous.onset
        return Sensor(Condition.ACTIVE, onset, 0, sample.value, since, at)
    if previous.condition is Condition.OK or previous.good + 1 >= trust.good:
        return Sensor(value=sample.value, since=since, newest=at)
    return Sensor(Condition.CLEARING, previous.onset, previous.good + 1, sample.value, since, at)
