"""Figures of a unit and of all units below it: equipment by state, coverage, readiness, codes of a year."""

from collections.abc import Mapping, Sequence
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import ReadSession
from api.schemas import Cursor, Moment, Page, PageLimit, Schema, UnitNumber, cursor_of, place_of
from core.alarms.equipment_counts import EquipmentCounts, UnitCounts, overview
from core.alarms.states import EquipmentState
from core.devices.monitoring_coverage import monitoring_coverage
from core.ids import UnitId
from core.runtime.instant import local_day
from core.units.ancestry import ancestors_at
from core.units.code_queries import codes_of_year
from core.units.queries import visible_unit
from core.units.readiness import hardware_coverage, hardware_of
from core.units.rights import Right
from core.units.unit_attributes import HardwareKind

router = APIRouter(prefix="/units", tags=["units"])
Year = Annotated[int, Query(ge=1990, le=9998)]


class CountsOut(Schema):
    """Monitored equipment by state; `total` is their sum."""

    total: int
    normal: int
    abnormal: int
    offline: int
    stopped: int
    maintenance: int


class UnitCountsOut(Schema):
    """A unit with all units below it."""

    unit: UnitId
    code: str | None
    name: str
    kind: str
    level: str
    units_below: int
    counts: CountsOut


class OverviewOut(Schema):
    """Counts of a unit: `total` is the sum of `own` and of all pages of `below`."""

    unit: UnitId
    total: CountsOut
    own: CountsOut
    below: Page[UnitCountsOut]


class CoverageOut(Schema):
    """CDCs from county up and points of vaccination from township up, and how many of them are monitored."""

    cdcs: int
    cdcs_monitored: int
    povs: int
    povs_monitored: int


class ReadinessOut(Schema):
    """Hardware of a unit by kind; and of all units and temporary sites below it, how many have each kind and all."""

    hardware: Mapping[HardwareKind, int]
    units: int
    ready: int
    by_kind: Mapping[HardwareKind, int]


class CodeOut(Schema):
    """A unit code that was in force at some time of a year; `name` is the unit's present name."""

    code: str
    unit: UnitId
    name: str
    since: Moment
    until: Moment | None


class AncestorOut(Schema):
    """A unit that stood above another one."""

    id: UnitId
    name: str
    level: str


@router.get("/{unit}/overview")
def equipment_overview(
    unit: UnitNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    state: Annotated[EquipmentState | None, Query(description="only units with equipment in this state")] = None,
    cursor: Cursor = None,
    limit: PageLimit = 100,
) -> OverviewOut:
    """Count the monitored equipment of a unit and of each unit directly below it, with all below that."""
    found = overview(tx, visible_unit(tx, principal.actor, unit), now=context.clock.now())
    rows = [row for row in found.below if state is None or row.counts.of(state)]
    start = (place_of(cursor, 1) or (0,))[0]
    page = [_unit_counts(row) for row in rows[start : start + limit]]
    rest = cursor_of(start + limit) if start + limit < len(rows) else None
    return OverviewOut(unit=unit, total=_counts(found.total), own=_counts(found.own), below=Page(items=page, next=rest))


@router.get("/{unit}/coverage")
def coverage(unit: UnitNumber, tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep) -> CoverageOut:
    """Count the units that must be monitored, and those that are."""
    shown = visible_unit(tx, principal.actor, unit)
    return CoverageOut.model_validate(monitoring_coverage(tx, shown, now=context.clock.now()))


@router.get("/{unit}/readiness")
def readiness(unit: UnitNumber, tx: ReadSession, principal: CurrentPrincipal) -> ReadinessOut:
    """Return the hardware checklist of a unit, and its coverage there and below."""
    shown = visible_unit(tx, principal.actor, unit)
    covered = hardware_coverage(tx, shown)
    return ReadinessOut(
        hardware=hardware_of(tx, unit), units=covered.units, ready=covered.ready, by_kind=covered.by_kind
    )


@router.get("/{unit}/codes")
def codes(
    unit: UnitNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    year: Year | None = None,
    cursor: Cursor = None,
    limit: PageLimit = 100,
) -> Page[CodeOut]:
    """List the unit codes of a year, this one unless another is given, of the unit and all below it, by code."""
    shown, position = visible_unit(tx, principal.actor, unit), place_of(cursor, 1)
    this_year = local_day(context.clock.now(), ZoneInfo(shown.timezone)).year
    after = f"{position[0]:010}" if position else ""
    found = codes_of_year(tx, shown, year or this_year, shown.timezone, after=after, limit=limit)
    rest = cursor_of(int(found[-1].code)) if len(found) == limit else None
    return Page(items=[CodeOut.model_validate(code) for code in found], next=rest)


@router.get("/{unit}/ancestors")
def ancestors(
    unit: UnitNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    at: Moment | None = None,
) -> Sequence[AncestorOut]:
    """List the units that stood above a unit at a time, or stand now, as far as the principal may see them."""
    visible_unit(tx, principal.actor, unit)
    above = ancestors_at(tx, unit, context.clock.now() if at is None else at)
    return [AncestorOut.model_validate(row) for row in above if principal.actor.may(Right.SEE, on=row)]


def _unit_counts(row: UnitCounts) -> UnitCountsOut:
    return UnitCountsOut(
        unit=row.unit.id,
        code=row.unit.code,
        name=row.unit.name,
        kind=row.unit.kind,
        level=row.unit.level,
        units_below=row.units_below,
        counts=_counts(row.counts),
    )


def _counts(counts: EquipmentCounts) -> CountsOut:
    return CountsOut.model_validate(counts)
