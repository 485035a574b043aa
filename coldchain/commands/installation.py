"""Sub-commands for an installation, from `init` to `realign`, and for the secrets that other programs need."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from coldchain.commands.options import ConfigFile, finish
from coldchain.commands.texts import command, group, say
from config.settings_loader import load_settings
from core.runtime import logs

app = group()


@command(app, "status", "machine")
def status(
    *, json: Annotated[bool, typer.Option("--json", help=say("option.json"))] = False, config: ConfigFile = None
) -> None:
    from coldchain import status_command  # noqa: PLC0415

    raise typer.Exit(status_command.status(load_settings(config), as_json=json))


@command(app, "init", "setting_up")
def init(folder: Annotated[Path, typer.Argument(help=say("option.init_folder"))] = Path()) -> None:
    from coldchain import installation  # noqa: PLC0415

    finish(0, installation.init(folder))


@command(app, "import", "setting_up")
def import_(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=say("option.import_file"))],
    config: ConfigFile = None,
) -> None:
    from coldchain import installation  # noqa: PLC0415
    from coldchain.importing.progress import show_progress  # noqa: PLC0415

    finish(*installation.import_into(load_settings(config), file, show_progress(sys.stderr)))


@command(app, "check", "setting_up")
def check(config: ConfigFile = None) -> None:
    from coldchain.checks import check as run_checks  # noqa: PLC0415

    logs.set_up("check", level="ERROR")  # the findings say everything else
    failed = 0
    for finding in run_checks(load_settings(config)):
        typer.echo(str(finding))
        failed += not finding.good
    raise typer.Exit(1 if failed else 0)


@command(app, "realign", "machine")
def realign(
    *, yes: Annotated[bool, typer.Option("--yes", help=say("option.yes"))] = False, config: ConfigFile = None
) -> None:
    from coldchain import realign_command  # noqa: PLC0415

    code, lines = realign_command.realign(load_settings(config), yes=yes)
    for line in lines:
        typer.echo(line)
    raise typer.Exit(code)


@command(app, "broker-passwords", "setting_up")
def broker_passwords(config: ConfigFile = None) -> None:
    from coldchain.broker.password_file import password_lines  # noqa: PLC0415
    from config.secrets import read  # noqa: PLC0415

    finish(0, password_lines(read(load_settings(config).data_dir).broker))


@command(app, "edge-secrets", "setting_up")
def edge_secrets(
    gateways: Annotated[list[str], typer.Argument(help=say("option.edge_gateways"))], config: ConfigFile = None
) -> None:
    from config.secrets import encoded, of_edge_box, read  # noqa: PLC0415

    data_dir = load_settings(config).data_dir
    finish(0, [encoded(of_edge_box(read(data_dir), gateways, data_dir)).decode()])
