"""Sub-commands for the telemetry store: `telemetry init`, `telemetry verify`."""

import os

from coldchain.commands.options import ConfigFile, finish
from coldchain.commands.texts import command, group, say
from config.settings_loader import load_settings

app = group("telemetry", say("command.telemetry"))


@command(app, "init")
def init(config: ConfigFile = None) -> None:
    from coldchain import telemetry_commands  # noqa: PLC0415

    finish(*telemetry_commands.init(load_settings(config), os.environ.get("INFLUX_TOKEN", "")))


@command(app, "verify")
def verify(config: ConfigFile = None) -> None:
    from coldchain import telemetry_commands  # noqa: PLC0415

    finish(*telemetry_commands.verify(load_settings(config)))
