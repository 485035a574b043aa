"""Sub-command for the audit log: `audit verify`."""

from typing import Annotated

import typer

from coldchain.commands.options import ConfigFile, finish
from coldchain.commands.texts import command, group, say
from config.settings_loader import load_settings

app = group("audit", say("command.audit"))


@app.callback()
def audit() -> None:
    """Keep `verify` a sub-command: a group of one command would become that command."""


@command(app, "verify")
def verify(
    head: Annotated[str, typer.Option(metavar="HEX", help=say("option.audit_head"))] = "",
    config: ConfigFile = None,
) -> None:
    from coldchain import audit_command  # noqa: PLC0415

    finish(*audit_command.verify(load_settings(config), head))
