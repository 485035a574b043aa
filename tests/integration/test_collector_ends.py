"""SIGTERM ends a collector or a writer in time, whatever it waits for."""

import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from coldchain.commands.services import ENDS_WITHIN_S
from collector.lifecycle import OPEN_S
from config.settings import IntakeSettings
from tests.fixtures.broker import broker
from tests.fixtures.collecting import Line, line_in, started
from tests.fixtures.databases import empty_url
from tests.fixtures.intake_logs import batch
from tests.fixtures.publisher import Gateway
from tests.fixtures.tcp_proxy import through, to_postgres
from tests.fixtures.waiting import until

pytestmark = pytest.mark.long

MARGIN_S = 4.0
"""For a busy machine."""


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    with line_in(tmp_path, "embedded") as line:
        yield line


def ends_in_time(process: subprocess.Popen[bytes]) -> None:
    """It ends by itself, or where the machine is too slow for that, is ended at its limit."""
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    process.wait(ENDS_WITHIN_S + MARGIN_S)
    assert process.returncode == 0 or time.monotonic() - began >= ENDS_WITHIN_S


def test_while_postgresql_answers_nothing(line: Line, tmp_path: Path) -> None:
    url = empty_url("postgresql", tmp_path)
    with to_postgres(url) as proxy, broker(line.settings), Gateway(line.settings) as gateway:
        settings = msgspec.structs.replace(line.settings, intake=IntakeSettings(url=through(url, proxy)))
        with started(settings) as collector:
            gateway.send_until_covered(range(1, 2), again_after_s=5)
            proxy.hangs = True
            gateway.say(gateway.batch(2))
            until(lambda: line.facts().get("received") == 2, "what it will hang with")
            ends_in_time(collector)  # the threads that hang are left to the end of the process


def test_while_the_log_is_locked(line: Line) -> None:
    with broker(line.settings), Gateway(line.settings) as gateway, started(line.settings) as collector:
        gateway.send_until_covered(range(1, 2), again_after_s=5)
        thief = sqlite3.connect(line.folder / "intake.db", isolation_level=None)
        thief.execute("BEGIN IMMEDIATE")
        gateway.say(gateway.batch(2))
        until(lambda: line.facts().get("received") == 2, "what it will hang with")
        ends_in_time(collector)
        thief.close()


def test_while_it_opens_a_log_that_is_locked(line: Line) -> None:
    line.log.close()
    for name in ("intake.db", "intake.db-wal", "intake.db-shm"):
        (line.folder / name).unlink(missing_ok=True)
    thief = sqlite3.connect(line.folder / "intake.db", isolation_level=None)
    thief.execute("CREATE TABLE t (n)")
    thief.execute("BEGIN EXCLUSIVE")
    with started(line.settings) as collector:
        until(lambda: line.facts().get("problem"), "its complaint", within_s=20)
        time.sleep(2 * OPEN_S)  # now it is in the next attempt, which lasts five seconds
        ends_in_time(collector)
    thief.close()


def test_a_writer_while_telemetry_is_locked(line: Line) -> None:
    with started(line.settings, "writer") as writer:
        until(lambda: line.facts("writer").get("writer_lag") == 0, "its cursors", within_s=20)
        thief = sqlite3.connect(line.folder / "telemetry" / "hot.db", isolation_level=None)
        thief.execute("BEGIN IMMEDIATE")
        line.log.append([batch(1)])
        until(lambda: line.facts("writer").get("writer_lag") == 1, "what it will hang with")
        ends_in_time(writer)
        thief.close()
