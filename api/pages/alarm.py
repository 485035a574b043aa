"""Page of one alarm for signed-in people."""

from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api.app_context import AppContext, AppContextDep
from api.auth import CurrentPrincipal, Principal
from api.db_session import ReadSession, WriteSession
from api.pages.alarm_view import may_handle, outcome_text, view
from api.pages.forms import FilledForm, HandlingForm, form_context, form_of
from api.pages.rendering import page, words_for
from api.schemas import AlarmNumber
from core.alarms import handling, queries
from core.ids import AlarmId

router = APIRouter(prefix="/alarms", tags=["pages"])


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
