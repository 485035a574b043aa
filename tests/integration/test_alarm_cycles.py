"""Cycles of an alarm: which limits open it, when it is over, when it opens again, and when it is another."""

from itertools import pairwise

import pytest
from sqlalchemy import delete, select

from core.alarms.tables import OutboxMessage
from core.devices.tables import Zone
from core.ids import Centi
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.units import device_revision
from core.units.tables import Contact
from tests.fixtures.alerting import Watch, on_both


def test_a_limit_taken_from_the_zone_ends_what_it_found_without_saying_that_all_is_well(watch: Watch) -> None:
    fridge = watch.fridge(zone="frozen")
    with watch.records.write() as tx:
        zone = tx.get_one(Zone, fridge.zone)
        zone.low, zone.delay = Centi(-3000), Milliseconds(0)
        device_revision.bump(tx)
    watch.warms_up(-35.0)
    assert watch.alarm().rule == "below"
    watch.delivered()
    with watch.records.write() as tx:
        tx.get_one(Zone, fridge.zone).low = None
        device_revision.bump(tx)
    watch.forward(60, showing=-35.0)
    assert watch.alarm().state == "recovered"
    assert not watch.told(2)
    assert not watch.told(1, "recovery")


@pytest.mark.req("AL-13")
def test_limits_are_of_the_zone_and_strict(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.reads(8.0)
    watch.run()
    watch.forward(60, showing=8.0)
    assert not watch.alarms()
    watch.warms_up(8.1)
    assert watch.alarm().peak == 810
    with watch.records.write() as tx:
        tx.get_one(Zone, fridge.zone).high = Centi(820)
        device_revision.bump(tx)
    watch.forward(31, showing=8.1)
    assert watch.alarm().state == "recovered"


@pytest.mark.req("AL-13")
def test_a_freezer_is_held_to_minus_15_for_30_minutes(watch: Watch) -> None:
    watch.fridge(zone="frozen")
    watch.reads(-15.0)
    watch.run()
    watch.forward(60, showing=-15.0)
    assert not watch.alarms()
    watch.forward(30, showing=-14.9)
    assert not watch.alarms()
    watch.forward(1, showing=-14.9)
    assert watch.alarm().limit == -1500


def test_silence_keeps_the_last_condition_and_says_that_there_is_no_data(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(31)
    assert watch.tiers(2)[0] == 2
    above = [row for row in watch.told(2) if row.alarm_id == watch.alarms()[0].id]
    assert "无数据" in above[0].body.decode()


@on_both
def test_reopening_soon_joins_as_another_cycle_of_the_same_escalation(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.delivered()
    t0 = watch.clock.time
    watch.forward(6, showing=5.0)
    assert watch.alarm().state == "recovered"
    watch.forward(10, showing=9.4)
    watch.forward(1, showing=9.4)
    alarm = watch.alarm()
    assert (alarm.state, alarm.cycle, alarm.handling) == ("open", 2, "unacknowledged")
    assert (alarm.opened_at, alarm.cycle_opened_at) == (t0, watch.clock.time)
    assert [row.cycle for row in watch.told(1)] == [1, 2]
    watch.forward(12, showing=9.4)
    assert watch.tiers(2) == []
    watch.forward(1, showing=9.4)
    assert watch.clock.time == t0 + 30 * MINUTE
    assert watch.tiers(2) == [2]
    watch.forward(29, showing=9.4)
    assert watch.tiers(3) == []
    watch.forward(1, showing=9.4)
    assert watch.tiers(3) == [3]


@on_both
def test_one_that_opens_again_and_one_that_is_new_in_one_chunk_have_each_their_own(watch: Watch) -> None:
    watch.fridge("208601")
    watch.warms_up(code="208601")
    watch.forward(6, showing=5.0, code="208601")
    watch.fridge("208602")
    for _ in range(12):
        watch.clock.time = Instant(watch.clock.time + MINUTE)
        watch.reads(9.4, code="208601")
        watch.reads(10.6, code="208602")
    watch.run()
    again, new = watch.alarms()
    assert [(alarm.state, alarm.cycle, alarm.opening_value) for alarm in (again, new)] == [
        ("open", 2, 940),
        ("open", 1, 1060),
    ]
    assert watch.events(again.id) == ["opened", "told", "recovered", "reopened", "told"]
    assert watch.events(new.id) == ["opened", "told"]
    for alarm in (again, new):
        # Who opens again goes on with the steps of the first opening, and level 1 is told of it.
        steps = [(step.tier, step.due_at) for step in watch.steps(alarm.id) if step.cycle == alarm.cycle]
        later = [(tier, alarm.opened_at + wait * MINUTE) for tier, wait in ((2, 30), (3, 60))]
        assert steps == [(1, watch.clock.time), *later]
    assert again.opened_at < new.opened_at == watch.clock.time


def test_after_the_merge_window_it_is_another_alarm(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(6, showing=5.0)
    watch.forward(10, showing=5.0)
    watch.warms_up()
    assert [alarm.cycle for alarm in watch.alarms()] == [1, 1]


@on_both
def test_a_flapping_probe_is_told_at_most_every_quarter_of_an_hour(watch: Watch) -> None:
    watch.fridge()
    for _ in range(12):
        watch.reads(None, q=1)
        watch.run()
        watch.forward(4, showing=5.0)
        watch.delivered()
    alarm = watch.alarm()
    assert alarm.rule == "bad_sensor"
    assert alarm.cycle >= 10
    times = {tier: [row.created_at for row in watch.told(1) if row.tier == tier] for tier in (1, 2)}
    assert len(times[1]) >= 2
    assert all(later - sooner >= 15 * MINUTE for sooner, later in pairwise(times[1]))
    # Level 2 is told at its time, and level 1 with it: that is no repetition, and the next one waits for it.
    assert [told - alarm.opened_at for told in times[2]] in ([30 * MINUTE], [32 * MINUTE])
    assert all(abs(one - times[2][0]) >= 12 * MINUTE for one in times[1])
    assert watch.tiers(2) == [2]


@on_both
def test_what_was_superseded_unsent_holds_no_later_message_back(watch: Watch) -> None:
    watch.fridge()
    watch.reads(None, q=1)
    watch.run()
    assert watch.tiers(1) == [1]
    watch.forward(4, showing=5.0)
    assert watch.alarm().state == "recovered"
    with watch.records.write() as tx:
        for row in tx.scalars(select(OutboxMessage)):
            row.state = "superseded"
    watch.reads(None, q=1)
    watch.run()
    assert (watch.alarm().cycle, [row.cycle for row in watch.told(1)]) == (2, [1, 2])
    watch.forward(4, showing=5.0)
    watch.reads(None, q=1)
    watch.run()
    assert (watch.alarm().cycle, [row.cycle for row in watch.told(1)]) == (3, [1, 2]), "the queued one counts"


def test_two_probes_of_a_room_never_flap_it(watch: Watch) -> None:
    watch.fridge("a", "b")
    watch.reads(5.0, code="b")
    watch.warms_up(code="a")
    watch.reads(9.0, code="b")
    watch.forward(11, showing=9.0, code="b")
    watch.forward(6, showing=5.0, code="a")
    alarm = watch.alarm()
    assert alarm.state == "open"
    watch.forward(6, showing=5.0, code="b")
    assert watch.alarms()[0].state == "recovered"


def test_no_recovery_message_where_no_alarm_message_was(watch: Watch) -> None:
    watch.fridge()
    with watch.records.write() as tx:
        tx.execute(delete(Contact))
    watch.warms_up()
    watch.forward(6, showing=5.0)
    assert watch.alarm().state == "recovered"
    with watch.records.read() as tx:
        assert not tx.scalars(select(OutboxMessage)).all()
