"""How many readings a second go from a real Mosquitto into each store, beside a bare subscriber in the same run.

    .venv/bin/python benchmarks/ingest.py [--quick] [--gateways 200] [--batches 500]

`coldchain collector` runs as a user starts it, on Mosquitto with the configuration of deploy/: once with the embedded
telemetry and a SQLite log, once with InfluxDB 2 and a PostgreSQL log. Beside them a bare paho client takes the same
messages from the same broker and only counts them (QoS 1, acknowledged by the library).

So that the publisher takes no part of two cores, everything is published to the kept session of a subscriber that is
away; what is measured is how it catches up. `appended` is in the log, durable and acknowledged; `stored` is in
telemetry as well, which the same process does at the same time. The goals are ratios to the bare subscriber of the same
run, which say the same on any machine. Beside one collector two take half of the shards each.
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

import field
from installation import Installation, until
from results import Report
from servers import database, postgres, postgres_version, processor_s, version

from collector.counts import Counts
from collector.ingest import Ingest
from config import secrets
from config.settings import Collector
from core.bus.client import BrokerAddress, Bus, Message
from core.intake.open import open_log
from core.intake.port import IntakeLog
from core.intake.sqlite import SqliteIntakeLog
from core.runtime.clock import SystemClock, real_now
from core.runtime.status import StatusFile
from core.telemetry.open import open_telemetry
from core.wire.topics import Shard
from tests.fixtures.broker import Mosquitto
from tests.fixtures.influx import VERSION as INFLUX_VERSION
from tests.fixtures.influx import Influxd

HERE = Path(__file__).resolve().parent


class Drained(NamedTuple):
    """How long a collector took for what waited for it, and what that cost."""

    appended_s: float
    stored_s: float
    processor_s: dict[str, float]
    """By process, until everything was stored."""


class Line(Installation):
    """An installation, and what is published to its collector."""

    def __init__(self, folder: Path, asked: argparse.Namespace, more: str = "", *, broker: int = 0) -> None:
        super().__init__(folder, more, broker=broker)
        self.gateways: int = asked.gateways
        self.batches: int = asked.batches
        self.messages = self.gateways * self.batches
        self._lives = 0

    def publish(self) -> None:
        """Publish everything to whoever has a session, as spools that were never heard."""
        self._lives += 1
        subprocess.run(self.helper("publish", str(self.gateways), str(self.batches), str(self._lives)), check=True)

    def forget(self, client_id: str) -> None:
        """End a subscriber's session: it would take in again what is published for the next one."""
        subprocess.run(self.helper("forget", client_id), check=True)

    def helper(self, what: str, *words: str) -> list[str]:
        file = str(secrets.path_in(self.settings.data_dir))
        return [sys.executable, str(HERE / "field.py"), what, str(self.settings.broker.port), file, *words]


ALONE = ("00-ff",)
HALVES = ("00-7f", "80-ff")


def drain(at: Line, ranges: Sequence[str] = ALONE) -> Drained:
    """Let collectors, each with a range of shards, take in what waits for them."""
    # Names of their own: a session keeps what it was subscribed to.
    names = ["collector"] if len(ranges) == 1 else [f"collector-of-{shards}" for shards in ranges]
    log = open_log(at.settings.intake.url, at.settings.data_dir)
    try:
        with ExitStack() as running:
            _start(at, running, names, ranges)
            for name in names:
                until(partial(_connected, at, name), f"a connected {name}")
        at.publish()
        before = dict(log.heads())
        with ExitStack() as running:
            _start(at, running, names, ranges)
            return _watched(at, log, before, names, ranges)
    finally:
        log.close()
        for name in names:
            at.forget(name)


def _start(at: Line, running: ExitStack, names: Sequence[str], ranges: Sequence[str]) -> None:
    """Start collectors."""
    for name, shards in zip(names, ranges, strict=True):
        given = ("--set", f"collector.client_id={name}", "--set", f"collector.shards={shards}")
        process = running.enter_context(at.service("collector", "--config", str(at.config), *given))
        at.processes[name] = process.pid


