"""Unit codes from the county's request to the stopped unit, on both databases."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from msgspec.structs import replace
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.db.audit import Audit
from core.db.engine import Records
from core.errors import Conflict, Invalid, NotFound, PermissionDenied
from core.runtime.instant import DAY, HOUR, Instant, parse
from core.units.actor import OPERATOR, Actor, Holding
from core.units.code_queries import (
    UploadObstacle,
    code_in_force,
    codes_of_year,
    reporting_unit,
    unit_of_code,
    upload_obstacles,
)
from core.units.divisions import shipped
from core.units.readiness import hardware_coverage, hardware_of, record_hardware
from core.units.rights import Role, rights_of
from core.units.tables import Unit, UnitCode
from core.units.tree import UnitParticulars, add_unit, change_unit, move_unit, particulars, stop_unit
from core.units.unit_attributes import CHINESE_ATTRIBUTES, Business, Grade, HardwareKind
from core.units.unit_codes import (
    NewUnit,
    check_maintenance,
    check_new_unit,
    check_stop,
    confirm_yearly_maintenance,
    maintain_unit,
    open_temporary_site,
    open_unit,
    replace_code,
    stop_coded_unit,
)
from core.units.unit_levels import Level, UnitKind

NOW = parse("2026-05-01T09:00:00+08:00")
FORM = "application:7"
CODE = "6101030203"
HARDWARE = dict.fromkeys(HardwareKind, 1)


class Place:
    """A county with its city and province, a clinic beside, and a hospital."""

    def __init__(self, tx: Session) -> None:
        self.tx = tx
        self.province = self.add(None, "陕西省疾病预防控制中心", "province")
        self.city = self.add(self.province, "西安市疾病预防控制中心", "city")
        self.county = self.add(self.city, "碑林区疾病预防控制中心", "county")
        self.clinic = self.add(self.county, "某卫生院", "township", "pov")
        self.hospital = self.add(self.county, "长乐坊医院", "county", "institution")
        self.clerk = user(Role.BUSINESS_ADMIN, self.county)

    def add(self, parent: Unit | None, name: str, level: str, kind: str = "cdc") -> Unit:
        wish = UnitParticulars(name=name, kind=UnitKind(kind), level=Level(level))
        return add_unit(self.tx, OPERATOR, wish, parent=parent, now=Instant(NOW - DAY))

    def new(self, **changed: object) -> NewUnit:
        unit = UnitParticulars(
            name="长乐坊社区卫生服务中心",
            kind=UnitKind.POV,
            level=Level.TOWNSHIP,
            code=CODE,
            institution=self.hospital.id,
            grade=Grade.COMMUNITY_CENTRE,
            businesses=frozenset({Business.ROUTINE}),
        )
        return NewUnit(particulars=replace(unit, **changed), hardware=HARDWARE)

    def open(self, new: NewUnit | None = None, *, at: int = NOW) -> Unit:
        return open_unit(
            self.tx,
            user(Role.BUSINESS_ADMIN, self.province),
            self.county,
            new or self.new(),
            authorization=FORM,
            divisions=shipped(),
            now=Instant(at),
        )

    def faults(self, new: NewUnit, actor: Actor | None = None) -> list[str]:
        found = check_new_unit(self.tx, actor or self.clerk, self.county, new, divisions=shipped(), now=NOW)
        return [str(fault) for fault in found]


def user(role: Role, unit: Unit) -> Actor:
    return Actor("account:9", (Holding(unit.path, rights_of(role, unit.level)),))


@contextmanager
def place_in(records: Records) -> Iterator[Place]:
    with records.write() as tx:
        yield Place(tx)


@pytest.mark.req("UC-08", "UC-13")
def test_an_approved_unit_works_at_once_and_reports_nationally_from_the_next_day(records: Records) -> None:
    midnight = parse("2026-05-02T00:00:00+08:00")
    with place_in(records) as place:
        assert place.faults(place.new()) == []
        number = place.open().id
    with records.read() as tx:
        unit = tx.get_one(Unit, number)
        row = code_in_force(tx, unit, NOW)
        assert row is not None
        assert (row.code, row.since, row.national_from, row.authorization) == (CODE, NOW, midnight, FORM)
        assert (unit.code, unit.division, unit.grade) == (CODE, "610103", "community_centre")
        assert unit_of_code(tx, CODE, NOW) is unit
        assert unit_of_code(tx, CODE, Instant(NOW - 1)) is None
        assert upload_obstacles(tx, unit, NOW) == [UploadObstacle.NOT_YET_NATIONAL]
        assert upload_obstacles(tx, unit, Instant(midnight - 1)) == [UploadObstacle.NOT_YET_NATIONAL]
        assert upload_obstacles(tx, unit, midnight) == []
        given = tx.scalars(select(Audit).where(Audit.act == "unit code given")).one()
        assert FORM in given.detail


@pytest.mark.req("UC-15")
def test_only_a_user_of_the_countys_cdc_asks_for_codes(records: Records) -> None:
    with place_in(records) as place:
        unit = place.open()
        others = [
            user(Role.BUSINESS_ADMIN, place.clinic),
            user(Role.BUSINESS_ADMIN, place.city),
            user(Role.BUSINESS_ADMIN, place.province),
            user(Role.SYSTEM_ADMIN, place.county),
            user(Role.USER, place.county),
        ]
        for actor in others:
            new = place.new(code="6101030204")
            with pytest.raises((PermissionDenied, NotFound)):
                place.faults(new, actor)
            with pytest.raises((PermissionDenied, NotFound)):
                check_maintenance(place.tx, actor, place.county, unit, particulars(unit), now=NOW)
            with pytest.raises((PermissionDenied, NotFound)):
                check_stop(actor, place.county, unit)
        with pytest.raises(PermissionDenied):
            place.faults(place.new(code="6101030204"), user(Role.BUSINESS_ADMIN, place.city))
        check_stop(place.clerk, place.county, unit)
        elsewhere = place.add(place.city, "新城区疾病预防控制中心", "county")
        with pytest.raises(NotFound):
            check_new_unit(place.tx, place.clerk, elsewhere, place.new(), divisions=shipped(), now=NOW)
        with pytest.raises(PermissionDenied, match="no CDC of a county"):
            check_new_unit(place.tx, place.clerk, place.clinic, place.new(), divisions=shipped(), now=NOW)


@pytest.mark.req("UC-15")
def test_there_is_no_side_door_to_a_code(records: Records) -> None:
    """Who may enter, change and stop units of the tree can't give, change or end the code of a point of vaccination."""
    with place_in(records) as place:
        unit, admin = place.open(), user(Role.SYSTEM_ADMIN, place.county)
        bare = replace(place.new().particulars, code=None)
        with pytest.raises(PermissionDenied, match="filed application"):
            add_unit(place.tx, admin, replace(bare, code="6101030204"), parent=place.county, now=NOW)
        other = add_unit(place.tx, admin, bare, parent=place.county, now=NOW)
        with pytest.raises(PermissionDenied, match="filed application"):
            change_unit(place.tx, admin, other, replace(particulars(other), code="6101030204"), now=NOW)
        with pytest.raises(PermissionDenied, match="filed application"):
            stop_unit(place.tx, admin, unit, now=NOW)
        change_unit(place.tx, admin, unit, replace(particulars(unit), telephone="029-1"), now=NOW)
        assert code_in_force(place.tx, unit, NOW) is not None
        stop_unit(place.tx, admin, other, now=NOW)


