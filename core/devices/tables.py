"""Tables of equipment, zones, gateways, probes and series, and the four binding timelines."""

from datetime import date

from sqlalchemy import CheckConstraint, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.db.overlap_guard import longer_than_nothing
from core.db.state_type import state_type
from core.db.table_base import Record
from core.devices.kinds_and_labels import DeviceSource, DeviceState, EquipmentKind, WindowKind, ZoneKind
from core.ids import Centi, EquipmentId, GatewayId, ProbeId, SeriesId, UnitId, ZoneId
from core.runtime.instant import Instant, Milliseconds


class HardwareFacts:
    """Columns of equipment, gateways and probes: where the hardware came from, its warranty, and who has it."""

    supplier: Mapped[str | None] = mapped_column(String(100))
    source: Mapped[DeviceSource | None] = mapped_column(state_type(DeviceSource, 16))
    warranty_start: Mapped[date | None]
    warranty_end: Mapped[date | None]
    """Last day on which the manufacturer pays for replacement and repair (HW-08)."""
    installed_on: Mapped[date | None]
    state: Mapped[DeviceState | None] = mapped_column(state_type(DeviceState, 10))
    holder_id: Mapped[UnitId | None] = mapped_column(ForeignKey("unit.id"))
    """Unit that has the hardware once it left the unit where it was in use (HW-12)."""
    returned_at: Mapped[Instant | None]
    returned_by: Mapped[str | None] = mapped_column(String(60))
    """Person who recorded the return, by name."""


class Equipment(HardwareFacts, Record):
    """Equipment that keeps vaccine cold: vehicle, cold_room, freezer, fridge, ice_lined_fridge, cold_box (CC-01)."""

    __tablename__ = "equipment"

    id: Mapped[EquipmentId] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(40), unique=True)
    """Inventory number in the unit's books; import files refer to equipment by it."""
    name: Mapped[str] = mapped_column(String(100))
    kind: Mapped[EquipmentKind] = mapped_column(state_type(EquipmentKind, 20))


class Zone(Record):
    """A compartment with a temperature range: refrigerated (冷藏), frozen (冷冻), ultra_low, room.

    It is shown as 名称+温区 (HW-32). None in `low`, `high`, `delay`, `hysteresis` means the rule profile's default
    for the kind.
    """

    __tablename__ = "zone"
    __table_args__ = (UniqueConstraint("equipment_id", "kind"),)

    id: Mapped[ZoneId] = mapped_column(primary_key=True)
    equipment_id: Mapped[EquipmentId] = mapped_column(ForeignKey("equipment.id"))
    kind: Mapped[ZoneKind] = mapped_column(state_type(ZoneKind, 16))
    profile: Mapped[str] = mapped_column(String(30), default="china-2017")
    low: Mapped[Centi | None]
    high: Mapped[Centi | None]
    delay: Mapped[Milliseconds | None]
    hysteresis: Mapped[Centi | None]


class LimitsVersion(Record):
    """Limits of a zone since an instant. Of the rows that have begun at an instant, the one entered last applies.

    Rows are never changed: a correction is a new row. Before its first row, the default profile applies (version 0).
    """

    __tablename__ = "limits_version"

    id: Mapped[int] = mapped_column(primary_key=True)
    zone_id: Mapped[ZoneId] = mapped_column(ForeignKey("zone.id"), index=True)
    since: Mapped[Instant]
    profile: Mapped[str] = mapped_column(String(30))
    low: Mapped[Centi | None]
    high: Mapped[Centi | None]


class MaintenanceWindow(Record):
    """Maintenance window of an equipment: repair 维修, spare 备用, stopped 停用, stock_take 盘苗, defrost 除霜.

    It applies in [since, until). Outside of all windows the equipment is in use. Every window suppresses paging;
    `stopped` also sends readings to quarantine (CC-19).
    """

    __tablename__ = "maintenance_window"
    __table_args__ = (longer_than_nothing(),)

    id: Mapped[int] = mapped_column(primary_key=True)
    equipment_id: Mapped[EquipmentId] = mapped_column(ForeignKey("equipment.id"), index=True)
    kind: Mapped[WindowKind] = mapped_column(state_type(WindowKind, 12))
    since: Mapped[Instant]
    until: Mapped[Instant | None]
    reason: Mapped[str] = mapped_column(String(200), default="")


