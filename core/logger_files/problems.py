"""Problems of a logger's file, gathered while it is read so that all are told at once."""

from config.messages import Message
from config.text_file import FileProblem, UnreadableFile


class Problems:
    """What is wrong with one file so far; `name` is what people call the file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: list[FileProblem] = []

    def add(self, problem: Message, line: int = 0, column: str = "", value: str = "") -> None:
        """Note a problem and where it is."""
        self.found.append(FileProblem(problem, line, column, value))

    def raise_any(self) -> None:
        """End the reading when there are problems.

        Raises: UnreadableFile.
        """
        if self.found:
            raise UnreadableFile(self.name, sorted(self.found, key=lambda problem: problem.line))


def message(name: str, **values: object) -> Message:
    """Return a message of this package's catalogue."""
    return Message("core.logger_files", f"logger_file.{name}", values)
