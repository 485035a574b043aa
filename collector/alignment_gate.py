"""Gate of a process: nothing is appended, acknowledged, followed or pruned while a cursor of the log is misplaced.

Collector and writer have one each; neither asks the other. Readings are acknowledged only once it is known that every
reader will come to them: the gate looks before the first append, and again every `EVERY_S`. A store that can't be asked
holds nothing up: what was found of it last counts, and the log itself refuses to end before what this process has
appended to it. A log whose entries can't be read where a cursor stands shuts the gate: nobody knows which log it is.
`core.health.cursor_alignment` compares.
"""

import threading
from collections.abc import Callable, Mapping, Sequence

from core.db.engine import Records
from core.health.concurrent_checks import CheckResult, ConcurrentChecks
from core.health.cursor_alignment import MisplacedCursor, of_records, of_telemetry, troubles_of, within
from core.intake.port import IntakeLog, IntakeUnavailable
from core.runtime.clock import real_now
from core.runtime.logs import logger
from core.runtime.trouble import Trouble, TroubleKind, Troubles, first_line, kind_of
from core.telemetry.port import Telemetry
from core.wire.shards import Shard

log = logger(__name__)

EVERY_S = 2.0
WITHIN_S = 2.0


class AlignmentGate:
    """Gate of one process. `run` in a thread; the rest may be called from any."""

    def __init__(
        self, intake: IntakeLog, telemetry: Telemetry, records: Records, *, shards: tuple[Shard, Shard]
    ) -> None:
        """`shards` are the first and the last of the process's own."""
        self._checks: ConcurrentChecks[list[MisplacedCursor]] = ConcurrentChecks(
            {
                "intake log": self._check_log,
                "telemetry": lambda: within(shards, of_telemetry(intake, telemetry)),
                "records": lambda: within(shards, of_records(intake, records)),
            }
        )
        self._intake = intake
        self._is_sound = False
        """Whether the pages of the log's file were checked since it was last in doubt."""
        self._found: dict[str, list[MisplacedCursor]] = {}
        self._epoch = 0
        self._aligned = False
        self._log_name = self._aligned_log = ""
        """Name that the log has now, and had when the gate opened: a realignment gives it another one."""
        self._check_requested = threading.Event()
        self._troubles = Troubles()

    def epoch(self) -> int | None:
        """Return a number while all is aligned, None while it isn't.

        It is another one after each time that it wasn't, and after each realignment, seen or not: cursors may have been
        placed elsewhere, so readers that see another number read theirs again.
        """
        return self._epoch if self._aligned else None

    def doubt(self) -> None:
        """Close the gate until the next check, which is soon: a store was replaced while it was open."""
        self._aligned = False
        self._is_sound = False
        self._found.pop("intake log", None)
        self.wake()

    def wake(self) -> None:
        """Let `run` check now, or end."""
        self._check_requested.set()

    def troubles(self) -> list[Trouble]:
        """Return what is misplaced now, for the status file."""
        return self._troubles.now()

    def check(self) -> bool:
        """Check all stores; return whether everything is aligned."""
        results = self._checks.run(WITHIN_S)
        for part, result in results.items():
            if result.answered and result.value is not None:
                self._found[part] = result.value
        troubles = troubles_of(each for some in self._found.values() for each in some)
        if error := self._log_error(results):
            troubles.append(Trouble("intake log", kind_of(error), real_now(), detail=first_line(error)))
        if self._troubles.set(troubles):
            log.warning("alignment of log and stores", misplaced=[f"{one.part}: {one.detail}" for one in troubles])
        aligned = "intake log" in self._found and not troubles
        log_name = self._log_name
        if aligned and (not self._aligned or log_name != self._aligned_log):
            self._epoch += 1
            self._aligned_log = log_name
        self._aligned = aligned
        return aligned

    def _log_error(self, results: Mapping[str, CheckResult[list[MisplacedCursor]]]) -> Exception | None:
        """Return why the log can't be trusted: it never answered, or an entry that a cursor stands at is damaged."""
        if "intake log" not in self._found and results["intake log"].error:
            return results["intake log"].error
        errors = [result.error for result in results.values() if isinstance(result.error, IntakeUnavailable)]
        return next((error for error in errors if kind_of(error) is TroubleKind.DAMAGED), None)

    def _check_log(self) -> list[MisplacedCursor]:
        """Ask whether the log answers; before the gate opens, whether it is sound: a damaged one would lose more."""
        self._log_name = "".join(self._intake.names()[-1:])
        if not self._is_sound:
            if damage := self._intake.damage():
                msg = f"damaged: {damage[0]}"
                raise IntakeUnavailable(msg)
            self._is_sound = True
        return []

    def run(self, stop: threading.Event, mirrors: Sequence[Callable[[], None]] = ()) -> None:
        """Check until `stop`; while all is aligned, tell the log how far its readers are (`mirrors`)."""
        while not stop.is_set():
            self._check_requested.clear()
            try:
                if self.check():
                    for mirror in mirrors:
                        mirror()
            except IntakeUnavailable:
                pass  # whoever appends or reads says so
            except Exception:
                log.exception("alignment not checked")
            self._check_requested.wait(EVERY_S)
