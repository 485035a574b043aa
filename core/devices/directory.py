"""Device directory: maps (gateway, probe code, quantity, instant) to series, zone, equipment and unit at that instant.

Every reading is looked up here, so the directory is a copy of the timelines in memory. It is loaded again when the
device revision has changed. A loaded copy only ever gains series, so threads may look up while another one refreshes.

The copy caches the last place of each gateway, probe and quantity, with the stretch of time in which it holds. The next
reading is usually in the same stretch and then costs a dict look-up instead of ten microseconds. Refusals are not
cached.
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
from core.devices.kinds_and_labels import WindowKind
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
from core.devices.timeline import Segment, Timeline, merged
from core.ids import EquipmentId, GatewayId, ProbeId, SeriesId, UnitId, ZoneId
from core.intake.states import QuarantineReason
from core.runtime.instant import Instant, Milliseconds
from core.units import device_revision


class Place(msgspec.Struct, frozen=True, gc=False):
    """Place of a reading. Readings of a probe without a zone are stored too, but belong to no equipment."""

    series: SeriesId
    probe: ProbeId
    interval: Milliseconds
    """Expected time between two readings of the probe."""
    zone: ZoneId | None
    zone_kind: str | None
    equipment: EquipmentId | None
    unit: UnitId | None


class RefusalReason(StrEnum):
    """Reason why a reading can't be accepted: those of quarantine that the records give."""

    UNKNOWN_PROBE = QuarantineReason.UNKNOWN_PROBE
    FOREIGN_GATEWAY = QuarantineReason.FOREIGN_GATEWAY
    STOPPED_EQUIPMENT = QuarantineReason.STOPPED_EQUIPMENT
    NO_SERIES = QuarantineReason.NO_SERIES
    """The probe is known but this quantity has no series yet; `Directory.allot` creates one."""


RESOLVABLE = (RefusalReason.UNKNOWN_PROBE, RefusalReason.FOREIGN_GATEWAY, RefusalReason.NO_SERIES)
"""Refusals that a change of the records can resolve. Readings of a stopped equipment stay held (CC-19) until a person
decides.
"""


class RefusedReading(msgspec.Struct, frozen=True):
    """Refusal of a reading, which is then held; `detail` tells a person how to resolve it."""

    reason: RefusalReason
    detail: str


MANY = 1_000
"""Number of probes from which the copy is kept out of garbage collection."""


class Directory:
    """Copy of all devices of an installation in one process."""

    def __init__(self, records: Records) -> None:
        """Start empty; the first `refresh` loads the devices."""
        self._records = records
        self._copy = _Copy()

    @property
    def revision(self) -> int:
        """Device revision of the loaded copy."""
        return self._copy.revision

    def refresh(self) -> bool:
        """Load again if anything has changed; return whether it did. Without changes it is one small query."""
        with self._records.read() as tx:
            current = device_revision.current(tx)
            if current == self._copy.revision:
                return False
            with _gc_disabled():
                self._copy = _load(tx, current)
        if len(self._copy.probes) >= MANY:
            # The copy lives long and has no cycles; each collection over it would pause for 0.2 s with 10 000 probes.
            gc.unfreeze()
            gc.collect()
            gc.freeze()
        return True

    def resolve(self, gw: str, code: str, quantity: str, at: Instant) -> Place | RefusedReading:
        """Return the place of a reading that gateway `gw` sent for probe `code`, taken at `at`."""
        copy = self._copy
        cached = copy.places.get((gw, code, quantity))
        if cached is not None:
            since, until, place = cached
            if since <= at < until:
                return place
        result = _look_up(copy, gw, code, quantity, at)
        if isinstance(result, RefusedReading):
            return result
        copy.places[gw, code, quantity] = result
        return result.value

    def allot(self, gw: str, code: str, quantity: str, at: Instant) -> Place | RefusedReading:
        """Resolve; if only the series is missing, create it.

        It opens its own transaction: never call it inside one. Concurrent callers all get the same series.
        """
        result = self.resolve(gw, code, quantity, at)
        if not isinstance(result, RefusedReading) or result.reason is not RefusalReason.NO_SERIES:
            return result
        probe = self._copy.probes[self._copy.gateways[gw][1], code]
        with self._records.write() as tx:
            series = allot_series(tx, probe.id, quantity)
        # Only after the commit: a number that was rolled back is given to another series.
        probe.series[quantity] = series
        return self.resolve(gw, code, quantity, at)


def allot_series(tx: Session, probe: ProbeId, quantity: str) -> SeriesId:
    """Return the series of a probe's quantity; create it if missing. Safe when several processes do this at once."""
    query = select(Series.id).where(Series.probe_id == probe, Series.quantity == quantity)
    if (existing := tx.scalar(query)) is not None:
        return existing
    try:
        with tx.begin_nested():
            series = Series(probe_id=probe, quantity=quantity)
            tx.add(series)
    except IntegrityError:
        return tx.scalars(query).one()
    return series.id


class _Equipment:
    __slots__ = ("code", "id", "stopped", "units")

    def __init__(self, id_: EquipmentId, code: str, units: Timeline[UnitId], stopped: Timeline[bool]) -> None:
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

    def __init__(
        self, id_: ProbeId, interval: Milliseconds, zones: Timeline[ZoneId], gateways: Timeline[GatewayId]
    ) -> None:
        self.id = id_
        self.interval = interval
        self.zones = zones
        self.gateways = gateways
        self.series: dict[str, SeriesId] = {}


