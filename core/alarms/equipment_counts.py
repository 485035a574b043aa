"""Counts of monitored equipment by state, for a unit and for each unit below it (CC-04).

Monitored is an equipment with a probe in one of its zones, or one that is stopped. Its state is that of its worst
zone, by the newest readings that the rules have seen (`SeriesState`), so that one statement answers for a whole
province. Every equipment is counted in exactly one state and in exactly one unit: a row equals the sum of its own
equipment and the rows below it.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Self

import msgspec
from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from core.alarms.states import AlarmState, EquipmentState
from core.alarms.tables import Alarm, SeriesState
from core.db.in_force import in_force
from core.devices.kinds_and_labels import WindowKind, ZoneKind
from core.devices.tables import EquipmentUnit, MaintenanceWindow, Probe, ProbeZone, Series, Zone
from core.ids import Centi, EquipmentId, UnitId
from core.limits import rule_profile
from core.rules.rule_types import Rule
from core.runtime.instant import Instant
from core.units.queries import in_subtree
from core.units.tables import Unit
from core.units.unit_levels import Level

_LEVELS = list(Level)


class EquipmentCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Number of monitored equipment in each state."""

    normal: int = 0
    abnormal: int = 0
    offline: int = 0
    stopped: int = 0
    maintenance: int = 0

    @property
    def total(self) -> int:
        """Return the number of all monitored equipment."""
        return self.normal + self.abnormal + self.offline + self.stopped + self.maintenance

    def of(self, state: EquipmentState) -> int:
        """Return the number of equipment in one state."""
        return int(getattr(self, state.value))

    def __add__(self, other: Self) -> "EquipmentCounts":
        """Return the counts of both."""
        return EquipmentCounts(**{state.value: self.of(state) + other.of(state) for state in EquipmentState})


class UnitCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a unit with all units below it."""

    unit: Unit
    units_below: int
    counts: EquipmentCounts


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A unit's counts: the sum, what is its own, and each unit directly below it with all below that."""

    unit: Unit
    total: EquipmentCounts
    own: EquipmentCounts
    below: Sequence[UnitCounts]


def overview(tx: Session, unit: Unit, *, now: Instant) -> Overview:
    """Return the counts of a unit and of the units directly below it, by level and number.

    A stopped unit is listed as long as it, or a unit below it, has monitored equipment.
    """
    counts = counts_by_unit(tx, unit, now=now)
    children = {child.id: child for child in tx.scalars(select(Unit).where(Unit.parent_id == unit.id))}
    sums: dict[UnitId, EquipmentCounts] = defaultdict(EquipmentCounts)
    sizes: dict[UnitId, int] = defaultdict(int)
    for each, path in tx.execute(select(Unit.id, Unit.path).where(in_subtree(unit), Unit.id != unit.id)):
        child = UnitId(int(path[len(unit.path) :].partition("/")[0]))
        sizes[child] += each != child
        sums[child] += counts.get(each, EquipmentCounts())
    own = counts.get(unit.id, EquipmentCounts())
    below = [
        UnitCounts(unit=child, units_below=sizes[child.id], counts=sums[child.id])
        for child in sorted(
            children.values(), key=lambda child: (_LEVELS.index(child.level), child.code or "", child.id)
        )
        if child.until is None or sums[child.id].total
    ]
    return Overview(unit=unit, total=sum((row.counts for row in below), own), own=own, below=below)


def counts_by_unit(tx: Session, unit: Unit, *, now: Instant) -> dict[UnitId, EquipmentCounts]:
    """Return the counts of the equipment that stands in each unit of a subtree; units without any are left out."""
    zones, windows = _zones(unit, now).subquery(), _windows(now).subquery()
    equipment = (
        select(
            zones.c.unit_id,
            zones.c.equipment_id,
            func.max(zones.c.beyond).label("beyond"),
            # Of a zone that nobody measures it is NULL, which MIN passes over.
            func.min(zones.c.heard).label("heard"),
            func.max(windows.c.stopped).label("stopped"),
            func.max(windows.c.maintenance).label("maintenance"),
        )
        .outerjoin(windows, windows.c.equipment_id == zones.c.equipment_id)
        .group_by(zones.c.unit_id, zones.c.equipment_id)
        .subquery()
    )
    state = case(
        (equipment.c.stopped == 1, EquipmentState.STOPPED.value),
        (equipment.c.heard.is_(None), None),
        (equipment.c.maintenance == 1, EquipmentState.MAINTENANCE.value),
        (equipment.c.beyond == 1, EquipmentState.ABNORMAL.value),
        (equipment.c.heard == 0, EquipmentState.OFFLINE.value),
        else_=EquipmentState.NORMAL.value,
    ).label("state")
    of_equipment = select(equipment.c.unit_id, state).subquery()
    query = (
        select(of_equipment.c.unit_id, of_equipment.c.state, func.count())
        .where(of_equipment.c.state.is_not(None))
        .group_by(of_equipment.c.unit_id, of_equipment.c.state)
    )
    found: dict[UnitId, dict[str, int]] = defaultdict(dict)
    for unit_id, name, count in tx.execute(query):
        found[unit_id][name] = count
    return {unit_id: EquipmentCounts(**counts) for unit_id, counts in found.items()}


