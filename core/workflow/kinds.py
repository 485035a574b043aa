"""Kinds of applications: declarations of a form, its route, and what it does once filed.

A kind is a value. A feature declares its kinds beside the rest of it, as `core/workflow/device_forms` does, and the
service puts all of them into one `KindRegistry`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from zoneinfo import ZoneInfo

import msgspec
from sqlalchemy.orm import Session

from core.errors import NotFound
from core.runtime.instant import Instant, Milliseconds, local_day
from core.units.rights import Right
from core.units.tables import Unit
from core.units.unit_levels import Level
from core.workflow.effects import Effect
from core.workflow.form import CellFault, Form, FormRow
from core.workflow.route import Route
from core.workflow.states import Payer


class FormContext(msgspec.Struct, frozen=True):
    """Where and when a form is checked: cells and rules look up what is there now."""

    tx: Session
    unit: Unit
    now: Instant
    linked: Form | None = None
    """Form of the linked application, as it was filed."""

    @property
    def today(self) -> date:
        """Date of the form: the day in the unit's time zone."""
        return local_day(self.now, ZoneInfo(self.unit.timezone))


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """Column of a form's rows, or a field of the form itself.

    `read` returns what the written text names, as a JSON value; it raises Invalid, NotFound or Conflict.
    """

    name: str
    title: str
    read: Callable[[FormContext, str], object]
    required: bool = True
    options: Sequence[str] = ()
    """Words of which one is to be written; a page offers them."""
    suggested: Callable[[Unit], str] | None = None
    """What a new form of a unit has here already."""


Rule = Callable[[FormContext, Form], Iterable[CellFault]]
"""Check over several cells. It sees only rows whose cells name something (`FormRow.has`)."""
PayerRule = Callable[[FormContext, Form, FormRow], Payer | CellFault]
Effects = Callable[[Form, FormRow], Iterable[Effect]]


def no_effects(_form: Form, _row: FormRow) -> Iterable[Effect]:
    """Return nothing: filing is all that happens."""
    return ()


class ApplicationKind(msgspec.Struct, frozen=True, kw_only=True):
    """Declaration of a form: its cells, rules, route, rights, payer and effects."""

    code: str
    version: int
    title: str
    header: Sequence[Cell] = ()
    fields: Sequence[Cell] = ()
    footer: Sequence[Cell] = ()
    columns: Sequence[Cell]
    rules: Sequence[Rule] = ()
    linked_kind: str | None = None
    """Kind of the filed application of the same unit that this one needs."""
    filed_with: Right = Right.FILE
    route: Route
    final_at: Sequence[Level] = ()
    """Levels whose reviewer may decide finally (本级终审)."""
    deadline: Milliseconds | None = None
    """Time for each review step."""
    payer: PayerRule | None = None
    effects: Effects = no_effects
    executed_with: Right = Right.EXECUTE
    on_site_with: Right | None = None
    """Right that is enough to execute single rows on site."""
    most_rows: int = 100

    @property
    def form_cells(self) -> Sequence[Cell]:
        """Cells of the form itself, in the order of the paper."""
        return (*self.header, *self.fields, *self.footer)

    @property
    def is_executed(self) -> bool:
        """Return whether anything happens after filing."""
        return self.effects is not no_effects


class KindRegistry:
    """All kinds of an installation, with the older versions that open applications still have."""

    def __init__(self, kinds: Iterable[ApplicationKind]) -> None:
        self._kinds: dict[tuple[str, int], ApplicationKind] = {}
        for kind in kinds:
            if (kind.code, kind.version) in self._kinds:
                msg = f"kind {kind.code} has two declarations of version {kind.version}"
                raise ValueError(msg)
            self._kinds[kind.code, kind.version] = kind

    def __iter__(self) -> Iterator[ApplicationKind]:
        """Iterate over the newest version of each kind."""
        codes = dict.fromkeys(code for code, _ in self._kinds)
        return iter(self.newest(code) for code in codes)

    def newest(self, code: str) -> ApplicationKind:
        """Return the version of a kind that new applications get.

        Raises: NotFound.
        """
        versions = [kind for kind in self._kinds.values() if kind.code == code]
        if not versions:
            raise NotFound(what="application kind", name=code)
        return max(versions, key=lambda kind: kind.version)

    def of(self, code: str, version: int) -> ApplicationKind:
        """Return a kind in the version that an application began with.

        Raises: NotFound.
        """
        try:
            return self._kinds[code, version]
        except KeyError:
            raise NotFound(what="application kind", name=f"{code} version {version}") from None
