"""Submission: a draft is checked as a whole, frozen, and waits for its first reviewer."""

from sqlalchemy.orm import Session

from core.db import audit
from core.ids import ApplicationId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.tables import Unit
from core.workflow import form_records
from core.workflow.drafts import begin_round_if_over, editable, require
from core.workflow.form import FORM_FIELDS, CellFault, Form, FormRejected
from core.workflow.form_check import checked_form
from core.workflow.kinds import ApplicationKind, FormContext, KindRegistry
from core.workflow.messages import message
from core.workflow.review import open_next_step
from core.workflow.route import NoReviewer, next_reviewer
from core.workflow.signatures import signed_by
from core.workflow.states import EXECUTABLE, ApplicationState
from core.workflow.tables import Application, Submission

_LINKABLE = (*EXECUTABLE, ApplicationState.EXECUTED)


def submit(
    tx: Session,
    actor: Actor,
    kinds: KindRegistry,
    application_id: ApplicationId,
    *,
    revision: int,
    now: Instant,
) -> Application:
    """Submit a draft for review; a returned or withdrawn application begins its next round from the first level.

    The same person submitting the same revision again gets the same answer.
    Raises: FormRejected with all faults, NotFound, PermissionDenied, Conflict when it was changed since `revision`.
    """
    application = form_records.locked(tx, application_id)
    kind = kinds.of(application.kind, application.kind_version)
    unit = require(tx, actor, kind.filed_with, application)
    earlier = form_records.submission_of(tx, application)
    if earlier is not None and (earlier.actor, earlier.revision) == (actor.name, revision):
        return application
    editable(tx, actor, kinds, application_id, revision)
    begin_round_if_over(tx, application)
    context = FormContext(tx, unit, now, linked_form(tx, kind, application))
    checked = checked_form(kind, context, form_records.content_of(tx, application))
    errors = [*_form_faults(tx, kind, unit, application), *checked.errors]
    if errors:
        raise FormRejected(errors)
    form_records.freeze(tx, application, checked)
    signature = signed_by(tx, actor)
    tx.add(
        Submission(
            application_id=application.id,
            round=application.round,
            revision=revision,
            at=now,
            actor=signature.actor,
            person_id=signature.person_id,
            person_name=signature.person_name,
            content_hash=form_records.content_hash(tx, application),
        )
    )
    application.state = ApplicationState.IN_REVIEW
    application.revision += 1
    tx.flush()
    open_next_step(tx, kind, application, now=now)
    audit.record(
        tx,
        at=now,
        actor=actor.name,
        act="application submitted",
        subject=f"application:{application.id}",
        detail={"kind": kind.code, "unit": unit.id, "round": application.round},
    )
    return application


def linked_form(tx: Session, kind: ApplicationKind, application: Application) -> Form | None:
    """Return the form of the linked application as it was filed; None if the kind has none, or it isn't filed yet."""
    linked = None if kind.linked_kind is None else filed_link(tx, application)
    return None if linked is None else form_records.frozen_form(tx, linked)


def filed_link(tx: Session, application: Application) -> Application | None:
    """Return the linked application if it is filed."""
    linked = None if application.linked_id is None else tx.get_one(Application, application.linked_id)
    return linked if linked is not None and linked.state in _LINKABLE else None


def _form_faults(tx: Session, kind: ApplicationKind, unit: Unit, application: Application) -> list[CellFault]:
    faults = []
    if kind.linked_kind is not None and filed_link(tx, application) is None:
        faults.append(CellFault(FORM_FIELDS, "linked", message("not_linked", kind=kind.linked_kind)))
    try:
        next_reviewer(kind.route, form_records.ancestors(tx, unit), ())
    except NoReviewer as error:
        faults.append(CellFault(FORM_FIELDS, "", str(error)))
    return faults
