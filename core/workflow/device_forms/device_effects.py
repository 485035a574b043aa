"""Effects of the device forms: bindings that end and begin, devices that are registered, stopped and sent back.

Each is applied in the transaction of its execution, under the lock of the device revision. What they change is
authorised by the filed row, so they ask for no right of their own; the row is in the audit log of every change.
"""

from datetime import date
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy import select

from core.db import audit
from core.db.in_force import in_force
from core.devices import timeline_rows
from core.devices.bindings import unit_of_zone
from core.devices.bulk_entry import NAMESPACE
from core.devices.directory import allot_series
from core.devices.kinds_and_labels import DeviceSource, DeviceState, EquipmentKind, WindowKind
from core.devices.maintenance_windows import enter_window
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
from core.errors import Conflict
from core.ids import EquipmentId, ProbeId, UnitId, ZoneId
from core.runtime.instant import day_bounds, local_day
from core.units.unit_levels import UnitKind, below_county
from core.workflow.device_forms.device_lookup import compact, gateway_numbered, zones_in
from core.workflow.device_forms.zone_to_install import ZoneToInstall
from core.workflow.effects import ExecutionContext
from core.workflow.form_records import ancestors
from core.workflow.messages import message
from core.workflow.states import Phase


class EndBinding(msgspec.Struct, frozen=True):
    """A probe no longer measures a zone; without a zone, whichever it measures."""

    probe: ProbeId
    zone: ZoneId | None = None

    phase = Phase.END

    @property
    def key(self) -> str:
        return f"end:{self.probe}"

    def apply(self, context: ExecutionContext) -> None:
        bound = timeline_rows.open_row(context.tx, ProbeZone, self.probe)
        if self.zone not in (None, bound.zone_id):
            raise Conflict(message("measures_another", probe=_code(context, self.probe)))
        timeline_rows.end(context.tx, bound, context.at)
        _audit(context, "probe unbound", f"probe:{self.probe}", zone=bound.zone_id)


class BeginBinding(msgspec.Struct, frozen=True):
    """A probe measures a zone of the unit from now on."""

    probe: ProbeId
    zone: ZoneId

    phase = Phase.BEGIN

    @property
    def key(self) -> str:
        return f"begin:{self.probe}"

    def apply(self, context: ExecutionContext) -> None:
        if unit_of_zone(context.tx, self.zone, context.at).id != context.unit.id:
            raise Conflict(message("zone_elsewhere"))
        timeline_rows.begin(context.tx, ProbeZone(probe_id=self.probe, zone_id=self.zone, since=context.at))
        context.tx.get_one(Probe, self.probe).state = DeviceState.IN_USE
        _audit(context, "probe bound", f"probe:{self.probe}", zone=self.zone)


class OpenProbeWindow(msgspec.Struct, frozen=True):
    """A probe is in repair (维修) until the end of a day, and pages nobody; it stays bound."""

    probe: ProbeId
    until: str
    """ISO date in the unit's time zone."""

    phase = Phase.BEGIN

    @property
    def key(self) -> str:
        return f"repair:{self.probe}"

    def apply(self, context: ExecutionContext) -> None:
        _, until = day_bounds(date.fromisoformat(self.until), ZoneInfo(context.unit.timezone))
        if until <= context.at:
            raise Conflict(message("repair_over", day=self.until))
        query = select(ProbeWindow.id).where(ProbeWindow.probe_id == self.probe, in_force(ProbeWindow, context.at))
        if context.tx.scalar(query) is not None:
            raise Conflict(message("in_repair", probe=_code(context, self.probe)))
        window = ProbeWindow(probe_id=self.probe, kind=WindowKind.REPAIR, since=context.at, until=until)
        context.tx.add(window)
        context.tx.flush()
        _audit(context, "repair of probe begun", f"probe:{self.probe}", until=until)


