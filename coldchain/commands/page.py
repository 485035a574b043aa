"""Page docs/commands.md and its Chinese twin, written from the command line itself.

`LANG=zh_CN.UTF-8 python -m coldchain.commands.page > docs/commands.zh-CN.md` renews the Chinese one, and
`LANG=C python -m coldchain.commands.page > docs/commands.md` the English; a test fails when one isn't up to date.
"""

import sys

import typer
from typer.cli import get_docs_for_click

from coldchain.cli import app
from coldchain.commands.words import say


def page() -> str:
    """Return the page in the terminal's language."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="coldchain")
    own = say.section("page")
    for name, english in say.section("page", "en").items():
        text = text.replace(english, own[name])
    return f"{text.strip()}\n"


if __name__ == "__main__":
    sys.stdout.write(page())
