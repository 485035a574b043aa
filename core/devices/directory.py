"""Whose reading is it: (gateway, probe code, quantity, instant) → series, zone, equipment and unit of that instant.

In memory, because it is asked for every reading: a copy of the timelines that is made anew when `device_revision` has
moved. A copy only ever gains series, so threads may ask while another refreshes.

A place that was looked up is kept in the copy, with the stretch of time in which nothing changes of all that it depends
on: readings follow each other within one, so the next costs a look into a dict instead of ten microseconds. One stretch
a gateway, probe and quantity is kept, the last one that was asked for. A refusal is looked up every time.
"""

import gc
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from core.db.engine import Records
from core.devices import revision
from core.devices.spans import Spans, Stretch, merged
from core.devices.tables import (
    Equipment,
    EquipmentUnit,
    Gateway,
    MaintenanceWindow,
    Probe,
    ProbeGateway,
    ProbeZone,
    Series,
    Zone,
)
from core.ids import EquipmentId, GatewayId, ProbeId, SeriesId, UnitId, ZoneId
from core.runtime.instant import Instant, Milliseconds


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a reading belongs. A probe bound to no zone is stored all the same, and is nobody's equipment."""

    series: SeriesId
    probe: ProbeId
    interval: Milliseconds
    """Expected time between two readings of the probe."""
    zone: ZoneId | None
    zone_kind: str | None
    equipment: EquipmentId | None
    unit: UnitId | None


class Refusal(StrEnum):
    """Why a reading can't be taken in."""

    UNKNOWN_PROBE = "unknown_probe"
    FOREIGN_GATEWAY = "foreign_gateway"
    STOPPED_EQUIPMENT = "stopped_equipment"
    NO_SERIES = "no_series"
    """The probe is known, this quantity of it was never seen: `Directory.allot` mends it."""


RESOLVABLE = (Refusal.UNKNOWN_PROBE, Refusal.FOREIGN_GATEWAY, Refusal.NO_SERIES)
"""What a change of the records can mend. Readings of a stopped equipment stay held (CC-19) until a person decides."""


class Refused(msgspec.Struct, frozen=True):
    """A reading that is to be held, and what a person needs to know to resolve it."""

    reason: Refusal
    detail: str


MANY = 1_000
"""Probes from which on it is worth it to keep them out of what Python looks through for cycles."""


class Directory:
    """The devices of an installation, as one process knows them."""

    def __init__(self, records: Records) -> None:
        """Know nothing before the first `refresh`."""
        self._records = records
        self._known = _Known()

    @property
    def revision(self) -> int:
        """Which state of the records it knows."""
        return self._known.revision

    def refresh(self) -> bool:
        """Load anew if anything has changed since; returns whether it did. One small query when nothing has."""
        with self._records.read() as tx:
            number = revision.current(tx)
            if number == self._known.revision:
                return False
            with _no_cycles_looked_for():
                self._known = _load(tx, number)
        if len(self._known.probes) >= MANY:
            # It stays, and has no cycles: each look through it is a standstill of 0.2 s with 10 000 probes.
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        return True

    def resolve(self, gw: str, code: str, quantity: str, at: Instant) -> Place | Refused:
        """Return where a reading belongs that gateway `gw` sent for probe `code`, taken at `at`."""
        known = self._known
        kept = known.places.get((gw, code, quantity))
        if kept is not None:
            since, until, place = kept
            if since <= at < until:
                return place
        found = _look_up(known, gw, code, quantity, at)
        if isinstance(found, Refused):
            return found
        known.places[gw, code, quantity] = found
        return found.value

    def allot(self, gw: str, code: str, quantity: str, at: Instant) -> Place | Refused:
        """Resolve, and give the quantity its series where that alone is missing.

        In a transaction of its own: never call it inside one. Whoever asks first allots; all get the same number.
        """
        answer = self.resolve(gw, code, quantity, at)
        if not isinstance(answer, Refused) or answer.reason is not Refusal.NO_SERIES:
            return answer
        probe = self._known.probes[self._known.gateways[gw][1], code]
        with self._records.write() as tx:
            series = allot_series(tx, probe.id, quantity)
        probe.series[quantity] = series  # not before the commit: a number that was rolled back is another's next
        return self.resolve(gw, code, quantity, at)


def allot_series(tx: Session, probe: ProbeId, quantity: str) -> SeriesId:
    """Return the series of a quantity of a probe, made now unless there is one. Safe against another who does so."""
    asked = select(Series.id).where(Series.probe_id == probe, Series.quantity == quantity)
    if (known := tx.scalar(asked)) is not None:
        return known
    try:
        with tx.begin_nested():
            made = Series(probe_id=probe, quantity=quantity)
            tx.add(made)
    except IntegrityError:
        return tx.scalars(asked).one()
    return made.id


class _Equipment:
    __slots__ = ("code", "id", "stopped", "units")

    def __init__(self, id_: EquipmentId, code: str, units: Spans[UnitId], stopped: Spans[bool]) -> None:
        self.id = id_
        self.code = code
        self.units = units
        self.stopped = stopped


class _Zone:
    __slots__ = ("equipment", "kind")

    def __init__(self, kind: str, equipment: _Equipment) -> None:
        self.kind = kind
        self.equipment = equipment


class _Probe:
    __slots__ = ("gateways", "id", "interval", "series", "zones")

    def __init__(self, id_: ProbeId, interval: Milliseconds, zones: Spans[ZoneId], gateways: Spans[GatewayId]) -> None:
        self.id = id_
        self.interval = interval
        self.zones = zones
        self.gateways = gateways
        self.series: dict[str, SeriesId] = {}


