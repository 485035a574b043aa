"""Message for people: the name of a catalogue's text and its values, until the reader's language is known."""

from collections.abc import Mapping
from typing import Any

import msgspec

from config.catalogue import Language, fill, texts


class LocalizedMessage(msgspec.Struct, frozen=True):
    """Text of the catalogue of `package`; `str()` is the English one. A value may be a message itself."""

    package: str
    name: str
    values: Mapping[str, Any] = {}

    def text(self, language: Language) -> str:
        """Return the message in a language."""
        values = {
            name: value.text(language) if isinstance(value, LocalizedMessage) else value
            for name, value in self.values.items()
        }
        return fill(texts(self.package, language)[self.name], values)

    def __str__(self) -> str:
        return self.text("en")
