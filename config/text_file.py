"""Strict reader of text files from people: settings, import files, exports of loggers, device profiles.

No byte is ever replaced by a guess. UTF-8, with or without a byte order mark, and UTF-16 are accepted if the whole file
decodes. GB 18030 (GBK), in which Chinese Windows programs save text, is accepted if the file isn't UTF-8 with a damaged
byte and the result is Chinese. Everything else is refused with the line of the byte, and so are the characters that
`config.characters` forbids. docs/import.md describes it for users; tests/unit/test_text_file.py tries to break it.
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
from config.localized_message import LocalizedMessage

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""Byte order marks and their encodings, longer ones first."""
_HAN = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")
"""Chinese letters and signs, each three bytes in UTF-8."""
_DEGREES = re.compile(rb"\xb0[CF]\b")
"""Degree sign in the files of Western loggers: one byte, and the only one that isn't ASCII."""


class FileProblem(msgspec.Struct, frozen=True):
    """Problem in a file."""

    problem: LocalizedMessage
    line: int = 0
    """From 1; 0 for the file as a whole."""
    column: str = ""
    """Name of the column, if there is one."""
    value: str = ""

    def text(self, language: Language = "en") -> str:
        """Return the problem with its line, column and value."""
        where = []
        if self.line:
            where.append(_message("line", line=self.line).text(language))
        if self.column:
            where.append(_message("column", column=shown(self.column)).text(language))
        value = f"{self.value!r} " if self.value else ""
        comma, colon = ("，", "：") if language == "zh-CN" else (", ", ": ")
        return f"{comma.join(where)}{colon if where else ''}{value}{self.problem.text(language)}"


class UnreadableFile(Exception):
    """File that can't be used, with all of its problems."""

    def __init__(self, name: str, problems: Iterable[FileProblem]) -> None:
        self.name = name
        self.problems = list(problems)
        super().__init__(self.text())

    def text(self, language: Language = "en") -> str:
        """Return all problems, each on a line of its own with the name of the file."""
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
    """Return the text of a file's bytes, without the check for forbidden characters.

    Raises: UnreadableFile.
    """
    try:
        text = _decoded(raw)
    except _Undecodable as error:
        raise UnreadableFile(name, [error.problem]) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def forbidden_characters(text: str) -> list[FileProblem]:
    """Return a problem for the first forbidden character of each line."""
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
    except ValueError as error:  # TOMLDecodeError, or another ValueError for a number of thousands of digits
        match = re.fullmatch(r"(?P<what>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)", str(error), re.DOTALL)
        problem, line = (match["what"], int(match["line"])) if match else (str(error), 0)
        raise UnreadableFile(name, [FileProblem(_message("not_toml", problem=problem), line)]) from None


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
    """Decode bytes that aren't UTF-8; the first invalid byte is at `broken_at`."""
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
    """Decode UTF-16 without a byte order mark; it is known by zero bytes on the same side of all ASCII characters."""
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
    """Return whether text in UTF-8 is more likely Chinese in GBK: some GBK bytes are valid UTF-8 for other scripts."""
    if _HAN.search(text) or not any(letter >= "\u0250" and letter.isalpha() for letter in text):
        return False
    try:
        raw.decode("gb2312")
    except UnicodeDecodeError:
        return False
    return True


def _is_utf_8_in_part(raw: bytes) -> bool:
    """Return whether bytes that aren't valid UTF-8 were meant as UTF-8: a line or most of them decode to Chinese."""
    text = raw.decode("utf-8", "replace")
    chinese_bytes = 3 * len(_HAN.findall(text))
    high_bytes = sum(1 for byte in raw if byte >= 0x80)  # noqa: PLR2004 (not ASCII)
    if 2 * chinese_bytes >= high_bytes:
        return True
    for line in raw.split(b"\n"):
        try:
            if _HAN.search(line.decode("utf-8")):
                return True
        except UnicodeDecodeError:
            continue
    return False


def _is_chinese(text: str) -> bool:
    """Return whether most letters beyond ASCII are in GB 2312, the common part of GB 18030.

    Text of another code page decodes too, but to rare letters.
    """
    letters = [letter for letter in text if letter >= "\x80"]
    common = sum(1 for letter in letters if letter.encode("gb2312", "ignore"))
    return 2 * common >= len(letters)


def _message(key: str, **values: object) -> LocalizedMessage:
    return LocalizedMessage("config", f"text_file.{key}", values)
