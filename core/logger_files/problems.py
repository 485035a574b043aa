"""Problems of a logger's file, gathered while it is read so that all are told at once."""

from config.localized_message import LocalizedMessage
from config.text_file import FileProblem, UnreadableFile


class Problems:
    """Problems of one file so far; `name` is the file's name in messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[FileProblem] = []

    def add(self, problem: LocalizedMessage, line: int = 0, column: str = "", value: str = "") -> None:
        """Add a problem with its place."""
        self.found.append(FileProblem(problem, line, column, value))

    def raise_any(self) -> None:
        """Raise all problems, if there are any.

        Raises: UnreadableFile.
        """
        if self.found:
            raise UnreadableFile(self.name, sorted(self.found, key=lambda problem: problem.line))


def message(name: str, **values: object) -> LocalizedMessage:
    """Return a message of this package's catalogue."""
    return LocalizedMessage("core.logger_files", f"logger_file.{name}", values)
