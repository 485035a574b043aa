"""Benchmark of collector and writer: readings a second from a real Mosquitto into each store.

    .venv/bin/python benchmarks/ingest.py [--quick] [--gateways 200] [--batches 500]

`coldchain collector` and `coldchain writer` run as a user starts them, on Mosquitto with the configuration of deploy/:
once with embedded telemetry and a SQLite log, once with InfluxDB 2 and a PostgreSQL log; first one collector with one
writer, then two of each with half of the shards each. To compare, a bare paho client takes the same messages from the
same broker and only counts them (QoS 1, acknowledged by the library).

All messages are published before, to the kept session of a subscriber that is not connected, so that the publisher uses
no CPU time while the subscriber catches up. `appended` readings are in the log, durable and acknowledged; `stored`
readings are in telemetry too, which the writer does at the same time. CPU time is that of collectors and writers
together. The goals are ratios to the bare
subscriber of the same run, which hold on any machine.
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import simulated_gateways
from installation import Installation, until
from results import Report
from servers import database, postgres, postgres_version, processor_s, version

from collector.counters import Counters
from collector.receiving.ingest import Ingest
from config import secrets
from config.settings import CollectorSettings
from core.intake.factory import open_log
from core.intake.port import IntakeLog
from core.intake.sqlite import SqliteIntakeLog
from core.mqtt.client import BrokerAddress, MqttClient, MqttMessage
from core.runtime.clock import SystemClock, real_now
from core.runtime.status import StatusFile
from core.telemetry.factory import open_telemetry
from core.wire.shards import Shard
from tests.fixtures.broker import Mosquitto
from tests.fixtures.influx import VERSION as INFLUX_VERSION
from tests.fixtures.influx import Influxd

QUESTION = (
    "How many readings a second go from a real Mosquitto into each store, beside a bare subscriber in the same run."
)
HERE = Path(__file__).resolve().parent


class Drained(NamedTuple):
    """Seconds that collectors and writers took for the waiting messages, and the CPU seconds of all processes."""

    appended_s: float
    stored_s: float
    processor_s: dict[str, float]
    """CPU seconds of each process until everything was stored."""


class Line(Installation):
    """Installation with a publisher for its collector."""

    def __init__(self, folder: Path, arguments: argparse.Namespace, more: str = "", *, broker: int = 0) -> None:
        super().__init__(folder, more, broker=broker)
        self.gateways: int = arguments.gateways
        self.batches: int = arguments.batches
        self.messages = self.gateways * self.batches
        self._lives = 0

    def publish(self) -> None:
        """Publish all messages, as from new spools."""
        self._lives += 1
        subprocess.run(self.helper("publish", str(self.gateways), str(self.batches), str(self._lives)), check=True)

    def forget(self, client_id: str) -> None:
        """End a subscriber's session: it would take in again what is published for the next one."""
        subprocess.run(self.helper("forget", client_id), check=True)

    def helper(self, what: str, *words: str) -> list[str]:
        file = str(secrets.path_in(self.settings.data_dir))
        return [sys.executable, str(HERE / "simulated_gateways.py"), what, str(self.settings.broker.port), file, *words]


SERVICES = ("collector", "writer")
ALONE = ("00-ff",)
HALVES = ("00-7f", "80-ff")


def drain(at: Line, ranges: Sequence[str] = ALONE) -> Drained:
    """Measure how collectors and writers, each with a range of shards, take in the waiting messages."""
    # Each number of collectors has its own names, since a session keeps its subscriptions.
    endings = [""] if len(ranges) == 1 else [f"-of-{shards}" for shards in ranges]
    names = [f"collector{ending}" for ending in endings]
    log = open_log(at.settings.intake.url, at.settings.data_dir)
    try:
        with ExitStack() as running:
            _start(at, running, names, ranges)
            for name in names:
                until(partial(_connected, at, name), f"a connected {name}")
        at.publish()
        before = dict(log.heads())
        with ExitStack() as running:
            _start(at, running, [f"writer{ending}" for ending in endings], ranges)
            _start(at, running, names, ranges)
            return _watched(at, log, before, endings, ranges)
    finally:
        log.close()
        for name in names:
            at.forget(name)


