"""Page with the tree of units: a unit's equipment by state, and that of each unit below it, with links down."""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import ReadSession
from api.pages.rendering import RENEWED_S, SiteClock, page
from api.schemas import Cursor, UnitNumber, cursor_of, place_of
from core.alarms.equipment_counts import overview
from core.alarms.states import EquipmentState
from core.devices.monitoring_coverage import monitoring_coverage
from core.units.queries import first_visible_unit, visible_ancestors, visible_unit

router = APIRouter(tags=["pages"])
ON_A_PAGE = 100


class UnitList(BaseModel):
    """Query of the page: the unit shown, and the state that each listed unit must have."""

    unit: UnitNumber | None = None
    state: Annotated[EquipmentState | None, BeforeValidator(lambda given: given or None)] = None
    cursor: Cursor = None

    def path(self, **changed: object) -> str:
        """Return path and query of the page with some of it changed; a change of unit or state begins at the start."""
        other = self.model_copy(update={"cursor": None, **changed})
        query = urlencode({name: str(value) for name, value in other.model_dump(exclude_none=True).items()})
        return f"/units?{query}" if query else "/units"


@router.get("/units")
def units(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    query: Annotated[UnitList, Query()],
) -> Response:
    """Show a unit, by default the first that was granted: its counts, and those of the units directly below it."""
    actor = principal.actor
    unit = first_visible_unit(tx, actor) if query.unit is None else visible_unit(tx, actor, query.unit)
    now, start = context.clock.now(), (place_of(query.cursor, 1) or (0,))[0]
    found = None if unit is None else overview(tx, unit, now=now)
    rows = [row for row in found.below if query.state is None or row.counts.of(query.state)] if found else []
    return page(
        request,
        "units.html",
        query=query,
        unit=unit,
        found=found,
        above=visible_ancestors(tx, actor, unit) if unit else (),
        coverage=monitoring_coverage(tx, unit, now=now) if unit else None,
        rows=rows[start : start + ON_A_PAGE],
        states=list(EquipmentState),
        next=cursor_of(start + ON_A_PAGE) if start + ON_A_PAGE < len(rows) else None,
        now=now,
        clock=SiteClock(request, unit.timezone if unit else context.settings.timezone, now),
        every=RENEWED_S,
    )
