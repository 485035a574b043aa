"""The timeline of the unit tree: who stood under whom at which time, and units that have ended."""

from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.db.audit import Audit
from core.db.engine import Records
from core.errors import BackDated, Conflict, Invalid, PermissionDenied
from core.runtime.instant import DAY, Instant, parse
from core.units.actor import OPERATOR, Actor, Holding
from core.units.ancestry import ancestors_at, stood_below_at
from core.units.rights import RIGHTS, Role
from core.units.tables import Unit, UnitParent
from core.units.tree import (
    UnitParticulars,
    add_unit,
    businesses_of,
    change_unit,
    move_unit,
    particulars,
    stop_unit,
)
from core.units.unit_attributes import CHINESE_ATTRIBUTES, Business, EntityKind, Grade
from core.units.unit_levels import Level, UnitKind

FOUNDED = parse("2019-01-01T00:00:00+08:00")
MOVED = parse("2021-07-01T00:00:00+08:00")
NOW = parse("2026-05-01T12:00:00+08:00")


def unit_under(tx: Session, parent: Unit | None, name: str, level: str, kind: str = "cdc") -> Unit:
    wish = UnitParticulars(name=name, kind=UnitKind(kind), level=Level(level))
    return add_unit(tx, OPERATOR, wish, parent=parent, now=FOUNDED)


def above(tx: Session, unit: Unit, at: int) -> list[str]:
    return [ancestor.name for ancestor in ancestors_at(tx, unit.id, Instant(at))]


def test_a_move_keeps_where_a_unit_and_all_below_it_stood(records: Records) -> None:
    with records.write() as tx:
        province = unit_under(tx, None, "province", "province")
        west, east = unit_under(tx, province, "west", "city"), unit_under(tx, province, "east", "city")
        county = unit_under(tx, west, "county", "county")
        clinic = unit_under(tx, county, "clinic", "township", "pov")
        move_unit(tx, OPERATOR, county, east, now=MOVED)
        assert above(tx, clinic, MOVED - 1) == ["county", "west", "province"]
        assert above(tx, clinic, MOVED) == ["county", "east", "province"]
        assert above(tx, clinic, FOUNDED - 1) == []
        assert [unit.name for unit in stood_below_at(tx, west.id, Instant(MOVED - 1))] == ["county"]
        assert stood_below_at(tx, west.id, MOVED) == []
        assert clinic.path == f"/{province.id}/{east.id}/{county.id}/{clinic.id}/"


def test_a_unit_that_becomes_a_root_has_nothing_above_it_from_then_on(records: Records) -> None:
    with records.write() as tx:
        province = unit_under(tx, None, "province", "province")
        county = unit_under(tx, province, "county", "county")
        move_unit(tx, OPERATOR, county, None, now=MOVED)
        assert (above(tx, county, MOVED - 1), above(tx, county, MOVED)) == (["province"], [])
        move_unit(tx, OPERATOR, county, province, now=NOW)
        assert (above(tx, county, NOW - 1), above(tx, county, NOW)) == ([], ["province"])


def test_moving_to_where_it_stands_changes_nothing_and_twice_at_once_counts_once(records: Records) -> None:
    with records.write() as tx:
        province = unit_under(tx, None, "province", "province")
        west, east = unit_under(tx, province, "west", "city"), unit_under(tx, province, "east", "city")
        county = unit_under(tx, west, "county", "county")
        move_unit(tx, OPERATOR, county, west, now=MOVED)
        assert len(tx.scalars(select(UnitParent).where(UnitParent.unit_id == county.id)).all()) == 1
        move_unit(tx, OPERATOR, county, east, now=MOVED)
        move_unit(tx, OPERATOR, county, province, now=MOVED)
        assert (above(tx, county, MOVED - 1), above(tx, county, MOVED)) == (["west", "province"], ["province"])
        with pytest.raises(BackDated, match="can't leave it"):
            move_unit(tx, OPERATOR, county, west, now=Instant(MOVED - 1))


def test_the_database_refuses_two_parents_at_a_time(records: Records) -> None:
    with records.write() as tx:
        province = unit_under(tx, None, "province", "province")
        west = unit_under(tx, province, "west", "city")
        county = unit_under(tx, west, "county", "county")
        county_id, province_id = county.id, province.id
    with pytest.raises(IntegrityError, match="overlap"), records.write() as tx:
        tx.add(UnitParent(unit_id=county_id, parent_id=province_id, since=MOVED))


@pytest.mark.req("UC-27", "UC-29")
def test_levels_that_a_place_does_not_have_are_left_out(records: Records) -> None:
    """A county under a province, a municipality without cities, the production corps; and a national root above all."""
    with records.write() as tx:
        nation = unit_under(tx, None, "中国疾病预防控制中心", "national")
        shaanxi = unit_under(tx, nation, "陕西省", "province")
        yangling = unit_under(tx, shaanxi, "杨陵区", "county")
        chongqing = unit_under(tx, nation, "重庆市", "province")
        wanzhou = unit_under(tx, chongqing, "万州区", "county")
        corps = unit_under(tx, nation, "新疆生产建设兵团", "province")
        division = unit_under(tx, corps, "第一师", "city")
        regiment = unit_under(tx, division, "一团", "county")
        for county, names in (
            (yangling, ["陕西省", "中国疾病预防控制中心"]),
            (wanzhou, ["重庆市", "中国疾病预防控制中心"]),
            (regiment, ["第一师", "新疆生产建设兵团", "中国疾病预防控制中心"]),
        ):
            assert above(tx, county, NOW) == names
        with pytest.raises(Invalid, match="can't hang"):
            unit_under(tx, shaanxi, "upside down", "national")


