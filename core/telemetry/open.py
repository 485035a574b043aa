"""Which telemetry store the settings ask for."""

from pathlib import Path

from config.load import WrongSetting
from config.settings import Settings
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.port import Telemetry


def open_telemetry(settings: Settings, *, read_only: bool = False) -> Telemetry:
    """Open the store; `read_only` for whoever doesn't write telemetry, which may come up before the writer.

    Raises: WrongSetting.
    """
    if settings.telemetry.store == "influxdb":
        msg = "telemetry.store = 'influxdb': not available in this version yet; use 'embedded' (the default)"
        raise WrongSetting(msg)
    folder = settings.telemetry.folder or Path(settings.data_dir) / "telemetry"
    return EmbeddedTelemetry(Path(settings.data_dir) / folder, read_only=read_only)
