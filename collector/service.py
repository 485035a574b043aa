"""The process `coldchain collector`: what runs in it, and how it comes up and ends.

It starts before broker, records and store are there, and keeps trying; `status/collector.json` says what is missing.
"""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from collector import due_days
from collector.alignment import Alignment
from collector.counts import Counts
from collector.due_days import DueDays
from collector.ingest import Ingest
from collector.integrity import Integrity
from collector.rollups import Rollups
from collector.telemetry_writer import READER, TelemetryWriter
from config import secrets
from config.load import WrongSetting
from config.settings import Settings
from core.bus.client import NEAR_S, BrokerAddress, Bus, Message
from core.db.engine import Records, connect, url_for
from core.devices.directory import Directory
from core.health.looks import Looks
from core.intake.open import open_log
from core.intake.ownership import Ownership
from core.intake.port import IntakeLog, Unavailable
from core.runtime.barrier import report_idle
from core.runtime.clock import Clock, clock_from, monotonic
from core.runtime.instant import DAY, HOUR, Instant, Milliseconds
from core.runtime.logs import logger
from core.runtime.status import StatusFile
from core.telemetry.open import open_telemetry
from core.telemetry.port import Telemetry
from core.wire.topics import UP, Shard

log = logger(__name__)

READERS = (READER, "alerting", due_days.READER)
UPKEEP_S = 60.0
OPEN_S = 0.5
DEPTH_WITHIN_S = 0.5
COUNT_S = 5.0
QUARANTINE_KEEP = Milliseconds(90 * DAY)
QUARANTINE_MOST = 100_000
"""Of one gateway: nine days of eight probes that are read once a minute. The oldest go first, and are counted."""
END_WITHIN_S = 8.0
"""Between the order to stop and the end of the threads; one that hangs in a store is left to the end of the process."""
_ALL = ("00", "ff")

T = TypeVar("T")


def run(settings: Settings, stop: threading.Event) -> None:
    """Collect until `stop`.

    Raises: NoSecrets, WrongSetting, WrongVersion: what no waiting mends.
    """
    password = secrets.read(settings.data_dir).broker.get(settings.broker.username)
    if password is None:
        raise WrongSetting(secrets.no_service_password(settings.broker.username, settings.data_dir))
    counts = Counts()
    status = StatusFile(settings.data_dir, "collector", settings.collector.process, rates=("readings", "stored"))
    opening = _Opening(counts, status, stop)
    clock = opening.until("clock", lambda: clock_from(settings.virtual_clock))
    intake = opening.until("intake log", lambda: open_log(settings.intake.url, settings.data_dir))
    telemetry = opening.until("telemetry", lambda: open_telemetry(settings))
    hanging: list[str] = []
    try:
        if clock and intake and telemetry:
            how = settings.collector
            shards = Ownership(intake, "collector", how.client_id, how.shards, settings.data_dir)
            if opening.until("shards", shards.take):
                with shards.kept(stop):
                    hanging = _collect(settings, password, counts, status, clock, intake, telemetry, stop)
    finally:
        if hanging:
            log.warning("ended while something hung; nothing is lost", hanging=hanging)
        else:
            for store in (telemetry, intake):
                if store:
                    store.close()


class _Opening:
    """Opens what may not be there yet."""

    def __init__(self, counts: Counts, status: StatusFile, stop: threading.Event) -> None:
        self._counts = counts
        self._status = status
        self._stop = stop

    def until(self, part: str, opened: Callable[[], T]) -> T | None:
        """Try until it opens; None when `stop` came first."""
        while not self._stop.is_set():
            try:
                made = opened()
            except (OSError, sqlite3.Error, Unavailable) as error:
                if self._counts.problem(part, error):
                    log.warning("not there yet", part=part, error=str(error))
                self._status.write(self._counts.facts(), self._counts.troubles())
                self._stop.wait(OPEN_S)
            else:
                self._counts.problem(part, "")
                return made
        return None


