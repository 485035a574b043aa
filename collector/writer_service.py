"""Process `coldchain writer`: stores the readings of the intake log, and computes daily figures.

A reader of the log like alerting, with nothing else in common with the collector (docs/adr/0016). It starts before log,
records and store can be reached, and keeps trying. `status/writer.json` says what is missing.
"""

import threading

from collector.alignment_gate import AlignmentGate
from collector.counters import STORING, Counters
from collector.daily_figures.due_days import DueDays
from collector.daily_figures.rollup_worker import RollupWorker
from collector.integrity_check import IntegrityCheck
from collector.lifecycle import (
    END_WITHIN_S,
    OpenedStores,
    Worker,
    do_each,
    hanging_threads,
    run_with_stores,
    shard_bounds,
)
from collector.storing.telemetry_writer import TelemetryWriter
from config.settings import Settings
from core.devices.directory import Directory
from core.health.concurrent_checks import ConcurrentChecks
from core.runtime.barrier import report_idle
from core.runtime.clock import monotonic
from core.runtime.instant import HOUR, Instant
from core.runtime.status import StatusFields, StatusFile
from core.runtime.trouble import Trouble

UPKEEP_S = 60.0
LAG_WITHIN_S = 0.5


def run(settings: Settings, stop: threading.Event) -> None:
    """Store until `stop`.

    Raises: NoSecrets, InvalidSetting, NewerLog, NewerFile: errors that waiting doesn't repair.
    """
    options = settings.writer
    counts = Counters(STORING)
    status = StatusFile(settings.data_dir, "writer", options.process, rates=("stored",))
    worker = Worker("writer", options.worker, options.shards, writes_telemetry=True)
    run_with_stores(
        settings, worker, counts, status, stop, lambda stores: _Writer(settings, counts, stores).run(status, stop)
    )


class _Writer:
    """Wiring of the process: telemetry writer, daily figures, sealing, and the search for damage."""

    def __init__(self, settings: Settings, counts: Counters, stores: OpenedStores) -> None:
        shards = shard_bounds(settings.writer.shards)
        clock, intake, telemetry, records = stores
        self._settings = settings
        self._counts = counts
        self._clock = clock
        self._telemetry = telemetry
        self._alignment = AlignmentGate(intake, telemetry, records, shards=shards)
        self._integrity = IntegrityCheck(intake, telemetry, records)
        self._writer = TelemetryWriter(
            intake, telemetry, Directory(records), clock, counts, shards=shards, alignment=self._alignment
        )
        self._due_days = DueDays(
            intake,
            records,
            clock,
            shards=shards,
            stored=self._writer.stored,
            fresh_until=self._writer.fresh_until,
            timezone=settings.timezone,
            alignment=self._alignment,
        )
        self._rollups = RollupWorker(self._due_days, telemetry, records, clock, counts)
        self._lag = ConcurrentChecks({"lag": self._writer.lag})

    def run(self, status: StatusFile, stop: threading.Event) -> list[str]:
        """Store until `stop`; return the names of threads that don't end, whose stores can't be closed."""
        threads = self._threads(stop)
        for thread in threads:
            thread.start()
        threads.append(status.keep(self._facts, stop, self._troubles))
        stop.wait()
        ends = monotonic() + END_WITHIN_S
        self._writer.wake()
        self._alignment.wake()
        return hanging_threads(threads, ends)

    def _threads(self, stop: threading.Event) -> list[threading.Thread]:
        mirrors = (self._writer.mirror, self._due_days.mirror)
        idle = (self._clock, self._settings.writer.process, self._writer.is_idle, stop)
        return [
            threading.Thread(target=self._writer.run, args=(stop,), name="telemetry-writer", daemon=True),
            threading.Thread(target=self._rollups.run, args=(stop,), name="rollups", daemon=True),
            threading.Thread(target=self._upkeep, args=(stop,), name="upkeep", daemon=True),
            threading.Thread(
                target=self._integrity.run, args=(stop, self._alignment.epoch), name="integrity", daemon=True
            ),
            threading.Thread(target=self._alignment.run, args=(stop, mirrors), name="alignment", daemon=True),
            threading.Thread(target=report_idle, args=idle, name="barrier", daemon=True),
        ]

    def _facts(self) -> StatusFields:
        self._writer.report_slow_write()
        facts = {**self._counts.facts(), "shards": self._settings.writer.shards}
        # A log that hangs must not keep the other facts from being reported.
        lag = self._lag.run(LAG_WITHIN_S)["lag"].value
        return facts if lag is None else {"writer_lag": lag, **facts}

    def _troubles(self) -> list[Trouble]:
        return [*self._counts.troubles(), *self._alignment.troubles(), *self._integrity.troubles()]

    def _upkeep(self, stop: threading.Event) -> None:
        """Compact the store, a little every minute."""
        while not stop.wait(UPKEEP_S):
            do_each(self._counts, sealing=self._seal)

    def _seal(self) -> None:
        self._telemetry.seal(Instant(self._clock.now() - HOUR))
