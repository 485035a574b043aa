"""States of readings in quarantine."""

from enum import StrEnum


class QuarantineState(StrEnum):
    """State of a reading that was put into quarantine."""

    HELD = "held"
    RELEASED = "released"
    DISCARDED = "discarded"
