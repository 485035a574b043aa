"""Entry of many devices at once: equipment with its zones, gateways, probes with what they measure.

Each is entered or refused for itself, and a thousand take as many statements as one: an import of a province has
tens of thousands. What comes first may be needed by what follows, so the caller enters equipment and gateways before
probes. Single ones are entered by `core.devices.registry`, which calls these.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, String, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.db.among import among
from core.db.audit import Change, record_all
from core.db.insert import insert_all
from core.db.record import Record
from core.devices import intervals, revision
from core.devices.messages import message
from core.devices.names import EquipmentKind, ZoneKind
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
from core.errors import Conflict, Invalid, NotFound, Wrong
from core.ids import EquipmentId, UnitId, ZoneId
from core.runtime.instant import DAY, MINUTE, Instant, Milliseconds
from core.text import require_plain
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit
from core.wire.topics import GATEWAY_NUMBER

Made = TypeVar("Made", bound=Record)
Row = dict[str, Any]

NAMESPACE = "cc"
"""Of the probes of our own gateways."""


class NewEquipment(msgspec.Struct, frozen=True):
    """An equipment to be entered: its number in the unit's books, what people call it, and its compartments."""

    code: str
    name: str
    kind: EquipmentKind
    zones: Sequence[ZoneKind]


class NewInUnit(msgspec.Struct, frozen=True):
    """An equipment that stands in a unit since an instant."""

    equipment: NewEquipment
    unit: Unit
    since: Instant


class NewGateway(msgspec.Struct, frozen=True):
    """A gateway that stands in a unit since an instant."""

    number: str
    unit: Unit
    since: Instant
    namespace: str = NAMESPACE


class NewProbe(msgspec.Struct, frozen=True):
    """A probe that a gateway reads since an instant, and that measures a zone since then if one is given."""

    code: str
    gateway: Gateway
    since: Instant
    interval: Milliseconds = MINUTE
    zone: ZoneId | None = None


def enter_equipment(tx: Session, actor: Actor, new: Sequence[NewInUnit], *, now: Instant) -> list[Equipment | Wrong]:
    """Enter equipment with their zones; returns for each what was made, or why not.

    A refusal is NotGranted, NotFound, Conflict when the code is taken, or Invalid.
    """
    revision.bump(tx)
    taken = _taken(tx, Equipment.code, [item.equipment.code for item in new])

    def one(item: NewInUnit) -> Row:
        entered = item.equipment
        actor.require(Right.EQUIP, on=item.unit)
        require_plain("code", entered.code)
        require_plain("name", entered.name)
        if not entered.code.strip() or not entered.name.strip():
            raise Invalid(field="code", value=entered.code, problem="an equipment needs a code and a name")
        _take(taken, entered.code, f"equipment code {entered.code} is taken")
        return {"code": entered.code, "name": entered.name, "kind": entered.kind.value}

    results = [_attempt(partial(one, item)) for item in new]
    made = _insert(tx, Equipment, Equipment.code, results)
    pairs = [(item, made[item.equipment.code]) for item, row in zip(new, results, strict=True) if isinstance(row, dict)]
    kinds = [(equipment.id, kind) for item, equipment in pairs for kind in dict.fromkeys(item.equipment.zones)]
    insert_all(tx, Zone, [{"equipment_id": each, "kind": kind.value} for each, kind in kinds])
    places = [{"equipment_id": each.id, "unit_id": item.unit.id, "since": item.since} for item, each in pairs]
    insert_all(tx, EquipmentUnit, places)
    changes = [
        Change(
            "equipment added",
            f"equipment:{each.id}",
            {"code": each.code, "unit": item.unit.id, "zones": list(item.equipment.zones), "since": item.since},
        )
        for item, each in pairs
    ]
    record_all(tx, changes, at=now, actor=actor.name)
    return [row if isinstance(row, Wrong) else made[row["code"]] for row in results]


def enter_gateways(tx: Session, actor: Actor, new: Sequence[NewGateway], *, now: Instant) -> list[Gateway | Wrong]:
    """Enter gateways; returns for each what was made, or why not.

    A refusal is NotGranted, NotFound, Conflict when the number is taken, or Invalid.
    """
    revision.bump(tx)
    taken = _taken(tx, Gateway.number, [item.number for item in new])

    def one(item: NewGateway) -> Row:
        actor.require(Right.BIND, on=item.unit)
        if not GATEWAY_NUMBER.fullmatch(item.number):
            raise Invalid(field="number", value=item.number, problem="1 to 32 of A-Z a-z 0-9 _ -")
        _take(taken, item.number, f"gateway number {item.number} is taken")
        return {"number": item.number, "namespace": item.namespace}

    results = [_attempt(partial(one, item)) for item in new]
    made = _insert(tx, Gateway, Gateway.number, results)
    pairs = [(item, made[item.number]) for item, row in zip(new, results, strict=True) if isinstance(row, dict)]
    places = [{"gateway_id": each.id, "unit_id": item.unit.id, "since": item.since} for item, each in pairs]
    insert_all(tx, GatewayUnit, places)
    changes = [
        Change(
            "gateway added",
            f"gateway:{each.id}",
            {"number": item.number, "unit": item.unit.id, "since": item.since},
        )
        for item, each in pairs
    ]
    record_all(tx, changes, at=now, actor=actor.name)
    return [row if isinstance(row, Wrong) else made[row["number"]] for row in results]


