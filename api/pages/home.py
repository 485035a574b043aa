"""Home page of a unit: every zone in use with its state, the most urgent first (CC-05)."""

from collections.abc import Sequence
from itertools import groupby

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import false, or_, select
from sqlalchemy.orm import Session

from api.auth import CurrentPrincipal, visible_unit
from api.db_session import ReadSession
from api.pages.rendering import RENEWED_S, SiteClock, page, words_for
from api.schemas import Cursor, UnitNumber, cursor_of, place_of
from api.services import ServicesDep
from core.alarms.queries import open_count
from core.alarms.states import ZoneState
from core.alarms.tables import Alarm
from core.alarms.zone_status import ZoneStatus, zone_statuses
from core.contacts.contacts import ContactLevel
from core.contacts.reachability import out_of_reach
from core.devices.tables import EquipmentUnit
from core.errors import PermissionDenied
from core.ids import UnitId, ZoneId
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit

router = APIRouter(tags=["pages"])
ON_A_PAGE = 100
FIRST = ContactLevel.VACCINE_MANAGER
NAMED = 5
"""Equipment without anybody to tell that is named above everything else."""
_URGENCY = (
    ZoneState.ABNORMAL,
    ZoneState.FAULT,
    ZoneState.OFFLINE,
    ZoneState.UNMONITORED,
    ZoneState.DEFROST,
    ZoneState.STOCK_TAKE,
    ZoneState.REPAIR,
    ZoneState.NORMAL,
)


@router.get("/")
def home(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    services: ServicesDep,
    unit: UnitNumber | None = None,
    cursor: Cursor = None,
) -> Response:
    """Show a unit with all below it; unless one is requested, the first that the principal was granted.

    That first page also has single equipment elsewhere if the principal is its contact.
    """
    actor = principal.actor
    shown_unit = visible_unit(tx, actor, unit) if unit is not None else _first(tx, actor)
    below = false() if shown_unit is None else Unit.path.startswith(shown_unit.path, autoescape=True)
    shown_scope, counted_scope = below, below
    if unit is None:
        shown_scope = or_(below, actor.equipment_scope(Right.SEE, EquipmentUnit.equipment_id))
        counted_scope = or_(below, actor.equipment_scope(Right.SEE, Alarm.equipment_id))
    now, position = services.clock.now(), place_of(cursor, 1)
    zones = zone_statuses(
        tx, services.telemetry.get(), shown_scope, now=now, after=position[0] if position else 0, limit=ON_A_PAGE
    )
    is_full = len({zone.equipment for zone in zones}) == ON_A_PAGE
    words, timezone = words_for(request), shown_unit.timezone if shown_unit else services.settings.timezone
    return page(
        request,
        "home.html",
        title=shown_unit.name if shown_unit else words("own_equipment"),
        again="/?" if unit is None else f"/?unit={unit}&",
        others=_others(tx, actor, shown_unit) if shown_unit else (),
        groups=_grouped(zones, shown_unit),
        open_alarms=open_count(tx, counted_scope),
        untold=out_of_reach(tx, shown_scope, now, services.settings.channels, levels=[FIRST], limit=NAMED + 1),
        named=NAMED,
        now=now,
        clock=SiteClock(request, timezone, now),
        every=RENEWED_S,
        next=cursor_of(max(zone.equipment for zone in zones)) if is_full else None,
    )


def _first(tx: Session, actor: Actor) -> Unit | None:
    """Return the first unit that the principal may see; None for a contact of single equipment only.

    Raises: NotGranted for a principal without any grant.
    """
    first = tx.scalars(select(Unit).where(actor.scope(Right.SEE)).order_by(Unit.path).limit(1)).first()
    if first is None and not actor.equipment:
        msg = f"{actor.name} was granted no unit; an administrator has to"
        raise PermissionDenied(msg)
    return first


def _others(tx: Session, actor: Actor, unit: Unit) -> Sequence[Unit]:
    """Return the units to which a unit's page links: those directly below, and those granted elsewhere."""
    granted = Unit.path.in_([held.path for held in actor.holdings])
    others = select(Unit).where(or_(Unit.parent_id == unit.id, granted), Unit.id != unit.id, actor.scope(Right.SEE))
    return tx.scalars(others.order_by(Unit.path)).all()


def _grouped(zones: Sequence[ZoneStatus], first: Unit | None) -> list[tuple[str, list[ZoneStatus]]]:
    """Return zones by unit: the most urgent units first, then the principal's own; zones in the same order."""
    worst: dict[UnitId, int] = {}
    for zone in zones:
        worst[zone.unit] = min(worst.get(zone.unit, len(_URGENCY)), _urgency(zone))

    def order(zone: ZoneStatus) -> tuple[int, bool, UnitId, int, str, ZoneId]:
        elsewhere = first is None or zone.unit != first.id
        return worst[zone.unit], elsewhere, zone.unit, _urgency(zone), zone.equipment_code, zone.zone

    by_unit = groupby(sorted(zones, key=order), key=lambda zone: (zone.unit, zone.unit_name))
    return [(name, list(group)) for (_, name), group in by_unit]


def _urgency(zone: ZoneStatus) -> int:
    return _URGENCY.index(zone.state) if zone.state in _URGENCY else len(_URGENCY)
