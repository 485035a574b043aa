"""States of readings in quarantine."""

from enum import StrEnum


class QuarantineState(StrEnum):
    """State of a reading that was put into quarantine."""

    HELD = "held"
    RELEASED = "released"
    DISCARDED = "discarded"


class QuarantineReason(StrEnum):
    """Reason why a reading is kept out of telemetry."""

    MALFORMED = "malformed"
    """Not a reading of the wire contract."""
    UNSUPPORTED = "unsupported"
    """Of a quantity that is not known yet."""
    IMPLAUSIBLE = "implausible"
    """It contradicts itself."""
    UNSET_CLOCK = "unset_clock"
    """The clock was not set, and the boot's offset is not known yet."""
    IMPLAUSIBLE_TIME = "implausible_time"
    UNKNOWN_PROBE = "unknown_probe"
    FOREIGN_GATEWAY = "foreign_gateway"
    STOPPED_EQUIPMENT = "stopped_equipment"
    NO_SERIES = "no_series"
    REJECTED = "rejected"
    """The telemetry store will never take it."""


UNREAD = (QuarantineReason.MALFORMED, QuarantineReason.UNSUPPORTED)
"""Reasons of what is in quarantine as it came. Nobody can release it, since nobody can say what it is."""
