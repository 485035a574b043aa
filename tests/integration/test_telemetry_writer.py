"""Quarantine by the telemetry writer, to the reading: of the directory's refusals and of the store's."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from collector.storing import telemetry_writer
from core.db.engine import Records
from core.ids import Centi, GatewayId, SeriesId
from core.intake.port import IntakeBatch, StampedReading
from core.runtime.instant import Instant
from core.runtime.trouble import TroubleKind
from core.telemetry.port import SamplesRejected, StoredReading
from core.wire.quality import Quality
from core.wire.shards import GatewayNumber, Shard, shard_of
from tests.fixtures.county import add_probe
from tests.fixtures.site import EP, Site, at, site_in

GW = GatewayNumber("10001")


@pytest.fixture
def site(tmp_path: Path, sqlite_records: Records) -> Iterator[Site]:
    with site_in(tmp_path, sqlite_records) as made:
        yield made


def take(site: Site, seq: int, *readings: tuple[str, int]) -> None:
    """Append one message with readings of several probes, each at a minute."""
    some = tuple(StampedReading(probe, "t", at(n), Centi(400 + n), 0, at(n)) for probe, n in readings)
    site.log.append([IntakeBatch(shard_of(GW), GW, EP, "7f3a9c21", seq, b"x", site.clock.at, "live", some)])


def test_each_reading_that_the_store_rejects_is_held_and_none_beside_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, behind and between readings of the same message that belong to nobody, and in messages without any."""
    real = site.telemetry.write_batch
    bad = {at(3), at(6), at(9)}

    def write_batch(
        samples: Sequence[StoredReading], positions: Mapping[Shard, int], marks: Mapping[Shard, str]
    ) -> None:
        reasons = {(sample.series, sample.at): "beyond" for sample in samples if sample.at in bad}
        real([sample for sample in samples if sample.at not in bad], {} if reasons else positions, marks)
        if reasons:
            raise SamplesRejected(reasons)

    monkeypatch.setattr(site.telemetry, "write_batch", write_batch)
    take(site, 1, ("208601", 1), ("208602", 2), ("208601", 3))
    take(site, 2, ("4711", 4), ("208602", 5), ("208601", 6), ("4711", 7), ("208602", 8), ("208601", 9), ("4711", 10))
    take(site, 3, ("208601", 11))
    site.collectors[0].store()
    assert site.telemetry.positions() == site.log.heads(), "the cursor moves once what was rejected is held"
    held = {(each.reason, each.reading.p, each.reading.at) for each in site.log.held()}
    assert held == {("rejected", "208601", each) for each in bad} | {
        ("unknown_probe", "4711", at(n)) for n in (4, 7, 10)
    }
    stored = [
        sample.at
        for series in (SeriesId(1), SeriesId(2))
        for sample in site.telemetry.range(series, Instant(0), at(99)).samples(series)
    ]
    assert stored == [at(n) for n in (1, 11, 2, 5, 8)]


def test_each_reading_is_stored_with_its_origin(site: Site) -> None:
    take(site, 1, ("208601", 1), ("4711", 2), ("4711", 3))
    other = tuple(StampedReading("208601", "t", at(n), Centi(400 + n), 64, at(n)) for n in (4, 5))
    site.log.append([IntakeBatch(shard_of(GW), GW, EP, "7f3a9c21", 2, b"x", site.clock.at, "backfill", other)])
    site.collectors[0].store()
    with site.change() as tx:
        add_probe(tx, "4711", GatewayId(1), None)
    site.collectors[0].store()
    stored = site.telemetry.multi_range([SeriesId(1), SeriesId(3)], Instant(0), at(99))
    assert [(sample.at, sample.q) for sample in stored[SeriesId(1)].samples(SeriesId(1))] == [
        (at(1), 0),
        *((at(n), Quality.BACKFILLED) for n in (4, 5)),
    ]
    assert [(sample.at, sample.q) for sample in stored[SeriesId(3)].samples(SeriesId(3))] == [
        (at(n), Quality.RELEASED) for n in (2, 3)
    ]


def test_a_backlog_of_one_shard_lets_no_other_wait_for_its_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_writer, "ENTRIES", 5)
    monkeypatch.setattr(telemetry_writer, "SAMPLES", 5)
    monkeypatch.setattr(telemetry_writer, "FEWEST", 5)
    other = next(GatewayNumber(str(n)) for n in range(20_000, 30_000) if shard_of(GatewayNumber(str(n))) > shard_of(GW))
    for seq in range(1, 21):
        take(site, seq, ("208601", seq))
    site.log.append([IntakeBatch(shard_of(other), other, EP, "7f3a9c21", 1, b"x", site.clock.at, "live", ())])
    writer = site.collectors[0].writer
    writer._refresh()
    for _ in range(2):
        assert writer._follow()
    stored = writer.stored()
    assert stored[shard_of(other)] == 1
    assert 0 < stored[shard_of(GW)] < 20


def test_a_back_fill_in_large_messages_is_stored_in_small_parts(site: Site) -> None:
    """431 000 readings of one gateway, 500 a message: what another sends meanwhile is stored with the next part."""
    other = next(GatewayNumber(str(n)) for n in range(20_000, 30_000) if shard_of(GatewayNumber(str(n))) > shard_of(GW))
    some = tuple(StampedReading("208601", "t", at(n / 100), Centi(400), 64, at(n / 100)) for n in range(500))
    for seq in range(1, 200):
        site.log.append([IntakeBatch(shard_of(GW), GW, EP, "7f3a9c21", seq, b"x", at(9), "backfill", some)])
    site.log.append([IntakeBatch(shard_of(other), other, EP, "7f3a9c21", 1, b"x", at(9), "live", ())])
    writer = site.collectors[0].writer
    writer._refresh()
    parts = []
    while writer._follow():
        stored = writer.stored()
        parts.append(stored[shard_of(GW)])
        assert len(parts) < 3 or stored[shard_of(other)] == 1
    sizes = [now - before for before, now in pairwise([0, *parts])]
    assert max(sizes) * 500 <= telemetry_writer.SAMPLES
    assert parts[-1] == 199


def test_a_write_that_still_runs_is_told_as_late(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may need several answers for one write: each may come in time, and the write be late all the same."""
    writer, write = site.collectors[0].writer, site.telemetry.write_batch
    found: list[tuple[float, list[TroubleKind]]] = []
    time_s = 0.0

    def write_slowly(
        samples: Sequence[StoredReading], positions: Mapping[Shard, int], marks: Mapping[Shard, str]
    ) -> None:
        nonlocal time_s
        for time_s in (telemetry_writer.LATE_S - 0.1, telemetry_writer.LATE_S):
            writer.report_slow_write()
            found.append((time_s, [trouble.kind for trouble in writer._counts.troubles()]))
        write(samples, positions, marks)

    monkeypatch.setattr(telemetry_writer, "monotonic", lambda: time_s)
    monkeypatch.setattr(site.telemetry, "write_batch", write_slowly)
    take(site, 1, ("208601", 500))
    site.collectors[0].store()
    assert found == [(telemetry_writer.LATE_S - 0.1, []), (telemetry_writer.LATE_S, [TroubleKind.LATE])]
