"""A real fridge's 38 days through a simulated device, the spool, the broker, the log and the store, at high speed.

`coldchain demo --replay` is run as a person would; the oracle is the logger's own daily minutes out of range.
"""

import os
import subprocess
import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from coldchain.simulate.logger_file import LoggerFile, read
from config.load import load
from core.db.engine import Records, connect, url_for
from core.devices.tables import Probe, Series
from core.ids import Centi
from core.runtime.instant import MINUTE, Instant
from core.telemetry.open import open_telemetry
from core.telemetry.port import Curve
from core.telemetry.windows import day_edges, exposures

FILE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fridgetag2l.txt"
SITE = ZoneInfo("Asia/Shanghai")
READINGS = 10_653


@pytest.fixture(scope="module")
def logger() -> LoggerFile:
    if not FILE.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{FILE} is missing")
        pytest.skip("the real logger's file is not beside this checkout")
    return read(FILE, SITE)


@pytest.fixture(scope="module")
def replayed(logger: LoggerFile, tmp_path_factory: pytest.TempPathFactory) -> Curve:
    folder = tmp_path_factory.mktemp("replay")
    with (folder / "out").open("w") as output:
        words = ["demo", "--replay", str(FILE), "--folder", str(folder / "demo"), "--port", "0"]
        done = subprocess.run(
            [sys.executable, "-m", "coldchain", *words],
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=1500,
        )
    said = (folder / "out").read_text()
    assert done.returncode == 0, said[-2000:]
    assert f"{len(logger.readings)} rows" in said
    settings = load(folder / "demo" / "coldchain.toml")
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    with records.read() as tx:
        series = tx.scalars(select(Series.id).join(Probe).where(Probe.code == "209901", Series.quantity == "t")).one()
    records.close()
    store = open_telemetry(settings, read_only=True)
    curve = store.range(series, Instant(0), Instant(2**52))
    store.close()
    return curve


def test_all_readings_arrive_each_at_its_time_with_its_value(logger: LoggerFile, replayed: Curve) -> None:
    assert len(logger.readings) == READINGS
    assert replayed.at.tolist() == [at for at, _ in logger.readings]
    assert replayed.value.tolist() == [value for _, value in logger.readings]


def test_minutes_out_of_range_agree_with_the_devices_own(logger: LoggerFile, replayed: Curve) -> None:
    days = sorted(logger.days, key=lambda day: day.day)
    edges = day_edges(days[0].day, days[-1].day, SITE)
    found = exposures(replayed, edges, logger.interval, above=Centi(800), below=Centi(200))
    assert len(days) == len(found) == 38
    for own, ours in zip(days, found, strict=True):
        assert abs(ours.above / MINUTE - own.minutes_above) <= 10, own
        assert abs(ours.below / MINUTE - own.minutes_below) <= 10, own


def test_the_hole_of_the_first_day_is_a_gap_and_no_exposure(logger: LoggerFile, replayed: Curve) -> None:
    at = replayed.at.tolist()
    before, after = max(pairwise(at), key=lambda pair: pair[1] - pair[0])
    assert (after - before) // MINUTE == 352
    hole = exposures(replayed, [Instant(before), Instant(after)], logger.interval, above=Centi(800), below=Centi(200))[
        0
    ]
    assert hole.above + hole.below <= logger.interval
    assert hole.gap == 352 * MINUTE - logger.interval
    assert timedelta(milliseconds=hole.gap) > timedelta(hours=5)
