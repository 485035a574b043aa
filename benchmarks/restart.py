"""Restart of alerting with tens of thousands of open alarms: time until the step that is due has fired."""

import tempfile
import time
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from fridges import Fridges
from installation import Installation, until
from results import Report
from servers import processor_s

from core.alarms.states import StepState
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, OutboxMessage, RuleState, SeriesState
from core.db.engine import Records, connect, url_for
from core.devices.tables import Zone
from core.intake.factory import open_log
from core.migrations.migrate import upgrade
from core.runtime.clock import real_now
from core.runtime.instant import HOUR, MINUTE, SECOND, Instant
from tests.fixtures.alerting import HandClock


def restart(report: Report, name: str, url: str, count: int) -> None:
    """Measure a start of `coldchain alerting` with `count` open alarms and one step due, without WeChat."""
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation(Path(folder), f'[records]\nurl = "{url}"\n')
        records = Records(connect(url_for(installation.settings.records.url, installation.settings.data_dir)))
        upgrade(records.engine)
        log = open_log("", installation.settings.data_dir)
        try:
            fridges = Fridges(records, log, count)
            _open_one(fridges)
            _open_the_others(records)
            with records.write() as tx:
                later = Instant(real_now() + HOUR)
                tx.execute(sa.update(AlarmStep).where(AlarmStep.state == StepState.DUE).values(due_at=later))
                first_alarm = tx.scalars(sa.select(Alarm.id).where(Alarm.zone_id == 1)).one()
                first = sa.and_(AlarmStep.alarm_id == first_alarm, AlarmStep.tier == 2)
                tx.execute(sa.update(AlarmStep).where(first).values(due_at=Instant(real_now() - SECOND)))
            began = time.monotonic()
            with installation.service("alerting") as alerting:
                until(lambda: _told(records), "the second level told", look_s=0.02)
                elapsed_s, cpu_s = time.monotonic() - began, processor_s(alerting.pid)
            told_alarms = _told(records)
            assert told_alarms == [first_alarm, first_alarm], (
                f"alarms whose second step was told of, once to each of two levels: {told_alarms}"
            )
        finally:
            log.close()
            records.close()
    report.table(f"{name}: alerting started with {count:,} alarms open", "", "seconds", "CPU seconds")
    report.row("process started → the one due step fired", elapsed_s, cpu_s)
    report.goal(f"{name}: restart with {count:,} open alarms → first correct tick", elapsed_s, at_most=5, unit="s")


def _told(records: Records) -> list[int]:
    with records.read() as tx:
        return [
            alarm for alarm in tx.scalars(sa.select(OutboxMessage.alarm_id).where(OutboxMessage.tier == 2)) if alarm
        ]


def _open_one(fridges: Fridges) -> None:
    """Open the alarm of the first fridge with the engine."""
    clock = HandClock(Instant(real_now() - 10 * MINUTE))
    loop, _ = fridges.worker(clock)
    fridges.read(9.4, clock.time, fridges=[1])
    loop.run_once()
    with fridges.records.write() as tx:
        tx.execute(sa.update(OutboxMessage).values(state="sent", sent_at=clock.time))


def _open_the_others(records: Records) -> None:
    """Copy the rows that the engine wrote for the first fridge to all others, whose ids are then their fridge's."""
    with records.read() as tx:
        first_alarm = tx.scalars(sa.select(Alarm.id)).one()
    for table, ids in (
        (SeriesState, ("series_id",)),
        (RuleState, ("series_id", "zone_id")),
        (Alarm, ("id", "zone_id", "equipment_id", "probe_id")),
        (AlarmStep, ("alarm_id",)),
        (AlarmEvent, ("alarm_id",)),
        (OutboxMessage, ("alarm_id",)),
    ):
        _copy(records, cast("sa.Table", table.__table__), ids, 1 if "series_id" in ids else first_alarm)


def _copy(records: Records, table: sa.Table, ids: tuple[str, ...], first: int) -> None:
    names = [column.name for column in table.c if column.name in ids or column.name != "id"]
    fridge = Zone.__table__.c.id
    columns: dict[str, sa.ColumnElement[Any]] = {name: fridge if name in ids else table.c[name] for name in names}
    if "key" in columns:
        columns["key"] = sa.cast(fridge, sa.String) + table.c.key
    table_and_zones = table.join(Zone.__table__, sa.true())
    copied = sa.select(*columns.values()).select_from(table_and_zones).where(table.c[ids[0]] == first, fridge > 1)
    with records.write() as tx:
        if "series_id" in ids:  # the scan for offline probes has written a row for each probe already
            tx.execute(sa.delete(table).where(table.c.series_id > 1))
        tx.execute(sa.insert(table).from_select(names, copied))
