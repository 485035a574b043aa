"""The system's words of docs/glossary.md: the code uses each of them, and each has one meaning and a home."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GLOSSARY = ROOT / "docs" / "glossary.md"
PACKAGES = ("core", "config", "gateway_agent", "collector", "alerting", "api", "coldchain")
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def rows_of_system_words() -> list[list[str]]:
    """Return (word, meaning, folder) of each row of the last list."""
    text = GLOSSARY.read_text("utf-8").partition("## The system's words")[2]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if "`" in line[:3]]
    return [[word.strip("`"), meaning, folder.strip("`")] for word, meaning, folder in rows]


def words_of(identifier: str) -> str:
    """Return an identifier's words in lower case, with a space around each."""
    return f" {' '.join(WORD.findall(identifier)).lower()} "


def identifiers(file: Path) -> Iterator[str]:
    yield file.stem
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name


@cache
def identifiers_of_the_code() -> str:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    return "".join(sorted({words_of(name) for file in files for name in identifiers(file)}))


def missing(terms: list[str], code: str) -> list[str]:
    return [term for term in terms if words_of(term) not in code]


def test_every_system_word_occurs_in_the_code() -> None:
    terms = [word for word, _, _ in rows_of_system_words()]
    assert len(terms) > 50
    assert missing(terms, identifiers_of_the_code()) == []


def test_a_word_that_the_code_does_not_use_is_found_missing() -> None:
    code = identifiers_of_the_code()
    assert missing(["ShardOf", "Sharding", "WalrusParade", "hard"], code) == ["Sharding", "WalrusParade", "hard"]


def test_each_word_has_one_row_one_meaning_and_a_folder() -> None:
    rows = rows_of_system_words()
    assert [word for word, times in Counter(word.lower() for word, _, _ in rows).items() if times > 1] == []
    assert [word for word, meaning, _ in rows if not meaning] == []
    assert [folder for _, _, folder in rows if not (ROOT / folder).is_dir()] == []
