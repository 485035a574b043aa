"""Names of classes and first lines of modules: a class name has one meaning, and a first line names its module."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "config", "gateway_agent", "collector", "alerting", "api", "coldchain")
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
