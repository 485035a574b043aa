"""Import of units, people, devices and bindings from one file: all or nothing; the same file twice changes nothing.

One transaction writes everything, some hundred rows at a time: 3 000 units with 20 000 zones take less than half a
minute, and twice as many twice as long (benchmarks/imports.py; tests/integration/test_import_at_length.py counts the
statements). For that time SQLite's only writer is taken: import while nothing else runs, or unit by unit.
"""

from collections.abc import Callable
from pathlib import Path

from coldchain.importing import contacts, devices, units_and_people
from coldchain.importing.columns import (
    ContactRow,
    EquipmentRow,
    GatewayRow,
    PersonRow,
    ProbeRow,
    UnitRow,
    WindowRow,
    ZoneRow,
)
from coldchain.importing.import_file_reader import read
from coldchain.importing.import_run import ImportRun, RowOutcome, warnings_of
from coldchain.importing.mistakes import Mistake
from coldchain.importing.report import ImportReport, Issued
from config import secrets
from core.db.crypto import FieldCipher
from core.db.engine import Records
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.divisions import Divisions, shipped

__all__ = ["ImportReport", "Issued", "Mistake", "RowOutcome", "import_file"]

Progress = Callable[[int, int], None]
"""Called with the number of rows done and the number of all."""


def import_file(
    records: Records,
    data_dir: str,
    path: Path,
    *,
    actor: Actor,
    now: Instant,
    divisions: Divisions | None = None,
    progress: Progress = lambda _done, _all: None,
) -> ImportReport:
    """Make the records say what a file says, and issue broker passwords to its gateways that have none.

    Codes of units are checked against `divisions`, by default those that ship.

    Raises: NoSecrets before anything is read.
    """
    kept = secrets.read(data_dir)
    cipher = FieldCipher(kept)
    file = read(path)
    warnings = warnings_of(file, now)
    try:
        with records.write() as tx:
            run = ImportRun(
                tx,
                actor,
                cipher,
                file,
                services=kept.services,
                divisions=divisions or shipped(),
                now=now,
                progress=progress,
            )
            _write(run)
            _take_back_if_mistaken(run)
    except _TakenBack as taken_back:
        return ImportReport({}, sorted(taken_back.mistakes, key=lambda mistake: mistake.place), [], warnings)
    numbers = [entry.row.number for entry in file.entries if isinstance(entry.row, GatewayRow)]
    issued = secrets.issue_gateway_passwords(data_dir, numbers)
    return ImportReport(dict(run.outcomes), [], [Issued(*each) for each in issued.items()], warnings)


class _TakenBack(Exception):
    """Raised to roll the transaction back."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes


def _take_back_if_mistaken(run: ImportRun) -> None:
    if run.mistakes:
        raise _TakenBack(run.mistakes)


def _write(run: ImportRun) -> None:
    units_and_people.write_units(run, run.rows(UnitRow))
    units_and_people.write_people(run, run.rows(PersonRow))
    devices.write_equipment(run, run.rows(EquipmentRow))
    devices.write_zones(run, run.rows(ZoneRow))
    devices.write_gateways(run, run.rows(GatewayRow))
    devices.write_probes(run, run.rows(ProbeRow))
    devices.write_windows(run, run.rows(WindowRow))
    contacts.write_levels(run, run.rows(PersonRow))
    contacts.write_contacts(run, run.rows(ContactRow))
