"""SIGTERM ends a collector in time, whatever it waits for."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from coldchain.commands.services import COLLECTOR_ENDS_S
from collector.service import OPEN_S
from config.settings import IntakeSettings, Settings
from tests.fixtures.broker import broker
from tests.fixtures.collecting import Line, line_in
from tests.fixtures.databases import empty_url
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


@contextmanager
def started(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run the command as a supervisor does."""
    where = f"broker.port={settings.broker.port}", f"data_dir={settings.data_dir}", f"intake.url={settings.intake.url}"
    changes = [part for change in (*where, f"records.url={settings.records.url}") for part in ("--set", change)]
    config = Path(settings.data_dir) / "coldchain.toml"
    config.touch()
    command = [sys.executable, "-m", "coldchain", "collector", "--config", str(config), *changes]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ends_in_time(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    process.wait(COLLECTOR_ENDS_S + MARGIN_S)
    assert time.monotonic() - began < COLLECTOR_ENDS_S + MARGIN_S


def test_while_postgresql_answers_nothing(line: Line, tmp_path: Path) -> None:
    url = empty_url("postgresql", tmp_path)
    with to_postgres(url) as proxy, broker(line.settings), Gateway(line.settings) as gateway:
        settings = msgspec.structs.replace(line.settings, intake=IntakeSettings(url=through(url, proxy)))
        with started(settings) as collector:
            gateway.send_until_covered(range(1, 2), again_after_s=5)
            proxy.hangs = True
            gateway.say(gateway.batch(2))
            until(lambda: line.facts().get("received") == 2, "what it will hang with")
            ends_in_time(collector)
            assert collector.returncode == 0, "the threads that hang are left to the end of the process"


def test_while_the_log_is_locked(line: Line) -> None:
    with broker(line.settings), Gateway(line.settings) as gateway, started(line.settings) as collector:
        gateway.send_until_covered(range(1, 2), again_after_s=5)
        thief = sqlite3.connect(line.folder / "intake.db", isolation_level=None)
        thief.execute("BEGIN IMMEDIATE")
        gateway.say(gateway.batch(2))
        until(lambda: line.facts().get("received") == 2, "what it will hang with")
        ends_in_time(collector)
        assert collector.returncode == 0
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
