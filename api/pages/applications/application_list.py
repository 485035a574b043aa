"""Page with the list of applications that the reader may see, and the inbox (待审) of what they review."""

from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, Field

from api.app_context import AppContextDep
from api.application_kinds import KINDS
from api.auth import CurrentPrincipal
from api.db_session import ReadSession
from api.pages.rendering import SiteClock, page
from api.schemas import Cursor, UnitNumber, cursor_of, place_of
from core.units.actor import Actor
from core.units.queries import granted_units, neighbouring_units, visible_unit
from core.units.rights import Right
from core.units.tables import Unit
from core.workflow import queries
from core.workflow.kinds import KindRegistry
from core.workflow.queries import ApplicationFilter
from core.workflow.review import is_late
from core.workflow.states import ApplicationState
from core.workflow.tables import Application

router = APIRouter(prefix="/applications", tags=["pages"])
ON_A_PAGE = 30
MOST_UNITS = 200
"""Units among which a filter offers a choice: those granted, or those directly below the chosen one."""


def _or_none(given: object) -> object:
    return given or None  # a form sends a field that was left empty as ""


class ApplicationList(BaseModel):
    """Query of the list."""

    state: Annotated[ApplicationState | None, BeforeValidator(_or_none)] = None
    kind: Annotated[str | None, BeforeValidator(_or_none), Field(max_length=30)] = None
    unit: Annotated[UnitNumber | None, BeforeValidator(_or_none)] = None
    cursor: Annotated[str | None, Field(max_length=200)] = None

    @property
    def is_filtered(self) -> bool:
        """Whether it leaves anything out."""
        return (self.state, self.kind, self.unit) != (None, None, None)

    def next_path(self, cursor: str) -> str:
        """Return path and query of the next page of the same list."""
        given = self.model_dump(exclude_none=True) | {"cursor": cursor}
        return f"/applications?{urlencode(given)}"


@router.get("")
def applications(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    query: Annotated[ApplicationList, Query()],
) -> Response:
    """Show the applications that the reader may see, the newest first; of a state, a kind, or a unit and all below."""
    actor, now = principal.actor, context.clock.now()
    unit = None if query.unit is None else visible_unit(tx, actor, query.unit)
    if query.kind is not None:
        KINDS.newest(query.kind)
    chosen = ApplicationFilter(query.unit, query.kind, () if query.state is None else (query.state,))
    position = place_of(query.cursor, 1)
    rows = queries.visible_applications(tx, actor, chosen, before=position[0] if position else None, limit=ON_A_PAGE)
    last = rows[-1][0].id if len(rows) == ON_A_PAGE else None
    granted = [each for each, _ in granted_units(tx, actor)]
    return page(
        request,
        "applications/list.html",
        tab="list",
        rows=rows,
        waiting=queries.open_steps(tx, [application.id for application, _ in rows]),
        query=query,
        states=list(ApplicationState),
        kinds=list(KINDS),
        title_of=lambda application: title_of(KINDS, application),
        unit=unit,
        units=_offered_units(granted, neighbouring_units(tx, actor, unit) if unit else (), unit),
        inbox_size=queries.inbox_size(tx, actor),
        reviews=may_anywhere(actor, Right.REVIEW),
        may_file=any(may_anywhere(actor, kind.filed_with) for kind in KINDS),
        next=query.next_path(cursor_of(last)) if last else None,
        is_late=lambda step: is_late(step, now),
        clock=SiteClock(request, unit.timezone if unit else context.settings.timezone, now),
        now=now,
    )


@router.get("/inbox")
def inbox(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    cursor: Cursor = None,
) -> Response:
    """Show what waits for exactly the units for which the reader reviews, the oldest first."""
    actor, now, position = principal.actor, context.clock.now(), place_of(cursor, 1)
    waiting = queries.inbox(tx, actor, after=position[0] if position else 0, limit=ON_A_PAGE)
    last = waiting[-1].step.id if len(waiting) == ON_A_PAGE else None
    return page(
        request,
        "applications/inbox.html",
        tab="inbox",
        waiting=waiting,
        title_of=lambda application: title_of(KINDS, application),
        inbox_size=queries.inbox_size(tx, actor),
        reviews=may_anywhere(actor, Right.REVIEW),
        may_file=any(may_anywhere(actor, kind.filed_with) for kind in KINDS),
        next=f"/applications/inbox?{urlencode({'cursor': cursor_of(last)})}" if last else None,
        is_late=lambda step: is_late(step, now),
        clock=SiteClock(request, context.settings.timezone, now),
        now=now,
    )


def title_of(kinds: KindRegistry, application: Application) -> str:
    """Return the title of an application's form."""
    return kinds.of(application.kind, application.kind_version).title


def may_anywhere(actor: Actor, right: Right) -> bool:
    """Return whether the actor has a right on any unit."""
    return any(right in holding.rights for holding in actor.holdings)


def _offered_units(granted: Sequence[Unit], below: Sequence[Unit], chosen: Unit | None) -> list[Unit]:
    offered = {each.id: each for each in (*granted, *([chosen] if chosen else ()), *below)}
    return list(offered.values())[:MOST_UNITS]
