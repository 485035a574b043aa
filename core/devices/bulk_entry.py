"""Bulk entry of devices: equipment with its zones, gateways, probes with what they measure.

Each item is added or refused separately. A thousand items take as many statements as one, because the import of a
province has tens of thousands. Probes refer to gateways and zones, so the caller adds equipment and gateways first.
`core.devices.registry` uses the same functions for single devices.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec.structs import asdict
from sqlalchemy import ColumnElement, String, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.db.audit import Change, record_all
from core.db.in_values import in_values
from core.db.insert import insert_all
from core.db.table_base import Record
from core.devices import timeline_rows
from core.devices.hardware_origin import UNKNOWN, HardwareOrigin, completed
from core.devices.kinds_and_labels import EquipmentKind, ZoneKind
from core.devices.messages import message
from core.devices.tables import (
    Equipment,
    EquipmentUnit,
    Gateway,
    GatewayUnit,
    Probe,
    ProbeGateway,
    ProbeZone,
    Series,
    Zone,
)
from core.errors import Conflict, DomainError, Invalid, NotFound
from core.ids import EquipmentId, UnitId, ZoneId
from core.plain_text import require_plain
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds
from core.units import device_revision
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit
from core.wire.topics import GATEWAY_NUMBER

Made = TypeVar("Made", bound=Record)
RowValues = dict[str, Any]

NAMESPACE = "cc"
"""Namespace of the probes of Coldchain's own gateways."""


class NewEquipment(msgspec.Struct, frozen=True):
    """An equipment to add: inventory number, name, kind, zones and origin."""

    code: str
    name: str
    kind: EquipmentKind
    zones: Sequence[ZoneKind]
    origin: HardwareOrigin = UNKNOWN


class NewInUnit(msgspec.Struct, frozen=True):
    """An equipment to add, placed in a unit since an instant."""

    equipment: NewEquipment
    unit: Unit
    since: Instant


class NewGateway(msgspec.Struct, frozen=True):
    """A gateway to add, placed in a unit since an instant."""

    number: str
    unit: Unit
    since: Instant
    namespace: str = NAMESPACE
    origin: HardwareOrigin = UNKNOWN


class NewProbe(msgspec.Struct, frozen=True):
    """A probe to add, paired with a gateway since an instant, and bound to a zone since then if one is given."""

    code: str
    gateway: Gateway
    since: Instant
    interval: Milliseconds = MINUTE
    zone: ZoneId | None = None
    origin: HardwareOrigin = UNKNOWN


def enter_equipment(
    tx: Session, actor: Actor, new: Sequence[NewInUnit], *, now: Instant
) -> list[Equipment | DomainError]:
    """Add equipment with their zones; return for each the new row or the error.

    An error is PermissionDenied, NotFound, Conflict when the code is taken, or Invalid.
    """
    device_revision.bump(tx)
    taken = _existing(tx, Equipment.code, [item.equipment.code for item in new])

    def checked_row(item: NewInUnit) -> RowValues:
        equipment_data = item.equipment
        actor.require(Right.EQUIP, on=item.unit)
        require_plain("code", equipment_data.code)
        require_plain("name", equipment_data.name)
        if not equipment_data.code.strip() or not equipment_data.name.strip():
            raise Invalid(field="code", value=equipment_data.code, problem="an equipment needs a code and a name")
        _claim(taken, equipment_data.code, f"equipment code {equipment_data.code} is taken")
        origin = asdict(completed(equipment_data.origin))
        return {"code": equipment_data.code, "name": equipment_data.name, "kind": equipment_data.kind, **origin}

    results = [_row_or_error(partial(checked_row, item)) for item in new]
    by_code = _insert(tx, Equipment, Equipment.code, results)
    pairs = [
        (item, by_code[item.equipment.code]) for item, row in zip(new, results, strict=True) if isinstance(row, dict)
    ]
    kinds = [(equipment.id, kind) for item, equipment in pairs for kind in dict.fromkeys(item.equipment.zones)]
    insert_all(tx, Zone, [{"equipment_id": each, "kind": kind} for each, kind in kinds])
    places = [{"equipment_id": each.id, "unit_id": item.unit.id, "since": item.since} for item, each in pairs]
    insert_all(tx, EquipmentUnit, places)
    changes = [
        Change(
            "equipment added",
            f"equipment:{each.id}",
            {
                "code": each.code,
                "unit": item.unit.id,
                "zones": list(item.equipment.zones),
                "since": item.since,
                **item.equipment.origin.known(),
            },
        )
        for item, each in pairs
    ]
    record_all(tx, changes, at=now, actor=actor.name)
    return [row if isinstance(row, DomainError) else by_code[row["code"]] for row in results]


