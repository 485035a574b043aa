"""Units, people, devices and their bindings from one file: all or nothing, and the same file twice changes nothing.

One transaction writes everything, so an import of thousands of rows holds SQLite's only writer for seconds: on one
machine, import a province unit by unit, or while nothing else runs.
"""

from pathlib import Path
from typing import TypeVar

import msgspec

from coldchain.importing import devices, staff, telling
from coldchain.importing.files import File, Mistake, read
from coldchain.importing.rows import (
    ContactRow,
    EquipmentRow,
    GatewayRow,
    PersonRow,
    ProbeRow,
    Row,
    UnitRow,
    WindowRow,
    ZoneRow,
)
from coldchain.importing.run import Outcome, Run
from config import secrets
from core.db.crypto import FieldCipher
from core.db.engine import Records
from core.runtime.instant import Instant
from core.units.actor import Actor

__all__ = ["ImportReport", "Issued", "Mistake", "Outcome", "import_file"]

RowT = TypeVar("RowT", bound=Row)


class Issued(msgspec.Struct, frozen=True):
    """A broker password that was made for a gateway now. Shown once: put it into the gateway's secrets."""

    gateway: str
    password: str


class ImportReport(msgspec.Struct, frozen=True):
    """What an import did; with mistakes, nothing."""

    outcomes: dict[tuple[str, Outcome], int]
    """How many of which type were added, changed, left as they are."""
    mistakes: list[Mistake]
    issued: list[Issued]

    @property
    def changed(self) -> bool:
        """Whether anything is in the records now that wasn't."""
        return any(outcome is not Outcome.UNCHANGED for _, outcome in self.outcomes)

    def lines(self) -> list[str]:
        """Say it, one line a thing."""
        if self.mistakes:
            return [*map(str, self.mistakes), f"nothing was imported; mend {len(self.mistakes)} first"]
        if not self.changed:
            said = [f"nothing to do: all {sum(self.outcomes.values())} are in the records as the file says"]
        else:
            said = [f"{count} {what} {outcome}" for (what, outcome), count in sorted(self.outcomes.items())]
        return said + [f"gateway {one.gateway}: broker password {one.password} (shown only now)" for one in self.issued]


def import_file(records: Records, data_dir: str, path: Path, *, actor: Actor, now: Instant) -> ImportReport:
    """Bring the records to what a file says, and issue broker passwords to its gateways that have none.

    Raises: NoSecrets before anything is read.
    """
    kept = secrets.read(data_dir)
    cipher = FieldCipher(kept)
    file = read(path)
    try:
        with records.write() as tx:
            run = Run(tx, actor, cipher, file, services=kept.services, now=now)
            _write(run, file)
            _take_back_if_mistaken(run)
    except _TakenBack:
        return ImportReport({}, run.mistakes, [])
    numbers = [row.number for row in file.rows if isinstance(row, GatewayRow)]
    return ImportReport(dict(run.outcomes), [], _issue(data_dir, numbers))


class _TakenBack(Exception):
    """Ends the transaction without a trace."""


def _take_back_if_mistaken(run: Run) -> None:
    if run.mistakes:
        raise _TakenBack


def _write(run: Run, file: File) -> None:
    def of(kind: type[RowT]) -> list[RowT]:
        return [row for row in file.rows if isinstance(row, kind)]

    units, circles = staff.parents_first(of(UnitRow))
    run.mistakes += circles
    run.each(units, staff.write_unit)
    run.each(of(PersonRow), staff.write_person)
    run.each(of(EquipmentRow), devices.write_equipment)
    run.each(of(ZoneRow), devices.write_zone)
    run.each(of(GatewayRow), devices.write_gateway)
    run.each(of(ProbeRow), devices.write_probe)
    run.each(of(WindowRow), devices.write_window)
    telling.write_levels(run, of(PersonRow))
    telling.write_contacts(run, of(ContactRow))


def _issue(data_dir: str, numbers: list[str]) -> list[Issued]:
    """Issue after the commit; after a crash in between, the next import of the file does."""
    known = secrets.read(data_dir).broker
    return [Issued(number, secrets.gateway_password(data_dir, number)) for number in numbers if number not in known]
