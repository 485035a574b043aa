"""Messages of the code: each is in its catalogue, and is written in the language asked for."""

import re
from pathlib import Path

from config.catalogue import texts
from config.localized_message import LocalizedMessage

ROOT = Path(__file__).resolve().parents[2]
CODE = ("alerting", "api", "coldchain", "collector", "config", "core", "gateway_agent")


def test_every_message_of_the_code_is_in_its_catalogue() -> None:
    """One function of a module, or of a package, names the package and the section of the messages there."""
    asked = []
    for file in (file for top in CODE for file in (ROOT / top).glob("**/*.py")):
        home = re.search(
            r'def (_?message)\(.*?return LocalizedMessage\("([\w.]+)", f"(\w+)\.\{\w+\}"',
            file.read_text("utf-8"),
            re.DOTALL,
        )
        if home is None:
            continue
        name, package, section = home.groups()
        sources = [file] if name.startswith("_") else file.parent.glob("*.py")
        for source in sources:
            found = re.findall(rf'\b{name}\(\s*"(\w+)"', source.read_text("utf-8"))
            asked += [(package, f"{section}.{each}") for each in found]
    assert len(asked) > 60
    for package, name in asked:
        assert name in texts(package, "en"), (package, name)


def test_a_message_is_written_in_the_language_asked_for_and_so_is_one_within_it() -> None:
    sign = LocalizedMessage("config", "csv_file.comma")
    message = LocalizedMessage("config", "csv_file.too_many", {"cells": 3, "columns": 2, "delimiter": sign})
    assert str(message) == "has 3 cells under 2 columns; a comma too much?"
    assert message.text("zh-CN") == "有 3 个单元格，但只有 2 列，是不是多了一个逗号？"
