"""`coldchain check` against real neighbours: what it finds, and what it says to mend."""

import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from coldchain.checking import Finding, check
from coldchain.demo.stage import free_port
from coldchain.simulate.modbus import ModbusDevices
from config import secrets
from config.load import convert
from config.settings import Settings
from core.db.engine import Records, connect, url_for
from core.db.migrate import upgrade
from core.intake.open import open_log
from tests.fixtures.browser import on_a_port
from tests.fixtures.databases import empty_url
from tests.fixtures.web import site
from tests.fixtures.wechat import wechat_simulator

Ask = Callable[..., dict[str, Finding]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def findings(*, secret: str = "", **raw: object) -> dict[str, Finding]:
        whole = {
            "data_dir": str(tmp_path / "data"),
            "api": {"port": free_port()},
            "broker": {"port": free_port()},
            **raw,
        }
        settings: Settings = convert(whole, "coldchain.toml")
        if secret:
            made = secrets.fresh("coldchain")
            secrets.write(settings.data_dir, msgspec.structs.replace(made, wechat_secret=secret))
        return {finding.what: finding for finding in check(settings)}

    return findings


def test_a_fresh_folder_is_told_to_be_initialised(ask: Ask) -> None:
    found = ask()
    assert not found["secrets"].good
    assert found["secrets"].mend == "coldchain init"
    assert found["data folder"].good
    assert found["web pages"].good


def test_an_embedded_broker_need_not_run_but_another_must(ask: Ask) -> None:
    found = ask(secret="x")
    assert found["broker"].good
    assert "`coldchain up` runs it" in found["broker"].seen
    found = ask(secret="x", broker={"embedded": False, "port": free_port()})
    assert not found["broker"].good
    assert "[broker]" in found["broker"].mend


def test_records_that_cannot_be_reached_are_named_without_their_password(ask: Ask) -> None:
    url = f"postgresql+psycopg://cc:hush@127.0.0.1:{free_port()}/cc"
    finding = ask(records={"url": url})["records"]
    assert not finding.good
    assert "hush" not in str(finding)
    assert "127.0.0.1" in finding.seen
    assert "records.url" in finding.mend


def test_an_intake_log_that_cannot_be_reached_is_named_without_its_password(ask: Ask) -> None:
    assert ask()["intake log"].good
    url = f"postgresql+psycopg://cc:hush@127.0.0.1:{free_port()}/cc"
    finding = ask(intake={"url": url})["intake log"]
    assert not finding.good
    assert "hush" not in str(finding)
    assert "intake.url" in finding.mend
    assert not ask(intake={"url": "redis://x"})["intake log"].good


def test_it_changes_nothing(ask: Ask, tmp_path: Path) -> None:
    assert "to be made" in ask()["intake log"].seen
    assert list(tmp_path.iterdir()) == []
    secrets.write(str(tmp_path / "data"), secrets.fresh("coldchain"))
    connect(url_for("", str(tmp_path / "data"))).connect().close()
    open_log("", str(tmp_path / "data")).close()
    before = {file: file.read_bytes() for file in (tmp_path / "data").iterdir()}
    assert len(before) >= 3
    found = ask()
    assert "to be migrated" in found["records"].seen
    assert "to be made" not in found["intake log"].seen
    assert {file: file.read_bytes() for file in (tmp_path / "data").iterdir()} == before


def test_on_postgresql_too_it_changes_nothing(ask: Ask, tmp_path: Path) -> None:
    url = empty_url("postgresql", tmp_path)
    for _ in range(2):
        found = ask(records={"url": url}, intake={"url": url})
        assert "to be migrated" in found["records"].seen
        assert "to be made" in found["intake log"].seen
    open_log(url, "").close()
    assert "to be made" not in ask(intake={"url": url})["intake log"].seen


def test_records_and_logs_of_a_newer_version_are_named(ask: Ask, tmp_path: Path) -> None:
    engine = connect(url_for("", str(tmp_path / "data")))
    upgrade(engine)
    assert "to be migrated" not in ask()["records"].seen
    with engine.begin() as tx:
        tx.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with sqlite3.connect(tmp_path / "data" / "intake.db") as log:
        log.execute("PRAGMA user_version = 99")
    log.close()
    found = ask()
    for store in ("records", "intake log"):
        assert not found[store].good
        assert "newer" in str(found[store])


def test_a_modbus_line_that_answers_and_one_that_does_not(ask: Ask) -> None:
    devices = ModbusDevices()
    devices.add(1, "r4dcb08", lambda _channel: 5.0)
    devices.start()
    units = [{"address": 1, "profile": "r4dcb08", "probes": {"t1": "208601"}}]
    lines = [
        {"name": "good", "kind": "tcp", "host": "127.0.0.1", "port": devices.port, "units": units},
        {"name": "dead", "kind": "rtu-over-tcp", "host": "127.0.0.1", "port": free_port(), "units": units},
        {"name": "serial", "kind": "rtu", "device": "/dev/ttyNONE", "units": units},
    ]
    try:
        found = ask(secret="x", agent={"gateways": [{"number": "10001", "buses": lines}]})
    finally:
        devices.stop()
    assert found["gateway 10001, line good"].good
    assert not found["gateway 10001, line dead"].good
    assert not found["gateway 10001, line serial"].good
    assert "dialout" in found["gateway 10001, line serial"].mend
    assert "import" in found["gateway 10001"].mend


@pytest.mark.parametrize(("profile", "good"), [("r4dcb08", True), ("r4dcb8", False)])
def test_devices_that_cannot_be_read_are_found_before_the_agent_starts(ask: Ask, profile: str, *, good: bool) -> None:
    units = [{"address": 1, "profile": profile, "probes": {"t1": "208601"}}]
    line = {"name": "a", "kind": "tcp", "host": "127.0.0.1", "port": free_port(), "units": units}
    found = ask(secret="x", agent={"gateways": [{"number": "10001", "buses": [line]}]})["devices"]
    assert found.good == good
    assert good or "agent.gateways[0].buses[0].units[0].profile = 'r4dcb8'" in found.seen


def test_wechat_is_asked_for_a_token(ask: Ask, tmp_path: Path) -> None:
    assert ask(secret="x")["WeChat"].good  # not configured is a choice
    with wechat_simulator(tmp_path / "wechat") as wechat:
        known = msgspec.to_builtins(wechat.settings)
        assert ask(secret="demo-secret", wechat=known)["WeChat"].good
        wrong = ask(secret="another", wechat=known)["WeChat"]
        assert not wrong.good
        assert "another" not in str(wrong)
        assert "template_alarm" in str(ask(secret="x", wechat={**known, "template_alarm": ""})["WeChat"])


def test_a_port_that_somebody_holds_is_said(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        finding = ask(api={"port": other.getsockname()[1]})["web pages"]
    assert not finding.good
    assert f"process {os.getpid()}" in finding.seen
    assert "api.port" in finding.mend


def test_a_port_that_a_running_coldchain_serves_is_well(ask: Ask, sqlite_records: Records, tmp_path: Path) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with listening, site(sqlite_records, tmp_path) as place, on_a_port(place.app, listening):
        finding = ask(api={"port": listening.getsockname()[1]})["web pages"]
    assert finding.good
    assert "a coldchain that runs" in finding.seen
