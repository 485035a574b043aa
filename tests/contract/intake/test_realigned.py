"""Contract of the intake log: names, marks and cursors, by which a log that was replaced or taken back is found."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from core.intake.cursor_marks import mark
from core.intake.port import IntakeLog, LogReplaced
from core.runtime.instant import Instant
from core.wire.shards import Shard
from tests.fixtures.intake_logs import NEW, OPEN, SHARD, batch, seqs


def test_a_log_keeps_its_name_and_has_another_once_it_was_realigned(
    adapter: str, tmp_path: Path, log: IntakeLog
) -> None:
    (first,) = log.names()
    assert len(first) == 16
    again = OPEN[adapter](tmp_path)
    assert again.names() == [first]
    second = again.rename()
    assert log.names() == again.names() == [first, second]
    again.close()
    assert log.append([batch(1)]) == [NEW], "an open log goes on under its new name"


def test_a_mark_names_the_log_and_tells_the_entry_at_a_position_from_any_other(log: IntakeLog) -> None:
    log.append([batch(1), batch(2)])
    (name,) = log.names()
    marks = [log.marks({SHARD: n})[SHARD] for n in range(4)]
    assert marks[0] == marks[3] == f"{name}/"
    assert marks[1] != marks[2]
    for n, entry in enumerate(log.read(SHARD, 0, 10), start=1):
        assert mark(name, entry.batch) == marks[n]
    log.prune(before=Instant(2**52), readers=[])
    assert log.marks({SHARD: 2}) == {SHARD: f"{name}/"}


def test_the_first_positions_that_are_still_there_are_told(log: IntakeLog) -> None:
    assert log.firsts() == {}
    log.append([batch(1, received=1), batch(2, received=2), batch(3, received=3)])
    assert log.firsts() == {SHARD: 1}
    log.prune(before=Instant(3), readers=[])
    assert log.firsts() == {SHARD: 3}
    log.prune(before=Instant(4), readers=[])
    assert log.firsts() == {}


def test_a_cursor_is_placed_backwards_by_name_alone(log: IntakeLog) -> None:
    other = Shard("0a")
    log.move_cursor("telemetry", {SHARD: 7, other: 2})
    log.move_cursor("alerting", {SHARD: 9})
    log.place_cursor("telemetry", {SHARD: 3})
    assert (log.cursor("telemetry"), log.cursor("alerting")) == ({SHARD: 3}, {SHARD: 9})


def test_a_log_that_ends_before_what_was_appended_to_it_takes_nothing_until_it_is_realigned(
    adapter: str, tmp_path: Path, log: IntakeLog
) -> None:
    log.append([batch(1), batch(2)])
    took_back(adapter, tmp_path)
    with pytest.raises(LogReplaced, match="ends at 1"):
        log.append([batch(3)])
    assert seqs(log) == [1]
    with pytest.raises(LogReplaced):
        log.append([batch(3)])
    log.rename()
    assert log.append([batch(3)]) == [NEW]
    assert seqs(log) == [1, 3]


def test_another_log_in_the_place_of_an_open_one_takes_nothing_until_it_is_realigned(
    adapter: str, tmp_path: Path, log: IntakeLog
) -> None:
    log.append([batch(1)])
    made_anew(adapter, tmp_path)
    with pytest.raises(LogReplaced, match="another log"):
        log.append([batch(2)])
    assert log.heads().get(SHARD, 0) == 0
    log.rename()
    assert log.append([batch(2)]) == [NEW]


def took_back(adapter: str, folder: Path) -> None:
    """Bring the log of a folder back to its first entry, as an older copy has it."""
    if adapter == "sqlite":
        with closing(sqlite3.connect(folder / "intake.db", isolation_level=None)) as db:
            db.execute("DELETE FROM entry WHERE n > 1")
            db.execute("UPDATE head SET n = 1")
            db.execute("UPDATE seen SET last = 1, crc = NULL")
    else:
        with psycopg.connect(url_of(folder)) as server:
            server.execute("DELETE FROM intake.entry WHERE n > 1")
            server.execute("UPDATE intake.head SET n = 1 WHERE n > 1")
            server.execute("UPDATE intake.seen SET last = 1, crc = NULL")


def made_anew(adapter: str, folder: Path) -> None:
    """Put a new log in the place of a folder's."""
    if adapter == "sqlite":
        for file in folder.glob("intake.db*"):
            file.unlink()
    else:
        with psycopg.connect(url_of(folder)) as server:
            server.execute("DROP SCHEMA intake CASCADE")
        OPEN[adapter](folder).close()


def url_of(folder: Path) -> str:
    return make_url((folder / "intake.url").read_text()).set(drivername="postgresql").render_as_string(False)
