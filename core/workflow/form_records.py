"""Stored forms: the rows of each round, what was frozen, and its hash."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.db.insert import insert_all
from core.errors import NotFound
from core.ids import ApplicationId, UnitId
from core.units.tables import Unit
from core.workflow.form import FORM_FIELDS, CellFault, DraftContent, Form, FormRow
from core.workflow.form_check import CheckedForm
from core.workflow.route import Ancestor
from core.workflow.tables import Application, ApplicationRow, Attachment, Submission


def locked(tx: Session, application: ApplicationId) -> Application:
    """Return an application, locked until the transaction ends, as it is now.

    Raises: NotFound.
    """
    row = tx.get(Application, application, with_for_update=True, populate_existing=True)
    if row is None:
        raise NotFound(what="application", name=application)
    return row


def ancestors(tx: Session, unit: Unit) -> list[Ancestor]:
    """Return a unit and all units above it as the tree is now, the unit itself first."""
    ids = [UnitId(int(part)) for part in unit.path.strip("/").split("/")]
    units = {row.id: row for row in tx.scalars(select(Unit).where(Unit.id.in_(ids)))}
    return [Ancestor(units[each].id, units[each].kind, units[each].level) for each in reversed(ids) if each in units]


def rows_of(tx: Session, application: Application, round_number: int | None = None) -> Sequence[ApplicationRow]:
    """Return the rows of a round, by default the current one, the form's own fields first."""
    in_round = application.round if round_number is None else round_number
    query = select(ApplicationRow).where(
        ApplicationRow.application_id == application.id, ApplicationRow.round == in_round
    )
    return tx.scalars(query.order_by(ApplicationRow.number)).all()


def content_of(tx: Session, application: Application) -> DraftContent:
    """Return the cells of the current round as they were written."""
    written = [_object(row.written) for row in rows_of(tx, application)]
    return DraftContent(written[0], written[1:]) if written else DraftContent()


def frozen_form(tx: Session, application: Application) -> Form:
    """Return the form of the current round as it was when it was submitted."""
    rows = [
        FormRow(row.number, _object(row.written), msgspec.json.decode(row.resolved)) for row in rows_of(tx, application)
    ]
    return Form(rows[0], rows[1:])


def write_content(tx: Session, application: Application, content: DraftContent) -> None:
    """Replace the rows of the current round by a draft."""
    tx.execute(
        delete(ApplicationRow).where(
            ApplicationRow.application_id == application.id, ApplicationRow.round == application.round
        )
    )
    rows = [
        {
            "application_id": application.id,
            "round": application.round,
            "number": number,
            "written": _json(written),
            "resolved": "{}",
            "payer": None,
            "warnings": "[]",
        }
        for number, written in enumerate((content.fields, *content.rows), start=FORM_FIELDS)
    ]
    insert_all(tx, ApplicationRow, rows)


def freeze(tx: Session, application: Application, checked: CheckedForm) -> None:
    """Store what the cells of the current round name, who pays, and the warnings."""
    resolved = {row.number: row.resolved for row in (checked.form.fields, *checked.form.rows)}
    for row in rows_of(tx, application):
        row.resolved = _json(resolved[row.number])
        row.payer = checked.payers.get(row.number)
        row.warnings = faults_json(checked.warnings_of(row.number))
    tx.flush()


def content_hash(tx: Session, application: Application) -> bytes:
    """Return the SHA-256 of the current round: kind, unit, rows, payers, warnings and attachments."""
    content = {
        "kind": [application.kind, application.kind_version],
        "unit": application.unit_id,
        "linked": application.linked_id,
        "round": application.round,
        "rows": [[row.number, row.written, row.resolved, row.payer, row.warnings] for row in rows_of(tx, application)],
        "attachments": [sha256(file.content).hexdigest() for file in attachments_of(tx, application)],
    }
    return sha256(_json(content).encode()).digest()


def attachments_of(tx: Session, application: Application) -> Sequence[Attachment]:
    """Return the attachments of the current round."""
    query = select(Attachment).where(Attachment.application_id == application.id, Attachment.round == application.round)
    return tx.scalars(query.order_by(Attachment.id)).all()


def was_submitted(tx: Session, application: Application) -> bool:
    """Return whether the current round was submitted, so that its rows are frozen."""
    return submission_of(tx, application) is not None


def submission_of(tx: Session, application: Application) -> Submission | None:
    """Return the submission of the current round."""
    query = select(Submission).where(Submission.application_id == application.id, Submission.round == application.round)
    return tx.scalar(query)


def faults_json(faults: Sequence[CellFault]) -> str:
    """Return faults as JSON text; `faults_of` reads them again, in whatever language."""
    return msgspec.json.encode(faults, order="deterministic").decode()


def faults_of(text: str) -> list[CellFault]:
    """Return faults that were stored."""
    return msgspec.json.decode(text, type=list[CellFault])


def written_cells(row: ApplicationRow) -> dict[str, str]:
    """Return the cells of a row as somebody wrote them."""
    return dict(_object(row.written))


def _object(text: str) -> Mapping[str, str]:
    found: Mapping[str, str] = msgspec.json.decode(text, type=dict[str, str])
    return found


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