@pytest.mark.req("UC-01", "UC-18", "UC-25")
@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"code": "61010302"}, "code = '61010302': a unit code has ten digits"),
        ({"code": None}, "code = '': a unit code has ten digits"),
        ({"code": "9901030203"}, "code = '9901030203': there is no division 990103"),
        ({"code": "6101260001"}, "code = '6101260001': there is no division 610126"),  # a county until 2014
        (
            {"institution": None},
            "institution = None: link the medical institution; if there is none, ask the province's",
        ),
        ({"name": "碑林CDC接种点"}, "name = '碑林CDC接种点': write the full registered name; CDC is an abbreviation"),
        ({"kind": UnitKind.CDC}, "kind = 'cdc': only a point of vaccination has a unit code"),
    ],
)
def test_what_is_wrong_with_a_request_is_told(records: Records, changed: dict[str, object], fault: str) -> None:
    with place_in(records) as place:
        new = place.new(**changed)
        faults = place.faults(new)
        assert any(one.startswith(fault) for one in faults), faults
        with pytest.raises((Invalid, Conflict)):
            place.open(new)
        assert place.tx.scalars(select(UnitCode)).all() == []


@pytest.mark.req("UC-18")
def test_a_point_of_vaccination_links_to_an_institution_that_is_there(records: Records) -> None:
    with place_in(records) as place:
        for wrong in (place.clinic.id, 999_999):
            assert "information centre" in place.faults(place.new(institution=wrong))[0]
        stop_unit(place.tx, OPERATOR, place.hospital, now=NOW)
        assert "information centre" in place.faults(place.new())[0]


