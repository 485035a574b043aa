"""A real InfluxDB: what it refuses, and what becomes of readings while it is ill, slow, killed or away."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from coldchain import telemetry_commands
from collector.counters import STORING, Counters
from collector.storing.telemetry_writer import READER, TelemetryWriter
from config.settings import RecordsSettings, TelemetrySettings
from core.db.engine import Records, connect
from core.devices.directory import Directory
from core.ids import Centi, SeriesId
from core.intake.port import IntakeBatch, StampedReading
from core.intake.sqlite import SqliteIntakeLog
from core.runtime.clock import clock_from, real_now
from core.runtime.instant import DAY, SECOND, Instant
from core.runtime.trouble import TroubleKind, kind_of
from core.telemetry import flux, port
from core.telemetry.factory import open_telemetry
from core.telemetry.influx import InfluxTelemetry
from core.telemetry.influx_cursor import InfluxCursor
from core.telemetry.port import ReadOnly, SamplesRejected, StoredReading, StoreReplaced
from core.units import device_revision
from core.wire.shards import GatewayNumber, Shard, shard_of
from tests.fixtures.broker import broker, settings_in
from tests.fixtures.collecting import receiving_and_storing
from tests.fixtures.county import add_gateway, add_probe, add_unit
from tests.fixtures.databases import fresh_url
from tests.fixtures.influx import Influxd, bucket_of, influx_at, operator_of, through, token_of_this_run
from tests.fixtures.influx_proxy import Proxy
from tests.fixtures.intake_logs import EP
from tests.fixtures.publisher import Gateway
from tests.fixtures.waiting import until

GW = GatewayNumber("10001")
SHARD = shard_of(GW)
EVER = (Instant(0), Instant(2**52))
LONG_AGO = Instant(1_300_000_000_000)
"""In 2011: a believable time, and older than a bucket of a year keeps."""
YEAR_S = 365 * 86_400


@contextmanager
def opened(settings: TelemetrySettings, token: str = "") -> Iterator[InfluxTelemetry]:
    store = InfluxTelemetry(settings, token or token_of_this_run())
    yield store
    store.close()


def good(count: int, series: int = 1) -> list[StoredReading]:
    now = real_now()
    return [StoredReading(SeriesId(series), Instant(now - n * SECOND), Centi(n), 0) for n in range(count)]


def stored(store: InfluxTelemetry, series: int = 1) -> list[StoredReading]:
    return sorted(store.range(SeriesId(series), *EVER).samples(SeriesId(series)), key=lambda each: -each.at)


def test_points_that_the_server_refuses_cost_no_others(tmp_path: Path) -> None:
    old = [StoredReading(SeriesId(2), Instant(LONG_AGO + n), Centi(n), 0) for n in (1, 2)]
    with opened(bucket_of(tmp_path, keep_s=YEAR_S)) as store:
        with pytest.raises(SamplesRejected) as told:
            store.write_batch([old[0], *good(500), old[1], *good(300, 3)], {})
        assert set(told.value.reasons) == {(each.series, each.at) for each in old}
        assert all("retention" in reason for reason in told.value.reasons.values())
        assert len(stored(store)) == 500
        assert len(stored(store, 3)) == 300
        assert stored(store, 2) == []


def test_a_thousand_that_are_all_refused_take_one_request(tmp_path: Path) -> None:
    settings = bucket_of(tmp_path, keep_s=YEAR_S)
    with Proxy(settings.url) as way, opened(through(settings, way.url)) as store:
        old = [StoredReading(SeriesId(2), Instant(LONG_AGO + n), Centi(n), 0) for n in range(1_000)]
        with pytest.raises(SamplesRejected) as told:
            store.write_batch(old, {})
        assert len(told.value.reasons) == 1_000
        assert way.seen["/api/v2/write"] == 1


def test_a_line_that_cannot_be_parsed_costs_no_others(tmp_path: Path) -> None:
    settings = bucket_of(tmp_path)
    with Proxy(settings.url) as way, opened(through(settings, way.url)) as store:
        way.fault = "garble"
        with pytest.raises(SamplesRejected) as told:
            store.write_batch([*good(100), *good(1, 13), *good(100, 14)], {})
        assert [series for series, _at in told.value.reasons] == [13]
        assert [len(stored(store, series)) for series in (1, 13, 14)] == [100, 0, 100]


def test_what_was_written_while_a_quality_had_eight_bits_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit 8 of the field said then, as it does now, that there is no value."""
    at = [Instant(LONG_AGO + n) for n in range(3)]
    older = f"reading,s=7 v=400i,q=192i {at[0]}\nreading,s=7 q=324i {at[1]}\nreading,s=7 v=1i,q=260i {at[2]}"
    with opened(bucket_of(tmp_path)) as store:
        with monkeypatch.context() as patched:
            patched.setattr(flux, "lines", lambda _: older.encode())
            store.write_batch(good(1), {})
        expected = [(at[0], 400, 192), (at[1], None, 68), (at[2], None, 4)]
        kept = store.range(SeriesId(7), *EVER).samples(SeriesId(7))
        assert [(each.at, each.value, each.q) for each in kept] == expected
        assert store.latest([SeriesId(7)]) == {SeriesId(7): StoredReading(SeriesId(7), at[2], None, 4)}


