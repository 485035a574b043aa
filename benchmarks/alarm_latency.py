"""Latency of alarms: time from an accepted reading to the message on a phone, and punctuality of the second step.

`coldchain alerting` and the WeChat simulator run as processes, with a Mosquitto for the wakes. This process appends
readings to the log and wakes alerting, as the collector does. Meanwhile the second step of other alarms falls due,
which were opened before, a tenth of a second apart.
"""

import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import msgspec
import sqlalchemy as sa
from fridges import OPENIDS, Fridges, gateway, of
from installation import Installation, until
from results import Report

from coldchain.demo.environment import APP_ID, APP_SECRET, free_port
from config import secrets
from core.alarms.states import StepState
from core.alarms.tables import Alarm, AlarmStep, OutboxMessage
from core.db.engine import Records, connect, url_for
from core.intake.factory import open_log
from core.migrations.migrate import upgrade
from core.mqtt.client import BrokerAddress, MqttClient
from core.runtime.clock import real_now
from core.runtime.instant import MINUTE, Instant
from core.wire.shards import shard_of
from core.wire.topics import wake_topic
from tests.fixtures.alerting import HandClock
from tests.fixtures.broker import Mosquitto

SETTLING_S = 8.0
"""Time for the processes to start, before the first step is due."""
APART_S = 0.1


def told_in_time(report: Report, name: str, url: str, count: int) -> None:
    """Open `count` alarms one after another while the second step of as many other alarms falls due; report the
    delays."""
    with tempfile.TemporaryDirectory() as folder:
        phone = free_port()
        installation = Installation(Path(folder), _settings(url, phone))
        old_secrets = secrets.read(installation.settings.data_dir)
        secrets.write(installation.settings.data_dir, msgspec.structs.replace(old_secrets, wechat_secret=APP_SECRET))
        records = Records(connect(url_for(installation.settings.records.url, installation.settings.data_dir)))
        upgrade(records.engine)
        log = open_log("", installation.settings.data_dir)
        simulator = ("--port", str(phone), "--folder", str(installation.folder / "wechat"))
        try:
            fridges = Fridges(records, log, 2 * count)
            open_before(fridges, range(count + 1, 2 * count + 1))
            with Mosquitto(installation.settings), installation.service("wechat-sim", *simulator):
                until(lambda: _sent(phone) is not None, "WeChat")
                users = [{"openid": openid, "name": openid} for openid in OPENIDS.values()]
                httpx.post(f"http://127.0.0.1:{phone}/sim/users", json=users, trust_env=False).raise_for_status()
                _let_fall_due(records)
                with installation.service("alerting"):
                    accepted = _open_now(installation, fridges, phone, count)
            _report(report, name, records, accepted)
        finally:
            log.close()
            records.close()


def open_before(fridges: Fridges, which: Sequence[int]) -> None:
    """Open alarms of some fridges in the past, a tenth of a second apart, with level 1 told."""
    clock = HandClock(Instant(real_now() - 15 * MINUTE))
    loop, _ = fridges.worker(clock)
    fridges.read(4.0, clock.time)
    for fridge in which:
        clock.time = Instant(clock.time + int(APART_S * 1000))
        fridges.read(9.4, clock.time, fridges=[fridge])
        loop.run_once()
    with fridges.records.write() as tx:
        tx.execute(sa.update(OutboxMessage).values(state="sent", sent_at=clock.time))


def _let_fall_due(records: Records) -> None:
    """Move all steps in time so that the first of level 2 is due when the processes have started."""
    with records.write() as tx:
        first = tx.scalar(sa.select(sa.func.min(AlarmStep.due_at)).where(AlarmStep.tier == 2))
        assert first is not None
        moved = real_now() + int(SETTLING_S * 1000) - first
        tx.execute(sa.update(AlarmStep).values(due_at=AlarmStep.due_at + moved))


def _settings(url: str, phone: int) -> str:
    phones = f"http://127.0.0.1:{phone}"
    return (
        f'[records]\nurl = "{url}"\n'
        f'[wechat]\nbase_url = "{phones}"\noauth_url = "{phones}"\napp_id = "{APP_ID}"\n'
        'template_alarm = "alarm"\ntemplate_recovery = "recovery"\n'
    )


def _open_now(installation: Installation, fridges: Fridges, phone: int, count: int) -> dict[int, Instant]:
    """Warm up fridges one after another; return the instant at which the log had each one's reading."""
    accepted: dict[int, Instant] = {}
    bus = MqttClient(
        BrokerAddress.of(installation.settings.broker),
        client_id="bench",
        username="coldchain",
        password=secrets.read(installation.settings.data_dir).broker["coldchain"],
        clean=True,
        on_message=lambda _: None,
    )
    bus.start()
    try:
        until(lambda: bus.connected, "the broker")
        threading.Event().wait(SETTLING_S)
        for fridge in range(1, count + 1):
            began = time.monotonic()
            fridges.read(9.4, real_now(), fridges=[fridge])
            accepted[fridge] = real_now()
            bus.publish(wake_topic(shard_of(gateway(of(fridge)))), b"")
            time.sleep(max(0.0, APART_S - (time.monotonic() - began)))
        until(lambda: (_sent(phone) or 0) >= 3 * count, "all messages: level 1, and both levels of those due")
    finally:
        bus.stop()
    return accepted


def _sent(phone: int) -> int | None:
    try:
        return len(httpx.get(f"http://127.0.0.1:{phone}/sim/log", trust_env=False).json()["messages"])
    except httpx.TransportError:
        return None


def _report(report: Report, name: str, records: Records, accepted: dict[int, Instant]) -> None:
    with records.read() as tx:
        messages = tx.execute(
            sa.select(Alarm.zone_id, OutboxMessage.sent_at)
            .join(OutboxMessage, OutboxMessage.alarm_id == Alarm.id)
            .where(Alarm.zone_id.in_(accepted), OutboxMessage.tier == 1)
        ).all()
        steps = tx.execute(
            sa.select(AlarmStep.due_at, AlarmStep.fired_at).where(
                AlarmStep.tier == 2, AlarmStep.state == StepState.FIRED
            )
        ).all()
    delays = sorted((sent_at - accepted[zone]) / 1000 for zone, sent_at in messages if sent_at)
    step_delays = sorted((fired_at - due_at) / 1000 for due_at, fired_at in steps if fired_at)
    assert len(delays) == len(step_delays) == len(accepted), (len(delays), len(step_delays))
    report.table(f"{name}: {len(accepted)} alarms, {1 / APART_S:.0f} a second", "", "median s", "p99 s", "longest s")
    report.row("reading accepted → level 1 handed over", *_figures(delays))
    report.row("second step due → fired", *_figures(step_delays))
    report.goal(f"{name}: reading accepted → level 1 handed over, p99", _figures(delays)[1], at_most=2, unit="s")
    report.goal(f"{name}: punctuality of a step, p99", _figures(step_delays)[1], at_most=2, unit="s")


def _figures(values: list[float]) -> tuple[float, float, float]:
    return values[len(values) // 2], values[min(len(values) - 1, len(values) * 99 // 100)], values[-1]