def _connected(at: Line, name: str) -> bool:
    said = StatusFile(at.settings.data_dir, "collector", name).read()
    return said is not None and said.pid == at.processes[name] and bool(said.facts.get("connected"))


def _watched(
    at: Line, log: IntakeLog, before: Mapping[Shard, int], names: Sequence[str], ranges: Sequence[str]
) -> Drained:
    """Measure from when each collector has taken in something."""
    expected = sum(before.values()) + at.messages

    def has_begun(shards: str) -> bool:
        first, _, last = shards.partition("-")
        return any(n > before.get(shard, 0) for shard, n in log.heads().items() if first <= shard <= last)

    until(lambda: all(map(has_begun, ranges)), "a first message of each in the log")
    began = time.monotonic()
    first = sum(log.heads().values())
    taking_part = {name: pid for name, pid in at.processes.items() if name in names or "collector" not in name}
    used = {name: processor_s(pid) for name, pid in taking_part.items()}
    until(lambda: sum(log.heads().values()) == expected, f"{expected} messages in the log")
    appended = time.monotonic() - began
    telemetry = open_telemetry(at.settings, read_only=True)
    until(lambda: sum(telemetry.positions().values()) == expected, "all of them in telemetry", look_s=0.1)
    stored = time.monotonic() - began
    costs = {name: processor_s(pid) - used[name] for name, pid in taking_part.items()}
    share = at.messages / max(1, expected - first)
    telemetry.close()
    return Drained(appended * share, stored * share, {name: cost * share for name, cost in costs.items()})


