"""Check of a form: every cell, every row, and the whole, with all faults at once."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from config.localized_message import LocalizedMessage
from core.errors import Conflict, DomainError, Invalid, NotFound
from core.plain_text import require_plain
from core.workflow.form import FORM_FIELDS, CellFault, DraftContent, Form, FormRow
from core.workflow.kinds import ApplicationKind, Cell, FormContext
from core.workflow.messages import message
from core.workflow.states import Payer

LONGEST_CELL = 500


class CheckedForm(msgspec.Struct, frozen=True):
    """Form as far as it could be resolved, with its faults, and the payer of each row."""

    form: Form
    faults: Sequence[CellFault]
    payers: Mapping[int, Payer]

    @property
    def errors(self) -> list[CellFault]:
        return [fault for fault in self.faults if not fault.is_warning]

    def warnings_of(self, row: int) -> list[CellFault]:
        """Return the warnings of a row; row 0 for those of the form itself."""
        return [fault for fault in self.faults if fault.is_warning and fault.row == row]


def check_draft(kind: ApplicationKind, content: DraftContent) -> None:
    """Check that a draft can be stored at all; it may be faulty otherwise.

    Raises: Invalid for an unknown cell, a forbidden character, a text that is too long, or too many rows.
    """
    if len(content.rows) > kind.most_rows:
        raise Invalid(field="rows", value=len(content.rows), problem=message("too_many_rows", most=kind.most_rows))
    for number, written in enumerate((content.fields, *content.rows)):
        known = {cell.name for cell in (kind.columns if number else kind.form_cells)}
        for name, text in written.items():
            field = f"rows.{number}.{name}" if number else f"fields.{name}"
            if name not in known:
                raise Invalid(field, text[:50], message("unknown_cell", names=", ".join(sorted(known))))
            if len(text) > LONGEST_CELL:
                raise Invalid(field, text[:50], message("too_long", most=LONGEST_CELL))
            require_plain(field, text)


def unstorable_cells(kind: ApplicationKind, content: DraftContent) -> list[CellFault]:
    """Return every cell of a form for which `check_draft` would refuse it."""
    faults = []
    for number, written in enumerate((content.fields, *content.rows)):
        for name, text in written.items():
            one = {name: text}
            try:
                check_draft(kind, DraftContent({}, [one]) if number else DraftContent(one))
            except Invalid as error:
                faults.append(CellFault(number, name, error.message))
    return _in_order(kind, faults)


def checked_form(kind: ApplicationKind, context: FormContext, content: DraftContent) -> CheckedForm:
    """Resolve all cells, then apply the rules and find the payers; return every fault."""
    faults: list[CellFault] = []
    fields = _resolved(kind.form_cells, context, FORM_FIELDS, content.fields, faults)
    rows = [
        _resolved(kind.columns, context, number, written, faults)
        for number, written in enumerate(content.rows, start=1)
    ]
    if not rows:
        faults.append(CellFault(FORM_FIELDS, "", message("no_rows")))
    form = Form(fields, rows)
    faults += rule_faults(kind, context, form)
    payers: dict[int, Payer] = {}
    for row in rows if kind.payer is not None else ():
        found = kind.payer(context, form, row) if kind.payer else None
        if isinstance(found, CellFault):
            faults.append(found)
        elif found is not None:
            payers[row.number] = found
    return CheckedForm(form, _in_order(kind, faults), payers)


def rule_faults(kind: ApplicationKind, context: FormContext, form: Form) -> list[CellFault]:
    """Return what the rules of a kind find, now."""
    return [fault for rule in kind.rules for fault in rule(context, form)]


def _resolved(
    cells: Sequence[Cell], context: FormContext, number: int, written: Mapping[str, str], faults: list[CellFault]
) -> FormRow:
    resolved: dict[str, object] = {}
    for cell in cells:
        text = written.get(cell.name, "").strip()
        if not text:
            if cell.required:
                faults.append(CellFault(number, cell.name, message("empty", title=cell.title)))
            continue
        try:
            resolved[cell.name] = cell.read(context, text)
        except (Invalid, NotFound, Conflict) as error:
            faults.append(CellFault(number, cell.name, problem_text(error)))
    return FormRow(number, written, resolved)


def problem_text(error: DomainError) -> str | LocalizedMessage:
    """Return what a person is told of an error."""
    return error.message if isinstance(error, Invalid) else str(error)


def _in_order(kind: ApplicationKind, faults: Sequence[CellFault]) -> list[CellFault]:
    """Return faults in the order of the paper, each once."""
    columns = {cell.name: n for n, cell in enumerate((*kind.form_cells, *kind.columns))}
    unique = {(fault.row, fault.column, str(fault.problem)): fault for fault in faults}
    return sorted(unique.values(), key=lambda fault: (fault.row, columns.get(fault.column, -1)))


def each_row(form: Form, *columns: str) -> Iterator[FormRow]:
    """Yield the rows in which all these cells name something."""
    return (row for row in form.rows if row.has(*columns))
