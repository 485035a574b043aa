"""Message catalogue of `core.access`: texts for people."""

from config.localized_message import LocalizedMessage


def message(name: str, /, **values: object) -> LocalizedMessage:
    """Return the message `wrong.<name>` of the catalogue, filled with `values`."""
    return LocalizedMessage("core.access", f"wrong.{name}", values)
