"""Benchmark of the telemetry stores, in speed and size, beside a plain SQLite table keyed (probe, ts).

    .venv/bin/python benchmarks/telemetry.py [--quick] [--probes 1000] [--days 2] [--batch 5000]

The embedded store is always measured; InfluxDB 2 too if INFLUXD_BIN names one (`.ci/influxd/build`), on loopback.

Compare the ratios (embedded to SQLite): absolute numbers depend on the machine and the hour. All stores commit durably
(WAL, synchronous=FULL), get the same readings in the same batches (by time, as they come from the field), and answer
the same queries, the best of five. Each probe has a reading about once a minute, off by up to 40 ms, in tenths of a
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
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from msgspec.structs import replace
from results import Report
from sqlalchemy import insert

from core.db.engine import Records, connect
from core.devices.tables import Probe, Series
from core.figures import daily_figures, daily_repository
from core.figures.daily_figures import DayPart
from core.figures.daily_repository import DueSeriesDay
from core.figures.tables import DueDay
from core.ids import Centi, SeriesId, UnitId, ZoneId
from core.limits.placements import FOREVER, Placement
from core.migrations.migrate import upgrade
from core.runtime.instant import DAY, HOUR, MINUTE, Instant
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.influx import InfluxTelemetry
from core.telemetry.port import StoredReading
from tests.fixtures.influx import VERSION as INFLUX_VERSION
from tests.fixtures.influx import Influxd, operator_of

START = Instant(1_767_225_600_000)
"""2026-01-01T00:00Z, since sealed days are days in UTC."""
PLAIN = """CREATE TABLE reading (probe INTEGER NOT NULL, ts INTEGER NOT NULL, value INTEGER, quality INTEGER NOT NULL,
PRIMARY KEY (probe, ts)) WITHOUT ROWID"""


def field(probes: int, minutes: int) -> Iterator[StoredReading]:
    """Yield the readings of all probes in order of time."""
    chance = random.Random(1)
    shown = [400 + 10 * (n % 20) for n in range(probes)]
    for minute in range(minutes):
        for probe in range(probes):
            shown[probe] += chance.choice((-10, 0, 0, 0, 10))
            failed = chance.random() < 0.002
            at = Instant(START + minute * MINUTE + probe * 60_000 // probes + chance.randrange(40))
            yield StoredReading(SeriesId(probe), at, None if failed else Centi(shown[probe]), 4 if failed else 0)


def batches(samples: list[StoredReading], size: int) -> list[list[StoredReading]]:
    return [samples[first : first + size] for first in range(0, len(samples), size)]


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def each_of(parts: list[list[StoredReading]], write: Callable[[list[StoredReading]], None]) -> None:
    for part in parts:
        write(part)


def best(work: Callable[[], object]) -> float:
    return min(seconds(work) for _ in range(5))


class Plain:
    """Plain SQLite table with a row for each reading, as most systems have it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "plain.db"
        self.db = sqlite3.connect(self.path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute(PLAIN)

    def write(self, samples: list[StoredReading]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        rows = [(sample.series, sample.at, sample.value, sample.q) for sample in samples]
        self.db.executemany("INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?)", rows)
        self.db.execute("COMMIT")

    def range(self, probe: int, since: int, until: int) -> list[tuple[int, int | None, int]]:
        query = "SELECT ts, value, quality FROM reading WHERE probe = ? AND ts >= ? AND ts < ? ORDER BY ts"
        return self.db.execute(query, (probe, since, until)).fetchall()

    def size(self) -> int:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.path.stat().st_size


class Influx:
    """InfluxDB server of the benchmark, which writes its cache to files one second after the last write."""

    def __init__(self, folder: Path) -> None:
        (folder / "influxd").mkdir()
        cold = ("--storage-cache-snapshot-write-cold-duration", "1s")
        self.server = Influxd(folder / "influxd", *cold).start()
        self.store = InfluxTelemetry(self.server.settings("unused"), operator_of(self.server))

    def size(self) -> int:
        """Return the bytes of its blocks, once its write-ahead log is empty; an empty store takes 32 MiB already."""
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
    """Yield an InfluxDB, or None if INFLUXD_BIN is not set."""
    if "INFLUXD_BIN" not in os.environ:
        yield None
        return
    running = Influx(folder)
    try:
        yield running
    finally:
        running.close()


class Bench:
    """One run: the stores side by side, one measurement in each row."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        question = (
            "How fast and small is the embedded store, beside a plain SQLite table keyed (probe, ts) and InfluxDB 2?"
        )
        self.report = Report("telemetry", question, quick=arguments.quick)
        if "INFLUXD_BIN" in os.environ:
            self.report.server("InfluxDB", INFLUX_VERSION)
        self.days = 2 if arguments.quick else 30
        self.probes: int = 20 if arguments.quick else arguments.probes
        self.days_in: int = 1 if arguments.quick else arguments.days
        self.many = 100 if arguments.quick else 2_000
        self.batch: int = arguments.batch

    def table(self, title: str) -> None:
        self.report.table(title, "", "embedded", "plain SQLite", "InfluxDB", "unit", "to SQLite")

    def row(
        self,
        what: str,
        embedded: float,
        plain: float | None,
        unit: str,
        *,
        influx: float | None = None,
        more: bool = False,
    ) -> None:
        ratio = None if plain is None else f"{embedded / plain if more else plain / embedded:.1f} ×"
        self.report.row(what, embedded, plain, influx, unit, ratio)

    def write_and_size(self, folder: Path, influx: Influx | None, batch: int, *, is_goal: bool) -> None:
        minutes = self.days_in * 1440
        samples = list(field(self.probes, minutes))
        count = len(samples)
        self.table(f"{count:,} readings of {self.probes:,} probes, {batch:,} a commit")
        store, plain = EmbeddedTelemetry(folder), Plain(folder)
        parts = batches(samples, batch)
        del samples
        our_s = seconds(lambda: each_of(parts, lambda part: store.write_batch(part, {})))
        plain_s = seconds(lambda: each_of(parts, plain.write))
        influx_s = seconds(lambda: each_of(parts, lambda part: influx.store.write_batch(part, {}))) if influx else None
        influx_figure = count / influx_s / 1e3 if influx_s else None
        self.row("in", count / our_s / 1e3, count / plain_s / 1e3, "k readings/s", influx=influx_figure, more=True)
        end = Instant(START + minutes * MINUTE + DAY)
        sealing = seconds(lambda: store.seal(end))
        both = count / (our_s + sealing) / 1e3
        self.row("in, and sealed into days", both, count / plain_s / 1e3, "k readings/s", more=True)
        size = size_of(folder) / count
        influx_figure = influx.size() / count if influx else None
        self.row("kept, days sealed", size, plain.size() / count, "bytes/reading", influx=influx_figure)
        series = [SeriesId(n) for n in range(min(self.probes, 200))]
        self.row(
            f"latest of {len(series)}",
            best(lambda: store.latest(series)) * 1e3,
            best(lambda: latest(plain, series)) * 1e3,
            "ms",
            influx=best(lambda: influx.store.latest(series)) * 1e3 if influx else None,
        )
        if is_goal:
            self.report.goal("readings in", count / our_s / 1e6, at_least=1.0, unit="M/s")
            self.report.goal("bytes a reading, sealed", size, at_most=1.0)
        store.close()

    def read_back(self, folder: Path, influx: Influx | None) -> float:
        """Measure reads of curves; return the seconds of plain SQLite for the daily figures of eight probes."""
        days = self.days
        self.table(f"8 probes, {days} days, sealed")
        store, plain = EmbeddedTelemetry(folder), Plain(folder)
        for part in batches(list(field(8, days * 1440)), 20_000):
            store.write_batch(part, {})
            plain.write(part)
            if influx:
                influx.store.write_batch(part, {})
        store.seal(Instant(START + (days + 1) * DAY))
        if influx:
            influx.size()
            assert len(influx.store.range(SeriesId(3), START, Instant(START + days * DAY))) == days * 1440
        month = START, Instant(START + days * DAY)
        middle = days // 2
        day = Instant(START + middle * DAY), Instant(START + (middle + 1) * DAY)
        eight = [SeriesId(n) for n in range(8)]
        assert len(store.range(eight[3], *month)) == len(plain.range(3, *month)) == days * 1440
        range_ms = best(lambda: store.range(eight[3], *month)) * 1e3
        self.row(
            f"{days} days of a probe",
            range_ms,
            best(lambda: plain.range(3, *month)) * 1e3,
            "ms",
            influx=best(lambda: influx.store.range(eight[3], *month)) * 1e3 if influx else None,
        )
        day_ms = best(lambda: store.multi_range(eight, *day)) * 1e3
        self.row(
            "8 probes × 24 h",
            day_ms,
            best(lambda: [plain.range(series_id, *day) for series_id in eight]) * 1e3,
            "ms",
            influx=best(lambda: influx.store.multi_range(eight, *day)) * 1e3 if influx else None,
        )
        last_hour = [StoredReading(SeriesId(n % 8), Instant(month[1] + n * 1_000), Centi(n), 0) for n in range(3_600)]
        for part in batches(last_hour, 8):
            store.write_batch(part, {})
            plain.write(part)
        open_hour = month[1], Instant(month[1] + HOUR)
        first_s = seconds(lambda: store.multi_range(eight, *open_hour))
        next_s = best(lambda: store.multi_range(eight, *open_hour))
        plain_s = best(lambda: [plain.range(series_id, *open_hour) for series_id in eight])
        self.row("an unsealed hour of 450 writes, first look", first_s * 1e3, plain_s * 1e3, "ms")
        self.row("an unsealed hour, next looks", next_s * 1e3, plain_s * 1e3, "ms")
        self.report.goal("30 days of a probe", range_ms, at_most=15.0, unit="ms")
        self.report.goal("8 probes × 24 h", day_ms, at_most=3.0, unit="ms")
        query = (
            "SELECT probe, count(value), min(value), max(value), sum(value), sum(value > 800), sum(value < 200)"
            " FROM reading WHERE probe < 8 AND ts >= ? AND ts < ? GROUP BY probe"
        )
        figures = best(lambda: plain.db.execute(query, month).fetchall())
        store.close()
        return figures

    def month_of_many(self, folder: Path, plain_of_eight: float) -> None:
        """Measure the computation of daily figures, and the query of a month of them."""
        self.table(f"Daily figures of {self.many:,} probes")
        records = Records(connect(f"sqlite:///{folder / 'records.db'}"))
        upgrade(records.engine)
        with records.write() as tx:
            tx.add(Probe(id=1, namespace="cc", code="1"))
            tx.flush()
            rows = [{"id": n + 1, "probe_id": 1, "quantity": f"q{n}"} for n in range(self.many)]
            tx.execute(insert(Series), rows)
        stay = Placement(
            START, FOREVER, START, ZoneId(1), UnitId(1), "Asia/Shanghai", 0, Centi(200), Centi(800), MINUTE
        )
        first = date(2026, 1, 2)
        (day_part,) = daily_figures.parts([stay], first)
        samples = list(field(50, 2 * 1440))
        store = EmbeddedTelemetry(folder / "many")
        store.write_batch(samples, {})
        curves = store.multi_range([SeriesId(n) for n in range(50)], *daily_figures.reach([day_part]))
        store.close()
        figures_s = (
            best(lambda: [daily_figures.figures(each, first, [day_part], curve) for each, curve in curves.items()]) / 50
        )
        self.row("figures of a probe's day from its curve", figures_s * 1e3, None, "ms")
        parts = [daily_figures.figures(each, first, [day_part], curve)[0] for each, curve in curves.items()]
        days = [first + timedelta(days=n) for n in range(30)]
        seconds_kept = 0.0
        for day in days:
            for low in range(0, self.many, 100):
                numbers = [SeriesId(n + 1) for n in range(low, min(low + 100, self.many))]
                asked = [(DueSeriesDay(day, n, 1), [replace(parts[n % 50], series_id=n, day=day)]) for n in numbers]
                with records.write() as tx:
                    tx.execute(insert(DueDay), [{"day": day, "series_id": n, "stamp": 1} for n in numbers])
                seconds_kept += seconds(lambda asked=asked, day=day: self.keep(records, day, asked))
        self.row("kept in the records, of a probe's day", seconds_kept / 30 / self.many * 1e3, None, "ms")
        everyone = [SeriesId(n + 1) for n in range(self.many)]

        def asked_for() -> None:
            with records.read() as tx:
                found = daily_repository.totals(tx, everyone, days[0], days[-1])
            assert len(found) == self.many
            assert found[0].days == 30

        def every_row() -> None:
            with records.read() as tx:
                assert len(daily_repository.rows_of(tx, everyone, days[0], days[-1])) == self.many * 30

        month = best(asked_for) * 1e3
        scaled = plain_of_eight * 30 / self.days * self.many / 8 * 1e3
        self.row(f"a month of {self.many:,} probes, totals", month, scaled, "ms")
        self.row(f"a month of {self.many:,} probes, every day", best(every_row) * 1e3, None, "ms")
        self.report.note(
            "Daily figures are the same on every store (docs/adr/0005). Plain SQLite's time for the month is that for"
            " 8 probes, from their readings, times the number of probes."
        )
        self.report.goal(f"a month of {self.many:,} probes", month, at_most=60.0, unit="ms")
        records.close()

    @staticmethod
    def keep(records: Records, day: date, figures: list[tuple[DueSeriesDay, list[DayPart]]]) -> None:
        with records.write() as tx:
            daily_repository.keep(tx, day, figures)


def size_of(folder: Path) -> int:
    """Return the bytes of the month files and of a vacuumed copy of hot.db."""
    packed = folder / "packed"
    with closing(sqlite3.connect(folder / "hot.db", isolation_level=None)) as db:
        db.execute("VACUUM INTO ?", (str(packed),))
    return packed.stat().st_size + sum(file.stat().st_size for file in folder.glob("[0-9]*.db*"))


def latest(plain: Plain, series: list[SeriesId]) -> list[object]:
    query = "SELECT * FROM reading WHERE probe = ? ORDER BY ts DESC LIMIT 1"
    return [plain.db.execute(query, (series_id,)).fetchone() for series_id in series]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs; keeps nothing")
    parser.add_argument("--probes", type=int, default=1_000)
    parser.add_argument("--days", type=int, default=2)
    parser.add_argument("--batch", type=int, default=5_000)
    arguments = parser.parse_args()
    bench = Bench(arguments)
    for batch in (bench.batch // 10, bench.batch):
        with tempfile.TemporaryDirectory() as folder, influxdb(Path(folder)) as influx:
            bench.write_and_size(Path(folder), influx, batch, is_goal=batch == bench.batch)
    with tempfile.TemporaryDirectory() as folder, influxdb(Path(folder)) as influx:
        plain_of_eight = bench.read_back(Path(folder), influx)
    with tempfile.TemporaryDirectory() as folder:
        bench.month_of_many(Path(folder), plain_of_eight)
    bench.report.keep()
    return 1 if bench.report.missed and not arguments.quick else 0


if __name__ == "__main__":
    sys.exit(main())
