"""Every benchmark still runs, small and to its end. What it finds is never held against anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.broker import mosquitto_binary
from tests.fixtures.influx import binary

pytestmark = pytest.mark.long

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    "words",
    [
        ("ingest.py", "--only", "embedded"),
        ("ingest.py", "--only", "province"),
        ("alarms.py", "--only", "sqlite"),
        ("alarms.py", "--only", "postgresql", "--part", "storm"),
        ("telemetry.py", "--batch", "20000"),
        ("imports.py", "--only", "sqlite"),
        ("imports.py", "--only", "postgresql"),
    ],
    ids=" ".join,
)
def test_a_benchmark_comes_to_its_end(words: tuple[str, ...]) -> None:
    mosquitto_binary()
    if "province" in words:
        binary()
    kept = sorted((BENCHMARKS / "results").glob("*"))
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / words[0]), *words[1:], "--quick"],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goal met" in done.stdout or "goal MISSED" in done.stdout
    assert sorted((BENCHMARKS / "results").glob("*")) == kept, "a quick run keeps nothing"