class ProbeWindow(Record):
    """Repair of a probe (维修): in [since, until) it pages nobody, while other probes do (HW-36)."""

    __tablename__ = "probe_window"
    __table_args__ = (longer_than_nothing(),)

    id: Mapped[int] = mapped_column(primary_key=True)
    probe_id: Mapped[ProbeId] = mapped_column(ForeignKey("probe.id"), index=True)
    kind: Mapped[WindowKind] = mapped_column(state_type(WindowKind, 12))
    since: Mapped[Instant]
    until: Mapped[Instant | None]
    reason: Mapped[str] = mapped_column(String(200), default="")


class Gateway(HardwareFacts, Record):
    """A gateway that sends readings; `number` is its `gw` on the wire, `namespace` that of its probes' codes."""

    __tablename__ = "gateway"

    id: Mapped[GatewayId] = mapped_column(primary_key=True)
    number: Mapped[str] = mapped_column(String(32), unique=True)
    namespace: Mapped[str] = mapped_column(String(16), default="cc")


class Probe(HardwareFacts, Record):
    """A sensor, known by namespace and code; the code has no zone suffix (208601冷藏 is 208601, HW-29)."""

    __tablename__ = "probe"
    __table_args__ = (UniqueConstraint("namespace", "code"),)

    id: Mapped[ProbeId] = mapped_column(primary_key=True)
    namespace: Mapped[str] = mapped_column(String(16))
    code: Mapped[str] = mapped_column(String(64))
    interval: Mapped[Milliseconds] = mapped_column(default=60_000)
    """Expected time between two readings."""


class IntervalVersion(Record):
    """Reading interval of a probe since an instant, once it was changed. Versions apply as in LimitsVersion."""

    __tablename__ = "interval_version"

    id: Mapped[int] = mapped_column(primary_key=True)
    probe_id: Mapped[ProbeId] = mapped_column(ForeignKey("probe.id"), index=True)
    since: Mapped[Instant]
    interval: Mapped[Milliseconds]


class Series(Record):
    """One quantity (`t h door mains batt`) of one probe; telemetry stores it under the integer `id`."""

    __tablename__ = "series"
    __table_args__ = (
        UniqueConstraint("probe_id", "quantity"),
        CheckConstraint("id BETWEEN 1 AND 16777215", name="below_2_24"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[SeriesId] = mapped_column(primary_key=True)
    probe_id: Mapped[ProbeId] = mapped_column(ForeignKey("probe.id"))
    quantity: Mapped[str] = mapped_column(String(8))


class ProbeZone(Record):
    """Binding: a probe measures a zone in [since, until)."""

    __tablename__ = "probe_zone"
    __table_args__ = (longer_than_nothing(),)

    id: Mapped[int] = mapped_column(primary_key=True)
    probe_id: Mapped[ProbeId] = mapped_column(ForeignKey("probe.id"), index=True)
    zone_id: Mapped[ZoneId] = mapped_column(ForeignKey("zone.id"), index=True)
    since: Mapped[Instant]
    until: Mapped[Instant | None]


class ProbeGateway(Record):
    """Pairing: a probe's readings come through a gateway in [since, until)."""

    __tablename__ = "probe_gateway"
    __table_args__ = (longer_than_nothing(),)

    id: Mapped[int] = mapped_column(primary_key=True)
    probe_id: Mapped[ProbeId] = mapped_column(ForeignKey("probe.id"), index=True)
    gateway_id: Mapped[GatewayId] = mapped_column(ForeignKey("gateway.id"), index=True)
    since: Mapped[Instant]
    until: Mapped[Instant | None]


class GatewayUnit(Record):
    """Placement: a gateway stands in a unit in [since, until)."""

    __tablename__ = "gateway_unit"
    __table_args__ = (longer_than_nothing(),)

    id: Mapped[int] = mapped_column(primary_key=True)
    gateway_id: Mapped[GatewayId] = mapped_column(ForeignKey("gateway.id"), index=True)
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"), index=True)
    since: Mapped[Instant]
    until: Mapped[Instant | None]


class EquipmentUnit(Record):
    """Placement: an equipment stands in a unit in [since, until). It decides who may see the readings of that time."""

    __tablename__ = "equipment_unit"
    __table_args__ = (longer_than_nothing(),)

    id: Mapped[int] = mapped_column(primary_key=True)
    equipment_id: Mapped[EquipmentId] = mapped_column(ForeignKey("equipment.id"), index=True)
    unit_id: Mapped[UnitId] = mapped_column(ForeignKey("unit.id"), index=True)
    since: Mapped[Instant]
    until: Mapped[Instant | None]


TIMELINES = {
    "probe_zone": "probe_id",
    "probe_gateway": "probe_id",
    "gateway_unit": "gateway_id",
    "equipment_unit": "equipment_id",
}
"""The table of each timeline, and its subject column: rows of one subject must not overlap."""
