"""Factory of the telemetry store that the settings name."""

from pathlib import Path

from config import secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting
from config.texts import say
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.port import Telemetry


def open_telemetry(settings: Settings, *, read_only: bool = False) -> Telemetry:
    """Open the store. A process that doesn't write telemetry opens it `read_only`, and may start before the writer.

    Raises: InvalidSetting; NoSecrets.
    """
    if settings.telemetry.store == "influxdb":
        return _influx(settings, read_only=read_only)
    return EmbeddedTelemetry(embedded_folder(settings), read_only=read_only)


def embedded_folder(settings: Settings) -> Path:
    """Return the folder of an installation's embedded store."""
    return Path(settings.data_dir) / (settings.telemetry.folder or "telemetry")


def _influx(settings: Settings, *, read_only: bool) -> Telemetry:
    from core.telemetry.influx import InfluxTelemetry  # noqa: PLC0415 (the client is slow to import)

    kept = secrets.read(settings.data_dir)
    token = kept.influx_read if read_only else kept.influx_write
    if not token:
        name = "influx_read" if read_only else "influx_write"
        where = secrets.path_in(settings.data_dir)
        raise InvalidSetting(say("secrets.no_influx", name=name, path=where))
    return InfluxTelemetry(settings.telemetry, token, read_only=read_only)
