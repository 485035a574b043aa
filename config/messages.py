"""Messages for people, kept as the name of a catalogue's text with its values until somebody's language is known."""

from collections.abc import Mapping
from typing import Any

import msgspec

from config.catalogue import Language, texts


class Message(msgspec.Struct, frozen=True):
    """Text of the catalogue of `package`. `str()` is the English one; a value may be a message itself."""

    package: str
    name: str
    values: Mapping[str, Any] = {}

    def text(self, language: Language) -> str:
        """Return the message in a language."""
        values = {
            value: given.text(language) if isinstance(given, Message) else given for value, given in self.values.items()
        }
        return texts(self.package, language)[self.name].format_map(values)

    def __str__(self) -> str:
        return self.text("en")