class _Known:
    def __init__(self) -> None:
        self.revision = -1
        self.gateways: dict[str, tuple[GatewayId, str]] = {}
        self.numbers: dict[GatewayId, str] = {}
        self.probes: dict[tuple[str, str], _Probe] = {}
        self.zones: dict[ZoneId, _Zone] = {}
        self.places: dict[tuple[str, str, str], Stretch[Place]] = {}
        """By gateway, probe code and quantity: what was last looked up, and when it holds."""


def _look_up(known: _Known, gw: str, code: str, quantity: str, at: Instant) -> Stretch[Place] | Refused:
    probe = _paired(known, gw, code, at)
    if isinstance(probe, Refused):
        return probe
    paired, bound = probe.gateways.around(at), probe.zones.around(at)
    zone = None if bound.value is None else known.zones[bound.value]
    if zone is not None and zone.equipment.stopped.at(at):
        return Refused(Refusal.STOPPED_EQUIPMENT, f"equipment {zone.equipment.code} was stopped then")
    series = probe.series.get(quantity)
    if series is None:
        return Refused(Refusal.NO_SERIES, f"quantity {quantity} of probe {code} has no series yet")
    if zone is None:
        place = Place(series, probe.id, probe.interval, None, None, None, None)
        return _while((paired, bound), place)
    equipment = zone.equipment
    units = equipment.units.around(at)
    place = Place(series, probe.id, probe.interval, bound.value, zone.kind, equipment.id, units.value)
    return _while((paired, bound, units, equipment.stopped.around(at)), place)


def _while(stretches: Iterable[Stretch[Any]], place: Place) -> Stretch[Place]:
    """Return when a place holds that depends on all of some stretches."""
    sinces, untils, _ = zip(*stretches, strict=True)
    return Stretch(max(sinces), min(untils), place)


def _paired(known: _Known, gw: str, code: str, at: Instant) -> _Probe | Refused:
    gateway = known.gateways.get(gw)
    if gateway is None:
        return Refused(Refusal.FOREIGN_GATEWAY, f"gateway {gw} is not in the records")
    gateway_id, namespace = gateway
    probe = known.probes.get((namespace, code))
    if probe is None:
        return Refused(Refusal.UNKNOWN_PROBE, f"no probe {code} in namespace {namespace}")
    through = probe.gateways.at(at)
    if through == gateway_id:
        return probe
    belongs = "no gateway" if through is None else f"gateway {known.numbers[through]}"
    return Refused(Refusal.FOREIGN_GATEWAY, f"probe {code} was with {belongs} then, not with {gw}")


@contextmanager
def _no_cycles_looked_for() -> Iterator[None]:
    """Let Python not look for cycles meanwhile.

    With 50 000 probes it would look through all that was made so far again and again, for more than half of the time.
    """
    looked_for = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if looked_for:
            gc.enable()


def _load(tx: Session, number: int) -> _Known:
    known = _Known()
    known.revision = number
    units = _by_subject(tx.execute(select(EquipmentUnit.equipment_id, *_span(EquipmentUnit), EquipmentUnit.unit_id)))
    stopped: dict[EquipmentId, list[tuple[Instant, Instant | None]]] = defaultdict(list)
    windows = select(MaintenanceWindow.equipment_id, *_span(MaintenanceWindow))
    for subject, since, until in tx.execute(windows.where(MaintenanceWindow.kind == "stopped")):
        stopped[subject].append((since, until))
    equipment = {
        id_: _Equipment(id_, code, Spans(units.get(id_, ())), Spans(merged(stopped.get(id_, ()))))
        for id_, code in tx.execute(select(Equipment.id, Equipment.code))
    }
    for zone_id, kind, equipment_id in tx.execute(select(Zone.id, Zone.kind, Zone.equipment_id)):
        known.zones[zone_id] = _Zone(kind, equipment[equipment_id])
    for gateway_id, gw, namespace in tx.execute(select(Gateway.id, Gateway.number, Gateway.namespace)):
        known.gateways[gw] = (gateway_id, namespace)
        known.numbers[gateway_id] = gw
    zones = _by_subject(tx.execute(select(ProbeZone.probe_id, *_span(ProbeZone), ProbeZone.zone_id)))
    gateways = _by_subject(tx.execute(select(ProbeGateway.probe_id, *_span(ProbeGateway), ProbeGateway.gateway_id)))
    by_id: dict[ProbeId, _Probe] = {}
    for probe_id, namespace, code, interval in tx.execute(
        select(Probe.id, Probe.namespace, Probe.code, Probe.interval)
    ):
        probe = _Probe(probe_id, interval, Spans(zones.get(probe_id, ())), Spans(gateways.get(probe_id, ())))
        by_id[probe_id] = known.probes[namespace, code] = probe
    for series_id, probe_id, quantity in tx.execute(select(Series.id, Series.probe_id, Series.quantity)):
        by_id[probe_id].series[quantity] = series_id
    return known


def _span(table: Any) -> tuple[Any, Any]:  # noqa: ANN401  # every timeline has the two columns
    return table.since, table.until


def _by_subject(rows: Iterable[Any]) -> dict[Any, list[Any]]:
    grouped: dict[Any, list[Any]] = defaultdict(list)
    for subject, since, until, value in rows:
        grouped[subject].append((since, until, value))
    return grouped
