"""Sub-commands for the accounts of people who sign in: `user add`, `user list`, `user password`."""

from typing import Annotated

import typer

from coldchain.commands.options import Config, PasswordFromStdin, finish, password
from coldchain.commands.words import command, group, say
from config.load import load

app = group("user", say("command.user"))


@command(app, "add")
def add(
    username: Annotated[str, typer.Argument(help=say("option.username"))],
    unit: Annotated[str, typer.Option(help=say("option.unit"))],
    role: Annotated[str, typer.Option(help=say("option.role"))] = "user",
    *,
    password_stdin: PasswordFromStdin = False,
    config: Config = None,
) -> None:
    from coldchain import access  # noqa: PLC0415

    settings = load(config)
    if refusal := access.why_not_add(settings, username, unit_code=unit, role=role):
        finish(1, [refusal])
    new_password = password(from_stdin=password_stdin)
    finish(*access.add_user(settings, username, new_password, unit_code=unit, role=role))


@command(app, "list")
def list_(config: Config = None) -> None:
    from coldchain import access  # noqa: PLC0415

    finish(*access.list_users(load(config)))


@command(app, "password")
def password_(
    username: Annotated[str, typer.Argument(help=say("option.whose_password"))],
    *,
    password_stdin: PasswordFromStdin = False,
    config: Config = None,
) -> None:
    from coldchain import access  # noqa: PLC0415

    settings = load(config)
    finish(*access.set_password(settings, username, password(from_stdin=password_stdin)))
