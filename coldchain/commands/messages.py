"""Sub-command for messages to people: `message test`."""

from typing import Annotated

import typer

from coldchain.commands.options import ConfigFile, finish
from coldchain.commands.texts import command, group, say
from config.settings_loader import load_settings

app = group("message", say("command.message"))


@app.callback()
def _of_messages() -> None:
    """Make Typer treat `test` as a sub-command, although it is the only one."""


@command(app, "test")
def send_test_message(
    person: Annotated[str, typer.Argument(help=say("option.person"))],
    config: ConfigFile = None,
) -> None:
    from coldchain.message_test import send_test  # noqa: PLC0415
    from core.runtime import logs  # noqa: PLC0415

    logs.set_up("message", level="ERROR")
    finish(*send_test(load_settings(config), person))