def enter_gateways(
    tx: Session, actor: Actor, new: Sequence[NewGateway], *, now: Instant
) -> list[Gateway | DomainError]:
    """Add gateways; return for each the new row or the error.

    An error is PermissionDenied, NotFound, Conflict when the number is taken, or Invalid.
    """
    device_revision.bump(tx)
    taken = _existing(tx, Gateway.number, [item.number for item in new])

    def checked_row(item: NewGateway) -> RowValues:
        actor.require(Right.BIND, on=item.unit)
        if not GATEWAY_NUMBER.fullmatch(item.number):
            raise Invalid(field="number", value=item.number, problem="1 to 32 of A-Z a-z 0-9 _ -")
        _claim(taken, item.number, f"gateway number {item.number} is taken")
        return {"number": item.number, "namespace": item.namespace, **asdict(completed(item.origin))}

    results = [_row_or_error(partial(checked_row, item)) for item in new]
    by_number = _insert(tx, Gateway, Gateway.number, results)
    pairs = [(item, by_number[item.number]) for item, row in zip(new, results, strict=True) if isinstance(row, dict)]
    places = [{"gateway_id": each.id, "unit_id": item.unit.id, "since": item.since} for item, each in pairs]
    insert_all(tx, GatewayUnit, places)
    changes = [
        Change(
            "gateway added",
            f"gateway:{each.id}",
            {"number": item.number, "unit": item.unit.id, "since": item.since, **item.origin.known()},
        )
        for item, each in pairs
    ]
    record_all(tx, changes, at=now, actor=actor.name)
    return [row if isinstance(row, DomainError) else by_number[row["number"]] for row in results]


def enter_probes(tx: Session, actor: Actor, new: Sequence[NewProbe], *, now: Instant) -> list[Probe | DomainError]:
    """Add probes, each with its temperature series; return for each the new row or the error.

    An error is PermissionDenied, NotFound, Invalid, or Conflict: the code is taken in the gateway's namespace, or the
    gateway or the zone's equipment stood in no unit at that time.
    """
    device_revision.bump(tx)
    known_probes = probes_known(tx, {item.gateway.namespace for item in new}, [item.code for item in new])
    taken: set[object] = set(known_probes)
    units = _UnitsAtStart(tx, new)

    def checked_row(item: NewProbe) -> RowValues:
        actor.require(Right.BIND, on=units.of_gateway(item), subject=("gateway", item.gateway.id))
        if item.zone is not None:
            actor.require(Right.BIND, on=units.of_zone(item, item.zone), subject=("zone", item.zone))
        namespace = item.gateway.namespace
        _claim(taken, (namespace, item.code), f"probe code {item.code} is taken in namespace {namespace}")
        check_interval(item.interval)
        origin = asdict(completed(item.origin))
        return {"namespace": namespace, "code": item.code, "interval": item.interval, **origin}

    results = [_row_or_error(partial(checked_row, item)) for item in new]
    inserted = [row for row in results if isinstance(row, dict)]
    insert_all(tx, Probe, inserted)
    added_probes = probes_known(tx, {row["namespace"] for row in inserted}, [row["code"] for row in inserted])
    pairs = [
        (item, added_probes[item.gateway.namespace, item.code])
        for item, row in zip(new, results, strict=True)
        if isinstance(row, dict)
    ]
    insert_all(tx, Series, [{"probe_id": probe.id, "quantity": "t"} for _, probe in pairs])
    insert_all(
        tx,
        ProbeGateway,
        [{"probe_id": probe.id, "gateway_id": item.gateway.id, "since": item.since} for item, probe in pairs],
    )
    bound = [(item, probe) for item, probe in pairs if item.zone is not None]
    insert_all(
        tx, ProbeZone, [{"probe_id": probe.id, "zone_id": item.zone, "since": item.since} for item, probe in bound]
    )
    added_changes = [
        Change(
            "probe added",
            f"probe:{probe.id}",
            {"code": item.code, "gateway": item.gateway.id, "since": item.since, **item.origin.known()},
        )
        for item, probe in pairs
    ]
    bound_changes = [
        Change("probe bound", f"probe:{each.id}", {"zone": item.zone, "at": item.since}) for item, each in bound
    ]
    record_all(tx, [*added_changes, *bound_changes], at=now, actor=actor.name)
    return [row if isinstance(row, DomainError) else added_probes[row["namespace"], row["code"]] for row in results]