def _start(at: Line, running: ExitStack, names: Sequence[str], ranges: Sequence[str]) -> None:
    for name, shards in zip(names, ranges, strict=True):
        service = "collector" if name.startswith("collector") else "writer"
        key = "client_id" if service == "collector" else "worker"
        options = ("--set", f"{service}.{key}={name}", "--set", f"{service}.shards={shards}")
        process = running.enter_context(at.service(service, "--config", str(at.config), *options))
        at.processes[name] = process.pid


def _connected(at: Line, name: str) -> bool:
    status = StatusFile(at.settings.data_dir, "collector", name).read()
    return status is not None and status.pid == at.processes[name] and bool(status.facts.get("connected"))


def _watched(
    at: Line, log: IntakeLog, before: Mapping[Shard, int], endings: Sequence[str], ranges: Sequence[str]
) -> Drained:
    """Measure from the moment at which every collector has appended something."""
    expected = sum(before.values()) + at.messages

    def has_begun(shards: str) -> bool:
        first, _, last = shards.partition("-")
        return any(n > before.get(shard, 0) for shard, n in log.heads().items() if first <= shard <= last)

    until(lambda: all(map(has_begun, ranges)), "a first message of each in the log")
    began = time.monotonic()
    first = sum(log.heads().values())
    names = {f"{service}{ending}" for service in SERVICES for ending in endings}
    pids = {name: pid for name, pid in at.processes.items() if name in names or not name.startswith(SERVICES)}
    cpu_before = {name: processor_s(pid) for name, pid in pids.items()}
    until(lambda: sum(log.heads().values()) == expected, f"{expected} messages in the log")
    appended = time.monotonic() - began
    telemetry = open_telemetry(at.settings, read_only=True)
    until(lambda: sum(telemetry.positions().values()) == expected, "all of them in telemetry", look_s=0.1)
    stored = time.monotonic() - began
    costs = {name: processor_s(pid) - cpu_before[name] for name, pid in pids.items()}
    share = at.messages / max(1, expected - first)
    telemetry.close()
    return Drained(appended * share, stored * share, {name: cost * share for name, cost in costs.items()})


def bare(at: Line) -> tuple[float, float, float]:
    """Return the seconds of a subscriber that only counts, and the CPU seconds of it and of the broker."""
    subprocess.run(at.helper("count"), stdin=subprocess.DEVNULL, check=True)
    at.publish()
    before = processor_s(at.processes["mosquitto"])
    process = subprocess.run(at.helper("count"), input="count\n", check=True, capture_output=True, text=True)
    counted = json.loads(process.stdout.splitlines()[-1])
    assert counted["heard"] == at.messages, counted
    return float(counted["s"]), float(counted["processor_s"]), processor_s(at.processes["mosquitto"]) - before


