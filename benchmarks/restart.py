"""How long after its start an alerting process has fired what was due, with tens of thousands of alarms open."""

import tempfile
import time
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from fridges import Fridges
from installation import Installation, until
from results import Report
from servers import processor_s

from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, Outbox, RuleState, SeriesState
from core.db.engine import Records, connect, url_for
from core.db.migrate import upgrade
from core.devices.tables import Zone
from core.intake.open import open_log
from core.runtime.clock import real_now
from core.runtime.instant import HOUR, MINUTE, SECOND, Instant
from tests.fixtures.alerting import HandClock


def restart(report: Report, name: str, url: str, count: int) -> None:
    """Start `coldchain alerting` with `count` alarms open, one of whose steps is due; WeChat isn't configured."""
    with tempfile.TemporaryDirectory() as folder:
        made = Installation(Path(folder), f'[records]\nurl = "{url}"\n')
        records = Records(connect(url_for(made.settings.records.url, made.settings.data_dir)))
        upgrade(records.engine)
        log = open_log("", made.settings.data_dir)
        try:
            fridges = Fridges(records, log, count)
            _open_one(fridges)
            _open_the_others(records)
            with records.write() as tx:
                later = Instant(real_now() + HOUR)
                tx.execute(sa.update(AlarmStep).where(AlarmStep.state == "due").values(due_at=later))
                first = sa.and_(AlarmStep.alarm_id == 1, AlarmStep.tier == 2)
                tx.execute(sa.update(AlarmStep).where(first).values(due_at=Instant(real_now() - SECOND)))
            began = time.monotonic()
            with made.service("alerting") as alerting:
                until(lambda: _told(records), "the second level told", look_s=0.02)
                took, used = time.monotonic() - began, processor_s(alerting.pid)
            told = _told(records)
            assert told == [1, 1], f"alarms whose second step was told of, once to each of two levels: {told}"
        finally:
            log.close()
            records.close()
    report.table(f"{name}: alerting started with {count:,} alarms open", "", "seconds", "CPU seconds")
    report.row("process started → the one due step fired", took, used)
    report.goal(f"{name}: restart with {count:,} open alarms → first correct tick", took, at_most=5, unit="s")


def _told(records: Records) -> list[int]:
    with records.read() as tx:
        return [alarm for alarm in tx.scalars(sa.select(Outbox.alarm_id).where(Outbox.tier == 2)) if alarm]


def _open_one(fridges: Fridges) -> None:
    """Let the engine open the alarm of the first fridge."""
    clock = HandClock(Instant(real_now() - 10 * MINUTE))
    engine, _ = fridges.worker(clock)
    fridges.read(9.4, clock.time, fridges=[1])
    engine.run_once()
    with fridges.records.write() as tx:
        tx.execute(sa.update(Outbox).values(state="sent", sent_at=clock.time))


def _open_the_others(records: Records) -> None:
    """Copy what the engine has written of the first fridge for all others, whose ids are alike."""
    for table, own in (
        (SeriesState, ("series_id",)),
        (RuleState, ("series_id", "zone_id")),
        (Alarm, ("id", "zone_id", "equipment_id", "probe_id")),
        (AlarmStep, ("alarm_id",)),
        (AlarmEvent, ("alarm_id",)),
        (Outbox, ("alarm_id",)),
    ):
        _copy(records, cast("sa.Table", table.__table__), own)


def _copy(records: Records, table: sa.Table, own: tuple[str, ...]) -> None:
    names = [column.name for column in table.c if column.name in own or column.name != "id"]
    fridge = Zone.__table__.c.id
    chosen: dict[str, sa.ColumnElement[Any]] = {name: fridge if name in own else table.c[name] for name in names}
    if "key" in chosen:
        chosen["key"] = sa.cast(fridge, sa.String) + table.c.key
    every = table.join(Zone.__table__, sa.true())
    copied = sa.select(*chosen.values()).select_from(every).where(table.c[own[0]] == 1, fridge > 1)
    with records.write() as tx:
        if "series_id" in own:  # the scan for silence has written a row of each probe already
            tx.execute(sa.delete(table).where(table.c.series_id > 1))
        tx.execute(sa.insert(table).from_select(names, copied))
