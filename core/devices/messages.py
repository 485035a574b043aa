"""Messages of `core.devices` for people, from its catalogue."""

from config.messages import Message


def message(name: str, /, **values: object) -> Message:
    """Return a message."""
    return Message("core.devices", f"wrong.{name}", values)