def test_nobody_but_the_server_can_make_a_point_be_given_up(tmp_path: Path) -> None:
    settings = bucket_of(tmp_path)
    with Proxy(settings.url) as way, opened(through(settings, way.url)) as store:
        way.fault = "blame"
        with pytest.raises(port.TelemetryUnavailable, match="ill"):
            store.write_batch(good(4), {})
        way.fault = ""
        store.write_batch(good(4), {})


@pytest.mark.parametrize("fault", ["500", "hang", "cut"])
def test_what_goes_wrong_on_the_way_is_told_as_such(tmp_path: Path, fault: str) -> None:
    settings = bucket_of(tmp_path)
    with Proxy(settings.url) as way, opened(through(settings, way.url, timeout=0.3)) as store:
        batch = good(10)
        way.fault = fault  # type: ignore[assignment]
        with pytest.raises(port.TelemetryUnavailable, match="InfluxDB"):
            store.write_batch(batch, {})
        with pytest.raises(port.TelemetryUnavailable, match="InfluxDB"):
            store.range(SeriesId(1), *EVER)
        way.fault = ""
        store.write_batch(batch, {})
        assert stored(store) == batch


def test_a_reader_may_not_write(tmp_path: Path) -> None:
    store = influx_at(tmp_path, read_only=True)
    with pytest.raises(ReadOnly):
        store.write_batch(good(1), {})
    with pytest.raises(ReadOnly):
        store.drop_before(Instant(0))
    store.close()


def test_retention_deletes_to_the_millisecond(tmp_path: Path) -> None:
    with opened(bucket_of(tmp_path)) as store:
        edge = LONG_AGO
        store.write_batch([StoredReading(SeriesId(1), Instant(edge + n), Centi(n), 0) for n in (-1, 0, 1)], {})
        store.drop_before(edge)
        assert [each.at - edge for each in stored(store)] == [1, 0]


class Line:
    """A log, records with two probes, and the writer between them and a store; its thread runs while `following`."""

    def __init__(self, folder: Path, records: Records) -> None:
        with records.write() as tx:
            device_revision.bump(tx)
            gateway = add_gateway(tx, GW, add_unit(tx, "Longtan"))
            for code in ("208601", "208602"):
                add_probe(tx, code, gateway, None)
        self.records = records
        self.folder = folder
        self.log = SqliteIntakeLog(folder / "intake.db")
        self.counts = Counters(STORING)
        self.sent: list[tuple[int, int]] = []
        self.began = real_now() - DAY

    def append(self, batches: int, at: Instant | None = None) -> None:
        """Append batches of a reading of each probe."""
        for _ in range(batches):
            seq = self.log.head(SHARD) + 1
            when = at or Instant(self.began + seq * SECOND)
            readings = tuple(StampedReading(code, "t", when, Centi(seq), 0, when) for code in ("208601", "208602"))
            self.log.append([IntakeBatch(SHARD, GW, EP, "7f3a9c21", seq, b"", when, "live", readings)])
            if not at:
                self.sent.append((when, seq))

    @contextmanager
    def following(self, store: InfluxTelemetry) -> Iterator[TelemetryWriter]:
        ends = (Shard("00"), Shard("ff"))
        directory = Directory(self.records)
        writer = TelemetryWriter(self.log, store, directory, clock_from(""), self.counts, shards=ends)
        stop = threading.Event()
        thread = threading.Thread(target=writer.run, args=(stop,))
        thread.start()
        try:
            yield writer
        finally:
            stop.set()
            writer.wake()
            thread.join(10)
            assert not thread.is_alive()

    def arrived(self, store: InfluxTelemetry) -> bool:
        """Whether the cursor is at the head, and the store has each reading once, with its value."""
        try:
            if store.positions().get(SHARD) != self.log.head(SHARD):
                return False
        except port.TelemetryUnavailable:  # the server is still coming up
            return False
        for series in (SeriesId(1), SeriesId(2)):
            there = [(each.at, each.value) for each in store.range(series, *EVER).samples(series)]
            assert there == self.sent, f"{len(there)} of {len(self.sent)} readings"
        return True


