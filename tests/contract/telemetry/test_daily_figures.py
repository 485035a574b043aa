"""A month's figures are the same on every telemetry store: those that plain counting gives, minute by minute."""

import random
from pathlib import Path

import pytest

from core.db.engine import Records
from core.devices import bindings
from core.devices.tables import Zone
from core.figures import daily_repository
from core.figures.daily_figures import DayPart
from core.ids import Centi, ProbeId, SeriesId, ZoneId
from core.limits import zone_limits
from core.limits.zone_limits import ZoneLimits
from core.runtime.instant import MINUTE
from core.units.actor import OPERATOR
from tests.fixtures.site import DAY_MIN, Site, at, day, site_in
from tests.fixtures.telemetry_adapters import ADAPTERS, bring_up

DAYS = 5
MOVED = 2 * DAY_MIN + 777
TIGHTENED = 3 * DAY_MIN + 333
READINGS = dict[int, float | None]


def counted(readings: READINGS, first: int, last: int, since: int, limits: tuple[float, float]) -> list[float]:
    """Return n, failed, least, most, sum, minutes above, below and untold of [first, last); `since` it was there."""
    low, high = limits
    values = [value for n, value in readings.items() if first <= n < last]
    good = [round(value * 100) for value in values if value is not None]
    above = below = told = 0
    for minute in range(first, last):
        value = readings.get(minute) if minute >= since else None
        if value is not None:
            told += 1
            above += value > high
            below += value < low
    failed = len(values) - len(good)
    return [len(good), failed, min(good, default=0), max(good, default=0), sum(good), above, below, last - first - told]


def shown(row: DayPart) -> list[float]:
    times = [each / MINUTE for each in (row.above, row.below, row.gap)]
    return [row.n, row.failed, row.min or 0, row.max or 0, row.sum, *times]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_figures_are_what_plain_counting_gives_on_every_store(
    adapter: str, tmp_path: Path, sqlite_records: Records
) -> None:
    bring_up(adapter)
    chance = random.Random(11)
    readings: READINGS = {
        n: None if chance.random() < 0.02 else round(chance.uniform(-1, 11), 1)
        for n in range(DAYS * DAY_MIN)
        if chance.random() < 0.9 and not 1000 < n < 2500
    }
    with site_in(tmp_path, sqlite_records, adapter) as site:
        site.works()
        with site.change() as tx:
            bindings.move_probe(tx, OPERATOR, ProbeId(1), ZoneId(2), at(MOVED), now=at(MOVED))
            limits = ZoneLimits(low=Centi(300), high=Centi(700))
            zone_limits.set_limits(tx, OPERATOR, tx.get_one(Zone, ZoneId(2)), limits, now=at(TIGHTENED))
        late = {n for n in readings if chance.random() < 0.3}
        lived(site, readings, late)
        parts = [
            (0, 1440),
            (1440, 2880),
            (2880, MOVED),
            (MOVED, 4320),
            (4320, TIGHTENED),
            (TIGHTENED, 5760),
            (5760, 7200),
        ]
        expected = [
            counted(readings, a, b, MOVED if a >= MOVED else 0, (3, 7) if a >= TIGHTENED else (2, 8)) for a, b in parts
        ]
        assert [shown(row) for row in site.rows()] == expected
        assert [(row.since, row.until) for row in site.rows()] == [(at(a), at(b)) for a, b in parts]
        with site.records.read() as tx:
            (month,) = daily_repository.totals(tx, [SeriesId(1)], day(0), day(30))
        assert (month.n, month.failed) == (sum(row[0] for row in expected), sum(row[1] for row in expected))
        assert month.gap / MINUTE == sum(row[-1] for row in expected)


def lived(site: Site, readings: READINGS, late: set[int]) -> None:
    """Let days pass: what isn't late comes on its day, with something wrong that is put right later; then the rest."""
    for n in range(DAYS):
        mine = range(n * DAY_MIN, (n + 1) * DAY_MIN)
        site.takes(
            "208601", [(m, 25.0 if m % 97 == 0 else readings[m]) for m in mine if m in readings and m not in late]
        )
        site.is_day(n + 1)
        site.telemetry.seal(at(n * DAY_MIN + 600))
    site.takes("208601", [(m, readings[m]) for m in sorted(readings) if m in late or m % 97 == 0])
    site.works()
    site.telemetry.seal(at(9 * DAY_MIN))
