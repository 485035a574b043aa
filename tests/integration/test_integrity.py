"""Daily search for damage in records whose pages SQLite takes for sound, and what a server refuses to read."""

import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg

from collector.alignment_gate import AlignmentGate
from collector.integrity_check import IntegrityCheck, damage_of_records
from core.db.engine import Records
from core.intake.port import IntakeUnavailable
from core.intake.sqlite import SqliteIntakeLog
from core.runtime.trouble import TroubleKind
from core.telemetry.embedded import EmbeddedTelemetry
from core.wire.shards import Shard
from tests.fixtures.troubled import enter_county

ALL = (Shard("00"), Shard("ff"))
WRONG_PAGE = 'invalid page in block 0 of relation "base/16384/16385"'


def _file(records: Records) -> Path:
    return Path(str(records.engine.url.database))


def test_sound_records_are_said_to_be(sqlite_records: Records) -> None:
    enter_county(sqlite_records)
    assert damage_of_records(sqlite_records) == []


def test_a_turned_letter_that_an_index_has_otherwise_is_found(sqlite_records: Records) -> None:
    """The code of a probe has an index, so the file has it twice."""
    enter_county(sqlite_records)
    sqlite_records.close()
    file = _file(sqlite_records)
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = file.read_bytes()
    assert whole.count(b"208601") == 2
    file.write_bytes(whole.replace(b"208601", b"208600", 1))
    assert "index" in damage_of_records(sqlite_records)[0]


def test_a_reference_to_a_row_that_is_not_there_is_found(sqlite_records: Records) -> None:
    enter_county(sqlite_records)
    with closing(sqlite3.connect(_file(sqlite_records), isolation_level=None)) as db:
        db.execute("UPDATE zone SET equipment_id = 4711")
    (said, *_) = damage_of_records(sqlite_records)
    assert "of zone refers to a row that isn't there, of equipment" in said


def _refuses(*_: object) -> Any:
    """Be a server that finds the checksum of a page wrong."""
    cause = psycopg.errors.DataCorrupted(WRONG_PAGE)
    raise IntakeUnavailable(WRONG_PAGE) from cause


def test_a_realignment_between_two_looks_lets_readers_read_their_cursors_again(
    tmp_path: Path, sqlite_records: Records
) -> None:
    log, store = SqliteIntakeLog(tmp_path / "intake.db"), EmbeddedTelemetry(tmp_path / "telemetry")
    gate = AlignmentGate(log, store, sqlite_records, shards=ALL)
    assert gate.check()
    before = gate.epoch()
    assert gate.check()
    assert gate.epoch() == before
    log.rename()
    assert gate.check()
    assert gate.epoch() not in (None, before)
    store.close()
    log.close()


def test_a_page_that_a_server_refuses_to_read_is_damage_and_one_that_does_not_answer_is_not(
    sqlite_records: Records,
) -> None:
    refusing: Any = SimpleNamespace(verify=_refuses, damage=list)
    integrity = IntegrityCheck(refusing, refusing, sqlite_records)
    integrity.search()
    (trouble,) = integrity.troubles()
    assert (trouble.part, trouble.kind, trouble.detail) == ("intake log", TroubleKind.DAMAGED, WRONG_PAGE)

    def away() -> list[str]:
        msg = "connection refused"
        raise IntakeUnavailable(msg)

    silent: Any = SimpleNamespace(verify=away, damage=list)
    integrity = IntegrityCheck(silent, silent, sqlite_records)
    integrity.search()
    assert integrity.troubles() == []


def test_while_an_entry_that_a_cursor_stands_at_can_not_be_read_the_gate_stays_shut(
    sqlite_records: Records, tmp_path: Path
) -> None:
    with closing(SqliteIntakeLog(tmp_path / "intake.db")) as log, closing(EmbeddedTelemetry(tmp_path)) as telemetry:
        alignment = AlignmentGate(log, telemetry, sqlite_records, shards=ALL)
        assert alignment.check()
        marks, log.marks = log.marks, _refuses  # type: ignore[method-assign]
        assert not alignment.check()
        assert alignment.epoch() is None
        (trouble,) = alignment.troubles()
        assert (trouble.part, trouble.kind) == ("intake log", TroubleKind.DAMAGED)
        log.marks = marks  # type: ignore[method-assign]
        assert alignment.check()
