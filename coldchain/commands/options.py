"""Options that several sub-commands share, and the common end of a sub-command: its lines and exit code."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from coldchain.commands.texts import say

CONFIG = "COLDCHAIN_CONFIG"
"""Environment variable with the path of the settings file; `up` passes it to its children."""

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", envvar=CONFIG, show_envvar=True, help=say("option.config")),
]
SettingOverrides = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=say("option.set"))]
PasswordFromStdin = Annotated[bool, typer.Option("--password-stdin", help=say("option.password_stdin"))]


def finish(code: int, lines: Iterable[str]) -> None:
    """Print the lines of a command, to standard error if it failed, and exit with its code."""
    for line in lines:
        typer.echo(line, err=code != 0)
    raise typer.Exit(code)


def password(*, from_stdin: bool) -> str:
    """Return the password from the first line of standard input, or as the operator types it twice."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        finish(1, [say("user.no_terminal")])
    typed: str = typer.prompt(say("user.password"), hide_input=True, confirmation_prompt=say("user.password_again"))
    return typed