@pytest.mark.req("UC-01", "UC-21")
def test_a_code_is_never_given_again(records: Records) -> None:
    with place_in(records) as place:
        unit = place.open()
        assert "was given already" in place.faults(place.new())[0]
        stop_coded_unit(place.tx, place.clerk, unit, authorization="application:8", now=Instant(NOW + HOUR))
        assert "was given already" in place.faults(place.new())[0]
        with pytest.raises(Conflict, match="never given again"):
            place.open(at=NOW + DAY)
        assert unit_of_code(place.tx, CODE, Instant(NOW + HOUR - 1)) is unit
        assert unit_of_code(place.tx, CODE, Instant(NOW + HOUR)) is None
        assert unit_of_code(place.tx, CODE) is unit
        assert (unit.until, code_in_force(place.tx, unit, Instant(NOW + HOUR))) == (NOW + HOUR, None)
        assert upload_obstacles(place.tx, unit, Instant(NOW + 2 * DAY)) == [UploadObstacle.NO_CODE]
        other, number = place.open(place.new(code="6101030204")), unit.id
        assert other.code == "6101030204"
    with pytest.raises(IntegrityError), records.write() as tx:
        tx.add(UnitCode(unit_id=number, code=CODE, since=NOW + DAY, national_from=NOW + DAY, authorization="x"))
    with pytest.raises(IntegrityError, match="overlap"), records.write() as tx:
        tx.add(UnitCode(unit_id=number, code="6101030205", since=NOW, national_from=NOW, authorization="x"))


@pytest.mark.req("UC-19", "UC-20")
@pytest.mark.parametrize("reason", ["approved", "maintained this year"])
@pytest.mark.parametrize("field", ["code", "division", "institution"])
def test_three_fields_are_frozen_and_others_are_not(records: Records, reason: str, field: str) -> None:
    with place_in(records) as place:
        if reason == "approved":
            unit = place.open()
        else:
            wish = replace(place.new().particulars, code=None, division="610103")
            unit = add_unit(place.tx, OPERATOR, wish, parent=place.county, now=NOW)
            confirm_yearly_maintenance(place.tx, place.clerk, unit, authorization=FORM, now=NOW)
        other = place.add(place.county, "另一医院", "county", "institution")
        frozen = {"code": "6101030299", "division": "610104", "institution": other.id}[field]
        to = replace(particulars(unit), **{field: frozen})
        (fault,) = check_maintenance(place.tx, place.clerk, place.county, unit, to, now=NOW)
        assert f"{field} can't be changed" in str(fault)
        with pytest.raises(Conflict, match=f"{field} can't be changed"):
            maintain_unit(place.tx, place.clerk, unit, to, authorization=FORM, now=NOW)
        free = replace(
            particulars(unit), name="长乐坊街道社区卫生服务中心", address="长乐路1号", telephone="029-1234567"
        )
        assert check_maintenance(place.tx, place.clerk, place.county, unit, free, now=NOW) == []
        maintain_unit(place.tx, place.clerk, unit, free, authorization=FORM, now=NOW)
        assert (unit.name, unit.address, unit.telephone) == (free.name, free.address, free.telephone)
        if reason != "approved":
            next_year = parse("2027-01-01T00:00:00+08:00")
            assert check_maintenance(place.tx, place.clerk, place.county, unit, to, now=next_year) == []


@pytest.mark.req("UC-26")
def test_a_code_of_an_earlier_year_still_names_its_unit(records: Records) -> None:
    year = {n: parse(f"{n}-01-01T00:00:00+08:00") for n in (2013, 2014, 2015)}
    with place_in(records) as place:
        unit = place.open(at=year[2013])
        replace_code(
            place.tx, OPERATOR, unit, "6101030888", authorization="pull:2014", divisions=shipped(), now=year[2014]
        )
        assert unit_of_code(place.tx, CODE, Instant(year[2014] - 1)) is unit
        assert unit_of_code(place.tx, CODE, year[2014]) is None
        assert unit_of_code(place.tx, CODE) is unit
        assert unit.code == "6101030888"

        def codes(of_year: int) -> list[str]:
            rows = codes_of_year(place.tx, place.province, of_year, "Asia/Shanghai")
            assert {row.unit for row in rows} <= {unit.id}
            return [row.code for row in rows]

        assert [codes(n) for n in (2012, 2013, 2014, 2026)] == [[], [CODE], ["6101030888"], ["6101030888"]]
        with pytest.raises(Conflict, match="never given again"):
            replace_code(place.tx, OPERATOR, unit, CODE, authorization="pull:2015", divisions=shipped(), now=year[2015])


