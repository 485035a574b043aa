"""The embedded store under what only it suffers: rotten bytes, crashes between transactions, files of the future."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config import secrets
from config.settings import Settings, TelemetrySettings
from config.settings_loader import InvalidSetting
from core.ids import Centi, SeriesId
from core.runtime.instant import DAY, HOUR, MINUTE, Instant
from core.telemetry import hour_sealing
from core.telemetry.codec import Damaged
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.embedded_file import Closed, NewerFile
from core.telemetry.factory import open_telemetry
from core.telemetry.hot_file import HotFile
from core.telemetry.port import ReadOnly, StoredReading
from core.wire.shards import Shard

START = Instant(1_700_000_000_000 // DAY * DAY + 2 * HOUR)
EVER = (Instant(0), Instant(2**53))
LATER = Instant(START + 10 * HOUR)
"""The hours are over, the day isn't."""


def samples(series: int, hours: int, *, plus: int = 0) -> list[StoredReading]:
    return [
        StoredReading(SeriesId(series), Instant(START + n * MINUTE), Centi(n % 50 + series + plus), 0)
        for n in range(hours * 60)
    ]


def answers(store: EmbeddedTelemetry) -> list[list[float]]:
    every = [SeriesId(n) for n in range(1, 6)]
    return [curve.value.tolist() for curve in store.multi_range(every, *EVER).values()]


@contextlib.contextmanager
def file_of(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(folder / "hot.db", isolation_level=None)) as db:
        yield db


def test_damaged_bytes_are_found_and_never_handed_out(tmp_path: Path) -> None:
    store = EmbeddedTelemetry(tmp_path)
    store.write_batch(samples(1, 2) + samples(2, 2), {})
    store.seal(LATER)
    store.write_batch(samples(3, 1), {})
    sound = store.verify()
    assert (sound.frames, sound.hours, sound.readings, sound.damage) == (1, 4, 300, [])
    with file_of(tmp_path) as db:
        key, data = db.execute("SELECT min(key), data FROM hour_block").fetchone()
        for place in range(len(data)):
            rotten = data[:place] + bytes((data[place] ^ 0x10,)) + data[place + 1 :]
            db.execute("UPDATE hour_block SET data = ? WHERE key = ?", (rotten, key))
            with pytest.raises(Damaged, match="series 1"):
                store.range(SeriesId(1), *EVER)
        db.execute("UPDATE frame SET data = substr(data, 1, length(data) - 1)")
    assert len(store.range(SeriesId(2), Instant(START + HOUR), Instant(START + 2 * HOUR))) == 60
    found = EmbeddedTelemetry(tmp_path, read_only=True).verify()
    assert (found.frames, found.hours, found.readings, len(found.damage)) == (1, 4, 180, 2)
    assert str(key) in found.damage[1]


def test_a_block_in_anothers_place_is_damage(tmp_path: Path) -> None:
    store = EmbeddedTelemetry(tmp_path)
    store.write_batch(samples(1, 1), {})
    store.seal(LATER)
    with file_of(tmp_path) as db:
        db.execute("UPDATE hour_block SET key = key + 1")
    with pytest.raises(Damaged):
        store.range(SeriesId(2), *EVER)


