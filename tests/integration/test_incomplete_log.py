"""Gate of the collector and realignment, with a log that has lost entries that a reader had not followed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.alignment_gate import AlignmentGate
from core.db.engine import Records
from core.health import realign
from core.health.cursor_alignment import CursorFault, of_alerting
from core.intake.port import EntriesMissing, EntryGap, IntakeLog
from core.runtime.trouble import TroubleKind
from core.telemetry.embedded import EmbeddedTelemetry
from core.wire.shards import Shard, shard_of
from tests.contract.intake.test_missing_entries import OTHER, run
from tests.fixtures.intake_logs import DUPLICATE, EP, GW, NEW, OPEN, SHARD, batch

ALL = (Shard("00"), Shard("ff"))


@pytest.fixture(params=OPEN)
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def log(adapter: str, tmp_path: Path) -> Iterator[IntakeLog]:
    log = OPEN[adapter](tmp_path)
    yield log
    log.close()


@pytest.fixture
def telemetry(tmp_path: Path) -> Iterator[EmbeddedTelemetry]:
    store = EmbeddedTelemetry(tmp_path / "telemetry")
    yield store
    store.close()


def test_the_gate_is_shut_while_unread_entries_are_missing_and_opens_once_they_were_given_up(
    adapter: str, tmp_path: Path, log: IntakeLog, telemetry: EmbeddedTelemetry, sqlite_records: Records
) -> None:
    log.append([batch(seq) for seq in range(1, 6)] + [batch(1, gw=OTHER)])
    telemetry.write_batch([], {SHARD: 2}, log.marks({SHARD: 2}))
    log.move_cursor("telemetry", {SHARD: 2})
    gate = AlignmentGate(log, telemetry, sqlite_records, shards=ALL)
    others = AlignmentGate(log, telemetry, sqlite_records, shards=(shard_of(OTHER), shard_of(OTHER)))
    assert gate.check()
    run(adapter, tmp_path, f"DELETE FROM TABLE.entry WHERE n > 2 AND shard = '{SHARD}'")
    assert not gate.check()
    (trouble,) = gate.troubles()
    assert (trouble.part, trouble.kind) == ("intake log", TroubleKind.INCOMPLETE)
    assert gate.epoch() is None, "nothing is appended or acknowledged"
    assert others.check(), "a collector of other shards goes on"

    plan = realign.plan(log, sqlite_records, telemetry)
    assert plan.gaps == [EntryGap(SHARD, 3, 5)]
    (move,) = plan.placings
    assert (move.found.reader, move.found.fault, move.to, move.gone) == (
        "telemetry",
        CursorFault.ENTRIES_MISSING,
        2,
        3,
    )
    realign.carry_out(plan, log, sqlite_records, telemetry)
    left = realign.plan(log, sqlite_records, telemetry)
    assert (left.placings, left.gaps) == ([], [])
    assert gate.check()
    assert telemetry.positions() == {SHARD: 2}
    assert log.append([batch(6)]) == [NEW]
    assert [entry.n for entry in log.read(SHARD, 2, 9)] == [6]


def test_entries_that_all_readers_had_passed_shut_no_gate_and_are_given_up_by_realigning(
    adapter: str, tmp_path: Path, log: IntakeLog, telemetry: EmbeddedTelemetry, sqlite_records: Records
) -> None:
    log.append([batch(1), batch(2), batch(3)])
    telemetry.write_batch([], {SHARD: 3}, log.marks({SHARD: 3}))
    run(adapter, tmp_path, "DELETE FROM TABLE.entry WHERE n = 2")
    gate = AlignmentGate(log, telemetry, sqlite_records, shards=ALL)
    assert gate.check()
    assert log.verify() == [str(EntryGap(SHARD, 2, 2))]
    plan = realign.plan(log, sqlite_records, telemetry)
    assert (plan.placings, plan.gaps) == ([], [EntryGap(SHARD, 2, 2)])
    realign.carry_out(plan, log, sqlite_records, telemetry)
    assert log.verify() == []


def test_damaged_numbers_seen_are_rebuilt_by_realigning(
    adapter: str, tmp_path: Path, log: IntakeLog, telemetry: EmbeddedTelemetry, sqlite_records: Records
) -> None:
    log.append([batch(1), batch(2)])
    run(adapter, tmp_path, "UPDATE TABLE.seen SET last = 9")
    plan = realign.plan(log, sqlite_records, telemetry)
    assert (plan.placings, plan.gaps, plan.damaged_lives) == ([], [], [(GW, EP)])
    realign.carry_out(plan, log, sqlite_records, telemetry)
    assert realign.plan(log, sqlite_records, telemetry).is_empty
    assert log.append([batch(2), batch(3)]) == [DUPLICATE, NEW]


def test_alerting_does_not_pass_missing_entries(
    adapter: str, tmp_path: Path, log: IntakeLog, sqlite_records: Records
) -> None:
    log.append([batch(1), batch(2)])
    run(adapter, tmp_path, "DELETE FROM TABLE.entry")
    _, found = of_alerting(log, sqlite_records)
    assert [(each.shard, each.fault) for each in found] == [(SHARD, CursorFault.ENTRIES_MISSING)]
    with pytest.raises(EntriesMissing):
        log.read_each({SHARD: 0}, 10)
