"""A real fridge's 38 days through a simulated device, the spool, the broker, the log and the store, at high speed.

In lock-step: the device shows the next row once the last has been taken in. The oracle is the daily minutes that the
logger itself counted. (Alarms on a replayed file are shown by test_demo.py; here nobody is told, for days on end.)
"""

import os
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from coldchain.simulate.logger_file import LoggerFile, read
from coldchain.supervisor import Supervisor
from core.devices.tables import Probe, Series
from core.ids import Centi
from core.runtime.instant import MINUTE, Instant
from core.telemetry.open import open_telemetry
from core.telemetry.port import Curve
from core.telemetry.windows import day_edges, exposures
from tests.scenario.county import Fridge, staged

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
    folder, fridge = tmp_path_factory.mktemp("replay"), Fridge("BX-1", "旧冰箱", {"209901": "10009"})
    first = logger.readings[0][0]
    # The device is polled at every step, however unevenly the file's rows lie.
    with staged(folder, [fridge], start=first, interval_s=1) as county:
        supervisor = Supervisor(county.stage.services(["broker", "collector", "gateway"]), log_folder=folder / "log")
        supervisor.look()
        try:
            county.order = ["gateway_agent", "collector"]
            for at, value in logger.readings:
                county.show("旧冰箱", None if value is None else value / 100)
                county.step(at)
        finally:
            supervisor.end()
        with county.records.read() as tx:
            series = tx.scalars(select(Series.id).join(Probe).where(Probe.code == "209901")).one()
        store = open_telemetry(county.settings, read_only=True)
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
