"""Benchmark of the import of a province: its time, its growth with the file, and its memory.

`python benchmarks/imports.py` imports a quarter, a half and the whole of 3 000 units with 20 000 zones into fresh
records, each twice: the second time changes nothing. Its ratios hold anywhere; seconds need a quiet machine.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import province
from results import Report
from servers import database, postgres, postgres_version

from coldchain.importing import import_file
from config import secrets
from core.db.engine import Records, connect, url_for
from core.migrations.migrate import upgrade
from core.runtime.clock import SystemClock
from core.units.actor import OPERATOR

QUESTION = "How long an import of a province takes, and whether it grows with the file or faster."
UNITS, QUICK_UNITS = 3_000, 120
WITHIN_S = 30.0
"""Goal for 3 000 units with 20 000 zones, on a quiet machine."""
RATIO = 1.3
"""Goal for the CPU time of a row in the whole file, relative to that in a quarter of it."""


def one(units: int, folder: Path, url: str) -> None:
    """Import a province twice in this process; print rows, seconds and CPU seconds of both imports, and peak memory."""
    file = folder / "province.csv"
    rows = province.write(file, units)
    secrets.write(str(folder), secrets.fresh("coldchain"))
    records = Records(connect(url or url_for("", str(folder))))
    upgrade(records.engine)
    figures = []
    for _ in range(2):
        started, cpu_started = time.perf_counter(), time.process_time()
        report = import_file(records, str(folder), file, actor=OPERATOR, now=SystemClock().now())
        figures += [time.perf_counter() - started, time.process_time() - cpu_started]
        assert not report.mistakes, report.lines()[:5]
    records.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(rows, *(f"{seconds:.3f}" for seconds in figures), f"{peak:.0f}")


def measured(units: int, url: str) -> list[float]:
    """Run `one` in a new process and return its figures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", str(units), "--folder", folder, "--url", url]
        process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in process.stdout.split()]


def part(report: Report, name: str, url_of: Callable[[], str], units: int) -> None:
    """Measure the import of a quarter, a half and the whole of a province into one database."""
    report.table(f"Into {name}", "units", "rows", "first, s", "CPU, s", "again, s", "CPU ms a row", "peak MiB")
    per_row = []
    for size in (units // 4, units // 2, units):
        rows, first_s, cpu_s, again_s, _, peak = measured(size, url_of())
        per_row.append(1000 * cpu_s / rows)
        report.row(str(size), rows, first_s, cpu_s, again_s, per_row[-1], peak)
    report.goal(f"{name}: CPU a row, whole to quarter", per_row[-1] / per_row[0], at_most=RATIO)
    report.goal(f"{name}: seconds of the whole", first_s, at_most=WITHIN_S)


def main() -> None:
    """Run the benchmark on both databases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers; nothing is kept")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one database; nothing is kept")
    for internal in ("--one", "--folder", "--url"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        one(int(arguments.one), Path(arguments.folder), arguments.url)
        return
    report = Report("imports", QUESTION, quick=arguments.quick)
    units = QUICK_UNITS if arguments.quick else UNITS
    if arguments.only != "postgresql":
        part(report, "SQLite", lambda: "", units)
    if arguments.only != "sqlite":
        with postgres() as server:
            report.server("PostgreSQL", postgres_version())
            names = count(1)
            part(report, "PostgreSQL", lambda: database(server, f"province_{next(names)}"), units)
    if not arguments.only:
        report.keep()


if __name__ == "__main__":
    main()
