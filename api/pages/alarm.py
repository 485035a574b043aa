"""Pages of alarms for signed-in people: the list, and the page of one."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api.auth import CurrentPrincipal, Principal
from api.db_session import ReadSession, WriteSession
from api.pages.alarm_view import may_handle, said_of, view
from api.pages.forms import FilledForm, HandlingForm, form_of, given_back
from api.pages.rendering import RENEWED_S, SiteClock, page, words_for
from api.schemas import AlarmNumber, Cursor, cursor_of, place_of
from api.services import Services, ServicesDep
from core.alarms import handling, queries
from core.alarms.queries import AlarmFilter
from core.alarms.states import AlarmState
from core.alarms.tables import Alarm
from core.ids import AlarmId
from core.units.rights import Right

router = APIRouter(prefix="/alarms", tags=["pages"])
ON_A_PAGE = 30


@router.get("")
def alarms(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    services: ServicesDep,
    *,
    everything: Annotated[bool, Query(alias="all")] = False,
    cursor: Cursor = None,
) -> Response:
    """Show the alarms that aren't closed, or all of them, the newest first."""
    position = place_of(cursor, 2)
    page_items = queries.alarms(
        tx,
        principal.actor.scope(Right.SEE, Alarm.equipment_id),
        AlarmFilter(states=() if everything else (AlarmState.OPEN, AlarmState.RECOVERED)),
        behind=(position[0], position[1]) if position else None,
        limit=ON_A_PAGE,
    )
    now = services.clock.now()
    last = page_items[-1].alarm if len(page_items) == ON_A_PAGE else None
    return page(
        request,
        "alarms.html",
        alarms=page_items,
        everything=everything,
        next=cursor_of(last.opened_at, last.id) if last else None,
        opened=lambda item: SiteClock(request, item.unit.timezone, now)(item.alarm.opened_at),
        clock=SiteClock(request, services.settings.timezone, now),
        now=now,
        every=RENEWED_S,
    )


@router.get("/{alarm}")
def alarm_page(
    request: Request,
    alarm: AlarmNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    services: ServicesDep,
    said: str = "",
) -> Response:
    """Show one alarm."""
    return _shown(request, alarm, tx, principal, services, outcome_code=said)


def _shown(
    request: Request,
    alarm: AlarmId,
    tx: Session,
    principal: Principal,
    services: Services,
    *,
    outcome_code: str = "",
    form: FilledForm | None = None,
) -> Response:
    details = queries.alarm_for(tx, principal.actor, alarm)
    outcome, tone = said_of(words_for(request), outcome_code, details, principal, services)
    may = may_handle(principal, details)
    return page(
        request,
        "alarm.html",
        **view(request, tx, services, details, principal, may=may),
        **given_back(form, f"/alarms/{alarm}"),
        base=f"/alarms/{alarm}",
        said=outcome,
        said_tone=tone,
        why_not="alarm.not_granted",
        ways_in=(),
    )


@router.post("/{alarm}/acknowledge")
def acknowledge(alarm: AlarmNumber, tx: WriteSession, principal: CurrentPrincipal, services: ServicesDep) -> Response:
    """Acknowledge, and show who did."""
    handling.acknowledge(tx, principal.actor, alarm, through=principal.through, now=services.clock.now())
    return RedirectResponse(f"/alarms/{alarm}?said=acknowledged", HTTPStatus.SEE_OTHER)


@router.post("/{alarm}/handling")
def handle(
    request: Request,
    alarm: AlarmNumber,
    tx: WriteSession,
    principal: CurrentPrincipal,
    services: ServicesDep,
    report: HandlingForm,
) -> Response:
    """Store the handling record, or return the form with every invalid field marked."""
    if faults := handling.faults(report):
        return _shown(request, alarm, tx, principal, services, form=form_of(report, faults))
    handling.handle(tx, principal.actor, alarm, report, now=services.clock.now())
    return RedirectResponse(f"/alarms/{alarm}?said=handled", HTTPStatus.SEE_OTHER)
