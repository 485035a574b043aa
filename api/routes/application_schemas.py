"""JSON types of applications, and how they are made of the records."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import Header, Response
from pydantic import Field, StringConstraints
from sqlalchemy.orm import Session

from api.application_kinds import KINDS
from api.schemas import LARGEST_ID, Moment, Schema
from core.ids import ApplicationId, ReviewStepId, UnitId
from core.units.tables import Unit
from core.workflow import form_records, queries, review
from core.workflow.form import DraftContent
from core.workflow.kinds import ApplicationKind, Cell
from core.workflow.states import ApplicationState, DecisionOutcome, Payer
from core.workflow.tables import Application, ReviewStep

LARGEST_IN_JSON = 2**53 - 1
"""Largest whole number that every JSON reader keeps exactly."""

ApplicationNumber = Annotated[ApplicationId, Field(ge=1, le=LARGEST_ID)]
Revision = Annotated[
    int,
    Header(alias="If-Match", ge=1, le=LARGEST_IN_JSON, description="`revision` of the application as you saw it"),
]
Cells = Annotated[dict[str, str], Field(max_length=50)]
Opinion = Annotated[str, StringConstraints(strip_whitespace=True, max_length=review.LONGEST_OPINION)]

EXAMPLE_FIELDS = {
    "unit_name": "某某卫生院",
    "unit_code": "6101030203",
    "operation": "更换",
    "filled_by": "何静",
    "phone": "13800000000",
}
EXAMPLE_ROWS = [
    {
        "fridge_before": "美菱冰箱冷藏",
        "fridge_now": "海尔冰箱冷藏",
        "probe_before": "300601冷藏",
        "probe_now": "300602冷藏",
    }
]


class FormIn(Schema):
    """Cells of a form as they are written: those of the form itself, and those of each row."""

    fields: Annotated[Cells, Field(default_factory=dict, examples=[EXAMPLE_FIELDS])]
    rows: Annotated[list[Cells], Field(default_factory=list, max_length=200, examples=[EXAMPLE_ROWS])]

    def content(self) -> DraftContent:
        """Return the cells."""
        return DraftContent(self.fields, self.rows)


class ApplicationIn(FormIn):
    """A new application. `GET /applications/kinds` lists the kinds with their cells."""

    kind: Annotated[str, Field(max_length=30, examples=["form1"])]
    unit: Annotated[UnitId, Field(ge=1, le=LARGEST_IN_JSON)]
    linked: Annotated[ApplicationId, Field(ge=1, le=LARGEST_IN_JSON)] | None = None
    """Filed application that this one belongs to: form 2 of a form 3."""


class DecisionIn(Schema):
    """A decision about the step that was open when the reviewer read the form."""

    step: Annotated[ReviewStepId, Field(ge=1, le=LARGEST_IN_JSON)]
    outcome: Annotated[DecisionOutcome, Field(examples=["passed_up"])]
    opinion: Annotated[Opinion, Field(examples=["同意"])] = ""
    content_hash: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None
    """`content_hash` of the form as read; if it isn't that any more the decision is refused."""


class ExecutionIn(Schema):
    """An execution: of all rows, or of some of them; now, or up to 24 hours ago."""

    rows: Annotated[list[Annotated[int, Field(ge=1, le=200)]], Field(min_length=1, max_length=200)] | None = None
    at: Moment | None = None


class ReasonIn(Schema):
    """A reason."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=review.LONGEST_OPINION)]


class CellOut(Schema):
    """A cell of a form."""

    name: str
    title: str
    required: bool


class KindOut(Schema):
    """A kind of application: its cells, and the kind that it must be linked to."""

    code: str
    version: int
    title: str
    fields: Sequence[CellOut]
    columns: Sequence[CellOut]
    linked_kind: str | None


class CellProblem(Schema):
    """What is wrong with a cell, or differs from it. Row 0 is the form itself."""

    row: int
    column: str
    problem: str


class RowOut(Schema):
    """Row of a form as written, with who pays and its warnings once it was submitted. Row 0 is the form itself."""

    number: int
    cells: dict[str, str]
    payer: Payer | None
    cost: int | None
    """0 if the manufacturer pays; null while it isn't known."""
    warnings: Sequence[CellProblem]


class StepOut(Schema):
    """Open review step: which unit it waits for, since when, and until when."""

    step: ReviewStepId
    unit: UnitId
    unit_name: str
    opened_at: Moment
    due_at: Moment | None


