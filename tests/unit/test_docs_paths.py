"""Pages for new readers: every file and folder that they name exists, and the floors are those that CI holds."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/architecture.md", "docs/glossary.md")
TOP = {path.name for path in ROOT.iterdir() if path.is_dir()}
A_FILE = re.compile(r"[\w./*-]+/[\w*-]+\.(py|md|toml|csv|svg|html|css|js|yaml|conf|service)")


def named_paths(page: str, folder: str) -> Iterator[str]:
    """Yield the links of a page, and what stands in backticks and is a path of the repository."""
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page):
        if "://" not in link:
            yield f"{folder}{link}"
    for quoted in re.findall(r"`([^`\s]+)`", page):
        if A_FILE.fullmatch(quoted) or ("/" in quoted and quoted.split("/")[0] in TOP):
            yield quoted


def is_there(path: str) -> bool:
    return any(ROOT.glob(path.rstrip("/"))) if "*" in path else (ROOT / path).exists()


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    paths = list(named_paths((ROOT / page).read_text("utf-8"), "docs/"))
    assert len(paths) >= 3
    assert [path for path in paths if not is_there(path)] == []


def test_a_path_that_is_not_there_is_found() -> None:
    page = "[a](adr/) [b](nowhere.md) `core/nowhere` `core/rules/` `old/module.py` `config/*/*.toml` `down/ack`"
    paths = list(named_paths(page, "docs/"))
    assert paths == ["docs/adr/", "docs/nowhere.md", "core/nowhere", "core/rules/", "old/module.py", "config/*/*.toml"]
    assert [path for path in paths if not is_there(path)] == ["docs/nowhere.md", "core/nowhere", "old/module.py"]


def test_the_floors_of_the_core_are_drawn_as_lint_imports_holds_them() -> None:
    page = (
        (ROOT / "docs" / "architecture.md")
        .read_text("utf-8")
        .partition("### Floors of the core")[2]
        .partition("\n## ")[0]
    )
    first_cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ")]
    drawn = [set(re.findall(r"`(\w+)`", cell)) for cell in first_cells[1:]]  # the first row is the heading
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one["name"] == "Imports only go down the floors of the core")
    held = [set(re.findall(r"core\.(\w+)", layer)) for layer in layers]
    assert [row for row in drawn if row] == held
    folders = {
        path.name for path in (ROOT / "core").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {name.removesuffix(".py") for name in folders} - {"__init__"} == set().union(*held)
