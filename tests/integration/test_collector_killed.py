"""kill -9 of collector and writer at random while gateways send: every batch is in the log once, and in telemetry."""

import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import msgspec
import pytest

from config.settings import RecordsSettings, Settings
from core.db.engine import Records, connect
from core.ids import SeriesId
from core.intake.sqlite import SqliteIntakeLog
from core.runtime.instant import Instant
from core.telemetry.embedded import EmbeddedTelemetry
from core.units import device_revision
from core.wire.shards import shard_of
from tests.fixtures.broker import BROKERS, broker, settings_in
from tests.fixtures.county import add_gateway, add_probe, add_unit
from tests.fixtures.databases import fresh_url
from tests.fixtures.publisher import Gateway
from tests.fixtures.waiting import until

BATCHES = 240
KILLS = 4

_SERVICE = """
import sys, threading
from pathlib import Path
import msgspec
from importlib import import_module
from config.settings import Settings
run = import_module(sys.argv[2]).run
run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Settings), threading.Event())
"""


@pytest.mark.parametrize("which", BROKERS)
def test_every_batch_once_whatever_is_killed(tmp_path: Path, which: str) -> None:
    settings = msgspec.structs.replace(
        settings_in(tmp_path, "10001", "10002", broker=which),
        records=RecordsSettings(url=fresh_url("sqlite", tmp_path)),
    )
    records = Records(connect(settings.records.url))
    with records.write() as tx:
        device_revision.bump(tx)
        unit = add_unit(tx, "Longtan")
        for number in ("10001", "10002"):
            add_probe(tx, "208601" if number == "10001" else "208602", add_gateway(tx, number, unit), None)
    records.close()
    with (
        broker(settings),
        Gateway(settings, "10001", probe="208601") as one,
        Gateway(settings, "10002", probe="208602") as two,
        _Service(settings, tmp_path, "collector.service") as collector,
        _Service(settings, tmp_path, "collector.writer_service") as writer,
    ):
        _send_while_killing(collector, writer, one, two)
        telemetry = EmbeddedTelemetry(tmp_path / "telemetry", read_only=True)
        log = SqliteIntakeLog(tmp_path / "intake.db")
        for series, gateway in ((SeriesId(1), one), (SeriesId(2), two)):
            entries = log.read(shard_of(gateway.number), 0, 10_000)
            assert sorted(entry.batch.seq for entry in entries) == list(range(1, BATCHES + 1))
            assert [entry.n for entry in entries] == list(range(1, BATCHES + 1))
            sent = sorted(reading.at for entry in entries for reading in entry.batch.readings)
            until(lambda: _stored(telemetry, series) == sent, "all of it in telemetry")  # noqa: B023  (used at once)
        assert log.held() == []
        telemetry.close()
        log.close()


def _send_while_killing(collector: "_Service", writer: "_Service", *gateways: Gateway) -> None:
    moments = random.Random(20_261_121)
    senders = [
        threading.Thread(target=gateway.send_until_covered, args=(range(1, BATCHES + 1),), daemon=True)
        for gateway in gateways
    ]
    for sender in senders:
        sender.start()
    for kill in range(1, KILLS + 1):
        some = kill * BATCHES // (KILLS + 2)
        until(lambda: len(gateways[0].covered()) >= some, "progress", within_s=20)  # noqa: B023  (used at once)
        time.sleep(moments.random() * 0.05)  # anywhere in its work
        collector.again()
        if kill % 2:
            time.sleep(moments.random() * 0.5)
            writer.again()
    for sender in senders:
        sender.join(30)
        assert not sender.is_alive(), "not everything was acknowledged"


class _Service:
    """A service in a process of its own."""

    def __init__(self, settings: Settings, folder: Path, module: str) -> None:
        self._module = module
        self._file = folder / f"{module}.json"
        self._file.write_bytes(msgspec.json.encode(settings))

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", _SERVICE, str(self._file), self._module]
        self._process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def again(self) -> None:
        """Kill it with kill -9 and start it again."""
        self.__exit__()
        self.__enter__()


def _stored(telemetry: EmbeddedTelemetry, series: SeriesId) -> list[int]:
    stored: list[int] = telemetry.range(series, Instant(0), Instant(2**52)).at.tolist()
    return stored
