"""`coldchain check` against real neighbours: what it finds, and what it says to mend."""

import os
import re
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import cast

import msgspec
import pytest

import gateway_agent.device_profile
from coldchain import installation
from coldchain.checks import Finding, check
from coldchain.demo.environment import free_port
from coldchain.simulate.modbus import ModbusDevices
from config import secrets
from config.settings import Settings
from config.settings_loader import convert
from core.db.engine import Records, connect, url_for
from core.intake.factory import open_log
from core.migrations.migrate import upgrade
from core.runtime.process_lock import single_process
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
    assert "`coldchain up` runs it" in found["broker"].state
    found = ask(secret="x", broker={"embedded": False, "port": free_port()})
    assert not found["broker"].good
    assert "[broker]" in found["broker"].mend


def test_records_that_cannot_be_reached_are_named_without_their_password(ask: Ask) -> None:
    url = f"postgresql+psycopg://cc:hush@127.0.0.1:{free_port()}/cc"
    finding = ask(records={"url": url})["records"]
    assert not finding.good
    assert "hush" not in str(finding)
    assert "127.0.0.1" in finding.state
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
    assert "to be made" in ask()["intake log"].state
    assert list(tmp_path.iterdir()) == []
    secrets.write(str(tmp_path / "data"), secrets.fresh("coldchain"))
    connect(url_for("", str(tmp_path / "data"))).connect().close()
    open_log("", str(tmp_path / "data")).close()
    before = {file: file.read_bytes() for file in (tmp_path / "data").iterdir()}
    assert len(before) >= 3
    found = ask()
    assert "to be migrated" in found["records"].state
    assert "to be made" not in found["intake log"].state
    assert {file: file.read_bytes() for file in (tmp_path / "data").iterdir()} == before


def test_on_postgresql_too_it_changes_nothing(ask: Ask, tmp_path: Path) -> None:
    url = empty_url("postgresql", tmp_path)
    for _ in range(2):
        found = ask(records={"url": url}, intake={"url": url})
        assert "to be migrated" in found["records"].state
        assert "to be made" in found["intake log"].state
    open_log(url, "").close()
    assert "to be made" not in ask(intake={"url": url})["intake log"].state


def test_records_and_logs_of_a_newer_version_are_named(ask: Ask, tmp_path: Path) -> None:
    engine = connect(url_for("", str(tmp_path / "data")))
    upgrade(engine)
    assert "to be migrated" not in ask()["records"].state
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
    assert good or "agent.gateways[0].buses[0].units[0].profile = 'r4dcb8'" in found.state


def test_profiles_of_ones_own_are_validated_also_where_none_uses_them(ask: Ask, tmp_path: Path) -> None:
    shipped = (
        Path(gateway_agent.device_profile.__file__).parents[1] / "config" / "devices" / "xy-md02.toml"
    ).read_text()
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "good.toml").write_text(shipped)
    (tmp_path / "devices" / "bad.toml").write_text(shipped.replace("function = 4", "function = 9"))
    units = [{"address": 1, "profile": "good", "probes": {"t": "208601"}}]
    line = {"name": "a", "kind": "tcp", "host": "127.0.0.1", "port": free_port(), "units": units}
    agent = {"gateways": [{"number": "10001", "buses": [line]}], "profiles": str(tmp_path / "devices")}
    found = ask(secret="x", agent=agent)
    assert found["device profile good"].good
    assert "XY-MD02, channels t, h" in found["device profile good"].state
    assert not found["device profile bad"].good
    assert f"{tmp_path}/devices/bad.toml: channels[0].function = 9" in found["device profile bad"].state
    assert "docs/device-profiles.md" in found["device profile bad"].mend
    assert found["devices"].good


def test_wechat_is_asked_for_a_token(ask: Ask, tmp_path: Path) -> None:
    assert ask(secret="x")["WeChat"].good  # not configured is a choice
    with wechat_simulator(tmp_path / "wechat") as wechat:
        known = msgspec.to_builtins(wechat.settings)
        assert ask(secret="demo-secret", wechat=known)["WeChat"].good
        wrong = ask(secret="another", wechat=known)["WeChat"]
        assert not wrong.good
        assert "another" not in str(wrong)
        assert "template_alarm" in str(ask(secret="x", wechat={**known, "template_alarm": ""})["WeChat"])


