"""The collector between real ones: embedded broker, SQLite log, embedded telemetry, migrated records."""

import json
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import collector.service
from config.settings import RecordsSettings
from core.db.engine import Records, connect
from core.devices.tables import MaintenanceWindow
from core.ids import SeriesId
from core.migrations.migrate import upgrade
from core.runtime.barrier import Barrier
from core.runtime.clock import ClockKeeper
from core.runtime.instant import Instant
from core.units import device_revision
from core.wire.messages import ClockReport, Reading
from core.wire.shards import shard_of
from core.wire.topics import MessageKind, Topic, wake_topic
from tests.fixtures.broker import BROKERS, Client, broker, running
from tests.fixtures.collecting import NOW, Line, add_county, collecting, line_in, receiving_and_storing
from tests.fixtures.county import add_probe
from tests.fixtures.databases import empty_url
from tests.fixtures.publisher import T0, Gateway
from tests.fixtures.waiting import until


@pytest.fixture(params=BROKERS)
def line(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Line]:
    with line_in(tmp_path, request.param) as line:
        yield line


@pytest.fixture(autouse=True)
def _quick_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.runtime.status.EVERY_S", 0.02)


def test_a_batch_is_stored_acknowledged_and_announced(line: Line) -> None:
    with collecting(line), Client(line.settings, None, "cc/v1/wake/#") as alerting, Gateway(line.settings) as gateway:
        alerting.connected()
        gateway.say(gateway.batch(1))
        gateway.acknowledged(1)
        until(lambda: line.stored() == [(T0 + 1000, 410)], "telemetry")
        until(lambda: wake_topic(shard_of(gateway.number)) in {message.topic for message in alerting.heard}, "wake")
        assert line.seqs() == [1]


def test_order_holes_duplicates_and_losses_are_acknowledged_as_they_are(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        for seq in (3, 5):
            gateway.say(gateway.batch(seq))
        gateway.acknowledged(0, [(3, 3), (5, 5)])
        gateway.say(gateway.batch(6, lost=[(1, 2)]), MessageKind.BACKFILL)
        gateway.acknowledged(3, [(5, 6)])
        heard = len(gateway.messages())
        gateway.say(gateway.batch(5))
        until(lambda: len(gateway.messages()) > heard, "an ack for the duplicate")
        gateway.say(gateway.batch(4), retain=True)
        gateway.acknowledged(6)
        heard = len(gateway.messages())
        gateway.say(gateway.birth(), MessageKind.BIRTH, retain=True)
        until(lambda: len(gateway.messages()) > heard, "an ack for the birth")
        assert sorted(line.seqs()) == [3, 4, 5, 6]
        until(lambda: line.facts().get("duplicates") == 1 and line.facts().get("lost") == 2, "counts")


def test_a_clone_gets_no_answer_and_is_counted(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1))
        gateway.acknowledged(1)
        heard = len(gateway.messages())
        gateway.say(gateway.batch(1, Reading("208601", T0, 9.9)))
        until(lambda: line.facts().get("clones") == 1, "count")
        gateway.say(gateway.batch(2))
        gateway.acknowledged(2)
        assert len(gateway.messages()) == heard + 1
        until(lambda: len(line.stored()) == 2, "telemetry")
        assert 990 not in {value for _at, value in line.stored()}


