"""The home page of a unit: every zone in use with its state, what is wrong first (CC-05)."""

from collections.abc import Sequence
from itertools import groupby

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import false, or_, select
from sqlalchemy.orm import Session

from api.asking import Reading, SignedIn, Using, unit_seen
from api.pages.rendering import RENEWED_S, SiteClock, page, words_for
from api.shapes import Cursor, UnitNumber, cursor_of, place_of
from core.alarms.listing import open_count
from core.alarms.live import State, ZoneNow, zones_now
from core.alarms.tables import Alarm
from core.devices.tables import EquipmentUnit
from core.errors import NotGranted
from core.ids import UnitId
from core.units.actor import Actor
from core.units.contacts import ContactLevel
from core.units.reachability import out_of_reach
from core.units.rights import Right
from core.units.tables import Unit

router = APIRouter(tags=["pages"])
ON_A_PAGE = 100
FIRST = ContactLevel.VACCINE_MANAGER
NAMED = 5
"""Equipment nobody can be told of that is named above all others."""
_URGENCY: Sequence[State] = ("abnormal", "fault", "offline", "unmonitored", "defrost", "stock_take", "repair", "normal")


@router.get("/")
def home(
    request: Request, tx: Reading, asker: SignedIn, parts: Using, unit: UnitNumber | None = None, cursor: Cursor = None
) -> Response:
    """Show a unit with all below it; unless one is asked for, the first that the asker was granted.

    That first page also has the single equipment elsewhere of which the asker is a contact.
    """
    actor = asker.actor
    seen = unit_seen(tx, actor, unit) if unit is not None else _first(tx, actor)
    below = false() if seen is None else Unit.path.startswith(seen.path, autoescape=True)
    shown, counted = below, below
    if unit is None:
        shown = or_(below, actor.equipment_scope(Right.SEE, EquipmentUnit.equipment_id))
        counted = or_(below, actor.equipment_scope(Right.SEE, Alarm.equipment_id))
    now, place = parts.clock.now(), place_of(cursor, 1)
    zones = zones_now(tx, parts.telemetry.get(), shown, now=now, after=place[0] if place else 0, limit=ON_A_PAGE)
    whole = len({zone.equipment for zone in zones}) == ON_A_PAGE
    said, timezone = words_for(request), seen.timezone if seen else parts.settings.timezone
    return page(
        request,
        "home.html",
        title=seen.name if seen else said("own_equipment"),
        again="/?" if unit is None else f"/?unit={unit}&",
        others=_others(tx, actor, seen) if seen else (),
        groups=_grouped(zones, seen),
        open_alarms=open_count(tx, counted),
        untold=out_of_reach(tx, shown, now, parts.settings.channels, levels=[FIRST], limit=NAMED + 1),
        named=NAMED,
        now=now,
        clock=SiteClock(request, timezone, now),
        every=RENEWED_S,
        next=cursor_of(max(zone.equipment for zone in zones)) if whole else None,
    )


def _first(tx: Session, actor: Actor) -> Unit | None:
    """Return the first unit that the asker may see; None for who has single equipment only.

    Raises: NotGranted for who has nothing at all.
    """
    found = tx.scalars(select(Unit).where(actor.scope(Right.SEE)).order_by(Unit.path).limit(1)).first()
    if found is None and not actor.equipment:
        msg = f"{actor.name} was granted no unit; an administrator has to"
        raise NotGranted(msg)
    return found


def _others(tx: Session, actor: Actor, seen: Unit) -> Sequence[Unit]:
    """Return where one may go from a unit: right below it, and to what was granted elsewhere."""
    granted = Unit.path.in_([held.path for held in actor.holdings])
    asked = select(Unit).where(or_(Unit.parent_id == seen.id, granted), Unit.id != seen.id, actor.scope(Right.SEE))
    return tx.scalars(asked.order_by(Unit.path)).all()


def _grouped(zones: Sequence[ZoneNow], first: Unit | None) -> list[tuple[str, list[ZoneNow]]]:
    """Return zones by unit: units where somebody is needed first, then the asker's own; and so within each."""
    worst: dict[UnitId, int] = {}
    for zone in zones:
        worst[zone.unit] = min(worst.get(zone.unit, len(_URGENCY)), _urgency(zone))
    ordered = sorted(
        zones,
        key=lambda z: (
            worst[z.unit],
            first is None or z.unit != first.id,
            z.unit,
            _urgency(z),
            z.equipment_code,
            z.zone,
        ),
    )
    return [(name, list(group)) for (_, name), group in groupby(ordered, key=lambda z: (z.unit, z.unit_name))]


def _urgency(zone: ZoneNow) -> int:
    return _URGENCY.index(zone.state) if zone.state in _URGENCY else len(_URGENCY)
