"""Drafts: creating, saving, attaching files, and withdrawing an application before it is filed.

A draft belongs to its unit, not to the person who began it, and may be faulty. Whoever saves says which revision they
saw, so that the second of two writers is told rather than overwriting the first.
"""

import re

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.errors import Conflict, Invalid, NotFound
from core.ids import ApplicationId, UnitId
from core.plain_text import require_plain
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.rights import Right
from core.units.tables import Unit
from core.units.unit_levels import UnitKind
from core.workflow import form_records
from core.workflow.form import DraftContent
from core.workflow.form_check import check_draft
from core.workflow.kinds import ApplicationKind, KindRegistry
from core.workflow.messages import message
from core.workflow.states import EDITABLE, ApplicationState
from core.workflow.tables import LARGEST_ATTACHMENT, Application, Attachment, ReviewStep

MOST_ATTACHMENTS = 20
LONGEST_FILE_NAME = 100
_MEDIA_TYPE = re.compile(r"image/(jpeg|png)|application/pdf")


class NewAttachment(msgspec.Struct, frozen=True):
    """File to be attached: a JPEG or PNG image, or a PDF."""

    name: str
    media_type: str
    content: bytes


def create_draft(
    tx: Session,
    actor: Actor,
    kinds: KindRegistry,
    kind_code: str,
    unit_id: UnitId,
    content: DraftContent,
    *,
    linked: ApplicationId | None = None,
    now: Instant,
) -> Application:
    """Create an application of a unit as a draft, in the newest version of its kind.

    Raises: NotFound, PermissionDenied, Invalid.
    """
    kind = kinds.newest(kind_code)
    unit = tx.get(Unit, unit_id)
    if unit is None:
        raise NotFound(what="unit", name=unit_id)
    actor.require(kind.filed_with, on=unit)
    if unit.kind is UnitKind.TEMP_SITE:
        raise Invalid(field="unit", value=unit_id, problem=message("temp_site", unit=unit.name))
    check_draft(kind, content)
    if linked is not None:
        _check_linked(tx, kind, unit, linked)
    application = Application(
        kind=kind.code,
        kind_version=kind.version,
        unit_id=unit.id,
        linked_id=linked,
        state=ApplicationState.DRAFT,
        round=1,
        revision=1,
        created_at=now,
        created_by=actor.name,
    )
    tx.add(application)
    tx.flush()
    form_records.write_content(tx, application, content)
    _audit(tx, actor, "application drafted", application, now)
    return application


def save_draft(
    tx: Session,
    actor: Actor,
    kinds: KindRegistry,
    application_id: ApplicationId,
    content: DraftContent,
    *,
    revision: int,
    now: Instant,
) -> Application:
    """Replace the cells of a draft. Of a returned or withdrawn application it begins the next round.

    Raises: NotFound, PermissionDenied, Invalid, Conflict when it was changed since `revision`, or can't be changed.
    """
    application, kind = editable(tx, actor, kinds, application_id, revision)
    check_draft(kind, content)
    begin_round_if_over(tx, application)
    form_records.write_content(tx, application, content)
    application.revision += 1
    _audit(tx, actor, "application saved", application, now)
    return application


def attach(
    tx: Session,
    actor: Actor,
    kinds: KindRegistry,
    application_id: ApplicationId,
    file: NewAttachment,
    *,
    revision: int,
    now: Instant,
) -> Attachment:
    """Attach a file of at most 1 MiB to a draft: a photo or a PDF.

    Raises: NotFound, PermissionDenied, Invalid, Conflict when the draft was changed since `revision`.
    """
    application, _ = editable(tx, actor, kinds, application_id, revision)
    require_plain("name", file.name)
    if not 0 < len(file.name) <= LONGEST_FILE_NAME:
        raise Invalid(field="name", value=file.name[:50], problem=message("too_long", most=LONGEST_FILE_NAME))
    if not _MEDIA_TYPE.fullmatch(file.media_type):
        raise Invalid(field="media_type", value=file.media_type, problem=message("media_type"))
    if not 0 < len(file.content) <= LARGEST_ATTACHMENT:
        raise Invalid(field="content", value=len(file.content), problem=message("attachment_size"))
    begin_round_if_over(tx, application)
    if len(form_records.attachments_of(tx, application)) >= MOST_ATTACHMENTS:
        problem = message("too_many_attachments", most=MOST_ATTACHMENTS)
        raise Invalid(field="content", value=file.name, problem=problem)
    attachment = Attachment(
        application_id=application.id,
        round=application.round,
        name=file.name,
        media_type=file.media_type,
        content=file.content,
        added_at=now,
        added_by=actor.name,
    )
    tx.add(attachment)
    application.revision += 1
    tx.flush()
    _audit(tx, actor, "file attached", application, now, attachment=attachment.id)
    return attachment


