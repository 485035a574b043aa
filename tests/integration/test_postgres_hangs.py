"""A PostgreSQL that answers nothing: whoever asks is told so in time, nothing is lost, and it heals by itself."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from core.db import engine as engines
from core.db.engine import Records, connect
from core.intake.port import AppendResult, IntakeUnavailable
from core.intake.postgres import PostgresIntakeLog
from core.runtime.trouble import TroubleKind, kind_of
from tests.fixtures.databases import empty_url, fresh_url
from tests.fixtures.intake_logs import batch
from tests.fixtures.tcp_proxy import TcpProxy, through, to_postgres
from tests.fixtures.waiting import until

pytestmark = pytest.mark.long

TIMEOUT_S = 1.0
IN_TIME_S = 6.0
"""A connection that was in the pool, one attempt to connect, and room for a busy machine."""


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ANSWER_S", TIMEOUT_S)
    monkeypatch.setattr(engines, "CONNECT_S", 2)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return empty_url("postgresql", tmp_path)


@pytest.fixture
def proxy(url: str) -> Iterator[TcpProxy]:
    with to_postgres(url) as on_the_way:
        yield on_the_way


def refused_in_time(ask: Callable[[], object], error: type[Exception]) -> Exception:
    began = time.monotonic()
    with pytest.raises(error) as caught:
        ask()
    assert time.monotonic() - began < IN_TIME_S
    return caught.value


def test_an_append_to_a_log_that_hangs_ends_in_time_and_is_there_once_afterwards(url: str, proxy: TcpProxy) -> None:
    log = PostgresIntakeLog(through(url, proxy))
    assert log.append([batch(1)]) == [AppendResult.NEW]
    proxy.hangs = True
    error = refused_in_time(lambda: log.append([batch(2)]), IntakeUnavailable)
    assert kind_of(error) is TroubleKind.NO_ANSWER, error
    assert kind_of(refused_in_time(log.heads, IntakeUnavailable)) is TroubleKind.NO_ANSWER
    proxy.hangs = False
    log.append([batch(2)])
    assert [entry.batch.seq for entry in log.read(batch(1).shard, 0, 10)] == [1, 2]
    log.close()


def test_records_that_hang_end_every_request_in_time_and_serve_again(tmp_path: Path) -> None:
    url = fresh_url("postgresql", tmp_path)
    with to_postgres(url) as proxy:
        records = Records(connect(through(url, proxy)))

        def count() -> int:
            with records.write() as tx:
                return int(tx.scalar(text("SELECT count(*) FROM unit")) or 0)

        assert count() == 0
        proxy.hangs = True
        assert kind_of(refused_in_time(count, OperationalError)) is TroubleKind.NO_ANSWER
        assert kind_of(refused_in_time(count, OperationalError)) is TroubleKind.NO_ANSWER
        proxy.hangs = False
        assert count() == 0
        records.close()


def test_a_statement_that_waits_for_a_lock_ends_on_the_server_too(url: str) -> None:
    """What we gave up must not queue up in the server, one process each time we try again."""
    records, other = Records(connect(url)), Records(connect(url))
    with records.write() as tx:
        tx.execute(text("CREATE TABLE held (n int)"))
    with records.write() as tx:
        tx.execute(text("LOCK TABLE held"))

        def wait_for_it() -> None:
            with other.write() as waiting:
                waiting.execute(text("INSERT INTO held VALUES (1)"))

        refused_in_time(wait_for_it, OperationalError)
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )

        def nothing_waits() -> bool:
            tx.execute(text("SELECT pg_stat_clear_snapshot()"))
            return not tx.scalar(waiting)

        until(nothing_waits, "the end of the statement on the server")
    for each in (records, other):
        each.close()
