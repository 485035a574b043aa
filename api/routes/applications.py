"""Applications: drafts, review, and execution of the forms of a unit."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from api.app_context import AppContextDep
from api.application_kinds import KINDS
from api.auth import CurrentPrincipal
from api.db_session import ReadSession, WriteSession
from api.idempotency import IdempotentCreateDep
from api.routes.application_schemas import (
    ApplicationHistoryOut,
    ApplicationIn,
    ApplicationNumber,
    ApplicationOut,
    ApplicationSummary,
    DecisionIn,
    ExecutedOut,
    ExecutionIn,
    FormIn,
    KindOut,
    ReasonIn,
    Revision,
    SubmissionOut,
    WaitingOut,
    answer,
    application_out,
    kind_out,
    reviewed_out,
    step_out,
    summary,
)
from api.schemas import Cursor, Page, PageLimit, UnitNumber, cursor_of, place_of
from core.workflow import drafts, execution, queries, review, submission
from core.workflow.queries import ApplicationFilter
from core.workflow.states import ApplicationState

router = APIRouter(prefix="/applications", tags=["applications"])

CHANGED: dict[int | str, dict[str, Any]] = {409: {}}
MISSING: dict[int | str, dict[str, Any]] = {404: {}}


@router.get("/kinds")
def kinds(_principal: CurrentPrincipal) -> list[KindOut]:
    """List the kinds of applications with the cells of their forms."""
    return [kind_out(kind) for kind in KINDS]


@router.get("/inbox")
def inbox(
    tx: ReadSession, principal: CurrentPrincipal, cursor: Cursor = None, limit: PageLimit = 100
) -> Page[WaitingOut]:
    """List what waits for the units for which the caller reviews, oldest first."""
    position = place_of(cursor, 1)
    waiting = queries.inbox(tx, principal.actor, after=position[0] if position else 0, limit=limit)
    items = [
        WaitingOut.model_validate({**summary(each.application, each.unit), "waits_for": step_out(tx, each.step)})
        for each in waiting
    ]
    return Page(items=items, next=cursor_of(items[-1].waits_for.step) if len(items) == limit else None)


@router.get("")
def applications(
    tx: ReadSession,
    principal: CurrentPrincipal,
    *,
    unit: Annotated[UnitNumber | None, Query(description="this unit and all below it")] = None,
    kind: Annotated[str | None, Query(max_length=30)] = None,
    state: Annotated[list[ApplicationState] | None, Query()] = None,
    cursor: Cursor = None,
    limit: PageLimit = 100,
) -> Page[ApplicationSummary]:
    """List the applications of the units that the caller may see, newest first."""
    position = place_of(cursor, 1)
    application_filter = ApplicationFilter(unit, kind, state or ())
    before = position[0] if position else None
    visible = queries.visible_applications(tx, principal.actor, application_filter, before=before, limit=limit)
    items = [ApplicationSummary.model_validate(summary(application, of)) for application, of in visible]
    return Page(items=items, next=cursor_of(items[-1].id) if len(items) == limit else None)


@router.post("", status_code=201, responses=MISSING)
def create(
    body: ApplicationIn,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    once: IdempotentCreateDep,
) -> ApplicationOut:
    """Create a draft of a unit's application. It may have faults until it is submitted."""

    def work() -> ApplicationOut:
        actor, now = principal.actor, context.clock.now()
        application = drafts.create_draft(
            tx, actor, KINDS, body.kind, body.unit, body.content(), linked=body.linked, now=now
        )
        return application_out(tx, application)

    return once(ApplicationOut, work)


@router.get("/{application}")
def application(
    application: ApplicationNumber, tx: ReadSession, principal: CurrentPrincipal, response: Response
) -> ApplicationOut:
    """Return one application. `ETag` is its revision."""
    return answer(tx, response, queries.visible_application(tx, principal.actor, application))


@router.get("/{application}/history")
def history(application: ApplicationNumber, tx: ReadSession, principal: CurrentPrincipal) -> ApplicationHistoryOut:
    """Return who submitted, decided and executed an application, and when. Names are those of that time."""
    found = queries.history(tx, queries.visible_application(tx, principal.actor, application))
    return ApplicationHistoryOut(
        submissions=[
            SubmissionOut(
                round=each.round, at=each.at, person_name=each.person_name, content_hash=each.content_hash.hex()
            )
            for each in found.submissions
        ],
        steps=[reviewed_out(each) for each in found.steps],
        executions=[ExecutedOut.model_validate(each) for each in found.executions],
    )


@router.put("/{application}", responses=CHANGED)
def save(
    application: ApplicationNumber,
    body: FormIn,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    revision: Revision,
    response: Response,
) -> ApplicationOut:
    """Replace the cells of a draft; of a returned or withdrawn application this begins the next round."""
    actor, now = principal.actor, context.clock.now()
    row = drafts.save_draft(tx, actor, KINDS, application, body.content(), revision=revision, now=now)
    return answer(tx, response, row)


@router.post("/{application}/submission", responses=CHANGED)
def submit(
    application: ApplicationNumber,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    revision: Revision,
    response: Response,
) -> ApplicationOut:
    """Submit a draft for review. If it has faults all are listed by `row` and `column`, and nothing is submitted."""
    actor, now = principal.actor, context.clock.now()
    return answer(tx, response, submission.submit(tx, actor, KINDS, application, revision=revision, now=now))


@router.post("/{application}/decisions", responses=CHANGED)
def decide(
    application: ApplicationNumber,
    body: DecisionIn,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    response: Response,
) -> ApplicationOut:
    """Decide the open step of an application. The same decision again gets the same answer."""
    row = queries.visible_application(tx, principal.actor, application)
    seen_hash = None if body.content_hash is None else bytes.fromhex(body.content_hash)
    queries.require_step_of(tx, row, body.step)
    review.decide(
        tx,
        principal.actor,
        KINDS,
        body.step,
        body.outcome,
        opinion=body.opinion,
        seen_hash=seen_hash,
        now=context.clock.now(),
    )
    return answer(tx, response, row)


@router.post("/{application}/withdrawal", responses=CHANGED)
def withdraw(
    application: ApplicationNumber,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    response: Response,
) -> ApplicationOut:
    """Take an application back before it is filed."""
    return answer(tx, response, drafts.withdraw(tx, principal.actor, KINDS, application, now=context.clock.now()))


@router.post("/{application}/execution", responses=CHANGED)
def execute(
    application: ApplicationNumber,
    body: ExecutionIn,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    response: Response,
) -> ApplicationOut:
    """Execute a filed application, or some of its rows. Executing again changes nothing.

    If anything isn't as it was filed nothing is changed: the state is `blocked`, and `differences` says why.
    """
    actor, now = principal.actor, context.clock.now()
    return answer(tx, response, execution.execute(tx, actor, KINDS, application, rows=body.rows, at=body.at, now=now))


@router.post("/{application}/return", responses=CHANGED)
def give_back(
    application: ApplicationNumber,
    body: ReasonIn,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    response: Response,
) -> ApplicationOut:
    """Give a blocked application back to its unit, which corrects it and submits it again."""
    actor, now = principal.actor, context.clock.now()
    return answer(tx, response, execution.give_back(tx, actor, KINDS, application, reason=body.reason, now=now))