def test_a_damaged_hour_is_kept_as_it_is_and_the_others_are_sealed(tmp_path: Path) -> None:
    store = EmbeddedTelemetry(tmp_path)
    for series in (1, 2):
        store.write_batch(samples(series, 3), {})
    with file_of(tmp_path) as db:
        (wrong,) = db.execute("SELECT id FROM frame WHERE hour = ?", (START // HOUR + 1,)).fetchone()
        db.execute("UPDATE frame SET data = zeroblob(40) WHERE id = ?", (wrong,))
        store.seal(LATER)
        assert db.execute("SELECT count(*), count(DISTINCT hour) FROM frame").fetchone() == (2, 1)
        assert db.execute("SELECT count(*) FROM hour_block").fetchone() == (4,)


@pytest.mark.parametrize("survives", range(1, 8))
def test_a_crash_between_any_two_transactions_of_sealing_changes_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survives: int
) -> None:
    """The process ends after `survives` transactions; what is late comes before the next one seals again."""
    monkeypatch.setattr(hour_sealing, "CHUNK", 2)
    monkeypatch.setattr(hour_sealing, "PAUSE_S", 0)
    store = EmbeddedTelemetry(tmp_path)
    for series in range(1, 6):
        store.write_batch(samples(series, 2), {})
    store.seal(Instant(START + HOUR))
    for series in range(1, 6):
        store.write_batch(samples(series, 1, plus=500)[:30], {})
    expected = answers(store)
    real = hour_sealing._write
    left = survives

    def dies(hot: HotFile, waiting: list[hour_sealing._Step]) -> None:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        real(hot, waiting)

    monkeypatch.setattr(hour_sealing, "_write", dies)
    with contextlib.suppress(KeyboardInterrupt):
        store.seal(LATER)
    monkeypatch.setattr(hour_sealing, "_write", real)
    store.close()

    store = EmbeddedTelemetry(tmp_path)
    assert answers(store) == expected
    store.write_batch(samples(4, 1, plus=900)[10:20], {})
    expected[3][10:20] = [each + 900 - 500 for each in expected[3][10:20]]
    assert answers(store) == expected
    store.seal(LATER)
    assert answers(store) == expected
    assert store.verify().frames == 0


def test_what_comes_while_its_hour_is_being_sealed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = EmbeddedTelemetry(tmp_path)
    store.write_batch(samples(1, 1), {})
    real = hour_sealing._write

    def late(hot: HotFile, waiting: list[hour_sealing._Step]) -> None:
        store.write_batch(samples(1, 1, plus=100)[:5] + samples(2, 1), {})
        real(hot, waiting)

    monkeypatch.setattr(hour_sealing, "_write", late)
    store.seal(LATER)
    monkeypatch.setattr(hour_sealing, "_write", real)
    expected = answers(store)
    assert expected[0][:6] == [101, 102, 103, 104, 105, 6]
    assert len(expected[1]) == 60
    store.seal(LATER)
    assert answers(store) == expected


def test_only_one_seals_at_a_time(tmp_path: Path) -> None:
    store, other = EmbeddedTelemetry(tmp_path), EmbeddedTelemetry(tmp_path)
    store.write_batch(samples(1, 1), {})
    with hour_sealing.only_sealer(tmp_path, wait=True):
        other.seal(LATER)
        assert store.verify().frames == 1
    other.seal(LATER)
    assert store.verify().frames == 0


def test_a_reader_may_come_before_the_writer(tmp_path: Path) -> None:
    reader = EmbeddedTelemetry(tmp_path / "telemetry", read_only=True)
    assert not reader.positions()
    assert len(reader.range(SeriesId(1), *EVER)) == 0
    assert reader.latest([SeriesId(1)]) == {}
    assert not (tmp_path / "telemetry").exists()
    writer = EmbeddedTelemetry(tmp_path / "telemetry")
    writer.write_batch(samples(1, 1), {Shard("00"): 1})
    assert len(reader.range(SeriesId(1), *EVER)) == 60
    writer.close()
    late_reader = EmbeddedTelemetry(tmp_path / "telemetry", read_only=True)
    assert late_reader.positions() == reader.positions() == {"00": 1}


def test_a_reader_does_not_write(tmp_path: Path) -> None:
    EmbeddedTelemetry(tmp_path).close()
    reader = EmbeddedTelemetry(tmp_path, read_only=True)
    with pytest.raises(ReadOnly):
        reader.write_batch(samples(1, 1), {})
    with pytest.raises(ReadOnly):
        reader.seal(LATER)
    with pytest.raises(ReadOnly):
        reader.drop_before(LATER)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = EmbeddedTelemetry(tmp_path)
    store.write_batch(samples(1, 1), {})
    store.close()
    for ask in (store.positions, lambda: store.range(SeriesId(1), *EVER), lambda: store.write_batch([], {})):
        with pytest.raises(Closed, match=r"hot\.db was closed"):
            ask()


def test_what_a_failing_disk_says_is_told_though_the_transaction_has_ended(tmp_path: Path) -> None:
    hot = HotFile(tmp_path / "hot.db", read_only=False)

    def fail() -> None:
        with hot.read() as db:
            assert db is not None
            db.execute("ROLLBACK")  # as SQLite does itself
            msg = "disk I/O error"
            raise sqlite3.OperationalError(msg)

    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="disk I/O error"):
            fail()
    hot.close()


