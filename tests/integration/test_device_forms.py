"""Forms 1 to 4 with the rows of the printed examples: filed, executed twice, and what they leave in the records."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from coldchain.importing import import_file
from config import secrets
from core.db.engine import Records
from core.db.in_force import in_force
from core.devices import maintenance_windows
from core.devices.hardware import record_return
from core.devices.kinds_and_labels import DeviceState, WindowKind, zone_name
from core.devices.tables import (
    Equipment,
    EquipmentUnit,
    Gateway,
    GatewayUnit,
    MaintenanceWindow,
    Probe,
    ProbeGateway,
    ProbeWindow,
    ProbeZone,
    Zone,
)
from core.errors import Conflict, Invalid, NotFound, PermissionDenied
from core.ids import ApplicationId
from core.runtime.instant import DAY, Instant, parse
from core.units.actor import OPERATOR
from core.units.rights import Role
from core.units.tables import Unit
from core.workflow import drafts, execution, submission
from core.workflow.device_forms import DEVICE_FORMS
from core.workflow.form import DraftContent, FormRejected
from core.workflow.form_records import faults_of, rows_of
from core.workflow.kinds import KindRegistry
from core.workflow.states import ApplicationState, Payer
from core.workflow.tables import Application, Execution
from tests.fixtures.applications import CODE, NOW, Reviewers
from tests.fixtures.county import add_gateway, add_probe

FORMS = KindRegistry(DEVICE_FORMS)
HEAD = {"unit_name": "某某卫生院", "unit_code": CODE, "filled_by": "王芳", "phone": "13800000000"}
LATER = Instant(NOW + DAY // 2)
TABLES = (ProbeZone, ProbeGateway, EquipmentUnit, GatewayUnit, MaintenanceWindow, ProbeWindow, Execution)

CHANGE = ("fridge_before", "fridge_now", "probe_before", "probe_now")
FORM_1 = (
    ("美菱冰箱冷藏", "海尔冰箱冷藏", "208601冷藏", "208602冷藏"),
    ("美菱冰箱冷冻", "海尔冰箱冷冻", "208604冷冻", "208604冷冻"),
    ("奥马冰箱冷藏", "医用冷藏柜", "203708冷藏", "203708冷藏"),
)
INSTALLATION = ("fridge", "gateway", "probe")
FORM_3 = (
    ("海尔冰箱冷藏", "10001", "208601冷藏"),
    ("海尔冰箱冷冻", "10002", "208604冷冻"),
    ("医用冷藏柜", "10003", "203708冷藏"),
)
STOP = ("fridge", "fridge_stopped", "probe", "probe_stopped")
FORM_4 = (
    ("海尔冷藏 1", "是", "100672", "是"),
    ("海尔冷藏 2", "是", "100673", "是"),
    ("海尔冷冻", "是", "100862", "是"),
)


def rows(columns: Sequence[str], *cells: Sequence[str]) -> list[dict[str, str]]:
    return [dict(zip(columns, row, strict=True)) for row in cells]


class Clinic(Reviewers):
    """Clinic 6101030203 with fridges of two zones and probes; people who file, review and execute its forms."""

    def __init__(self, records: Records) -> None:
        super().__init__(records, FORMS)
        with records.write() as tx:
            tx.delete(tx.scalars(select(Equipment)).one())

    def fridge(self, tx: Session, name: str, *kinds: str) -> dict[str, Zone]:
        equipment = Equipment(code=name, name=name, kind="fridge")
        tx.add(equipment)
        tx.flush()
        zones = {kind: Zone(equipment_id=equipment.id, kind=kind) for kind in kinds}
        place = EquipmentUnit(equipment_id=equipment.id, unit_id=self.units["clinic"], since=0)
        tx.add_all([*zones.values(), place])
        tx.flush()
        return zones

    def furnish(self, warranty_end: date | None = date(2027, 1, 1)) -> None:
        """Put in the fridges and probes that the example of form 1 begins with."""
        with self.records.write() as tx:
            meiling = self.fridge(tx, "美菱冰箱", "refrigerated", "frozen")
            self.fridge(tx, "海尔冰箱", "refrigerated", "frozen")
            aoma = self.fridge(tx, "奥马冰箱", "refrigerated")
            self.fridge(tx, "医用冷藏柜", "refrigerated")
            gateway = add_gateway(tx, "10001", self.units["clinic"])
            bound = {
                "208601": meiling["refrigerated"].id,
                "208602": None,
                "208604": meiling["frozen"].id,
                "203708": aoma["refrigerated"].id,
            }
            for code, zone in bound.items():
                probe = add_probe(tx, code, gateway, zone)
                tx.get_one(Probe, probe).warranty_end = warranty_end

    def draft(self, kind: str, content: DraftContent, *, linked: ApplicationId | None = None) -> ApplicationId:
        with self.records.write() as tx:
            actor, unit = self.actor("clinic", role=Role.USER), self.units["clinic"]
            return drafts.create_draft(tx, actor, FORMS, kind, unit, content, linked=linked, now=NOW).id

    def file(
        self,
        kind: str,
        of_rows: Sequence[Mapping[str, str]],
        *,
        linked: ApplicationId | None = None,
        **fields: str,
    ) -> ApplicationId:
        """File a form that every level passes."""
        application = self.draft(kind, DraftContent({**HEAD, **fields}, of_rows), linked=linked)
        with self.records.write() as tx:
            actor = self.actor("clinic", role=Role.USER)
            submission.submit(tx, actor, FORMS, application, revision=1, now=NOW)
        for unit in ("county", "city", "province"):
            self.decided(application, unit)
        assert self.row(application).state is ApplicationState.FILED
        return application

    def rejected(
        self, kind: str, content: DraftContent, *, linked: ApplicationId | None = None
    ) -> set[tuple[int, str]]:
        """Return rows and columns of the faults of a form."""
        application = self.draft(kind, content, linked=linked)
        with pytest.raises(FormRejected) as found, self.records.write() as tx:
            submission.submit(tx, self.actor("clinic", role=Role.USER), FORMS, application, revision=1, now=NOW)
        assert self.row(application).state is ApplicationState.DRAFT
        return {(fault.row, fault.column) for fault in found.value.faults}

    def execute(self, application: ApplicationId, *, at: Instant = LATER) -> ApplicationState:
        """Execute as the software party."""
        with self.records.write() as tx:
            party = self.actor("province", "李", Role.SOFTWARE_PARTY)
            return execution.execute(tx, party, FORMS, application, at=at, now=at).state

    def executed_twice(self, application: ApplicationId) -> None:
        """Execute twice, and find the same tables."""
        assert self.execute(application) is ApplicationState.EXECUTED
        once = self.tables()
        assert self.execute(application, at=Instant(LATER + 1)) is ApplicationState.EXECUTED
        assert self.tables() == once

    def tables(self) -> dict[str, list[tuple[object, ...]]]:
        with self.records.read() as tx:
            return {
                table.__tablename__: [tuple(row) for row in tx.execute(select(table.__table__).order_by(table.id))]
                for table in (*TABLES, Equipment, Zone, Gateway, Probe)
            }

    def bindings(self, at: Instant = LATER) -> dict[str, str]:
        """Return the zone by name that each bound probe measures."""
        with self.records.read() as tx:
            query = (
                select(Probe.code, Equipment.name, Zone.kind)
                .join(ProbeZone, ProbeZone.probe_id == Probe.id)
                .join(Zone, Zone.id == ProbeZone.zone_id)
                .join(Equipment, Equipment.id == Zone.equipment_id)
                .where(in_force(ProbeZone, at))
            )
            return {code: zone_name(name, kind) for code, name, kind in tx.execute(query)}

    def spans(self, code: str) -> list[tuple[int, int | None]]:
        with self.records.read() as tx:
            query = select(ProbeZone.since, ProbeZone.until).join(Probe, Probe.id == ProbeZone.probe_id)
            return [tuple(row) for row in tx.execute(query.where(Probe.code == code).order_by(ProbeZone.since))]


@pytest.fixture
def clinic(records: Records) -> Clinic:
    return Clinic(records)


@pytest.mark.req("HW-22", "HW-23", "HW-24")
def test_the_example_of_form_1_swaps_a_probe_and_two_fridges(clinic: Clinic) -> None:
    clinic.furnish()
    before = clinic.bindings(Instant(LATER - 1))
    assert before == {"208601": "美菱冰箱冷藏", "208604": "美菱冰箱冷冻", "203708": "奥马冰箱冷藏"}
    application = clinic.file("form1", rows(CHANGE, *FORM_1), operation="更换")
    assert clinic.bindings() == before, "filing changes nothing"
    clinic.executed_twice(application)
    assert clinic.bindings() == {"208602": "海尔冰箱冷藏", "208604": "海尔冰箱冷冻", "203708": "医用冷藏柜冷藏"}
    assert clinic.spans("208604") == [(0, LATER), (LATER, None)], "without a gap or an overlap"
    assert clinic.spans("208601") == [(0, LATER)]


def test_two_probes_can_be_exchanged_in_one_form(clinic: Clinic) -> None:
    clinic.furnish()
    swap = (
        ("美菱冰箱冷藏", "奥马冰箱冷藏", "208601", "208601"),
        ("奥马冰箱冷藏", "美菱冰箱冷藏", "203708", "203708"),
    )
    clinic.executed_twice(clinic.file("form1", rows(CHANGE, *swap), operation="replace"))
    assert clinic.bindings() == {"208601": "奥马冰箱冷藏", "203708": "美菱冰箱冷藏", "208604": "美菱冰箱冷冻"}


@pytest.mark.req("HW-16", "HW-17", "HW-18")
def test_form_1_tells_every_fault_by_row_and_column(clinic: Clinic) -> None:
    clinic.furnish()
    wrong = (
        ("", "容声冰箱冷藏", "208601", "999999"),  # empty, unknown, -, unknown
        ("奥马冰箱冷藏", "海尔冰箱冷藏", "208601冷藏", "208602冷冻"),  # measures another; the suffix contradicts
        ("美菱冰箱", "海尔冰箱冷藏", "208604", "203708"),  # which zone; in use and not freed here
        ("美菱冰箱冷冻", "美菱冰箱冷冻", "208604冷冻", "208604冷冻"),  # changes nothing; 208604 twice
    )
    content = DraftContent({**HEAD, "operation": "更换"}, rows(CHANGE, *wrong))
    assert clinic.rejected("form1", content) == {
        (1, "fridge_before"),
        (1, "fridge_now"),
        (1, "probe_now"),
        (1, "probe_before"),
        (2, "probe_before"),
        (2, "probe_now"),
        (3, "fridge_before"),
        (3, "probe_before"),
        (3, "probe_now"),
        (4, "probe_before"),
        (4, "probe_now"),
    }
    assert clinic.bindings()["208601"] == "美菱冰箱冷藏"


@pytest.mark.req("HW-14", "HW-15")
@pytest.mark.parametrize("column", CHANGE)
def test_each_column_of_form_1_is_required(clinic: Clinic, column: str) -> None:
    clinic.furnish()
    (row,) = rows(CHANGE, FORM_1[0])
    content = DraftContent({**HEAD, "operation": "更换"}, [{**row, column: " "}])
    assert (1, column) in clinic.rejected("form1", content)


@pytest.mark.req("HW-19", "HW-21")
@pytest.mark.parametrize("kind", ["form1", "form2", "form3", "form4"])
@pytest.mark.parametrize(
    ("field", "written"),
    [
        ("unit_code", "610103020"),
        ("unit_code", "61010302030"),
        ("unit_code", "610103020A"),
        ("unit_code", "6101030204"),
        ("unit_name", "另一卫生院"),
        ("filled_by", ""),
        ("phone", ""),
        ("phone", "12"),
    ],
)
def test_header_and_footer_of_every_form_are_checked(
    sqlite_records: Records, kind: str, field: str, written: str
) -> None:
    assert (0, field) in Clinic(sqlite_records).rejected(kind, DraftContent({**HEAD, field: written}, [{}]))


@pytest.mark.req("HW-08", "HW-09")
@pytest.mark.parametrize(
    ("warranty_end", "payer"),
    [
        (date(2026, 3, 29), Payer.MANUFACTURER),
        (date(2026, 3, 28), Payer.MANUFACTURER),
        (date(2026, 3, 27), Payer.REQUESTING_UNIT),
    ],
)
def test_the_manufacturer_pays_up_to_the_last_day_of_the_warranty(
    sqlite_records: Records, warranty_end: date, payer: Payer
) -> None:
    assert parse("2026-03-28T03:02:40+08:00") == NOW
    clinic = Clinic(sqlite_records)
    clinic.furnish(warranty_end)
    application = clinic.file("form1", rows(CHANGE, FORM_1[0]), operation="更换")
    with clinic.records.read() as tx:
        assert [row.payer for row in rows_of(tx, tx.get_one(Application, application))] == [None, payer]


IMPORTED = """
[[equipment]]
code = "F1"
name = "美菱冰箱"
kind = "fridge"
unit = "6101030203"
zones = ["冷藏"]