def _zones(unit: Unit, now: Instant) -> Select[UnitId, EquipmentId, int, int | None]:
    """Return a row for each zone: whether a probe is heard (NULL without probes), and whether one is beyond a limit."""
    excursions = (
        select(Alarm.zone_id, Alarm.unit_id)
        .where(Alarm.state == AlarmState.OPEN, Alarm.rule.in_((Rule.ABOVE, Rule.BELOW)))
        .distinct()
        .subquery()
    )
    since = now - _offline_limit()
    is_heard = and_(
        SeriesState.newest_at > since,
        SeriesState.received_at > since,
        SeriesState.newest_at >= EquipmentUnit.since,
        SeriesState.newest_at >= ProbeZone.since,
    )
    low, high = (_limit(own, side) for own, side in ((Zone.low, 0), (Zone.high, 1)))
    is_beyond = and_(
        is_heard, or_(SeriesState.value < low, SeriesState.value > high, excursions.c.zone_id.is_not(None))
    )
    return (
        select(
            EquipmentUnit.unit_id,
            EquipmentUnit.equipment_id,
            func.max(case((is_beyond, 1), else_=0)).label("beyond"),
            func.max(case((is_heard, 1), (ProbeZone.id.is_not(None), 0))).label("heard"),
        )
        .select_from(EquipmentUnit)
        .join(Unit, Unit.id == EquipmentUnit.unit_id)
        .join(Zone, Zone.equipment_id == EquipmentUnit.equipment_id)
        .outerjoin(ProbeZone, and_(ProbeZone.zone_id == Zone.id, in_force(ProbeZone, now)))
        .outerjoin(Probe, Probe.id == ProbeZone.probe_id)
        .outerjoin(Series, and_(Series.probe_id == Probe.id, Series.quantity == "t"))
        .outerjoin(SeriesState, SeriesState.series_id == Series.id)
        .outerjoin(excursions, and_(excursions.c.zone_id == Zone.id, excursions.c.unit_id == EquipmentUnit.unit_id))
        .where(in_subtree(unit), in_force(EquipmentUnit, now))
        .group_by(EquipmentUnit.unit_id, EquipmentUnit.equipment_id, Zone.id)
    )


def _windows(now: Instant) -> Select[EquipmentId, int, int]:
    is_stopped = MaintenanceWindow.kind == WindowKind.STOPPED
    return (
        select(
            MaintenanceWindow.equipment_id,
            func.max(case((is_stopped, 1), else_=0)).label("stopped"),
            func.max(case((is_stopped, 0), else_=1)).label("maintenance"),
        )
        .where(in_force(MaintenanceWindow, now))
        .group_by(MaintenanceWindow.equipment_id)
    )


def _limit(own: InstrumentedAttribute[Centi | None], side: int) -> ColumnElement[int | None]:
    """Return the limit of a zone at one side: its own, or else its profile's for its kind."""
    of_profiles = [
        (and_(Zone.profile == name, Zone.kind == kind), rule_profile.load(name).held_to(kind, None, None)[side])
        for name in rule_profile.names()
        for kind in ZoneKind
    ]
    known = [(condition, limit) for condition, limit in of_profiles if limit is not None]
    return func.coalesce(own, case(*known))


def _offline_limit() -> ColumnElement[int]:
    """Return the time that a probe of a zone may be silent."""
    of_profiles = {name: rule_profile.load(name).offline_limit for name in rule_profile.names()}
    usual = of_profiles[rule_profile.DEFAULT]

    def chosen(field: str) -> ColumnElement[int]:
        values = {name: getattr(limit, field) for name, limit in of_profiles.items()}
        return case(values, value=Zone.profile, else_=getattr(usual, field))

    by_intervals, at_least = chosen("intervals") * Probe.interval, chosen("at_least")
    return case((by_intervals > at_least, by_intervals), else_=at_least)
