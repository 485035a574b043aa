"""Of whose alarms nobody can be told (无人可通知): found before the first alarm, and never called told."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, true

from coldchain import installation, status_command
from coldchain.checks.contacts import reach
from config.settings import Settings, WechatSettings
from config.settings_loader import load_settings
from core.alarms.tables import AlarmEvent
from core.contacts.contacts import ContactLevel, contacts_of
from core.contacts.reachability import count_out_of_reach, levels_out_of_reach, out_of_reach
from core.db.engine import Records, connect, url_for
from core.devices.tables import EquipmentUnit, MaintenanceWindow
from core.ids import EquipmentId
from core.migrations.migrate import upgrade
from core.runtime.instant import Instant
from core.units.tables import Contact, Person, Unit
from tests.fixtures.alerting import Watch, on_both
from tests.fixtures.county import add_contact, add_fridge, add_gateway, add_probe, add_unit
from tests.fixtures.databases import fresh_url
from tests.fixtures.web import Site, site, text_of

ONE, TWO, THREE = ContactLevel
NOW = Instant(1_774_632_960_000)
ACCOUNT = WechatSettings(app_id="wx", template_alarm="a", template_recovery="r")


def seen(records: Records, *channels: str) -> dict[str, tuple[ContactLevel, ...]]:
    with records.read() as tx:
        found = {one.code: one.levels for one in out_of_reach(tx, true(), NOW, channels)}
        for level in ContactLevel:
            assert count_out_of_reach(tx, true(), NOW, channels, level) == sum(level in each for each in found.values())
    return found


@pytest.fixture
def fridge(records: Records) -> int:
    """Enter a fridge with a probe, and somebody at each level of its unit."""
    with records.write() as tx:
        unit = add_unit(tx, "县疾控")
        equipment, (zone,) = add_fridge(tx, "F1", unit)
        add_probe(tx, "P1", add_gateway(tx, "G1", unit), zone)
        for level in ContactLevel:
            add_contact(tx, level, f"level{int(level)}", unit)
    return equipment


def test_each_reason_counts(records: Records, fridge: int) -> None:
    assert seen(records, "wechat") == {}
    assert seen(records) == {"F1": (ONE, TWO, THREE)}
    assert seen(records, "sms") == {"F1": (ONE, TWO, THREE)}, "a channel that nobody is known by"
    with records.write() as tx:
        people = {person.name: person for person in tx.scalars(select(Person))}
        people["level1"].openid = None
        people["level2"].unreachable_since = NOW
        people["level3"].left_at = NOW
    assert seen(records, "wechat") == {"F1": (ONE, TWO, THREE)}
    with records.write() as tx:
        people = {person.name: person for person in tx.scalars(select(Person))}
        people["level2"].unreachable_since = None
        people["level3"].left_at = Instant(NOW + 1)
        unit = tx.get_one(Unit, people["level1"].unit_id)
        add_contact(tx, 2, "own", unit, equipment=EquipmentId(fridge), openid=None)
    assert seen(records, "wechat") == {"F1": (ONE, TWO)}, "its own contact replaces the unit's, bound or not"
    with records.write() as tx:
        tx.add(MaintenanceWindow(equipment_id=fridge, kind="stopped", since=Instant(NOW - 1)))
    assert seen(records, "wechat") == {}, "what is stopped isn't monitored"


def test_where_it_stands_now_counts(records: Records, fridge: int) -> None:
    with records.write() as tx:
        elsewhere = add_unit(tx, "邻县疾控")
        tx.execute(EquipmentUnit.__table__.update().values(until=NOW))
        tx.add(EquipmentUnit(equipment_id=fridge, unit_id=elsewhere.id, since=NOW))
    assert seen(records, "wechat") == {"F1": (ONE, TWO, THREE)}


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    contacts=st.lists(
        st.tuples(
            st.integers(0, 2), st.booleans(), st.integers(1, 3), st.sampled_from(["bound", "unbound", "blocked"])
        ),
        max_size=14,
    ),
    channels=st.sampled_from([(), ("wechat",)]),
)
def test_it_says_what_the_escalation_would_find(
    tmp_path_factory: pytest.TempPathFactory,
    contacts: list[tuple[int, bool, int, str]],
    channels: tuple[str, ...],
) -> None:
    records = Records(connect(fresh_url("sqlite", tmp_path_factory.mktemp("reach"))))
    with records.write() as tx:
        units = [add_unit(tx, f"u{n}") for n in range(2)]
        fridges = []
        for n in range(3):
            equipment, (zone,) = add_fridge(tx, f"F{n}", units[n % 2])
            add_probe(tx, f"P{n}", add_gateway(tx, f"G{n}", units[n % 2]), zone)
            fridges.append(equipment)
        for number, (n, own, level, state) in enumerate(contacts):
            person = add_contact(tx, level, f"p{number}", units[n % 2], equipment=fridges[n] if own else None)
            person.openid = None if state == "unbound" else person.openid
            person.unreachable_since = NOW if state == "blocked" else None
    with records.read() as tx:
        told = contacts_of(tx, fridges, NOW)
        expected = {one: levels_out_of_reach(told[one], channels) for one in fridges}
        found = {one.equipment: one.levels for one in out_of_reach(tx, true(), NOW, channels)}
    assert found == {one: levels for one, levels in expected.items() if levels}
    records.close()


@pytest.mark.req("AL-05", "AL-15")
@on_both
def test_two_alarms_of_which_nobody_could_be_told_are_not_called_told(watch: Watch) -> None:
    watch.fridge("208601")
    watch.fridge("208602")
    with watch.records.write() as tx:
        for person in tx.scalars(select(Person)):
            person.openid = None
    watch.reads(5.0, code="208601")
    watch.reads(5.0, code="208602")
    watch.run()
    watch.forward(20)
    assert [alarm.rule for alarm in watch.alarms()] == ["probe_offline"] * 2
    for alarm in watch.alarms():
        assert watch.events(alarm.id) == ["opened", "nobody_to_tell", "unreachable"]


@pytest.mark.req("AL-15")
def test_without_a_channel_messages_are_kept_and_nobody_counts_as_told(watch: Watch) -> None:
    watch.fridge()
    watch.channels = ()
    watch.engine = watch.worker()
    watch.warms_up()
    watch.forward(30, showing=9.4)
    assert watch.tiers(1) == [1, 2]
    assert watch.events(watch.alarm().id) == ["opened", "nobody_to_tell", "nobody_to_tell", "nobody_to_tell"]


def test_a_step_says_which_levels_were_told(watch: Watch) -> None:
    watch.fridge()
    with watch.records.write() as tx:
        tx.get_one(Person, watch.people[2]).unreachable_since = watch.clock.time
    watch.warms_up()
    watch.forward(60, showing=9.4)
    with watch.records.read() as tx:
        events = tx.scalars(select(AlarmEvent).where(AlarmEvent.kind.in_(["told", "nobody_to_tell"])))
        said = [(event.kind, msgspec.json.decode(event.detail)) for event in events]
    assert [(kind, detail.get("levels") or detail["level"]) for kind, detail in said] == [
        ("told", [1]),
        ("nobody_to_tell", 2),
        ("told", [1]),
        ("nobody_to_tell", 2),
        ("told", [1, 3]),
    ]
    assert watch.tiers(2) == [2, 3], "they are tried all the same"


COUNTY = """
since = 2020-01-01T00:00:00+08:00
[[unit]]
code = "610103"
name = "碑林区疾控中心"
kind = "cdc"
level = "county"
[[person]]
unit = "610103"
name = "王小梅"
levels = [1, 2, 3]
[[gateway]]
number = "10001"
unit = "610103"
[[equipment]]
code = "BX-1"
name = "美菱冰箱"
kind = "冰箱"
unit = "610103"
zones = ["冷藏"]
[[probe]]
code = "208601冷藏"
gateway = "10001"
equipment = "BX-1"
"""


def installed(folder: Path, more: str = "") -> Settings:
    installation.init(folder)
    file = folder / "coldchain.toml"
    file.write_text(file.read_text("utf-8") + more, "utf-8")
    (folder / "county.toml").write_text(COUNTY, "utf-8")
    return load_settings(file)


def test_import_check_and_status_say_it_and_stop_when_somebody_can_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    bare = installed(tmp_path)
    code, lines = installation.import_into(bare, tmp_path / "county.toml")
    assert code == 0
    told = [line for line in lines if "无人可通知" in line]
    assert len(told) == 3
    assert "1 台设备：BX-1 美菱冰箱 (碑林区疾控中心)" in told[0]
    assert lines[-1].startswith("→ 请先在 [wechat] 配置公众号")
    found = list(reach(bare))
    assert [finding.good for finding in found] == [False] * 3
    assert "[wechat]" in found[0].mend
    assert "无人可通知" in str(found[0])
    screen = io.StringIO()
    assert status_command.status(bare, as_json=True, to=screen) == 1
    [trouble] = [one for one in json.loads(screen.getvalue())["troubles"] if one["part"] == "contacts"]
    assert (trouble["kind"], trouble["detail"]) == ("untold", "1: BX-1 美菱冰箱")

    with_account = msgspec.structs.replace(bare, wechat=ACCOUNT)
    assert len(list(reach(with_account))) == 3, "nobody is bound"
    again = installation.import_into(with_account, tmp_path / "county.toml")[1]
    assert "openid" in again[-1]
    records = Records(connect(url_for(bare.records.url, bare.data_dir)))
    upgrade(records.engine)
    with records.write() as tx:
        tx.scalars(select(Person)).one().openid = "o-1"
    records.close()
    assert [finding.good for finding in reach(with_account)] == [True]
    assert not any("无人可通知" in line for line in installation.import_into(with_account, tmp_path / "county.toml")[1])
    troubles = {trouble.part for trouble in status_command.check_health(with_account).troubles}
    assert "contacts" not in troubles


def test_readiness_tells_it_and_serves_all_the_same(records: Records, tmp_path: Path) -> None:
    with site(records, tmp_path) as place:
        checks = {check["name"]: check for check in place.stranger().get("/readyz").json()["checks"]}
    assert (checks["contacts"]["ok"], checks["contacts"]["problem"]) == (True, "untold")
    assert "A-01" not in checks["contacts"]["detail"], "a stranger reads no names"


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path, wechat=ACCOUNT, secret="s") as made:
        yield made


def test_the_home_page_names_it_and_the_alarm_s_page_says_at_which_level(place: Site) -> None:
    alarm = place.alarm()
    browser = place.signed_in("clinic-a", accept="text/html")
    assert "无人可通知" not in text_of(browser.get("/"))
    assert "无人可通知" not in text_of(browser.get(f"/alarms/{alarm}"))
    with place.records.write() as tx:
        tx.execute(delete(Contact).where(Contact.level == 1))
        tx.get_one(Person, place.there.people["赵敏"]).unreachable_since = place.clock.now()
        tx.add(AlarmEvent(alarm_id=alarm, at=place.clock.now(), kind="nobody_to_tell", detail='{"level":3}'))
    assert "无人可通知：冰箱A-01" in text_of(browser.get("/"))
    page = text_of(browser.get(f"/alarms/{alarm}"))
    assert "无人可通知：1、3级负责人" in page
    assert "无人可通知：3级负责人" in page
    place.recovers(alarm)
    assert "无人可通知：1、3级" not in text_of(browser.get(f"/alarms/{alarm}")), "nobody needs to be told any more"
