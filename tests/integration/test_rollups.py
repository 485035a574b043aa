"""Daily figures: every day once it is over, anew when something of it changes, whatever is killed."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, text, update

from core.db.engine import Records
from core.devices import bindings, registry
from core.devices.tables import Probe, ProbeZone, Zone
from core.errors import Invalid
from core.figures import daily_repository
from core.figures.tables import Daily
from core.ids import Centi, ProbeId, SeriesId, ZoneId
from core.limits import zone_limits
from core.limits.placements import differences, load
from core.limits.zone_limits import ZoneLimits
from core.runtime.instant import MINUTE, Milliseconds
from core.units.actor import OPERATOR
from core.units.tables import Unit
from tests.fixtures.site import DAY_MIN, WHOLE_DAY, Site, at, day, due, minutely, site_in

FRIDGE, OTHER, FREEZER = ZoneId(1), ZoneId(2), ZoneId(3)


@pytest.fixture
def site(tmp_path: Path, records: Records) -> Iterator[Site]:
    with site_in(tmp_path, records) as made:
        yield made


@pytest.fixture
def one_site(tmp_path: Path, sqlite_records: Records) -> Iterator[Site]:
    with site_in(tmp_path, sqlite_records) as made:
        yield made


def test_a_day_has_its_figures_once_it_is_over(site: Site) -> None:
    site.works()
    site.takes("208601", [*minutely(0, 700), *minutely(700, 730, 9.0), (730, None), *minutely(740, 1440, 5.0)])
    site.is_day(0, 1400)
    assert site.rows() == []
    site.is_day(1, 9)
    assert site.rows() == []
    site.is_day(1, 11)
    (row,) = site.rows()
    assert (row.day, row.since, row.until) == (day(0), at(0), at(DAY_MIN))
    assert (row.zone_id, row.unit_id, row.limits, row.low, row.high) == (FRIDGE, 1, 0, 200, 800)
    assert (row.n, row.failed, row.min, row.max, row.sum) == (1430, 1, 500, 900, 1400 * 500 + 30 * 900)
    assert (row.above, row.below, row.gap) == (30 * MINUTE, 0, 10 * MINUTE)
    assert due(site) == []


def test_a_silent_day_is_a_gap_never_cold(site: Site) -> None:
    site.works()
    site.takes("208602", minutely(0, 60, -20))
    site.is_day(2)
    assert site.shown(1) == [(0, 0, 0, 0, 0, WHOLE_DAY), (1, 0, 0, 0, 0, WHOLE_DAY)]
    assert site.shown(2) == [(0, 60, 0, 0, 0, WHOLE_DAY - 60), (1, 0, 0, 0, 0, WHOLE_DAY)]
    assert [(row.min, row.max, row.sum) for row in site.rows(1)] == [(None, None, 0)] * 2


def test_what_comes_late_is_counted_once_however_often_it_comes(site: Site) -> None:
    site.works()
    site.takes("208601", minutely(0, 600))
    site.is_day(1)
    assert site.shown() == [(0, 600, 0, 0, 0, WHOLE_DAY - 600)]
    site.takes("208601", minutely(600, 1440, 9.0))
    site.works()
    assert site.shown() == [(0, 1440, 0, 840, 0, 0)]
    site.takes("208601", minutely(600, 1440, 9.0))
    site.takes("208601", minutely(1430, 1440, 5.0))
    site.works()
    assert site.shown() == [(0, 1440, 0, 830, 0, 0)]


def test_the_last_reading_of_a_day_holds_into_the_next(one_site: Site) -> None:
    one_site.works()
    one_site.is_day(2)
    one_site.takes("208601", [(DAY_MIN - 0.5, 9.0)])
    one_site.works()
    assert one_site.shown() == [(0, 1, 0, 0.5, 0, WHOLE_DAY - 0.5), (1, 0, 0, 0.5, 0, WHOLE_DAY - 0.5)]


def test_days_before_the_first_look_count_from_the_log_alone(one_site: Site) -> None:
    """A probe bound since 1970 has no twenty thousand empty days."""
    one_site.takes("208601", minutely(-3 * DAY_MIN, -3 * DAY_MIN + 30))
    one_site.is_day(0)
    assert [(row.day, row.n) for row in one_site.rows(first=-30)] == [(day(-3), 30)]
    one_site.is_day(1)
    assert [row.day for row in one_site.rows(first=-30)] == [day(-3), day(0)]


def test_a_move_at_noon_parts_the_day_and_nothing_is_carried_over(site: Site) -> None:
    site.works()
    site.takes("208601", [*minutely(0, 719.5, 5.0), (719.5, 9.0), *minutely(730, 1440, 9.0)])
    with site.change() as tx:
        bindings.move_probe(tx, OPERATOR, ProbeId(1), OTHER, at(720), now=at(720))
    site.is_day(1)
    assert [(row.zone_id, row.since, row.until) for row in site.rows()] == [
        (FRIDGE, at(0), at(720)),
        (OTHER, at(720), at(DAY_MIN)),
    ]
    assert site.shown() == [(0, 721, 0, 0.5, 0, 0), (0, 710, 0, 710, 0, 10)]


def test_limits_that_change_part_the_day_and_readings_hold_across(site: Site) -> None:
    site.works()
    site.takes("208601", minutely(0.5, 1440.5, 7.0))
    with site.change() as tx:
        zone = tx.get_one(Zone, FRIDGE)
        zone_limits.set_limits(tx, OPERATOR, zone, ZoneLimits(high=Centi(600)), now=at(600))
        zone_limits.set_limits(tx, OPERATOR, zone, ZoneLimits(high=Centi(600), delay=Milliseconds(0)), now=at(700))
    site.is_day(1)
    site.is_day(2)
    assert [(row.limits, row.low, row.high, row.above / MINUTE, row.gap / MINUTE) for row in site.rows(last=0)] == [
        (0, 200, 800, 0, 0.5),
        (1, 200, 600, 840, 0),
    ]
    assert [row.limits for row in site.rows(first=1)] == [1]


def test_limits_corrected_since_an_earlier_time_recompute_what_they_touch_and_nothing_else(site: Site) -> None:
    site.works()
    for n in range(4):
        site.takes("208601", minutely(n * DAY_MIN, n * DAY_MIN + 100, 7.0))
    site.is_day(4)
    before = site.rows()
    with site.change() as tx:
        zone = tx.get_one(Zone, FRIDGE)
        limits = ZoneLimits(high=Centi(600))
        zone_limits.set_limits(tx, OPERATOR, zone, limits, since=at(2 * DAY_MIN + 50), now=site.clock.at)
    site.collectors[0].due_days.mark(threading.Event())
    assert due(site) == [(2, 1), (3, 1)]
    site.works()
    after = site.rows()
    assert after[:2] == before[:2]
    assert [(row.limits, row.above / MINUTE) for row in after[2:]] == [(0, 0), (1, 50), (1, 100)]
    with site.change() as tx, pytest.raises(Invalid, match="future"):
        zone_limits.set_limits(
            tx, OPERATOR, tx.get_one(Zone, FRIDGE), limits, since=at(99 * DAY_MIN), now=site.clock.at
        )


def test_the_first_limits_of_a_zone_that_nothing_measured_hold_from_its_beginning(one_site: Site) -> None:
    with one_site.change() as tx:
        zone_limits.set_limits(tx, OPERATOR, tx.get_one(Zone, OTHER), ZoneLimits(high=Centi(600)), now=at(500))
        bindings.move_probe(tx, OPERATOR, ProbeId(1), OTHER, at(-9 * DAY_MIN), now=at(600))
    one_site.takes("208601", minutely(-2 * DAY_MIN, -2 * DAY_MIN + 10, 7.0))
    one_site.is_day(1)
    assert {(row.zone_id, row.high) for row in one_site.rows(first=-9)} == {(OTHER, 600)}


def test_a_binding_corrected_late_recomputes_the_days_it_touches(site: Site) -> None:
    site.works()
    for n in range(4):
        site.takes("208602", minutely(n * DAY_MIN, n * DAY_MIN + 100, -20.0))
    site.is_day(4)
    with site.change() as tx:
        bindings.move_probe(tx, OPERATOR, ProbeId(2), FRIDGE, at(2 * DAY_MIN), now=site.clock.at)
    site.collectors[0].due_days.mark(threading.Event())
    assert due(site) == [(2, 2), (3, 2)]
    site.works()
    assert [(row.zone_id, row.below / MINUTE) for row in site.rows(2)] == [
        (FREEZER, 0),
        (FREEZER, 0),
        (FRIDGE, 100),
        (FRIDGE, 100),
    ]
    # The correction is taken back: what was computed by it is replaced too.
    with site.change() as tx:
        rows = tx.scalars(select(ProbeZone).where(ProbeZone.probe_id == 2).order_by(ProbeZone.since)).all()
        tx.delete(rows[1])
        tx.flush()
        rows[0].until = None
    site.works()
    assert [(row.zone_id, row.below) for row in site.rows(2)] == [(FREEZER, 0)] * 4


def test_who_is_bound_to_nothing_has_figures_of_what_it_measured_and_no_silent_days(site: Site) -> None:
    site.works()
    with site.change() as tx:
        bindings.unbind_probe(tx, OPERATOR, ProbeId(1), at(0), now=at(5))
    site.takes("208601", minutely(10, 20, 30.0))
    site.is_day(3)
    (row,) = site.rows()
    assert (row.zone_id, row.unit_id, row.high, row.n, row.above) == (None, None, None, 10, 0)


def test_an_interval_that_changes_counts_from_then_on(one_site: Site) -> None:
    one_site.works()
    one_site.takes("208601", [(n * 10, 5.0) for n in range(2 * 144)])
    with one_site.change() as tx:
        registry.set_interval(tx, OPERATOR, tx.get_one(Probe, 1), Milliseconds(10 * MINUTE), now=at(DAY_MIN))
    one_site.is_day(2)
    assert [gap for *_, gap in one_site.shown()] == [WHOLE_DAY * 0.9, 0]


def test_a_day_is_the_sites_own(one_site: Site) -> None:
    """In New York clocks go forward on 2026-03-08, day 9: it has 23 hours."""
    with one_site.change() as tx:
        tx.execute(update(Unit).values(timezone="America/New_York"))
    one_site.is_day(9, 10 * 60)
    one_site.takes("208601", minutely(9 * DAY_MIN + 13 * 60, 9 * DAY_MIN + 36 * 60, 5.0))
    one_site.is_day(12)
    rows = {row.day: row for row in one_site.rows()}
    assert rows[day(9)].until - rows[day(9)].since == 23 * 60 * MINUTE
    assert (rows[day(9)].n, rows[day(9)].gap) == (23 * 60, 0)
    assert rows[day(10)].n == 0


def test_humidity_has_figures_and_no_limits(one_site: Site) -> None:
    one_site.works()
    one_site.takes("208601", minutely(0, 60, 55.0), quantity="h")
    one_site.is_day(1)
    (row,) = one_site.rows(3)
    assert (row.zone_id, row.low, row.high, row.n, row.max, row.above) == (FRIDGE, None, None, 60, 5500, 0)


def test_a_series_that_begins_before_midnight_is_not_forgotten_when_the_collector_dies(one_site: Site) -> None:
    one_site.works()
    one_site.clock.at = at(DAY_MIN - 5)
    one_site.takes("208601", minutely(1400, 1420, 55.0), quantity="h")
    one_site.collectors[0].store()
    one_site.starts_again()
    one_site.is_day(1)
    assert [row.n for row in one_site.rows(3)] == [20]


def test_a_store_that_is_behind_over_midnight_is_made_up_for(one_site: Site) -> None:
    one_site.works()
    one_site.takes("208601", minutely(0, 1000))
    one_site.clock.at = at(DAY_MIN + 30)
    one_site.collectors[0].rollups.work(threading.Event())
    assert one_site.shown() == [(0, 0, 0, 0, 0, WHOLE_DAY)]
    one_site.works()
    assert one_site.shown() == [(0, 1000, 0, 0, 0, WHOLE_DAY - 1000)]


def test_days_and_hours_that_are_sealed_have_the_same_figures(one_site: Site) -> None:
    one_site.works()
    one_site.takes("208601", [(n, 5 + n % 7) for n in range(2 * DAY_MIN)])
    one_site.is_day(2)
    before = one_site.rows()
    one_site.telemetry.seal(at(9 * DAY_MIN))
    with one_site.records.write() as tx:
        daily_repository.mark(tx, [(day(n), SeriesId(1)) for n in range(2)])
    one_site.works()
    assert one_site.rows() == before
    assert due(one_site) == []


def test_a_month_of_many_probes_at_once(site: Site) -> None:
    site.works()
    for n in range(3):
        site.takes("208601", minutely(n * DAY_MIN, n * DAY_MIN + 100, 5.0 + 2 * n))
    site.is_day(3)
    with site.records.read() as tx:
        one, two = daily_repository.totals(tx, [SeriesId(2), SeriesId(1)], day(0), day(30))
    assert (one.series, one.days, one.n, one.failed, one.min, one.max) == (1, 3, 300, 0, 500, 900)
    assert (one.sum, one.above, one.below, one.gap) == (210_000, 100 * MINUTE, 0, (3 * DAY_MIN - 300) * MINUTE)
    assert (two.series, two.n, two.min, two.gap) == (2, 0, None, 3 * DAY_MIN * MINUTE)


def test_a_changed_figure_fails_its_checksum(site: Site) -> None:
    site.works()
    site.takes("208601", minutely(0, 100))
    site.is_day(2)
    with site.records.read() as tx:
        assert list(daily_repository.damage(tx)) == []
    with site.records.write() as tx:
        tx.execute(update(Daily).where(Daily.series_id == 1, Daily.day == day(1)).values(above=60_000))
    with site.records.read() as tx:
        assert list(daily_repository.damage(tx)) == [f"records, daily, day {day(1)}, series 1: fails its checksum"]


def test_versions_are_never_changed(site: Site) -> None:
    with site.change() as tx:
        zone_limits.set_limits(tx, OPERATOR, tx.get_one(Zone, FRIDGE), ZoneLimits(high=Centi(600)), now=at(1))
    with pytest.raises(Exception, match="append only"), site.records.write() as tx:
        tx.execute(text("UPDATE limits_version SET high = 900"))


def test_stays_that_are_cut_elsewhere_are_no_difference(site: Site) -> None:
    with site.records.read() as tx:
        before = load(tx, "Asia/Shanghai")[SeriesId(1)]
    with site.change() as tx:
        zone_limits.set_limits(tx, OPERATOR, tx.get_one(Zone, FREEZER), ZoneLimits(high=Centi(-1000)), now=at(1))
        bindings.unbind_probe(tx, OPERATOR, ProbeId(1), at(100), now=at(100))
    with site.records.read() as tx:
        after = load(tx, "Asia/Shanghai")[SeriesId(1)]
    assert [since for since, _ in differences(before, after)] == [at(100)]
    assert differences(after, after) == []
