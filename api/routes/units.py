"""Units of the principal's scope: the tree, the present state of their equipment, and its contacts."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Query

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import ReadSession
from api.schemas import Celsius, Cursor, Moment, Page, PageLimit, Schema, UnitNumber, cursor_of, place_of
from core.alarms import queries
from core.alarms.states import ZoneState
from core.alarms.zone_status import ZoneStatus, zone_statuses
from core.contacts.contacts import incomplete_contacts, unbound_contacts
from core.ids import AlarmId, EquipmentId, PersonId, UnitId, ZoneId
from core.runtime.instant import Instant
from core.units.queries import in_subtree, in_unit, visible_unit, visible_units

router = APIRouter(prefix="/units", tags=["units"])
Below = Annotated[bool, Query(description="also of all units below")]


class UnitOut(Schema):
    """A unit. `parent_id` may name one outside of the principal's scope."""

    id: UnitId
    code: str | None
    name: str
    kind: str
    level: str
    parent_id: UnitId | None
    timezone: str


class ProbeNowOut(Schema):
    """A probe; `value` and `at` are null unless it has a reading inside the offline limit."""

    code: str
    state: ZoneState
    value: Celsius | None
    at: Moment | None
    last_at: Moment | None


class ZoneNowOut(Schema):
    """Present state of a zone of an equipment in use. Without a current reading `value` is null, never the last one."""

    unit: UnitId
    unit_name: str
    equipment: EquipmentId
    equipment_code: str
    equipment_name: str
    equipment_kind: str
    zone: ZoneId
    kind: str
    low: Celsius | None
    high: Celsius | None
    state: ZoneState
    value: Celsius | None
    at: Moment | None
    age_seconds: float | None
    last_at: Moment | None
    silent: int
    probes: Sequence[ProbeNowOut]
    alarms: Sequence[AlarmId]


class TimelinessOut(Schema):
    """Alarms by how they were acknowledged: within 30 minutes, later, not at all."""

    on_time: int
    late: int
    unacknowledged: int


class IncompleteOut(Schema):
    """A monitored equipment that lacks contacts of a level (报警联系人不完整)."""

    equipment: EquipmentId
    code: str
    name: str
    unit: UnitId
    missing: Sequence[int]


class UnboundOut(Schema):
    """A contact whom no WeChat message reaches: never bound, or unreachable since a time."""

    person: PersonId
    name: str
    unit: UnitId
    levels: Sequence[int]
    unreachable_since: Moment | None


@router.get("")
def units(
    tx: ReadSession,
    principal: CurrentPrincipal,
    parent: UnitNumber | None = None,
    cursor: Cursor = None,
    limit: PageLimit = 100,
) -> Page[UnitOut]:
    """List the units that the principal may see, or those directly below one of them."""
    position = place_of(cursor, 1)
    after = position[0] if position else 0
    visible = visible_units(tx, principal.actor, parent=parent, after=after, limit=limit)
    items = [UnitOut.model_validate(unit) for unit in visible]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


@router.get("/{unit}")
def unit(unit: UnitNumber, tx: ReadSession, principal: CurrentPrincipal) -> UnitOut:
    """Return one unit."""
    return UnitOut.model_validate(visible_unit(tx, principal.actor, unit))


@router.get("/{unit}/live")
def live(
    unit: UnitNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    *,
    below: Below = False,
    cursor: Cursor = None,
    limit: PageLimit = 100,
) -> Page[ZoneNowOut]:
    """Return every zone of the unit's equipment: temperature, its age, and state. A page holds whole equipment."""
    unit_row = visible_unit(tx, principal.actor, unit)
    where = in_subtree(unit_row) if below else in_unit(unit_row)
    now, after = context.clock.now(), place_of(cursor, 1)
    zones = zone_statuses(tx, context.telemetry.get(), where, now=now, after=after[0] if after else 0, limit=limit)
    items = [_zone_now(zone, now) for zone in zones]
    is_full = len({item.equipment for item in items}) == limit
    return Page(items=items, next=cursor_of(items[-1].equipment) if is_full else None)


@router.get("/{unit}/timeliness")
def timeliness(
    unit: UnitNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    since: Annotated[Moment, Query(alias="from")],
    until: Annotated[Moment, Query(alias="to")],
) -> TimelinessOut:
    """Count the alarms of the unit and below opened in [from, to) by how quickly they were acknowledged."""
    unit_row = visible_unit(tx, principal.actor, unit)
    return TimelinessOut.model_validate(queries.timeliness(tx, in_subtree(unit_row), since, until))


@router.get("/{unit}/contacts/incomplete")
def incomplete(
    unit: UnitNumber, tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep
) -> list[IncompleteOut]:
    """List the monitored equipment of the unit and below that lacks a contact of any of the three levels."""
    unit_row = visible_unit(tx, principal.actor, unit)
    equipment = incomplete_contacts(tx, in_subtree(unit_row), context.clock.now())
    return [IncompleteOut.model_validate(item) for item in equipment]


@router.get("/{unit}/contacts/unbound")
def unbound(unit: UnitNumber, tx: ReadSession, principal: CurrentPrincipal, context: AppContextDep) -> list[UnboundOut]:
    """List the contacts of the unit and below that WeChat doesn't reach; the unit complies when there are none."""
    unit_row = visible_unit(tx, principal.actor, unit)
    contacts = unbound_contacts(tx, in_subtree(unit_row), context.clock.now())
    return [UnboundOut.model_validate(contact) for contact in contacts]


def _zone_now(zone: ZoneStatus, now: Instant) -> ZoneNowOut:
    return ZoneNowOut(
        unit=zone.unit,
        unit_name=zone.unit_name,
        equipment=zone.equipment,
        equipment_code=zone.equipment_code,
        equipment_name=zone.equipment_name,
        equipment_kind=zone.equipment_kind,
        zone=zone.zone,
        kind=zone.kind,
        low=zone.low,
        high=zone.high,
        state=zone.state,
        value=zone.value,
        at=zone.at,
        age_seconds=None if zone.at is None else (now - zone.at) / 1000,
        last_at=zone.last_at,
        silent=zone.silent,
        probes=[ProbeNowOut.model_validate(probe) for probe in zone.probes],
        alarms=zone.alarms,
    )
