"""A byte that a disk has turned, anywhere in a file: what is read is what was written, or the damage is named."""

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from core.ids import Centi, SeriesId
from core.intake.port import IntakeBatch, IntakeUnavailable, NewerLog
from core.intake.sqlite import SqliteIntakeLog
from core.runtime.instant import DAY, HOUR, Instant
from core.telemetry.codec import Damaged
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.embedded_file import NewerFile as WrongStoreVersion
from core.telemetry.port import StoredReading
from core.wire.shards import shard_of
from tests.fixtures.intake_logs import GW, batch

TURNED = 150
EVER = (Instant(0), Instant(2**52))
START = Instant(1_774_569_600_000)


def places(file: Path) -> list[tuple[int, int]]:
    """Return where which bit is turned: spread over the file, a third within its first page."""
    chance, size = random.Random(20_261_129), file.stat().st_size
    return [(chance.randrange(size if n % 3 else 4096), 1 << chance.randrange(8)) for n in range(TURNED)]


def turn(whole: bytes, place: int, bit: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]


def test_an_entry_of_the_log_is_read_as_it_was_written_or_said_to_be_damaged(tmp_path: Path) -> None:
    file = tmp_path / "intake.db"
    log = SqliteIntakeLog(file)
    log.append([batch(seq, probes=("208601", "208602")) for seq in range(1, 200)])
    written = [entry.batch for entry in log.read(shard_of(GW), 0, 1_000)]
    assert log.verify() == []
    log.close()
    whole = file.read_bytes()
    named = 0
    for place, bit in places(file):
        file.write_bytes(turn(whole, place, bit))
        found = _of_log(file)
        named += found is None
        assert found in (None, written), f"byte {place}, bit {bit}"
    assert named > TURNED // 4


def _of_log(file: Path) -> list[IntakeBatch] | None:
    """Return what is read of a log, None when damage is named."""
    try:
        with closing(SqliteIntakeLog(file)) as log:
            if log.verify():
                return None
            return [entry.batch for entry in log.read(shard_of(GW), 0, 1_000)]
    except (IntakeUnavailable, NewerLog):
        return None


def test_a_stored_reading_is_read_as_it_was_written_or_the_damage_is_named(tmp_path: Path) -> None:
    file = tmp_path / "hot.db"
    store = EmbeddedTelemetry(tmp_path)
    for hour in range(4):
        at = [Instant(START + hour * HOUR + n * 60_000) for n in range(60)]
        store.write_batch([StoredReading(SeriesId(1), each, Centi(each // 60_000 % 500), 0) for each in at], {})
    store.seal(Instant(START + 2 * HOUR))
    written = store.range(SeriesId(1), *EVER).value.tolist()
    store.close()
    whole = file.read_bytes()
    named = 0
    for place, bit in places(file):
        file.write_bytes(turn(whole, place, bit))
        found = _of_store(tmp_path)
        named += found is None
        assert found in (None, written), f"byte {place}, bit {bit}"
    assert named > TURNED // 20, "most of the file is what sealing has freed"


def _of_store(folder: Path) -> list[float] | None:
    try:
        with closing(EmbeddedTelemetry(folder)) as store:
            return None if store.damage() else store.range(SeriesId(1), *EVER).value.tolist()
    except (sqlite3.Error, Damaged, WrongStoreVersion):
        return None


@pytest.mark.parametrize("damage", ["missing", "older"])
def test_a_month_that_is_gone_or_an_older_copy_is_named(tmp_path: Path, damage: str) -> None:
    with closing(EmbeddedTelemetry(tmp_path)) as store:
        for day in range(3):
            store.write_batch([StoredReading(SeriesId(1), Instant(START + day * DAY), Centi(400), 0)], {})
            store.seal(Instant(START + (day + 2) * DAY))
            if day == 0:
                (month,) = tmp_path.glob("2*.db")
                copy = month.read_bytes()
        assert store.damage() == []
        if damage == "missing":
            month.unlink()
        else:
            month.with_suffix(".new").write_bytes(copy)
            month.with_suffix(".new").replace(month)
        (said,) = store.damage()
    assert month.name in said
    assert f"{3 if damage == 'missing' else 2} sealed days" in said


def test_a_month_that_retention_deleted_is_not_missed(tmp_path: Path) -> None:
    with closing(EmbeddedTelemetry(tmp_path)) as store:
        for at in (START, START + 60 * DAY):
            store.write_batch([StoredReading(SeriesId(1), Instant(at), Centi(400), 0)], {})
        store.seal(Instant(START + 62 * DAY))
        store.drop_before(Instant(START + 50 * DAY))
        assert store.damage() == []
        assert len(store.range(SeriesId(1), *EVER)) == 1
