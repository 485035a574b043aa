"""Set-up of an installation: settings and secrets by `coldchain init`, devices and people by `coldchain import`.

Each function returns the lines that the command line prints.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from sqlalchemy.exc import OperationalError, SQLAlchemyError

from coldchain.checks.contacts import reach_advice, reach_lines
from coldchain.checks.damage import has_people
from coldchain.commands.texts import say
from coldchain.importing import import_file
from config import secrets
from config.catalogue import terminal_language
from config.secrets import NoSecrets
from config.settings import Settings
from config.settings_loader import InvalidSetting, load_settings
from config.text_file import UnreadableFile
from core.db.engine import Records, connect, url_for
from core.health.cursor_alignment import of_records, of_telemetry
from core.health.trouble_text import advice, wrong
from core.intake import port as intake
from core.intake.factory import is_ready, open_log
from core.migrations.migrate import NewerDatabase, upgrade
from core.runtime.clock import clock_from, real_now
from core.runtime.file_permissions import close_to_others, private_places
from core.runtime.trouble import Trouble, kind_of
from core.telemetry.factory import open_telemetry
from core.units import divisions
from core.units.actor import OPERATOR

START = """\
# Coldchain's settings. What stands here is the default, so an empty file is a good one.
# docs/settings.md describes every setting; `coldchain check` tests this file and every connection it names.

# data_dir = "coldchain-data"             # records, intake log, telemetry and secrets, beside this file
# public_url = "http://127.0.0.1:8080"    # how phones reach the pages: starts every link in a message

# [broker]                                # `coldchain up` runs a broker of its own unless embedded = false
# host = "127.0.0.1"                      # 0.0.0.0 lets gateways elsewhere connect to it
# port = 1883

# [api]
# host = "127.0.0.1"
# port = 8080

# [wechat]                                # without an app_id messages stay queued, and visible
# app_id = ""                             # its secret: wechat_secret in secrets.json
# template_alarm = ""
# template_recovery = ""

# A gateway that this machine is itself, with one Modbus line:
# [[agent.gateways]]
# number = "10001"
# [[agent.gateways.buses]]
# name = "line-1"
# kind = "tcp"                            # or rtu (device = "/dev/ttyUSB0"), or rtu-over-tcp
# host = "192.0.2.10"
# [[agent.gateways.buses.units]]
# address = 1
# profile = "r4dcb08"
# probes = { t1 = "208601", t2 = "208604" }
"""


def init(folder: Path) -> list[str]:
    """Create coldchain.toml and the secrets where they are missing; return what was done. Nothing is overwritten.

    Raises: InvalidSetting when an existing coldchain.toml can't be used or the folder can't be written; then everything
    that was created is removed again.
    """
    created: list[Path] = []
    try:
        return _init(folder, created)
    except OSError as error:
        _take_back(created)
        where = error.filename or folder
        raise InvalidSetting(say("init.not_written", path=where, problem=error.strerror)) from None
    except (InvalidSetting, NoSecrets):
        _take_back(created)
        raise


def _init(folder: Path, created: list[Path]) -> list[str]:
    lines: list[str] = []
    file = folder / "coldchain.toml"
    if file.exists():
        lines.append(say("init.there", path=file))
    else:
        _make(folder, created)
        with file.open("x", encoding="utf-8") as new:
            created.append(file)
            new.write(START)
        lines.append(say("init.settings", path=file))
    settings = load_settings(file)
    path = secrets.path_in(settings.data_dir)
    if path.exists():
        secrets.read(settings.data_dir)
        lines.append(say("init.there", path=path))
    elif has_people(settings):
        raise InvalidSetting(say("init.keys_gone", path=path))
    else:
        _make(path.parent, created)
        secrets.write(settings.data_dir, secrets.fresh(settings.broker.username))
        lines.append(say("init.secrets", path=path))
    close_to_others(private_places(settings))
    lines.append(say("init.next"))
    return lines


def _make(folder: Path, created: list[Path]) -> None:
    missing_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing_folders):
        path.mkdir()
        created.append(path)


def _take_back(created: list[Path]) -> None:
    for path in reversed(created):
        with suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


def import_into(
    settings: Settings, file: Path, progress: Callable[[int, int], None] = lambda _done, _all: None
) -> tuple[int, list[str]]:
    """Import a file into the records of an installation; return the exit code and the lines to print.

    Raises: NoSecrets.
    """
    with open_records(settings) as records:
        if _is_misplaced(settings, records):
            return 1, [say("import.realign")]
        try:
            known = divisions.load(Path(settings.tables))
        except (divisions.InvalidDivisions, UnreadableFile, OSError) as error:
            return 1, [str(error)]
        now = clock_from(settings.virtual_clock).now()
        report = import_file(
            records, settings.data_dir, file, actor=OPERATOR, now=now, divisions=known, progress=progress
        )
        untold = [] if report.mistakes else reach_lines(records, settings.channels, now)
    advice = [f"→ {reach_advice(settings.channels)}"] if untold else []
    return (1 if report.mistakes else 0), [*report.lines(terminal_language()), *untold, *advice]


def _is_misplaced(settings: Settings, records: Records) -> bool:
    """Return whether the records are an older copy.

    An older copy would number new probes with ids under which telemetry already has readings.
    """
    with suppress(intake.IntakeUnavailable, intake.NewerLog, InvalidSetting, sqlite3.Error, OSError):
        if is_ready(settings.intake.url, settings.data_dir):
            with closing(open_log(settings.intake.url, settings.data_dir)) as log:
                if of_records(log, records):
                    return True
                with closing(open_telemetry(settings, read_only=True)) as telemetry:
                    return bool(of_telemetry(log, telemetry))
    return False


@contextmanager
def open_records(settings: Settings) -> Iterator[Records]:
    """Open the records for one command, migrated to this version.

    Raises: NoSecrets; InvalidSetting when they can't be used.
    """
    secrets.read(settings.data_dir)  # without secrets this is not a folder of `init`, so probably the wrong one
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    try:
        try:
            upgrade(records.engine)
        except NewerDatabase as error:
            raise InvalidSetting(str(error)) from None
        except SQLAlchemyError as error:
            raise _unusable(error) from None
        try:
            yield records
        except OperationalError as error:  # the file is read-only, the disk is full, or the server is gone
            raise _unusable(error) from None
    finally:
        records.close()


def _unusable(error: SQLAlchemyError) -> InvalidSetting:
    trouble, language = Trouble("records", kind_of(error), real_now()), terminal_language()
    reason = str(getattr(error, "orig", error)).splitlines()[0]
    return InvalidSetting(f"{wrong(trouble, language)}: {reason}\n{advice(trouble, language)}")
