"""Review: which unit an application waits for, and the decisions about it.

Everything is read again under the application's lock: two reviewers who decide at once, or one who clicks twice, leave
one decision. A unit that was moved takes its applications along: the levels that have decided stay decided, and the
review goes on above them in the new place. tests/integration/test_application_races.py tries to break it.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.errors import Conflict, Invalid, NotFound, PermissionDenied
from core.ids import ReviewStepId
from core.plain_text import require_plain
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit
from core.units.unit_levels import Level
from core.workflow import form_records
from core.workflow.kinds import ApplicationKind, KindRegistry
from core.workflow.messages import message
from core.workflow.route import Ancestor, NoReviewer, next_reviewer
from core.workflow.signatures import Signature, signed_by
from core.workflow.states import ApplicationState, DecisionOutcome
from core.workflow.tables import Application, Decision, ReviewStep

LONGEST_OPINION = 500


def decide(
    tx: Session,
    actor: Actor,
    kinds: KindRegistry,
    step_id: ReviewStepId,
    outcome: DecisionOutcome,
    *,
    opinion: str = "",
    seen_hash: bytes | None = None,
    now: Instant,
) -> Decision:
    """Decide an open review step. The same decision by the same person again gets the same answer.

    `seen_hash`: the hash of the form that the reviewer saw; another one is refused.
    Raises: NotFound, PermissionDenied, Invalid, Conflict when somebody else decided, or the form or its place changed.
    """
    require_plain("opinion", opinion, several_lines=True)
    if len(opinion) > LONGEST_OPINION:
        raise Invalid(field="opinion", value=opinion[:50], problem=message("too_long", most=LONGEST_OPINION))
    step = tx.get(ReviewStep, step_id)
    if step is None:
        raise NotFound(what="review step", name=step_id)
    application = form_records.locked(tx, step.application_id)
    tx.refresh(step)
    kind = kinds.of(application.kind, application.kind_version)
    unit = tx.get_one(Unit, application.unit_id)
    actor.require(Right.SEE, on=unit, subject=("review step", step_id))
    signature = signed_by(tx, actor)
    if step.closed_at is not None:
        return _repeated(tx, signature, step, outcome, opinion)
    step = _followed(tx, kind, application, step, now=now)
    require_decider(tx, actor, application, step)
    if outcome is DecisionOutcome.FINAL_HERE and step.level not in kind.final_at:
        raise Invalid(field="outcome", value=outcome.value, problem=message("not_final_here"))
    if outcome is DecisionOutcome.REFUSED and not opinion.strip():
        raise Invalid(field="opinion", value=opinion, problem=message("opinion_missing"))
    content_hash = _unchanged_hash(tx, application, seen_hash)
    decision = Decision(
        step_id=step.id,
        application_id=application.id,
        round=application.round,
        outcome=outcome,
        opinion=opinion,
        at=now,
        actor=signature.actor,
        person_id=signature.person_id,
        person_name=signature.person_name,
        content_hash=content_hash,
    )
    tx.add(decision)
    step.closed_at = now
    application.revision += 1
    tx.flush()
    if outcome is DecisionOutcome.REFUSED:
        application.state = ApplicationState.RETURNED
    elif outcome is DecisionOutcome.FINAL_HERE:
        _file(application, now)
    else:
        open_next_step(tx, kind, application, now=now)
    audit.record(
        tx,
        at=now,
        actor=actor.name,
        act="application decided",
        subject=f"application:{application.id}",
        detail={"step": step.id, "unit": step.unit_id, "round": application.round, "outcome": outcome},
    )
    tx.flush()
    return decision


def open_next_step(tx: Session, kind: ApplicationKind, application: Application, *, now: Instant) -> ReviewStep | None:
    """Open the step of the next reviewer; if all have passed it, the application is filed.

    Raises: NoReviewer.
    """
    reviewer = due_reviewer(tx, kind, application)
    if reviewer is None:
        _file(application, now)
        return None
    step = ReviewStep(
        application_id=application.id,
        round=application.round,
        unit_id=reviewer.unit,
        level=reviewer.level,
        opened_at=now,
        due_at=None if kind.deadline is None else Instant(now + kind.deadline),
    )
    tx.add(step)
    tx.flush()
    return step


def follow_moved_units(tx: Session, kinds: KindRegistry, *, now: Instant) -> int:
    """Let the open steps of moved units wait for the reviewers of their new place; return how many went on elsewhere.

    A step whose unit has no reviewer above any more stays as it is.
    """
    moved = 0
    for step_id in tx.scalars(select(ReviewStep.id).where(ReviewStep.closed_at.is_(None)).order_by(ReviewStep.id)):
        application_id = tx.get_one(ReviewStep, step_id).application_id
        application = form_records.locked(tx, application_id)
        step = tx.get_one(ReviewStep, step_id, populate_existing=True)
        if step.closed_at is None:
            kind = kinds.of(application.kind, application.kind_version)
            try:
                moved += _followed(tx, kind, application, step, now=now) is not step
            except NoReviewer:
                continue
    return moved


def is_late(step: ReviewStep, decided_at: Instant) -> bool:
    """Return whether a decision at an instant is late; at exactly the due time it isn't."""
    return step.due_at is not None and decided_at > step.due_at