class ApplicationSummary(Schema):
    """An application without its cells."""

    id: ApplicationId
    kind: str
    title: str
    unit: UnitId
    unit_name: str
    state: ApplicationState
    round: int
    revision: int
    linked: ApplicationId | None
    created_at: Moment
    filed_at: Moment | None
    executed_at: Moment | None


class ApplicationOut(ApplicationSummary):
    """An application with its form, and the step that it waits for."""

    rows: Sequence[RowOut]
    waits_for: StepOut | None
    content_hash: str | None
    """SHA-256 of the round as submitted; null for a draft."""
    differences: Sequence[CellProblem]
    """While it is blocked: what differs from the form."""


class WaitingOut(ApplicationSummary):
    """An application that waits for a unit of the caller."""

    waits_for: StepOut


class SubmissionOut(Schema):
    """A submission of a round."""

    round: int
    at: Moment
    person_name: str
    content_hash: str


class ReviewedOut(Schema):
    """A review step. Without an outcome it is open, or ended with a withdrawal or a move of the unit."""

    round: int
    unit: UnitId
    unit_name: str
    level: str
    opened_at: Moment
    due_at: Moment | None
    closed_at: Moment | None
    outcome: DecisionOutcome | None
    opinion: str | None
    at: Moment | None
    person_name: str | None
    late: bool
    content_hash: str | None


class ExecutedOut(Schema):
    """An effect of a row that took effect."""

    row: int
    effect: str
    at: Moment
    recorded_at: Moment


class ApplicationHistoryOut(Schema):
    """Who submitted, decided and executed an application, in order."""

    submissions: Sequence[SubmissionOut]
    steps: Sequence[ReviewedOut]
    executions: Sequence[ExecutedOut]


def answer(tx: Session, response: Response, row: Application) -> ApplicationOut:
    """Return an application, with its revision as `ETag`."""
    response.headers["ETag"] = str(row.revision)
    return application_out(tx, row)


def application_out(tx: Session, row: Application) -> ApplicationOut:
    waiting = queries.open_step(tx, row)
    submitted = form_records.submission_of(tx, row)
    rows = [
        RowOut(
            number=each.number,
            cells=form_records.written_cells(each),
            payer=each.payer,
            cost=0 if each.payer is Payer.MANUFACTURER else None,
            warnings=_problems(each.warnings),
        )
        for each in form_records.rows_of(tx, row)
    ]
    more = {
        "rows": rows,
        "waits_for": None if waiting is None else step_out(tx, waiting[0]),
        "content_hash": None if submitted is None else submitted.content_hash.hex(),
        "differences": _problems(row.differences),
    }
    return ApplicationOut.model_validate({**summary(row, queries.unit_of(tx, row)), **more})


def summary(row: Application, unit: Unit) -> dict[str, object]:
    return {
        "id": row.id,
        "kind": row.kind,
        "title": KINDS.of(row.kind, row.kind_version).title,
        "unit": unit.id,
        "unit_name": unit.name,
        "state": row.state,
        "round": row.round,
        "revision": row.revision,
        "linked": row.linked_id,
        "created_at": row.created_at,
        "filed_at": row.filed_at,
        "executed_at": row.executed_at,
    }


def step_out(tx: Session, step: ReviewStep) -> StepOut:
    unit = queries.unit_of(tx, step)
    return StepOut(step=step.id, unit=unit.id, unit_name=unit.name, opened_at=step.opened_at, due_at=step.due_at)


def reviewed_out(item: queries.ReviewedStep) -> ReviewedOut:
    step, decision = item.step, item.decision
    return ReviewedOut(
        round=step.round,
        unit=item.unit.id,
        unit_name=item.unit.name,
        level=step.level,
        opened_at=step.opened_at,
        due_at=step.due_at,
        closed_at=step.closed_at,
        outcome=decision.outcome if decision else None,
        opinion=decision.opinion if decision else None,
        at=decision.at if decision else None,
        person_name=decision.person_name if decision else None,
        late=decision is not None and review.is_late(step, decision.at),
        content_hash=decision.content_hash.hex() if decision else None,
    )


def _problems(text: str) -> list[CellProblem]:
    return [
        CellProblem(row=fault.row, column=fault.column, problem=str(fault.problem))
        for fault in form_records.faults_of(text)
    ]


def kind_out(kind: ApplicationKind) -> KindOut:
    def cells(of: Sequence[Cell]) -> list[CellOut]:
        return [CellOut(name=cell.name, title=cell.title, required=cell.required) for cell in of]

    return KindOut(
        code=kind.code,
        version=kind.version,
        title=kind.title,
        fields=cells(kind.form_cells),
        columns=cells(kind.columns),
        linked_kind=kind.linked_kind,
    )
