"""Three levels, as the people see them: what is in the outbox when, on both databases."""

import pytest
from sqlalchemy import select

from alerting.escalating.due_steps import escalate
from core.alarms import handling
from core.alarms.tables import Alarm, AlarmStep
from core.alarms.zone_cache import ZoneCache
from core.devices.tables import ProbeWindow, Zone
from core.ids import Centi
from core.limits.rule_profile import load
from core.runtime.instant import MINUTE, Instant
from core.units import device_revision
from tests.fixtures.alerting import DAWN, REPORT, Watch, on_both, outbox_writer


@pytest.mark.req("AL-06", "AL-09", "AL-10")
@on_both
def test_level_1_at_once_2_after_30_and_3_after_60_minutes_none_before_none_twice(watch: Watch) -> None:
    watch.fridge()
    watch.reads(9.4)
    watch.run()
    watch.forward(9, showing=9.4)
    assert not watch.alarms()
    watch.forward(1, showing=9.4)
    opened = watch.clock.time
    alarm = watch.alarm()
    assert (alarm.opened_at, alarm.onset_at, alarm.rule, alarm.limit) == (opened, opened - 10 * MINUTE, "above", 800)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1], [], []]
    watch.forward(29, 59, showing=9.4)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1], [], []]
    watch.forward(seconds=1, showing=9.4)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1, 2], [2], []]
    watch.forward(29, 59, showing=9.4)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1, 2], [2], []]
    watch.forward(seconds=1, showing=9.4)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1, 2, 3], [2, 3], [3]]
    watch.forward(29, 59, showing=9.4)
    assert watch.tiers(3) == [3]


@pytest.mark.req("AL-09")
@on_both
def test_back_in_range_at_29_minutes_level_2_is_never_told(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.delivered()
    watch.forward(28, showing=9.4)
    watch.forward(120, showing=5.0)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1], [], []]
    assert watch.alarm().state == "recovered"
    assert len(watch.told(1, "recovery")) == 1
    assert not watch.told(2, "recovery")


