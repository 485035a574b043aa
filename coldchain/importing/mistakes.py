"""Mistakes of an import file: place, field, value, and what would be right, in either language."""

import msgspec

from config.catalogue import Language
from config.characters import shown
from config.localized_message import LocalizedMessage

_SHOWN = 80
"""Characters of a value that are shown."""


class FilePosition(msgspec.Struct, frozen=True, order=True):
    """Where something stands in a file."""

    position: int
    """Position in the file, by which mistakes are ordered."""
    number: int = 0
    """Line of a CSV file, or the how-manieth of its type in a TOML file; 0 for the file as a whole."""
    kind: str = ""
    """Type of a TOML table."""

    def text(self, language: Language = "en") -> str:
        """Return `line 3`, `unit 2` or `the file`."""
        if self.kind:
            return f"{shown(self.kind)} {self.number}" if self.number else shown(self.kind)
        return message("line" if self.number else "file", number=self.number).text(language)


class Mistake(msgspec.Struct, frozen=True):
    """One thing to mend, or to look at."""

    place: FilePosition
    problem: LocalizedMessage | str
    field: str = ""
    value: str = ""

    def is_about(self, name: str) -> bool:
        """Whether its problem is this message of the catalogue."""
        return isinstance(self.problem, LocalizedMessage) and self.problem.name == f"import.{name}"

    def text(self, language: Language = "en") -> str:
        """Return it in one line."""
        value = self.value if len(self.value) <= _SHOWN else f"{self.value[:_SHOWN]}…"
        colon = "：" if language == "zh-CN" else ": "
        text = f"{shown(self.field)} = {value!r}{colon}" if self.field else ""
        problem = self.problem.text(language) if isinstance(self.problem, LocalizedMessage) else self.problem
        return f"{self.place.text(language)}{colon}{text}{problem}"

    def __str__(self) -> str:
        return self.text()


class WrongField(Exception):
    """What stands in a field can't be used."""

    def __init__(self, problem: LocalizedMessage | str) -> None:
        super().__init__(str(problem))
        self.problem = problem


class FieldProblem(Exception):
    """A row contradicts what is known; the field says where."""

    def __init__(self, field: str, value: str, problem: LocalizedMessage) -> None:
        super().__init__(str(problem))
        self.field = field
        self.value = value
        self.problem = problem


def message(name: str, /, **values: object) -> LocalizedMessage:
    """Return a message of this package's catalogue."""
    return LocalizedMessage("coldchain.importing", f"import.{name}", values)
