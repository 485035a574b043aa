"""Reader of logger files: tables as loggers and their programs export them, and the text of a Fridge-tag.

Every format of tests/unit/test_logger_formats.py is read. What is wrong is told all at once, each with its line, its
column and what stands there; a file is never read in part. A time with an offset says when it was; one without is what
the logger's clock showed, in the zone that the caller names.
"""

from pathlib import Path
from zoneinfo import ZoneInfo

from config.text_file import UnreadableFile, decoded, forbidden_characters
from core.logger_files.fridge_tag import is_fridge_tag, read_fridge_tag
from core.logger_files.logger_file import LoggerFile
from core.logger_files.table import read_table


def read_file(path: Path, zone: ZoneInfo) -> LoggerFile:
    """Read a file on disk.

    Raises: UnreadableFile; OSError when there is no file.
    """
    return parse(path.read_bytes(), path.name, zone)


def parse(raw: bytes, name: str, zone: ZoneInfo) -> LoggerFile:
    """Read the bytes of a file called `name`, whose stem is the logger's serial number where the file has none.

    Raises: UnreadableFile.
    """
    text = decoded(raw, name)
    characters = forbidden_characters(text)
    try:
        file = (
            read_fridge_tag(text, name, zone) if is_fridge_tag(text) else read_table(text, name, Path(name).stem, zone)
        )
    except UnreadableFile as error:
        raise UnreadableFile(name, [*error.problems, *characters]) from None
    if characters:
        raise UnreadableFile(name, characters)
    return file
