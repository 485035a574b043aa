"""Day blocks and month files of the embedded store: crashes, late data, damage, full disks, retention under readers."""

import contextlib
import itertools
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.ids import Centi, SeriesId
from core.runtime.instant import DAY, HOUR, MINUTE, SECOND, Instant
from core.telemetry import day_sealing, months, sealing
from core.telemetry.codec import Damaged
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.file import StoreFile, WrongVersion
from core.telemetry.months import Months
from core.telemetry.port import Sample

ROOT = Path(__file__).parents[2]
START = Instant(1_767_052_800_000)
"""2025-12-30T00:00Z: three days on, the month and the year are others."""
EVER = (Instant(0), Instant(2**53))
LATER = Instant(START + 100 * DAY)
SERIES = [SeriesId(n) for n in range(1, 6)]


def samples(series: int, days: float, *, plus: int = 0, step: int = 30) -> list[Sample]:
    return [
        Sample(SeriesId(series), Instant(START + n * step * MINUTE), Centi(n % 50 + series + plus), n % 3)
        for n in range(int(days * 1440 / step))
    ]


def answers(store: EmbeddedTelemetry) -> list[list[Sample]]:
    return [list(curve.samples(series)) for series, curve in store.multi_range(SERIES, *EVER).items()]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[0-9]*.db"))


@contextlib.contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as db:
        yield db


def counted(file: Path, table: str) -> int:
    with opened(file) as db:
        found: int = db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        return found


@pytest.fixture(autouse=True)
def small_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day_sealing, "CHUNK", 2)
    monkeypatch.setattr(months, "_PAGE_BYTES", 4096)
    monkeypatch.setattr(sealing, "PAUSE_S", 0)


def test_past_days_move_into_the_file_of_their_month(tmp_path: Path) -> None:
    store = EmbeddedTelemetry(tmp_path)
    for series in SERIES:
        store.write_batch(samples(series, 4), {})
    expected = answers(store)
    store.seal(Instant(START + 3 * DAY + 5 * HOUR))
    assert files(tmp_path) == ["202512.db", "202601.db"]
    assert counted(tmp_path / "202512.db", "block") == 2 * 5
    assert counted(tmp_path / "202601.db", "block") == 1 * 5
    assert counted(tmp_path / "hot.db", "hour_block") == 5 * 5
    assert answers(store) == expected == answers(EmbeddedTelemetry(tmp_path, read_only=True))
    found = store.verify()
    assert (found.days, found.hours, found.readings, found.damage) == (15, 25, 5 * 4 * 48, [])


def test_what_is_late_is_laid_over_its_day_and_moves_there(tmp_path: Path) -> None:
    store = EmbeddedTelemetry(tmp_path)
    store.write_batch(samples(1, 2), {})
    store.seal(LATER)
    reader = EmbeddedTelemetry(tmp_path, read_only=True)
    before = answers(reader)[0]
    late = [
        Sample(SeriesId(1), before[10].at, Centi(999), 64),
        Sample(SeriesId(1), Instant(before[10].at + 1), None, 4),
    ]
    expected = [*before[:10], *late, *before[11:]]
    store.write_batch(late, {})
    for _ in range(3):
        assert answers(store)[0] == answers(reader)[0] == expected
        store.seal(LATER)
    assert counted(tmp_path / "hot.db", "hour_block") == counted(tmp_path / "hot.db", "frame") == 0


class Crash(BaseException):
    """The process is gone."""


@contextlib.contextmanager
def dying_after(commits: int) -> Iterator[None]:
    """End the process, as far as the store can tell, when so many transactions have been committed."""
    left = commits
    real = StoreFile.write

    @contextlib.contextmanager
    def write(self: StoreFile) -> Iterator[sqlite3.Connection]:
        nonlocal left
        if not left:
            raise Crash
        left -= 1
        with real(self) as tx:
            yield tx

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StoreFile, "write", write)
        with contextlib.suppress(Crash):
            yield


