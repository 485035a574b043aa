"""Generator of docs/commands.md and docs/commands.zh-CN.md from the command line's own texts.

`LANG=C python -m coldchain.commands.page > docs/commands.md` writes the English page, and
`LANG=zh_CN.UTF-8 python -m coldchain.commands.page > docs/commands.zh-CN.md` the Chinese one.
tests/unit/test_commands_page.py fails when one is out of date.
"""

import sys

import typer
from typer.cli import get_docs_for_click

from coldchain.cli import app
from coldchain.commands.texts import say


def page() -> str:
    """Return the page in the language of the terminal."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="coldchain")
    translated = say.section("page")
    for name, english in say.section("page", "en").items():
        text = text.replace(english, translated[name])
    return f"{text.strip()}\n"


if __name__ == "__main__":
    sys.stdout.write(page())
