"""View of an application for its page and print: the form as filed, its history, and what the reader may do."""

from collections.abc import Sequence

import msgspec
from fastapi import Request
from sqlalchemy.orm import Session

from api.app_context import AppContext
from api.application_kinds import KINDS
from api.pages.applications.form_view import error_text, problem_text
from api.pages.rendering import SiteClock, words_for
from core.errors import PermissionDenied
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.divisions import shipped
from core.units.queries import visible_unit
from core.units.rights import Right
from core.units.tables import Unit
from core.units.unit_levels import Level
from core.workflow import form_records, queries
from core.workflow.kinds import ApplicationKind, FormContext
from core.workflow.queries import ApplicationHistory, ReviewedStep
from core.workflow.review import is_late, require_decider
from core.workflow.states import EDITABLE, ApplicationState, Payer
from core.workflow.tables import Application, ReviewStep

AREA_LEVELS = (Level.PROVINCE, Level.CITY, Level.COUNTY)


class FiledRow(msgspec.Struct, frozen=True):
    """Row of the form as it was written, with who pays, and its warnings."""

    number: int
    cells: Sequence[str]
    payer: Payer | None
    warnings: Sequence[str]


class FiledForm(msgspec.Struct, frozen=True):
    """Form as it was written: pairs of title and text, and rows."""

    header: Sequence[tuple[str, str]]
    fields: Sequence[tuple[str, str]]
    footer: Sequence[tuple[str, str]]
    rows: Sequence[FiledRow]
    warnings: Sequence[str]

    @property
    def has_payers(self) -> bool:
        """Whether it says of any row who pays."""
        return any(row.payer is not None for row in self.rows)


class ApplicationEvent(msgspec.Struct, frozen=True):
    """What happened at an instant. `event` is the end of a name in the catalogue."""

    at: Instant
    event: str
    unit: str = ""
    person: str = ""
    opinion: str = ""
    is_late: bool = False
    round: int = 1


class Actions(msgspec.Struct, frozen=True):
    """What the reader may do with an application now."""

    may_edit: bool
    may_withdraw: bool
    step: ReviewStep | None
    """Step that the reader may decide."""
    may_decide_finally: bool
    why_not: str
    """Why somebody who reviews for the unit may not decide this step."""


class ApplicationView(msgspec.Struct, frozen=True):
    """Application as its page and its print show it."""

    application: Application
    kind: ApplicationKind
    unit: Unit
    form: FiledForm
    history: ApplicationHistory
    lines: Sequence[ApplicationEvent]
    waiting: ReviewedStep | None
    is_overdue: bool
    differences: Sequence[tuple[int, str]]
    content_hash: str
    clock: SiteClock


def application_view(
    request: Request, tx: Session, context: AppContext, actor: Actor, application: Application
) -> ApplicationView:
    """Return what is shown of an application that the actor may see.

    Raises: NotFound when its kind isn't installed.
    """
    words, now = words_for(request), context.clock.now()
    kind = KINDS.of(application.kind, application.kind_version)
    unit = visible_unit(tx, actor, application.unit_id)
    history = queries.history(tx, application)
    waiting = next((each for each in history.steps if each.step.closed_at is None), None)
    differences = form_records.faults_of(application.differences)
    return ApplicationView(
        application=application,
        kind=kind,
        unit=unit,
        form=_filed_form(request, tx, kind, application),
        history=history,
        lines=_lines(application, history),
        waiting=waiting,
        is_overdue=waiting is not None and is_late(waiting.step, now),
        differences=[(fault.row, problem_text(words, fault.problem)) for fault in differences],
        content_hash=form_records.content_hash(tx, application).hex(),
        clock=SiteClock(request, unit.timezone, now),
    )


def actions_of(request: Request, tx: Session, actor: Actor, view: ApplicationView) -> Actions:
    """Return what the actor may do with an application now."""
    application = view.application
    may_file = actor.may(view.kind.filed_with, on=view.unit)
    withdrawable = (ApplicationState.DRAFT, ApplicationState.RETURNED, ApplicationState.IN_REVIEW)
    step, why_not = None, ""
    if view.waiting is not None and actor.may(Right.REVIEW, on=view.waiting.unit):
        try:
            require_decider(tx, actor, application, view.waiting.step)
            step = view.waiting.step
        except PermissionDenied as error:
            why_not = error_text(words_for(request), error)
    return Actions(
        may_edit=may_file and application.state in EDITABLE,
        may_withdraw=may_file and application.state in withdrawable,
        step=step,
        may_decide_finally=step is not None and step.level in view.kind.final_at,
        why_not=why_not,
    )


def area_names(tx: Session, view: ApplicationView, now: Instant) -> dict[Level, str]:
    """Return the names of province, city and county (省, 市, 区/县) in which a unit is.

    They are those of its administrative division; where that is unknown there are none, since the reader may not see
    the units above.
    """
    known, today = shipped(), FormContext(tx, view.unit, now).today
    code = view.unit.division or (view.unit.code or "")[:6]
    chain = []
    while code and (division := known.at(code, today)) is not None:
        chain.append(division.name)
        code = division.parent or ""
    chain.reverse()
    levels = AREA_LEVELS if len(chain) == len(AREA_LEVELS) else (Level.PROVINCE, Level.COUNTY)
    return dict(zip(levels, chain, strict=False))


def _filed_form(request: Request, tx: Session, kind: ApplicationKind, application: Application) -> FiledForm:
    words = words_for(request)
    content = form_records.content_of(tx, application)
    stored = {row.number: row for row in form_records.rows_of(tx, application)}
    warnings = {
        number: [problem_text(words, fault.problem) for fault in form_records.faults_of(row.warnings)]
        for number, row in stored.items()
    }
    header, fields, footer = (
        [(cell.title, content.fields.get(cell.name, "")) for cell in cells]
        for cells in (kind.header, kind.fields, kind.footer)
    )
    rows = [
        FiledRow(
            number,
            [written.get(cell.name, "") for cell in kind.columns],
            stored[number].payer,
            warnings[number],
        )
        for number, written in enumerate(content.rows, start=1)
    ]
    return FiledForm(header, fields, footer, rows, warnings.get(0, ()))


def _lines(application: Application, history: ApplicationHistory) -> list[ApplicationEvent]:
    """Return who did what, in order of time."""
    lines = [
        ApplicationEvent(each.at, "submitted", person=each.person_name, round=each.round)
        for each in history.submissions
    ]
    for each in history.steps:
        step, decision = each.step, each.decision
        if decision is not None:
            lines.append(
                ApplicationEvent(
                    decision.at,
                    decision.outcome.value,
                    unit=each.unit.name,
                    person=decision.person_name,
                    opinion=decision.opinion,
                    is_late=is_late(step, decision.at),
                    round=decision.round,
                )
            )
        elif step.closed_at is not None:
            lines.append(ApplicationEvent(step.closed_at, "undecided", unit=each.unit.name, round=step.round))
    if application.filed_at is not None:
        lines.append(ApplicationEvent(application.filed_at, "filed", round=application.round))
    if application.executed_at is not None:
        lines.append(ApplicationEvent(application.executed_at, "executed", round=application.round))
    return sorted(lines, key=lambda line: line.at)
