"""API, import and demo build no query: they pass sessions on, and name tables only as types of what the core gave."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = {"sqlalchemy.orm": {"Session"}}
"""What such a module may import of SQLAlchemy, besides the errors of `sqlalchemy.exc`."""


def query_building(source: str) -> list[str]:
    """Return each import and use in a module by which it could build a query of its own."""
    tree = ast.parse(source)
    tables: set[str] = set()
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found += [f"import {name.name}" for name in names if name.name.split(".")[0] == "sqlalchemy"]
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] == "sqlalchemy":
                allowed = ALLOWED.get(module, set())
                found += [
                    f"{module}.{name.name}" for name in names if module != "sqlalchemy.exc" and name.name not in allowed
                ]
            case ast.ImportFrom(module=str(module), names=names) if module.endswith(".tables"):
                tables |= {name.asname or name.name for name in names}
    types = {id(inner) for annotation in _annotations(tree) for inner in ast.walk(annotation)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in tables and id(node) not in types:
            found.append(f"line {node.lineno}: {node.id}")
    return found


def _annotations(tree: ast.Module) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        match node:
            case ast.arg(annotation=annotation) | ast.AnnAssign(annotation=annotation) if annotation is not None:
                yield annotation
            case ast.FunctionDef(returns=returns) | ast.AsyncFunctionDef(returns=returns) if returns is not None:
                yield returns


@pytest.mark.parametrize(("package", "least"), [("api", 30), ("coldchain/importing", 10), ("coldchain/demo", 5)])
def test_no_module_builds_a_query(package: str, least: int) -> None:
    modules = sorted((ROOT / package).rglob("*.py"))
    assert len(modules) > least
    assert {str(module): found for module in modules if (found := query_building(module.read_text("utf-8")))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from sqlalchemy import select\n", ["sqlalchemy.select"]),
        ("from sqlalchemy.orm import Session, joinedload\n", ["sqlalchemy.orm.joinedload"]),
        ("import sqlalchemy as sa\n", ["import sqlalchemy"]),
        ("from core.units.tables import Unit\nrow = tx.get(Unit, 1)\n", ["line 2: Unit"]),
        ("from core.units.tables import Unit as U\ndef f(u: U) -> U:\n    return U.path\n", ["line 3: U"]),
        ("from sqlalchemy.exc import SQLAlchemyError\nfrom sqlalchemy.orm import Session\n", []),
        ("from core.units.tables import Unit\ndef f(unit: Unit | None) -> list[Unit]: ...\n", []),
    ],
)
def test_what_could_build_a_query_is_found(source: str, found: list[str]) -> None:
    assert query_building(source) == found
