"""When a probe can't be believed: pure functions of its samples.

Open or short circuit and values beyond what the sensor can measure are the agent's verdict (`q` 1 and 2); that a value
never moves is ours: behind a compressor no honest probe shows one hundredth for a whole day. Time-outs and protocol
errors say nothing of the sensor; they count as silence (`core.alarms.rules.silence`).
"""

import msgspec

from core.alarms.rules.sample import UNUSABLE, Condition, Sample
from core.ids import Centi
from core.runtime.instant import Instant, Milliseconds
from core.wire.quality import Quality

BROKEN = int(Quality.OPEN_OR_SHORT | Quality.OUT_OF_RANGE)


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """How long a probe is believed, and when again."""

    good: int
    """Good samples in a row that end the alarm."""
    stuck: Milliseconds | None
    """The same value for so long, without a gap, is no measurement; None: never mind."""
    gap: Milliseconds


class Sensor(msgspec.Struct, frozen=True, array_like=True):
    """What the rule remembers of a probe."""

    condition: Condition = Condition.OK
    onset: Instant = Instant(0)
    good: int = 0
    value: Centi | None = None
    """The value that may be stuck, and since when it has been seen without a gap."""
    since: Instant = Instant(0)
    newest: Instant = Instant(0)


UNKNOWN = Sensor()


def step(trust: Trust, was: Sensor, sample: Sample) -> Sensor:
    """Return the state after one more sample. Samples come in event order, each instant once."""
    at = sample.at
    if sample.q & BROKEN:
        onset = at if was.condition is Condition.OK else was.onset
        return Sensor(Condition.ACTIVE, onset, 0, was.value, was.since, was.newest)
    if sample.value is None or sample.q & UNUSABLE:
        return was
    same = sample.value == was.value and at - was.newest <= trust.gap
    since = was.since if same else at
    if trust.stuck is not None and at - since >= trust.stuck:
        onset = since if was.condition is Condition.OK else was.onset
        return Sensor(Condition.ACTIVE, onset, 0, sample.value, since, at)
    if was.condition is Condition.OK or was.good + 1 >= trust.good:
        return Sensor(value=sample.value, since=since, newest=at)
    return Sensor(Condition.CLEARING, was.onset, was.good + 1, sample.value, since, at)
