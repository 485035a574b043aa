"""Sub-commands for the tokens of machines that use the API: `token issue`, `token list`, `token revoke`."""

from typing import Annotated

import typer

from coldchain.commands.options import ConfigFile, finish
from coldchain.commands.texts import command, group, say
from config.settings_loader import load_settings
from core.units.rights import Role

app = group("token", say("command.token"))


@command(app, "issue")
def issue(
    name: Annotated[str, typer.Argument(help=say("option.token_name"))],
    unit: Annotated[str, typer.Option(help=say("option.unit"))],
    role: Annotated[str, typer.Option(help=say("option.role"))] = Role.USER,
    expires: Annotated[str, typer.Option(metavar="DAY", help=say("option.expires"))] = "365d",
    config: ConfigFile = None,
) -> None:
    from coldchain import account_commands  # noqa: PLC0415

    code, lines = account_commands.issue(load_settings(config), name, unit_code=unit, role=role, expires=expires)
    if code == 0:
        typer.echo(say("access.issued", name=name), err=True)
    finish(code, lines)


@command(app, "list")
def list_(config: ConfigFile = None) -> None:
    from coldchain import account_commands  # noqa: PLC0415

    finish(*account_commands.list_tokens(load_settings(config)))


@command(app, "revoke")
def revoke(
    name: Annotated[str, typer.Argument(help=say("option.token_name"))],
    config: ConfigFile = None,
) -> None:
    from coldchain import account_commands  # noqa: PLC0415

    finish(*account_commands.revoke(load_settings(config), name))
