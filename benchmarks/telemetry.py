"""How fast and small the telemetry stores are, beside a plain SQLite table keyed (probe, ts) in the same run.

    .venv/bin/python benchmarks/telemetry.py [--probes 1000] [--hours 6] [--batch 5000]

The embedded store always; InfluxDB 2 too where INFLUXD_BIN names one (`.ci/influxd/build`), started on loopback.

Absolute numbers are those of a machine and an hour; the ratios (embedded to SQLite) are what to compare. All commit
durably (WAL, synchronous=FULL), get the same readings in the same batches (by time, as they come from the field), and
answer the same questions, the best of five. A reading comes about once a minute, off by up to 40 ms, in tenths of a
degree; one in 500 failed.
"""

import argparse
import gc
import os
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.ids import Centi, SeriesId
from core.runtime.instant import DAY, HOUR, MINUTE, Instant
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.influx import InfluxTelemetry
from core.telemetry.port import Sample

START = Instant(1_767_196_800_000)
PLAIN = """CREATE TABLE reading (probe INTEGER NOT NULL, ts INTEGER NOT NULL, value INTEGER, quality INTEGER NOT NULL,
PRIMARY KEY (probe, ts)) WITHOUT ROWID"""


def field(probes: int, minutes: int) -> Iterator[Sample]:
    """Yield readings in the order in which they happen."""
    chance = random.Random(1)
    shown = [400 + 10 * (n % 20) for n in range(probes)]
    for minute in range(minutes):
        for probe in range(probes):
            shown[probe] += chance.choice((-10, 0, 0, 0, 10))
            failed = chance.random() < 0.002
            at = Instant(START + minute * MINUTE + probe * 60_000 // probes + chance.randrange(40))
            yield Sample(SeriesId(probe), at, None if failed else Centi(shown[probe]), 4 if failed else 0)


def batches(samples: list[Sample], size: int) -> list[list[Sample]]:
    return [samples[first : first + size] for first in range(0, len(samples), size)]


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def each_of(parts: list[list[Sample]], write: Callable[[list[Sample]], None]) -> None:
    for part in parts:
        write(part)


def best(work: Callable[[], object]) -> float:
    return min(seconds(work) for _ in range(5))


class Plain:
    """What most systems do: a row a reading."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "plain.db"
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute(PLAIN)

    def write(self, samples: list[Sample]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        rows = [(each.series, each.at, each.value, each.q) for each in samples]
        self.db.executemany("INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?)", rows)
        self.db.execute("COMMIT")

    def range(self, probe: int, since: int, until: int) -> list[tuple[int, int | None, int]]:
        query = "SELECT ts, value, quality FROM reading WHERE probe = ? AND ts >= ? AND ts < ? ORDER BY ts"
        return self.db.execute(query, (probe, since, until)).fetchall()

    def size(self) -> int:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.path.stat().st_size


class Influx:
    """A server of our own, which writes its cache to files a second after the last write."""

    def __init__(self, folder: Path) -> None:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from tests.fixtures.influx import Influxd, operator_of  # noqa: PLC0415

        (folder / "influxd").mkdir()
        cold = ("--storage-cache-snapshot-write-cold-duration", "1s")
        self.server = Influxd(folder / "influxd", *cold).start()
        self.store = InfluxTelemetry(self.server.settings("unused"), operator_of(self.server))

    def size(self) -> int:
        """Return the bytes of its blocks once none is left in its log alone; empty, it takes 32 MiB already."""
        ends = time.monotonic() + 60
        engine = self.server.folder / "engine"
        while sum(file.stat().st_size for file in (engine / "wal").rglob("*.wal")) and time.monotonic() < ends:
            time.sleep(0.2)
        return sum(file.stat().st_size for file in (engine / "data").rglob("*.tsm"))

    def close(self) -> None:
        self.store.close()
        self.server.kill()


@contextmanager
def influxdb(folder: Path) -> Iterator[Influx | None]:
    """Yield an InfluxDB where there is one to be had."""
    if "INFLUXD_BIN" not in os.environ:
        yield None
        return
    running = Influx(folder)
    try:
        yield running
    finally:
        running.close()


def told(
    what: str, ours: float, plain: float, unit: str, *, influx: float | None = None, more_is_better: bool = False
) -> None:
    ratio = ours / plain if more_is_better else plain / ours
    third = "" if influx is None else f"{influx:,.2f}"
    print(f"{what:<42}{ours:>14,.2f}{plain:>14,.2f}{third:>14}  {unit:<12}{ratio:>8.1f} ×")


def size_of_blocks(folder: Path) -> int:
    """Return the bytes of sealed hours with their keys, once the file is packed."""
    with sqlite3.connect(folder / "hot.db") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    packed = folder / "packed.db"
    with sqlite3.connect(folder / "hot.db", isolation_level=None) as db:
        db.execute("VACUUM INTO ?", (str(packed),))
    return packed.stat().st_size


def write_and_size(folder: Path, influx: Influx | None, probes: int, minutes: int, batch: int) -> None:
    samples = list(field(probes, minutes))
    count = len(samples)
    print(f"\n{count:,} readings of {probes:,} probes, {batch:,} a commit")
    store, plain = EmbeddedTelemetry(folder), Plain(folder)
    parts = batches(samples, batch)
    ours = seconds(lambda: each_of(parts, lambda part: store.write_batch(part, {})))
    theirs = seconds(lambda: each_of(parts, plain.write))
    served = seconds(lambda: each_of(parts, lambda part: influx.store.write_batch(part, {}))) if influx else None
    third = count / served / 1e3 if served else None
    told("in", count / ours / 1e3, count / theirs / 1e3, "k readings/s", influx=third, more_is_better=True)
    sealing = seconds(lambda: store.seal(Instant(START + minutes * MINUTE + DAY)))
    told("in and sealed", count / (ours + sealing) / 1e3, count / theirs / 1e3, "k readings/s", more_is_better=True)
    third = influx.size() / count if influx else None
    told("kept, hours sealed", size_of_blocks(folder) / count, plain.size() / count, "bytes/reading", influx=third)
    series = [SeriesId(n) for n in range(min(probes, 200))]
    told(
        f"latest of {len(series)}",
        best(lambda: store.latest(series)) * 1e3,
        best(lambda: latest(plain, series)) * 1e3,
        "ms",
        influx=best(lambda: influx.store.latest(series)) * 1e3 if influx else None,
    )
    store.close()


def latest(plain: Plain, series: list[SeriesId]) -> list[object]:
    query = "SELECT * FROM reading WHERE probe = ? ORDER BY ts DESC LIMIT 1"
    return [plain.db.execute(query, (each,)).fetchone() for each in series]


def read_back(folder: Path, influx: Influx | None) -> None:
    print("\n8 probes, 30 days, hours sealed")
    store, plain = EmbeddedTelemetry(folder), Plain(folder)
    for part in batches(list(field(8, 30 * 1440)), 20_000):
        store.write_batch(part, {})
        plain.write(part)
        if influx:
            influx.store.write_batch(part, {})
    store.seal(Instant(START + 31 * DAY))
    if influx:
        influx.size()
        assert len(influx.store.range(SeriesId(3), START, Instant(START + 30 * DAY))) == 30 * 1440
    month = START, Instant(START + 30 * DAY)
    day = Instant(START + 12 * DAY), Instant(START + 13 * DAY)
    eight = [SeriesId(n) for n in range(8)]
    assert len(store.range(eight[3], *month)) == len(plain.range(3, *month)) == 30 * 1440
    told(
        "30 days of a probe",
        best(lambda: store.range(eight[3], *month)) * 1e3,
        best(lambda: plain.range(3, *month)) * 1e3,
        "ms",
        influx=best(lambda: influx.store.range(eight[3], *month)) * 1e3 if influx else None,
    )
    told(
        "8 probes × 24 h",
        best(lambda: store.multi_range(eight, *day)) * 1e3,
        best(lambda: [plain.range(each, *day) for each in eight]) * 1e3,
        "ms",
        influx=best(lambda: influx.store.multi_range(eight, *day)) * 1e3 if influx else None,
    )
    last_hour = [Sample(SeriesId(n % 8), Instant(month[1] + n * 1_000), Centi(n), 0) for n in range(3_600)]
    for part in batches(last_hour, 8):
        store.write_batch(part, {})
        plain.write(part)
    open_hour = month[1], Instant(month[1] + HOUR)
    once = seconds(lambda: store.multi_range(eight, *open_hour))
    again = best(lambda: store.multi_range(eight, *open_hour))
    theirs = best(lambda: [plain.range(each, *open_hour) for each in eight])
    told("an unsealed hour of 450 writes, first look", once * 1e3, theirs * 1e3, "ms")
    told("an unsealed hour, next looks", again * 1e3, theirs * 1e3, "ms")
    store.close()


def main() -> None:
    wanted = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted.add_argument("--probes", type=int, default=1_000)
    wanted.add_argument("--hours", type=int, default=6)
    wanted.add_argument("--batch", type=int, default=5_000)
    asked = wanted.parse_args()
    print(f"{'':<42}{'embedded':>14}{'plain SQLite':>14}{'InfluxDB' if 'INFLUXD_BIN' in os.environ else '':>14}")
    for batch in (asked.batch // 10, asked.batch):
        with tempfile.TemporaryDirectory() as folder, influxdb(Path(folder)) as influx:
            write_and_size(Path(folder), influx, asked.probes, asked.hours * 60, batch)
    with tempfile.TemporaryDirectory() as folder, influxdb(Path(folder)) as influx:
        read_back(Path(folder), influx)


if __name__ == "__main__":
    main()
