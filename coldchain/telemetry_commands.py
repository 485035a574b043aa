"""What `coldchain telemetry init` and `coldchain telemetry verify` do; the command line prints what these return."""

import sqlite3

from config import secrets
from config.secrets import Secrets
from config.settings import Settings
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.file import WrongVersion
from core.telemetry.open import embedded_folder
from core.telemetry.port import Unavailable


def init(settings: Settings, operator: str) -> tuple[int, list[str]]:
    """Make what the store of the settings needs, where it is missing; returns the exit code and what was done.

    `operator` is a token of whoever set an InfluxDB up, empty where `coldchain telemetry init` did it itself.
    Raises: NoSecrets.
    """
    from core.telemetry.influx_setup import NeedsOperator, set_up  # noqa: PLC0415 (an edge box never needs it)

    if settings.telemetry.store != "influxdb":
        return 0, ["telemetry.store = 'embedded': nothing to do, the collector makes its files"]

    def keep(changed: Secrets) -> None:
        secrets.write(settings.data_dir, changed)

    try:
        return 0, set_up(settings.telemetry, secrets.read(settings.data_dir), operator, keep)
    except (NeedsOperator, Unavailable) as error:
        return 1, [str(error)]


def verify(settings: Settings) -> tuple[int, list[str]]:
    """Read every stored byte against its checksum; returns the exit code and what was found."""
    if settings.telemetry.store != "embedded":
        return 1, ["InfluxDB looks after its own files; on its machine: influxd inspect verify-tsm"]
    folder = embedded_folder(settings)
    if not folder.exists():
        return 0, [f"{folder} does not exist: nothing was ever stored"]
    store = EmbeddedTelemetry(folder, read_only=True)
    try:
        found = store.verify()
    except (WrongVersion, sqlite3.Error) as error:
        return 1, [f"{folder}: {error}"]
    finally:
        store.close()
    blocks = f"{found.days} day blocks, {found.hours} hour blocks"
    looked = f"{folder}: {found.readings} readings in {blocks} and {found.frames} frames"
    if found.damage:
        return 1, [*found.damage, f"{looked}; {len(found.damage)} damaged: put the file back from a backup"]
    return 0, [f"{looked}, all as they were written"]
