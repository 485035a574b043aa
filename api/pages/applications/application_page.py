"""Page of one application: what was filed, who decided what when, what the reader may do; and its official print."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api.app_context import AppContext, AppContextDep
from api.application_kinds import KINDS
from api.auth import CurrentPrincipal
from api.db_session import ReadSession, WriteSession
from api.pages.applications.application_view import AREA_LEVELS, actions_of, application_view, area_names
from api.pages.applications.form_view import error_text, problem_text
from api.pages.rendering import page, words_for
from api.routes.application_schemas import ApplicationNumber
from api.schemas import LARGEST_ID
from core.errors import Conflict, Invalid, NotFound, PermissionDenied
from core.ids import ApplicationId, ReviewStepId
from core.units.actor import Actor
from core.workflow import drafts, queries, review
from core.workflow.review import LONGEST_OPINION
from core.workflow.states import DecisionOutcome

router = APIRouter(prefix="/applications", tags=["pages"])
SAID = ("submitted", "decided", "withdrawn")
WIDE_FROM = 5
"""Columns from which a form is printed across the sheet."""
StepNumber = Annotated[int, Form(ge=1, le=LARGEST_ID)]


@router.get("/{application}")
def application_page(
    request: Request,
    application: ApplicationNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    said: str = "",
) -> Response:
    """Show one application."""
    return _shown(request, tx, context, principal.actor, application, said=said if said in SAID else "")


@router.post("/{application}/decide")
def decide(  # noqa: PLR0913, PLR0917 (the fields of the form)
    request: Request,
    application: ApplicationNumber,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    step: StepNumber,
    outcome: Annotated[DecisionOutcome, Form()],
    seen: Annotated[str, Form(pattern="^[0-9a-f]{64}$")],
    opinion: Annotated[str, Form()] = "",
) -> Response:
    """Decide the step that the reviewer saw; what can't be decided is said on the page, with the opinion as typed."""
    actor, words, written = principal.actor, words_for(request), opinion.replace("\r\n", "\n")
    row = queries.visible_application(tx, actor, application)
    if all(each.step.id != step for each in queries.history(tx, row).steps):
        raise NotFound(what="review step", name=step)
    try:
        with tx.begin_nested():
            review.decide(
                tx,
                actor,
                KINDS,
                ReviewStepId(step),
                outcome,
                opinion=written,
                seen_hash=bytes.fromhex(seen),
                now=context.clock.now(),
            )
    except Invalid as error:
        reason, status = problem_text(words, error.message), HTTPStatus.UNPROCESSABLE_ENTITY
    except Conflict as error:
        reason, status = error_text(words, error), HTTPStatus.CONFLICT
    except PermissionDenied as error:
        reason, status = error_text(words, error), HTTPStatus.FORBIDDEN
    else:
        return RedirectResponse(f"/applications/{application}?said=decided", HTTPStatus.SEE_OTHER)
    return _shown(request, tx, context, actor, application, refusal=reason, opinion=written, status=status)


@router.post("/{application}/withdraw")
def withdraw(
    request: Request,
    application: ApplicationNumber,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
) -> Response:
    """Take an application back that isn't filed yet."""
    queries.visible_application(tx, principal.actor, application)
    try:
        with tx.begin_nested():
            drafts.withdraw(tx, principal.actor, KINDS, application, now=context.clock.now())
    except Conflict as error:
        reason = error_text(words_for(request), error)
        return _shown(request, tx, context, principal.actor, application, refusal=reason, status=HTTPStatus.CONFLICT)
    return RedirectResponse(f"/applications/{application}?said=withdrawn", HTTPStatus.SEE_OTHER)


@router.get("/{application}/print")
def printed_application(
    request: Request,
    application: ApplicationNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
) -> Response:
    """Show an application in its official layout, for an A4 sheet."""
    row = queries.visible_application(tx, principal.actor, application)
    view, now = application_view(request, tx, context, principal.actor, row), context.clock.now()
    return page(
        request,
        "applications/print.html",
        view=view,
        clock=view.clock,
        areas=area_names(tx, view, now),
        levels=AREA_LEVELS,
        decided=[each for each in view.history.steps if each.decision is not None and each.step.round == row.round],
        submitted=next((each for each in view.history.submissions if each.round == row.round), None),
        is_wide=len(view.kind.columns) >= WIDE_FROM,
        now=now,
    )


def _shown(  # noqa: PLR0913 (all that a page shows)
    request: Request,
    tx: Session,
    context: AppContext,
    actor: Actor,
    application: ApplicationId,
    *,
    said: str = "",
    refusal: str = "",
    opinion: str = "",
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    row = queries.visible_application(tx, actor, application)
    view = application_view(request, tx, context, actor, row)
    return page(
        request,
        "applications/application.html",
        status=status,
        address=f"/applications/{application}" if refusal else "",
        view=view,
        actions=actions_of(request, tx, actor, view),
        clock=view.clock,
        said=said,
        refusal=refusal,
        opinion=opinion,
        longest_opinion=LONGEST_OPINION,
        now=context.clock.now(),
    )
