"""Forms of applications: cells, rows and their faults, as values without a database."""

from collections.abc import Mapping, Sequence

import msgspec

from config.localized_message import LocalizedMessage
from core.errors import DomainError
from core.ids import EquipmentId, GatewayId, ProbeId, ZoneId

FORM_FIELDS = 0
"""Number of the row that holds the fields of the form itself."""


class CellFault(msgspec.Struct, frozen=True):
    """What is wrong with a cell, a row (no column) or the form (row 0, no column). A warning doesn't stop the form."""

    row: int
    column: str
    problem: str | LocalizedMessage
    is_warning: bool = False


class FormRejected(DomainError):
    """A form has faults, and nothing of it was submitted. `faults` are all of them, by row and column."""

    def __init__(self, faults: Sequence[CellFault]) -> None:
        super().__init__("; ".join(f"row {fault.row}, {fault.column}: {fault.problem}" for fault in faults))
        self.faults = faults


class DraftContent(msgspec.Struct, frozen=True):
    """Cells of a form as somebody wrote them: those of the form itself, and those of each row."""

    fields: Mapping[str, str] = {}
    rows: Sequence[Mapping[str, str]] = ()


class FormRow(msgspec.Struct, frozen=True):
    """Row of a form: its cells as written, and what they name. A cell with a fault names nothing."""

    number: int
    written: Mapping[str, str]
    resolved: Mapping[str, object] = {}

    def has(self, *columns: str) -> bool:
        """Return whether all these cells name something."""
        return all(self.resolved.get(column) is not None for column in columns)

    def __getitem__(self, column: str) -> object:
        """Return what a cell names; None for an empty one."""
        return self.resolved.get(column)

    def text(self, column: str) -> str:
        """Return the text of a cell, empty if nothing was written."""
        found = self.resolved.get(column)
        return found if isinstance(found, str) else ""

    def integer(self, column: str) -> int:
        """Return the number of a cell.

        Raises: TypeError for a cell that names no number.
        """
        found = self.resolved.get(column)
        if not isinstance(found, int):
            msg = f"row {self.number} has no number in {column}"
            raise TypeError(msg)
        return found

    def is_yes(self, column: str) -> bool:
        """Return whether a cell says yes (是)."""
        return self.resolved.get(column) is True

    def equipment(self, column: str) -> EquipmentId:
        return EquipmentId(self.integer(column))

    def zone(self, column: str) -> ZoneId:
        return ZoneId(self.integer(column))

    def probe(self, column: str) -> ProbeId:
        return ProbeId(self.integer(column))

    def gateway(self, column: str) -> GatewayId:
        return GatewayId(self.integer(column))


class Form(msgspec.Struct, frozen=True):
    """Form of a round: its own fields, and its rows."""

    fields: FormRow
    rows: Sequence[FormRow]

    def __getitem__(self, field: str) -> object:
        """Return what a field of the form itself names; None for an empty one."""
        return self.fields[field]
