"""Coverage of monitoring: how many of the units that must be monitored are (CC-02)."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, and_, func, or_, select
from sqlalchemy.orm import Session

from core.db.in_force import in_force
from core.devices.tables import EquipmentUnit, ProbeZone, Zone
from core.runtime.instant import Instant
from core.units.queries import in_subtree
from core.units.tables import Unit
from core.units.unit_attributes import Grade
from core.units.unit_levels import Level, UnitKind

CDC_LEVELS = (Level.PROVINCE, Level.CITY, Level.COUNTY)
POV_LEVELS = (Level.PROVINCE, Level.CITY, Level.COUNTY, Level.TOWNSHIP)


class MonitoringCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """Units of an area that must be monitored, and how many of them have a probe in a zone of their equipment."""

    cdcs: int
    cdcs_monitored: int
    povs: int
    povs_monitored: int


def must_be_monitored() -> ColumnElement[bool]:
    """Return the SQL condition on `Unit` for what counts: CDCs from county up, points of vaccination from township up.

    A community health station (社区卫生服务站) counts at whatever level it stands; other units of a village don't.
    Temporary sites belong to their parents, and stopped units count no more.
    """
    cdc = and_(Unit.kind == UnitKind.CDC, Unit.level.in_(CDC_LEVELS))
    pov = and_(Unit.kind == UnitKind.POV, or_(Unit.level.in_(POV_LEVELS), Unit.grade == Grade.COMMUNITY_STATION))
    return and_(Unit.until.is_(None), or_(cdc, pov))


def monitoring_coverage(tx: Session, unit: Unit, *, now: Instant) -> MonitoringCoverage:
    """Return the coverage of a unit and all units below it."""
    monitored = (
        select(EquipmentUnit.unit_id)
        .join(Zone, Zone.equipment_id == EquipmentUnit.equipment_id)
        .join(ProbeZone, ProbeZone.zone_id == Zone.id)
        .where(in_force(EquipmentUnit, now), in_force(ProbeZone, now))
        .distinct()
        .subquery()
    )
    query = (
        select(Unit.kind, func.count(), func.count(monitored.c.unit_id))
        .outerjoin(monitored, monitored.c.unit_id == Unit.id)
        .where(in_subtree(unit), must_be_monitored())
        .group_by(Unit.kind)
    )
    counts: dict[UnitKind, Sequence[int]] = {kind: (units, covered) for kind, units, covered in tx.execute(query)}
    cdcs, povs = (counts.get(kind, (0, 0)) for kind in (UnitKind.CDC, UnitKind.POV))
    return MonitoringCoverage(cdcs=cdcs[0], cdcs_monitored=cdcs[1], povs=povs[0], povs_monitored=povs[1])
