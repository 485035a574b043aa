"""Three levels, as the people see them: what is in the outbox when, on both databases."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from alerting.escalate import escalate
from core.alarms import handling
from core.alarms.handling import Report
from core.alarms.profile import load
from core.alarms.tables import Alarm, AlarmStep, Outbox
from core.alarms.watched import Zones
from core.devices import revision
from core.devices.tables import Zone
from core.errors import Conflict, Invalid, NotFound, NotGranted
from core.ids import AlarmId, Centi
from core.runtime.instant import MINUTE, Instant, Milliseconds
from core.units.tables import Contact, Person
from tests.fixtures.alerting import DAWN, Watch, post
from tests.fixtures.county import add_contact
from tests.fixtures.databases import DATABASES, opened

REPORT = Report(cause="门未关严", action="关门，转移疫苗", disposition="评估后可用")


@pytest.fixture
def watch(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watch]:
    """Yield a county, on SQLite unless the test says otherwise."""
    with opened(getattr(request, "param", "sqlite"), tmp_path) as records:
        made = Watch(records, tmp_path)
        yield made
        made.close()


on_both = pytest.mark.parametrize("watch", DATABASES, indirect=True)


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


@pytest.mark.req("AL-07", "AL-08")
@pytest.mark.parametrize(("minutes", "in_time"), [(29, True), (30, True), (31, False)])
def test_acknowledged_within_30_minutes_or_late(watch: Watch, minutes: int, in_time: bool) -> None:  # noqa: FBT001
    watch.fridge()
    watch.warms_up()
    assert handling.acknowledged_in_time(watch.alarm()) is None
    at = Instant(watch.clock.time + minutes * MINUTE)
    with watch.records.write() as tx:
        handling.acknowledge(tx, watch.person(1), watch.alarm().id, through="wechat", now=at)
    alarm = watch.alarm()
    assert handling.acknowledged_in_time(alarm) is in_time
    assert (alarm.acknowledged_by, alarm.acknowledged_through) == (watch.people[1], "wechat")


@pytest.mark.req("AL-08")
@on_both
def test_the_first_of_two_phones_acknowledges_and_a_stranger_never(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    alarm_id = watch.alarm().id
    _, stranger = watch.sibling_unit()
    with pytest.raises(NotGranted), watch.records.write() as tx:
        handling.acknowledge(tx, stranger, alarm_id, through="wechat", now=watch.clock.time)
    assert watch.alarm().handling == "unacknowledged"
    for level, later in ((1, 60_000), (2, 61_000)):
        with watch.records.write() as tx:
            handling.acknowledge(
                tx, watch.person(level), alarm_id, through="wechat", now=Instant(watch.clock.time + later)
            )
    alarm = watch.alarm()
    assert (alarm.acknowledged_by, alarm.acknowledged_at) == (watch.people[1], watch.clock.time + 60_000)
    assert watch.events(alarm_id).count("acknowledged") == 1
    with pytest.raises(NotFound), watch.records.write() as tx:
        handling.acknowledge(tx, stranger, AlarmId(999), through="web", now=watch.clock.time)


@pytest.mark.req("AL-08")
def test_a_contact_of_the_equipment_from_elsewhere_may_acknowledge(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.warms_up()
    unit, somebody = watch.sibling_unit()
    with watch.records.write() as tx:
        tx.add(Contact(equipment_id=fridge.equipment, level=1, person_id=somebody.person))
    with watch.records.write() as tx:
        assert (
            handling.acknowledge(tx, somebody, watch.alarm().id, through="wechat", now=watch.clock.time).acknowledged_by
            == somebody.person
        )
    assert unit


def test_a_record_of_handling_is_written_once_and_says_something(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    alarm, me = watch.alarm().id, watch.person(1)
    with pytest.raises(Invalid, match="cause"), watch.records.write() as tx:
        handling.handle(tx, me, alarm, Report(cause=" ", action="x", disposition="y"), now=watch.clock.time)
    with watch.records.write() as tx:
        handling.handle(tx, me, alarm, REPORT, now=watch.clock.time)
    with pytest.raises(Conflict), watch.records.write() as tx:
        handling.handle(tx, me, alarm, REPORT, now=watch.clock.time)


@on_both
def test_contacts_are_those_of_the_moment(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(20, showing=9.4)
    with watch.records.write() as tx:
        tx.execute(delete(Contact).where(Contact.level == 2))
        successor = add_contact(tx, 2, "successor", watch.unit).id
    watch.forward(10, showing=9.4)
    assert not watch.told(2)
    assert [row.tier for row in watch.messages(successor)] == [2]


def test_nobody_at_a_level_is_seen_and_the_step_counts(watch: Watch) -> None:
    watch.fridge()
    with watch.records.write() as tx:
        tx.execute(delete(Contact).where(Contact.level == 2))
    watch.warms_up()
    watch.forward(60, showing=9.4)
    assert watch.tiers(1) == [1, 2, 3]
    assert watch.tiers(3) == [3]
    assert watch.events(watch.alarm().id).count("nobody_to_tell") == 2


@pytest.mark.req("AL-05")
def test_a_contact_without_wechat_is_an_event_not_a_silence(watch: Watch) -> None:
    watch.fridge()
    with watch.records.write() as tx:
        tx.get_one(Person, watch.people[1]).openid = None
    watch.warms_up()
    assert not watch.told(1)
    assert watch.events(watch.alarm().id) == ["opened", "told", "unreachable"]


@pytest.mark.req("AL-05")
def test_who_lost_their_wechat_after_they_were_told_is_an_event_when_it_is_over(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    with watch.records.write() as tx:
        tx.get_one(Person, watch.people[1]).openid = None
    watch.forward(6, showing=5.0)
    assert not watch.told(1, "recovery")
    assert watch.events(watch.alarm().id) == ["opened", "told", "unreachable", "recovered"]


def test_one_person_in_two_levels_gets_one_message(watch: Watch) -> None:
    watch.fridge()
    with watch.records.write() as tx:
        tx.add(Contact(unit_id=watch.unit.id, level=2, person_id=watch.people[1]))
    watch.warms_up()
    watch.forward(30, showing=9.4)
    assert watch.tiers(1) == [1, 2]


@pytest.mark.req("AL-15")
@on_both
def test_messages_stay_queued_and_visible_while_nothing_sends_them(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    (row,) = watch.told(1)
    assert (row.state, row.attempts, row.channel) == ("queued", 0, "wechat")
    assert b"https://cc.example/a/1." in row.body


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
    assert [(step.turn, step.due_at - watch.alarm().opened_at) for step in due] == [(1, 210 * MINUTE)]


def test_down_for_two_hours_and_recovered_meanwhile_pages_nobody(watch: Watch) -> None:
    watch.fridge()
    watch.run()
    for _ in range(12):
        start = Instant(watch.clock.time + MINUTE)
        watch.clock.time = Instant(watch.clock.time + 10 * MINUTE)
        watch.reads(*[9.4 if 20 <= (start - DAWN) // MINUTE < 60 else 5.0] * 10, at=start)
    watch.engine = watch.worker()
    watch.run()
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


def test_an_edited_rule_changes_no_alarm_that_is_open(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.warms_up()
    before = watch.alarm().snapshot
    with watch.records.write() as tx:
        tx.get_one(Zone, fridge.zone).high = Centi(900)
        revision.bump(tx)
    watch.forward(30, showing=9.4)
    assert watch.alarm().snapshot == before
    assert watch.tiers(2) == [2]
    with watch.records.write() as tx:
        tx.get_one(Zone, fridge.zone).high = Centi(1000)
        revision.bump(tx)
    watch.forward(6, showing=9.4)
    assert watch.alarm().state == "recovered"


def test_a_limit_taken_from_the_zone_ends_what_it_found_without_saying_that_all_is_well(watch: Watch) -> None:
    fridge = watch.fridge(zone="frozen")
    with watch.records.write() as tx:
        zone = tx.get_one(Zone, fridge.zone)
        zone.low, zone.delay = Centi(-3000), Milliseconds(0)
        revision.bump(tx)
    watch.warms_up(-35.0)
    assert watch.alarm().rule == "below"
    watch.delivered()
    with watch.records.write() as tx:
        tx.get_one(Zone, fridge.zone).low = None
        revision.bump(tx)
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
        revision.bump(tx)
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
def test_reopening_soon_joins_as_another_cycle_with_its_own_steps_and_a_floor(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.delivered()
    watch.forward(6, showing=5.0)
    assert watch.alarm().state == "recovered"
    watch.forward(10, showing=9.4)
    watch.forward(1, showing=9.4)
    alarm = watch.alarm()
    assert (alarm.state, alarm.cycle, alarm.handling) == ("open", 2, "unacknowledged")
    assert [row.cycle for row in watch.told(1)] == [1, 2]
    watch.forward(29, showing=9.4)
    assert watch.tiers(2) == [2] or watch.tiers(2) == []
    watch.forward(1, showing=9.4)
    assert watch.tiers(2) == [2]


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
    times = [row.created_at for row in watch.told(1)]
    assert len(times) >= 2
    assert all(later - sooner >= 15 * MINUTE for sooner, later in pairwise(times))


@on_both
def test_what_was_superseded_unsent_holds_no_later_message_back(watch: Watch) -> None:
    watch.fridge()
    watch.reads(None, q=1)
    watch.run()
    assert watch.tiers(1) == [1]
    watch.forward(4, showing=5.0)
    assert watch.alarm().state == "recovered"
    with watch.records.write() as tx:
        for row in tx.scalars(select(Outbox)):
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
        assert not tx.scalars(select(Outbox)).all()


@on_both
def test_a_step_that_fired_is_not_fired_again_by_a_worker_that_starts_anew(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    zones = Zones()
    with watch.records.write() as tx:
        zones.load(tx)
        assert escalate(tx, zones, post(), watch.clock.time) == 0
    with watch.records.write() as tx:
        # Even where the mark was lost, the outbox knows the message.
        step = tx.scalars(select(AlarmStep).where(AlarmStep.tier == 1)).one()
        step.state = "due"
    with watch.records.write() as tx:
        assert escalate(tx, zones, post(), watch.clock.time) == 1
    assert watch.tiers(1) == [1]


def test_the_shipped_policy_is_the_written_one() -> None:
    policy = load("china-2017").policy
    assert policy.steps_min == [30, 60]
    assert not policy.acknowledging_stops_escalation
