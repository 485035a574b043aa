"""Page with the form of an application: a new one, or one that its unit may change.

Whatever is wrong with a form that was sent, it comes back with everything that was typed. Saving and submitting happen
once for each single-use key, so that a second press of the button changes nothing.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api.app_context import AppContext, AppContextDep
from api.application_kinds import KINDS
from api.auth import CurrentPrincipal
from api.db_session import ReadSession, WriteSession
from api.pages.applications.application_list import may_anywhere
from api.pages.applications.form_view import MORE_ROWS, FormView, error_text, form_view, suggested_content
from api.pages.applications.posted_form import ApplicationForm, FormAction, PostedForm, new_once
from api.pages.rendering import SiteClock, page, words_for
from api.routes.application_schemas import ApplicationNumber
from api.schemas import UnitNumber
from core.db.idempotency import answer_once
from core.errors import Conflict, Invalid
from core.ids import ApplicationId
from core.units.actor import Actor
from core.units.queries import granted_units, visible_unit
from core.units.tables import Unit
from core.workflow import drafts, form_records, queries, submission
from core.workflow.form import FORM_FIELDS, CellFault, FormRejected
from core.workflow.form_check import unstorable_cells
from core.workflow.kinds import ApplicationKind
from core.workflow.queries import ApplicationFilter
from core.workflow.states import EDITABLE, EXECUTABLE, ApplicationState
from core.workflow.tables import Application

router = APIRouter(prefix="/applications", tags=["pages"])
MOST_LINKED = 50
SAID = ("saved",)


class Refusal(msgspec.Struct, frozen=True):
    """Why a form was not stored."""

    faults: Sequence[CellFault] = ()
    is_stale: bool = False
    """Somebody else has changed the application meanwhile."""
    is_repeated: bool = False
    """Its single-use key was used for other content."""
    reason: str = ""

    @property
    def status(self) -> HTTPStatus:
        """Status of the answer."""
        return HTTPStatus.UNPROCESSABLE_ENTITY if self.faults else HTTPStatus.CONFLICT


@router.get("/new")
def new_application(
    request: Request,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    kind: str = "",
    unit: UnitNumber | None = None,
) -> Response:
    """Show a new form of a kind; without a kind those that the reader may file."""
    actor = principal.actor
    if not kind:
        choices = [each for each in KINDS if may_anywhere(actor, each.filed_with)]
        return page(request, "applications/choose.html", kinds=choices, unit=unit)
    chosen = KINDS.newest(kind)
    units = [each for each, rights in granted_units(tx, actor) if chosen.filed_with in rights]
    if unit is None and not units:
        return page(request, "applications/choose.html", kinds=(), unit=None)
    filing = units[0] if unit is None else visible_unit(tx, actor, unit)
    actor.require(chosen.filed_with, on=filing)
    form = form_view(words_for(request), chosen, suggested_content(chosen, filing))
    return _new_page(request, tx, actor, context, chosen, filing, form)


@router.post("/new")
def create_application(
    request: Request,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    posted: ApplicationForm,
    kind: str,
    unit: UnitNumber,
) -> Response:
    """Create a draft, or create and submit it; a form with faults comes back."""
    actor, now = principal.actor, context.clock.now()
    chosen = KINDS.newest(kind)
    filing = visible_unit(tx, actor, unit)
    actor.require(chosen.filed_with, on=filing)

    def work() -> ApplicationId:
        if chosen.linked_kind is not None and posted.linked is None:
            raise FormRejected([CellFault(FORM_FIELDS, "linked", words_for(request)("application.link_missing"))])
        row = drafts.create_draft(tx, actor, KINDS, kind, unit, posted.content, linked=posted.linked, now=now)
        if posted.action is FormAction.SUBMIT:
            submission.submit(tx, actor, KINDS, row.id, revision=row.revision, now=now)
        return row.id

    words, refusal, shown = words_for(request), None, posted.rows_shown
    if posted.action is FormAction.MORE_ROWS:
        shown += MORE_ROWS
    else:
        stored = _once(request, tx, actor, context, chosen, posted, work)
        if not isinstance(stored, Refusal):
            return _stored_answer(stored, posted.action)
        refusal = stored
    form = form_view(words, chosen, posted.content, faults=refusal.faults if refusal else (), rows_shown=shown)
    return _new_page(request, tx, actor, context, chosen, filing, form, linked=posted.linked, refusal=refusal)


@router.get("/{application}/edit")
def edit_application(
    request: Request,
    application: ApplicationNumber,
    tx: ReadSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    said: str = "",
) -> Response:
    """Show the form of an application that its unit may change; of any other, the application itself."""
    row, kind, unit = _editable(tx, principal.actor, application)
    if row.state not in EDITABLE:
        return RedirectResponse(f"/applications/{application}", HTTPStatus.SEE_OTHER)
    form = form_view(words_for(request), kind, form_records.content_of(tx, row))
    return _edit_page(request, tx, context, row, kind, unit, form, said=said)


@router.post("/{application}/edit")
def save_application(
    request: Request,
    application: ApplicationNumber,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    posted: ApplicationForm,
) -> Response:
    """Save the form, or save and submit it; a form with faults, or one that somebody else has changed, comes back."""
    actor, now = principal.actor, context.clock.now()
    row, kind, unit = _editable(tx, actor, application)

    def work() -> ApplicationId:
        saved = drafts.save_draft(tx, actor, KINDS, application, posted.content, revision=posted.revision, now=now)
        if posted.action is FormAction.SUBMIT:
            submission.submit(tx, actor, KINDS, application, revision=saved.revision, now=now)
        return application

    words, refusal, shown, other = words_for(request), None, posted.rows_shown, None
    revision = posted.revision
    if posted.action is FormAction.MORE_ROWS:
        shown += MORE_ROWS
    else:
        stored = _once(request, tx, actor, context, kind, posted, work)
        if not isinstance(stored, Refusal):
            return _stored_answer(stored, posted.action)
        refusal = stored
        tx.refresh(row)
        if refusal.is_stale or refusal.is_repeated:
            revision, other = row.revision, form_records.content_of(tx, row)
    form = form_view(
        words, kind, posted.content, faults=refusal.faults if refusal else (), stored=other, rows_shown=shown
    )
    return _edit_page(request, tx, context, row, kind, unit, form, refusal=refusal, revision=revision)


def _once(
    request: Request,
    tx: Session,
    actor: Actor,
    context: AppContext,
    kind: ApplicationKind,
    posted: PostedForm,
    work: Callable[[], ApplicationId],
) -> ApplicationId | Refusal:
    """Do `work` once for the form's key. Return the application, or why nothing was changed."""
    fingerprint = f"{request.url.path}?{request.url.query}\n".encode() + posted.fingerprint
    try:
        with tx.begin_nested():
            answer = answer_once(
                tx, actor.name, posted.once, fingerprint, now=context.clock.now(), work=lambda: str(work())
            )
            return ApplicationId(int(answer))
    except FormRejected as error:
        return Refusal(error.faults)
    except Conflict as error:
        return Refusal(is_stale=True, reason=error_text(words_for(request), error))
    except Invalid as error:
        if error.field == "Idempotency-Key":
            return Refusal(is_repeated=True)
        faults = unstorable_cells(kind, posted.content)
        return Refusal(faults or [CellFault(FORM_FIELDS, error.field, error.message)])


