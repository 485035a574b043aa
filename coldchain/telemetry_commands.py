"""Set-up and verification of the telemetry store, for `coldchain telemetry init` and `coldchain telemetry verify`.

Each returns the exit code and the lines that the command line prints.
"""

from pathlib import Path

from sqlalchemy import func, make_url, select
from sqlalchemy.exc import SQLAlchemyError

from coldchain.commands.texts import say
from config import secrets
from config.secrets import Secrets
from config.settings import Settings
from core.db.engine import Records, connect, url_for
from core.figures import daily_repository
from core.figures.tables import Daily
from core.migrations.migrate import NewerDatabase, pending
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.embedded_file import NewerFile
from core.telemetry.factory import embedded_folder
from core.telemetry.port import TelemetryUnavailable


def init(settings: Settings, operator: str) -> tuple[int, list[str]]:
    """Create what the configured store lacks; return the exit code and what was done.

    `operator` is an all-access token of an InfluxDB that somebody else has set up. It is empty when
    `coldchain telemetry init` set the InfluxDB up itself.
    Raises: NoSecrets.
    """
    from core.telemetry.influx_setup import NeedsOperator, set_up  # noqa: PLC0415 (an edge box never needs it)

    if settings.telemetry.store != "influxdb":
        return 0, [say("telemetry.embedded")]

    def keep(changed: Secrets) -> None:
        secrets.write(settings.data_dir, changed)

    try:
        return 0, set_up(settings.telemetry, secrets.read(settings.data_dir), operator, keep)
    except (NeedsOperator, TelemetryUnavailable) as error:
        return 1, [str(error)]


def verify(settings: Settings) -> tuple[int, list[str]]:
    """Compare every stored byte, daily figures included, with its checksum; return the exit code and the findings."""
    readings, figures = _readings(settings), _figures(settings)
    return max(readings[0], figures[0]), [*readings[1], *figures[1]]


def _readings(settings: Settings) -> tuple[int, list[str]]:
    if settings.telemetry.store != "embedded":
        return 0, [say("telemetry.influx")]
    folder = embedded_folder(settings)
    if not folder.exists():
        return 0, [say("telemetry.none", folder=folder)]
    store = EmbeddedTelemetry(folder, read_only=True)
    try:
        verified = store.verify()
    except NewerFile as error:
        return 1, [str(error)]
    finally:
        store.close()
    counts = {"readings": verified.readings, "days": verified.days, "hours": verified.hours, "frames": verified.frames}
    summary = say("telemetry.looked", None, folder=folder, **counts)
    if verified.damage:
        return 1, [*verified.damage, summary + say("telemetry.damaged", count=len(verified.damage))]
    return 0, [summary + say("telemetry.whole")]


def _figures(settings: Settings) -> tuple[int, list[str]]:
    """Verify the daily figures in the records. Records that don't exist are not created."""
    url = url_for(settings.records.url, settings.data_dir)
    file = make_url(url).database if url.startswith("sqlite") else None
    if file and not Path(file).exists():
        return 0, [say("telemetry.no_records", file=file)]
    records = Records(connect(url))
    try:
        if pending(records.engine):
            return 0, [say("telemetry.to_migrate")]
        with records.read() as tx:
            damage = list(daily_repository.damage(tx))
            count = tx.scalar(select(func.count()).select_from(Daily))
    except (SQLAlchemyError, NewerDatabase) as error:
        return 1, [f"records: {str(error).splitlines()[0]}"]
    finally:
        records.close()
    if damage:
        return 1, [*damage, say("telemetry.figures_damaged", count=count, damaged=len(damage))]
    return 0, [say("telemetry.figures", count=count)]
