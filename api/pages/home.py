"""Home page of a unit: every zone in use with its state, the most urgent first (CC-05)."""

from collections.abc import Sequence
from itertools import groupby

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import ReadSession
from api.pages.alarm_list import AlarmList
from api.pages.rendering import RENEWED_S, SiteClock, page, words_for
from api.schemas import Cursor, UnitNumber, cursor_of, place_of
from core.alarms import queries
from core.alarms.states import ZoneState
from core.alarms.zone_status import ZoneStatus, zone_statuses
from core.contacts.contacts import ContactLevel
from core.contacts.reachability import out_of_reach
from core.devices.queries import equipment_below
from core.ids import UnitId, ZoneId
from core.units.queries import first_visible_unit, neighbouring_units, visible_unit
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
    context: AppContextDep,
    unit: UnitNumber | None = None,
    cursor: Cursor = None,
) -> Response:
    """Show a unit with all below it; unless one is requested, the first that the principal was granted.

    That first page also has single equipment elsewhere if the principal is its contact, and its banner counts every
    alarm that the principal may see.
    """
    actor = principal.actor
    shown_unit = first_visible_unit(tx, actor) if unit is None else visible_unit(tx, actor, unit)
    shown_equipment = equipment_below(shown_unit, or_own_of=actor if unit is None else None)
    open_alarms = AlarmList() if unit is None else AlarmList(unit=unit, below=True)
    now, position = context.clock.now(), place_of(cursor, 1)
    zones = zone_statuses(
        tx, context.telemetry.get(), shown_equipment, now=now, after=position[0] if position else 0, limit=ON_A_PAGE
    )
    is_full = len({zone.equipment for zone in zones}) == ON_A_PAGE
    words, timezone = words_for(request), shown_unit.timezone if shown_unit else context.settings.timezone
    return page(
        request,
        "home.html",
        title=shown_unit.name if shown_unit else words("own_equipment"),
        again="/?" if unit is None else f"/?unit={unit}&",
        others=neighbouring_units(tx, actor, shown_unit) if shown_unit else (),
        groups=_grouped(zones, shown_unit),
        open_alarms=queries.count(tx, actor, open_alarms.filter),
        open_alarms_path=open_alarms.path(),
        untold=out_of_reach(tx, shown_equipment, now, context.settings.channels, levels=[FIRST], limit=NAMED + 1),
        named=NAMED,
        now=now,
        clock=SiteClock(request, timezone, now),
        every=RENEWED_S,
        next=cursor_of(max(zone.equipment for zone in zones)) if is_full else None,
    )


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