@pytest.mark.long
def test_a_port_that_somebody_holds_is_said(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        finding = ask(api={"port": other.getsockname()[1]})["web pages"]
    assert not finding.good
    assert f"process {os.getpid()}" in finding.state
    assert "api.port" in finding.mend


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"])
def test_an_address_of_this_machine_alone_is_not_said_to_be_reached_by_phones(ask: Ask, url: str) -> None:
    assert "no phone can open: set public_url" in ask(public_url=url)["web pages"].state
    assert "phones reach it as http://cold.example" in ask(public_url="http://cold.example")["web pages"].state


def test_a_port_that_this_installation_serves_is_well_and_another_ones_is_not(
    ask: Ask, sqlite_records: Records, tmp_path: Path
) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with listening, site(sqlite_records, tmp_path) as place, on_a_port(place.app, listening):
        port = listening.getsockname()[1]
        with single_process(str(tmp_path / "data"), "api", Event()):
            assert ask(api={"port": port})["web pages"] == Finding(
                "web pages", good=True, state=f"127.0.0.1:{port} is served by this installation, which runs"
            )
        with single_process(str(tmp_path / "other"), "api", Event()):
            finding = ask(api={"port": port})["web pages"]
    assert not finding.good
    name = Path("/proc/self/comm").read_text("utf-8").strip()
    assert f"another coldchain ({name}, process {os.getpid()}), with the data folder {tmp_path}/other" in finding.state
    assert "api.port" in finding.mend


@pytest.fixture
def county(tmp_path: Path) -> dict[str, object]:
    """Return settings of an agent that reads the probe of an imported county, and may read others."""
    secrets.write(str(tmp_path / "data"), secrets.fresh("coldchain"))
    file = tmp_path / "county.toml"
    file.write_text(COUNTY)
    settings = convert({"data_dir": str(tmp_path / "data")}, "x")
    assert installation.import_into(settings, file)[0] == 0

    def reads(number: str, **probes: str) -> dict[str, object]:
        units = [{"address": 1, "profile": "r4dcb08", "probes": probes}]
        line = {"name": "a", "kind": "tcp", "host": "127.0.0.1", "port": free_port(), "units": units}
        return {"number": number, "buses": [line]}

    return {"reads": reads}


COUNTY = """
[[unit]]
code = "1"
name = "县疾控"
kind = "cdc"
level = "county"
[[equipment]]
code = "F1"
name = "冰箱"
kind = "冰箱"
unit = "1"
zones = ["冷藏"]
[[gateway]]
number = "10001"
unit = "1"
[[gateway]]
number = "10002"
unit = "1"
[[probe]]
code = "208601冷藏"
gateway = "10001"
equipment = "F1"
"""


def told_of_probes(
    settings: dict[str, object], tmp_path: Path, *gateways: tuple[str, dict[str, str]]
) -> list[tuple[bool, str]]:
    reads = cast(Callable[..., dict[str, object]], settings["reads"])
    whole = {
        "data_dir": str(tmp_path / "data"),
        "agent": {"gateways": [reads(number, **probes) for number, probes in gateways]},
    }
    return [(each.good, str(each)) for each in check(convert(whole, "x")) if each.what == "probes"]


def test_the_agents_probes_are_compared_with_the_records(county: dict[str, object], tmp_path: Path) -> None:
    def told(*gateways: tuple[str, dict[str, str]]) -> list[tuple[bool, str]]:
        return told_of_probes(county, tmp_path, *gateways)

    before = {file: file.read_bytes() for file in (tmp_path / "data").iterdir()}
    assert told(("10001", {"t1": "208601"})) == [
        (True, "ok  probes: all probes of the settings (1) are those of the records")
    ]
    ((well, unknown),) = told(("10001", {"t1": "208601", "t2": "208699"}))
    assert not well
    assert "208699: gateway 10001 is to read it, and the records don't know it" in unknown
    ((_, paired),) = told(("10002", {"t1": "208601"}))
    assert "208601: gateway 10002 is to read it, and the records pair it with gateway 10001" in paired
    labelled, unread = told(("10001", {"t1": "208601冷藏"}))
    assert "write the bare code" in labelled[1]
    assert "208601: the records pair it with gateway 10001, and no unit of the settings reads it" in unread[1]
    assert told() == []
    assert {file: file.read_bytes() for file in (tmp_path / "data").iterdir()} == before


def test_an_edge_box_has_no_records_to_compare_with(ask: Ask) -> None:
    units = [{"address": 1, "profile": "r4dcb08", "probes": {"t1": "208601"}}]
    line = {"name": "a", "kind": "tcp", "host": "127.0.0.1", "port": free_port(), "units": units}
    finding = ask(secret="x", agent={"gateways": [{"number": "10001", "buses": [line]}]})["probes"]
    assert finding.good
    assert "another machine" in finding.state


def test_what_others_may_read_is_said(ask: Ask, tmp_path: Path) -> None:
    found = ask(secret="x")
    (tmp_path / "data").chmod(0o700)
    assert ask()["privacy"].good
    (tmp_path / "data" / "records.db").touch(0o644)
    (tmp_path / "data").chmod(0o755)
    found = ask()
    assert not found["privacy"].good
    assert f"2 folders and files can be used by others: {tmp_path}/data, {tmp_path}/data/records.db" in str(
        found["privacy"]
    )
    assert f"chmod -R go-rwx {tmp_path}/data" in found["privacy"].mend


def test_a_chinese_operator_is_answered_in_chinese(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    found = ask()
    assert str(found["密钥"]).startswith("有误 密钥：")
    assert "请运行：coldchain init" in str(found["密钥"])
    for finding in found.values():
        assert re.search(r"[\u4e00-\u9fff]", finding.state), finding
