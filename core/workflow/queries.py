"""Application queries: one, lists, what waits for a reviewer, and the history of who decided what when."""

from collections.abc import Sequence

import msgspec
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from core.errors import NotFound
from core.ids import ApplicationId, ReviewStepId, UnitId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.queries import in_subtree
from core.units.rights import Right
from core.units.tables import Unit
from core.workflow.states import ApplicationState
from core.workflow.tables import Application, Decision, Execution, ReviewStep, Submission


class ApplicationFilter(msgspec.Struct, frozen=True):
    """Filter of a list; what is left out is not filtered."""

    unit: UnitId | None = None
    """This unit and all below it."""
    kind: str | None = None
    states: Sequence[ApplicationState] = ()


class WaitingApplication(msgspec.Struct, frozen=True):
    """Application that waits for a reviewing unit."""

    application: Application
    unit: Unit
    step: ReviewStep


class ReviewedStep(msgspec.Struct, frozen=True):
    """Step of the history with its reviewing unit, and its decision if there is one."""

    step: ReviewStep
    unit: Unit
    decision: Decision | None


class ApplicationHistory(msgspec.Struct, frozen=True):
    """Everything that happened to an application: submissions, steps with decisions, and executed effects."""

    submissions: Sequence[Submission]
    steps: Sequence[ReviewedStep]
    executions: Sequence[Execution]


def visible_application(tx: Session, actor: Actor, application: ApplicationId) -> Application:
    """Return an application of a unit that the actor may see.

    Raises: NotFound, also for one that they may not see.
    """
    row = tx.get(Application, application)
    if row is None or not actor.may(Right.SEE, on=tx.get_one(Unit, row.unit_id)):
        raise NotFound(what="application", name=application)
    return row


def visible_applications(
    tx: Session, actor: Actor, application_filter: ApplicationFilter, *, before: int | None, limit: int
) -> Sequence[tuple[Application, Unit]]:
    """Return up to `limit` applications that the actor may see, newest first, with their units.

    For the next page, `before` is the id of the last one.
    """
    query = select(Application, Unit).join(Unit, Unit.id == Application.unit_id)
    query = query.where(actor.scope(Right.SEE), *_conditions(tx, application_filter))
    if before is not None:
        query = query.where(Application.id < before)
    rows = tx.execute(query.order_by(Application.id.desc()).limit(limit))
    return [(application, unit) for application, unit in rows]


def inbox(tx: Session, actor: Actor, *, after: int, limit: int) -> Sequence[WaitingApplication]:
    """Return up to `limit` applications that wait for exactly the units for which the actor reviews, oldest first.

    For the next page, `after` is the id of the last step.
    """
    reviewing = select(Unit.id).where(actor.scope(Right.REVIEW))
    query = (
        select(Application, Unit, ReviewStep)
        .join(ReviewStep, ReviewStep.application_id == Application.id)
        .join(Unit, Unit.id == Application.unit_id)
        .where(ReviewStep.closed_at.is_(None), ReviewStep.unit_id.in_(reviewing), ReviewStep.id > after)
        .order_by(ReviewStep.id)
        .limit(limit)
    )
    return [WaitingApplication(*row) for row in tx.execute(query)]


def inbox_size(tx: Session, actor: Actor) -> int:
    """Return how many applications wait for exactly the units for which the actor reviews."""
    reviewing = select(Unit.id).where(actor.scope(Right.REVIEW))
    query = select(func.count()).where(ReviewStep.closed_at.is_(None), ReviewStep.unit_id.in_(reviewing))
    return tx.scalar(query) or 0


def open_steps(tx: Session, applications: Sequence[ApplicationId]) -> dict[ApplicationId, tuple[ReviewStep, Unit]]:
    """Return the steps that applications wait for, with the reviewing units; nothing for those that don't wait."""
    query = (
        select(ReviewStep, Unit)
        .join(Unit, Unit.id == ReviewStep.unit_id)
        .where(ReviewStep.application_id.in_(applications), ReviewStep.closed_at.is_(None))
    )
    return {step.application_id: (step, unit) for step, unit in tx.execute(query)}


def open_step(tx: Session, application: Application) -> tuple[ReviewStep, Unit] | None:
    """Return the step that an application waits for, with the reviewing unit."""
    query = (
        select(ReviewStep, Unit)
        .join(Unit, Unit.id == ReviewStep.unit_id)
        .where(ReviewStep.application_id == application.id, ReviewStep.closed_at.is_(None))
    )
    row = tx.execute(query).first()
    return None if row is None else (row[0], row[1])


def require_step_of(tx: Session, application: Application, step_id: ReviewStepId) -> None:
    """Check that a step is one of an application.

    Raises: NotFound.
    """
    step = tx.get(ReviewStep, step_id)
    if step is None or step.application_id != application.id:
        raise NotFound(what="review step", name=step_id)


def unit_of(tx: Session, row: Application | ReviewStep) -> Unit:
    """Return the filing unit of an application, or the reviewing unit of a step."""
    return tx.get_one(Unit, row.unit_id)


def history(tx: Session, application: Application) -> ApplicationHistory:
    """Return who submitted, decided and executed an application, in order. Names are those of that time."""
    steps = (
        select(ReviewStep, Unit, Decision)
        .join(Unit, Unit.id == ReviewStep.unit_id)
        .outerjoin(Decision, Decision.step_id == ReviewStep.id)
        .where(ReviewStep.application_id == application.id)
        .order_by(ReviewStep.id)
    )
    submissions = select(Submission).where(Submission.application_id == application.id).order_by(Submission.round)
    executions = select(Execution).where(Execution.application_id == application.id).order_by(Execution.id)
    return ApplicationHistory(
        tx.scalars(submissions).all(),
        [ReviewedStep(*row) for row in tx.execute(steps)],
        tx.scalars(executions).all(),
    )


def overdue_steps(tx: Session, now: Instant) -> Sequence[ReviewStep]:
    """Return the open steps whose time is over, the longest overdue first."""
    query = select(ReviewStep).where(ReviewStep.closed_at.is_(None), ReviewStep.due_at < now)
    return tx.scalars(query.order_by(ReviewStep.due_at)).all()


def _conditions(tx: Session, application_filter: ApplicationFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if application_filter.unit is not None:
        unit = tx.get(Unit, application_filter.unit)
        conditions.append(Unit.id == application_filter.unit if unit is None else in_subtree(unit))
    if application_filter.kind is not None:
        conditions.append(Application.kind == application_filter.kind)
    if application_filter.states:
        conditions.append(Application.state.in_(application_filter.states))
    return conditions
