"""Which intake log the settings ask for."""

from pathlib import Path

from config.load import WrongSetting
from core.intake.port import IntakeLog
from core.intake.sqlite import SqliteIntakeLog

_SQLITE = "sqlite:///"
_POSTGRES = "postgresql+psycopg://"


def open_log(url: str, data_dir: str) -> IntakeLog:
    """Open the log that `intake.url` names; without one, intake.db in the data folder.

    Raises: WrongSetting, WrongVersion, Unavailable.
    """
    if not url:
        return SqliteIntakeLog(Path(data_dir) / "intake.db")
    if url.startswith(_SQLITE):
        return SqliteIntakeLog(Path(data_dir) / url.removeprefix(_SQLITE))
    if url.startswith(_POSTGRES):
        from core.intake.postgres import PostgresIntakeLog  # noqa: PLC0415 (one machine does without the driver)

        return PostgresIntakeLog(url)
    msg = (
        f"intake.url = {url!r}: sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE; leave it empty for intake.db"
        " in data_dir"
    )
    raise WrongSetting(msg)
