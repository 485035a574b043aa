"""Page with the list of alarms: of a unit or of all that may be seen, by state and by the days of their opening."""

from datetime import date
from typing import Annotated
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, Field

from api.app_context import AppContextDep
from api.auth import CurrentPrincipal
from api.db_session import ReadSession
from api.pages.rendering import RENEWED_S, SiteClock, page
from api.schemas import UnitNumber, cursor_of, place_of
from core.alarms import queries
from core.alarms.queries import NOT_CLOSED, AlarmFilter
from core.runtime.instant import day_bounds
from core.units.queries import visible_unit

router = APIRouter(tags=["pages"])
ON_A_PAGE = 30
Day = Annotated[
    Annotated[date, Field(ge=date(2000, 1, 1), le=date(9998, 12, 31))] | None,
    BeforeValidator(lambda given: given or None),  # a form sends a field that was left empty as ""
]


class AlarmList(BaseModel):
    """Query of the alarm list and of its CSV file. The banner of the home page counts by it and links to it."""

    unit: UnitNumber | None = None
    below: Annotated[bool, Field(description="with `unit`: also of all units below it")] = False
    everything: Annotated[bool, Field(alias="all", description="closed alarms too")] = False
    since: Annotated[Day, Field(description="opened on this day or later")] = None
    until: Annotated[Day, Field(description="opened on this day or earlier")] = None
    cursor: Annotated[str | None, Field(max_length=200)] = None

    @property
    def filter(self) -> AlarmFilter:
        """Filter of the listed alarms, but for the days, which depend on a time zone (`filter_in`)."""
        states = () if self.everything else NOT_CLOSED
        return AlarmFilter(states=states, unit=self.unit, below=self.below)

    @property
    def has_days(self) -> bool:
        """Whether it is limited to some days."""
        return self.since is not None or self.until is not None

    def path(self, *, everything: bool = False, cursor: str | None = None, file: str = "") -> str:
        """Return path and query of a page of the same list, with or without closed alarms, or of its CSV file."""
        other = self.model_copy(update={"everything": everything, "cursor": cursor})
        given = other.model_dump(by_alias=True, exclude_defaults=True)
        query = urlencode({name: int(value) if value is True else value for name, value in given.items()})
        return f"/alarms{file}?{query}" if query else f"/alarms{file}"


def filter_in(query: AlarmList, timezone: str) -> AlarmFilter:
    """Return the filter of a list whose days are those of a time zone."""
    zone, chosen = ZoneInfo(timezone), query.filter
    return AlarmFilter(
        states=chosen.states,
        unit=chosen.unit,
        below=chosen.below,
        since=day_bounds(query.since, zone)[0] if query.since else None,
        until=day_bounds(query.until, zone)[1] if query.until else None,
    )


@router.get("/alarms")
def alarms(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    query: Annotated[AlarmList, Query()],
) -> Response:
    """Show the alarms that aren't closed, or all of them, the newest first; of a unit, or of all that may be seen."""
    unit = None if query.unit is None else visible_unit(tx, principal.actor, query.unit)
    timezone = unit.timezone if unit else context.settings.timezone
    position = place_of(query.cursor, 2)
    page_items = queries.alarms(
        tx,
        principal.actor,
        filter_in(query, timezone),
        after=(position[0], position[1]) if position else None,
        limit=ON_A_PAGE,
    )
    now = context.clock.now()
    last = page_items[-1].alarm if len(page_items) == ON_A_PAGE else None
    return page(
        request,
        "alarms.html",
        alarms=page_items,
        query=query,
        unit=unit,
        next=cursor_of(last.opened_at, last.id) if last else None,
        opened=lambda item: SiteClock(request, item.unit.timezone, now)(item.alarm.opened_at),
        clock=SiteClock(request, timezone, now),
        now=now,
        every=RENEWED_S,
    )
