"""Command line of `coldchain`: all sub-commands, and each error as one clear line."""

import errno
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from coldchain import __version__
from coldchain.commands import audit, installation, messages, services, telemetry, tokens, trial, users
from coldchain.commands.texts import group, say, translate_typer, usage_error
from config.secrets import NoSecrets
from config.settings_loader import InvalidSetting
from core.runtime.file_permissions import only_ours
from core.runtime.process_lock import AlreadyRunning

USAGE = 2
"""Exit code of a command that could not begin: wrong usage, a wrong setting, missing secrets."""

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR)

app = group("coldchain", say("command.coldchain"))
for part in (installation.app, services.app, trial.app):
    app.add_typer(part)
for part in (users.app, tokens.app, messages.app, telemetry.app, audit.app):
    app.add_typer(part, rich_help_panel=say("panel.setting_up"))


def main() -> None:
    """Run the command.

    Wrong usage, a wrong setting and missing secrets each print one line and end with exit code 2.
    """
    only_ours()
    translate_typer()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a character that the terminal can't show must not end the command
            stream.reconfigure(errors="replace")
    try:
        code = app(standalone_mode=False)
    except typer.Abort:
        sys.exit(1)
    except typer.TyperException as error:
        if error.format_message():  # empty when no argument was given: Typer has printed the help then
            sys.stderr.write(f"coldchain: {usage_error(error)}\n")
        sys.exit(USAGE)
    except AlreadyRunning as error:
        message = say("up.already", folder=error.data_dir, pid=error.pid or "?")
        sys.stderr.write(f"coldchain: {message}\n")
        sys.exit(USAGE)
    except (InvalidSetting, NoSecrets) as error:
        sys.stderr.writelines(f"coldchain: {line}\n" for line in str(error).splitlines())
        sys.exit(USAGE)
    except OSError as error:
        if error.errno not in NOT_WRITABLE or not error.filename:
            raise
        sys.stderr.write(f"coldchain: {say('init.not_written', path=error.filename, problem=error.strerror)}\n")
        sys.exit(USAGE)
    sys.exit(code if isinstance(code, int) else 0)


@app.callback(invoke_without_command=True)
def _version(*, version: Annotated[bool, typer.Option("--version", help=say("option.version"))] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