@pytest.mark.req("UC-09")
def test_a_temporary_site_belongs_to_a_point_of_vaccination_and_has_no_code(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county", "county")
        clinic = unit_under(tx, county, "clinic", "township", "pov")
        site = unit_under(tx, clinic, "体育馆", "township", "temp_site")
        assert (site.code, above(tx, site, NOW)) == (None, ["clinic", "county"])
        coded = UnitParticulars(name="x", kind=UnitKind.TEMP_SITE, level=Level.TOWNSHIP, code="6101030299")
        with pytest.raises(Invalid, match="no code of its own"):
            add_unit(tx, OPERATOR, coded, parent=clinic, now=NOW)
        for parent in (county, None):
            with pytest.raises(Invalid, match="stands under a point of vaccination"):
                unit_under(tx, parent, "elsewhere", "township", "temp_site")
        with pytest.raises(Invalid, match="stands under a point of vaccination"):
            move_unit(tx, OPERATOR, site, county, now=NOW)
        number = site.id
    with pytest.raises(IntegrityError), records.write() as tx:
        tx.execute(text("UPDATE unit SET code = '6101030299' WHERE id = :id"), {"id": number})


@pytest.mark.req("UC-11", "UC-22")
def test_a_unit_has_a_grade_a_kind_of_entity_and_several_lines_of_business(records: Records) -> None:
    wish = UnitParticulars(
        name="西安市碑林区某医院",
        kind=UnitKind.POV,
        level=Level.COUNTY,
        entity=EntityKind.BOTH,
        grade=Grade.SECONDARY,
        businesses=frozenset({Business.ROUTINE, Business.COVID_19}),
    )
    with records.write() as tx:
        county = unit_under(tx, None, "county", "county")
        unit = add_unit(tx, OPERATOR, wish, parent=county, now=NOW)
        change_unit(tx, OPERATOR, unit, particulars(unit), now=NOW)
        number = unit.id
    with records.write() as tx:
        unit = tx.get_one(Unit, number)
        assert [CHINESE_ATTRIBUTES[value] for value in (unit.grade, unit.entity)] == [
            "二级医疗机构",
            "接种单位和报告单位",
        ]
        assert {CHINESE_ATTRIBUTES[value] for value in businesses_of(tx, [number])[number]} == {
            "常规接种",
            "新冠疫苗接种",
        }
        only_reports = UnitParticulars(
            name=unit.name, kind=unit.kind, level=unit.level, entity=EntityKind.REPORTING, businesses=frozenset()
        )
        change_unit(tx, OPERATOR, unit, only_reports, now=NOW)
        assert (unit.entity, businesses_of(tx, [number])[number]) == ("reporting", frozenset())


@pytest.mark.req("UC-21")
def test_a_unit_is_stopped_not_deleted(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county", "county")
        clinic = unit_under(tx, county, "clinic", "township", "pov")
        with pytest.raises(Conflict, match="while clinic stands under it"):
            stop_unit(tx, OPERATOR, county, now=NOW)
        user = Actor("account:9", (Holding(county.path, RIGHTS[Role.USER]),))
        with pytest.raises(PermissionDenied):
            stop_unit(tx, user, clinic, now=NOW)
        stop_unit(tx, OPERATOR, clinic, now=NOW)
        with pytest.raises(Conflict, match="stopped since"):
            stop_unit(tx, OPERATOR, clinic, now=Instant(NOW + DAY))
        assert (clinic.until, above(tx, clinic, NOW + DAY)) == (NOW, ["county"])
        stop_unit(tx, OPERATOR, county, now=NOW)
        assert [row.act for row in tx.scalars(select(Audit).order_by(Audit.id))][-2:] == ["unit stopped"] * 2


def test_units_of_an_import_stand_where_they_do_from_its_beginning(records: Records, tmp_path: Path) -> None:
    from coldchain.importing import import_file
    from config import secrets

    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    file = tmp_path / "units.toml"
    units = (
        '[[unit]]\ncode = "610102"\nname = "甲"\nkind = "cdc"\nlevel = "county"\n'
        '[[unit]]\ncode = "6101020101"\nname = "乙"\nkind = "pov"\nlevel = "township"\nparent = "610102"\n'
    )
    file.write_text(f"since = 2019-01-01T00:00:00+08:00\n{units}", "utf-8")
    assert import_file(records, str(tmp_path), file, actor=OPERATOR, now=NOW).mistakes == []
    with records.write() as tx:
        clinic = tx.scalars(select(Unit).where(Unit.code == "6101020101")).one()
        assert (above(tx, clinic, FOUNDED - 1), above(tx, clinic, FOUNDED)) == ([], ["甲"])
        clinic.grade = Grade.TOWNSHIP_CENTRE
    report = import_file(records, str(tmp_path), file, actor=OPERATOR, now=NOW)
    assert not report.changed
    with records.read() as tx:
        assert tx.scalars(select(Unit.grade).where(Unit.code == "6101020101")).one() == "township_centre"