class StopEquipment(msgspec.Struct, frozen=True):
    """An equipment is stopped (停用): it pages nobody, and its readings are withheld (CC-19)."""

    equipment: EquipmentId
    reason: str

    phase = Phase.END

    @property
    def key(self) -> str:
        return f"stop:{self.equipment}"

    def apply(self, context: ExecutionContext) -> None:
        there = timeline_rows.row_in_force(context.tx, EquipmentUnit, self.equipment, context.at)
        if there is None or there.unit_id != context.unit.id:
            raise Conflict(message("equipment_elsewhere"))
        stopped = select(MaintenanceWindow.id).where(
            MaintenanceWindow.equipment_id == self.equipment,
            MaintenanceWindow.kind == WindowKind.STOPPED,
            in_force(MaintenanceWindow, context.at),
        )
        if context.tx.scalar(stopped) is not None:  # by another row: a fridge with two probes
            return
        name, kind = context.actor.name, WindowKind.STOPPED
        enter_window(context.tx, name, self.equipment, kind, since=context.at, reason=self.reason, now=context.now)


class ReturnProbe(msgspec.Struct, frozen=True):
    """A probe goes back to the county CDC (待回收); no gateway reads it any more (HW-12)."""

    probe: ProbeId

    phase = Phase.BEGIN

    @property
    def key(self) -> str:
        return f"return:{self.probe}"

    def apply(self, context: ExecutionContext) -> None:
        paired = timeline_rows.newest(context.tx, ProbeGateway, self.probe)
        if paired is not None and paired.until is None:
            timeline_rows.end(context.tx, paired, context.at)
        probe = context.tx.get_one(Probe, self.probe)
        probe.state, probe.holder_id = DeviceState.TO_RETURN, _county_cdc(context)
        _audit(context, "probe to be returned", f"probe:{self.probe}", holder=probe.holder_id)


class RegisterZone(msgspec.Struct, frozen=True):
    """An equipment of the unit has a zone; both are registered if they aren't."""

    zone: ZoneToInstall

    phase = Phase.REGISTER

    @property
    def key(self) -> str:
        return f"zone:{self.zone.label}"

    def apply(self, context: ExecutionContext) -> None:
        if self.zone.zone is not None or _installed_zone(context, self.zone) is not None:
            return
        named = (each for each in zones_in(context.tx, context.unit.id, context.at))
        equipment = next(
            (each.equipment for each in named if compact(each.equipment_name) == self.zone.equipment), None
        )
        if equipment is None:
            equipment = self._registered(context)
        context.tx.add(Zone(equipment_id=equipment, kind=self.zone.kind))
        context.tx.flush()
        _audit(context, "zone added", f"equipment:{equipment}", zone=self.zone.kind)

    def _registered(self, context: ExecutionContext) -> EquipmentId:
        code = f"{context.unit.code or context.unit.id}-{context.application}-{context.row}"
        equipment = Equipment(
            code=code,
            name=self.zone.equipment,
            kind=EquipmentKind.FRIDGE,
            state=DeviceState.IN_USE,
            installed_on=_day(context),
        )
        context.tx.add(equipment)
        context.tx.flush()
        place = EquipmentUnit(equipment_id=equipment.id, unit_id=context.unit.id, since=context.at)
        timeline_rows.begin(context.tx, place)
        _audit(context, "equipment added", f"equipment:{equipment.id}", code=code, unit=context.unit.id)
        return equipment.id


class RegisterGateway(msgspec.Struct, frozen=True):
    """A gateway stands in the unit; it is registered if it isn't."""

    number: str

    phase = Phase.REGISTER

    @property
    def key(self) -> str:
        return f"gateway:{self.number}"

    def apply(self, context: ExecutionContext) -> None:
        known = gateway_numbered(context.tx, self.number)
        if known is not None:
            there = timeline_rows.newest(context.tx, GatewayUnit, known)
            if there is not None and there.until is None:
                if there.unit_id != context.unit.id:
                    raise Conflict(message("gateway_elsewhere", number=self.number))
                return
        gateway = (
            Gateway(number=self.number, namespace=NAMESPACE) if known is None else context.tx.get_one(Gateway, known)
        )
        gateway.state = DeviceState.IN_USE
        gateway.installed_on = gateway.installed_on or _day(context)
        gateway.source = gateway.source or DeviceSource.UNIT_PURCHASED
        context.tx.add(gateway)
        context.tx.flush()
        timeline_rows.begin(context.tx, GatewayUnit(gateway_id=gateway.id, unit_id=context.unit.id, since=context.at))
        _audit(context, "gateway added", f"gateway:{gateway.id}", number=self.number, unit=context.unit.id)


