"""States and events of accounts."""

from enum import StrEnum


class AccountState(StrEnum):
    """State of an account. No account is ever deleted, and its user name is never given again."""

    OPEN = "open"
    CLOSED = "closed"
    """Closed by whoever manages it; it can be opened again."""
    LOCKED = "locked"
    """Reported as misused; only a new password from whoever manages it unlocks it (SE-09)."""


class AccountEventKind(StrEnum):
    """Kind of an event in the history of an account (UP-09)."""

    OPENED = "opened"
    CLOSED = "closed"
    REOPENED = "reopened"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (no password)
    PASSWORD_RESET = "password_reset"  # noqa: S105 (no password)
    REPORTED_MISUSED = "reported_misused"
    GRANTED = "granted"
    GRANT_ENDED = "grant_ended"