@pytest.fixture
def line(tmp_path: Path, sqlite_records: Records) -> Iterator[Line]:
    line = Line(tmp_path, sqlite_records)
    yield line
    line.log.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Influxd]:
    """A server of this test's own, to be killed."""
    folder = tmp_path / "influxd"
    folder.mkdir()
    server = Influxd(folder).start()
    yield server
    server.kill()


def test_the_writer_holds_what_the_store_refuses_and_goes_on(tmp_path: Path, line: Line) -> None:
    with opened(bucket_of(tmp_path, keep_s=YEAR_S)) as store:
        line.append(3)
        line.append(1, at=LONG_AGO)
        line.append(3)
        with line.following(store):
            until(lambda: line.arrived(store), "the good ones in telemetry")
        held = line.log.held(reason="rejected")
        assert [(each.reading.p, each.reading.at) for each in held] == [("208601", LONG_AGO), ("208602", LONG_AGO)]
        assert all("retention" in each.detail for each in held)
        assert line.counts.facts()["stored"] == 12
        assert line.counts.facts()["held"] == 2
        line.log.release([held[0].id], now=real_now())
        with line.following(store):
            until(lambda: len(line.log.held(reason="rejected")) == 2, "it to be refused again")


def test_the_cursor_moves_after_the_write_and_a_crash_between_doubles_nothing(
    tmp_path: Path, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[int] = []
    move = InfluxCursor.move

    def crashing(cursor: InfluxCursor, positions: Mapping[Shard, int], marks: Mapping[Shard, str]) -> None:
        assert len(store.range(SeriesId(1), *EVER)) == len(line.sent), "the cursor moved before the write"
        moved.append(len(moved))
        if len(moved) <= 2:
            msg = "killed here"
            raise port.TelemetryUnavailable(msg)
        move(cursor, positions, marks)

    monkeypatch.setattr(InfluxCursor, "move", crashing)
    with opened(bucket_of(tmp_path)) as store:
        line.append(5)
        with line.following(store):
            until(lambda: line.arrived(store), "all in telemetry, once")
        assert len(moved) == 3
        # A new process begins where the store says, and has nothing to do.
        with line.following(store) as writer:
            until(writer.is_idle, "the head")
        assert line.counts.facts()["stored"] == 10


def test_while_the_server_is_away_the_log_keeps_everything(line: Line, own: Influxd) -> None:
    token = operator_of(own)
    with opened(through(own.settings("unused"), own.url, timeout=2), token) as store:
        line.append(2)
        with line.following(store) as writer:
            until(lambda: line.arrived(store) and writer.lag() == 0, "the first in telemetry")
            writer.mirror()
            own.kill()
            line.append(30)
            writer.wake()
            until(lambda: "InfluxDB" in str(line.counts.facts()["problem"]), "the problem to be told")
            assert writer.lag() == 30
            assert not writer.is_idle()
            assert line.log.prune(before=Instant(2**52), readers=[READER]) == 2
            own.start()
            until(lambda: line.arrived(store), "the rest in telemetry")
            until(lambda: line.counts.facts()["problem"] == "", "the problem to be over")
            assert writer.lag() == 0


def test_a_server_killed_while_it_writes_loses_nothing_it_confirmed(line: Line, own: Influxd) -> None:
    token = operator_of(own)
    with opened(through(own.settings("unused"), own.url, timeout=2), token) as store, line.following(store) as writer:
        for kill in range(3):
            behind = line.counts.facts()["stored"]
            feeding = threading.Thread(target=line.append, args=(400,))
            feeding.start()
            until(lambda: line.counts.facts()["stored"] != behind, "some of it to be stored")  # noqa: B023  (used at once)
            writer.wake()
            own.kill()
            feeding.join()
            own.start()
            writer.wake()
            until(lambda: line.arrived(store), f"all in telemetry after kill {kill + 1}")


def test_a_server_that_answers_late_or_wrongly_loses_nothing(tmp_path: Path, line: Line) -> None:
    settings = bucket_of(tmp_path)
    with Proxy(settings.url) as way, opened(settings) as direct:
        with opened(through(settings, way.url, timeout=0.3)) as store, line.following(store) as writer:
            line.append(1)
            until(lambda: line.arrived(direct), "the first in telemetry")  # the cursor has been read
            for fault in ("500", "cut", "hang", "blame"):
                way.fault = fault  # type: ignore[assignment]
                before = way.seen["/api/v2/write"]
                line.append(20)
                writer.wake()
                until(lambda: way.seen["/api/v2/write"] > before + 1, "it to be tried again")  # noqa: B023  (used at once)
                way.fault = ""
                until(lambda: line.arrived(direct), f"all in telemetry after {fault}")
        assert line.log.held() == []


def test_the_writer_itself_stores_there_and_others_read_with_a_token_of_theirs(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(
        settings_in(tmp_path, "10001"),
        records=RecordsSettings(url=fresh_url("sqlite", tmp_path)),
        telemetry=bucket_of(tmp_path),
    )
    assert telemetry_commands.init(settings, token_of_this_run())[0] == 0
    records = Records(connect(settings.records.url))
    with records.write() as tx:
        device_revision.bump(tx)
        add_probe(tx, "208601", add_gateway(tx, GW, add_unit(tx, "Longtan")), None)
    records.close()
    with broker(settings), receiving_and_storing(settings), Gateway(settings) as gateway:
        gateway.send_until_covered(range(1, 21))
        reader = open_telemetry(settings, read_only=True)
        until(lambda: len(reader.range(SeriesId(1), *EVER)) == 20, "all in telemetry")
        until(lambda: reader.positions() == {SHARD: 20}, "the cursor, which is written behind the readings")
        reader.close()
        log = SqliteIntakeLog(tmp_path / "intake.db")
        until(lambda: log.cursor(READER) == {SHARD: 20}, "the log to know it too")
        log.close()


def test_a_cursor_that_moves_on_after_the_clock_was_set_back_and_the_log_renamed_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(bucket_of(tmp_path)) as store:
        ahead = Instant(real_now() + 5 * 3_600_000)
        monkeypatch.setattr("core.telemetry.influx_cursor.real_now", lambda: ahead)
        store.write_batch(good(1), {SHARD: 10}, {SHARD: "before/"})
        monkeypatch.undo()
        store.write_batch(good(1), {SHARD: 11}, {SHARD: "after/"})
        assert store.cursor() == {SHARD: (11, "after/")}


def test_a_bucket_that_was_emptied_under_a_writer_is_noticed_before_the_cursor_hides_it(tmp_path: Path) -> None:
    bucket = bucket_of(tmp_path)
    with opened(bucket) as store, opened(bucket) as other:
        store.write_batch(good(1), {SHARD: 1}, {SHARD: "name/"})
        store.write_batch(good(2), {SHARD: 2}, {SHARD: "name/"})
        other.place_cursor({}, {})
        for _ in range(2):
            with pytest.raises(StoreReplaced) as noticed:
                store.write_batch(good(3), {SHARD: 3}, {SHARD: "name/"})
            assert kind_of(noticed.value) is TroubleKind.PUT_BACK
        assert store.cursor() == {}
        assert store.positions() == {}
        store.write_batch(good(3), {SHARD: 1}, {SHARD: "name/"})
        assert store.cursor() == {SHARD: (1, "name/")}, "less than before is written once it is read again"
