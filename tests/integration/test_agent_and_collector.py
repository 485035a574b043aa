"""From the device's register to the telemetry store, on a stepped clock, with both ends as they are in production."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from config.settings import DeviceOnBus, RecordsSettings
from core.db.engine import Records, connect
from core.ids import SeriesId
from core.intake.sqlite import SqliteIntakeLog
from core.runtime.barrier import Barrier
from core.runtime.clock import ClockKeeper
from core.runtime.instant import MINUTE, Instant
from core.telemetry.embedded import EmbeddedTelemetry
from core.units import device_revision
from core.wire.shards import GatewayNumber, shard_of
from tests.fixtures.broker import broker
from tests.fixtures.collecting import receiving_and_storing
from tests.fixtures.county import add_fridge, add_gateway, add_probe, add_unit
from tests.fixtures.databases import fresh_url
from tests.fixtures.modbus import bus_to, line
from tests.fixtures.uplinks import GW, agent_in

START = Instant(1_774_632_960_000)
ROOT = Path(__file__).parents[2]


def test_every_step_of_the_clock_is_stored_once_also_when_the_agent_is_killed_between(tmp_path: Path) -> None:
    clock = tmp_path / "run" / "clock.json"
    keeper = ClockKeeper(clock, start=START, speed=0)
    barrier = Barrier(clock)
    feels = [4.0]
    with line("rtu") as devices:
        devices.add(1, "r4dcb08", lambda _channel: feels[0])
        bus = bus_to(devices, "rtu", DeviceOnBus(address=1, profile="r4dcb08", probes={"t3": "208601"}))
        settings = msgspec.structs.replace(
            agent_in(tmp_path, bus),
            records=RecordsSettings(url=fresh_url("sqlite", tmp_path)),
            virtual_clock=str(clock),
        )
        records = Records(connect(settings.records.url))
        with records.write() as tx:
            device_revision.bump(tx)
            unit = add_unit(tx, "Longtan")
            _, (zone,) = add_fridge(tx, "F1", unit)
            add_probe(tx, "208601", add_gateway(tx, GW, unit), zone)
        records.close()
        (tmp_path / "coldchain.json").write_bytes(msgspec.json.encode(settings))
        expected = []
        with broker(settings), receiving_and_storing(settings):
            agent = _agent(tmp_path)
            for step in range(1, 13):
                feels[0] = 4.0 + step / 10
                when = Instant(START + step * MINUTE)
                number = keeper.step_to(when)
                if step % 4 == 0:
                    agent.send_signal(signal.SIGKILL)
                    agent.wait()
                    agent = _agent(tmp_path)
                barrier.wait(["gateway_agent", "collector", "writer"], number, within_s=20)
                if step % 4 == 2:  # killed with the cycle kept: the next process doesn't poll it again
                    agent.send_signal(signal.SIGKILL)
                    agent.wait()
                    agent = _agent(tmp_path)
                    barrier.wait(["gateway_agent", "collector", "writer"], number, within_s=20)
                expected.append((when, 400 + step * 10))
            agent.terminate()
            assert agent.wait(5) == 0
        log = SqliteIntakeLog(tmp_path / "intake.db")
        batches = [entry.batch for entry in log.read(shard_of(GatewayNumber(GW)), 0, 1000)]
        log.close()
        assert [batch.seq for batch in batches] == list(range(1, len(batches) + 1)), "each once, in order"
        stamps = [reading.ts for batch in batches for reading in batch.readings]
        assert len(stamps) == len(set(stamps)), "no cycle was polled twice"
        store = EmbeddedTelemetry(tmp_path / "telemetry", read_only=True)
        curve = store.range(SeriesId(1), Instant(0), Instant(2**52))
        stored = [(sample.at, sample.value) for sample in curve.samples(SeriesId(0))]
        store.close()
        assert stored[-12:] == expected


def _agent(folder: Path) -> "subprocess.Popen[bytes]":
    script = (
        "import sys, msgspec, pathlib\n"
        "from config.settings import Settings\n"
        "from core.runtime.lifecycle import stop_on_signals\n"
        "from gateway_agent.service import run\n"
        "run(msgspec.json.decode(pathlib.Path(sys.argv[1]).read_bytes(), type=Settings), stop_on_signals())\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder / "coldchain.json")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
