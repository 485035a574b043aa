"""From the log to alarms: late data, silence, bad sensors, moved probes, and a cursor that nobody shares."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from alerting.follow import Overtaken
from core.alarms.tables import Alarm, AlarmStep, FollowCursor, RuleState, SeriesState
from core.devices import revision
from core.devices.tables import Equipment, Gateway, MaintenanceWindow, Probe, ProbeGateway, ProbeZone
from core.intake.port import Entry
from core.runtime.instant import DAY, HOUR, MINUTE, Instant, Milliseconds
from core.units.tables import Contact, Person
from core.wire.topics import Shard, shard_of
from tests.fixtures.alerting import DAWN, Fridge, Watch
from tests.fixtures.databases import DATABASES, opened


@pytest.fixture
def watch(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watch]:
    """Yield a county, on SQLite unless the test says otherwise."""
    with opened(getattr(request, "param", "sqlite"), tmp_path) as records:
        made = Watch(records, tmp_path)
        yield made
        made.close()


on_both = pytest.mark.parametrize("watch", DATABASES, indirect=True)


def ahead(watch: Watch, minutes: float) -> None:
    """Let time pass while nobody works."""
    watch.clock.time = Instant(watch.clock.time + int(minutes * MINUTE))


def ago(watch: Watch, minutes: float) -> Instant:
    return Instant(watch.clock.time - int(minutes * MINUTE))


@pytest.mark.req("CC-01", "AL-14")
@pytest.mark.parametrize("kind", ["vehicle", "cold_room", "freezer", "fridge"])
@on_both
def test_each_kind_of_equipment_is_held_to_its_limits_as_its_readings_come(watch: Watch, kind: str) -> None:
    zone, bad = ("frozen", -10.0) if kind == "freezer" else ("refrigerated", 8.1)
    fridge = watch.fridge(zone=zone)
    with watch.records.write() as tx:
        tx.get_one(Equipment, fridge.equipment).kind = kind
        tx.get_one(Probe, fridge.probes["208601"]).interval = Milliseconds(HOUR)
        revision.bump(tx)
    watch.reads(bad)
    watch.run()
    with watch.records.read() as tx:
        state = tx.scalars(select(SeriesState)).one()
    assert (state.value, state.newest_at, state.shard) == (round(bad * 100), DAWN, shard_of(watch.gateways["208601"]))
    assert (watch.alarm().equipment_id, watch.alarm().rule) == (fridge.equipment, "above")


@pytest.mark.req("AL-14")
@on_both
def test_a_backlog_that_recovered_wakes_nobody_makes_a_record_and_one_digest(watch: Watch) -> None:
    watch.fridge()
    watch.fridge("208602")
    for code in ("208601", "208602"):
        watch.reads(5.0, code=code)
    watch.run()
    ahead(watch, 200)
    for code in ("208601", "208602"):
        watch.reads(5.0, code=code)
        watch.reads(*[5.0] * 30, *[9.5] * 60, *[5.0] * 100, code=code, at=ago(watch, 190), origin="backfill")
        watch.run()
    first, second = watch.alarms()
    assert (first.state, first.handling) == ("recovered", "unacknowledged")
    assert (first.onset_at, first.ended_at, first.peak) == (ago(watch, 160), ago(watch, 100), 950)
    watch.forward(10, showing=5.0)
    assert not watch.told(1)
    (digest,) = watch.told(1, "digest")
    assert "2次" in digest.body.decode()
    assert [step.tier for alarm in (first, second) for step in watch.steps(alarm.id)] == [0, 0]


@pytest.mark.req("AL-14")
@pytest.mark.parametrize("anybody", [True, False])
def test_a_digest_that_reaches_nobody_says_so(watch: Watch, anybody: bool) -> None:  # noqa: FBT001
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    with watch.records.write() as tx:
        if anybody:
            tx.get_one(Person, watch.people[1]).openid = None
        else:
            tx.execute(delete(Contact))
    ahead(watch, 200)
    watch.reads(5.0)
    watch.reads(*[5.0] * 30, *[9.5] * 60, *[5.0] * 100, at=ago(watch, 190), origin="backfill")
    watch.run()
    watch.forward(10, showing=5.0)
    assert not watch.told(1, "digest")
    assert ("unreachable" if anybody else "nobody_to_tell") in watch.events(watch.alarm().id)


@on_both
def test_a_backlog_that_is_still_abnormal_pages_level_1_now_with_its_true_onset(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 200)
    watch.reads(9.0)
    watch.run()
    assert not watch.alarms()
    watch.reads(*[5.0] * 39, *[9.5] * 160, at=ago(watch, 199), origin="backfill")
    watch.run()
    alarm = watch.alarm()
    assert (alarm.opened_at, alarm.onset_at) == (watch.clock.time, ago(watch, 160))
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1], [], []]
    watch.forward(29, showing=9.0)
    assert watch.tiers(2) == []
    watch.forward(1, showing=9.0)
    assert watch.tiers(2) == [2]


@pytest.mark.req("AL-14")
def test_a_backlog_before_any_live_reading_waits_for_its_end_before_it_wakes_anyone(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 180)
    watch.reads(*[9.5] * 60, at=ago(watch, 179), origin="backfill")
    watch.run()
    assert watch.alarm().state == "open"
    assert not watch.told(1)
    watch.reads(*[9.5] * 60, at=ago(watch, 119), origin="backfill")
    watch.forward(seconds=40)
    watch.reads(*[5.0] * 58, at=ago(watch, 59), origin="backfill")
    watch.forward(seconds=40)
    assert watch.alarm().state == "recovered"
    watch.forward(10, showing=5.0)
    assert not watch.told(1)
    assert not watch.told(1, "recovery")
    assert len(watch.told(1, "digest")) == 1


@pytest.mark.parametrize("live", [True, False])
def test_a_backlog_before_any_live_reading_pages_once_it_has_drained(watch: Watch, live: bool) -> None:  # noqa: FBT001
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 60)
    watch.reads(*[9.5] * 59, at=ago(watch, 59), origin="backfill")
    watch.run()
    assert not watch.told(1)
    if live:
        watch.reads(9.5)
        watch.run()
    else:
        watch.forward(seconds=59)
        assert not watch.told(1)
        watch.forward(seconds=1)
    assert watch.tiers(1) == [1]
    assert watch.alarm().onset_at == DAWN + MINUTE


@pytest.mark.req("AL-14")
def test_late_readings_of_a_time_that_is_closed_open_nothing_again(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(6, showing=5.0)
    first = watch.alarm()
    watch.reads(*[9.9] * 9, at=Instant(first.onset_at + MINUTE + 500), origin="backfill")
    watch.reads(9.9, at=Instant(first.onset_at + 10 * MINUTE + 500), origin="backfill")
    watch.run()
    assert watch.alarm().id == first.id
    assert len(watch.told(1)) == 1


@pytest.mark.req("AL-14")
@on_both
def test_what_is_released_from_quarantine_is_recorded_and_never_pages(watch: Watch) -> None:
    watch.fridge()
    watch.reads(*[9.5] * 30, at=ago(watch, 29), origin="released")
    watch.run()
    assert watch.alarm().state == "recovered"
    assert watch.alarm().ended_at == watch.clock.time
    watch.reads(*[9.5] * 30, at=ago(watch, 29), origin="released")
    watch.run()
    watch.forward(10)
    assert len(watch.alarms()) == 1
    assert not watch.told(1)


def test_duplicates_three_times_change_nothing(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    for _ in range(3):
        watch.reads(*[9.4] * 11, at=ago(watch, 10))
        watch.run()
    assert len(watch.told(1)) == 1
    assert watch.alarm().cycle == 1


def test_device_clocks_of_1970_and_of_tomorrow_wake_nobody(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.reads(9.4, 9.4, 9.4, at=Instant(0))
    watch.reads(*[9.4] * 20, at=Instant(watch.clock.time + DAY))
    watch.run()
    watch.forward(30, showing=5.0)
    assert not watch.alarms()


def skewed(watch: Watch, minutes: int, value: float, behind: Milliseconds = Milliseconds(8 * HOUR)) -> None:
    """Let a gateway send a live reading a minute, by a clock that is behind."""
    for _ in range(minutes):
        ahead(watch, 1)
        watch.reads(value, at=Instant(watch.clock.time - behind))
        watch.run()


@pytest.mark.req("AL-14")
@on_both
def test_a_device_clock_that_jumps_back_blinds_nobody(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.forward(60, showing=5.0)
    jumped = watch.clock.time
    skewed(watch, 13, 15.0)
    alarm = watch.alarm()
    assert (alarm.rule, alarm.state, alarm.onset_at) == ("above", "open", jumped + MINUTE)
    assert watch.tiers(1) == [1]
    watch.delivered()
    watch.engine = watch.worker()
    skewed(watch, 60, 15.0)
    assert (watch.alarm().state, watch.tiers(2)[0], watch.tiers(3)[0]) == ("open", 2, 3)
    watch.forward(2, showing=15.0)
    assert watch.alarm().state == "open", "the clock was set right, the fridge is as hot"
    watch.forward(10, showing=5.0)
    assert watch.alarm().state == "recovered"
    assert watch.alarm().ended_at == jumped + 76 * MINUTE
    assert not watch.told(1, "digest")


@on_both
def test_a_clock_that_jumps_back_in_an_alarm_neither_ends_it_nor_hides_its_end(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    skewed(watch, 20, 9.4)
    skewed(watch, 20, 9.4, Milliseconds(3 * HOUR))
    assert watch.alarm().state == "open"
    skewed(watch, 10, 5.0, Milliseconds(3 * HOUR))
    assert (watch.alarm().state, watch.alarm().cycle) == ("recovered", 1)
    assert not watch.told(1, "digest")


def test_stragglers_among_readings_on_time_and_a_backlog_are_late_data_as_ever(watch: Watch) -> None:
    watch.fridge()
    watch.forward(60, showing=5.0)
    for _ in range(20):
        skewed(watch, 2, 15.0, Milliseconds(30 * MINUTE))
        watch.forward(1, showing=5.0)
    for minutes in range(30):
        ahead(watch, 1)
        watch.reads(15.0, at=ago(watch, 40 - minutes % 10), origin="backfill")
        watch.run()
    assert not [alarm for alarm in watch.alarms() if alarm.state == "open" and alarm.rule == "above"]
    assert not watch.told(1)


@pytest.mark.parametrize(("silent", "minutes"), [(None, 15), (4, 15), (8, 15)])
@on_both
def test_a_silent_probe_is_an_alarm_and_its_next_value_ends_it(watch: Watch, silent: int | None, minutes: int) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    for _ in range(minutes - 1):
        watch.forward(1)
        if silent:
            watch.reads(None, q=silent)
    assert not watch.alarms()
    watch.forward(1)
    alarm = watch.alarm()
    assert (alarm.rule, alarm.onset_at, alarm.opened_at) == ("probe_offline", DAWN, watch.clock.time)
    watch.delivered()
    watch.reads(None, q=4)
    watch.forward(1)
    assert watch.alarm().state == "open"
    watch.reads(5.0)
    watch.run()
    assert watch.alarm().state == "recovered"
    assert len(watch.told(1, "recovery")) == 1


@on_both
def test_a_probe_that_never_spoke_is_silent_too_from_when_it_was_expected(watch: Watch) -> None:
    watch.run()
    watch.fridge()
    watch.forward(15)
    assert not watch.alarms()
    watch.forward(5)
    assert watch.alarm().rule == "probe_offline"


@on_both
def test_a_probe_that_no_gateway_reads_any_more_is_silent_until_one_does(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    with watch.records.write() as tx:
        read = tx.scalars(select(ProbeGateway)).one()
        read.until = watch.clock.time
        revision.bump(tx)
    watch.forward(14)
    assert not watch.alarms()
    watch.forward(5)
    assert (watch.alarm().rule, watch.tiers(1)) == ("probe_offline", [1])
    with watch.records.write() as tx:
        tx.add(ProbeGateway(probe_id=read.probe_id, gateway_id=read.gateway_id, since=watch.clock.time))
        revision.bump(tx)
    watch.forward(1, showing=5.0)
    assert watch.alarm().state == "recovered"


def test_a_broken_sensor_is_told_once_as_that_and_not_as_silence(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    for _ in range(30):
        watch.clock.time = Instant(watch.clock.time + MINUTE)
        watch.reads(None, q=1)
    watch.run()
    assert [alarm.rule for alarm in watch.alarms()] == ["bad_sensor"]
    watch.forward(3, showing=5.0)
    assert watch.alarm().state == "recovered"


def test_readings_that_came_while_we_were_away_are_no_silence(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    for _ in range(120):
        ahead(watch, 1)
        watch.reads(5.0)
    watch.engine = watch.worker()
    watch.run()
    watch.forward(4)
    assert not watch.alarms()


@on_both
def test_after_our_own_absence_a_probe_gets_a_grace_to_speak(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 120)
    watch.run()
    assert not watch.alarms()
    watch.forward(5)
    assert [alarm.rule for alarm in watch.alarms()] == ["probe_offline"]


def move(watch: Watch, fridge: Fridge, other: Fridge | None) -> None:
    """Take the fridge's probe out now, and put it into another fridge."""
    probe = fridge.probes["208601"]
    with watch.records.write() as tx:
        bound = [ProbeZone.probe_id == probe, ProbeZone.until.is_(None)]
        tx.execute(update(ProbeZone).where(*bound).values(until=watch.clock.time))
        if other:
            tx.add(ProbeZone(probe_id=probe, zone_id=other.zone, since=watch.clock.time))
        revision.bump(tx)


