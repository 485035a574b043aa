"""Opening of the intake log that the settings name."""

from pathlib import Path

from config.settings_loader import InvalidSetting
from config.texts import say
from core.intake.port import IntakeLog
from core.intake.sqlite import SqliteIntakeLog
from core.intake.sqlite_file import VERSION, file_version

_SQLITE = "sqlite:///"
_FILE = "intake.db"
_POSTGRES = "postgresql+psycopg://"


def open_log(url: str, data_dir: str) -> IntakeLog:
    """Open the log that `intake.url` names; without one, intake.db in the data folder.

    Raises: InvalidSetting, NewerLog, IntakeUnavailable.
    """
    file = _file(url, data_dir)
    if file:
        return SqliteIntakeLog(file)
    if url.startswith(_POSTGRES):
        from core.intake.postgres import PostgresIntakeLog  # noqa: PLC0415 (one machine does without the driver)

        return PostgresIntakeLog(url)
    raise _strange(url)


def is_ready(url: str, data_dir: str) -> bool:
    """Return whether the log has all its tables; the first service makes them. Changes nothing.

    Raises: as `open_log`.
    """
    file = _file(url, data_dir)
    if file:
        return file_version(file) == VERSION
    if url.startswith(_POSTGRES):
        from core.intake import postgres_server  # noqa: PLC0415 (one machine does without the driver)

        looking = postgres_server.LogServer(url, make=False)
        try:
            return looking.version() == postgres_server.VERSION
        finally:
            looking.close()
    raise _strange(url)


def _file(url: str, data_dir: str) -> Path | None:
    return Path(data_dir) / (url.removeprefix(_SQLITE) or _FILE) if not url or url.startswith(_SQLITE) else None


def _strange(url: str) -> InvalidSetting:
    return InvalidSetting(say("settings.intake_url", url=repr(url)))
