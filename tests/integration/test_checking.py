"""`coldchain check` against real neighbours: what it finds, and what it says to mend."""

import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from coldchain.checking import Finding, check
from coldchain.simulate.modbus import ModbusDevices
from config import secrets
from config.load import convert
from config.settings import Settings
from core.db.engine import connect, url_for
from core.db.migrate import upgrade
from tests.fixtures.wechat import wechat_simulator

Ask = Callable[..., dict[str, Finding]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


def test_records_behind_this_version_are_not_a_fault(ask: Ask, tmp_path: Path) -> None:
    assert "to be migrated" in ask()["records"].seen
    engine = connect(url_for("", str(tmp_path / "data")))
    upgrade(engine)
    engine.dispose()
    assert "to be migrated" not in ask()["records"].seen


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
    assert "in use" in finding.seen
