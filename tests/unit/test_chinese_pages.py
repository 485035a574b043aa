"""Pages that an operator needs exist in Chinese, and say as much as the English ones."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHORTER = {"deploy"}
"""What is only summed up in Chinese."""
PAGES = sorted({page.name.removesuffix(".zh-CN.md") for page in DOCS.glob("*.zh-CN.md")} - SHORTER)


def shape(page: Path) -> dict[str, int]:
    text = page.read_text("utf-8")
    patterns = {"headings": r"^#+ ", "rows": r"^\|", "points": r"^(?:\*|\d+\.) ", "blocks": r"^```"}
    return {name: len(re.findall(pattern, text, re.MULTILINE)) for name, pattern in patterns.items()}


def test_the_pages_of_an_operator_are_there() -> None:
    assert {"commands", "import", "settings", "trouble"} <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_as_much_in_chinese_and_the_two_lead_to_each_other(name: str) -> None:
    english, chinese = DOCS / f"{name}.md", DOCS / f"{name}.zh-CN.md"
    assert shape(english) == shape(chinese)
    if name != "commands":
        assert f"]({chinese.name})" in english.read_text("utf-8")
        assert f"]({english.name})" in chinese.read_text("utf-8")


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_every_page_that_a_readme_names_is_there(readme: str) -> None:
    text = (DOCS.parent / readme).read_text("utf-8")
    named = re.findall(r"\]\(([^)#:]+)\)", text)
    assert len(named) > 10
    assert [path for path in named if not (DOCS.parent / path).exists()] == []
    if "zh-CN" in readme:
        assert {f"docs/{name}.zh-CN.md" for name in PAGES} <= set(named)
