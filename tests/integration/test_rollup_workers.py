"""Daily figures by several workers: work that is shared, marks set in the middle of it, and kills."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import func, select

from core.db.engine import Records
from core.devices import bindings
from core.devices.directory import allot_series
from core.devices.tables import Series
from core.figures import daily_repository
from core.figures.tables import RolledUp
from core.ids import ProbeId, SeriesId
from core.runtime.instant import Instant
from core.units.actor import OPERATOR
from core.units.tables import Unit
from tests.fixtures.county import add_gateway
from tests.fixtures.databases import fresh_url
from tests.fixtures.site import DAY_MIN, WHOLE_DAY, Site, at, day, due, minutely, site_in

ROOT = Path(__file__).parents[2]


@pytest.fixture
def site(tmp_path: Path, records: Records) -> Iterator[Site]:
    with site_in(tmp_path, records) as made:
        yield made


@pytest.fixture
def one_site(tmp_path: Path, sqlite_records: Records) -> Iterator[Site]:
    with site_in(tmp_path, sqlite_records) as made:
        yield made


def test_what_is_marked_while_its_day_is_computed_is_computed_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.works()
    site.takes("208601", minutely(0, 100))
    collector = site.collectors[0]
    real = collector.rollups._curves
    late = [minutely(100, 130), minutely(130, 150)]

    def slowly(series: list[SeriesId], since: Instant, until: Instant) -> object:
        found = real(series, since, until)
        if late:  # readings come, and are marked, between the look and the keeping
            site.takes("208601", late.pop())
            collector.store()
            collector.due_days.mark(threading.Event())
        return found

    monkeypatch.setattr(collector.rollups, "_curves", slowly)
    site.is_day(1)
    for _ in range(3):
        site.works()
    assert site.shown() == [(0, 150, 0, 0, 0, WHOLE_DAY - 150)]
    assert due(site) == []


def test_two_workers_with_the_same_day_keep_it_once(site: Site) -> None:
    site.works()
    site.takes("208601", minutely(0, 100))
    site.collectors[0].store()
    site.clock.at = at(DAY_MIN + 20)
    site.collectors[0].due_days.mark(threading.Event())
    with site.records.read() as tx:
        asked = daily_repository.due(tx, ("00", "ff"), day(9), (day(-9), SeriesId(0)), 10)
    assert [(each.day, each.series) for each in asked] == [(day(0), 1), (day(0), 2)]
    site.works()
    before = site.rows()
    with site.records.write() as tx:
        assert daily_repository.keep(tx, day(0), [(each, []) for each in asked]) == 0
    assert site.rows() == before != []


def test_several_collectors_share_the_work_by_ranges(site: Site) -> None:
    """Who follows a gateway need not be who computes its series: these have the numbers 1 and 2."""
    with site.change() as tx:
        gateway = add_gateway(tx, "10003", tx.get_one(Unit, 1))
        bindings.pair_probe(tx, OPERATOR, ProbeId(2), gateway, at(-1), now=at(0))
    site.starts_again(("00", "01"), ("02", "7f"), ("80", "ff"))
    site.works()
    site.takes("208601", minutely(0, 100))
    site.takes("208602", minutely(0, 50, -20), gw="10003")
    site.is_day(1)
    site.works()
    assert (site.shown(1)[0][1], site.shown(2)[0][1]) == (100, 50)
    site.takes("208601", minutely(100, 140))
    site.takes("208602", minutely(50, 60, -20), gw="10003")
    site.works()
    site.works()
    assert (site.shown(1)[0][1], site.shown(2)[0][1]) == (140, 60)


def test_a_new_series_whose_collector_is_away_is_found_when_it_is_back(one_site: Site) -> None:
    """Humidity is series 3, of slot 03; the gateway is of shard e4."""
    one_site.starts_again(("00", "7f"), ("80", "ff"))
    one_site.works()
    _, follows = one_site.collectors
    one_site.takes("208601", minutely(100, 160, 55.0), quantity="h")
    one_site.collectors = [follows]
    one_site.works()
    one_site.is_day(3)
    assert one_site.rows(3) == []
    one_site.starts_again(("00", "7f"), ("80", "ff"))
    one_site.works()
    assert [row.n for row in one_site.rows(3)] == [60, 0, 0]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_was_ahead_for_a_while_costs_no_day(one_site: Site, *, restarted: bool) -> None:
    """What it took for over, and computed as a gap, is computed again once it is; new series have all their days."""
    one_site.works()
    one_site.is_day(5)
    with one_site.records.write() as tx:
        allot_series(tx, ProbeId(1), "h")
    one_site.works()
    one_site.clock.at = at(DAY_MIN + 20)
    if restarted:
        one_site.starts_again()
    one_site.works()
    one_site.takes("208601", minutely(DAY_MIN + 30, DAY_MIN + 90))
    one_site.takes("208601", minutely(DAY_MIN + 30, DAY_MIN + 80, 55.0), quantity="h")
    one_site.works()
    one_site.is_day(3)
    assert [row.n for row in one_site.rows(1, 0, 2)] == [0, 60, 0]
    assert [row.n for row in one_site.rows(3, 1, 2)] == [50, 0]


def test_a_series_that_is_new_while_days_are_computed_keeps_its_mark(
    one_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another collector meets it, and marks its day, in the middle of its own collector's pass."""
    one_site.starts_again(("00", "7f"), ("80", "ff"))
    one_site.works()
    owner, follows = one_site.collectors
    real = owner.rollups._curves
    late = [minutely(100, 160, 55.0)]

    def slowly(series: list[SeriesId], since: Instant, until: Instant) -> object:
        if late:
            one_site.takes("208601", late.pop(), quantity="h")
            follows.store()
            follows.due_days.mark(threading.Event())
        return real(series, since, until)

    monkeypatch.setattr(owner.rollups, "_curves", slowly)
    one_site.is_day(1)
    one_site.works()
    assert [row.n for row in one_site.rows(3)] == [60]


