"""Names of classes and first lines of modules: a class name has one meaning, and a first line names its module."""

import ast
import builtins
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "config", "gateway_agent", "collector", "alerting", "api", "coldchain")
RAISES = re.compile(r"Raises:? (.*?)(?:\.\s|\.$|\n\n|\Z)", re.DOTALL)
CLASS_NAME = re.compile(r"(?<![\w.`])(?:[A-Z][a-z]+)+\b")
QUESTION = re.compile(r"(What|How|Who|Which|Where|When|Whether)\b")
SAME_KIND: frozenset[str] = frozenset()
"""Names that several classes may share because they are the same kind of thing."""


def modules(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield str(file.relative_to(ROOT)), ast.parse(file.read_text("utf-8"))


def namesakes(trees: Iterator[tuple[str, ast.Module]]) -> dict[str, list[str]]:
    """Return the public classes that share a name, with their files."""
    files: dict[str, list[str]] = defaultdict(list)
    for file, tree in trees:
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files[node.name].append(file)
    return {name: places for name, places in files.items() if len(places) > 1}


def question(tree: ast.Module) -> str:
    """Return the first line of a module that begins with a question word, else an empty text."""
    first_line = (ast.get_docstring(tree) or "").partition("\n")[0]
    return first_line if QUESTION.match(first_line) else ""


def known_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of classes that a module defines or imports."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.alias(name=name):
                yield name.rpartition(".")[2]


def raised_names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of errors in docstrings of a module: words with capitals behind `Raises`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for listed in RAISES.findall(ast.get_docstring(node) or ""):
                yield from CLASS_NAME.findall(listed)


def test_no_two_public_classes_share_a_name_unless_they_are_the_same_kind_of_thing() -> None:
    found = namesakes(modules(*PACKAGES))
    assert {name: places for name, places in found.items() if name not in SAME_KIND} == {}
    assert found.keys() >= SAME_KIND, "a name that is no longer shared"


def test_a_shared_name_is_found() -> None:
    one, two = ast.parse("class Fault: ..."), ast.parse("class Fault: ...\nclass _Own: ...\nclass Other: ...")
    assert namesakes(iter([("a.py", one), ("b.py", two)])) == {"Fault": ["a.py", "b.py"]}


def test_the_first_line_of_a_module_names_it() -> None:
    found = {file: line for file, tree in modules(*PACKAGES, "tests", "benchmarks") if (line := question(tree))}
    assert found == {}


@pytest.mark.parametrize(
    ("text", "is_question"), [("How a batch is read.", True), ("Whatever comes.", False), ("Reader of batches.", False)]
)
def test_a_question_is_found(text: str, *, is_question: bool) -> None:
    assert bool(question(ast.parse(f'"""{text}"""'))) is is_question


def test_every_error_that_a_docstring_names_exists() -> None:
    trees = dict(modules(*PACKAGES))
    known = {name for tree in trees.values() for name in known_names(tree)} | set(dir(builtins))
    assert [(file, name) for file, tree in trees.items() for name in raised_names(tree) if name not in known] == []


def test_the_names_of_errors_are_found_in_a_docstring() -> None:
    tree = ast.parse(
        'def f():\n    """Do it.\n\n    Raises: NotFound, Gone when it\n    was; sqlite3.Error. Else not.\n    """'
    )
    assert list(raised_names(tree)) == ["NotFound", "Gone"]