def probes_known(tx: Session, namespaces: Collection[str], codes: Collection[str]) -> dict[tuple[str, str], Probe]:
    """Return the probes that have one of these codes in one of these namespaces.

    On PostgreSQL the codes are joined, so that each is looked up in the index: in the transaction that adds the probes
    there are no statistics for them yet, and PostgreSQL would compare every probe with every code.
    """
    if tx.get_bind().dialect.name == "postgresql":
        code = func.unnest(bindparam(None, sorted(codes), ARRAY(String))).column_valued()
        has_code: ColumnElement[bool] = Probe.code.in_(select(code))
    else:
        has_code = in_values(tx, Probe.code, codes)
    query = select(Probe).where(Probe.namespace.in_(sorted(namespaces)), has_code)
    return {(probe.namespace, probe.code): probe for probe in tx.scalars(query)}


def check_interval(interval: Milliseconds) -> None:
    """Check the reading interval of a probe.

    Raises: Invalid.
    """
    if not 0 < interval <= DAY:
        raise Invalid(field="interval", value=interval, problem=message("interval"))


class _UnitsAtStart:
    """Units in which the gateways and zones of new probes stood at each probe's `since`, read at once."""

    def __init__(self, tx: Session, new: Sequence[NewProbe]) -> None:
        zones = {item.zone for item in new if item.zone is not None}
        query = select(Zone.id, Zone.equipment_id).where(in_values(tx, Zone.id, zones))
        self._equipment: dict[ZoneId, EquipmentId] = {row.id: row.equipment_id for row in tx.execute(query)}
        self._gateways = timeline_rows.rows_of(tx, GatewayUnit, {item.gateway.id for item in new})
        self._places = timeline_rows.rows_of(tx, EquipmentUnit, set(self._equipment.values()))
        units = {row.unit_id for rows in self._gateways.values() for row in rows}
        units |= {row.unit_id for rows in self._places.values() for row in rows}
        unit_rows = tx.scalars(select(Unit).where(in_values(tx, Unit.id, units)))
        self._units: dict[UnitId, Unit] = {unit.id: unit for unit in unit_rows}

    def of_gateway(self, item: NewProbe) -> Unit:
        """Return the unit in which a probe's gateway stood.

        Raises: Conflict.
        """
        row = timeline_rows.covering(self._gateways.get(item.gateway.id, ()), item.since)
        if row is None:
            raise Conflict(message("gateway_nowhere", gateway=item.gateway.number))
        return self._units[row.unit_id]

    def of_zone(self, item: NewProbe, zone: ZoneId) -> Unit:
        """Return the unit in which a zone's equipment stood.

        Raises: NotFound, Conflict.
        """
        if zone not in self._equipment:
            raise NotFound(what="zone", name=zone)
        equipment = self._equipment[zone]
        row = timeline_rows.covering(self._places.get(equipment, ()), item.since)
        if row is None:
            raise Conflict(message("equipment_nowhere", equipment=equipment))
        return self._units[row.unit_id]


def _insert(
    tx: Session, table: type[Made], column: InstrumentedAttribute[str], results: Sequence[RowValues | DomainError]
) -> dict[str, Made]:
    """Insert the accepted rows; return the inserted objects by their value of `column`."""
    rows = [row for row in results if isinstance(row, dict)]
    insert_all(tx, table, rows)
    inserted = tx.scalars(select(table).where(in_values(tx, column, [row[column.key] for row in rows])))
    return {getattr(item, column.key): item for item in inserted}


def _row_or_error(make: Callable[[], RowValues]) -> RowValues | DomainError:
    try:
        return make()
    except DomainError as error:
        return error


def _existing(tx: Session, column: InstrumentedAttribute[str], values: Sequence[str]) -> set[object]:
    return set(tx.scalars(select(column).where(in_values(tx, column, values))))


def _claim(taken: set[object], name: object, problem: str) -> None:
    if name in taken:
        raise Conflict(problem)
    taken.add(name)
