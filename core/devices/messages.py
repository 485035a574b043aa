"""Message catalogue of `core.devices`: texts for people."""

from config.messages import Message


def message(name: str, /, **values: object) -> Message:
    """Return the message `wrong.<name>` of the catalogue, filled with `values`."""
    return Message("core.devices", f"wrong.{name}", values)