def due_reviewer(tx: Session, kind: ApplicationKind, application: Application) -> Ancestor | None:
    """Return who reviews next by the tree as it is now; None if all levels have passed it.

    Raises: NoReviewer.
    """
    chain = form_records.ancestors(tx, tx.get_one(Unit, application.unit_id))
    return next_reviewer(kind.route, chain, decided_levels(tx, application))


def decided_levels(tx: Session, application: Application) -> list[Level]:
    """Return the levels that have decided in the current round, in order."""
    query = (
        select(ReviewStep.level)
        .join(Decision, Decision.step_id == ReviewStep.id)
        .where(ReviewStep.application_id == application.id, ReviewStep.round == application.round)
        .order_by(ReviewStep.id)
    )
    return list(tx.scalars(query))


def require_review(tx: Session, actor: Actor, step: ReviewStep) -> None:
    """Check that the actor reviews for exactly the unit of a step; who stands above it does not.

    Raises: PermissionDenied.
    """
    unit = tx.get_one(Unit, step.unit_id)
    if not actor.may(Right.REVIEW, on=unit):
        msg = f"{actor.name} does not review for {unit.name}"
        raise PermissionDenied(msg)


def require_decider(tx: Session, actor: Actor, application: Application, step: ReviewStep) -> None:
    """Check that the actor reviews for exactly the unit of a step, and neither filed this round nor decided in it.

    Raises: PermissionDenied.
    """
    require_review(tx, actor, step)
    signature = signed_by(tx, actor)
    submission = form_records.submission_of(tx, application)
    if submission is not None and signature.is_same_person(submission.actor, submission.person_id):
        raise PermissionDenied(message("filed_it_yourself"))
    earlier = select(Decision).where(Decision.application_id == application.id, Decision.round == application.round)
    if any(signature.is_same_person(each.actor, each.person_id) for each in tx.scalars(earlier)):
        raise PermissionDenied(message("decided_in_this_round"))


def _followed(
    tx: Session, kind: ApplicationKind, application: Application, step: ReviewStep, *, now: Instant
) -> ReviewStep:
    """Return the open step; if its unit was moved away, close it and open that of the new place."""
    reviewer = due_reviewer(tx, kind, application)
    if reviewer is not None and reviewer.unit == step.unit_id:
        return step
    step.closed_at = now
    tx.flush()
    followed = open_next_step(tx, kind, application, now=now)
    if followed is None:
        raise Conflict(message("step_closed"))
    detail = {"from": step.unit_id, "to": followed.unit_id, "round": application.round}
    subject = f"application:{application.id}"
    audit.record(tx, at=now, actor="system", act="review moved", subject=subject, detail=detail)
    return followed


def _repeated(tx: Session, signature: Signature, step: ReviewStep, outcome: DecisionOutcome, opinion: str) -> Decision:
    in_round = tx.scalars(
        select(Decision).where(Decision.application_id == step.application_id, Decision.round == step.round)
    ).all()
    decision = next((each for each in in_round if each.step_id == step.id), None)
    if decision is None:  # the step went on elsewhere, perhaps by this same request
        decision = next((each for each in in_round if each.actor == signature.actor), None)
    if decision is None:
        raise Conflict(message("step_closed"))
    is_same = (decision.actor, decision.outcome, decision.opinion) == (signature.actor, outcome, opinion)
    if not is_same:
        raise Conflict(message("decided_already", name=decision.person_name, outcome=decision.outcome.value))
    return decision


def _unchanged_hash(tx: Session, application: Application, seen_hash: bytes | None) -> bytes:
    """Return the hash of the round if it is still what was submitted and what the reviewer saw.

    Raises: Conflict.
    """
    submission = form_records.submission_of(tx, application)
    present_hash = form_records.content_hash(tx, application)
    if submission is None or submission.content_hash != present_hash or seen_hash not in (None, present_hash):
        raise Conflict(message("content_changed"))
    return present_hash


def _file(application: Application, now: Instant) -> None:
    application.state = ApplicationState.FILED
    application.filed_at = now