class _Copy:
    def __init__(self) -> None:
        self.revision = -1
        self.gateways: dict[str, tuple[GatewayId, str]] = {}
        self.numbers: dict[GatewayId, str] = {}
        self.probes: dict[tuple[str, str], _Probe] = {}
        self.zones: dict[ZoneId, _Zone] = {}
        self.places: dict[tuple[str, str, str], Segment[Place]] = {}
        """Cache by gateway, probe code and quantity: the last place, and the time in which it holds."""


def _look_up(copy: _Copy, gw: str, code: str, quantity: str, at: Instant) -> Segment[Place] | RefusedReading:
    probe = _paired_probe(copy, gw, code, at)
    if isinstance(probe, RefusedReading):
        return probe
    pairing, binding = probe.gateways.around(at), probe.zones.around(at)
    zone = None if binding.value is None else copy.zones[binding.value]
    if zone is not None and zone.equipment.stopped.at(at):
        return RefusedReading(RefusalReason.STOPPED_EQUIPMENT, f"equipment {zone.equipment.code} was stopped then")
    series = probe.series.get(quantity)
    if series is None:
        return RefusedReading(RefusalReason.NO_SERIES, f"quantity {quantity} of probe {code} has no series yet")
    if zone is None:
        place = Place(series, probe.id, probe.interval, None, None, None, None)
        return _intersected((pairing, binding), place)
    equipment = zone.equipment
    units = equipment.units.around(at)
    place = Place(series, probe.id, probe.interval, binding.value, zone.kind, equipment.id, units.value)
    return _intersected((pairing, binding, units, equipment.stopped.around(at)), place)


def _intersected(stretches: Iterable[Segment[Any]], place: Place) -> Segment[Place]:
    """Return `place` with the time in which all of `stretches` hold."""
    sinces, untils, _ = zip(*stretches, strict=True)
    return Segment(max(sinces), min(untils), place)


def _paired_probe(copy: _Copy, gw: str, code: str, at: Instant) -> _Probe | RefusedReading:
    gateway = copy.gateways.get(gw)
    if gateway is None:
        return RefusedReading(RefusalReason.FOREIGN_GATEWAY, f"gateway {gw} is not in the records")
    gateway_id, namespace = gateway
    probe = copy.probes.get((namespace, code))
    if probe is None:
        return RefusedReading(RefusalReason.UNKNOWN_PROBE, f"no probe {code} in namespace {namespace}")
    paired_gateway = probe.gateways.at(at)
    if paired_gateway == gateway_id:
        return probe
    paired_with = "no gateway" if paired_gateway is None else f"gateway {copy.numbers[paired_gateway]}"
    return RefusedReading(RefusalReason.FOREIGN_GATEWAY, f"probe {code} was with {paired_with} then, not with {gw}")


@contextmanager
def _gc_disabled() -> Iterator[None]:
    """Disable the garbage collector for a while.

    While 50 000 probes are loaded, it would scan all new objects again and again, for more than half of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load(tx: Session, number: int) -> _Copy:
    copy = _Copy()
    copy.revision = number
    units = _by_subject(tx.execute(select(EquipmentUnit.equipment_id, *_span(EquipmentUnit), EquipmentUnit.unit_id)))
    stopped: dict[EquipmentId, list[tuple[Instant, Instant | None]]] = defaultdict(list)
    windows = select(MaintenanceWindow.equipment_id, *_span(MaintenanceWindow))
    for subject, since, until in tx.execute(windows.where(MaintenanceWindow.kind == WindowKind.STOPPED)):
        stopped[subject].append((since, until))
    equipment = {
        id_: _Equipment(id_, code, Timeline(units.get(id_, ())), Timeline(merged(stopped.get(id_, ()))))
        for id_, code in tx.execute(select(Equipment.id, Equipment.code))
    }
    for zone_id, kind, equipment_id in tx.execute(select(Zone.id, Zone.kind, Zone.equipment_id)):
        copy.zones[zone_id] = _Zone(kind, equipment[equipment_id])
    for gateway_id, gw, namespace in tx.execute(select(Gateway.id, Gateway.number, Gateway.namespace)):
        copy.gateways[gw] = (gateway_id, namespace)
        copy.numbers[gateway_id] = gw
    zones = _by_subject(tx.execute(select(ProbeZone.probe_id, *_span(ProbeZone), ProbeZone.zone_id)))
    gateways = _by_subject(tx.execute(select(ProbeGateway.probe_id, *_span(ProbeGateway), ProbeGateway.gateway_id)))
    by_id: dict[ProbeId, _Probe] = {}
    for probe_id, namespace, code, interval in tx.execute(
        select(Probe.id, Probe.namespace, Probe.code, Probe.interval)
    ):
        probe = _Probe(probe_id, interval, Timeline(zones.get(probe_id, ())), Timeline(gateways.get(probe_id, ())))
        by_id[probe_id] = copy.probes[namespace, code] = probe
    for series_id, probe_id, quantity in tx.execute(select(Series.id, Series.probe_id, Series.quantity)):
        by_id[probe_id].series[quantity] = series_id
    return copy


def _span(table: Any) -> tuple[Any, Any]:  # noqa: ANN401  # every timeline has the two columns
    return table.since, table.until


def _by_subject(rows: Iterable[Any]) -> dict[Any, list[Any]]:
    grouped: dict[Any, list[Any]] = defaultdict(list)
    for subject, since, until, value in rows:
        grouped[subject].append((since, until, value))
    return grouped
