"""Lifecycle of a process on intake log and telemetry: it opens them once they can be reached, and ends in time.

Both services of this folder begin and end so: `collector.service` and `collector.writer_service`.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from collector.counters import Counters
from config.settings import Settings
from core.db.engine import Records, connect, url_for
from core.intake.factory import open_log
from core.intake.port import IntakeLog, IntakeUnavailable
from core.intake.shard_ownership import ShardOwnership
from core.runtime.clock import Clock, clock_from, monotonic
from core.runtime.logs import logger
from core.runtime.status import StatusFile
from core.telemetry.factory import open_telemetry
from core.telemetry.port import Telemetry
from core.wire.shards import Shard

log = logger(__name__)

OPEN_S = 0.5
END_WITHIN_S = 7.0
"""Seconds between the order to stop and the end of the threads; one that hangs in a store ends with the process."""
CLOSE_WITHIN_S = 1.5
"""Seconds for closing the stores: SQLite's last connection to a file writes its write-ahead log back."""

T = TypeVar("T")


class _Closes(Protocol):
    def close(self) -> None: ...


class Worker(NamedTuple):
    """Process that owns a range of shards."""

    service: str
    name: str
    """Name of its claim."""
    shards: str
    """Range such as `00-7f`."""
    writes_telemetry: bool


class OpenedStores(NamedTuple):
    """Clock and stores of a running process."""

    clock: Clock
    intake: IntakeLog
    telemetry: Telemetry
    records: Records


def run_with_stores(
    settings: Settings,
    worker: Worker,
    counts: Counters,
    status: StatusFile,
    stop: threading.Event,
    run: Callable[[OpenedStores], list[str]],
) -> None:
    """Open clock and stores, claim the shards, and call `run`, which works until `stop` and returns hanging threads.

    The stores are closed unless a thread hangs in one of them.

    Raises: InvalidSetting when another worker has some of the shards; NewerLog.
    """
    opening = _Opening(counts, status, stop)
    read_only = not worker.writes_telemetry
    clock = opening.until("clock", lambda: clock_from(settings.virtual_clock))
    intake = opening.until("intake log", lambda: open_log(settings.intake.url, settings.data_dir))
    telemetry = opening.until("telemetry", lambda: open_telemetry(settings, read_only=read_only))
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    hanging: list[str] = []
    try:
        if clock and intake and telemetry:
            shards = ShardOwnership(intake, worker.service, worker.name, worker.shards, settings.data_dir)
            if opening.until("shards", shards.take):
                with shards.kept(stop):
                    hanging = run(OpenedStores(clock, intake, telemetry, records))
    finally:
        hanging = hanging or _close([store for store in (records, telemetry, intake) if store])
        if hanging:
            log.warning("ended while something hung; nothing is lost", hanging=hanging)


def _close(stores: Sequence[_Closes]) -> list[str]:
    """Close the stores; return the names of those that don't close in time. Whatever they did is durable by now."""
    closing = [threading.Thread(target=store.close, name=type(store).__name__, daemon=True) for store in stores]
    for thread in closing:
        thread.start()
    return hanging_threads(closing, monotonic() + CLOSE_WITHIN_S)


class _Opening:
    """Opening of stores that may not be reachable yet."""

    def __init__(self, counts: Counters, status: StatusFile, stop: threading.Event) -> None:
        self._counts = counts
        self._status = status
        self._stop = stop

    def until(self, part: str, open_part: Callable[[], T]) -> T | None:
        """Try until it opens; return None when `stop` came first."""
        while not self._stop.is_set():
            try:
                store = open_part()
            except (OSError, sqlite3.Error, IntakeUnavailable) as error:
                if self._counts.problem(part, error):
                    log.warning("not there yet", part=part, error=str(error))
                self._status.write(self._counts.facts(), self._counts.troubles())
                self._stop.wait(OPEN_S)
            else:
                self._counts.problem(part, "")
                return store
        return None


def do_each(counts: Counters, **upkeep: Callable[[], None]) -> None:
    """Do each part of the upkeep; one that fails is told under its name, and the others go on."""
    for part, work in upkeep.items():
        try:
            work()
        except Exception as error:
            if counts.problem(part, error):
                log.exception("upkeep failed", part=part)
        else:
            counts.problem(part, "")


def shard_bounds(shards: str) -> tuple[Shard, Shard]:
    """Return the first and the last shard of a range such as `00-ff`."""
    first, last = shards.split("-")
    return Shard(first), Shard(last)


def hanging_threads(threads: Sequence[threading.Thread], ends: float) -> list[str]:
    """Wait for threads until `ends` of the monotonic clock; return the names of those still running."""
    for thread in threads:
        thread.join(max(0.0, ends - monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]
