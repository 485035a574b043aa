"""Whatever happens in whatever order: nobody is told twice, or too early, and what is over is over."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from core.alarms import handling
from core.alarms.duration import cycle_onset_at, time_out
from core.alarms.handling import HandlingReport
from core.alarms.tables import Alarm, AlarmEvent, AlarmStep, OutboxMessage
from core.db.engine import Records, connect
from core.devices.tables import MaintenanceWindow
from core.runtime.instant import MINUTE, Instant
from core.units import device_revision
from tests.fixtures.alerting import Watch
from tests.fixtures.databases import fresh_url

REPORT = HandlingReport(cause="断电", action="启用发电机", disposition="可用")
EARLIEST = {1: 0, 2: 30 * MINUTE, 3: 60 * MINUTE}


class Alarms(RuleBasedStateMachine):
    """A fridge, its people, and an alerting worker that may be started anew at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="cc-machine-")
        path = Path(self.folder.name)
        self.watch = Watch(Records(connect(fresh_url("sqlite", path))), path)
        self.window: int | None = None
        self.looked = 0

    @initialize()
    def a_fridge_that_is_cold(self) -> None:
        self.fridge = self.watch.fridge()
        self.watch.reads(5.0)
        self.watch.run()

    @rule(minutes=st.integers(1, 40), t=st.sampled_from([1.5, 5.0, 7.8, 8.0, 9.4]))
    def time_passes(self, minutes: int, t: float) -> None:
        self.watch.forward(minutes, showing=t)

    @rule(rhythm=st.lists(st.tuples(st.integers(8, 20), st.integers(5, 15)), min_size=2, max_size=4))
    def the_door_never_quite_closes(self, rhythm: list[tuple[int, int]]) -> None:
        for warm, cold in rhythm:
            self.watch.forward(warm, showing=9.4)
            self.watch.forward(cold, showing=5.0)

    @rule(minutes=st.integers(1, 40))
    def nothing_comes(self, minutes: int) -> None:
        self.watch.forward(minutes)

    @rule(minutes=st.integers(1, 90), t=st.sampled_from([5.0, 9.4]))
    def nobody_works(self, minutes: int, t: float) -> None:
        watch = self.watch
        watch.clock.time = Instant(watch.clock.time + minutes * MINUTE)
        watch.reads(*[t] * minutes, at=Instant(watch.clock.time - (minutes - 1) * MINUTE))

    @rule(minutes=st.integers(3, 60), t=st.sampled_from([5.0, 9.4]))
    def a_backlog_comes(self, minutes: int, t: float) -> None:
        self.watch.reads(*[t] * 20, at=Instant(self.watch.clock.time - minutes * MINUTE), origin="backfill")
        self.watch.run()

    @rule()
    def the_sensor_fails(self) -> None:
        self.watch.clock.time = Instant(self.watch.clock.time + MINUTE)
        self.watch.reads(None, q=1)
        self.watch.run()

    @rule()
    def the_worker_starts_anew(self) -> None:
        self.watch.engine = self.watch.worker()

    @rule(level=st.integers(1, 3))
    def somebody_acknowledges(self, level: int) -> None:
        for alarm in self.watch.alarms():
            with self.watch.records.write() as tx:
                handling.acknowledge(
                    tx, self.watch.person(level), alarm.id, through="wechat", now=self.watch.clock.time
                )

    @rule()
    def somebody_handles(self) -> None:
        for alarm in self.watch.alarms():
            if alarm.handling != "handled":
                with self.watch.records.write() as tx:
                    handling.handle(tx, self.watch.person(1), alarm.id, REPORT, now=self.watch.clock.time)

    @rule(kind=st.sampled_from(["repair", "defrost", "stopped"]))
    @precondition(lambda self: self.window is None)
    def a_window_begins(self, kind: str) -> None:
        with self.watch.records.write() as tx:
            row = MaintenanceWindow(equipment_id=self.fridge.equipment, kind=kind, since=self.watch.clock.time)
            tx.add(row)
            device_revision.bump(tx)
        self.window = row.id

    @rule()
    @precondition(lambda self: self.window is not None)
    def the_window_ends(self) -> None:
        self.watch.clock.time = Instant(self.watch.clock.time + 1)
        with self.watch.records.write() as tx:
            tx.get_one(MaintenanceWindow, self.window).until = self.watch.clock.time
            device_revision.bump(tx)
        self.window = None

    @invariant()
    def nobody_is_told_twice_or_too_early(self) -> None:
        with self.watch.records.read() as tx:
            opened = dict(
                tx.execute(select(AlarmEvent.alarm_id, AlarmEvent.at).where(AlarmEvent.kind == "opened")).all()
            )
            steps = tx.scalars(select(AlarmStep).where(AlarmStep.state == "fired", AlarmStep.tier > 0)).all()
            rows = tx.scalars(select(OutboxMessage).where(OutboxMessage.kind == "alarm")).all()
        assert len({_without_channel(row.key) for row in rows}) == len(rows)
        at_once = Counter((row.alarm_id, row.person_id, row.created_at) for row in rows)
        assert not at_once or max(at_once.values()) == 1
        # Whatever the cycle: all of an alarm count from its first opening, and a level's step fires once.
        assert all(row.created_at - opened[row.alarm_id] >= EARLIEST[row.tier] for row in rows)
        fired = Counter((step.alarm_id, step.tier, step.repeat) for step in steps if step.tier > 1)
        assert not fired or max(fired.values()) == 1

    @invariant()
    def what_is_over_has_nothing_left_to_do(self) -> None:
        with self.watch.records.read() as tx:
            alarms = tx.scalars(select(Alarm)).all()
            waiting = Counter(
                tx.scalars(
                    select(AlarmStep.alarm_id).where(
                        AlarmStep.tier > 0, AlarmStep.state.in_(["due", "held", "suppressed"])
                    )
                )
            )
        for alarm in alarms:
            assert (alarm.state == "open") == (alarm.recovered_at is None)
            done = alarm.handling == "handled" or alarm.origin == "withdrawn"
            assert (alarm.state == "closed") == (done and alarm.recovered_at is not None)
            assert alarm.state == "open" or not waiting[alarm.id]
            assert alarm.state != "open" or waiting[alarm.id]
            assert alarm.ended_at is None or alarm.ended_at >= cycle_onset_at(alarm) >= alarm.onset_at
            assert (alarm.cycle > 1) == (alarm.cycle_opened_at is not None) == (alarm.cycle_onset_at is not None)
            now = self.watch.clock.time
            assert 0 <= time_out(alarm, now) <= max(0, max(now, alarm.ended_at or now) - alarm.onset_at)
        open_ones = [(alarm.zone_id, alarm.rule) for alarm in alarms if alarm.state == "open"]
        assert len(open_ones) == len(set(open_ones))

    def teardown(self) -> None:
        self.watch.close()
        self.watch.records.close()
        self.folder.cleanup()


def _without_channel(key: str) -> tuple[str, ...]:
    """Return alarm, cycle, tier, repeat, person and kind of a message."""
    *what, _, kind = key.split(":")
    return (*what, kind)


TestAlarms = pytest.mark.req("AL-09", "AL-10", "AL-11")(Alarms.TestCase)
TestAlarms.settings = settings(max_examples=6, stateful_step_count=20, deadline=None)


class AlarmsAtLength(Alarms):
    """The same machine for the long run."""


TestAlarmsAtLength = pytest.mark.long(AlarmsAtLength.TestCase)
TestAlarmsAtLength.settings = settings(max_examples=12, stateful_step_count=20, deadline=None)
