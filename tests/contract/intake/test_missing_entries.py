"""Contract of the intake log: entries that are missing, though nobody pruned them, are told and never passed by."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from core.intake.port import EntriesMissing, EntryGap, IntakeLog, IntakeUnavailable
from core.runtime.instant import Instant
from core.runtime.trouble import TroubleKind, kind_of
from core.wire.shards import GatewayNumber, shard_of
from tests.contract.intake.test_realigned import url_of
from tests.fixtures.intake_logs import GW, NEW, NOW, OPEN, SHARD, batch, seqs

OTHER = GatewayNumber("10002")
AGES = Instant(2**52)


def run(adapter: str, folder: Path, *statements: str) -> None:
    """Change the log past the program; `TABLE.` stands for the schema."""
    if adapter == "sqlite":
        with closing(sqlite3.connect(folder / "intake.db", isolation_level=None)) as db:
            for statement in statements:
                db.execute(statement.replace("TABLE.", ""))
    else:
        with psycopg.connect(url_of(folder), autocommit=True) as server:
            for statement in statements:
                server.execute(statement.replace("TABLE.", "intake."))  # type: ignore[arg-type]


def test_every_reader_of_emptied_entries_is_told_and_the_others_read_on(
    log: IntakeLog, adapter: str, tmp_path: Path
) -> None:
    assert shard_of(OTHER) != SHARD
    log.append([batch(1), batch(2), batch(3), batch(1, gw=OTHER)])
    run(adapter, tmp_path, f"DELETE FROM TABLE.entry WHERE shard = '{SHARD}'")
    for read in (lambda: log.read(SHARD, 0, 9), lambda: log.read_each({SHARD: 2, shard_of(OTHER): 0}, 9)):
        with pytest.raises(EntriesMissing, match="are missing") as told:
            read()
        assert kind_of(told.value) is TroubleKind.INCOMPLETE
    assert log.first_missing({}) == log.first_missing({SHARD: 0}) == {SHARD: 1}
    assert log.first_missing({SHARD: 2}) == {SHARD: 3}
    assert log.first_missing({SHARD: 3}) == {}, "whoever had read them misses nothing"
    assert log.read(SHARD, 3, 9) == []
    assert seqs(log, OTHER) == [1]
    assert log.gaps() == [EntryGap(SHARD, 1, 3)]
    assert log.entries_after(SHARD, 0, 9) == []
    assert f"shard {SHARD}: its last entry is 0, and the counter says 3" in log.verify()[0]


def test_what_is_appended_behind_the_gap_does_not_hide_it(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([batch(seq) for seq in range(1, 6)])
    run(adapter, tmp_path, "DELETE FROM TABLE.entry")
    assert log.append([batch(6)]) == [NEW]
    with pytest.raises(EntriesMissing, match="entries 1 to 5 are missing"):
        log.read(SHARD, 0, 1)
    assert [entry.n for entry in log.entries_after(SHARD, 0, 9)] == [6]
    assert str(EntryGap(SHARD, 1, 5)) in log.verify()


def test_a_hole_is_told_when_a_reader_comes_to_it(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([batch(seq) for seq in range(1, 8)])
    run(adapter, tmp_path, "DELETE FROM TABLE.entry WHERE n IN (3, 4, 7)")
    assert [entry.n for entry in log.read(SHARD, 0, 2)] == [1, 2]
    for after, limit, gap in ((0, 3, "3 to 4"), (2, 1, "3 to 4"), (3, 1, "4 to 4"), (4, 3, "7 to 7"), (6, 1, "7 to 7")):
        with pytest.raises(EntriesMissing, match=f"entries {gap} are missing"):
            log.read(SHARD, after, limit)
    assert [entry.n for entry in log.read(SHARD, 4, 2)] == [5, 6]
    assert log.gaps() == [EntryGap(SHARD, 3, 4), EntryGap(SHARD, 7, 7)]
    assert [each.first_missing({SHARD: n}) for each in [log] for n in range(8)] == [
        {},
        {},
        {SHARD: 3},
        {SHARD: 4},
        {},
        {},
        {SHARD: 7},
        {},
    ]


def test_a_partition_that_was_dropped_is_told_and_made_again(tmp_path: Path) -> None:
    log = OPEN["postgresql"](tmp_path)
    log.append([batch(1), batch(2)])
    run("postgresql", tmp_path, f"DROP TABLE TABLE.entry_{SHARD[0]}")
    with pytest.raises(EntriesMissing):
        log.read(SHARD, 1, 9)
    with pytest.raises(IntakeUnavailable):
        log.append([batch(3)])
    log.accept_gaps(log.gaps())
    assert log.append([batch(3)]) == [NEW]
    assert seqs(log) == [3]
    assert log.verify() == []
    log.close()


def test_missing_entries_that_were_accepted_are_passed(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([batch(seq) for seq in range(1, 6)])
    run(adapter, tmp_path, "DELETE FROM TABLE.entry WHERE n IN (2, 4)")
    log.accept_gaps(log.gaps())
    assert log.pruned() == {SHARD: 4}
    assert [entry.n for entry in log.read(SHARD, 0, 9)] == [1, 3, 5]
    assert (log.gaps(), log.first_missing({}), log.verify()) == ([], {}, [])
    log.append([batch(6)])
    run(adapter, tmp_path, "DELETE FROM TABLE.entry WHERE n = 6")
    assert log.gaps() == [EntryGap(SHARD, 6, 6)], "what is lost later is told again"


def test_pruned_entries_are_not_missing(log: IntakeLog) -> None:
    log.append([batch(seq, received=seq) for seq in range(1, 6)])
    assert log.pruned() == {SHARD: 0}
    log.prune(before=Instant(3), readers=[])
    assert log.pruned() == {SHARD: 2}
    for restored_to in range(6):  # a store that was put back reads what is left
        assert [entry.n for entry in log.read(SHARD, restored_to, 9)] == list(range(max(3, restored_to + 1), 6))
    log.prune(before=AGES, readers=[])
    assert (log.pruned(), log.read(SHARD, 0, 9)) == ({SHARD: 5}, [])
    assert (log.gaps(), log.first_missing({}), log.verify()) == ([], {}, [])


def test_entries_that_the_pruner_left_between_others_are_read(log: IntakeLog) -> None:
    """The clock of the collector was set back: an older position has a later time."""
    log.append([batch(1, received=1), batch(2, received=9), batch(3, received=2), batch(4, received=8)])
    log.prune(before=Instant(5), readers=[])
    assert log.pruned() == {SHARD: 3}
    assert [entry.n for entry in log.read(SHARD, 0, 9)] == [2, 4]
    assert log.verify() == []


def test_readers_beside_a_pruner_miss_nothing(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    readers = ["one"]
    pruner = OPEN[adapter](tmp_path)
    ended = threading.Event()

    def prune() -> None:
        while not ended.is_set():
            pruner.prune(before=AGES, readers=readers)

    thread = threading.Thread(target=prune)
    thread.start()
    position = 0
    try:
        for first in range(1, 400, 4):
            log.append([batch(seq) for seq in range(first, first + 4)])
            assert log.first_missing({SHARD: position}) == {}
            entries = log.read(SHARD, position, 3)
            assert [entry.n for entry in entries] == [position + 1, position + 2, position + 3]
            position += 3
            log.read(SHARD, 0, 9)  # a restored store's
            log.move_cursor("one", {SHARD: position})
    finally:
        ended.set()
        thread.join()
        pruner.close()
    assert log.verify() == []


def test_a_turned_pruned_position_is_named_or_hides_nothing_by_itself(
    log: IntakeLog, adapter: str, tmp_path: Path
) -> None:
    log.append([batch(seq, received=seq) for seq in range(1, 6)])
    log.prune(before=Instant(4), readers=[])
    run(adapter, tmp_path, "UPDATE TABLE.pruned SET n = 1")
    assert log.verify() == [str(EntryGap(SHARD, 2, 3))]
    run(adapter, tmp_path, "UPDATE TABLE.pruned SET n = 67")
    assert [entry.n for entry in log.read(SHARD, 3, 9)] == [4, 5]


def test_a_log_from_before_pruning_was_noted_is_believed(adapter: str, tmp_path: Path) -> None:
    log = OPEN[adapter](tmp_path)
    log.append([batch(seq, received=seq) for seq in range(1, 6)])
    log.append([batch(seq, gw=OTHER) for seq in range(1, 4)])
    log.move_cursor("telemetry", {SHARD: 4, shard_of(OTHER): 3})
    log.move_cursor("alerting", {SHARD: 3, shard_of(OTHER): 3})
    log.prune(before=NOW, readers=["telemetry", "alerting"])
    log.close()
    older = "PRAGMA user_version = 5" if adapter == "sqlite" else "UPDATE TABLE.version SET number = 4"
    run(adapter, tmp_path, "DROP TABLE TABLE.pruned", older)
    log = OPEN[adapter](tmp_path)
    assert log.pruned() == {SHARD: 3, shard_of(OTHER): 3}
    assert (log.gaps(), log.verify()) == ([], [])
    assert [entry.n for entry in log.read(SHARD, 0, 9)] == [4, 5]
    log.close()


def test_a_lost_tail_is_told(log: IntakeLog, adapter: str, tmp_path: Path) -> None:
    log.append([batch(1, gw=GW), batch(2)])
    run(adapter, tmp_path, "DELETE FROM TABLE.entry WHERE n = 2")
    with pytest.raises(EntriesMissing, match="entries 2 to 2"):
        log.read(SHARD, 0, 9)
    assert [entry.n for entry in log.read(SHARD, 0, 1)] == [1]
