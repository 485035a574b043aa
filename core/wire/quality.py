"""Quality bits of a reading: its trustworthiness and its origin, in 16 bits."""

from enum import IntFlag

from core.wire.states import IntakeOrigin


class Quality(IntFlag):
    """Bit mask `q` of a reading; 0 is a good live reading."""

    GOOD = 0
    OPEN_OR_SHORT = 1
    OUT_OF_RANGE = 2
    """Beyond what the sensor can physically measure."""
    TIMEOUT = 4
    PROTOCOL = 8
    STALE = 16
    CLOCK_UNSYNCED = 32
    BACKFILLED = 64
    """Set by the collector, from the topic."""
    MAINTENANCE = 128
    RELEASED = 256
    """Released from quarantine; set when it is read from the intake log."""
    FILE = 512
    """Imported from a file, such as that of a logger."""
    MANUAL = 1024
    """Read from a display by a person."""


FAILED = Quality.OPEN_OR_SHORT | Quality.OUT_OF_RANGE | Quality.TIMEOUT | Quality.PROTOCOL
"""A reading with any of these has no value."""

# The next two are plain integers, because the rules test each reading, and an IntFlag takes much longer.
UNUSABLE = int(FAILED | Quality.STALE)
"""Bits of readings that say nothing about the current temperature: they neither start nor end an excursion."""

BROKEN = int(Quality.OPEN_OR_SHORT | Quality.OUT_OF_RANGE)
"""Bits of readings whose sensor is broken. The other unusable ones say nothing about the sensor: they are silence."""

ORIGIN = Quality.BACKFILLED | Quality.RELEASED | Quality.FILE | Quality.MANUAL
"""Bits for the origin of a reading; none of them means live. Only the system sets them: it clears those of a device."""

KNOWN = ~Quality.GOOD
"""All bits with a meaning; any other bit comes from a newer agent."""

BITS = 16
"""Width of `q`, on the wire and in the stores."""


def of_origin(origin: IntakeOrigin) -> Quality:
    """Return the bit for the origin of an intake log entry."""
    return _BY_ORIGIN[origin]


_BY_ORIGIN = {
    IntakeOrigin.LIVE: Quality.GOOD,
    IntakeOrigin.BACKFILL: Quality.BACKFILLED,
    IntakeOrigin.RELEASED: Quality.RELEASED,
}
