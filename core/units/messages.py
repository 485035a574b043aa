"""Messages of `core.units` for people, from its catalogue."""

from config.messages import Message


def message(name: str, /, **values: object) -> Message:
    """Return a message."""
    return Message("core.units", f"wrong.{name}", values)