[[equipment]]
code = "F2"
name = "海尔冰箱"
kind = "fridge"
unit = "6101030203"
zones = ["冷藏"]

[[gateway]]
number = "10001"
unit = "6101030203"

[[probe]]
code = "208602"
gateway = "10001"

[[probe]]
code = "208601冷藏"
gateway = "10001"
equipment = "F1"
"""


@pytest.mark.req("HW-07", "HW-08", "HW-09")
@pytest.mark.parametrize(
    ("warranty_end", "payer"), [("2026-03-28", Payer.MANUFACTURER), ("2026-03-27", Payer.REQUESTING_UNIT)]
)
def test_the_warranty_of_an_imported_probe_decides_who_pays(
    clinic: Clinic, tmp_path: Path, warranty_end: str, payer: Payer
) -> None:
    secrets.write(str(tmp_path), secrets.fresh("coldchain"))
    file = tmp_path / "clinic.toml"
    file.write_text(f"since = 2026-01-01T00:00:00+08:00\n{IMPORTED}warranty_end = {warranty_end}\n", "utf-8")
    assert import_file(clinic.records, str(tmp_path), file, actor=OPERATOR, now=NOW).mistakes == []
    application = clinic.file("form1", rows(CHANGE, FORM_1[0]), operation="更换")
    with clinic.records.read() as tx:
        assert [row.payer for row in rows_of(tx, tx.get_one(Application, application))] == [None, payer]


def test_without_a_warranty_date_the_form_says_so(sqlite_records: Records) -> None:
    clinic = Clinic(sqlite_records)
    clinic.furnish(None)
    content = DraftContent({**HEAD, "operation": "更换"}, rows(CHANGE, FORM_1[0]))
    assert clinic.rejected("form1", content) == {(1, "probe_before")}


def test_a_repair_keeps_the_binding_and_marks_the_probe_alone(clinic: Clinic) -> None:
    clinic.furnish()
    before = clinic.bindings()
    kept = rows(CHANGE, ("美菱冰箱冷藏", "美菱冰箱冷藏", "208601", "208601"))
    assert clinic.rejected("form1", DraftContent({**HEAD, "operation": "维修"}, kept)) == {(0, "due")}
    changing = DraftContent({**HEAD, "operation": "维修", "due": "2026-04-02"}, rows(CHANGE, FORM_1[0]))
    assert clinic.rejected("form1", changing) == {(1, "probe_now")}
    clinic.executed_twice(clinic.file("form1", kept, operation="维修", due="2026-04-02"))
    assert clinic.bindings() == before
    with clinic.records.read() as tx:
        window = tx.scalars(select(ProbeWindow)).one()
        assert tx.get_one(Probe, window.probe_id).code == "208601"
    assert (window.kind, window.since, window.until) == (WindowKind.REPAIR, LATER, parse("2026-04-03T00:00:00+08:00"))


def test_what_changed_after_the_filing_blocks_form_1(clinic: Clinic) -> None:
    clinic.furnish()
    application = clinic.file("form1", rows(CHANGE, *FORM_1), operation="更换")
    with clinic.records.write() as tx:
        probe = tx.scalars(select(Probe).where(Probe.code == "203708")).one()
        tx.scalars(select(ProbeZone).where(ProbeZone.probe_id == probe.id)).one().until = Instant(NOW + 1)
    before = clinic.tables()
    assert clinic.execute(application) is ApplicationState.BLOCKED
    assert clinic.tables() == before
    (difference,) = faults_of(clinic.row(application).differences)
    assert (difference.row, difference.column) == (3, "probe_before")


def test_a_technician_executes_single_rows_on_site(clinic: Clinic) -> None:
    clinic.furnish()
    application = clinic.file("form1", rows(CHANGE, *FORM_1), operation="更换")
    technician = clinic.actor("clinic", "李", Role.TECHNICIAN)
    with pytest.raises(PermissionDenied), clinic.records.write() as tx:
        execution.execute(tx, technician, FORMS, application, now=LATER)
    for row, state in ((2, ApplicationState.FILED), (2, ApplicationState.FILED), (1, ApplicationState.FILED)):
        with clinic.records.write() as tx:
            assert execution.execute(tx, technician, FORMS, application, rows=[row], now=LATER).state is state
    assert clinic.bindings() == {"208602": "海尔冰箱冷藏", "208604": "海尔冰箱冷冻", "203708": "奥马冰箱冷藏"}
    with pytest.raises(Invalid), clinic.records.write() as tx:
        execution.execute(tx, technician, FORMS, application, rows=[4], now=LATER)
    clinic.executed_twice(application)
    assert clinic.bindings()["203708"] == "医用冷藏柜冷藏"


@pytest.mark.req("HW-25", "HW-10")
def test_form_2_has_three_whole_numbers_and_the_unit_pays(clinic: Clinic) -> None:
    for wrong in ("-1", "1.5", "两", ""):
        row = {"fridges": "4", "gateways": "2", "probes": wrong}
        assert clinic.rejected("form2", DraftContent(HEAD, [row])) == {(1, "probes")}
    application = clinic.file("form2", [{"fridges": "4", "gateways": "2", "probes": "5"}])
    with clinic.records.read() as tx:
        _, row_of_form = rows_of(tx, tx.get_one(Application, application))
    assert row_of_form.resolved == '{"fridges":4,"gateways":2,"probes":5}'
    assert row_of_form.payer is Payer.REQUESTING_UNIT
    with pytest.raises(Conflict):
        clinic.execute(application)


@pytest.mark.req("HW-26")
def test_form_3_warns_of_more_probes_than_form_2_asked_for(clinic: Clinic) -> None:
    for probes, warned in (("5", 0), ("3", 0), ("2", 1)):
        form2 = clinic.file("form2", [{"fridges": "4", "gateways": "2", "probes": probes}])
        form3 = clinic.file("form3", rows(INSTALLATION, *FORM_3), linked=form2)
        with clinic.records.read() as tx:
            head, *_ = rows_of(tx, tx.get_one(Application, form3))
        assert [(fault.column, fault.is_warning) for fault in faults_of(head.warnings)] == [("linked", True)] * warned


@pytest.mark.req("HW-28", "HW-35", "HW-05")
def test_the_example_of_form_3_registers_and_binds_three_probes(clinic: Clinic) -> None:
    form2 = clinic.file("form2", [{"fridges": "4", "gateways": "2", "probes": "5"}])
    clinic.executed_twice(clinic.file("form3", rows(INSTALLATION, *FORM_3), linked=form2))
    assert clinic.bindings() == {"208601": "海尔冰箱冷藏", "208604": "海尔冰箱冷冻", "203708": "医用冷藏柜冷藏"}
    with clinic.records.read() as tx:
        assert sorted(tx.scalars(select(Equipment.name))) == ["医用冷藏柜", "海尔冰箱"]
        read_by = select(Probe.code, Gateway.number, GatewayUnit.unit_id, ProbeGateway.since)
        read_by = read_by.join(ProbeGateway, ProbeGateway.probe_id == Probe.id)
        read_by = read_by.join(Gateway, Gateway.id == ProbeGateway.gateway_id)
        read_by = read_by.join(GatewayUnit, GatewayUnit.gateway_id == Gateway.id).order_by(Gateway.number)
        found = [tuple(row) for row in tx.execute(read_by)]
    unit = clinic.units["clinic"]
    assert found == [
        (code, number, unit, LATER) for code, number in (("208601", "10001"), ("208604", "10002"), ("203708", "10003"))
    ]


@pytest.mark.req("HW-28")
def test_form_3_refuses_what_is_bound_or_stands_elsewhere(clinic: Clinic) -> None:
    clinic.furnish()
    with clinic.records.write() as tx:
        far = add_gateway(tx, "20001", clinic.units["other county"])
        add_probe(tx, "555555", far, None)
    form2 = clinic.file("form2", [{"fridges": "4", "gateways": "2", "probes": "5"}])
    wrong = (
        ("海尔冰箱冷藏", "10001", "208601冷藏"),  # bound to another fridge
        ("海尔冰箱冷藏", "20001", "300001冷藏"),  # a gateway of another unit
        ("海尔冰箱冷藏", "10001", "555555冷藏"),  # a probe of another unit
        ("海尔冰箱冷藏", "10001", "300002冷冻"),  # contradicts
        ("新冰箱", "10001", "300003"),  # which zone?
        ("海尔冰箱冷藏", "10 001", "300004冷藏"),
    )
    content = DraftContent(HEAD, rows(INSTALLATION, *wrong))
    assert clinic.rejected("form3", content, linked=form2) == {
        (1, "probe"),
        (2, "gateway"),
        (3, "probe"),
        (4, "probe"),
        (5, "fridge"),
        (6, "gateway"),
    }


@pytest.mark.req("HW-02", "HW-04")
def test_no_probe_is_registered_without_a_filed_form_2_of_the_same_unit(clinic: Clinic) -> None:
    content = DraftContent(HEAD, rows(INSTALLATION, *FORM_3))
    assert clinic.rejected("form3", content) == {(0, "linked")}
    unfiled = clinic.draft("form2", DraftContent(HEAD, [{"fridges": "4", "gateways": "2", "probes": "5"}]))
    assert clinic.rejected("form3", content, linked=unfiled) == {(0, "linked")}
    with pytest.raises(Invalid):
        clinic.draft("form3", content, linked=ApplicationId(4711))
    filed = clinic.file("form2", [{"fridges": "4", "gateways": "2", "probes": "5"}])
    linked = clinic.file("form3", rows(INSTALLATION, *FORM_3), linked=filed)
    assert clinic.row(linked).linked_id == filed
    with clinic.records.write() as tx:
        other = tx.get_one(Unit, clinic.units["county"])
        with pytest.raises(Invalid):
            drafts.create_draft(tx, clinic.actor("county"), FORMS, "form3", other.id, content, linked=filed, now=NOW)


@pytest.fixture
def stopping(clinic: Clinic) -> Clinic:
    with clinic.records.write() as tx:
        gateway = add_gateway(tx, "10001", clinic.units["clinic"])
        for name, kind, code in (
            ("海尔冷藏1", "refrigerated", "100672"),
            ("海尔冷藏2", "refrigerated", "100673"),
            ("海尔冷冻", "frozen", "100862"),
        ):
            add_probe(tx, code, gateway, clinic.fridge(tx, name, kind)[kind].id)
    return clinic


@pytest.mark.req("HW-31", "HW-33", "HW-34")
def test_the_example_of_form_4_stops_three_fridges_and_frees_three_probes(stopping: Clinic) -> None:
    stopping.executed_twice(stopping.file("form4", rows(STOP, *FORM_4), reason="机构撤并"))
    assert stopping.bindings() == {}
    with stopping.records.read() as tx:
        stopped = tx.execute(
            select(Equipment.name, MaintenanceWindow.kind, MaintenanceWindow.since, MaintenanceWindow.until)
            .join(MaintenanceWindow, MaintenanceWindow.equipment_id == Equipment.id)
            .order_by(Equipment.id)
        )
        names = ("海尔冷藏1", "海尔冷藏2", "海尔冷冻")
        assert [tuple(row) for row in stopped] == [(name, WindowKind.STOPPED, LATER, None) for name in names]
        probes = tx.execute(select(Probe.state, Probe.holder_id)).all()
    assert [tuple(row) for row in probes] == [(DeviceState.TO_RETURN, stopping.units["county"])] * 3
    assert [stopping.spans(code) for code in ("100672", "100673", "100862")] == [[(0, LATER)]] * 3


@pytest.mark.req("HW-12", "HW-13")
def test_the_county_records_when_and_by_whom_hardware_was_taken_back(stopping: Clinic) -> None:
    stopping.executed_twice(stopping.file("form4", rows(STOP, FORM_4[0]), reason="冰箱更换"))
    with stopping.records.read() as tx:
        probe = tx.scalars(select(Probe).where(Probe.code == "100672")).one()
    with pytest.raises(NotFound), stopping.records.write() as tx:
        record_return(tx, stopping.actor("clinic"), probe.id, by="王芳", now=LATER)
    for _ in range(2):
        with stopping.records.write() as tx:
            record_return(tx, stopping.actor("county"), probe.id, by="李建国", now=LATER)
    with stopping.records.read() as tx:
        row = tx.get_one(Probe, probe.id)
    assert (row.state, row.returned_by, row.returned_at) == (DeviceState.RETURNED, "李建国", LATER)
    assert row.holder_id == stopping.units["county"]


@pytest.mark.req("HW-30")
@pytest.mark.parametrize(("fridge", "probe"), [("是", "否"), ("否", "是")])
def test_fridge_and_probe_stop_independently(stopping: Clinic, fridge: str, probe: str) -> None:
    stopping.executed_twice(stopping.file("form4", rows(STOP, ("海尔冷冻", fridge, "100862", probe)), reason="其他"))
    assert ("100862" in stopping.bindings()) is (probe == "否")
    with stopping.records.read() as tx:
        assert len(tx.scalars(select(MaintenanceWindow)).all()) == (fridge == "是")


@pytest.mark.req("HW-11")
def test_form_4_knows_three_reasons_and_nothing_else_stops_equipment(stopping: Clinic) -> None:
    row = rows(STOP, FORM_4[0])
    for reason in ("", "不想用了"):
        assert stopping.rejected("form4", DraftContent({**HEAD, "reason": reason}, row)) == {(0, "reason")}
    none_stopped = rows(STOP, ("海尔冷冻", "否", "100862", "否"))
    assert stopping.rejected("form4", DraftContent({**HEAD, "reason": "其他"}, none_stopped)) == {(1, "fridge_stopped")}
    with stopping.records.read() as tx:
        equipment = tx.scalars(select(Equipment.id)).first()
    assert equipment is not None
    for kind in (WindowKind.STOPPED, WindowKind.REPAIR):
        with pytest.raises(PermissionDenied, match="application"), stopping.records.write() as tx:
            maintenance_windows.begin_window(tx, stopping.actor("county"), equipment, kind, since=NOW, now=NOW)
    with stopping.records.write() as tx:
        maintenance_windows.begin_window(tx, stopping.actor("county"), equipment, WindowKind.SPARE, since=NOW, now=NOW)
