"""Cost of late readings: of one gateway against the same readings live, of a province beside other alarms, of a shard.

Telemetry is the embedded store, in the same process. In the part with one gateway its writer is not measured, since it
writes the same in both cases. In the part with a shard a live reading waits behind the backlog of its own shard.
"""

import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from fridges import OF_GATEWAY, Fridges
from results import Report

from alerting.alerting_loop import AlertingLoop
from alerting.evaluating.late_readings import LateEvaluation
from alerting.following.follower import Follower
from collector.storing.telemetry_writer import TelemetryWriter
from core.alarms import late_spans
from core.alarms.states import AlarmOrigin
from core.alarms.tables import Alarm, LateSpan, OutboxMessage
from core.db.engine import Records, connect
from core.intake.sqlite import SqliteIntakeLog
from core.migrations.migrate import upgrade
from core.runtime.instant import HOUR, MINUTE, SECOND, Instant
from core.telemetry.embedded import EmbeddedTelemetry
from core.wire.states import IntakeOrigin
from tests.fixtures.alerting import HandClock

NOW = Instant(1_774_632_960_000)
IN_BATCH = 400
"""Readings in a message of a backlog: fifty minutes of a gateway's eight probes."""
WARM = 40
"""Minutes for which each fridge is too warm in the day."""
EVERY_S = 1.0
"""Seconds between two other alarms that open while a backlog is worked off."""
Reading = tuple[int, Instant, float]


class Plant(NamedTuple):
    """Fridges with engine, follower, evaluator of late readings and telemetry writer."""

    fridges: Fridges
    engine: AlertingLoop
    follower: Follower
    late: LateEvaluation
    writer: TelemetryWriter
    clock: HandClock
    telemetry: EmbeddedTelemetry

    def seal(self, stop: threading.Event) -> None:
        """Seal the hours that are over until `stop`, as the writer's upkeep does every minute of a day."""
        while not stop.wait(EVERY_S):
            self.telemetry.seal(Instant(NOW - HOUR))


@contextmanager
def plant(url: str, count: int, *, one_shard: bool = False) -> Iterator[Plant]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        records = Records(connect(url or f"sqlite:///{folder}/records.db"))
        opened.callback(records.close)
        upgrade(records.engine)
        log = SqliteIntakeLog(Path(folder) / "intake.db")
        opened.callback(log.close)
        telemetry = EmbeddedTelemetry(Path(folder) / "telemetry")
        opened.callback(telemetry.close)
        clock, fridges = HandClock(NOW), Fridges(records, log, count, interval=MINUTE, one_shard=one_shard)
        loop, follower = fridges.worker(clock)
        yield Plant(
            fridges,
            loop,
            follower,
            fridges.late(clock, telemetry, loop),
            fridges.writer(clock, telemetry),
            clock,
            telemetry,
        )


def a_day(fridges: Sequence[int], hours: int, in_batch: int = IN_BATCH) -> list[list[Reading]]:
    """Return batches of the readings of one gateway's fridges before NOW; each fridge is too warm for a while."""
    minutes = hours * 60
    readings = [
        (fridge, Instant(NOW - (minutes - n) * MINUTE), 9.4 if warm(fridge, n) else 4.0 + n % 5 / 10)
        for n in range(1, minutes)
        for fridge in fridges
    ]
    return [readings[first : first + in_batch] for first in range(0, len(readings), in_batch)]


def begin(at: Plant, hours: int) -> None:
    at.fridges.read(4.0, Instant(NOW - hours * HOUR), received=NOW)
    at.engine.run_once()


def store(at: Plant) -> None:
    """Let the telemetry writer work up to the head of the log."""
    stop = threading.Event()
    thread = threading.Thread(target=at.writer.run, args=(stop,))
    thread.start()
    at.writer.wake()
    while not at.writer.is_idle():
        time.sleep(0.01)
    stop.set()
    at.writer.wake()
    thread.join()


def warm(fridge: int, minute: int) -> bool:
    return 60 <= minute - 7 * fridge % 200 < 60 + WARM


def of_a_gateway(report: Report, name: str, url: tuple[str, str], hours: int) -> None:
    """Compare the cost of a gateway's backlog in shuffled batches with that of the same readings live."""
    all_fridges = list(range(1, OF_GATEWAY + 1))
    batches = a_day(all_fridges, hours)
    readings = sum(map(len, batches))
    cpu_s = {}
    with plant(url[0], OF_GATEWAY) as at:
        begin(at, hours)
        at.fridges.append(batches, received=NOW, origin=IntakeOrigin.LIVE)
        began = time.process_time()
        at.engine.run_once()
        cpu_s["live"] = time.process_time() - began
        store(at)
    with plant(url[1], OF_GATEWAY) as at:
        begin(at, hours)
        at.fridges.read(4.0, NOW)
        at.engine.run_once()
        random.Random(1).shuffle(batches)
        at.fridges.append(batches, received=NOW, origin=IntakeOrigin.BACKFILL)
        began = time.process_time()
        at.engine.run_once()
        followed = time.process_time() - began
        store(at)
        at.clock.time = Instant(NOW + late_spans.QUIET_TIME)
        began = time.process_time()
        while at.late.step():
            pass
        cpu_s["late"] = followed + time.process_time() - began
        with at.fridges.records.read() as tx:
            late_alarms = tx.scalar(
                sa.select(sa.func.count()).where(Alarm.rule == "above", Alarm.origin == AlarmOrigin.LATE)
            )
    assert late_alarms == OF_GATEWAY, f"{late_alarms} excursions were found, not {OF_GATEWAY}"
    report.table(f"{name}: {readings:,} readings of a gateway, {hours} h", "", "CPU seconds", "to live")
    report.row("live, in order", cpu_s["live"], 1.0)
    report.row("late, in shuffled blocks: followed and evaluated", cpu_s["late"], cpu_s["late"] / cpu_s["live"])
    report.goal(f"{name}: a backlog to the same readings live", cpu_s["late"] / cpu_s["live"], at_most=2.0, unit="×")


