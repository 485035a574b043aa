"""Counts of equipment over the tree of units, coverage, and a province's whole list, on both databases."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.alarms.equipment_counts import EquipmentCounts, Overview, counts_by_unit, overview
from core.alarms.states import EquipmentState
from core.alarms.tables import SeriesState
from core.db.engine import Records
from core.devices.monitoring_coverage import monitoring_coverage
from core.devices.tables import EquipmentUnit, MaintenanceWindow, ProbeZone, Series, Zone
from core.ids import EquipmentId, UnitId
from core.runtime.instant import DAY, MINUTE, Instant, rfc3339
from core.units.actor import OPERATOR
from core.units.tables import Unit
from core.units.tree import UnitParticulars, add_units
from core.units.unit_attributes import Grade
from core.units.unit_levels import Level, UnitKind
from tests.fixtures.county import add_fridge, add_gateway, add_probe, add_unit
from tests.fixtures.web import NOW, Site, site, text_of

LIMIT = 15 * MINUTE
"""After so long without a reading a probe that is read every minute is offline."""


class Area:
    """Fridges with their newest readings, in units of a province."""

    def __init__(self, tx: Session) -> None:
        self.tx = tx
        self.province = add_unit(tx, "province", level="province")
        self.city = add_unit(tx, "city", self.province, level="city")
        self.county = add_unit(tx, "county", self.city)
        self.clinic = add_unit(tx, "clinic", self.county, level="township", kind="pov")
        self.gateway = add_gateway(tx, "10001", self.clinic)
        self._number = 0

    def fridge(self, unit: Unit, *values: int | None, age: int = MINUTE, probe: bool = True) -> EquipmentId:
        """Add a fridge with a refrigerated zone, or with a frozen one too; values are hundredths of their probes."""
        self._number += 1
        kinds = ("refrigerated", "frozen")[: max(1, len(values))]
        fridge, zones = add_fridge(self.tx, f"F{self._number}", unit, *kinds)
        for number, zone in enumerate(zones if probe else ()):
            added = add_probe(self.tx, f"P{self._number}-{number}", self.gateway, zone)
            series = self.tx.scalars(select(Series.id).where(Series.probe_id == added)).one()
            if number < len(values):
                at = Instant(NOW - age)
                self.tx.add(
                    SeriesState(
                        series_id=series,
                        shard="00",
                        newest_at=at,
                        received_at=at,
                        value=values[number],
                        q=0,
                        recent=b"",
                    )
                )
        self.tx.flush()
        return fridge

    def window(self, fridge: EquipmentId, kind: str, *, until: int | None = None) -> None:
        since = Instant(NOW - DAY)
        self.tx.add(MaintenanceWindow(equipment_id=fridge, kind=kind, since=since, until=until))
        self.tx.flush()

    def counts(self, unit: Unit | None = None) -> EquipmentCounts:
        return overview(self.tx, unit or self.clinic, now=NOW).total


@pytest.fixture
def area(records: Records) -> Iterator[Area]:
    with records.write() as tx:
        yield Area(tx)


@pytest.mark.req("CC-04")
@pytest.mark.parametrize(
    ("values", "age", "state"),
    [
        ((500,), MINUTE, "normal"),
        ((800,), MINUTE, "normal"),
        ((801,), MINUTE, "abnormal"),
        ((200,), MINUTE, "normal"),
        ((199,), MINUTE, "abnormal"),
        ((500, -1500), MINUTE, "normal"),
        ((500, -1499), MINUTE, "abnormal"),
        ((500,), LIMIT - 1, "normal"),
        ((500,), LIMIT, "offline"),
        ((900,), LIMIT, "offline"),
        ((), MINUTE, "offline"),
    ],
)
def test_an_equipment_is_counted_in_the_state_of_its_worst_zone(
    area: Area, values: tuple[int, ...], age: int, state: str
) -> None:
    area.fridge(area.clinic, *values, age=age)
    assert area.counts() == EquipmentCounts(**{state: 1})
    assert area.counts().total == 1


@pytest.mark.req("CC-04")
def test_windows_go_before_readings_and_what_nobody_measures_is_not_counted(area: Area) -> None:
    area.fridge(area.clinic, 500)
    area.window(area.fridge(area.clinic, 900), "stopped")
    area.window(area.fridge(area.clinic, probe=False), "stopped")
    area.window(area.fridge(area.clinic, 900), "repair")
    both = area.fridge(area.clinic, 500)
    area.window(both, "spare")
    area.window(both, "stopped")
    area.window(area.fridge(area.clinic, 900), "repair", until=NOW)
    area.fridge(area.clinic, probe=False)
    area.window(area.fridge(area.clinic, probe=False), "repair")
    assert area.counts() == EquipmentCounts(normal=1, abnormal=1, stopped=3, maintenance=1)


def test_a_zone_of_its_own_limits_and_without_a_probe(area: Area) -> None:
    fridge = area.fridge(area.clinic, 700)
    zone = area.tx.scalars(select(Zone).where(Zone.equipment_id == fridge)).one()
    area.tx.add(Zone(equipment_id=fridge, kind="frozen"))
    area.tx.flush()
    assert area.counts() == EquipmentCounts(normal=1)
    zone.high = 650
    area.tx.flush()
    assert area.counts() == EquipmentCounts(abnormal=1)


def test_an_open_alarm_keeps_an_equipment_abnormal_until_it_recovers(place: Site) -> None:
    at = Instant(NOW - MINUTE)
    with place.records.write() as tx:
        for number, value in ((1, 500), (2, -1800)):
            state = SeriesState(
                series_id=number, shard="00", newest_at=at, received_at=at, value=value, q=0, recent=b""
            )
            tx.add(state)
    unit = place.there.units["clinic a"]
    assert _counted(place, unit) == EquipmentCounts(normal=1)
    alarm = place.alarm()
    assert _counted(place, unit) == EquipmentCounts(abnormal=1)
    place.recovers(alarm)
    assert _counted(place, unit) == EquipmentCounts(normal=1)


def test_readings_from_before_it_came_are_not_its_state(area: Area) -> None:
    fridge = area.fridge(area.clinic, 900)
    placed = area.tx.scalars(select(EquipmentUnit).where(EquipmentUnit.equipment_id == fridge)).one()
    placed.until = Instant(NOW - 10)
    area.tx.flush()
    area.tx.add(EquipmentUnit(equipment_id=fridge, unit_id=area.county.id, since=Instant(NOW - 10)))
    area.tx.flush()
    assert area.counts(area.clinic).total == 0
    assert overview(area.tx, area.county, now=NOW).own == EquipmentCounts(offline=1)
    bound = area.tx.scalars(select(ProbeZone)).one()
    bound.until = Instant(NOW - 5)
    area.tx.flush()
    assert area.counts(area.county).total == 0


@pytest.mark.req("CC-04")
def test_every_row_is_the_sum_of_its_own_and_of_the_rows_below_it(area: Area) -> None:
    """A county directly under the province among them, clinics beside and below each other, at several seeds."""
    chance = random.Random(4)
    units = [area.province, area.city, area.county, area.clinic]
    units.append(add_unit(area.tx, "county of the province", area.province))
    for number in range(12):
        above = chance.choice([unit for unit in units if unit.level != "township"])
        level = {"province": "city", "city": "county"}.get(above.level, "township")
        kind = "pov" if level == "township" else "cdc"
        units.append(add_unit(area.tx, f"unit {number}", above, level=level, kind=kind))
    for _ in range(60):
        fridge = area.fridge(chance.choice(units), chance.choice((500, 900)), age=chance.choice((MINUTE, DAY)))
        if chance.random() < 0.3:
            area.window(fridge, chance.choice(("stopped", "repair", "defrost")))

    def check(shown: Overview) -> None:
        below = [row.counts for row in shown.below]
        assert sum(below, shown.own) == shown.total
        assert shown.total.total == sum(shown.total.of(state) for state in EquipmentState)
        for row in shown.below:
            further = overview(area.tx, row.unit, now=NOW)
            assert (further.total, row.units_below) == (row.counts, _below(area.tx, row.unit))
            check(further)

    whole = overview(area.tx, area.province, now=NOW)
    assert whole.total.total == 60
    assert all(whole.total.of(state) for state in EquipmentState)
    check(whole)
    assert sum(counts_by_unit(area.tx, area.province, now=NOW).values(), EquipmentCounts()) == whole.total


def test_a_stopped_unit_is_listed_while_it_has_equipment(area: Area) -> None:
    ended = add_unit(area.tx, "ended", area.county, level="township", kind="pov")
    ended.until = NOW
    area.tx.flush()
    assert [row.unit.name for row in overview(area.tx, area.county, now=NOW).below] == ["clinic"]
    area.fridge(ended, 500)
    assert [row.unit.name for row in overview(area.tx, area.county, now=NOW).below] == ["clinic", "ended"]


@pytest.mark.req("CC-02")
def test_coverage_counts_cdcs_and_points_of_vaccination_from_the_township_up(area: Area) -> None:
    """A village's point isn't counted, a community health station is; neither temporary sites nor stopped units are."""
    village = add_unit(area.tx, "村卫生室", area.clinic, level="village", kind="pov")
    station = add_unit(area.tx, "社区卫生服务站", area.clinic, level="village", kind="pov")
    hospital = add_unit(area.tx, "hospital", area.county, level="county", kind="institution")
    site_of_clinic = add_unit(area.tx, "site", area.clinic, level="township", kind="temp_site")
    ended = add_unit(area.tx, "ended", area.county, level="township", kind="pov")
    township_cdc = add_unit(area.tx, "township CDC", area.county, level="township")
    village.grade, station.grade, ended.until = Grade.VILLAGE_CLINIC, Grade.COMMUNITY_STATION, NOW
    area.tx.flush()
    before = monitoring_coverage(area.tx, area.province, now=NOW)
    assert (before.cdcs, before.cdcs_monitored, before.povs, before.povs_monitored) == (3, 0, 2, 0)
    for unit in (village, station, hospital, site_of_clinic, ended, township_cdc, area.county):
        area.fridge(unit, 500)
    area.fridge(area.city, probe=False)
    after = monitoring_coverage(area.tx, area.province, now=NOW)
    assert (after.cdcs, after.cdcs_monitored, after.povs, after.povs_monitored) == (3, 1, 2, 1)
    below = monitoring_coverage(area.tx, area.clinic, now=NOW)
    assert (below.cdcs, below.povs, below.povs_monitored) == (0, 2, 1)


@pytest.fixture
def place(records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(records, tmp_path) as made:
        yield made


@pytest.mark.req("CC-04")
def test_the_api_gives_the_rows_below_in_pages_and_by_state(place: Site) -> None:
    units, browser = place.there.units, place.signed_in("province")
    path = f"/api/v1/units/{units['province']}/overview"
    whole = browser.get(path).json()
    assert whole["total"] == {"total": 2, "normal": 0, "abnormal": 0, "offline": 2, "stopped": 0, "maintenance": 0}
    assert [(row["name"], row["units_below"], row["counts"]["total"]) for row in whole["below"]["items"]] == [
        ("甲县疾控中心", 1, 1),
        ("乙县疾控中心", 1, 1),
    ]
    first = browser.get(path, params={"limit": 1}).json()["below"]
    second = browser.get(path, params={"limit": 1, "cursor": first["next"]}).json()["below"]
    assert [row["unit"] for row in first["items"] + second["items"]] == [units["county a"], units["county b"]]
    assert second["next"] is None
    assert browser.get(path, params={"state": "abnormal"}).json()["below"]["items"] == []
    assert len(browser.get(path, params={"state": "offline"}).json()["below"]["items"]) == 2
    assert browser.get(path, params={"state": "warm"}).status_code == 422
    coverage = browser.get(f"/api/v1/units/{units['province']}/coverage").json()
    assert coverage == {"cdcs": 3, "cdcs_monitored": 0, "povs": 2, "povs_monitored": 2}
    ready = browser.get(f"/api/v1/units/{units['clinic a']}/readiness").json()
    assert (set(ready["hardware"].values()), ready["units"], ready["ready"]) == ({0}, 1, 0)
    assert place.signed_in("clinic-a").get(path).status_code == 404


def test_the_api_tells_who_stood_above_a_unit_as_far_as_one_may_see(place: Site) -> None:
    with place.records.write() as tx:
        county = tx.get_one(Unit, place.there.units["county a"])
        wish = UnitParticulars(name="new clinic", kind=UnitKind.POV, level=Level.TOWNSHIP, code="6101030203")
        (clinic,) = add_units(tx, OPERATOR, [(wish, county)], now=Instant(NOW - DAY))
        assert isinstance(clinic, Unit)
        number = clinic.id
    path = f"/api/v1/units/{number}/ancestors"
    assert place.signed_in("province").get(path, params={"at": rfc3339(NOW)}).json() == [
        {"id": place.there.units["county a"], "name": "甲县疾控中心", "level": "county"}
    ]
    assert place.signed_in("province").get(path, params={"at": rfc3339(Instant(NOW - 2 * DAY))}).json() == []
    assert place.signed_in("clinic-a").get(path, params={"at": rfc3339(NOW)}).status_code == 404


@pytest.mark.req("CC-04")
def test_the_page_shows_the_tree_and_leads_down_and_back(place: Site) -> None:
    units = place.there.units
    browser = place.signed_in("province", **{"accept": "text/html", "accept-language": "zh-CN"})
    page = text_of(browser.get("/units"))
    assert re.search(r"<h1>某省疾控中心</h1>", page)
    assert f'href="/units?unit={units["county a"]}"' in page
    county = text_of(browser.get("/units", params={"unit": units["county a"]}))
    assert f'href="/units?unit={units["province"]}"' in county
    assert f'href="/?unit={units["clinic a"]}"' in county
    assert numbers(county) == [["甲镇卫生院", "1", "0", "0", "1", "0", "0"]]
    none = text_of(browser.get("/units", params={"unit": units["county a"], "state": "stopped"}))
    assert numbers(none) == []
    assert "没有处于此状态的设备" in none
    english = text_of(browser.get("/units", params={"state": "offline", "lang": "en"}))
    assert [row[0] for row in numbers(english)] == ["甲县疾控中心", "乙县疾控中心"]
    assert "Monitored: 0 of 3 CDCs, 2 of 2 points of vaccination" in english
    own = place.signed_in("clinic-a", accept="text/html")
    assert [row[1] for row in numbers(text_of(own.get("/units")))] == ["1"]
    assert own.get("/units", params={"unit": units["county a"]}).status_code == 404


@pytest.mark.req("CC-22")
def test_the_list_of_a_whole_province_leaves_nobody_out(place: Site) -> None:
    """12 cities, 108 counties and 2 900 points of vaccination; every page of the list and every row of the overview."""
    with place.records.write() as tx:
        province = tx.get_one(Unit, place.there.units["province"])
        cities = _below_each(tx, [province], 12, "city", "cdc")
        counties = _below_each(tx, cities, 9, "county", "cdc")
        clinics = _below_each(tx, counties, 27, "township", "pov")
        wanted = {unit.id for unit in [*cities, *counties, *clinics]} | set(place.there.units.values())
    browser, cursor, listed = place.signed_in("province"), None, list[int]()
    while True:
        answer = browser.get("/api/v1/units", params={"limit": 200, **({"cursor": cursor} if cursor else {})}).json()
        listed += [unit["id"] for unit in answer["items"]]
        if (cursor := answer["next"]) is None:
            break
    assert len(listed) == len(wanted) > 3_000
    assert set(listed) == wanted
    rows = _all_rows(browser, place.there.units["province"])
    assert sum(1 + row["units_below"] for row in rows) == len(wanted) - 1


def numbers(page: str) -> list[list[str]]:
    """Return the rows of the table of units: the name, and the numbers behind it."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        [re.findall(r"<a [^>]*>([^<]*)</a>", row)[0], *re.findall(r"<td[^>]*>(\d+)</td>", row)]
        for row in re.findall(r"<tr>.*?</tr>", body, re.DOTALL)
    ]


def _all_rows(browser: Any, unit: UnitId) -> list[dict[str, Any]]:
    rows, cursor = list[dict[str, Any]](), None
    while True:
        more = {"cursor": cursor} if cursor else {}
        below = browser.get(f"/api/v1/units/{unit}/overview", params={"limit": 5, **more}).json()["below"]
        rows += below["items"]
        if (cursor := below["next"]) is None:
            return rows


def _below_each(tx: Session, parents: list[Unit], count: int, level: str, kind: str) -> list[Unit]:
    new = [
        (UnitParticulars(name=f"{parent.name}-{number}", kind=UnitKind(kind), level=Level(level)), parent)
        for parent in parents
        for number in range(count)
    ]
    return [unit for unit in add_units(tx, OPERATOR, new, now=NOW) if isinstance(unit, Unit)]


def _below(tx: Session, unit: Unit) -> int:
    return len(tx.scalars(select(Unit.id).where(Unit.path.startswith(unit.path), Unit.id != unit.id)).all())


def _counted(place: Site, unit: UnitId) -> EquipmentCounts:
    with place.records.read() as tx:
        return overview(tx, tx.get_one(Unit, unit), now=NOW).total