def withdraw(
    tx: Session, actor: Actor, kinds: KindRegistry, application_id: ApplicationId, *, now: Instant
) -> Application:
    """Take an application back before it is filed. Idempotent.

    Raises: NotFound, PermissionDenied, Conflict once it is filed.
    """
    application = form_records.locked(tx, application_id)
    kind = kinds.of(application.kind, application.kind_version)
    require(tx, actor, kind.filed_with, application)
    if application.state is ApplicationState.WITHDRAWN:
        return application
    if application.state not in (*EDITABLE, ApplicationState.IN_REVIEW):
        raise Conflict(message("filed_already"))
    open_step = select(ReviewStep).where(ReviewStep.application_id == application.id, ReviewStep.closed_at.is_(None))
    if (step := tx.scalar(open_step)) is not None:
        step.closed_at = now
    application.state = ApplicationState.WITHDRAWN
    application.revision += 1
    _audit(tx, actor, "application withdrawn", application, now)
    return application


def editable(
    tx: Session, actor: Actor, kinds: KindRegistry, application_id: ApplicationId, revision: int
) -> tuple[Application, ApplicationKind]:
    """Return an application, locked, that the actor may change now, with its kind.

    Raises: NotFound, PermissionDenied, Conflict.
    """
    application = form_records.locked(tx, application_id)
    kind = kinds.of(application.kind, application.kind_version)
    require(tx, actor, kind.filed_with, application)
    if application.state not in EDITABLE:
        raise Conflict(message("not_editable", state=application.state.value))
    if application.revision != revision:
        raise Conflict(message("changed", revision=application.revision, seen=revision))
    return application, kind


def begin_round_if_over(tx: Session, application: Application) -> None:
    """Begin the next round of a returned or withdrawn application, with a copy of its form and attachments."""
    if application.state is ApplicationState.DRAFT:
        return
    application.state = ApplicationState.DRAFT
    if not form_records.was_submitted(tx, application):
        return
    content = form_records.content_of(tx, application)
    files = form_records.attachments_of(tx, application)
    application.round += 1
    form_records.write_content(tx, application, content)
    tx.add_all(
        Attachment(
            application_id=application.id,
            round=application.round,
            name=file.name,
            media_type=file.media_type,
            content=file.content,
            added_at=file.added_at,
            added_by=file.added_by,
        )
        for file in files
    )
    tx.flush()


def require(tx: Session, actor: Actor, right: Right, application: Application) -> Unit:
    """Check a right on an application's unit, and return the unit.

    Raises: NotFound when the actor may not see the unit, PermissionDenied.
    """
    unit = tx.get_one(Unit, application.unit_id)
    actor.require(right, on=unit, subject=("application", application.id))
    return unit


def _check_linked(tx: Session, kind: ApplicationKind, unit: Unit, linked: ApplicationId) -> None:
    row = tx.get(Application, linked)
    if row is None or row.unit_id != unit.id or row.kind != kind.linked_kind:
        raise Invalid(field="linked", value=linked, problem=message("not_linkable"))


def _audit(tx: Session, actor: Actor, act: str, application: Application, now: Instant, **detail: object) -> None:
    what = {"kind": application.kind, "unit": application.unit_id, "round": application.round, **detail}
    audit.record(tx, at=now, actor=actor.name, act=act, subject=f"application:{application.id}", detail=what)
