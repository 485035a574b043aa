"""States and kinds of alarms, of their steps, messages and history, and of zones as they are shown."""

from enum import StrEnum


class AlarmState(StrEnum):
    """State of an alarm: open → recovered → closed, or open → closed if it was handled before it recovered."""

    OPEN = "open"
    RECOVERED = "recovered"
    CLOSED = "closed"


class AlarmHandling(StrEnum):
    """What people have done about an alarm."""

    UNACKNOWLEDGED = "unacknowledged"
    ACKNOWLEDGED = "acknowledged"
    HANDLED = "handled"


class AlarmOrigin(StrEnum):
    """Readings that an alarm comes from."""

    LIVE = "live"
    LATE = "late"
    """Opened from late readings, and adjusted to further ones until somebody acknowledges or handles it."""
    WITHDRAWN = "withdrawn"
    """A late alarm whose excursion was refuted by later readings."""


class StepState(StrEnum):
    """State of an escalation step: due → fired or cancelled; it may be held or suppressed in between."""

    DUE = "due"
    HELD = "held"
    """The condition is clearing; due again when it turns active."""
    SUPPRESSED = "suppressed"
    """In a maintenance window; due again at its end."""
    FIRED = "fired"
    CANCELLED = "cancelled"
    """The condition is over."""


PENDING_STEPS = (StepState.DUE, StepState.HELD, StepState.SUPPRESSED)
"""States of steps that may still fire."""


class MessageState(StrEnum):
    """State of an outbox message."""

    QUEUED = "queued"
    SENT = "sent"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    """Not sent, because it was no longer true."""


class NotificationKind(StrEnum):
    """Kind of an outbox message."""

    ALARM = "alarm"
    RECOVERY = "recovery"
    DIGEST = "digest"
    """Past excursions found in late data."""
    OPS = "ops"
    """Trouble of the system itself."""


class AttemptOutcome(StrEnum):
    """Outcome of one attempt to deliver a message."""

    SENT = "sent"
    RETRY = "retry"
    REFUSED = "refused"


class AlarmEventKind(StrEnum):
    """Kind of an event in the history of an alarm."""

    OPENED = "opened"
    REOPENED = "reopened"
    TOLD = "told"
    """Messages were written for levels at which somebody can be told."""
    NOBODY_TO_TELL = "nobody_to_tell"
    """Nobody can be told at a level."""
    UNREACHABLE = "unreachable"
    HELD = "held"
    SUPPRESSED = "suppressed"
    RESUMED = "resumed"
    DIGEST = "digest"
    ACKNOWLEDGED = "acknowledged"
    RECOVERED = "recovered"
    WIDENED = "widened"
    WITHDRAWN = "withdrawn"
    HANDLED = "handled"
    CLOSED = "closed"


class ActedThrough(StrEnum):
    """Way by which a person acknowledged."""

    WEB = "web"
    WECHAT = "wechat"


class ZoneState(StrEnum):
    """State of a zone or probe as it is shown: given by its readings, or by the maintenance window in force."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    OFFLINE = "offline"
    FAULT = "fault"
    UNMONITORED = "unmonitored"
    """A zone without probes."""
    REPAIR = "repair"
    SPARE = "spare"
    STOPPED = "stopped"
    STOCK_TAKE = "stock_take"
    DEFROST = "defrost"


class EquipmentState(StrEnum):
    """State in which an equipment is counted: that of its worst zone, or its maintenance window."""

    NORMAL = "normal"
    ABNORMAL = "abnormal"
    OFFLINE = "offline"
    STOPPED = "stopped"
    MAINTENANCE = "maintenance"
    """In repair, spare, in a stock-take or defrosting."""
