"""Turned bits in each table of an intake log, on both adapters: what was written is read, or damage is named.

A range of numbers seen that was turned must never have a batch acknowledged that isn't stored.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from core.health.cursor_alignment import CursorFault, faults
from core.intake.port import (
    AppendResult,
    IntakeBatch,
    IntakeLog,
    IntakeUnavailable,
    LogReplaced,
    StampedReading,
    WithheldReading,
)
from core.runtime.instant import Instant
from core.runtime.trouble import TroubleKind, kind_of
from core.wire.shards import shard_of
from tests.fixtures.intake_logs import EP, GW, batch

NOW = Instant(1_774_632_960_000)
SHARD = shard_of(GW)
HELD = "SELECT reading FROM TABLE.held WHERE id = %s"


def change(adapter: str, folder: Path, statement: str, *values: object) -> None:
    """Change a row as a disk would: past the program. `%s` stands for a value, and `TABLE.` for the schema."""
    if adapter == "sqlite":
        with closing(sqlite3.connect(folder / "intake.db", isolation_level=None)) as db:
            done = db.execute(statement.replace("TABLE.", "").replace("%s", "?"), values).rowcount
    else:
        url = make_url((folder / "intake.url").read_text()).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as db:
            done = db.execute(statement.replace("TABLE.", "intake."), values).rowcount  # type: ignore[arg-type]
    assert done == 1


def with_one_held(seq: int) -> IntakeBatch:
    reading = StampedReading("208601", "t", NOW, 412, 0, NOW)
    whole = batch(seq)
    return IntakeBatch(
        **{name: getattr(whole, name) for name in whole.__struct_fields__ if name != "held"},
        held=(WithheldReading(reading, "unknown_probe", "208601"),),
    )


def test_a_sound_log_has_no_damage(log: IntakeLog) -> None:
    log.append([batch(1), with_one_held(2), batch(9)], lost=[(GW, EP, 4, 5)])
    assert log.verify() == []


@pytest.mark.parametrize(
    "turned",
    ["last = 7", "first = 0", "crc = crc + 1", "ep = '9f3c02d1a47be864'", "gw = '10003'"],
)
def test_a_turned_range_of_numbers_seen_acknowledges_nothing_and_is_named(
    log: IntakeLog, adapter: str, tmp_path: Path, turned: str
) -> None:
    log.append([batch(1), batch(2), batch(3)])
    change(adapter, tmp_path, f"UPDATE TABLE.seen SET {turned} WHERE first = 1")
    (said,) = log.verify()
    assert "numbers seen of gateway" in said
    assert kind_of(said) is TroubleKind.DAMAGED
    moved = turned.startswith(("ep", "gw"))  # a range of nobody: what it covered is known by the entries alone
    if moved:
        assert log.have(GW, EP) == []
        assert log.append([batch(3)]) == [AppendResult.DUPLICATE]
    else:
        with pytest.raises(IntakeUnavailable) as refused:
            log.have(GW, EP)
        assert kind_of(refused.value) is TroubleKind.DAMAGED
        assert log.known({(GW, EP): {5}}, most=3) == {(GW, EP): []}
        assert log.append([batch(5)]) == [AppendResult.UNKNOWN]
    assert [entry.batch.seq for entry in log.read(SHARD, 0, 9)] == [1, 2, 3]


@pytest.mark.parametrize(
    "turned", ["batch", "seq = 65", "received = received + 1", "origin = 'backfill'", "origin = 'lhve'"]
)
def test_a_turned_entry_is_read_without_readings_and_is_named(
    log: IntakeLog, adapter: str, tmp_path: Path, turned: str
) -> None:
    """An UPDATE passes by the checksums that a server has of its pages."""
    log.append([batch(1), batch(2)])
    if turned == "batch":
        whole = bytearray(_packed(adapter, tmp_path, "SELECT batch FROM TABLE.entry WHERE n = %s", 1))
        whole[-2] ^= 0x10
        change(adapter, tmp_path, "UPDATE TABLE.entry SET batch = %s WHERE n = 1", bytes(whole))
    else:
        change(adapter, tmp_path, f"UPDATE TABLE.entry SET {turned} WHERE n = 1")
    damaged, sound = (entry.batch for entry in log.read(SHARD, 0, 9))
    assert (damaged.damaged, damaged.readings) == (True, ())
    assert sound == batch(2)
    assert f"entry {SHARD}/1 of gateway {GW}" in log.verify()[0]


def test_the_last_entries_of_a_shard_that_are_gone_are_named(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([batch(1), batch(2), batch(3)])
    change(adapter, tmp_path, "DELETE FROM TABLE.entry WHERE n = 3")
    assert "its last entry is 2, and the counter says 3" in log.verify()[0]


def test_ranges_of_a_log_from_before_checksums_are_believed_and_get_one(
    log: IntakeLog, adapter: str, tmp_path: Path
) -> None:
    log.append([batch(1), batch(2)])
    change(adapter, tmp_path, "UPDATE TABLE.seen SET crc = NULL")
    assert log.append([batch(2), batch(3)]) == [AppendResult.DUPLICATE, AppendResult.NEW]
    assert log.verify() == []
    change(adapter, tmp_path, "UPDATE TABLE.seen SET last = 11")
    assert log.verify()


@pytest.mark.parametrize("turned", ["reading", "boot", "seq"])
def test_a_turned_reading_in_quarantine_is_never_released_and_is_named(
    log: IntakeLog, adapter: str, tmp_path: Path, turned: str
) -> None:
    log.append([with_one_held(1), with_one_held(2)])
    first, second = log.held()
    values: dict[str, Any] = {"reading": _turned(adapter, tmp_path, first.id), "boot": "7f3a9c20", "seq": 65}
    change(adapter, tmp_path, f"UPDATE TABLE.held SET {turned} = %s WHERE id = %s", values[turned], first.id)
    (said,) = log.verify()
    assert f"reading {first.id} in quarantine, of gateway {GW}" in said
    damaged, sound = log.held()
    assert isinstance(damaged.reading, bytes)
    assert sound == second
    assert log.release([first.id, second.id], now=NOW) == 1
    assert [each.id for each in log.held()] == [first.id], "it stays where it can be looked at"


def test_what_was_held_before_checksums_is_read_and_released(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([with_one_held(1)])
    (held,) = log.held()
    packed = _packed(adapter, tmp_path, HELD, held.id)
    assert packed[0] == 0xC1
    change(adapter, tmp_path, "UPDATE TABLE.held SET reading = %s WHERE id = %s", packed[5:], held.id)
    assert log.held() == [held]
    assert log.verify() == []
    assert log.release([held.id], now=NOW) == 1


def test_a_turned_counter_is_named_or_takes_nothing_in(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([batch(1), batch(2)])
    change(adapter, tmp_path, "UPDATE TABLE.head SET n = 6 WHERE shard = %s", SHARD)
    assert "the counter says 6" in log.verify()[0]
    change(adapter, tmp_path, "UPDATE TABLE.head SET n = 0 WHERE shard = %s", SHARD)
    with pytest.raises(LogReplaced):
        log.append([batch(3)])
    assert _fault(log, position=2) is CursorFault.BEYOND_HEAD


@pytest.mark.parametrize(("turned", "fault"), [(6, CursorFault.PUT_BACK), (0, None)])
def test_a_turned_copy_of_a_cursor_is_ahead_of_it_or_moves_on(
    log: IntakeLog, adapter: str, tmp_path: Path, turned: int, fault: CursorFault | None
) -> None:
    log.append([batch(1), batch(2)])
    log.move_cursor("telemetry", {SHARD: 2})
    change(adapter, tmp_path, "UPDATE TABLE.cursor SET n = %s", turned)
    assert _fault(log, position=2) is fault
    if fault is None:
        log.move_cursor("telemetry", {SHARD: 2})
        assert log.cursor("telemetry") == {SHARD: 2}


def test_a_turned_name_is_another_logs(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([batch(1), batch(2)])
    mark = log.marks({SHARD: 2})[SHARD]
    change(adapter, tmp_path, "UPDATE TABLE.name SET name = %s", "0000000000000000")
    assert _fault(log, position=2, mark=mark) is CursorFault.OTHER_LOG
    with pytest.raises(LogReplaced):
        log.append([batch(3)])


def _fault(log: IntakeLog, position: int, mark: str = "") -> CursorFault | None:
    """Return what the gate of the collector says of telemetry's cursor at a position."""
    mark = mark or log.marks({SHARD: position})[SHARD]
    copy = log.cursor("telemetry")
    found = faults("telemetry", {SHARD: (position, mark)}, copy, log.names(), log.heads(), log.marks({SHARD: position}))
    return found[0].fault if found else None


def _packed(adapter: str, folder: Path, query: str, number: int) -> bytes:
    """Return what is in a column of bytes."""
    if adapter == "sqlite":
        with closing(sqlite3.connect(folder / "intake.db")) as db:
            (packed,) = db.execute(query.replace("TABLE.", "").replace("%s", "?"), (number,)).fetchone()
    else:
        url = make_url((folder / "intake.url").read_text()).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False)) as server:
            (packed,) = server.execute(query.replace("TABLE.", "intake."), (number,)).fetchone() or (b"",)  # type: ignore[call-overload]
    return bytes(packed)


def _turned(adapter: str, folder: Path, id_: int) -> bytes:
    packed = bytearray(_packed(adapter, folder, HELD, id_))
    packed[-2] ^= 0x10
    return bytes(packed)
