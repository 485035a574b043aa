"""Day blocks of the embedded store: crashes, late data, readers meanwhile, full disks."""

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
from core.runtime.instant import DAY, HOUR, SECOND, Instant
from core.telemetry import day_sealing, hour_sealing
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.embedded_file import StoreFile
from core.telemetry.month_files import MonthFiles
from core.telemetry.port import StoredReading
from tests.fixtures.embedded import LATER, SERIES, START, answers, counted, files, samples

pytestmark = pytest.mark.usefixtures("small_measures")

ROOT = Path(__file__).parents[2]


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
        StoredReading(SeriesId(1), before[10].at, Centi(999), 64),
        StoredReading(SeriesId(1), Instant(before[10].at + 1), None, 4),
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
        lambda series, n, value, q: StoredReading(
            SeriesId(series), Instant(START + n * 7 * HOUR + n % 2 * SECOND), value, q
        ),
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


@pytest.mark.long
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps)
def test_no_order_of_writes_seals_and_crashes_changes_an_answer(
    steps: list[tuple[str, list[StoredReading] | int]],
) -> None:
    model: dict[tuple[int, int], StoredReading] = {}
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(day_sealing, "CHUNK", 2)
        patch.setattr(hour_sealing, "CHUNK", 3)
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
from core.telemetry import day_sealing, hour_sealing
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.embedded_file import StoreFile

folder, until, commits, within = Path(sys.argv[1]), Instant(int(sys.argv[2])), int(sys.argv[3]), sys.argv[4] == "within"
day_sealing.CHUNK, hour_sealing.PAUSE_S = 2, 0
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
    real = MonthFiles.between
    looks = 0

    def between(self: MonthFiles, first: int, last: int) -> list[int]:
        nonlocal looks
        looks += 1
        if looks == 1:
            store.write_batch([StoredReading(each, Instant(START + 5), Centi(1), 0) for each in SERIES], {})
            with dying_after(3):  # the hours, the count, two of five series
                store.seal(LATER)
        return real(self, first, last)

    monkeypatch.setattr(MonthFiles, "between", between)
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
