"""States in messages of the wire contract and in the entries made from them."""

from enum import StrEnum


class ConnectionState(StrEnum):
    """Connection of a gateway to the broker, as its retained message `up/state` says."""

    ONLINE = "online"
    OFFLINE = "offline"
    """Also the last will."""


class IntakeOrigin(StrEnum):
    """Way by which an entry came into the intake log."""

    LIVE = "live"
    BACKFILL = "backfill"
    RELEASED = "released"
    """Released from quarantine."""