class RegisterProbe(msgspec.Struct, frozen=True):
    """A gateway reads a probe, which is registered if it isn't."""

    code: str
    gateway: str

    phase = Phase.REGISTER

    @property
    def key(self) -> str:
        return f"probe:{self.code}"

    def apply(self, context: ExecutionContext) -> None:
        # Rows of one form may use each other's gateways, so the pairing waits for the last phase.
        if _probe_with(context, self.code, self.gateway) is not None:
            return
        probe = Probe(
            namespace=_namespace(context, self.gateway),
            code=self.code,
            state=DeviceState.IN_USE,
            installed_on=_day(context),
            source=DeviceSource.UNIT_PURCHASED,
        )
        context.tx.add(probe)
        context.tx.flush()
        allot_series(context.tx, probe.id, "t")
        _audit(context, "probe added", f"probe:{probe.id}", code=self.code)


class BindInstalled(msgspec.Struct, frozen=True):
    """A registered probe is read by a gateway of the unit and measures a zone of it from now on."""

    code: str
    gateway: str
    zone: ZoneToInstall

    phase = Phase.BEGIN

    @property
    def key(self) -> str:
        return f"bind:{self.code}"

    def apply(self, context: ExecutionContext) -> None:
        probe, gateway = _probe_with(context, self.code, self.gateway), gateway_numbered(context.tx, self.gateway)
        zone = self.zone.zone or _installed_zone(context, self.zone)
        if probe is None or gateway is None or zone is None:
            raise Conflict(message("not_registered", code=self.code))
        paired = timeline_rows.newest(context.tx, ProbeGateway, probe)
        if paired is None or paired.until is not None or paired.gateway_id != gateway:
            if paired is not None and paired.until is None:
                timeline_rows.end(context.tx, paired, context.at)
            timeline_rows.begin(context.tx, ProbeGateway(probe_id=probe, gateway_id=gateway, since=context.at))
            _audit(context, "probe paired", f"probe:{probe}", gateway=gateway)
        row = context.tx.get_one(Probe, probe)
        row.holder_id = row.returned_at = row.returned_by = None
        BeginBinding(probe, zone).apply(context)


def _installed_zone(context: ExecutionContext, zone: ZoneToInstall) -> ZoneId | None:
    there = zones_in(context.tx, context.unit.id, context.at)
    named = (each for each in there if compact(each.equipment_name) == zone.equipment and each.kind is zone.kind)
    return next((each.zone for each in named), None)


def _probe_with(context: ExecutionContext, code: str, gateway: str) -> ProbeId | None:
    query = select(Probe.id).where(Probe.code == code, Probe.namespace == _namespace(context, gateway))
    return context.tx.scalar(query)


def _namespace(context: ExecutionContext, gateway: str) -> str:
    return context.tx.scalar(select(Gateway.namespace).where(Gateway.number == gateway)) or NAMESPACE


def _code(context: ExecutionContext, probe: ProbeId) -> str:
    return context.tx.get_one(Probe, probe).code


def _county_cdc(context: ExecutionContext) -> UnitId:
    """Return the CDC of the unit's county; without one, the nearest above.

    Raises: Conflict.
    """
    for unit in ancestors(context.tx, context.unit):
        if unit.kind is UnitKind.CDC and not below_county(unit.level):
            return unit.unit
    raise Conflict(message("no_reviewer"))


def _day(context: ExecutionContext) -> date:
    return local_day(context.at, ZoneInfo(context.unit.timezone))


def _audit(context: ExecutionContext, act: str, subject: str, **detail: object) -> None:
    what = {"at": context.at, "authorization": context.authorization, **detail}
    audit.record(context.tx, at=context.now, actor=context.actor.name, act=act, subject=subject, detail=what)
