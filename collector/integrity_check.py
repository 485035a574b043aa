"""Daily search for damage in intake log, telemetry and records.

Reads every checksum of log and telemetry, and the pages of every SQLite file: a byte that a disk has turned is noticed
when it is read, which may be months later, or never. Runs beside everything else, first when the writer starts, and
only reads. Tried by tests/scenario/test_restore.py.

SQLite has no checksums of its pages. Of the records it finds a broken page, an index that contradicts its table, a
value that a column may not have, and a reference to a row that isn't there; not a turned letter in a name. PostgreSQL
finds any turned byte itself where its cluster has `data_checksums`; `coldchain check` says where it hasn't.
"""

import threading
from collections.abc import Callable, Mapping

from sqlalchemy import text

from core.db.engine import Records
from core.intake.port import IntakeLog, IntakeUnavailable
from core.runtime.clock import monotonic
from core.runtime.logs import logger
from core.runtime.trouble import Trouble, TroubleKind, Troubles, first_line, kind_of
from core.telemetry.port import Telemetry

log = logger(__name__)

EVERY_S = 86_400.0
POLL_S = 0.5


class IntegrityCheck:
    """Result of one writer's last search. `run` in a thread; the rest may be called from any."""

    def __init__(self, intake: IntakeLog, telemetry: Telemetry, records: Records) -> None:
        self._searches: Mapping[str, Callable[[], list[str]]] = {
            "intake log": intake.verify,
            "telemetry": telemetry.damage,
            "records": lambda: damage_of_records(records),
        }
        self._troubles = Troubles()
        self._intake = intake

    def troubles(self) -> list[Trouble]:
        """Return what is damaged, for the status file."""
        return self._troubles.now()

    def search(self) -> None:
        """Search all stores. One that can't be read now for another reason is reported by whoever needs it."""
        for part, search in self._searches.items():
            try:
                damage = search()
            except Exception as error:  # noqa: BLE001 (whatever a driver raises)
                if kind_of(error) is not TroubleKind.DAMAGED:
                    log.info("not searched for damage", part=part, error=str(error))
                    continue
                damage = [first_line(error)]  # a server that refuses to read a damaged page
            detail = f"{damage[0]}" + (f", and {len(damage) - 1} more" if damage[1:] else "") if damage else ""
            if self._troubles.note(part, detail, kind=TroubleKind.DAMAGED) and damage:
                log.error("damage found", part=part, damage=damage)

    def run(self, stop: threading.Event, epoch: Callable[[], int | None]) -> None:
        """Search at the start, whenever stores were realigned, and once a day, until `stop`.

        Realigning gives the log another name. Often `epoch` has changed as well, but not if no cursor was misplaced.
        """
        searched, name, due = None, "", 0.0
        while not stop.is_set():
            current = epoch()
            if current is not None and (current != searched or monotonic() >= due or self._is_renamed(name)):
                name = self._name()
                self.search()
                searched, due = current, monotonic() + EVERY_S
            stop.wait(POLL_S)

    def _is_renamed(self, name: str) -> bool:
        """Return whether the log has another name since damage was found. Without damage nobody asks."""
        return bool(self._troubles.now()) and self._name() not in ("", name)

    def _name(self) -> str:
        """Return the log's name, empty while it can't be asked."""
        try:
            return self._intake.names()[-1]
        except IntakeUnavailable:
            return ""


def damage_of_records(records: Records) -> list[str]:
    """Return what SQLite finds wrong with the records; a server checks its own pages.

    The full check takes about a second for 100 MiB, in a read transaction that holds up no writer.
    """
    if not records.is_sqlite:
        return []
    with records.read() as tx:
        damage = [row[0] for row in tx.execute(text("PRAGMA integrity_check(3)"))]
        if damage != ["ok"]:
            return damage
        dangling = tx.execute(text("PRAGMA foreign_key_check")).fetchmany(3)
    missing = "refers to a row that isn't there, of"
    return [f"row {rowid} of {table} {missing} {parent}" for table, rowid, parent, _ in dangling]