def test_series_whose_numbers_are_committed_out_of_order_are_all_met(one_site: Site) -> None:
    one_site.is_day(1)
    for number, probe in ((50, 2), (3, 1)):
        with one_site.records.write() as tx:
            tx.add(Series(id=SeriesId(number), probe_id=ProbeId(probe), quantity="h"))
        one_site.works()
    one_site.takes("208601", minutely(100, 160, 55.0), quantity="h")
    one_site.works()
    assert [row.n for row in one_site.rows(3)] == [60]


def test_asked_to_stop_it_leaves_the_rest_of_a_survey_to_the_next(one_site: Site) -> None:
    """Of twenty thousand series one takes longer than a collector has to end."""
    due_days = one_site.collectors[0].due_days
    stop = threading.Event()
    stop.set()
    due_days.mark(stop)
    with one_site.records.read() as tx:
        assert tx.scalar(select(func.count()).select_from(RolledUp)) == 0
    due_days.mark(threading.Event())
    with one_site.records.read() as tx:
        assert tx.scalar(select(func.count()).select_from(RolledUp)) == 2


@pytest.mark.long
def test_killed_after_any_commit_it_goes_on_and_misses_nothing(tmp_path: Path) -> None:
    """A real process is killed by SIGKILL at every one of its commits; late readings come in between."""
    from core.db.engine import connect

    url = fresh_url("sqlite", tmp_path)
    records = Records(connect(url))
    with site_in(tmp_path, records) as site:
        site.works()
        site.takes("208601", minutely(0, 300))
        site.takes("208602", minutely(0, 200, -20))
        site.clock.at = at(3 * DAY_MIN + 30)
        kills = expected = 0
        for commits in count(1):
            site.takes("208601", minutely(300 + 10 * kills, 310 + 10 * kills, 9.0))
            expected = 300 + 10 * (kills + 1)
            words = [sys.executable, str(ROOT / "tests/fixtures/site.py"), str(tmp_path), url, str(site.clock.at)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            ended = subprocess.run([*words, str(commits)], env=environment, check=False, timeout=60)
            if not ended.returncode:
                break
            assert ended.returncode == -9
            kills += 1
        assert kills >= 3
        assert due(site) == []
        assert site.shown()[0] == (0, expected, 0, 10 * (kills + 1), 0, WHOLE_DAY - expected)
        assert [n for _, n, *_ in site.shown(2)] == [200, 0, 0]
    records.close()