def of_a_province(report: Report, name: str, url: str, count: int, hours: int) -> None:
    """Measure the backlog of all fridges but a few, and the delay of alarms that open in those few meanwhile."""
    other_fridges = 4_000
    with plant(url, count + other_fridges) as at:
        begin(at, hours)
        at.fridges.read(4.0, NOW, fridges=range(1, count + 1))
        at.engine.run_once()
        chance = random.Random(1)
        readings = 0
        for first in range(1, count + 1, OF_GATEWAY):
            batches = a_day(range(first, min(first + OF_GATEWAY, count + 1)), hours)
            chance.shuffle(batches)
            readings += sum(map(len, batches))
            at.fridges.append(batches, received=NOW, origin=IntakeOrigin.BACKFILL)
        stop = threading.Event()
        threads = [
            threading.Thread(target=run, args=(stop,)) for run in (at.engine.run, at.late.run, at.writer.run, at.seal)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        waits: list[float] = []
        followed = 0.0
        while not followed or not at.late.is_idle():
            assert len(waits) < other_fridges, "the backlog lasts longer than there are fridges whose alarms can open"
            waits.append(_alarm(at, count + 1 + len(waits)))
            if not followed and not at.engine.is_behind():
                followed = time.perf_counter() - began
                at.clock.time = Instant(at.clock.time + late_spans.LONGEST_WAIT + SECOND)
            time.sleep(EVERY_S)
        elapsed_s = time.perf_counter() - began
        stop.set()
        at.late.wake()
        at.engine.wake()
        at.writer.wake()
        for thread in threads:
            thread.join()
        with at.fridges.records.read() as tx:
            late_alarms = tx.scalar(
                sa.select(sa.func.count()).where(Alarm.rule == "above", Alarm.origin == AlarmOrigin.LATE)
            )
    assert late_alarms == count, f"{late_alarms} excursions were found, not {count}"
    report.table(f"{name}: {readings:,} readings of {count:,} probes, {hours} h late", "", "seconds", "k readings/s")
    report.row("followed", followed, readings / followed / 1e3)
    report.row("stored, followed and evaluated", elapsed_s, readings / elapsed_s / 1e3)
    report.row(f"worst of {len(waits)} other alarms, from the log to the outbox", max(waits), None)
    report.goal(f"{name}: other gateways' alarms meanwhile", max(waits), at_most=5, unit="s")


def of_one_shard(report: Report, name: str, url: str, gateways: int, hours: int) -> None:
    """Measure the delay of an alarm whose live readings come behind the backlog of gateways in the same shard.

    The whole backlog is in the log before any of it is followed, with a batch for each minute, as gateways keep it.
    """
    count = gateways * OF_GATEWAY
    with plant(url, count + OF_GATEWAY, one_shard=True) as at:
        begin(at, hours)
        at.fridges.read(4.0, NOW)
        at.engine.run_once()
        entries = readings = 0
        for first in range(1, count + 1, OF_GATEWAY):
            batches = a_day(range(first, first + OF_GATEWAY), hours, OF_GATEWAY)
            entries += len(batches)
            readings += sum(map(len, batches))
            at.fridges.append(batches, received=NOW, origin=IntakeOrigin.BACKFILL)
        at.clock.time = Instant(NOW + 11 * MINUTE)
        stop = threading.Event()
        thread = threading.Thread(target=at.engine.run, args=(stop,))
        with at.fridges.records.read() as tx:
            span_count = tx.scalar(sa.select(sa.func.count()).select_from(LateSpan))
        assert not span_count, "the backlog was followed before the live reading came"
        live = [(count + 1, Instant(NOW + n * MINUTE), 9.4) for n in range(12)]
        at.fridges.append([live], received=at.clock.time, origin=IntakeOrigin.LIVE)
        began, cpu_s = time.perf_counter(), time.process_time()
        thread.start()
        _wait_for_message(at, count + 1)
        elapsed_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
        stop.set()
        at.engine.wake()
        thread.join()
    report.table(
        f"{name}: a live reading behind the backlog of {gateways} of its shard's gateways, {hours} h late",
        "",
        "seconds",
        "CPU seconds",
        "entries/s",
        "k readings/s",
    )
    followed = f"{readings:,} readings followed, and the message written"
    report.row(followed, elapsed_s, cpu_s, entries / elapsed_s, readings / elapsed_s / 1e3)
    report.goal(f"{name}: alarm behind the backlog of {gateways} gateways in its shard", elapsed_s, at_most=5, unit="s")


def _alarm(at: Plant, fridge: int) -> float:
    """Open an alarm in a fridge of another gateway; return the seconds until its message is in the outbox."""
    now = at.clock.time
    readings = [(fridge, Instant(now - n * MINUTE), 9.4) for n in range(10, -1, -1)]
    at.fridges.append([readings], received=now, origin=IntakeOrigin.LIVE)
    began = time.perf_counter()
    at.engine.wake()
    _wait_for_message(at, fridge)
    return time.perf_counter() - began


def _wait_for_message(at: Plant, fridge: int) -> None:
    message_of_alarm = (
        sa.select(OutboxMessage.id)
        .join(Alarm, Alarm.id == OutboxMessage.alarm_id)
        .where(Alarm.zone_id == fridge)
        .limit(1)
    )
    while True:
        with at.fridges.records.read() as tx:
            if tx.scalar(message_of_alarm) is not None:
                return
        time.sleep(0.01)
