"""Import of a province: how long it takes, that it grows with the file and no faster, and what memory it needs.

`python benchmarks/imports.py` imports a quarter, a half and the whole of 3 000 units with 20 000 zones into fresh
records, and the whole once more, which changes nothing. Absolute times need a quiet machine; the ratios hold anywhere.
`--url URL` imports into PostgreSQL instead; each size needs an empty database, so give one size with `--one`.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import province

from coldchain.importing import import_file
from config import secrets
from core.db.engine import Records, connect, url_for
from core.db.migrate import upgrade
from core.runtime.clock import SystemClock
from core.units.actor import OPERATOR

UNITS = 3_000
WITHIN_S = 30.0
"""For 3 000 units with 20 000 zones, on a quiet machine."""
RATIO = 1.3
"""Of the CPU time a row takes in the whole file to that in a quarter of it, at most."""


def one(units: int, url: str, folder: Path) -> None:
    """Import a province here and print its rows, seconds and CPU seconds of both imports, and the peak of memory."""
    file = folder / "province.csv"
    count = province.write(file, units)
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
    print(count, *(f"{seconds:.3f}" for seconds in took), f"{peak:.0f}")


def measured(units: int, url: str) -> list[float]:
    """Return the same of a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--one", str(units), "--folder", folder, *(["--url", url] if url else [])]
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


def main() -> int:
    """Print the table; the exit code says whether growth is linear."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=int)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--url", default="")
    parser.add_argument("--units", type=int, default=UNITS)
    asked = parser.parse_args()
    if asked.one:
        one(asked.one, asked.url, asked.folder)
        return 0
    print("| units | rows | first s | of it CPU | again s | of it CPU | first CPU ms a row | peak MiB |")
    print("|---|---|---|---|---|---|---|---|")
    per_row = []
    for units in (asked.units // 4, asked.units // 2, asked.units):
        rows, first, worked, again, again_worked, peak = measured(units, asked.url)
        per_row.append(1000 * worked / rows)
        seconds = f"{first:.1f} | {worked:.1f} | {again:.1f} | {again_worked:.1f}"
        print(f"| {units} | {rows:.0f} | {seconds} | {per_row[-1]:.2f} | {peak:.0f} |", flush=True)
    ratio = per_row[-1] / per_row[0]
    print(f"\nCPU a row, whole to quarter: {ratio:.2f} (at most {RATIO})")
    print(f"whole: {first:.1f} s, of which {worked:.1f} s of CPU (on a quiet machine: {WITHIN_S:.0f} s)")
    return 0 if ratio <= RATIO else 1


if __name__ == "__main__":
    sys.exit(main())
