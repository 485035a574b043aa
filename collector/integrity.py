"""Search for damage in what is kept: every checksum of log and telemetry, the pages of every file, once a day.

Databases have no checksums of their pages, so a byte that a disk has turned is noticed when it is read, which may be
months later, or never. It runs beside everything else, at the collector's start first; it only reads.
"""

import threading
from collections.abc import Callable, Mapping

from sqlalchemy import text

from core.db.engine import Records
from core.intake.port import IntakeLog
from core.runtime.clock import monotonic
from core.runtime.logs import logger
from core.runtime.trouble import Kind, Trouble, Troubles
from core.telemetry.port import Telemetry

log = logger(__name__)

EVERY_S = 86_400.0
LOOK_S = 0.5


class Integrity:
    """What one collector found when it last searched. `run` in a thread; the rest may be called from any."""

    def __init__(self, intake: IntakeLog, telemetry: Telemetry, records: Records) -> None:
        self._searches: Mapping[str, Callable[[], list[str]]] = {
            "intake log": intake.verify,
            "telemetry": telemetry.damage,
            "records": lambda: damage_of_records(records),
        }
        self._troubles = Troubles()

    def troubles(self) -> list[Trouble]:
        """Return what is damaged, for the status file."""
        return self._troubles.now()

    def search(self) -> None:
        """Look through everything. What can't be read now is in other hands: whoever needs it says so."""
        for part, search in self._searches.items():
            try:
                damage = search()
            except Exception as error:  # noqa: BLE001 (whatever a driver raises)
                log.info("not searched for damage", part=part, error=str(error))
                continue
            said = f"{damage[0]}" + (f", and {len(damage) - 1} more" if damage[1:] else "") if damage else ""
            if self._troubles.note(part, said, kind=Kind.DAMAGED) and damage:
                log.error("damage found", part=part, damage=damage)

    def run(self, stop: threading.Event, epoch: Callable[[], int | None]) -> None:
        """Search at the start, whenever stores were placed anew (`epoch` is another), and once a day, until `stop`."""
        searched, due = None, 0.0
        while not stop.is_set():
            now = epoch()
            if now is not None and (now != searched or monotonic() >= due):
                self.search()
                searched, due = now, monotonic() + EVERY_S
            stop.wait(LOOK_S)


def damage_of_records(records: Records) -> list[str]:
    """Return what SQLite finds wrong with the pages of the records; a server looks after its own."""
    if not records.is_sqlite:
        return []
    with records.read() as tx:
        said = [row[0] for row in tx.execute(text("PRAGMA quick_check(3)"))]
    return [] if said == ["ok"] else said