def test_what_cannot_be_read_is_kept_and_stops_nothing(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        garbage = [b"", b"\xff\x00", b"{}", b"[" * 10_000, gateway.batch(1)[:30], b"x" * 70_000]
        for body in garbage:
            gateway.say(body)
        gateway.bus.publish(str(Topic(gateway.number, MessageKind.DATA)) + "/deeper", b"x")
        wrong = json.loads(gateway.batch(2))
        wrong["r"] = []
        gateway.say(json.dumps(wrong).encode())
        gateway.say(gateway.batch(3))
        gateway.say(b"", MessageKind.STATE, retain=True)
        gateway.acknowledged(0, [(2, 3)])
        letters = line.log.dead_letters()
        assert [letter.body for letter in letters[: len(garbage)]] == [body[:65_536] for body in garbage]
        assert ["$.r" in letter.reason for letter in letters] == [False] * 7 + [True]
        assert line.seqs() == [3]


def test_readings_that_nobody_knows_wait_in_quarantine_until_the_records_do(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway, Gateway(line.settings, "10002") as other:
        gateway.say(gateway.batch(1, Reading("208601", T0, 4.0), Reading("208699", T0, 5.0)))
        other.say(other.batch(1, Reading("208601", T0 + 1, 66.6)))
        gateway.acknowledged(1)
        other.acknowledged(1)
        until(lambda: sorted(line.held()) == [("208601", "foreign_gateway"), ("208699", "unknown_probe")], "quarantine")
        with line.records.write() as tx:
            device_revision.bump(tx)
            add_probe(tx, "208699", 1, None)  # type: ignore[arg-type]
        until(lambda: line.stored(SeriesId(2)) == [(T0, 500)], "the released reading")
        assert line.held() == [("208601", "foreign_gateway")]
        assert line.stored() == [(T0, 400)]


def test_a_new_quantity_of_a_known_probe_gets_its_series(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1, Reading("208601", T0, k="h", v=55.1)))
        until(lambda: line.stored(SeriesId(2)) == [(T0, 5510)], "humidity")
        assert line.held() == []


@pytest.mark.req("CC-19")
def test_readings_of_a_stopped_equipment_are_kept_apart_and_its_history_stays(line: Line) -> None:
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1))
        until(lambda: line.stored() == [(T0 + 1000, 410)], "reading before the stop")
        with line.records.write() as tx:
            device_revision.bump(tx)
            tx.add(MaintenanceWindow(equipment_id=1, kind="stopped", since=T0 + 2000, until=T0 + 4000))
        for seq in (2, 3, 4):
            gateway.say(gateway.batch(seq))
        until(lambda: len(line.stored()) == 2, "reading after the stop")
        assert [at for at, _value in line.stored()] == [T0 + 1000, T0 + 4000]
        assert line.held() == [("208601", "stopped_equipment")] * 2
        with line.records.write() as tx:
            device_revision.bump(tx)
        gateway.say(gateway.batch(5))
        until(lambda: len(line.stored()) == 3, "a later reading")
        assert line.held() == [("208601", "stopped_equipment")] * 2, "no change of the records releases them"


def test_readings_of_an_unset_clock_are_released_when_the_boots_offset_is_known(line: Line) -> None:
    unset = ClockReport("none", None, 5_000)
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1, Reading("208601", 4_000, 4.0, 32), sent=5_000, clk=unset))
        gateway.say(gateway.batch(2, Reading("208601", 4_000, 9.0, 32), sent=5_000, clk=unset, boot="00000000"))
        gateway.acknowledged(2)
        assert line.held() == [("208601", "unset_clock")] * 2
    with collecting(line), Gateway(line.settings) as gateway:  # the collector has been restarted meanwhile
        gateway.say(gateway.batch(3, clk=ClockReport("ntp", T0, 9_000)))
        until(lambda: line.stored() == [(T0 + 3000, 430), (T0 + 4000, 400)], "the released reading")
        assert [(held.boot, held.reason) for held in line.log.held()] == [("00000000", "unset_clock")]


def test_a_batch_from_the_future_is_stored_at_its_receipt(line: Line) -> None:
    ahead = NOW + 86_400_000
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1, Reading("208601", ahead - 500, 4.0), sent=ahead))
        until(lambda: line.stored() == [(NOW - 500, 400)], "telemetry")
        (entry,) = line.log.read(shard_of(gateway.number), 0, 10)
        assert (entry.batch.shifted, entry.batch.readings[0].ts) == (86_400_000, ahead - 500)


