"""Process `coldchain collector`: takes in what gateways send, and prunes the log. Its parts, its start and its end.

It starts before broker, records and stores can be reached, and keeps trying. `status/collector.json` says what is
missing. Telemetry is only read, to see that its cursor fits: `collector.writer_service` writes it.
"""

import threading

from collector.alignment_gate import AlignmentGate
from collector.counters import RECEIVING, Counters
from collector.lifecycle import (
    END_WITHIN_S,
    OpenedStores,
    Worker,
    do_each,
    hanging_threads,
    run_with_stores,
    shard_bounds,
)
from collector.receiving.ingest import Ingest
from config import secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting
from core.health.concurrent_checks import ConcurrentChecks
from core.health.cursor_alignment import STORE_OF
from core.intake import quarantine_limits
from core.intake.port import IntakeLog, IntakeUnavailable
from core.mqtt.client import NEAR_S, BrokerAddress, MqttClient, MqttMessage
from core.runtime.barrier import report_idle
from core.runtime.clock import Clock, monotonic
from core.runtime.instant import Instant
from core.runtime.logs import logger
from core.runtime.status import StatusFields, StatusFile
from core.runtime.trouble import Trouble
from core.wire.shards import Shard
from core.wire.topics import UP

log = logger(__name__)

UPKEEP_S = 60.0
COUNT_WITHIN_S = 0.5
COUNT_S = 5.0
_ALL = ("00", "ff")


def run(settings: Settings, stop: threading.Event) -> None:
    """Collect until `stop`.

    Raises: NoSecrets, InvalidSetting, NewerLog: errors that waiting doesn't repair.
    """
    password = secrets.read(settings.data_dir).broker.get(settings.broker.username)
    if password is None:
        raise InvalidSetting(secrets.no_service_password(settings.broker.username, settings.data_dir))
    options = settings.collector
    counts = Counters(RECEIVING)
    status = StatusFile(settings.data_dir, "collector", options.process, rates=("readings",))
    worker = Worker("collector", options.client_id, options.shards, writes_telemetry=False)
    run_with_stores(
        settings,
        worker,
        counts,
        status,
        stop,
        lambda stores: _Collector(settings, password, counts, stores).run(status, stop),
    )


class _Collector:
    """Wiring of the process: ingest, upkeep of the log and broker connection."""

    def __init__(self, settings: Settings, password: str, counts: Counters, stores: OpenedStores) -> None:
        first, last = shards = shard_bounds(settings.collector.shards)
        self._settings = settings
        self._counts = counts
        self._clock = stores.clock
        self._intake = stores.intake
        self._alignment = AlignmentGate(stores.intake, stores.telemetry, stores.records, shards=shards)
        self._ingest = Ingest(
            stores.intake,
            stores.clock,
            counts,
            group=settings.collector.group,
            linger=settings.collector.linger,
            alignment=self._alignment,
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
        self._quarantine = ConcurrentChecks({"quarantine": _QuarantineCount(stores.intake).counts})

    def run(self, status: StatusFile, stop: threading.Event) -> list[str]:
        """Collect until `stop`; return the names of threads that don't end, whose stores can't be closed."""
        ingest, *others = self._threads(stop)
        for thread in (ingest, *others):
            thread.start()
        self._bus.start()
        others.append(status.keep(self._facts, stop, self._troubles))
        stop.wait()
        ends = monotonic() + END_WITHIN_S
        self._alignment.wake()
        ingest.join(END_WITHIN_S / 2)  # the messages that it is working on are still acknowledged
        bus_stop = threading.Thread(target=self._bus.stop, name="bus", daemon=True)
        bus_stop.start()
        return hanging_threads([ingest, *others, bus_stop], ends)

    def _threads(self, stop: threading.Event) -> list[threading.Thread]:
        """Return the threads to start, ingest first."""
        idle = (self._clock, self._settings.collector.process, self._is_idle, stop)
        return [
            threading.Thread(target=self._ingest.run, args=(self._bus, stop), name="ingest", daemon=True),
            threading.Thread(target=self._upkeep, args=(stop,), name="upkeep", daemon=True),
            threading.Thread(target=self._alignment.run, args=(stop,), name="alignment", daemon=True),
            threading.Thread(target=report_idle, args=idle, name="barrier", daemon=True),
        ]

    def _receive(self, message: MqttMessage) -> None:
        if not self._ingest.take(message):
            # Its sender keeps it until a `down/ack`. A message without our acknowledgement would count against the
            # number that the broker sends us.
            self._bus.ack(message)

    def _is_idle(self) -> bool:
        return self._bus.connected and self._ingest.is_idle

    def _facts(self) -> StatusFields:
        self._counts.problem("broker", self._bus.problem)
        # A log that hangs must not keep the other facts from being reported.
        held = self._quarantine.run(COUNT_WITHIN_S)["quarantine"].value or {}
        connected, shards = self._bus.connected, self._settings.collector.shards
        return {**held, **self._counts.facts(), "connected": connected, "shards": shards}

    def _troubles(self) -> list[Trouble]:
        return [*self._counts.troubles(), *self._alignment.troubles()]

    def _upkeep(self, stop: threading.Event) -> None:
        """Prune the log, a little every minute."""
        while not stop.wait(UPKEEP_S):
            do_each(self._counts, pruning=self._prune)

    def _prune(self) -> None:
        if self._alignment.epoch() is None:
            return  # entries that a misplaced cursor has yet to read must stay
        kept_since = Instant(self._clock.now() - round(self._settings.intake.keep * 1000))
        pruned = self._intake.prune(before=kept_since, readers=tuple(STORE_OF))
        if pruned:
            log.info("intake log pruned", entries=pruned)
        prune_quarantine(self._intake, self._clock, self._counts)


def _filters(first: Shard, last: Shard) -> list[str]:
    """Return the topic filters to subscribe to. One for everything: 256 of them halve the embedded broker's speed."""
    if (first, last) == _ALL:
        return [UP]
    return [f"cc/v1/{shard:02x}/+/up/#" for shard in range(int(first, 16), int(last, 16) + 1)]


class _QuarantineCount:
    """Count of the readings in quarantine, now and then only: it may be large."""

    def __init__(self, intake: IntakeLog) -> None:
        self._intake = intake
        self._held: dict[str, int] = {}
        self._count_at = 0.0

    def counts(self) -> dict[str, int]:
        try:
            if monotonic() >= self._count_at:
                self._held = {f"held_{reason}": n for reason, n in self._intake.count_held().items()}
                self._count_at = monotonic() + COUNT_S
        except IntakeUnavailable:
            return {}  # ingest reports this itself
        return self._held


def prune_quarantine(intake: IntakeLog, clock: Clock, counts: Counters) -> None:
    """Drop the oldest readings of a quarantine that is beyond its bounds."""
    now = clock.now()
    dropped = intake.prune_held(
        before=Instant(now - quarantine_limits.RETENTION), most=quarantine_limits.MOST_OF_A_GATEWAY, now=now
    )
    if dropped:
        counts.add("dropped", dropped)
        log.error("readings dropped from quarantine", readings=dropped)
