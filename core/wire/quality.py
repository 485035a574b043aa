"""Why a reading is, or isn't, to be trusted."""

from enum import IntFlag


class Quality(IntFlag):
    """Bit mask `q` of a reading; 0 is a good one."""

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


FAILED = Quality.OPEN_OR_SHORT | Quality.OUT_OF_RANGE | Quality.TIMEOUT | Quality.PROTOCOL
"""A reading with any of these has no value."""
