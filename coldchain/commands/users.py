"""Sub-commands for the accounts of people who sign in: `user add`, `user list`, `user password`."""

from typing import Annotated

import typer

from coldchain.commands.options import ConfigFile, PasswordFromStdin, finish, password
from coldchain.commands.texts import command, group, say
from config.settings_loader import load_settings
from core.units.rights import Role

app = group("user", say("command.user"))


@command(app, "add")
def add(
    username: Annotated[str, typer.Argument(help=say("option.username"))],
    unit: Annotated[str, typer.Option(help=say("option.unit"))],
    role: Annotated[str, typer.Option(help=say("option.role"))] = Role.USER,
    *,
    password_stdin: PasswordFromStdin = False,
    config: ConfigFile = None,
) -> None:
    from coldchain import account_commands  # noqa: PLC0415

    settings = load_settings(config)
    if refusal := account_commands.why_not_add(settings, username, unit_code=unit, role=role):
        finish(1, [refusal])
    new_password = password(from_stdin=password_stdin)
    finish(*account_commands.add_user(settings, username, new_password, unit_code=unit, role=role))


@command(app, "list")
def list_(config: ConfigFile = None) -> None:
    from coldchain import account_commands  # noqa: PLC0415

    finish(*account_commands.list_users(load_settings(config)))


@command(app, "password")
def password_(
    username: Annotated[str, typer.Argument(help=say("option.whose_password"))],
    *,
    password_stdin: PasswordFromStdin = False,
    config: ConfigFile = None,
) -> None:
    from coldchain import account_commands  # noqa: PLC0415

    settings = load_settings(config)
    finish(*account_commands.replace_password(settings, username, password(from_stdin=password_stdin)))
