"""Text files that people write: settings, import files, exports of loggers, profiles; one strict way to read them.

Nothing is guessed with replacement. UTF-8, with its mark or without, and UTF-16 are taken when the whole file decodes;
so is GB 18030 (GBK), as Chinese Windows programs save text, where the file isn't UTF-8 with a damaged byte and the
result is Chinese. Everything else is refused with the line of the byte, and so is a character that
nobody sees (`config.characters`). docs/import.md says so for users; tests/unit/test_text_file.py tries to break it.
"""

import codecs
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from config.catalogue import Language
from config.characters import forbidden_character, shown
from config.messages import Message

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Bytes that a file may begin with to say how it is encoded; longer ones first."""
_HAN = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Chinese letters and signs, each three bytes in UTF-8."""
_DEGREES = re.compile(rb"\xb0[CF]\b")
"""The degree sign of Western loggers: one byte, the only one of theirs that isn't ASCII."""


class FileProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a file."""

    problem: Message
    line: int = 0
    """From 1; 0 for the file as a whole."""
    column: str = ""
    """Name of the column, where there is one."""
    value: str = ""

    def text(self, language: Language = "en") -> str:
        """Return where it stands and what it is."""
        where = []
        if self.line:
            where.append(_message("line", line=self.line).text(language))
        if self.column:
            where.append(_message("column", column=shown(self.column)).text(language))
        value = f"{self.value!r} " if self.value else ""
        between, colon = ("，", "：") if language == "zh-CN" else (", ", ": ")
        return f"{between.join(where)}{colon if where else ''}{value}{self.problem.text(language)}"


class UnreadableFile(Exception):
    """A file that can't be used. `problems` are all that were found."""

    def __init__(self, name: str, problems: Iterable[FileProblem]) -> None:
        self.name = name
        self.problems = list(problems)
        super().__init__(self.text())

    def text(self, language: Language = "en") -> str:
        """Return every problem, one a line, each with the name of the file."""
        colon = "：" if language == "zh-CN" else ": "
        return "\n".join(f"{self.name}{colon}{problem.text(language)}" for problem in self.problems)


def read_text(path: Path) -> str:
    r"""Read a text file; line ends become `\\n`.

    Raises: UnreadableFile; OSError when there is no file.
    """
    return decode(path.read_bytes(), path.name)


def decode(raw: bytes, name: str) -> str:
    """Return the text of a file's bytes; `name` is what errors call the file.

    Raises: UnreadableFile.
    """
    text = decoded(raw, name)
    if problems := forbidden_characters(text):
        raise UnreadableFile(name, problems)
    return text


def decoded(raw: bytes, name: str) -> str:
    """Return the same with whatever characters it has, for who tells of them together with other problems.

    Raises: UnreadableFile.
    """
    try:
        text = _decoded(raw)
    except _Undecodable as error:
        raise UnreadableFile(name, [error.problem]) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def forbidden_characters(text: str) -> list[FileProblem]:
    """Return the first character of each line that no text may have."""
    if forbidden_character(text, several_lines=True) is None:
        return []
    return [
        FileProblem(_message("character", character=found.name, place=found.position + 1), number)
        for number, line in enumerate(text.split("\n"), 1)
        if (found := forbidden_character(line.replace("\t", " ")))
    ]


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Parse the text of a TOML file.

    Raises: UnreadableFile.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UnreadableFile(name, [FileProblem(_message("too_deep"))]) from None
    except ValueError as error:  # TOMLDecodeError is one; a number of thousands of digits raises another
        place = re.fullmatch(r"(?P<what>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)", str(error), re.DOTALL)
        what, line = (place["what"], int(place["line"])) if place else (str(error), 0)
        raise UnreadableFile(name, [FileProblem(_message("not_toml", problem=what), line)]) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises: UnreadableFile; OSError when there is no file.
    """
    return parse_toml(read_text(path), path.name)


class _Undecodable(Exception):
    def __init__(self, problem: FileProblem) -> None:
        self.problem = problem


def _decoded(raw: bytes) -> str:
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            if encoding == "utf-32":
                raise _Undecodable(FileProblem(_message("utf_32")))
            return _strictly(raw[len(mark) :], encoding)
    if b"\0" in raw:
        return _utf_16_without_mark(raw)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return _of_another_code_page(raw, error.start)
    if _may_be_gbk(text, raw):
        raise _Undecodable(FileProblem(_message("ambiguous")))
    return text


def _of_another_code_page(raw: bytes, broken_at: int) -> str:
    """Decode what isn't UTF-8 from `broken_at` on."""
    if _is_utf_8_in_part(raw):
        raise _Undecodable(_problem_at(raw, broken_at))
    if _DEGREES.sub(b"", raw).isascii():
        return raw.decode("cp1252")
    try:
        text = raw.decode("gb18030")
    except UnicodeDecodeError as error:
        raise _Undecodable(_problem_at(raw, error.start)) from None
    if not _is_chinese(text):
        raise _Undecodable(_problem_at(raw, broken_at))
    return text


def _strictly(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].decode(encoding, "ignore").count("\n") + 1
        problem = _message("wrong_byte", byte=f"0x{raw[error.start]:02X}", encoding=encoding.upper())
        raise _Undecodable(FileProblem(problem, line)) from None


def _utf_16_without_mark(raw: bytes) -> str:
    """Decode UTF-16 that doesn't say so: the zero bytes are all on one side of its ASCII characters."""
    first, second = raw[0::2].count(0), raw[1::2].count(0)
    if len(raw) % 2 == 0 and min(first, second) == 0:
        with_line_ends = raw.decode("utf-16-le" if second else "utf-16-be", "ignore")
        if "\0" not in with_line_ends and {"\n", "\r"} & set(with_line_ends):
            return _strictly(raw, "utf-16-le" if second else "utf-16-be")
    line = raw[: raw.index(b"\0")].count(b"\n") + 1
    raise _Undecodable(FileProblem(_message("binary"), line))


def _problem_at(raw: bytes, at: int) -> FileProblem:
    problem = _message("neither", byte=f"0x{raw[at]:02X}")
    return FileProblem(problem, raw[:at].count(b"\n") + 1)


def _may_be_gbk(text: str, raw: bytes) -> bool:
    """Whether text in UTF-8 is more likely Chinese in GBK: a few letters of GBK are Greek or Cyrillic ones in UTF-8."""
    if _HAN.search(text) or not any(letter >= "\u0250" and letter.isalpha() for letter in text):
        return False
    try:
        raw.decode("gb2312")
    except UnicodeDecodeError:
        return False
    return True


def _is_utf_8_in_part(raw: bytes) -> bool:
    """Whether bytes that don't decode as UTF-8 were meant to be: lines of Chinese do, or most of the letters."""
    whole = raw.decode("utf-8", "replace")
    meant = 3 * len(_HAN.findall(whole))
    high = sum(1 for byte in raw if byte >= 0x80)  # noqa: PLR2004 (no ASCII)
    if 2 * meant >= high:
        return True
    for line in raw.split(b"\n"):
        try:
            if _HAN.search(line.decode("utf-8")):
                return True
        except UnicodeDecodeError:
            continue
    return False


def _is_chinese(text: str) -> bool:
    """Whether most letters that aren't ASCII are of GB 2312, the everyday part of GB 18030.

    What another code page wrote decodes too, but to letters that hardly anybody uses.
    """
    letters = [letter for letter in text if letter >= "\x80"]
    common = sum(1 for letter in letters if letter.encode("gb2312", "ignore"))
    return 2 * common >= len(letters)


def _message(key: str, **values: object) -> Message:
    return Message("config", f"text_file.{key}", values)
