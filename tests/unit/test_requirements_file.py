"""The list of requirements can be trusted: one row each, and no test shows what isn't in it."""

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
FILE = TESTS.parent / "docs" / "requirements.csv"


def rows() -> list[dict[str, str]]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def marked() -> Iterator[tuple[str, str]]:
    """Every (test file, id) of a `req` mark, also of tests that this run doesn't collect."""
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.req":
                yield from ((path.name, ast.literal_eval(name)) for name in node.args)


def test_every_row_has_an_id_of_its_own_a_subsystem_and_a_sentence() -> None:
    assert len({row["id"] for row in rows()}) == len(rows())
    for row in rows():
        assert list(row) == ["id", "subsystem", "statement"]
        assert re.fullmatch(r"[A-Z]{2}-\d{2}", row["id"])
        assert row["subsystem"].strip()
        assert re.fullmatch(r"\S.*\S\.", row["statement"]), row["id"]


def test_a_code_stands_for_one_subsystem_and_is_numbered_without_gaps() -> None:
    numbers: dict[tuple[str, str], list[int]] = {}
    for row in rows():
        code, number = row["id"].split("-")
        numbers.setdefault((code, row["subsystem"]), []).append(int(number))
    assert len({code for code, _ in numbers}) == len(numbers) == len({subsystem for _, subsystem in numbers})
    for found in numbers.values():
        assert found == list(range(1, len(found) + 1))


def test_no_test_is_marked_with_an_unknown_requirement() -> None:
    known = {row["id"] for row in rows()}
    marks = list(marked())
    assert marks
    assert [(file, name) for file, name in marks if name not in known] == []
