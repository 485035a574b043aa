"""Intake log on a server: writers that really run at once, and the server's own death."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from config.settings_loader import InvalidSetting
from core.intake import postgres_server
from core.intake.factory import open_log
from core.intake.port import AppendResult, IntakeUnavailable, NewerLog
from core.intake.postgres import PostgresIntakeLog
from core.wire.shards import GatewayNumber, shard_of
from tests.fixtures.databases import PostgresProcess, empty_url
from tests.fixtures.intake_logs import EP, GW, batch
from tests.fixtures.waiting import until

SHARD = shard_of(GW)
OTHER = GatewayNumber("10002")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return empty_url("postgresql", tmp_path)


@pytest.fixture
def log(url: str) -> Iterator[PostgresIntakeLog]:
    log = PostgresIntakeLog(url)
    yield log
    log.close()


def _dsn(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def test_a_row_that_commits_late_is_never_passed_by_a_reader(url: str, log: PostgresIntakeLog) -> None:
    """A writer is held up within its transaction: whoever comes later waits for it, and readers see neither."""
    log.append([batch(1)])
    done: list[int] = []
    with log._server.transaction() as db:  # a writer's, by hand
        (n,) = db.execute("SELECT n FROM intake.head WHERE shard = %s FOR UPDATE", (SHARD,)).fetchone() or (0,)
        quick = threading.Thread(target=lambda: done.append(len(log.append([batch(3)]))))
        quick.start()
        with psycopg.connect(_dsn(url), autocommit=True) as admin:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            until(lambda: (admin.execute(waiting).fetchone() or (0,))[0] == 1, "the second writer to wait")
        db.execute(
            "INSERT INTO intake.entry SELECT shard, %s, gw, ep, 2, hash, received, origin, batch FROM intake.entry",
            (n + 1,),
        )
        db.execute("UPDATE intake.head SET n = %s WHERE shard = %s", (n + 1, SHARD))
        assert [entry.n for entry in log.read(SHARD, 0, 10)] == [1]
        assert log.append([batch(1, gw=OTHER)]) == [AppendResult.NEW], "a writer of another shard waits for nobody"
        assert not done
    quick.join(10)
    assert [(entry.n, entry.batch.seq) for entry in log.read(SHARD, 0, 10)] == [(1, 1), (2, 2), (3, 3)]


_WRITER = """
import random, sys
from core.intake.postgres import PostgresIntakeLog
from core.wire.shards import GatewayNumber
from tests.fixtures.intake_logs import batch
log = PostgresIntakeLog(sys.argv[1])
ep, chance = sys.argv[2] * 16, random.Random(sys.argv[2])
gateways = [GatewayNumber(str(10000 + number)) for number in range(6)]
for seq in range(1, 41):
    some = chance.sample(gateways, 4)
    log.append([batch(seq, gw=gw, ep=ep) for gw in some], [(gw, ep, seq, seq) for gw in gateways if gw not in some])
"""


def test_racing_writers_of_many_shards_neither_block_each_other_for_good_nor_hide_a_row(
    url: str, log: PostgresIntakeLog
) -> None:
    """Three processes append to the same shards in different orders, while a reader follows them all by cursor."""
    followed: dict[str, list[int]] = {}
    with ExitStack() as stack:
        writers = [stack.enter_context(_python(_WRITER, url, name)) for name in "abc"]
        while any(writer.poll() is None for writer in writers) or any(
            head > len(followed.get(shard, ())) for shard, head in log.heads().items()
        ):
            for shard in log.shards():
                known = followed.setdefault(shard, [])
                known += [entry.n for entry in log.read(shard, known[-1] if known else 0, 5)]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sum(map(len, followed.values())) == 3 * 40 * 4
    assert all(ns == list(range(1, len(ns) + 1)) for ns in followed.values()), "none was skipped or seen twice"
    assert all(log.have(GatewayNumber(str(10000 + i)), name * 16) == [(1, 40)] for i in range(6) for name in "abc")


def test_processes_that_start_at_once_make_the_tables_once(url: str) -> None:
    script = "import sys; from core.intake.postgres import PostgresIntakeLog as Log; Log(sys.argv[1]).close()"
    with _python(script, url) as one, _python(script, url) as two, _python(script, url) as three:
        assert [start.wait(30) for start in (one, two, three)] == [0, 0, 0]


@pytest.mark.usefixtures("log")
def test_a_log_of_a_newer_version_is_refused(url: str) -> None:
    with psycopg.connect(_dsn(url)) as admin:
        admin.execute("UPDATE intake.version SET number = 99")
    with pytest.raises(NewerLog, match="version 99"):
        PostgresIntakeLog(url)


def test_settings_name_it_and_the_reason_shows_no_password(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="postgresql\\+psycopg://USER"):
        open_log("mysql://x", str(tmp_path))
    with pytest.raises(IntakeUnavailable, match="collector:\\*\\*\\*@") as refused:
        open_log("postgresql+psycopg://collector:secret@127.0.0.1:1/none", str(tmp_path))
    assert "secret" not in str(refused.value)


def test_a_writer_that_is_frozen_in_mid_append_holds_the_others_up_for_a_while_only(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "FROZEN_WRITER_S", 1)
    log = PostgresIntakeLog(url)
    with pytest.raises(IntakeUnavailable, match="idle-in-transaction"):
        _freeze(log)
    assert log.append([batch(2)]) == [AppendResult.NEW]
    log.close()


def _freeze(log: PostgresIntakeLog) -> None:
    """Lock a counter as an append does, and stop; another append gets through before this one goes on."""
    with log._server.transaction() as frozen:
        frozen.execute("SELECT n FROM intake.head WHERE shard = %s FOR UPDATE", (SHARD,))
        assert log.append([batch(1)]) == [AppendResult.NEW]
        frozen.execute("SELECT 1")


_APPENDER = """
import sys
from core.intake.port import AppendResult, IntakeUnavailable
from core.intake.postgres import PostgresIntakeLog
from tests.fixtures.intake_logs import batch
log = PostgresIntakeLog(sys.argv[1])
start = 1
while True:
    try:
        log.append([batch(seq) for seq in range(start, start + 20)])
    except IntakeUnavailable:
        continue
    print(start + 19, flush=True)
    start += 20
"""


def test_what_was_acknowledged_survives_kill_9_of_the_server() -> None:
    """Also where its administrator had switched durable commits off; the writer goes on by itself."""
    process = PostgresProcess(durable=True)
    url = process.url.render_as_string(hide_password=False)
    with psycopg.connect(_dsn(url), autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET synchronous_commit = off")
        admin.execute("SELECT pg_reload_conf()")
    log = PostgresIntakeLog(url)
    said = 0
    with _python(_APPENDER, url) as writer:
        assert writer.stdout is not None
        for _ in range(3):
            for _line in range(random.Random(said).randint(2, 15)):
                said = int(writer.stdout.readline())
            process.kill()
            process.start()
            until(lambda: _head(log) >= said, "everything that was said to be there", within_s=20)  # noqa: B023
        writer.kill()
        said = int((writer.stdout.read().split() or [said])[-1])
    ((first, last),) = log.have(GW, EP)
    assert (first, last % 20) == (1, 0)
    assert last >= said
    assert [entry.batch.seq for entry in log.read(SHARD, 0, last + 1)] == list(range(1, last + 1))
    log.close()
    process.stop()


def _head(log: PostgresIntakeLog) -> int:
    try:
        return log.head(SHARD)
    except IntakeUnavailable:
        return 0


def _python(script: str, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
