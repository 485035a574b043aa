"""Pages of alarms for signed-in people: the list, and the page of one."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from api.app_context import AppContext, AppContextDep
from api.auth import CurrentPrincipal, Principal
from api.db_session import ReadSession, WriteSession
from api.pages.alarm_view import may_handle, outcome_text, view
from api.pages.forms import FilledForm, HandlingForm, form_context, form_of
from api.pages.rendering import RENEWED_S, SiteClock, page, words_for
from api.schemas import AlarmNumber, UnitNumber, cursor_of, place_of
from core.alarms import handling, queries
from core.alarms.queries import NOT_CLOSED, AlarmFilter
from core.ids import AlarmId
from core.units.queries import visible_unit

router = APIRouter(prefix="/alarms", tags=["pages"])
ON_A_PAGE = 30


class AlarmList(BaseModel):
    """Query of the alarm list. The banner of the home page counts by it and links to it."""

    unit: UnitNumber | None = None
    below: Annotated[bool, Field(description="with `unit`: also of all units below it")] = False
    everything: Annotated[bool, Field(alias="all", description="closed alarms too")] = False
    cursor: Annotated[str | None, Field(max_length=200)] = None

    @property
    def filter(self) -> AlarmFilter:
        """Filter of the listed alarms."""
        states = () if self.everything else NOT_CLOSED
        return AlarmFilter(states=states, unit=self.unit, below=self.below)

    def path(self, *, everything: bool = False, cursor: str | None = None) -> str:
        """Return path and query of a page of the same list, with or without closed alarms."""
        other = self.model_copy(update={"everything": everything, "cursor": cursor})
        given = other.model_dump(by_alias=True, exclude_defaults=True)
        query = urlencode({name: int(value) if value is True else value for name, value in given.items()})
        return f"/alarms?{query}" if query else "/alarms"


@router.get("")
def alarms(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    query: Annotated[AlarmList, Query()],
) -> Response:
    """Show the alarms that aren't closed, or all of them, the newest first; of a unit, or of all that may be seen."""
    unit = None if query.unit is None else visible_unit(tx, principal.actor, query.unit)
    position = place_of(query.cursor, 2)
    page_items = queries.alarms(
        tx,
        principal.actor,
        query.filter,
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
        clock=SiteClock(request, context.settings.timezone, now),
        now=now,
        every=RENEWED_S,
    )


@router.get("/{alarm}")
def alarm_page(
    request: Request,
    alarm: AlarmNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    said: str = "",
) -> Response:
    """Show one alarm."""
    return _shown(request, alarm, tx, principal, context, outcome_code=said)


def _shown(
    request: Request,
    alarm: AlarmId,
    tx: Session,
    principal: Principal,
    context: AppContext,
    *,
    outcome_code: str = "",
    form: FilledForm | None = None,
) -> Response:
    details = queries.alarm_for(tx, principal.actor, alarm)
    outcome, tone = outcome_text(words_for(request), outcome_code, details, principal, context)
    may = may_handle(principal, details)
    return page(
        request,
        "alarm.html",
        **view(request, tx, context, details, principal, may=may),
        **form_context(form, f"/alarms/{alarm}"),
        base=f"/alarms/{alarm}",
        said=outcome,
        said_tone=tone,
        why_not="alarm.not_granted",
        ways_in=(),
    )


@router.post("/{alarm}/acknowledge")
def acknowledge(alarm: AlarmNumber, tx: WriteSession, principal: CurrentPrincipal, context: AppContextDep) -> Response:
    """Acknowledge, and show who did."""
    handling.acknowledge(tx, principal.actor, alarm, through=principal.through, now=context.clock.now())
    return RedirectResponse(f"/alarms/{alarm}?said=acknowledged", HTTPStatus.SEE_OTHER)


@router.post("/{alarm}/handling")
def handle(
    request: Request,
    alarm: AlarmNumber,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    report: HandlingForm,
) -> Response:
    """Store the handling record, or return the form with every invalid field marked."""
    if faults := handling.faults(report):
        return _shown(request, alarm, tx, principal, context, form=form_of(report, faults))
    handling.handle(tx, principal.actor, alarm, report, now=context.clock.now())
    return RedirectResponse(f"/alarms/{alarm}?said=handled", HTTPStatus.SEE_OTHER)
