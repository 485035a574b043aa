"""Inventory of devices: each once, where it is, with state, origin, warranty and latest reading (CC-11)."""

import csv
import io
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from api.pages import device_list
from core.db.engine import Records
from core.devices.bindings import unbind_probe
from core.devices.tables import Equipment, EquipmentUnit, Gateway, Probe
from core.ids import ProbeId
from core.runtime.instant import HOUR, MINUTE, Instant
from core.units.actor import OPERATOR
from core.units.tables import Unit
from tests.fixtures.web import NOW, Site, site

MAKER = "青岛某电子"


@pytest.fixture
def place(records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(records, tmp_path) as made:
        yield made


@pytest.fixture
def chinese(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        yield made


def equip(place: Site) -> None:
    """Enter where probe 208601 and gateway 10001 came from."""
    with place.records.write() as tx:
        for row in (tx.query(Probe).filter_by(code="208601").one(), tx.query(Gateway).filter_by(number="10001").one()):
            row.supplier, row.source = MAKER, "province_issued"
            row.installed_on, row.warranty_end = date(2025, 3, 1), date(2026, 3, 27)


def listed(place: Site, username: str, query: str = "") -> list[dict[str, Any]]:
    answer = place.signed_in(username).get(f"/api/v1/devices{query}")
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


@pytest.mark.req("CC-11")
def test_a_unit_s_gateways_and_probes_have_state_installation_warranty_and_last_reading(place: Site) -> None:
    equip(place)
    place.measured("208601", [4.5, 4.6], until=2 * MINUTE)
    by_code = {(each["type"], each["code"]): each for each in listed(place, "clinic-a")}
    assert set(by_code) == {
        *(("equipment", "A-01"), ("gateway", "10001"), ("probe", "208601"), ("probe", "208602")),
    }
    probe, gateway = by_code["probe", "208601"], by_code["gateway", "10001"]
    for device in (probe, gateway):
        assert (device["state"], device["installed_on"], device["warranty_end"]) == (
            *("in_use", "2025-03-01", "2026-03-27"),
        )
        assert (device["supplier"], device["source"]) == (MAKER, "province_issued")
        assert device["last_at"].startswith("2026-03-27T19:00:40")
    assert (probe["last_value"], gateway["last_value"]) == (4.6, None)
    assert (probe["equipment_name"], probe["zone"], probe["unit_name"]) == ("冰箱A-01", "refrigerated", "甲镇卫生院")
    assert by_code["probe", "208602"]["last_at"] is None


def test_whoever_stands_above_sees_those_below_and_a_neighbour_none(place: Site) -> None:
    codes = {name: {each["code"] for each in listed(place, name)} for name in ("clinic-a", "county-a", "clinic-b")}
    assert codes["clinic-a"] == codes["county-a"] == {"A-01", "10001", "208601", "208602"}
    assert codes["clinic-b"] == {"B-01", "10002", "208701"}
    units = place.there.units
    assert listed(place, "county-a", f"?unit={units['county a']}") == []
    assert len(listed(place, "county-a", f"?unit={units['county a']}&below=true")) == 4
    assert place.signed_in("clinic-a").get(f"/api/v1/devices?unit={units['clinic b']}").status_code == 404


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_pages_have_every_device_once(place: Site, limit: int) -> None:
    browser, cursor, found = place.signed_in("province"), "", []
    while True:
        page = browser.get(f"/api/v1/devices?limit={limit}{cursor}").json()
        found += [(each["type"], each["id"]) for each in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert len(found) == len(set(found)) == 7


def test_filters_are_by_type_state_and_end_of_warranty(place: Site) -> None:
    equip(place)
    with place.records.write() as tx:
        tx.query(Probe).filter_by(code="208602").one().state = "to_return"
    assert [each["code"] for each in listed(place, "clinic-a", "?type=gateway")] == ["10001"]
    assert [each["code"] for each in listed(place, "clinic-a", "?state=to_return")] == ["208602"]
    assert {each["code"] for each in listed(place, "clinic-a", "?state=in_use")} == {"A-01", "10001", "208601"}
    ended = listed(place, "clinic-a", "?warranty_ends_before=2026-03-28")
    assert {each["code"] for each in ended} == {"10001", "208601"}
    assert listed(place, "clinic-a", "?warranty_ends_before=2026-03-27") == []


def test_a_probe_that_measures_nothing_is_with_its_gateway_and_one_taken_back_with_its_keeper(place: Site) -> None:
    probe = ProbeId(next(each["id"] for each in listed(place, "clinic-a", "?type=probe") if each["code"] == "208601"))
    with place.records.write() as tx:
        unbind_probe(tx, OPERATOR, probe, Instant(NOW - MINUTE), now=NOW)
    free = next(each for each in listed(place, "clinic-a", "?type=probe") if each["code"] == "208601")
    assert (free["equipment_name"], free["zone"]) == (None, None)
    with place.records.write() as tx:
        row = tx.get_one(Probe, probe)
        row.state, row.holder_id = "returned", place.there.units["county a"]
    assert "208601" not in {each["code"] for each in listed(place, "clinic-a")}
    back = next(each for each in listed(place, "county-a") if each["code"] == "208601")
    assert (back["state"], back["unit_name"]) == ("returned", "甲县疾控中心")


def test_what_was_measured_in_another_unit_is_not_the_latest_reading_here(place: Site) -> None:
    place.measured("208601", [4.5], until=HOUR)
    with place.records.write() as tx:
        placed = tx.query(EquipmentUnit).join(Equipment, Equipment.id == EquipmentUnit.equipment_id)
        old = placed.filter(Equipment.code == "A-01").one()
        old.until = Instant(NOW - MINUTE)
        unit = tx.get_one(Unit, place.there.units["clinic b"])
        tx.add(EquipmentUnit(equipment_id=old.equipment_id, unit_id=unit.id, since=NOW - MINUTE))
    moved = {each["code"]: each for each in listed(place, "clinic-b")}
    assert {"A-01", "208601", "208602"} <= set(moved)
    assert moved["208601"]["last_at"] is None
    assert moved["A-01"]["last_at"] is None
    assert [each["code"] for each in listed(place, "clinic-a")] == ["10001"]


@pytest.mark.parametrize("rows", [2, 500])
def test_the_file_has_what_the_page_lists(chinese: Site, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(device_list, "ROWS", rows)
    equip(chinese)
    chinese.measured("208601", [4.6], until=2 * MINUTE)
    browser = chinese.signed_in("clinic-a")
    text = browser.get("/devices.csv").content.decode("utf-8-sig")
    found = {row["编号"]: row for row in csv.DictReader(io.StringIO(text, newline=""))}
    assert set(found) == {"A-01", "10001", "208601", "208602"}
    probe = found["208601"]
    assert (probe["类型"], probe["监测位置"], probe["状态"]) == ("探头", "冰箱A-01（冷藏）", "在用")
    assert (probe["来源"], probe["保修截止"], probe["最新读数"]) == ("省级配发", "2026-03-27", "2026-03-28 03:00:40")
    assert probe["温度 ℃"] == "4.60"
    only = browser.get("/devices.csv?type=&state=&expired=1").content.decode("utf-8-sig")
    assert {row["编号"] for row in csv.DictReader(io.StringIO(only, newline=""))} == {"10001", "208601"}


def test_the_page_says_whose_warranty_is_over_and_what_to_do_where_nothing_is(chinese: Site) -> None:
    equip(chinese)
    browser = chinese.signed_in("clinic-a", accept="text/html")
    page = browser.get("/devices").text
    assert page.count("已过保<") == 2
    assert 'aria-current="page">台账</a>' in page
    assert 'id="empty"' in browser.get("/devices?state=returned").text
    english = browser.get("/devices?lang=en&type=probe").text
    assert "issued by the province" in english
    assert "10001" not in english
