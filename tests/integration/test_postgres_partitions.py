"""Partitions of the intake log on a server: one that was detached comes back whole, and a killed pruner drops nothing.

The pruner deletes rows and never detaches a table. So a detached one still holds entries that somebody may need.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from core.intake import postgres_entries
from core.intake.port import AppendResult, EntriesMissing, IntakeUnavailable
from core.intake.postgres import PostgresIntakeLog
from core.intake.postgres_server import Db
from core.runtime.instant import Instant
from core.wire.shards import Shard
from tests.fixtures.databases import empty_url
from tests.fixtures.intake_logs import EP, GW, NOW, SHARD, batch, seqs

PARTITION = f"intake.entry_{SHARD[0]}"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return empty_url("postgresql", tmp_path)


@pytest.fixture
def log(url: str) -> Iterator[PostgresIntakeLog]:
    log = PostgresIntakeLog(url)
    yield log
    log.close()


def _connect(url: str, *, autocommit: bool = False) -> psycopg.Connection[tuple[object, ...]]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=autocommit)


def _detach(url: str) -> None:
    with _connect(url) as admin:
        admin.execute(f"ALTER TABLE intake.entry DETACH PARTITION {PARTITION}")


def _detach_by_half(url: str) -> None:
    """Detach it without locks, and end before that is finished: somebody still reads."""
    with _connect(url) as reader, _connect(url, autocommit=True) as admin:
        reader.execute("SELECT count(*) FROM intake.entry")
        admin.execute("SET lock_timeout = '50ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            admin.execute(f"ALTER TABLE intake.entry DETACH PARTITION {PARTITION} CONCURRENTLY")


def _prune(log: PostgresIntakeLog, *, seq: int) -> int:
    """Prune what was received up to a batch."""
    return log.prune(before=Instant(NOW + seq + 1), readers=("alerting",))


@pytest.mark.parametrize("detach", [_detach, _detach_by_half])
def test_a_detached_partition_is_part_of_the_log_again_when_it_is_opened(
    url: str, log: PostgresIntakeLog, detach: Callable[[str], None]
) -> None:
    log.append([batch(seq, received=NOW + seq) for seq in (1, 2, 3)])
    log.move_cursor("alerting", {SHARD: 2})
    assert _prune(log, seq=1) == 1
    detach(url)
    with pytest.raises(EntriesMissing):
        log.read(SHARD, 1, 10)
    with pytest.raises(IntakeUnavailable, match="no partition"):
        log.append([batch(4)])
    again = PostgresIntakeLog(url)
    assert (seqs(again), again.gaps(), again.pruned()) == ([2, 3], [], {SHARD: 1})
    sent_again = [batch(seq, received=NOW + seq) for seq in (1, 2, 3, 4)]
    assert again.append(sent_again) == [AppendResult.DUPLICATE] * 3 + [AppendResult.NEW]
    assert _prune(again, seq=4) == 1, "behind the reader there is one"
    assert ([entry.n for entry in again.read(SHARD, 2, 10)], again.have(GW, EP)) == ([3, 4], [(1, 4)])
    again.close()


def test_a_pruner_whose_session_is_killed_before_its_commit_has_dropped_nothing(
    url: str, log: PostgresIntakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append([batch(seq, received=NOW + seq) for seq in (1, 2, 3)])
    log.move_cursor("alerting", {SHARD: 3})
    note_pruned = postgres_entries.note_pruned

    def killed(db: Db, positions: Iterable[tuple[Shard, int]]) -> None:
        note_pruned(db, positions)
        with _connect(url, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (db.info.backend_pid,))

    with monkeypatch.context() as patched:
        patched.setattr(postgres_entries, "note_pruned", killed)
        with pytest.raises(IntakeUnavailable):
            _prune(log, seq=2)
    again = PostgresIntakeLog(url)
    assert (seqs(again), again.gaps(), again.pruned()) == ([1, 2, 3], [], {SHARD: 0})
    assert _prune(again, seq=2) == 2
    assert (seqs(again), again.gaps(), again.pruned()) == ([3], [], {SHARD: 2})
    again.close()