some = st.lists(
    st.builds(
        lambda series, n, value, q: Sample(SeriesId(series), Instant(START + n * 7 * HOUR + n % 2 * SECOND), value, q),
        st.integers(1, 5),
        st.integers(0, 12),
        st.none() | st.integers(-5_000, 15_000).map(Centi),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=20,
)
steps = st.lists(
    st.tuples(st.just("write"), some)
    | st.tuples(st.just("seal"), st.integers(0, 100))
    | st.tuples(st.just("crash"), st.integers(0, 12)),
    min_size=2,
    max_size=10,
)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_no_order_of_writes_seals_and_crashes_changes_an_answer(steps: list[tuple[str, list[Sample] | int]]) -> None:
    model: dict[tuple[int, int], Sample] = {}
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(day_sealing, "CHUNK", 2)
        patch.setattr(sealing, "CHUNK", 3)
        folder = Path(name)
        store, reader = EmbeddedTelemetry(folder), EmbeddedTelemetry(folder, read_only=True)
        for what, given_ in steps:
            if isinstance(given_, list):
                store.write_batch(given_, {})
                model.update({(each.series, each.at): each for each in given_})
            elif what == "seal":
                store.seal(Instant(START + given_ * HOUR))
            else:
                with dying_after(given_):
                    store.seal(LATER)
                store.close()
                store = EmbeddedTelemetry(folder)
            expected = [[model[key] for key in sorted(model) if key[0] == series] for series in SERIES]
            assert answers(store) == expected, what
            assert answers(reader) == expected, what
        store.seal(LATER)
        assert answers(reader) == expected
        assert counted(folder / "hot.db", "hour_block") == counted(folder / "hot.db", "frame") == 0
        assert store.verify().readings == len(model)
        store.close()
        reader.close()


KILLED = """
import os, signal, sys
from contextlib import contextmanager
from pathlib import Path
from core.runtime.instant import Instant
from core.telemetry import day_sealing, sealing
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.file import StoreFile

folder, until, commits, within = Path(sys.argv[1]), Instant(int(sys.argv[2])), int(sys.argv[3]), sys.argv[4] == "within"
day_sealing.CHUNK, sealing.PAUSE_S = 2, 0
real = StoreFile.write
store = EmbeddedTelemetry(folder)

@contextmanager
def write(self):
    global commits
    with real(self) as tx:
        yield tx
        commits -= 1
        if within and not commits:
            os.kill(os.getpid(), signal.SIGKILL)
    if not commits:
        os.kill(os.getpid(), signal.SIGKILL)

StoreFile.write = write
store.seal(until)
"""


@pytest.mark.parametrize("moment", ["within", "after"])
def test_kill_9_within_or_after_any_commit_of_a_day_seal_loses_nothing(tmp_path: Path, moment: str) -> None:
    store = EmbeddedTelemetry(tmp_path)
    for series in SERIES:
        store.write_batch(samples(series, 2), {})
    store.seal(Instant(START + 2 * DAY - HOUR))  # of the first day hours are sealed and moved
    store.write_batch(samples(2, 0.5, plus=300), {})
    store.seal(Instant(START + HOUR))
    expected = answers(store)
    killed = 0
    for commits in itertools.count(1):
        words = [sys.executable, "-c", KILLED, str(tmp_path), str(START + 2 * DAY), str(commits), moment]
        ended = subprocess.run(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=60)
        assert answers(store) == answers(EmbeddedTelemetry(tmp_path)) == expected
        if not ended.returncode:
            break
        assert ended.returncode == -9
        killed += 1
        store.write_batch(late := samples(3, 0.1, plus=1_000 + commits), {})
        expected[2][: len(late)] = late
    assert killed > 5
    assert counted(tmp_path / "hot.db", "hour_block") == 0
    assert store.verify().damage == []


def test_a_batch_that_is_sealed_while_somebody_reads_is_seen_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a reader's look at hot.db and its look at the month, a late batch is written, sealed and half moved."""
    store, reader = EmbeddedTelemetry(tmp_path), EmbeddedTelemetry(tmp_path, read_only=True)
    for series in SERIES:
        store.write_batch(samples(series, 1), {})
    store.seal(LATER)
    real = Months.between
    looks = 0

    def between(self: Months, first: int, last: int) -> list[int]:
        nonlocal looks
        looks += 1
        if looks == 1:
            store.write_batch([Sample(each, Instant(START + 5), Centi(1), 0) for each in SERIES], {})
            with dying_after(3):  # the hours, the count, two of five series
                store.seal(LATER)
        return real(self, first, last)

    monkeypatch.setattr(Months, "between", between)
    assert [len(each) for each in answers(reader)] == [49] * 5
    assert looks == 2


def test_a_full_disk_while_sealing_loses_nothing_and_ingest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EmbeddedTelemetry(tmp_path)
    chance = random.Random(5)
    for series in SERIES:
        noise = [
            msgspec.structs.replace(each, value=Centi(chance.randrange(999))) for each in samples(series, 2, step=1)
        ]
        store.write_batch(noise, {})
    store.seal(Instant(START + 1))
    expected = answers(store)
    real = StoreFile._connect

    def full(self: StoreFile, mode: str) -> sqlite3.Connection:
        db = real(self, mode)
        if self.path.name.startswith("2025"):
            db.execute("PRAGMA max_page_count = 6")
        return db

    monkeypatch.setattr(StoreFile, "_connect", full)
    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="full"):
            store.seal(LATER)
        assert answers(store) == expected
        store.write_batch(late := samples(1, 0.1, plus=777, step=1), {})
        expected[0][: len(late)] = late
        assert answers(store) == expected
    assert counted(tmp_path / "202512.db", "block") < 10
    monkeypatch.setattr(StoreFile, "_connect", real)
    store.seal(LATER)
    assert answers(store) == expected
    assert counted(tmp_path / "202512.db", "block") == 10
    assert store.verify().damage == []


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


@pytest.mark.parametrize("harm", [cut, emptied, overwritten])
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
    late = [Sample(SeriesId(1), Instant(START + days * DAY + 5), Centi(1), 0) for days in (0, 20)]
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
    with pytest.raises(WrongVersion, match=r"202601\.db has version 99"):
        store.range(SeriesId(1), *EVER)
    with pytest.raises(WrongVersion):
        store.verify()
    assert len(store.range(SeriesId(1), START, Instant(START + 2 * DAY))) == 48
    store.write_batch([Sample(SeriesId(1), Instant(START + 20 * DAY + 5), Centi(1), 0)], {})
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
    real = Months._reader

    def slowly(self: Months, month: int) -> object:
        found = real(self, month)
        store.drop_before(Instant(START + 20 * DAY))
        return found

    monkeypatch.setattr(Months, "_reader", slowly)
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
