"""Form of an application as its page shows it: each cell with its text and its faults, and all faults as a list."""

from collections.abc import Mapping, Sequence

import msgspec

from api.pages.texts import Texts
from config.localized_message import LocalizedMessage
from core.units.tables import Unit
from core.workflow.form import FORM_FIELDS, CellFault, DraftContent
from core.workflow.kinds import ApplicationKind, Cell

FEWEST_ROWS = 3
BLANK_ROWS = 1
MORE_ROWS = 10


class CellView(msgspec.Struct, frozen=True):
    """Cell with what is written in it, and what is wrong with that."""

    id: str
    name: str
    """Name under which a browser sends it."""
    title: str
    is_required: bool
    options: Sequence[str]
    value: str
    reasons: Sequence[str] = ()
    stored: str | None = None
    """What somebody else has stored meanwhile, if it is something else."""


class RowView(msgspec.Struct, frozen=True):
    """Row of the form."""

    number: int
    cells: Sequence[CellView]
    reasons: Sequence[str]


class ListedFault(msgspec.Struct, frozen=True):
    """Line of the list of faults. `target` is the id of the cell to which it leads; empty for the whole form."""

    target: str
    place: str
    reason: str


class FormView(msgspec.Struct, frozen=True):
    """Form with all its cells and faults."""

    fields: Sequence[CellView]
    rows: Sequence[RowView]
    columns: Sequence[Cell]
    faults: Sequence[ListedFault]
    most_rows: int


def suggested_content(kind: ApplicationKind, unit: Unit) -> DraftContent:
    """Return what a new form of a unit has already."""
    return DraftContent({cell.name: cell.suggested(unit) for cell in kind.form_cells if cell.suggested is not None})


def form_view(
    words: Texts,
    kind: ApplicationKind,
    content: DraftContent,
    *,
    faults: Sequence[CellFault] = (),
    stored: DraftContent | None = None,
    rows_shown: int = 0,
) -> FormView:
    """Return a form for its page, with some blank rows. `stored`: what somebody else has stored meanwhile."""
    rows = list(content.rows)
    shown = min(kind.most_rows, max(len(rows) + BLANK_ROWS, FEWEST_ROWS, rows_shown))
    rows += [{}] * (shown - len(rows))
    cells = {FORM_FIELDS: kind.form_cells}
    cells.update(dict.fromkeys(range(1, len(rows) + 1), kind.columns))
    written: Sequence[Mapping[str, str]] = (content.fields, *rows)
    known = {(number, cell.name): cell for number, in_row in cells.items() for cell in in_row}
    reasons: dict[tuple[int, str], list[str]] = {}
    listed = []
    for fault in faults:
        cell = known.get((fault.row, fault.column))
        is_blank = cell is not None and cell.required and not written[fault.row].get(fault.column, "").strip()
        reason = words("form.missing") if is_blank else problem_text(words, fault.problem)
        reasons.setdefault((fault.row, fault.column), []).append(reason)
        target = cell_id(fault.row, fault.column) if cell else f"r{fault.row}" if 0 < fault.row < len(written) else ""
        listed.append(ListedFault(target, _place(words, fault.row, cell), reason))

    def view(number: int, cell: Cell) -> CellView:
        value = written[number].get(cell.name, "")
        other = None if stored is None else _stored_cell(stored, number, cell.name)
        return CellView(
            id=cell_id(number, cell.name),
            name=f"{'f' if number == FORM_FIELDS else f'r{number}'}.{cell.name}",
            title=cell.title,
            is_required=cell.required,
            options=cell.options if not cell.options or not value or value in cell.options else (*cell.options, value),
            value=value,
            reasons=reasons.get((number, cell.name), ()),
            stored=None if other == value else other,
        )

    return FormView(
        fields=[view(FORM_FIELDS, cell) for cell in kind.form_cells],
        rows=[
            RowView(number, [view(number, cell) for cell in kind.columns], reasons.get((number, ""), ()))
            for number in range(1, len(written))
        ],
        columns=kind.columns,
        faults=listed,
        most_rows=kind.most_rows,
    )


def cell_id(row: int, column: str) -> str:
    """Return the id of a cell in the page."""
    return f"{'f' if row == FORM_FIELDS else f'r{row}'}-{column}"


def problem_text(words: Texts, problem: object) -> str:
    """Return what is wrong in the reader's language, as far as it is known in it."""
    return problem.text(words.language) if isinstance(problem, LocalizedMessage) else str(problem)


def error_text(words: Texts, error: Exception) -> str:
    """Return the text of an error in the reader's language, as far as it is known in it."""
    return problem_text(words, error.args[0] if error.args else "")


def _place(words: Texts, row: int, cell: Cell | None) -> str:
    title = cell.title if cell else ""
    if row == FORM_FIELDS:
        return title
    return words("application.row_cell", row=row, title=title) if title else words("application.row", row=row)


def _stored_cell(stored: DraftContent, number: int, name: str) -> str:
    if number == FORM_FIELDS:
        return stored.fields.get(name, "")
    return stored.rows[number - 1].get(name, "") if number <= len(stored.rows) else ""