def without_broker(arguments: argparse.Namespace, report: Report) -> None:
    """Measure decoding, time-stamping, de-duplication and the durable append together, without a broker."""
    now = real_now()
    messages = [
        MqttMessage(topic, body, False, 0, 0)
        for topic, body in simulated_gateways.messages(arguments.gateways, 10_000 // arguments.gateways, now)
    ]
    counts, stop = Counters(), threading.Event()
    gc.freeze()  # as the directory of a collector does
    nowhere = MqttClient(
        BrokerAddress("127.0.0.1", 1), client_id="b", username="", password="", clean=True, on_message=lambda _: None
    )
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteIntakeLog(Path(folder) / "intake.db")
        ingest = Ingest(log, SystemClock(), counts, group=CollectorSettings().group, linger=0.0)
        for message in messages:
            ingest.take(message)
        began = time.perf_counter()
        thread = threading.Thread(target=ingest.run, args=(nowhere, stop))
        thread.start()
        while not ingest.is_idle:
            time.sleep(0.005)
        elapsed_s = time.perf_counter() - began
        stop.set()
        thread.join()
        assert counts.facts()["appended"] == len(messages)
        log.close()
        size = (Path(folder) / "intake.db").stat().st_size
    readings = len(messages) * simulated_gateways.READINGS
    report.table(
        "Without a broker, into a SQLite log", "", "k readings/s", "µs a message", "bytes a reading in the log"
    )
    report.row(
        "decoded, stamped, appended", readings / elapsed_s / 1e3, elapsed_s / len(messages) * 1e6, size / readings
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateways", type=int, default=200)
    parser.add_argument("--batches", type=int, default=500, help="messages of each gateway")
    parser.add_argument("--only", choices=["embedded", "province"], help="one of the two pairs of stores")
    parser.add_argument("--quick", action="store_true", help="small, and nothing kept")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.gateways, arguments.batches = 20, 50
    report = Report("ingest", QUESTION, quick=arguments.quick)
    report.server("Mosquitto", version("mosquitto", "-h"))
    without_broker(arguments, report)
    with ExitStack() as opened:
        measure(arguments, report, opened)
    report.note(
        "Two cores: the subscriber has one, or the collector; Mosquitto (one thread), the writer, InfluxDB and"
        " PostgreSQL share the other. *Itself* is collector and writer together; each collector has one writer."
        " Nobody publishes meanwhile."
    )
    report.keep()
    return 0


def measure(arguments: argparse.Namespace, report: Report, opened: ExitStack) -> None:
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    embedded = Line(folder / "embedded", arguments)
    messages = arguments.gateways * arguments.batches
    readings = messages * simulated_gateways.READINGS
    (folder / "county.toml").write_text(simulated_gateways.county(arguments.gateways), "utf-8")
    mosquitto = opened.enter_context(Mosquitto(embedded.settings))
    embedded.processes["mosquitto"] = mosquitto.process.pid
    elapsed_s, cpu_s, broker_cpu_s = bare(embedded)
    limit = readings / elapsed_s
    report.table(
        f"{messages:,} messages of {simulated_gateways.READINGS} readings through Mosquitto, QoS 1",
        *("", "k readings/s", "to the bare", "CPU µs a message: itself", "broker", "servers"),
    )
    report.row("bare subscriber", limit / 1e3, 1.0, cpu_s / messages * 1e6, broker_cpu_s / messages * 1e6, None)
    installations, shares = {}, []
    if arguments.only != "province":
        installations["embedded + SQLite"] = embedded
    if arguments.only != "embedded":
        installations["InfluxDB + PostgreSQL"] = province(folder, arguments, embedded, opened, report)
    for name, at in installations.items():
        at.command("import", str(folder / "county.toml"))
        for collectors, ranges in (("one collector", ALONE), ("two collectors", HALVES)):
            drained = drain(at, ranges)
            cost = {process: seconds / messages * 1e6 for process, seconds in drained.processor_s.items()}
            own = sum(process_cost for process, process_cost in cost.items() if process.startswith(SERVICES))
            servers = sum(cost.values()) - own - cost["mosquitto"]
            rate, appended = readings / drained.stored_s, readings / drained.appended_s
            what = f"{name}, {collectors}"
            report.row(f"{what}: appended", appended / 1e3, appended / limit, None, None, None)
            report.row(f"{what}: stored", rate / 1e3, rate / limit, own, cost["mosquitto"], servers)
            if ranges == ALONE:
                shares.append(
                    f"{what}: {cost['collector']:.0f} µs of the collector, {cost['writer']:.0f} of the writer."
                )
                report.goal(f"{what}, stored, to the bare subscriber", rate / limit, at_least=0.7)
                report.goal(f"{what}, stored, to the bare subscriber, in the end", rate / limit, at_least=0.8)
    for share in shares:
        report.note(share)


def province(folder: Path, arguments: argparse.Namespace, embedded: Line, opened: ExitStack, report: Report) -> Line:
    """Start PostgreSQL and InfluxDB; Mosquitto and its passwords are those of the embedded installation."""
    server = opened.enter_context(postgres())
    report.server("PostgreSQL", postgres_version())
    (folder / "influxd").mkdir()
    influxd = Influxd(folder / "influxd").start()
    opened.callback(influxd.kill)
    report.server("InfluxDB", INFLUX_VERSION)
    installation = Line(
        folder / "province",
        arguments,
        f'[records]\nurl = "{database(server, "records")}"\n[intake]\nurl = "{database(server, "intake")}"\n'
        f'[telemetry]\nstore = "influxdb"\nurl = "{influxd.url}"\n',
        broker=embedded.settings.broker.port,
    )
    secrets.write(installation.settings.data_dir, secrets.read(embedded.settings.data_dir))
    installation.command("telemetry", "init")
    installation.processes |= {
        "mosquitto": embedded.processes["mosquitto"],
        "postgres": server.pid,
        "influxd": influxd.pid,
    }
    return installation


if __name__ == "__main__":
    sys.exit(main())
