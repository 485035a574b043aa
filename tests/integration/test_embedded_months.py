"""Month files of the embedded store: damage, other versions, retention under readers."""

import os
from pathlib import Path

import pytest

from core.ids import Centi, SeriesId
from core.runtime.instant import DAY, Instant
from core.telemetry.codec import Damaged
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.embedded_file import NewerFile
from core.telemetry.month_files import MonthFiles
from core.telemetry.port import StoredReading
from tests.fixtures.embedded import EVER, LATER, SERIES, START, counted, files, opened, samples

pytestmark = pytest.mark.usefixtures("small_measures")


def three_months(folder: Path) -> EmbeddedTelemetry:
    store = EmbeddedTelemetry(folder)
    for series in SERIES:
        store.write_batch(samples(series, 40, step=60), {})
    store.seal(LATER)
    assert files(folder) == ["202512.db", "202601.db", "202602.db"]
    return store


def test_damaged_bytes_are_named_with_file_day_and_series(tmp_path: Path) -> None:
    store = three_months(tmp_path)
    with opened(tmp_path / "202601.db") as db:
        key, data = db.execute("SELECT key, data FROM block ORDER BY key LIMIT 1 OFFSET 12").fetchone()
        assert key & 0xFFFFFF == 3
        db.execute("UPDATE block SET data = ? WHERE key = ?", (data[:-9] + b"\x00" + data[-8:], key))
    with pytest.raises(Damaged, match="series 3"):
        store.range(SeriesId(3), *EVER)
    assert len(store.range(SeriesId(2), *EVER)) == 40 * 24
    (damage,) = EmbeddedTelemetry(tmp_path, read_only=True).verify().damage
    assert "202601.db, day 2026-01-03" in damage
    assert "series 3" in damage


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size * 2 // 3 // 4096 * 4096)


def emptied(file: Path) -> None:
    os.truncate(file, 0)


def overwritten(file: Path) -> None:
    file.write_bytes(b"\x55" * file.stat().st_size)


@pytest.mark.parametrize(
    "harm", [cut, *(pytest.param(harm, marks=pytest.mark.long) for harm in (emptied, overwritten))]
)
def test_a_broken_month_is_told_and_the_others_go_on(tmp_path: Path, harm: object) -> None:
    three_months(tmp_path).close()
    assert callable(harm)
    harm(tmp_path / "202601.db")
    store = EmbeddedTelemetry(tmp_path)
    with pytest.raises(Damaged, match=r"202601\.db"):
        store.range(SeriesId(1), *EVER)
    december = store.range(SeriesId(1), START, Instant(START + 2 * DAY))
    assert len(december) == 48
    found = store.verify()
    assert found.damage
    assert all("202601.db" in each for each in found.damage)
    assert found.readings >= 5 * 24 * (2 + 7)

    # Late readings of the broken month wait in hot.db, those of another are sealed, nothing is overwritten.
    late = [StoredReading(SeriesId(1), Instant(START + days * DAY + 5), Centi(1), 0) for days in (0, 20)]
    store.write_batch(late, {})
    store.seal(LATER)
    assert len(store.range(SeriesId(1), START, Instant(START + 2 * DAY))) == 49
    if harm is not cut:
        assert counted(tmp_path / "hot.db", "hour_block") == 1


def test_a_month_of_a_newer_coldchain_is_refused(tmp_path: Path) -> None:
    store = three_months(tmp_path)
    store.close()
    with opened(tmp_path / "202601.db") as db:
        db.execute("PRAGMA user_version = 99")
    store = EmbeddedTelemetry(tmp_path)
    with pytest.raises(NewerFile, match=r"202601\.db has version 99"):
        store.range(SeriesId(1), *EVER)
    with pytest.raises(NewerFile):
        store.verify()
    assert len(store.range(SeriesId(1), START, Instant(START + 2 * DAY))) == 48
    store.write_batch([StoredReading(SeriesId(1), Instant(START + 20 * DAY + 5), Centi(1), 0)], {})
    store.seal(LATER)
    assert counted(tmp_path / "hot.db", "hour_block") == 1


def test_retention_deletes_months_under_readers_and_they_may_come_again(tmp_path: Path) -> None:
    store, reader = three_months(tmp_path), EmbeddedTelemetry(tmp_path, read_only=True)
    assert len(reader.range(SeriesId(1), *EVER)) == 40 * 24
    store.drop_before(Instant(START + 20 * DAY))
    assert files(tmp_path) == ["202601.db", "202602.db"]
    assert len(reader.range(SeriesId(1), *EVER)) == 38 * 24
    store.drop_before(Instant(START + 39 * DAY))
    assert [path.name for path in tmp_path.glob("2025*")] == [path.name for path in tmp_path.glob("202601*")] == []
    back = samples(1, 1)
    store.write_batch(back, {})
    store.seal(LATER)
    assert list(reader.range(SeriesId(1), START, Instant(START + DAY)).samples(SeriesId(1))) == back
    reader.close()
    store.close()


def test_a_month_that_is_deleted_while_somebody_opens_it_is_gone_and_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, reader = three_months(tmp_path), EmbeddedTelemetry(tmp_path, read_only=True)
    real = MonthFiles._reader

    def slowly(self: MonthFiles, month: int) -> object:
        found = real(self, month)
        store.drop_before(Instant(START + 20 * DAY))
        return found

    monkeypatch.setattr(MonthFiles, "_reader", slowly)
    assert len(reader.range(SeriesId(1), *EVER)) == 38 * 24
    reader.close()
    store.close()


def test_a_file_that_a_crash_left_half_made_is_made_anew(tmp_path: Path) -> None:
    store = EmbeddedTelemetry(tmp_path)
    store.write_batch(samples(1, 1), {})
    (tmp_path / "202512.new").write_bytes(b"half")
    (tmp_path / "202512.new-wal").write_bytes(b"of it")
    store.seal(LATER)
    assert len(store.range(SeriesId(1), *EVER)) == 48
    assert not list(tmp_path.glob("*.new*"))