def test_a_file_of_a_newer_coldchain_is_refused(tmp_path: Path) -> None:
    EmbeddedTelemetry(tmp_path).close()
    with file_of(tmp_path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(NewerFile, match="version 99"):
        EmbeddedTelemetry(tmp_path)
    with pytest.raises(NewerFile, match="version 99"):
        EmbeddedTelemetry(tmp_path, read_only=True).positions()


def test_many_may_make_the_file_at_once(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def begin(n: int) -> None:
        start.wait()
        store = EmbeddedTelemetry(tmp_path)
        store.write_batch(samples(n, 1), {})
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(1, 9)))
    assert EmbeddedTelemetry(tmp_path).verify().readings == 8 * 60


def test_threads_share_a_store(tmp_path: Path) -> None:
    store = EmbeddedTelemetry(tmp_path)
    ended = threading.Event()

    def look() -> int:
        seen = 0
        while not ended.is_set():
            lengths = {len(curve) for curve in store.multi_range([SeriesId(1), SeriesId(2)], *EVER).values()}
            assert len(lengths) == 1
            assert max(lengths) >= seen
            seen = max(lengths)
        return seen

    with ThreadPoolExecutor(4) as pool:
        looks = [pool.submit(look) for _ in range(3)]
        for first in range(0, 240, 8):
            store.write_batch(samples(1, 4)[first : first + 8] + samples(2, 4)[first : first + 8], {})
            store.seal(Instant(START + first * MINUTE))
        ended.set()
        assert all(look.result() <= 240 for look in looks)
    assert len(store.range(SeriesId(1), *EVER)) == 240


def test_without_its_cursor_no_data_is_stored(tmp_path: Path) -> None:
    """One commit for both: a cursor that can't be written takes the readings of its batch with it."""
    store = EmbeddedTelemetry(tmp_path)
    with pytest.raises(OverflowError):
        store.write_batch(samples(1, 1), {Shard("00"): 1, Shard("01"): 2**63})
    assert (store.positions(), len(store.range(SeriesId(1), *EVER))) == ({}, 0)
    store.write_batch(samples(1, 1), {Shard("00"): 1})
    assert (store.positions(), len(store.range(SeriesId(1), *EVER))) == ({"00": 1}, 60)


def test_commits_are_durable_ones(tmp_path: Path) -> None:
    store = EmbeddedTelemetry(tmp_path)
    with store._hot.write() as tx:
        assert tx.execute("PRAGMA synchronous").fetchone() == (2,)
        assert tx.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_the_settings_name_the_store(tmp_path: Path) -> None:
    store = open_telemetry(Settings(data_dir=str(tmp_path)))
    store.write_batch(samples(1, 1), {})
    assert (tmp_path / "telemetry" / "hot.db").exists()
    assert len(open_telemetry(Settings(data_dir=str(tmp_path)), read_only=True).range(SeriesId(1), *EVER)) == 60
    elsewhere = Settings(data_dir=str(tmp_path), telemetry=TelemetrySettings(folder=str(tmp_path / "there")))
    open_telemetry(elsewhere)
    assert (tmp_path / "there" / "hot.db").exists()
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    with pytest.raises(InvalidSetting, match=r"no influx_write in .* coldchain telemetry init"):
        open_telemetry(Settings(data_dir=str(tmp_path), telemetry=TelemetrySettings(store="influxdb")))
