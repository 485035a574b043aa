"""Import of a province: how long it takes, that it grows with the file and no faster, and what memory it needs.

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
from core.db.migrate import upgrade
from core.runtime.clock import SystemClock
from core.units.actor import OPERATOR

QUESTION = "How long an import of a province takes, and whether it grows with the file or faster."
UNITS, QUICK_UNITS = 3_000, 120
WITHIN_S = 30.0
"""For 3 000 units with 20 000 zones, on a quiet machine."""
RATIO = 1.3
"""Of the CPU time a row takes in the whole file to that in a quarter of it, at most."""


def one(units: int, folder: Path, url: str) -> None:
    """Import a province here and print its rows, seconds and CPU seconds of both imports, and the peak of memory."""
    file = folder / "province.csv"
    rows = province.write(file, units)
    secrets.write(str(folder), secrets.fresh("coldchain"))
    records = Records(connect(url or url_for("", str(folder))))
    upgrade(records.engine)
    took = []
    for _ in range(2):
        began, worked = time.perf_counter(), time.process_time()
        report = import_file(records, str(folder), file, actor=OPERATOR, now=SystemClock().now())
        took += [time.perf_counter() - began, time.process_time() - worked]
        assert not report.mistakes, report.lines()[:5]
    records.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(rows, *(f"{seconds:.3f}" for seconds in took), f"{peak:.0f}")


def measured(units: int, url: str) -> list[float]:
    """Return the same of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--one", str(units), "--folder", folder, "--url", url]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


def part(report: Report, name: str, url_of: Callable[[], str], units: int) -> None:
    """Import into one database, a quarter, a half and the whole."""
    report.table(f"Into {name}", "units", "rows", "first, s", "CPU, s", "again, s", "CPU ms a row", "peak MiB")
    per_row = []
    for size in (units // 4, units // 2, units):
        rows, first, worked, again, _, peak = measured(size, url_of())
        per_row.append(1000 * worked / rows)
        report.row(str(size), rows, first, worked, again, per_row[-1], peak)
    report.goal(f"{name}: CPU a row, whole to quarter", per_row[-1] / per_row[0], at_most=RATIO)
    report.goal(f"{name}: seconds of the whole", first, at_most=WITHIN_S)


def main() -> None:
    """Measure on both databases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small numbers; nothing is kept")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one database; nothing is kept")
    for own in ("--one", "--folder", "--url"):
        parser.add_argument(own, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one(int(asked.one), Path(asked.folder), asked.url)
        return
    report = Report("imports", QUESTION, quick=asked.quick)
    units = QUICK_UNITS if asked.quick else UNITS
    if asked.only != "postgresql":
        part(report, "SQLite", lambda: "", units)
    if asked.only != "sqlite":
        with postgres() as server:
            report.server("PostgreSQL", postgres_version())
            names = count(1)
            part(report, "PostgreSQL", lambda: database(server, f"province_{next(names)}"), units)
    if not asked.only:
        report.keep()


if __name__ == "__main__":
    main()