def test_recovery_counts_that_came_in_before_the_step_whatever_the_order_of_work(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(29, showing=9.4)
    watch.clock.time = Instant(watch.clock.time + 59_000)
    watch.reads(5.0)
    watch.clock.time = Instant(watch.clock.time + 1_000)
    watch.run()
    assert watch.tiers(2) == []
    assert [step.state for step in watch.steps(watch.alarm().id)] == ["fired", "held", "due"]


def test_a_reading_of_the_very_instant_of_the_step_counts(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(29, showing=9.4)
    watch.forward(1, showing=5.0)
    assert watch.tiers(2) == []


def test_what_was_held_fires_at_once_when_it_is_abnormal_again(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(29, showing=9.4)
    watch.forward(1, showing=7.9)
    watch.forward(1, showing=7.9)
    assert watch.tiers(2) == []
    watch.forward(1, showing=8.1)
    assert watch.tiers(2) == [2]
    assert watch.alarm().cycle == 1


@pytest.mark.req("AL-12")
def test_acknowledging_does_not_stop_escalation(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(5, showing=9.4)
    with watch.records.write() as tx:
        handling.acknowledge(tx, watch.person(1), watch.alarm().id, through="wechat", now=watch.clock.time)
    watch.forward(55, showing=9.4)
    assert watch.tiers(2) == [2, 3]
    assert watch.tiers(3) == [3]


@pytest.mark.req("AL-12")
def test_a_policy_may_let_acknowledging_stop_it(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    with watch.records.write() as tx:
        alarm = tx.get_one(Alarm, watch.alarm().id)
        alarm.snapshot = alarm.snapshot.replace(
            '"acknowledging_stops_escalation":false', '"acknowledging_stops_escalation":true'
        )
        handling.acknowledge(tx, watch.person(1), alarm.id, through="web", now=watch.clock.time)
    watch.forward(120, showing=9.4)
    assert watch.tiers(2) == []


@pytest.mark.req("AL-11")
@on_both
def test_repeats_go_to_all_until_it_is_over_and_then_nothing(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(60 + 90, showing=9.4)
    repeats = [(row.tier, row.kind) for row in watch.told(3)]
    assert repeats == [(3, "alarm")] * 4
    assert len(watch.told(1)) == 2 + 4
    watch.delivered()
    watch.forward(6, showing=5.0)
    with watch.records.write() as tx:
        handling.handle(tx, watch.person(1), watch.alarm().id, REPORT, now=watch.clock.time)
    assert watch.alarm().state == "closed"
    before = len(watch.told(3))
    watch.forward(120, showing=5.0)
    assert len(watch.told(3)) == before
    assert len(watch.told(3, "recovery")) == 1


@pytest.mark.req("AL-11")
def test_a_new_excursion_after_the_end_is_a_new_alarm_at_level_1(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(6, showing=5.0)
    with watch.records.write() as tx:
        handling.handle(tx, watch.person(1), watch.alarm().id, REPORT, now=watch.clock.time)
    watch.warms_up()
    first, second = watch.alarms()
    assert (first.state, second.state, second.cycle) == ("closed", "open", 1)
    assert [row.alarm_id for row in watch.told(1)] == [first.id, second.id]
    assert watch.tiers(2) == []


@pytest.mark.req("AL-11")
@on_both
def test_handled_but_still_too_warm_keeps_steps_and_repeats_and_closes_with_the_recovery(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    with watch.records.write() as tx:
        handling.handle(tx, watch.person(1), watch.alarm().id, REPORT, now=watch.clock.time)
    assert watch.alarm().state == "open"
    watch.forward(90, showing=9.4)
    assert watch.tiers(3) == [3, 3]
    watch.forward(6, showing=5.0)
    alarm = watch.alarm()
    assert (alarm.state, alarm.closed_at) == ("closed", alarm.recovered_at)


@on_both
def test_after_our_own_standstill_each_is_told_once_and_the_missed_repeats_are_one(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.clock.time = Instant(watch.clock.time + 200 * MINUTE)
    watch.reads(*[9.4] * 200, at=Instant(watch.clock.time - 199 * MINUTE))
    watch.engine = watch.worker()
    watch.run()
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1, 3], [3], [3]]
    due = [step for step in watch.steps(watch.alarm().id) if step.state == "due"]
    assert [(step.repeat, step.due_at - watch.alarm().opened_at) for step in due] == [(1, 210 * MINUTE)]


def test_down_for_two_hours_and_recovered_meanwhile_pages_nobody(watch: Watch) -> None:
    watch.fridge()
    watch.run()
    for _ in range(12):
        start = Instant(watch.clock.time + MINUTE)
        watch.clock.time = Instant(watch.clock.time + 10 * MINUTE)
        watch.reads(*[9.4 if 20 <= (start - DAWN) // MINUTE < 60 else 5.0] * 10, at=start)
    watch.engine = watch.worker()
    watch.evaluate_late()
    alarm = watch.alarm()
    assert alarm.state == "recovered"
    assert alarm.ended_at is not None
    assert alarm.ended_at - alarm.onset_at == 40 * MINUTE
    assert not watch.told(1)
    watch.forward(6, showing=5.0)
    assert len(watch.told(1, "digest")) == 1


@on_both
def test_a_window_keeps_people_asleep_and_its_end_begins_the_escalation(watch: Watch) -> None:
    fridge = watch.fridge()
    with watch.window(fridge, "defrost"):
        watch.warms_up(12.0)
        watch.forward(50, showing=12.0)
        assert watch.alarm().state == "open"
        assert not watch.told(1)
    watch.forward(1, showing=12.0)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1], [], []]
    watch.forward(30, showing=12.0)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1, 2], [2], []]


@on_both
def test_a_window_that_begins_in_an_alarm_stops_its_clock(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.warms_up()
    watch.forward(20, showing=9.4)
    with watch.window(fridge, "repair"):
        watch.forward(60, showing=9.4)
        assert watch.tiers(2) == []
    watch.forward(1, showing=9.4)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1, 2], [2], []]
    watch.forward(28, showing=9.4)
    assert watch.tiers(3) == []
    watch.forward(2, showing=9.4)
    assert watch.tiers(3) == [3]


def test_what_a_window_held_and_ended_well_is_recorded_and_told_to_nobody(watch: Watch) -> None:
    fridge = watch.fridge()
    with watch.window(fridge, "stock_take"):
        watch.warms_up()
        watch.forward(10, showing=5.0)
    watch.forward(30, showing=5.0)
    assert watch.alarm().state == "recovered"
    assert not any(watch.told(1, kind) for kind in ("alarm", "recovery", "digest"))


@on_both
@pytest.mark.req("HW-36")
def test_a_probe_in_repair_pages_nobody_while_the_other_probe_of_its_zone_does(watch: Watch) -> None:
    fridge = watch.fridge("208601", "208602")
    with watch.records.write() as tx:
        tx.add(
            ProbeWindow(
                probe_id=fridge.probes["208601"],
                kind="repair",
                since=watch.clock.time,
                until=Instant(watch.clock.time + 100 * MINUTE),
            )
        )

    def pass_minutes(minutes: int, in_repair: float, other: float) -> None:
        for _ in range(minutes):
            watch.reads(other, code="208602")
            watch.forward(1, showing=in_repair)

    pass_minutes(40, 12.0, 5.0)
    assert watch.alarm().state == "open"
    assert not watch.told(1)
    pass_minutes(12, 12.0, 12.0)
    assert watch.tiers(1) == [1]


@on_both
def test_when_the_repair_is_over_the_escalation_begins(watch: Watch) -> None:
    fridge = watch.fridge()
    with watch.records.write() as tx:
        since, until = watch.clock.time, Instant(watch.clock.time + 30 * MINUTE)
        tx.add(ProbeWindow(probe_id=fridge.probes["208601"], kind="repair", since=since, until=until))
    watch.warms_up(12.0)
    watch.forward(19, showing=12.0)
    assert not watch.told(1)
    watch.forward(2, showing=12.0)
    assert watch.tiers(1) == [1]


def test_an_edited_rule_changes_no_alarm_that_is_open(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.warms_up()
    before = watch.alarm().snapshot
    with watch.records.write() as tx:
        tx.get_one(Zone, fridge.zone).high = Centi(900)
        device_revision.bump(tx)
    watch.forward(30, showing=9.4)
    assert watch.alarm().snapshot == before
    assert watch.tiers(2) == [2]
    with watch.records.write() as tx:
        tx.get_one(Zone, fridge.zone).high = Centi(1000)
        device_revision.bump(tx)
    watch.forward(6, showing=9.4)
    assert watch.alarm().state == "recovered"


@on_both
def test_a_step_that_fired_is_not_fired_again_by_a_worker_that_starts_anew(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    zones = ZoneCache()
    with watch.records.write() as tx:
        zones.refresh(tx)
        assert escalate(tx, zones, outbox_writer(), watch.clock.time) == 0
    with watch.records.write() as tx:
        # Even where the mark was lost, the outbox knows the message.
        step = tx.scalars(select(AlarmStep).where(AlarmStep.tier == 1)).one()
        step.state = "due"
    with watch.records.write() as tx:
        assert escalate(tx, zones, outbox_writer(), watch.clock.time) == 1
    assert watch.tiers(1) == [1]


def test_the_shipped_policy_is_the_written_one() -> None:
    policy = load("china-2017").policy
    assert policy.steps_min == [30, 60]
    assert not policy.acknowledging_stops_escalation
