"""Days that are marked by following the log, and the entries that need not be read for that."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from collector.daily_figures import due_days
from core.db.engine import Records
from core.devices import bindings
from core.figures.tables import DueDay, RollupCursor
from core.health.cursor_alignment import of_records
from core.ids import GatewayId, ProbeId, ZoneId
from core.intake.port import LogEntry
from core.units.actor import OPERATOR
from core.units.tables import Unit
from core.wire.shards import Shard
from tests.fixtures.county import add_gateway, add_probe
from tests.fixtures.site import DAY_MIN, Site, at, day, site_in

OTHER = ZoneId(2)


@pytest.fixture
def site(tmp_path: Path, records: Records) -> Iterator[Site]:
    with site_in(tmp_path, records) as made:
        yield made


def course(first: float, last: float) -> list[tuple[float, float | None]]:
    """A reading a minute in [first, last)."""
    return [(first + n, 5.0) for n in range(round(last - first))]


def due(site: Site) -> list[tuple[int, int]]:
    with site.records.read() as tx:
        return sorted(((row.day - day(0)).days, row.series_id) for row in tx.scalars(select(DueDay)))


class Reads:
    """Counts the entries that whoever computes figures reads of the log."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries = 0
        real = site.log.read

        def read(shard: Shard, after: int, limit: int) -> list[LogEntry]:
            found = real(shard, after, limit)
            self.entries += len(found)
            return found

        monkeypatch.setattr(site.log, "read", read)


def test_what_is_of_today_is_not_read_a_second_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.works()
    read = Reads(site, monkeypatch)
    site.takes("208601", course(0, 1200))
    site.works()
    assert read.entries == 0
    with site.records.read() as tx:
        (followed,) = tx.scalars(select(RollupCursor))
    assert followed.position == site.log.head(Shard(followed.shard)) == 3
    site.is_day(1)
    assert read.entries == 0
    assert [n for _, n, *_ in site.shown()] == [1200]


def test_a_late_reading_among_those_of_today_is_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """First, last or in the middle of its message, which is stored together with one of today alone."""
    site.is_day(4)
    read = Reads(site, monkeypatch)
    today = course(4 * DAY_MIN, 4 * DAY_MIN + 10)
    for n, place in enumerate((0, 5, 10)):
        late = (n * DAY_MIN + 100.0, 9.0)
        messages = [[*today[:place], late, *today[place:]], today]
        for message in messages if n % 2 else reversed(messages):
            site.takes("208601", message)
        site.works()
        assert site.shown()[-1][:2] == (n, 1)
        assert read.entries == 2 * (n + 1)
    site.takes("208601", today)
    site.works()
    assert read.entries == 6


def test_what_was_stored_in_an_earlier_life_is_read_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored before the process was killed, late: nobody remembers that it was read, nor how old it is."""
    site.is_day(1)
    site.takes("208601", course(DAY_MIN, DAY_MIN + 10))
    site.takes("208601", course(100, 130))
    site.collectors[0].store()
    site.starts_again()
    site.takes("208601", course(DAY_MIN + 10, DAY_MIN + 20))
    read = Reads(site, monkeypatch)
    site.works()
    assert site.shown()[0][:2] == (0, 30)
    assert read.entries == 3
    site.takes("208601", course(DAY_MIN + 20, DAY_MIN + 25))
    site.works()
    assert read.entries == 3


def test_pages_without_late_readings_are_kept_as_followed_too(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log must never be told of more than the records know: they would look as if they had been put back."""
    monkeypatch.setattr(due_days, "ENTRIES", 2)
    site.is_day(1)
    for n in range(5):
        site.takes("208601", course(DAY_MIN + n, DAY_MIN + n + 1))
    site.takes("208601", course(100, 130))
    site.collectors[0].store()
    site.starts_again()
    site.collectors[0].store()
    read = site.log.read

    def read_and_look(shard: Shard, after: int, limit: int) -> list[LogEntry]:
        site.collectors[0].due_days.mirror()
        assert not of_records(site.log, site.records)
        return read(shard, after, limit)

    monkeypatch.setattr(site.log, "read", read_and_look)
    site.collectors[0].due_days.mark(threading.Event())
    assert due(site) == [(0, 1)]
    site.collectors[0].due_days.mirror()
    assert not of_records(site.log, site.records)


def test_of_two_shards_the_one_with_late_readings_alone_is_read(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with site.change() as tx:
        gateway = add_gateway(tx, "10003", tx.get_one(Unit, 1))
        bindings.pair_probe(tx, OPERATOR, ProbeId(2), gateway, at(-1), now=at(0))
    site.works()
    site.is_day(1)
    read = Reads(site, monkeypatch)
    site.takes("208601", course(DAY_MIN, DAY_MIN + 10))
    site.takes("208602", course(100, 130), gw="10003")
    site.works()
    assert (site.shown(1)[0][1], site.shown(2)[0][1]) == (0, 30)
    assert read.entries == 1


def test_midnight_between_the_store_and_the_look_makes_yesterdays_readings_late(site: Site) -> None:
    """They were of today as they were stored; who computes their series may have done so without them."""
    site.starts_again(("00", "7f"), ("80", "ff"))
    site.works()
    computes, follows = site.collectors
    site.takes("208601", course(0, 30))
    site.clock.at = at(DAY_MIN - 1)
    follows.store()
    site.clock.at = at(DAY_MIN + 20)
    computes.works()
    assert due(site) == []
    follows.due_days.mark(threading.Event())
    assert due(site) == [(0, 1)]


def test_readings_released_from_quarantine_are_late(site: Site) -> None:
    site.works()
    site.takes("4711", course(0, 30))
    site.is_day(1)
    assert len(site.log.held(reason="unknown_probe")) == 30
    with site.change() as tx:
        add_probe(tx, "4711", GatewayId(1), OTHER)
    site.works()
    assert [row.n for row in site.rows(3)] == [30]


def test_asked_to_stop_in_the_survey_it_passes_nothing_by(site: Site) -> None:
    """It may not know yet that it is past midnight."""
    site.works()
    site.takes("208601", course(0, 30))
    collector = site.collectors[0]
    collector.store()
    site.clock.at = at(DAY_MIN + 20)
    stop = threading.Event()
    stop.set()
    collector.due_days.mark(stop)
    with site.records.read() as tx:
        assert tx.scalars(select(RollupCursor)).all() == []
