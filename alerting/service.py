"""Process `coldchain alerting`: its parts, its start and its end.

It starts before broker, records, intake log or a virtual clock can be reached, and keeps trying. `status/alerting.json`
says what is missing.
"""

import sqlite3
import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from alerting.alerting_loop import AlertingLoop
from alerting.audit_sealing import AuditSealing
from alerting.delivering.channels.configured import configured_channels
from alerting.delivering.channels.port import Channel
from alerting.delivering.delivery import Delivery
from alerting.evaluating.late_readings import LateEvaluation
from alerting.following.follower import Follower
from alerting.watchdog import Watchdog
from config import secrets
from config.secrets import Secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting
from core.alarms.outbox import OutboxWriter
from core.alarms.zone_cache import ZoneCache
from core.db.audit_chain import chain_key
from core.db.engine import Records, connect, url_for
from core.devices.directory import Directory
from core.intake.factory import open_log
from core.intake.port import IntakeLog, IntakeUnavailable
from core.intake.shard_ownership import ShardOwnership
from core.migrations.migrate import upgrade
from core.mqtt.client import NEAR_S, BrokerAddress, MqttClient
from core.runtime.barrier import report_idle
from core.runtime.clock import Clock, clock_from, monotonic
from core.runtime.instant import SECOND, Milliseconds
from core.runtime.logs import logger
from core.runtime.scheduler import Scheduler
from core.runtime.status import StatusFields, StatusFile
from core.runtime.trouble import Trouble, Troubles, first_line
from core.telemetry.factory import open_telemetry
from core.wire.shards import Shard
from core.wire.topics import wake_topic

log = logger(__name__)

OPEN_S = 0.5
WATCH_S = 1.0
OFFLINE_S = 5.0
END_WITHIN_S = 10.0
"""Limit for all threads together. A message that is still being sent when it ends is sent again by the next process."""

T = TypeVar("T")


def run(settings: Settings, stop: threading.Event) -> None:
    """Watch, escalate and deliver until `stop`.

    Raises: NoSecrets, InvalidSetting, NewerDatabase: errors that waiting doesn't repair.
    """
    credentials = secrets.read(settings.data_dir)
    if settings.broker.username not in credentials.broker:
        raise InvalidSetting(secrets.no_service_password(settings.broker.username, settings.data_dir))
    status = StatusFile(settings.data_dir, "alerting", settings.alerting.process, rates=("readings",))
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    channels = configured_channels(settings, credentials, records)
    clock = _open_when_available("clock", lambda: clock_from(settings.virtual_clock), status, stop)
    _open_when_available("records", lambda: upgrade(records.engine), status, stop)
    intake = _open_when_available("intake log", lambda: open_log(settings.intake.url, settings.data_dir), status, stop)
    try:
        if clock and intake:
            options = settings.alerting
            shards = ShardOwnership(intake, "alerting", options.worker, options.shards, settings.data_dir)
            if _open_when_available("shards", shards.take, status, stop):
                with shards.kept(stop):
                    _Alerting(settings, credentials, records, intake, clock, channels).run(status, stop)
    finally:
        if intake:
            intake.close()
        records.close()


def _open_when_available(part: str, open_part: Callable[[], T], status: StatusFile, stop: threading.Event) -> T | None:
    """Try until it opens; return None when `stop` came first."""
    troubles = Troubles()
    while not stop.is_set():
        try:
            return open_part()
        except (OSError, sqlite3.Error, SQLAlchemyError, IntakeUnavailable) as error:
            if troubles.note(part, error):
                log.warning("not there yet", part=part, error=first_line(error))
            status.write({"problem": f"{part}: {first_line(error)}"}, troubles.now())
            stop.wait(OPEN_S)
    return None


