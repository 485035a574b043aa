"""Options that several sub-commands take, and how each ends: its lines, its exit code."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from coldchain.commands.words import say

CONFIG = "COLDCHAIN_CONFIG"
"""Environment variable that names the settings; `up` hands them to its children so."""

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", envvar=CONFIG, show_envvar=True, help=say("option.config")),
]
Changed = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=say("option.set"))]
PasswordFromStdin = Annotated[bool, typer.Option("--password-stdin", help=say("option.password_stdin"))]


def finish(code: int, lines: Iterable[str]) -> None:
    """Print what a command has to say, to standard error when it failed, and end with its exit code."""
    for line in lines:
        typer.echo(line, err=code != 0)
    raise typer.Exit(code)


def password(*, from_stdin: bool) -> str:
    """Return the password that the operator types twice, or the first line of standard input."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        finish(1, [say("user.no_terminal")])
    asked: str = typer.prompt(say("user.password"), hide_input=True, confirmation_prompt=say("user.password_again"))
    return asked