def enter_probes(tx: Session, actor: Actor, new: Sequence[NewProbe], *, now: Instant) -> list[Probe | Wrong]:
    """Enter probes, each with the series of its temperature; returns for each what was made, or why not.

    A refusal is NotGranted, NotFound, Conflict when the code is taken in the gateway's namespace or gateway or zone
    belonged to no unit then, or Invalid.
    """
    revision.bump(tx)
    there = probes_known(tx, {item.gateway.namespace for item in new}, [item.code for item in new])
    taken: set[object] = set(there)
    unit_then = _UnitsThen(tx, new)

    def one(item: NewProbe) -> Row:
        actor.require(Right.BIND, on=unit_then.of_gateway(item), asked=("gateway", item.gateway.id))
        if item.zone is not None:
            actor.require(Right.BIND, on=unit_then.of_zone(item, item.zone), asked=("zone", item.zone))
        namespace = item.gateway.namespace
        _take(taken, (namespace, item.code), f"probe code {item.code} is taken in namespace {namespace}")
        check_interval(item.interval)
        return {"namespace": namespace, "code": item.code, "interval": item.interval}

    results = [_attempt(partial(one, item)) for item in new]
    inserted = [row for row in results if isinstance(row, dict)]
    insert_all(tx, Probe, inserted)
    made = probes_known(tx, {row["namespace"] for row in inserted}, [row["code"] for row in inserted])
    pairs = [
        (item, made[item.gateway.namespace, item.code])
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
    added = [
        Change(
            "probe added",
            f"probe:{probe.id}",
            {"code": item.code, "gateway": item.gateway.id, "since": item.since},
        )
        for item, probe in pairs
    ]
    binding = [Change("probe bound", f"probe:{each.id}", {"zone": item.zone, "at": item.since}) for item, each in bound]
    record_all(tx, [*added, *binding], at=now, actor=actor.name)
    return [row if isinstance(row, Wrong) else made[row["namespace"], row["code"]] for row in results]


def probes_known(tx: Session, namespaces: Collection[str], codes: Collection[str]) -> dict[tuple[str, str], Probe]:
    """Return the probes with one of these codes in one of these namespaces.

    Looked up one by one in their index: within the transaction that adds them PostgreSQL has no statistics of them yet,
    and would compare each of them with each code.
    """
    if tx.get_bind().dialect.name == "postgresql":
        each = func.unnest(bindparam(None, sorted(codes), ARRAY(String))).column_valued()
        of_codes: ColumnElement[bool] = Probe.code.in_(select(each))
    else:
        of_codes = among(tx, Probe.code, codes)
    asked = select(Probe).where(Probe.namespace.in_(sorted(namespaces)), of_codes)
    return {(probe.namespace, probe.code): probe for probe in tx.scalars(asked)}


def check_interval(interval: Milliseconds) -> None:
    """Let pass how often a probe may be read.

    Raises: Invalid.
    """
    if not 0 < interval <= DAY:
        raise Invalid(field="interval", value=interval, problem=message("interval"))


class _UnitsThen:
    """In which unit gateways and zones' equipment stood, for many at once."""

    def __init__(self, tx: Session, new: Sequence[NewProbe]) -> None:
        zones = {item.zone for item in new if item.zone is not None}
        asked = select(Zone.id, Zone.equipment_id).where(among(tx, Zone.id, zones))
        self._equipment: dict[ZoneId, EquipmentId] = {row.id: row.equipment_id for row in tx.execute(asked)}
        self._gateways = intervals.rows_of(tx, GatewayUnit, {item.gateway.id for item in new})
        self._places = intervals.rows_of(tx, EquipmentUnit, set(self._equipment.values()))
        units = {row.unit_id for rows in self._gateways.values() for row in rows}
        units |= {row.unit_id for rows in self._places.values() for row in rows}
        found = tx.scalars(select(Unit).where(among(tx, Unit.id, units)))
        self._units: dict[UnitId, Unit] = {unit.id: unit for unit in found}

    def of_gateway(self, item: NewProbe) -> Unit:
        """Return the unit that a probe's gateway stood in.

        Raises: Conflict.
        """
        row = intervals.covering(self._gateways.get(item.gateway.id, ()), item.since)
        if row is None:
            raise Conflict(message("gateway_nowhere", gateway=item.gateway.number))
        return self._units[row.unit_id]

    def of_zone(self, item: NewProbe, zone: ZoneId) -> Unit:
        """Return the unit that a zone's equipment belonged to.

        Raises: NotFound, Conflict.
        """
        if zone not in self._equipment:
            raise NotFound(what="zone", name=zone)
        equipment = self._equipment[zone]
        row = intervals.covering(self._places.get(equipment, ()), item.since)
        if row is None:
            raise Conflict(message("equipment_nowhere", equipment=equipment))
        return self._units[row.unit_id]


def _insert(
    tx: Session, table: type[Made], column: InstrumentedAttribute[str], results: Sequence[Row | Wrong]
) -> dict[str, Made]:
    """Insert the rows that aren't refused; returns what they are then, by the column that they are known by."""
    rows = [row for row in results if isinstance(row, dict)]
    insert_all(tx, table, rows)
    found = tx.scalars(select(table).where(among(tx, column, [row[column.key] for row in rows])))
    return {getattr(made, column.key): made for made in found}


def _attempt(make: Callable[[], Row]) -> Row | Wrong:
    try:
        return make()
    except Wrong as refusal:
        return refusal


def _taken(tx: Session, column: InstrumentedAttribute[str], values: Sequence[str]) -> set[object]:
    return set(tx.scalars(select(column).where(among(tx, column, values))))


def _take(taken: set[object], name: object, refusal: str) -> None:
    if name in taken:
        raise Conflict(refusal)
    taken.add(name)