def _collect(
    settings: Settings,
    password: str,
    counts: Counts,
    status: StatusFile,
    clock: Clock,
    intake: IntakeLog,
    telemetry: Telemetry,
    stop: threading.Event,
) -> list[str]:
    """Collect until `stop`; returns the names of threads that don't end, whose stores can't be closed."""
    first, last = (Shard(end) for end in settings.collector.shards.split("-"))
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    integrity = Integrity(intake, telemetry, records)
    alignment = Alignment(intake, telemetry, records, shards=(first, last))
    writer = TelemetryWriter(
        intake, telemetry, Directory(records), clock, counts, shards=(first, last), alignment=alignment
    )
    marked = DueDays(
        intake,
        records,
        clock,
        shards=(first, last),
        stored=writer.stored,
        fresh_until=writer.fresh_until,
        timezone=settings.timezone,
        alignment=alignment,
    )
    figures = Rollups(marked, telemetry, records, clock, counts)
    mirrors = (writer.mirror, marked.mirror)
    ingest = Ingest(
        intake,
        clock,
        counts,
        group=settings.collector.group,
        linger=settings.collector.linger,
        grown=writer.wake,
        alignment=alignment,
    )

    def heard(message: Message) -> None:
        if not ingest.take(message):
            # Its sender has it until a `down/ack`. One that the broker holds open counts against what it sends us.
            bus.ack(message)

    bus = Bus(
        BrokerAddress.of(settings.broker),
        client_id=settings.collector.client_id,
        username=settings.broker.username,
        password=password,
        # The embedded broker keeps nothing for who is away; another keeps what comes meanwhile, in order.
        clean=settings.broker.embedded,
        on_message=heard,
        subscriptions=_filters(first, last),
        keep_alive_s=NEAR_S,
    )

    depth = Looks({"depth": _Depth(intake, writer).look})

    def is_idle() -> bool:
        return bus.connected and ingest.is_idle and writer.is_idle

    def facts() -> dict[str, int | float | str | bool]:
        counts.problem("broker", bus.problem)
        # A log that hangs must not keep the rest from being told.
        seen = depth.look(DEPTH_WITHIN_S)["depth"].seen or {}
        shards = settings.collector.shards
        return {**seen, **counts.facts(), "connected": bus.connected, "shards": shards}

    threads = [
        threading.Thread(target=ingest.run, args=(bus, stop), name="ingest", daemon=True),
        threading.Thread(target=writer.run, args=(stop,), name="telemetry-writer", daemon=True),
        threading.Thread(target=figures.run, args=(stop,), name="rollups", daemon=True),
        threading.Thread(
            target=_upkeep,
            args=(settings, clock, counts, intake, telemetry, alignment, stop),
            name="upkeep",
            daemon=True,
        ),
        threading.Thread(target=integrity.run, args=(stop, alignment.epoch), name="integrity", daemon=True),
        threading.Thread(target=alignment.run, args=(stop, mirrors), name="alignment", daemon=True),
        threading.Thread(
            target=report_idle, args=(clock, settings.collector.process, is_idle, stop), name="barrier", daemon=True
        ),
    ]
    for thread in threads:
        thread.start()
    bus.start()
    threads.append(status.keep(facts, stop, lambda: [*counts.troubles(), *alignment.troubles(), *integrity.troubles()]))
    stop.wait()
    ends = monotonic() + END_WITHIN_S
    writer.wake()
    alignment.wake()
    threads[0].join(END_WITHIN_S / 2)  # what it has in hand is still acknowledged
    ending = threading.Thread(target=bus.stop, name="bus", daemon=True)
    ending.start()
    hanging = _hanging([*threads, ending], ends)
    if not hanging:
        records.close()
    return hanging


def _hanging(threads: Sequence[threading.Thread], ends: float) -> list[str]:
    """Wait for threads until `ends` of the monotonic clock; return the names of those that go on."""
    for thread in threads:
        thread.join(max(0.0, ends - monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]


def _filters(first: Shard, last: Shard) -> list[str]:
    """Return what to subscribe to. One filter for everything: 256 of them halve the embedded broker's speed."""
    if (first, last) == _ALL:
        return [UP]
    return [f"cc/v1/{shard:02x}/+/up/#" for shard in range(int(first, 16), int(last, 16) + 1)]


class _Depth:
    """How much waits. What is in quarantine is counted now and then alone: it may be much."""

    def __init__(self, intake: IntakeLog, writer: TelemetryWriter) -> None:
        self._intake = intake
        self._writer = writer
        self._held: dict[str, int] = {}
        self._count_at = 0.0

    def look(self) -> dict[str, int]:
        try:
            if monotonic() >= self._count_at:
                self._held = {f"held_{reason}": n for reason, n in self._intake.count_held().items()}
                self._count_at = monotonic() + COUNT_S
            return {"writer_lag": self._writer.lag(), **self._held}
        except Unavailable:
            return {}  # ingest and writer say so themselves


def prune_quarantine(intake: IntakeLog, clock: Clock, counts: Counts) -> None:
    """Keep quarantine within its bounds."""
    now = clock.now()
    dropped = intake.prune_held(before=Instant(now - QUARANTINE_KEEP), most=QUARANTINE_MOST, now=now)
    if dropped:
        counts.add("dropped", dropped)
        log.error("readings dropped from quarantine", readings=dropped)


def _upkeep(
    settings: Settings,
    clock: Clock,
    counts: Counts,
    intake: IntakeLog,
    telemetry: Telemetry,
    alignment: Alignment,
    stop: threading.Event,
) -> None:
    """Compact the store and prune the log, a little every minute. Where one fails the other goes on."""

    def seal() -> None:
        telemetry.seal(Instant(clock.now() - HOUR))

    def prune() -> None:
        if alignment.epoch() is None:
            return  # what a misplaced cursor has yet to come to must stay
        pruned = intake.prune(before=Instant(clock.now() - round(settings.intake.keep * 1000)), readers=READERS)
        if pruned:
            log.info("intake log pruned", entries=pruned)
        prune_quarantine(intake, clock, counts)

    while not stop.wait(UPKEEP_S):
        for part, work in (("sealing", seal), ("pruning", prune)):
            try:
                work()
            except Exception as error:
                if counts.problem(part, error):
                    log.exception("upkeep failed", part=part)
            else:
                counts.problem(part, "")
