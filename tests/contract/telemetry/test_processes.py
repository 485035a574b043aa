"""Contract of a telemetry store: processes that write, read, seal and are killed at the same time."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from core.ids import SeriesId
from core.telemetry.port import Curve, Telemetry
from core.wire.shards import Shard
from tests.fixtures.telemetry_adapters import EVER, SERIES, numbered, open_adapter

ROOT = Path(__file__).parents[3]


def child(*words: object) -> "subprocess.Popen[str]":
    script = ROOT / "tests" / "fixtures" / "telemetry_adapters.py"
    command = [sys.executable, str(script), *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def settled(store: Telemetry) -> dict[SeriesId, Curve]:
    """Return the curves once none is ahead: a server may be at the killed writer's last batch still."""
    ends = time.monotonic() + 10
    while True:
        curves = store.multi_range(SERIES, *EVER)
        if store.capabilities.whole_batches or len({len(curve) for curve in curves.values()}) == 1:
            return curves
        assert time.monotonic() < ends, "a batch was left in part"


def test_whatever_is_killed_nothing_that_returned_is_lost_and_the_cursor_tells_the_truth(
    adapter: str, tmp_path: Path
) -> None:
    chance = random.Random(17)
    told = 0
    for _ in range(5):
        with child("write", adapter, tmp_path, "00", "1,2,3", 100_000) as writer:
            assert writer.stdout
            for _ in range(chance.randrange(5, 60)):
                told = int(writer.stdout.readline())
            writer.kill()
            for line in writer.stdout:
                told = int(line)
        store = open_adapter(adapter, tmp_path)
        curves = settled(store)
        count = len(curves[SERIES[0]])
        assert count >= told
        behind = count - store.positions().get(Shard("00"), 0)
        assert behind == 0 if store.capabilities.whole_batches else 0 <= behind <= 1
        for n in range(count):
            for expected in numbered(n):
                curve = curves[expected.series]
                assert (curve.at[n], curve.value[n], curve.q[n]) == (expected.at, expected.value, expected.q)
        store.close()


def test_a_reader_in_another_process_misses_nothing_up_to_what_it_sees(adapter: str, tmp_path: Path) -> None:
    with (
        child("watch", adapter, tmp_path, 400) as reader,
        child("write", adapter, tmp_path, "00", "1,2,3", 400) as writer,
    ):
        _, wrong = writer.communicate(timeout=60)
        assert writer.returncode == 0, wrong
        looks, wrong = reader.communicate(timeout=60)
        assert reader.returncode == 0, wrong
        assert int(looks) > 1


def test_two_writers_that_also_seal_keep_all_of_both(adapter: str, tmp_path: Path) -> None:
    with (
        child("write", adapter, tmp_path, "00", "1,2,3", 200) as one,
        child("write", adapter, tmp_path, "01", "4,5", 200) as two,
    ):
        for writer in (one, two):
            _, wrong = writer.communicate(timeout=60)
            assert writer.returncode == 0, wrong
    store = open_adapter(adapter, tmp_path)
    for series in range(1, 6):
        assert store.range(SeriesId(series), *EVER).value.tolist() == [n * 10 + series for n in range(200)]
    store.close()