def test_it_comes_up_before_broker_and_records_and_loses_nothing(line: Line, tmp_path: Path) -> None:
    url = empty_url("sqlite", tmp_path)
    settings = msgspec.structs.replace(line.settings, records=RecordsSettings(url=url))
    with receiving_and_storing(settings):
        until(lambda: "no broker" in str(line.facts().get("problem")), "its complaint")
        with broker(settings), Gateway(settings) as gateway:
            gateway.send_until_covered(range(1, 4))
            assert sorted(line.seqs()) == [1, 2, 3]
            until(lambda: "no such table" in str(line.facts("writer").get("problem")), "its complaint")
            late = Records(connect(url))
            upgrade(late.engine)
            add_county(late)
            late.close()
            until(lambda: len(line.stored()) == 3, "telemetry once the records are there", within_s=15)
            for service in ("collector", "writer"):
                until(lambda: line.facts(service).get("problem") == "", "no more complaint")  # noqa: B023  (used at once)


def test_a_broker_that_dies_is_found_again(line: Line) -> None:
    with running(collector.service.run, line.settings):
        for seqs in (range(1, 10), range(10, 20)):
            with broker(line.settings), Gateway(line.settings) as gateway:
                gateway.send_until_covered(seqs)
    assert sorted(line.seqs()) == list(range(1, 20))


def test_while_the_log_is_locked_nothing_is_acknowledged_and_then_all_is(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.intake.sqlite_file.BUSY_S", 0.05)
    with collecting(line), Gateway(line.settings) as gateway:
        thief = sqlite3.connect(line.folder / "intake.db", isolation_level=None)
        thief.execute("BEGIN IMMEDIATE")
        for seq in range(1, 6):
            gateway.say(gateway.batch(seq))
        until(lambda: "locked" in str(line.facts().get("problem")), "its complaint")
        assert gateway.covered() == set()
        thief.execute("ROLLBACK")
        thief.close()
        gateway.acknowledged(5)
        until(lambda: line.facts().get("problem") == "", "no more complaint")
        assert line.seqs() == [1, 2, 3, 4, 5]


def test_a_full_disk_stops_the_acks_and_nothing_else(line: Line) -> None:
    """A limit on the size of files fails a write as a full disk does; only the log's is as large as that."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with collecting(line), Gateway(line.settings) as gateway:
        gateway.say(gateway.batch(1))
        gateway.acknowledged(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        try:
            readings = [Reading(f"{number:06}", T0, 4.0) for number in range(500)]
            for seq in range(2, 30):
                gateway.say(gateway.batch(seq, *readings))
            until(lambda: "intake.db" in str(line.facts().get("problem")), "its complaint")
            stored = {seq for seq in range(2, 30) if seq in gateway.covered()}
            assert len(stored) < 28
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        gateway.acknowledged(29)
        assert line.seqs() == list(range(1, 30))
        until(lambda: "intake.db" not in str(line.facts().get("problem")), "no more complaint")


def test_idle_is_told_to_the_keeper_of_a_stepped_clock(line: Line) -> None:
    clock = ClockKeeper(Path(line.settings.virtual_clock), start=Instant(NOW), speed=0)
    with collecting(line), Gateway(line.settings) as gateway:
        step = clock.step_to(Instant(NOW + 60_000))
        gateway.say(gateway.batch(1))
        gateway.acknowledged(1)
        Barrier(Path(line.settings.virtual_clock)).wait(["collector", "writer"], step)
        assert line.stored() == [(T0 + 1000, 410)]


def test_a_collector_of_other_shards_leaves_this_gateway_alone(line: Line) -> None:
    mine = shard_of(Gateway(line.settings).number)
    others = "00-0f" if mine > "0f" else "10-ff"
    settings = msgspec.structs.replace(
        line.settings, collector=msgspec.structs.replace(line.settings.collector, shards=others)
    )
    with collecting(line, settings), Gateway(settings) as gateway:
        gateway.say(gateway.batch(1))
        with Client(settings, None) as anybody:
            anybody.connected()
        until(lambda: line.facts().get("received") == 0, "silence")
        assert line.seqs() == []
