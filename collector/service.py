"""Process `coldchain collector`: its parts, its start and its end.

It starts before broker, records and store can be reached, and keeps trying. `status/collector.json` says what is
missing.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from collector.alignment_gate import AlignmentGate
from collector.counters import Counters
from collector.daily_figures import due_days
from collector.daily_figures.due_days import DueDays
from collector.daily_figures.rollup_worker import RollupWorker
from collector.integrity_check import IntegrityCheck
from collector.receiving.ingest import Ingest
from collector.storing.telemetry_writer import READER, TelemetryWriter
from config import secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting
from core.db.engine import Records, connect, url_for
from core.devices.directory import Directory
from core.health.concurrent_checks import ConcurrentChecks
from core.intake import quarantine_limits
from core.intake.factory import open_log
from core.intake.port import IntakeLog, IntakeUnavailable
from core.intake.shard_ownership import ShardOwnership
from core.mqtt.client import NEAR_S, BrokerAddress, MqttClient, MqttMessage
from core.runtime.barrier import report_idle
from core.runtime.clock import Clock, clock_from, monotonic
from core.runtime.instant import HOUR, Instant
from core.runtime.logs import logger
from core.runtime.status import StatusFields, StatusFile
from core.runtime.trouble import Trouble
from core.telemetry.factory import open_telemetry
from core.telemetry.port import Telemetry
from core.wire.shards import Shard
from core.wire.topics import UP

log = logger(__name__)

READERS = (READER, "alerting", due_days.READER)
UPKEEP_S = 60.0
OPEN_S = 0.5
DEPTH_WITHIN_S = 0.5
COUNT_S = 5.0
END_WITHIN_S = 8.0
"""Seconds between the order to stop and the end of the threads; one that hangs in a store ends with the process."""
_ALL = ("00", "ff")

T = TypeVar("T")


def run(settings: Settings, stop: threading.Event) -> None:
    """Collect until `stop`.

    Raises: NoSecrets, InvalidSetting, NewerLog: errors that waiting doesn't repair.
    """
    password = secrets.read(settings.data_dir).broker.get(settings.broker.username)
    if password is None:
        raise InvalidSetting(secrets.no_service_password(settings.broker.username, settings.data_dir))
    counts = Counters()
    status = StatusFile(settings.data_dir, "collector", settings.collector.process, rates=("readings", "stored"))
    opening = _Opening(counts, status, stop)
    clock = opening.until("clock", lambda: clock_from(settings.virtual_clock))
    intake = opening.until("intake log", lambda: open_log(settings.intake.url, settings.data_dir))
    telemetry = opening.until("telemetry", lambda: open_telemetry(settings))
    hanging: list[str] = []
    try:
        if clock and intake and telemetry:
            options = settings.collector
            shards = ShardOwnership(intake, "collector", options.client_id, options.shards, settings.data_dir)
            if opening.until("shards", shards.take):
                with shards.kept(stop):
                    collector = _Collector(settings, password, counts, clock, intake, telemetry)
                    hanging = collector.run(status, stop)
    finally:
        if hanging:
            log.warning("ended while something hung; nothing is lost", hanging=hanging)
        else:
            for store in (telemetry, intake):
                if store:
                    store.close()


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


class _Collector:
    """Wiring of the process: ingest, telemetry writer, daily figures, upkeep and broker connection."""

    def __init__(
        self,
        settings: Settings,
        password: str,
        counts: Counters,
        clock: Clock,
        intake: IntakeLog,
        telemetry: Telemetry,
    ) -> None:
        first, last = shards = _bounds(settings.collector.shards)
        records = Records(connect(url_for(settings.records.url, settings.data_dir)))
        alignment = AlignmentGate(intake, telemetry, records, shards=shards)
        writer = TelemetryWriter(
            intake, telemetry, Directory(records), clock, counts, shards=shards, alignment=alignment
        )
        self._settings = settings
        self._counts = counts
        self._clock = clock
        self._intake = intake
        self._telemetry = telemetry
        self._records = records
        self._alignment = alignment
        self._integrity = IntegrityCheck(intake, telemetry, records)
        self._writer = writer
        self._due_days = DueDays(
            intake,
            records,
            clock,
            shards=shards,
            stored=writer.stored,
            fresh_until=writer.fresh_until,
            timezone=settings.timezone,
            alignment=alignment,
        )
        self._rollups = RollupWorker(self._due_days, telemetry, records, clock, counts)
        self._ingest = Ingest(
            intake,
            clock,
            counts,
            group=settings.collector.group,
            linger=settings.collector.linger,
            grown=writer.wake,
            alignment=alignment,
        )
        self._bus = MqttClient(
            BrokerAddress.of(settings.broker),
            client_id=settings.collector.client_id,
            username=settings.broker.username,
            password=password,
            # The embedded broker keeps nothing for an absent client; another keeps what arrives meanwhile, in order.
            clean=settings.broker.embedded,
            on_message=self._receive,
            subscriptions=_filters(first, last),
            keep_alive_s=NEAR_S,
        )
        self._depth = ConcurrentChecks({"depth": _Depth(intake, writer).counts})

    def run(self, status: StatusFile, stop: threading.Event) -> list[str]:
        """Collect until `stop`; return the names of threads that don't end, whose stores can't be closed."""
        ingest, *others = self._threads(stop)
        for thread in (ingest, *others):
            thread.start()
        self._bus.start()
        others.append(status.keep(self._facts, stop, self._troubles))
        stop.wait()
        ends = monotonic() + END_WITHIN_S
        self._writer.wake()
        self._alignment.wake()
        ingest.join(END_WITHIN_S / 2)  # the messages that it is working on are still acknowledged
        bus_stop = threading.Thread(target=self._bus.stop, name="bus", daemon=True)
        bus_stop.start()
        hanging = _hanging([ingest, *others, bus_stop], ends)
        if not hanging:
            self._records.close()
        return hanging

    def _threads(self, stop: threading.Event) -> list[threading.Thread]:
        """Return the threads to start, ingest first."""
        mirrors = (self._writer.mirror, self._due_days.mirror)
        idle = (self._clock, self._settings.collector.process, self._is_idle, stop)
        return [
            threading.Thread(target=self._ingest.run, args=(self._bus, stop), name="ingest", daemon=True),
            threading.Thread(target=self._writer.run, args=(stop,), name="telemetry-writer", daemon=True),
            threading.Thread(target=self._rollups.run, args=(stop,), name="rollups", daemon=True),
            threading.Thread(target=self._upkeep, args=(stop,), name="upkeep", daemon=True),
            threading.Thread(
                target=self._integrity.run, args=(stop, self._alignment.epoch), name="integrity", daemon=True
            ),
            threading.Thread(target=self._alignment.run, args=(stop, mirrors), name="alignment", daemon=True),
            threading.Thread(target=report_idle, args=idle, name="barrier", daemon=True),
        ]

    def _receive(self, message: MqttMessage) -> None:
        if not self._ingest.take(message):
            # Its sender keeps it until a `down/ack`. A message without our acknowledgement would count against the
            # number that the broker sends us.
            self._bus.ack(message)

    def _is_idle(self) -> bool:
        return self._bus.connected and self._ingest.is_idle and self._writer.is_idle

    def _facts(self) -> StatusFields:
        self._counts.problem("broker", self._bus.problem)
        self._writer.report_slow_write()
        # A log that hangs must not keep the other facts from being reported.
        depth = self._depth.run(DEPTH_WITHIN_S)["depth"].value or {}
        connected, shards = self._bus.connected, self._settings.collector.shards
        return {**depth, **self._counts.facts(), "connected": connected, "shards": shards}

    def _troubles(self) -> list[Trouble]:
        return [*self._counts.troubles(), *self._alignment.troubles(), *self._integrity.troubles()]

    def _upkeep(self, stop: threading.Event) -> None:
        """Compact the store and prune the log, a little every minute. If one fails the other goes on."""
        while not stop.wait(UPKEEP_S):
            for part, work in (("sealing", self._seal), ("pruning", self._prune)):
                try:
                    work()
                except Exception as error:
                    if self._counts.problem(part, error):
                        log.exception("upkeep failed", part=part)
                else:
                    self._counts.problem(part, "")

    def _seal(self) -> None:
        self._telemetry.seal(Instant(self._clock.now() - HOUR))

    def _prune(self) -> None:
        if self._alignment.epoch() is None:
            return  # entries that a misplaced cursor has yet to read must stay
        kept_since = Instant(self._clock.now() - round(self._settings.intake.keep * 1000))
        pruned = self._intake.prune(before=kept_since, readers=READERS)
        if pruned:
            log.info("intake log pruned", entries=pruned)
        prune_quarantine(self._intake, self._clock, self._counts)


def _bounds(shards: str) -> tuple[Shard, Shard]:
    """Return the first and the last shard of a range such as `00-ff`."""
    first, last = shards.split("-")
    return Shard(first), Shard(last)


def _hanging(threads: Sequence[threading.Thread], ends: float) -> list[str]:
    """Wait for threads until `ends` of the monotonic clock; return the names of those still running."""
    for thread in threads:
        thread.join(max(0.0, ends - monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]


def _filters(first: Shard, last: Shard) -> list[str]:
    """Return the topic filters to subscribe to. One for everything: 256 of them halve the embedded broker's speed."""
    if (first, last) == _ALL:
        return [UP]
    return [f"cc/v1/{shard:02x}/+/up/#" for shard in range(int(first, 16), int(last, 16) + 1)]


class _Depth:
    """Count of waiting entries. Quarantine is counted only now and then: it may be large."""

    def __init__(self, intake: IntakeLog, writer: TelemetryWriter) -> None:
        self._intake = intake
        self._writer = writer
        self._held: dict[str, int] = {}
        self._count_at = 0.0

    def counts(self) -> dict[str, int]:
        try:
            if monotonic() >= self._count_at:
                self._held = {f"held_{reason}": n for reason, n in self._intake.count_held().items()}
                self._count_at = monotonic() + COUNT_S
            return {"writer_lag": self._writer.lag(), **self._held}
        except IntakeUnavailable:
            return {}  # ingest and writer report this themselves


def prune_quarantine(intake: IntakeLog, clock: Clock, counts: Counters) -> None:
    """Drop the oldest readings of a quarantine that is beyond its bounds."""
    now = clock.now()
    dropped = intake.prune_held(
        before=Instant(now - quarantine_limits.KEPT), most=quarantine_limits.MOST_OF_A_GATEWAY, now=now
    )
    if dropped:
        counts.add("dropped", dropped)
        log.error("readings dropped from quarantine", readings=dropped)