@on_both
def test_a_probe_moved_in_an_alarm_ends_it_without_saying_that_all_is_well(watch: Watch) -> None:
    fridge, other = watch.fridge(), watch.fridge("208602")
    watch.warms_up()
    watch.delivered()
    move(watch, fridge, other)
    watch.forward(9, showing=9.4)
    first = watch.alarms()[0]
    assert (first.state, first.handling) == ("recovered", "unacknowledged")
    assert not watch.told(1, "recovery")
    watch.forward(2, showing=9.4)
    first, second = [alarm for alarm in watch.alarms() if alarm.rule == "above"]
    assert (second.zone_id, second.state) == (other.zone, "open")


def test_a_probe_taken_away_in_an_alarm_and_never_heard_again_ends_it(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.warms_up()
    move(watch, fridge, None)
    watch.forward(60)
    assert [alarm.state for alarm in watch.alarms()] == ["recovered"]
    with watch.records.read() as tx:
        assert not tx.scalars(select(RuleState).where(RuleState.condition == "active")).all()


@pytest.mark.req("CC-19")
@on_both
def test_a_stopped_equipment_is_neither_silent_nor_abnormal(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.warms_up()
    with watch.window(fridge, "stopped"):
        watch.forward(120, showing=9.4)
        assert [alarm.state for alarm in watch.alarms()] == ["recovered"]
    watch.forward(10)
    assert len(watch.alarms()) == 1
    watch.forward(10)
    assert [alarm.rule for alarm in watch.alarms()] == ["above", "probe_offline"]


def test_a_window_of_another_kind_lets_evaluation_go_on(watch: Watch) -> None:
    fridge = watch.fridge()
    with watch.records.write() as tx:
        tx.add(MaintenanceWindow(equipment_id=fridge.equipment, kind="spare", since=DAWN))
    watch.warms_up()
    assert (watch.alarm().state, watch.told(1)) == ("open", [])


@on_both
def test_a_series_may_change_its_gateway_and_shard_in_an_alarm(watch: Watch) -> None:
    watch.fridge("208601", "208602", gateways=("10001", "10002"))
    watch.reads(9.4, code="208601")
    watch.run()
    watch.forward(5, showing=9.4)
    assert not watch.alarms()
    watch.gateways["208601"] = watch.gateways["208602"]
    with watch.records.write() as tx:
        probe = tx.scalars(select(Probe).where(Probe.code == "208601")).one()
        to = tx.scalars(select(Gateway).where(Gateway.number == "10002")).one()
        tx.execute(update(ProbeGateway).where(ProbeGateway.probe_id == probe.id).values(until=watch.clock.time + 1))
        tx.add(ProbeGateway(probe_id=probe.id, gateway_id=to.id, since=Instant(watch.clock.time + 1)))
        revision.bump(tx)
    watch.engine = watch.worker()
    watch.forward(5, showing=9.4)
    assert watch.alarm().onset_at == DAWN


@on_both
def test_the_cursor_moves_with_what_it_led_to_and_the_log_knows_it(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    shard = shard_of(watch.gateways["208601"])
    head = watch.log.head(shard)
    with watch.records.read() as tx:
        assert tx.scalars(select(FollowCursor.position)).all() == [head]
    watch.engine._follower.mirror()
    assert watch.log.cursor("alerting") == {shard: head}


@on_both
def test_who_comes_second_to_a_shard_changes_nothing(watch: Watch) -> None:
    watch.fridge()
    watch.reads(9.4)
    watch.run()
    second = watch.worker()
    second.run_once()
    ahead(watch, 10)
    watch.reads(*[9.4] * 10, at=ago(watch, 9))
    watch.run()
    with watch.records.read() as tx:
        before = tx.scalars(select(RuleState.memory).order_by(RuleState.rule)).all()
    watch.reads(9.5)
    second._follower._positions = {shard_of(watch.gateways["208601"]): 1}
    with pytest.raises(Overtaken):
        second.run_once()
    with watch.records.read() as tx:
        assert tx.scalars(select(RuleState.memory).order_by(RuleState.rule)).all() == before
    second.run_once()
    assert watch.alarm().state == "open"


def test_a_log_that_never_stands_still_holds_nobody_up(watch: Watch) -> None:
    watch.fridge()
    watch.fridge("208602")
    watch.warms_up()
    ahead(watch, 30)
    watch.reads(*[9.4] * 30, at=ago(watch, 29))
    read = watch.log.read
    appended: list[Shard] = []

    def growing(shard: Shard, after: int, limit: int) -> list[Entry]:
        # Whenever somebody looks, another batch has come.
        if len(appended) < 500:
            watch.reads(5.0, code="208602", at=Instant(watch.clock.time + len(appended)))
            appended.append(shard)
        return read(shard, after, limit)

    watch.log.read = growing  # type: ignore[method-assign]
    watch.run()
    assert len(appended) < 500, "it went after the head for as long as that moved"
    assert watch.tiers(2) == [2]
    assert watch.log.cursor("alerting"), "nothing of such a log could be pruned"


def test_who_is_stopped_before_all_is_read_tells_nobody_what_may_be_over(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.delivered()
    ahead(watch, 120)
    for minutes in range(119, 0, -10):
        watch.reads(*[9.4 if minutes > 20 else 5.0] * 10, at=ago(watch, minutes))
    stop = threading.Event()
    stop.set()
    watch.engine = watch.worker()
    watch.engine.run_once(stop)
    assert watch.alarm().state == "open", "it has read all; the test shows nothing"
    assert not watch.told(2)
    watch.engine = watch.worker()
    watch.run()
    assert watch.alarm().state == "recovered"
    assert not watch.told(2)


def test_an_alarm_and_its_steps_are_there_together_with_absolute_times(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    with watch.records.read() as tx:
        alarm = tx.scalars(select(Alarm)).one()
        steps = tx.execute(select(AlarmStep.tier, AlarmStep.due_at - alarm.opened_at).order_by(AlarmStep.tier))
        assert [tuple(step) for step in steps] == [(1, 0), (2, 30 * MINUTE), (3, 60 * MINUTE)]