def bare(at: Line) -> tuple[float, float, float]:
    """Return the seconds of a subscriber that only counts, and the processor seconds of it and of the broker."""
    subprocess.run(at.helper("count"), stdin=subprocess.DEVNULL, check=True)
    at.publish()
    before = processor_s(at.processes["mosquitto"])
    done = subprocess.run(at.helper("count"), input="count\n", check=True, capture_output=True, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["heard"] == at.messages, said
    return float(said["s"]), float(said["processor_s"]), processor_s(at.processes["mosquitto"]) - before


def without_broker(asked: argparse.Namespace, report: Report) -> None:
    """Measure what decoding, stamping, de-duplicating and the durable append cost together."""
    now = real_now()
    sent = [
        Message(topic, body, False, 0, 0)
        for topic, body in field.messages(asked.gateways, 10_000 // asked.gateways, now)
    ]
    counts, stop = Counts(), threading.Event()
    gc.freeze()  # as the directory of a collector does
    nowhere = Bus(
        BrokerAddress("127.0.0.1", 1), client_id="b", username="", password="", clean=True, on_message=lambda _: None
    )
    with tempfile.TemporaryDirectory() as folder:
        log = SqliteIntakeLog(Path(folder) / "intake.db")
        ingest = Ingest(log, SystemClock(), counts, group=Collector().group, linger=0.0, grown=lambda: None)
        for message in sent:
            ingest.take(message)
        began = time.perf_counter()
        thread = threading.Thread(target=ingest.run, args=(nowhere, stop))
        thread.start()
        while not ingest.is_idle:
            time.sleep(0.005)
        took = time.perf_counter() - began
        stop.set()
        thread.join()
        assert counts.facts()["appended"] == len(sent)
        log.close()
        size = (Path(folder) / "intake.db").stat().st_size
    readings = len(sent) * field.READINGS
    report.table(
        "Without a broker, into a SQLite log", "", "k readings/s", "µs a message", "bytes a reading in the log"
    )
    report.row("decoded, stamped, appended", readings / took / 1e3, took / len(sent) * 1e6, size / readings)


def main() -> int:
    wanted = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted.add_argument("--gateways", type=int, default=200)
    wanted.add_argument("--batches", type=int, default=500, help="messages of each gateway")
    wanted.add_argument("--only", choices=["embedded", "province"], help="one of the two pairs of stores")
    wanted.add_argument("--quick", action="store_true", help="small, and nothing kept")
    asked = wanted.parse_args()
    if asked.quick:
        asked.gateways, asked.batches = 20, 50
    report = Report("ingest", str(__doc__).partition("\n")[0], quick=asked.quick)
    report.server("Mosquitto", version("mosquitto", "-h"))
    without_broker(asked, report)
    with ExitStack() as opened:
        measure(asked, report, opened)
    report.note(
        "Two cores: Mosquitto (one thread) has one, the subscriber or collector the other; InfluxDB and PostgreSQL"
        " share them. Nobody publishes meanwhile."
    )
    report.keep()
    return 0


def measure(asked: argparse.Namespace, report: Report, opened: ExitStack) -> None:
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
    one = Line(folder / "embedded", asked)
    messages = asked.gateways * asked.batches
    readings = messages * field.READINGS
    (folder / "county.toml").write_text(field.county(asked.gateways), "utf-8")
    mosquitto = opened.enter_context(Mosquitto(one.settings))
    one.processes["mosquitto"] = mosquitto.process.pid
    took, used, broker = bare(one)
    limit = readings / took
    report.table(
        f"{messages:,} messages of {field.READINGS} readings through Mosquitto, QoS 1",
        *("", "k readings/s", "to the bare", "CPU µs a message: itself", "broker", "servers"),
    )
    report.row("bare subscriber", limit / 1e3, 1.0, used / messages * 1e6, broker / messages * 1e6, None)
    installations = {}
    if asked.only != "province":
        installations["embedded + SQLite"] = one
    if asked.only != "embedded":
        installations["InfluxDB + PostgreSQL"] = province(folder, asked, one, opened, report)
    for name, at in installations.items():
        at.command("import", str(folder / "county.toml"))
        for collectors, ranges in (("one collector", ALONE), ("two collectors", HALVES)):
            found = drain(at, ranges)
            cost = {process: seconds / messages * 1e6 for process, seconds in found.processor_s.items()}
            own = sum(each for process, each in cost.items() if process.startswith("collector"))
            servers = sum(cost.values()) - own - cost["mosquitto"]
            rate, appended = readings / found.stored_s, readings / found.appended_s
            what = f"{name}, {collectors}"
            report.row(f"{what}: appended", appended / 1e3, appended / limit, None, None, None)
            report.row(f"{what}: stored", rate / 1e3, rate / limit, own, cost["mosquitto"], servers)
            if ranges == ALONE:
                report.goal(f"{what}, stored, to the bare subscriber", rate / limit, at_least=0.7)
                report.goal(f"{what}, stored, to the bare subscriber, in the end", rate / limit, at_least=0.8)


def province(folder: Path, asked: argparse.Namespace, one: Line, opened: ExitStack, report: Report) -> Line:
    """Start the servers of a province; its Mosquitto is the one that runs, with the same passwords."""
    server = opened.enter_context(postgres())
    report.server("PostgreSQL", postgres_version())
    (folder / "influxd").mkdir()
    influxd = Influxd(folder / "influxd").start()
    opened.callback(influxd.kill)
    report.server("InfluxDB", INFLUX_VERSION)
    made = Line(
        folder / "province",
        asked,
        f'[records]\nurl = "{database(server, "records")}"\n[intake]\nurl = "{database(server, "intake")}"\n'
        f'[telemetry]\nstore = "influxdb"\nurl = "{influxd.url}"\n',
        broker=one.settings.broker.port,
    )
    secrets.write(made.settings.data_dir, secrets.read(one.settings.data_dir))
    made.command("telemetry", "init")
    made.processes |= {"mosquitto": one.processes["mosquitto"], "postgres": server.pid, "influxd": influxd.pid}
    return made


if __name__ == "__main__":
    sys.exit(main())
