"""Execution of filed applications: each effect once, all of one execution at the same instant and in one transaction.

What was filed is checked against what is there now. If they differ nothing is changed: the application is blocked with
what differs, until it is executed again or given back. tests/integration/test_application_kills.py tries to break it.
"""

from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db import audit
from core.db.insert import insert_all
from core.errors import Conflict, DomainError, Invalid
from core.ids import ApplicationId
from core.plain_text import require_plain
from core.runtime.instant import DAY, Instant
from core.units import device_revision
from core.units.actor import Actor
from core.units.tables import Unit
from core.workflow import form_records
from core.workflow.drafts import require
from core.workflow.effects import Effect, ExecutionContext
from core.workflow.form import CellFault, Form, FormRow
from core.workflow.form_check import problem_text, rule_faults
from core.workflow.kinds import ApplicationKind, FormContext, KindRegistry
from core.workflow.messages import message
from core.workflow.review import LONGEST_OPINION
from core.workflow.states import EXECUTABLE, ApplicationState, Phase
from core.workflow.submission import linked_form
from core.workflow.tables import Application, Execution

LATEST_RECORD = DAY
"""How long ago an execution may have happened that is recorded only now, such as one without a connection."""

PlannedEffect = tuple[int, Effect]


def execute(
    tx: Session,
    actor: Actor,
    kinds: KindRegistry,
    application_id: ApplicationId,
    *,
    rows: Collection[int] | None = None,
    at: Instant | None = None,
    now: Instant,
) -> Application:
    """Execute a filed application, or some of its rows, at an instant. Idempotent.

    Afterwards it is `executed` once all rows are, or `blocked` when something differs from what was filed.
    Raises: NotFound, PermissionDenied, Invalid, Conflict when it isn't filed.
    """
    application = form_records.locked(tx, application_id)
    kind = kinds.of(application.kind, application.kind_version)
    right = kind.executed_with if rows is None or kind.on_site_with is None else kind.on_site_with
    unit = require(tx, actor, right, application)
    if application.state is ApplicationState.EXECUTED:
        return application
    if application.state not in EXECUTABLE or not kind.is_executed:
        raise Conflict(message("not_executable", state=application.state.value))
    at = _checked_instant(application, now if at is None else at, now)
    form = form_records.frozen_form(tx, application)
    chosen = _chosen_rows(form, rows)
    done = _done(tx, application)
    device_revision.bump(tx)
    planned = [
        (row.number, effect)
        for row in chosen
        for effect in kind.effects(form, row)
        if (row.number, effect.key) not in done
    ]
    differences = _applied(tx, actor, kind, application, unit, form, planned, at, now)
    application.revision += 1
    if differences:
        application.state = ApplicationState.BLOCKED
        application.differences = form_records.faults_json(differences)
    else:
        application.differences = "[]"
        application.state = ApplicationState.FILED
        if _is_done(tx, kind, application, form):
            application.state, application.executed_at = ApplicationState.EXECUTED, at
    act = "application blocked" if differences else "application executed"
    detail = {"rows": [row.number for row in chosen], "at": at, "effects": len(planned)}
    audit.record(tx, at=now, actor=actor.name, act=act, subject=f"application:{application.id}", detail=detail)
    tx.flush()
    return application


def give_back(
    tx: Session, actor: Actor, kinds: KindRegistry, application_id: ApplicationId, *, reason: str, now: Instant
) -> Application:
    """Give a blocked application back to its unit, which corrects and submits it again.

    Raises: NotFound, PermissionDenied, Invalid, Conflict when it isn't blocked, or part of it was executed.
    """
    application = form_records.locked(tx, application_id)
    kind = kinds.of(application.kind, application.kind_version)
    require(tx, actor, kind.executed_with, application)
    require_plain("reason", reason, several_lines=True)
    if not 0 < len(reason.strip()) <= LONGEST_OPINION:
        raise Invalid(field="reason", value=reason[:50], problem=message("reason", most=LONGEST_OPINION))
    if application.state is not ApplicationState.BLOCKED:
        raise Conflict(message("not_blocked", state=application.state.value))
    if _done(tx, application):
        raise Conflict(message("partly_executed"))
    application.state = ApplicationState.RETURNED
    application.revision += 1
    detail = {"reason": reason}
    subject = f"application:{application.id}"
    audit.record(tx, at=now, actor=actor.name, act="application given back", subject=subject, detail=detail)
    return application


def _applied(  # noqa: PLR0913, PLR0917 (all that an execution is)
    tx: Session,
    actor: Actor,
    kind: ApplicationKind,
    application: Application,
    unit: Unit,
    form: Form,
    planned: Sequence[PlannedEffect],
    at: Instant,
    now: Instant,
) -> list[CellFault]:
    """Apply effects phase by phase and record each under its key; on any difference change nothing and return it."""
    context = FormContext(tx, unit, now, linked_form(tx, kind, application))
    rows = {number for number, _ in planned}
    faults = [
        fault
        for fault in rule_faults(kind, context, form)
        if not fault.is_warning and (fault.row in rows or fault.row == 0)
    ]
    if faults or not planned:
        return faults
    number = 0
    try:
        with tx.begin_nested():
            for phase in Phase:
                for number, effect in planned:
                    if effect.phase is phase:
                        effect.apply(ExecutionContext(tx, actor, unit, application.id, number, at, now))
            executed = [
                {
                    "application_id": application.id,
                    "row": row,
                    "effect": effect.key,
                    "at": at,
                    "recorded_at": now,
                    "actor": actor.name,
                }
                for row, effect in planned
            ]
            insert_all(tx, Execution, executed)
    except DomainError as error:
        return [CellFault(number, "", problem_text(error))]
    return []


def _is_done(tx: Session, kind: ApplicationKind, application: Application, form: Form) -> bool:
    done = _done(tx, application)
    return all((row.number, effect.key) in done for row in form.rows for effect in kind.effects(form, row))


def _done(tx: Session, application: Application) -> set[tuple[int, str]]:
    query = select(Execution.row, Execution.effect).where(Execution.application_id == application.id)
    return {(row, effect) for row, effect in tx.execute(query)}


def _chosen_rows(form: Form, rows: Collection[int] | None) -> Sequence[FormRow]:
    if rows is None:
        return form.rows
    unknown = sorted(set(rows) - {row.number for row in form.rows})
    if unknown or not rows:
        raise Invalid(field="rows", value=unknown, problem=message("unknown_row", most=len(form.rows)))
    return [row for row in form.rows if row.number in rows]


def _checked_instant(application: Application, at: Instant, now: Instant) -> Instant:
    earliest = max(application.filed_at or now, now - LATEST_RECORD)
    if not earliest <= at <= now:
        raise Invalid(field="at", value=at, problem=message("instant"))
    return at
