"""A real fridge's 38 days through simulated devices, spools, the broker, the log and the store, at high speed.

In lock-step: the devices show the next row once the last has been acknowledged. The oracle is the daily minutes that
the logger itself counted. (Alarms on a replayed file are shown by test_demo.py; here nobody is told, for days on end.)
"""

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from coldchain.supervisor import Supervisor
from core.devices.tables import Probe, Series
from core.ids import Centi
from core.logger_files.logger_file import DayFigures, LoggerFile
from core.logger_files.reader import read_file
from core.runtime.instant import MINUTE, Instant
from core.telemetry.factory import open_telemetry
from core.telemetry.port import Curve
from core.telemetry.window_figures import day_edges, exposures
from tests.fixtures.servers import PAIRS, Pair
from tests.scenario.county import HIGH, LOW, Fridge, staged

pytestmark = pytest.mark.long

FILE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "fridgetag2l.txt"
SITE = ZoneInfo("Asia/Shanghai")
DAYS: dict[Pair, Sequence[int]] = {"embedded": range(38), "servers": (0, 25, 26)}
"""Days of the file that are replayed. On servers a step takes several times as long: there it is the day with the hole,
one that is too warm as well as too cold, and one that is too cold nearly all of the time, each as on the other pair."""
READINGS: dict[Pair, int] = {"embedded": 10_653, "servers": 738}
PROBES: dict[Pair, dict[str, str]] = {"embedded": {"209901": HIGH}, "servers": {"209901": HIGH, "209902": LOW}}
"""Through a gateway of each collector's."""


class Replayed(NamedTuple):
    """What was shown, and what the store has of each probe."""

    days: Sequence[DayFigures]
    shown: Sequence[tuple[Instant, Centi | None]]
    curves: Sequence[Curve]


@pytest.fixture(scope="module")
def logger() -> LoggerFile:
    if not FILE.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{FILE} is missing")
        pytest.skip("the real logger's file is not beside this checkout")
    return read_file(FILE, SITE)


@pytest.fixture(scope="module", params=PAIRS)
def replayed(request: pytest.FixtureRequest, logger: LoggerFile, tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    pair: Pair = request.param
    days = [day for place, day in enumerate(sorted(logger.days, key=lambda day: day.day)) if place in DAYS[pair]]
    dates = {day.day for day in days}
    rows = [row for row in logger.readings if datetime.fromtimestamp(row[0] / 1000, SITE).date() in dates]
    assert len(rows) == READINGS[pair]
    folder, fridge = tmp_path_factory.mktemp("replay"), Fridge("BX-1", "旧冰箱", PROBES[pair])
    # The devices are polled at every step, however unevenly the file's rows lie.
    with staged(folder, [fridge], pair, start=rows[0][0], interval_s=1) as county:
        services = [service for service in county.services() if not service.name.startswith(("alerting", "api"))]
        supervisor = Supervisor(services, log_folder=folder / "log")
        supervisor.check_processes()
        try:
            everyone, county.order = county.order, ["gateway_agent"]
            for at, value in rows:
                county.show("旧冰箱", None if value is None else value / 100)
                county.step(at)
            county.order = [process for process in everyone if not process.startswith("alerting")]
            county.step(county.now)
        finally:
            supervisor.end()
        with county.records.read() as tx:
            series = tx.scalars(select(Series.id).join(Probe).where(Probe.code.in_(PROBES[pair]))).all()
        store = open_telemetry(county.settings, read_only=True)
        curves = [store.range(one, Instant(0), Instant(2**52)) for one in series]
        assert len(curves) == len(PROBES[pair])
        store.close()
    return Replayed(days, rows, curves)


def test_all_readings_arrive_each_at_its_time_with_its_value(replayed: Replayed) -> None:
    for curve in replayed.curves:
        assert curve.at.tolist() == [at for at, _ in replayed.shown]
        assert curve.value.tolist() == [value for _, value in replayed.shown]


def test_minutes_out_of_range_agree_with_the_devices_own(logger: LoggerFile, replayed: Replayed) -> None:
    assert sum(own.minutes_above for own in replayed.days) > 600
    assert sum(own.minutes_below for own in replayed.days) > 1800
    for curve in replayed.curves:
        for own in replayed.days:
            (ours,) = exposures(
                curve, day_edges(own.day, own.day, SITE), logger.interval, above=Centi(800), below=Centi(200)
            )
            assert abs(ours.above / MINUTE - own.minutes_above) <= 10, own
            assert abs(ours.below / MINUTE - own.minutes_below) <= 10, own


def test_the_hole_of_the_first_day_is_a_gap_and_no_exposure(logger: LoggerFile, replayed: Replayed) -> None:
    first_day = day_edges(replayed.days[0].day, replayed.days[0].day, SITE)
    for curve in replayed.curves:
        at = [at for at in curve.at.tolist() if at < first_day[-1]]
        before, after = max(pairwise(at), key=lambda pair: pair[1] - pair[0])
        assert (after - before) // MINUTE == 352
        edges = [Instant(before), Instant(after)]
        (hole,) = exposures(curve, edges, logger.interval, above=Centi(800), below=Centi(200))
        assert hole.above + hole.below <= logger.interval
        assert hole.gap == 352 * MINUTE - logger.interval
        assert timedelta(milliseconds=hole.gap) > timedelta(hours=5)