def _stored_answer(application: ApplicationId, action: FormAction) -> Response:
    is_submitted = action is FormAction.SUBMIT
    path = f"/applications/{application}" + ("?said=submitted" if is_submitted else "/edit?said=saved")
    return RedirectResponse(path, HTTPStatus.SEE_OTHER)


def _editable(tx: Session, actor: Actor, application: ApplicationId) -> tuple[Application, ApplicationKind, Unit]:
    """Return an application with its kind and unit.

    Raises: NotFound, PermissionDenied when the actor may see it but not change it.
    """
    row = queries.visible_application(tx, actor, application)
    kind = KINDS.of(row.kind, row.kind_version)
    unit = visible_unit(tx, actor, row.unit_id)
    actor.require(kind.filed_with, on=unit)
    return row, kind, unit


def _new_page(  # noqa: PLR0913 (all that a page shows)
    request: Request,
    tx: Session,
    actor: Actor,
    context: AppContext,
    kind: ApplicationKind,
    unit: Unit,
    form: FormView,
    *,
    linked: ApplicationId | None = None,
    refusal: Refusal | None = None,
) -> Response:
    choices = [] if kind.linked_kind is None else _linkable(tx, actor, unit, kind.linked_kind)
    return page(
        request,
        "applications/form.html",
        status=refusal.status if refusal else HTTPStatus.OK,
        kind=kind,
        unit=unit,
        units=[each for each, rights in granted_units(tx, actor) if kind.filed_with in rights],
        form=form,
        application=None,
        revision=0,
        linked=linked,
        linked_kind=None if kind.linked_kind is None else KINDS.newest(kind.linked_kind),
        linkable=choices,
        once=new_once(),
        refusal=refusal,
        said="",
        returned=None,
        clock=SiteClock(request, unit.timezone, context.clock.now()),
    )


def _edit_page(  # noqa: PLR0913 (all that a page shows)
    request: Request,
    tx: Session,
    context: AppContext,
    row: Application,
    kind: ApplicationKind,
    unit: Unit,
    form: FormView,
    *,
    refusal: Refusal | None = None,
    revision: int | None = None,
    said: str = "",
) -> Response:
    history = queries.history(tx, row)
    decided = [each for each in history.steps if each.decision is not None]
    return page(
        request,
        "applications/form.html",
        status=refusal.status if refusal else HTTPStatus.OK,
        kind=kind,
        unit=unit,
        units=(),
        form=form,
        application=row,
        revision=row.revision if revision is None else revision,
        returned=decided[-1] if decided and row.state is ApplicationState.RETURNED else None,
        linked=row.linked_id,
        linked_kind=None if kind.linked_kind is None else KINDS.newest(kind.linked_kind),
        linkable=(),
        once=new_once(),
        refusal=refusal,
        said=said if said in SAID else "",
        clock=SiteClock(request, unit.timezone, context.clock.now()),
    )


def _linkable(tx: Session, actor: Actor, unit: Unit, kind: str) -> list[Application]:
    """Return the unit's filed applications of a kind, the newest first."""
    filed = ApplicationFilter(unit.id, kind, (*EXECUTABLE, ApplicationState.EXECUTED))
    rows = queries.visible_applications(tx, actor, filed, before=None, limit=MOST_LINKED)
    return [application for application, of_unit in rows if of_unit.id == unit.id]
