"""Two workers with shards in common: the second is refused, in words that say what to do."""

import re
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

import alerting.service
import collector.service
import collector.writer_service
from config.settings import (
    AlertingSettings,
    CollectorSettings,
    IntakeSettings,
    RecordsSettings,
    Settings,
    WriterSettings,
)
from config.settings_loader import InvalidSetting
from core.intake import shard_ownership
from core.intake.factory import open_log
from core.intake.shard_ownership import ShardOwnership
from core.runtime.status import StatusFile
from core.wire.shards import GatewayNumber
from core.wire.topics import MessageKind, Topic
from tests.fixtures.broker import Client, broker, running, settings_in
from tests.fixtures.databases import fresh_url
from tests.fixtures.waiting import until

Service = Callable[[Settings, threading.Event], None]


def _worker(folder: Path, log: str, records: str, name: str, shards: str) -> Settings:
    """Settings of a worker on a machine of its own, with all of its services."""
    return msgspec.structs.replace(
        settings_in(folder / name),
        intake=IntakeSettings(url=log),
        records=RecordsSettings(url=records),
        collector=CollectorSettings(client_id=name, shards=shards),
        writer=WriterSettings(worker=name, shards=shards),
        alerting=AlertingSettings(worker=name, shards=shards),
    )


@pytest.mark.parametrize("run", [collector.service.run, collector.writer_service.run, alerting.service.run])
def test_a_worker_whose_range_overlaps_is_refused_and_comes_in_when_the_other_has_gone(
    tmp_path: Path, run: Service
) -> None:
    log, records = f"sqlite:///{tmp_path / 'intake.db'}", fresh_url("sqlite", tmp_path)
    first = _worker(tmp_path, log, records, "w-1", "00-7f")
    second = _worker(tmp_path, log, records, "w-2", "70-ff")
    with running(run, first):
        until(lambda: _claims(log), "the first one's claim")
        with pytest.raises(InvalidSetting, match=r"shards = 70-ff of w-2 overlaps w-1, which has 00-7f on .*own range"):
            run(second, threading.Event())
        beside = _worker(tmp_path, log, records, "w-3", "80-ff")
        with running(run, beside):
            until(lambda: _claims(log) == 2, "both claims")
    assert not _claims(log), "who ends gives up"
    with running(run, second):
        until(lambda: _claims(log), "the second one's claim")


def test_a_copied_configuration_is_refused_by_its_name(tmp_path: Path) -> None:
    log = open_log("", str(tmp_path))
    assert ShardOwnership(log, "collector", "collector-1", "00-7f", str(tmp_path / "a")).take()
    copied = ShardOwnership(log, "collector", "collector-1", "80-ff", str(tmp_path / "b"))
    with pytest.raises(InvalidSetting, match=r"the name is taken by collector-1.*give each worker its own"):
        copied.take()
    assert ShardOwnership(log, "collector", "collector-1", "00-ff", str(tmp_path / "a")).take(), (
        "the same one, after a kill"
    )
    log.close()


def test_a_range_that_ends_before_it_begins_is_refused(tmp_path: Path) -> None:
    log = open_log("", str(tmp_path))
    with pytest.raises(InvalidSetting, match=re.escape("collector.shards = '80-7f' ends before it begins")):
        ShardOwnership(log, "collector", "collector-1", "80-7f", str(tmp_path))
    log.close()


def test_one_that_was_silent_for_too_long_and_was_followed_by_another_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard_ownership, "RENEW_S", 0.05)
    log = open_log("", str(tmp_path))
    slow = ShardOwnership(log, "collector", "slow", "00-ff", str(tmp_path))
    heir = ShardOwnership(log, "collector", "heir", "00-ff", str(tmp_path))
    assert slow.take()
    with pytest.raises(InvalidSetting, match="overlaps heir"):
        _lose(slow, heir, tmp_path)
    log.close()


def test_a_collector_and_an_alerting_worker_of_one_name_throw_each_other_out_of_no_broker(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "10001")
    settings = msgspec.structs.replace(settings, alerting=AlertingSettings(worker="w-1"))
    status = StatusFile(settings.data_dir, "alerting", settings.alerting.process)
    data = str(Topic(GatewayNumber("10001"), MessageKind.DATA))
    with broker(settings), Client(settings, None, data, client_id="w-1") as collects:
        collects.connected()
        with running(alerting.service.run, settings), Client(settings, "10001") as gateway:
            until(lambda: (said := status.read()) and said.facts.get("connected"), "alerting at the broker")
            gateway.connected().bus.publish(data, b"still heard")
            until(collects.payloads, "a message")
        assert collects.connections == 1


def _lose(slow: ShardOwnership, heir: ShardOwnership, folder: Path) -> None:
    """Let the claims end, as when a process was stopped for longer than its lease, until the heir has the range."""
    stop = threading.Event()
    with slow.kept(stop):
        while not _taken(heir):
            with closing(sqlite3.connect(folder / "intake.db")) as db, db:
                db.execute("UPDATE claim SET until = 0")
        assert stop.wait(5)


def _taken(worker: ShardOwnership) -> bool:
    try:
        return worker.take()
    except InvalidSetting:
        return False


def _claims(url: str) -> int:
    file = Path(url.removeprefix("sqlite:///"))
    if not file.exists():
        return 0
    with closing(sqlite3.connect(file, timeout=5)) as db:
        made = db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'claim'").fetchone()[0]
        return int(db.execute("SELECT count(*) FROM claim").fetchone()[0]) if made else 0
