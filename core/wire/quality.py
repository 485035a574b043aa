"""Quality bits of a reading: why it is, or isn't, to be trusted, and where it came from. 16 bits."""

from enum import IntFlag


class Quality(IntFlag):
    """Bit mask `q` of a reading; 0 is a good one that came live."""

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
    """Released from quarantine; set by whoever reads it from the intake log."""
    FILE = 512
    """Read from a file, such as a logger's."""
    MANUAL = 1024
    """Read off by a person."""


FAILED = Quality.OPEN_OR_SHORT | Quality.OUT_OF_RANGE | Quality.TIMEOUT | Quality.PROTOCOL
"""A reading with any of these has no value."""

ORIGIN = Quality.BACKFILLED | Quality.RELEASED | Quality.FILE | Quality.MANUAL
"""Where a reading came from. Only the system says so: what a device claims of these is cleared. None of them: live."""

KNOWN = ~Quality.GOOD
"""Every bit that has a meaning; one beyond these comes from a newer agent."""

BITS = 16
"""Width of `q`, on the wire and in the stores."""


def of_origin(origin: str) -> Quality:
    """Return the bit that an entry's origin in the intake log (live, backfill, released) sets in its readings."""
    return _BY_ORIGIN[origin]


_BY_ORIGIN = {"live": Quality.GOOD, "backfill": Quality.BACKFILLED, "released": Quality.RELEASED}