@pytest.mark.req("UC-09")
def test_a_temporary_site_reports_under_the_code_of_its_parent(records: Records) -> None:
    with place_in(records) as place:
        unit = place.open()
        site = open_temporary_site(place.tx, place.clerk, unit, "体育馆", HARDWARE, authorization=FORM, now=NOW)
        row = code_in_force(place.tx, site, NOW)
        assert row is not None
        assert (site.code, row.code, reporting_unit(place.tx, site, NOW)) == (None, CODE, unit)
        assert upload_obstacles(place.tx, site, Instant(NOW + DAY)) == []
        with pytest.raises(Invalid, match="stands under a point of vaccination"):
            open_temporary_site(place.tx, place.clerk, place.county, "x", HARDWARE, authorization=FORM, now=NOW)
        other = place.open(place.new(code="6101030204"), at=NOW + HOUR)
        move_unit(place.tx, OPERATOR, site, other, now=Instant(NOW + DAY))
        assert reporting_unit(place.tx, site, Instant(NOW + DAY - 1)) is unit
        assert reporting_unit(place.tx, site, Instant(NOW + DAY)) is other
        stop_coded_unit(place.tx, place.clerk, other, authorization=FORM, now=Instant(NOW + 2 * DAY))
        assert site.until == NOW + 2 * DAY


@pytest.mark.req("UC-25")
def test_a_cdc_reports_under_its_full_name_and_a_valid_credit_code(records: Records) -> None:
    with place_in(records) as place:
        assert upload_obstacles(place.tx, place.county, NOW) == [UploadObstacle.NO_USCC]
        wrong = replace(particulars(place.county), uscc="91110000600037341M")
        with pytest.raises(Invalid, match="uscc"):
            change_unit(place.tx, OPERATOR, place.county, wrong, now=NOW)
        right = replace(particulars(place.county), uscc="91110000600037341L")
        change_unit(place.tx, OPERATOR, place.county, right, now=NOW)
        assert upload_obstacles(place.tx, place.county, NOW) == []
        change_unit(place.tx, OPERATOR, place.county, replace(right, name="碑林区疾控中心"), now=NOW)
        assert upload_obstacles(place.tx, place.county, NOW) == [UploadObstacle.ABBREVIATED_NAME]


@pytest.mark.req("SE-14", "SE-15", "SE-16")
def test_a_unit_and_a_temporary_site_need_six_kinds_of_hardware(records: Records) -> None:
    assert [CHINESE_ATTRIBUTES[kind] for kind in HardwareKind] == [
        *("电脑", "打印机", "扫码枪", "手持式移动终端（PDA）", "身份证读卡器", "核签仪"),
    ]
    lacking = {kind: 1 for kind in HardwareKind if kind is not HardwareKind.SIGNING_PAD}
    with place_in(records) as place:
        for hardware in (lacking, {**lacking, HardwareKind.SIGNING_PAD: 0}):
            new = NewUnit(particulars=place.new().particulars, hardware=hardware)
            (fault,) = place.faults(new)
            assert "signing_pad" in fault
            with pytest.raises(Invalid, match="signing_pad"):
                place.open(new)
        unit = place.open()
        with pytest.raises(Invalid, match="signing_pad"):
            open_temporary_site(place.tx, place.clerk, unit, "体育馆", lacking, authorization=FORM, now=NOW)
        open_temporary_site(place.tx, place.clerk, unit, "体育馆", HARDWARE, authorization=FORM, now=NOW)
        record_hardware(place.tx, place.clerk, place.clinic, {HardwareKind.PRINTER: 2}, now=NOW)
        assert hardware_of(place.tx, place.clinic.id) == {**dict.fromkeys(HardwareKind, 0), HardwareKind.PRINTER: 2}
        covered = hardware_coverage(place.tx, place.city)
        assert (covered.units, covered.ready) == (3, 2)
        assert covered.by_kind == {**dict.fromkeys(HardwareKind, 2), HardwareKind.PRINTER: 3}
        record_hardware(place.tx, place.clerk, unit, {HardwareKind.PDA: 0}, now=NOW)
        assert hardware_coverage(place.tx, place.city).ready == 1
        with pytest.raises(Invalid):
            record_hardware(place.tx, place.clerk, unit, {HardwareKind.PDA: -1}, now=NOW)