class _Alerting:
    """Wiring of the process: engine, late evaluation, delivery, watchdog and broker connection."""

    def __init__(
        self,
        settings: Settings,
        credentials: Secrets,
        records: Records,
        intake: IntakeLog,
        clock: Clock,
        channels: dict[str, Channel],
    ) -> None:
        zones = ZoneCache()
        outbox = OutboxWriter(
            public_url=settings.public_url,
            link_keys=credentials.link_keys,
            link_life=Milliseconds(int(settings.api.link_ttl * SECOND)),
            channels=list(channels),
        )
        self._settings = settings
        self._clock = clock
        self._broker = Troubles()
        self._follower = Follower(records, intake, Directory(records), zones, outbox, shards=settings.alerting.shards)
        self._loop = AlertingLoop(
            records,
            intake=intake,
            follower=self._follower,
            zones=zones,
            outbox=outbox,
            clock=clock,
            poll=settings.alerting.poll,
        )
        self._late = LateEvaluation(
            records,
            lambda: open_telemetry(settings, read_only=True),
            zones,
            outbox,
            clock,
            shards=settings.alerting.shards,
            live=self._loop,
        )
        try:
            self._delivery = Delivery(
                records, channels, clock, worker=settings.alerting.worker, lease_s=settings.alerting.lease
            )
        except ValueError as error:
            raise InvalidSetting(str(error)) from None
        self._watchdog = Watchdog(
            records, intake, outbox, clock, channels=list(channels), dead_man_url=settings.alerting.dead_man_url
        )
        self._sealing = AuditSealing(records, chain_key(credentials.index_key), clock)
        self._bus = MqttClient(
            BrokerAddress.of(settings.broker),
            client_id=settings.alerting.process,
            username=settings.broker.username,
            password=credentials.broker[settings.broker.username],
            clean=True,
            on_message=lambda _message: self._loop.wake(),
            subscriptions=[wake_topic(Shard("+"))],
            keep_alive_s=NEAR_S,
        )

    def run(self, status: StatusFile, stop: threading.Event) -> None:
        """Work until `stop`."""
        loop, ticks = self._loop, Scheduler()
        ticks.every(self._settings.alerting.poll, "follow", loop.wake)
        ticks.every(self._settings.alerting.tick, "escalate", loop.wake)
        ticks.every(OFFLINE_S, "offline", loop.wake)
        ticks.every(WATCH_S, "watchdog", self._watchdog.run)
        ticks.every(WATCH_S, "audit seal", self._sealing.run)
        threads = [
            threading.Thread(target=loop.run, args=(stop,), name="engine", daemon=True),
            threading.Thread(target=self._late.run, args=(stop,), name="late", daemon=True),
            threading.Thread(target=self._delivery.run, args=(stop,), name="delivery", daemon=True),
            threading.Thread(
                target=report_idle,
                args=(self._clock, self._settings.alerting.process, self._is_idle, stop),
                name="barrier",
                daemon=True,
            ),
        ]
        for thread in threads:
            thread.start()
        self._bus.start()
        ticks.start()
        threads.append(status.keep(self._facts, stop, self._troubles))
        stop.wait()
        ticks.stop()
        loop.wake()
        self._late.wake()
        self._bus.stop()
        ends = monotonic() + END_WITHIN_S
        for thread in threads:
            thread.join(max(0.0, ends - monotonic()))

    def _is_idle(self) -> bool:
        # In the order of the work: late readings are evaluated, their alarms are escalated, their messages delivered.
        return (
            self._loop.is_idle() and self._late.is_idle() and self._loop.is_idle() and self._delivery.idle()
        ) and self._loop.is_idle()

    def _troubles(self) -> list[Trouble]:
        self._broker.note("broker", self._bus.problem)
        return [
            *self._loop.troubles.now(),
            *self._late.troubles.now(),
            *self._delivery.troubles.now(),
            *self._broker.now(),
        ]

    def _facts(self) -> StatusFields:
        return {
            "connected": self._bus.connected,
            "shards": self._settings.alerting.shards,
            "problem": "; ".join(f"{trouble.part}: {trouble.detail}" for trouble in self._troubles()),
            "readings": self._follower.readings,
            "begun_anew": self._follower.begun_anew,
            "late_evaluated": self._late.evaluated,
            "findings": ", ".join(finding.trouble for finding in self._watchdog.findings),
        }
