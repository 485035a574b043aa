"""A byte turned in a TSM file: what `coldchain telemetry verify` names as InfluxDB's own check finds it.

InfluxDB 2.9 hands changed values out as they are, so its operator has to ask.
"""

import re
import subprocess
from pathlib import Path

from core.ids import Centi, SeriesId
from core.runtime.clock import real_now
from core.runtime.instant import Instant
from core.telemetry.influx import InfluxTelemetry
from core.telemetry.influx_setup import Server
from core.telemetry.port import StoredReading
from tests.fixtures.influx import Influxd, binary, operator_of
from tests.fixtures.waiting import until


def test_influxdbs_own_check_finds_a_turned_byte(tmp_path: Path) -> None:
    influx = Influxd(tmp_path, "--storage-cache-snapshot-write-cold-duration=1s").start()
    try:
        operator, settings = operator_of(influx), influx.settings("readings")
        api = Server(settings)
        api.bucket(operator, api.organisation(operator)[0])
        store, now = InfluxTelemetry(settings, operator), real_now()
        samples = [StoredReading(SeriesId(1), Instant(now - n * 1000), Centi(400 + n % 7), 0) for n in range(100)]
        store.write_batch(samples, {})
        store.close()
        until(lambda: influx.has("tsm"), "a TSM file", within_s=60)
    finally:
        influx.kill()
    assert _broken_blocks(influx) == 0
    file = influx.newest("tsm")
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 8
    file.write_bytes(whole)
    assert _broken_blocks(influx) == 1


def _broken_blocks(influx: Influxd) -> int:
    command = [binary(), "inspect", "verify-tsm", "--engine-path", influx.folder / "engine"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"Broken Blocks: (\d+) / \d+", said)
    assert found, said
    return int(found[1])
