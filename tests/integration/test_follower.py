"""From the log to alarms: each kind of equipment, moved probes, and a cursor that nobody shares."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

import pytest
from sqlalchemy import select, update

from alerting.evaluating.placed_readings import PlacedReadings, place_readings
from alerting.following.follower import Overtaken, positions
from core.alarms.tables import Alarm, AlarmStep, FollowCursor, RuleState, SeriesState
from core.alarms.zone_cache import CacheOutdated
from core.devices.directory import Directory
from core.devices.tables import Equipment, Gateway, MaintenanceWindow, Probe, ProbeGateway, ProbeZone
from core.intake.port import LogEntry
from core.runtime.instant import HOUR, MINUTE, SECOND, Instant, Milliseconds
from core.units import device_revision
from core.wire.shards import GatewayNumber, Shard, shard_of
from tests.fixtures.alerting import DAWN, Fridge, Watch, ago, ahead, on_both
from tests.fixtures.county import add_probe


@pytest.mark.req("CC-01", "AL-14")
@pytest.mark.parametrize("kind", ["vehicle", "cold_room", "freezer", "fridge"])
@on_both
def test_each_kind_of_equipment_is_held_to_its_limits_as_its_readings_come(watch: Watch, kind: str) -> None:
    zone, bad = ("frozen", -10.0) if kind == "freezer" else ("refrigerated", 8.1)
    fridge = watch.fridge(zone=zone)
    with watch.records.write() as tx:
        tx.get_one(Equipment, fridge.equipment).kind = kind
        tx.get_one(Probe, fridge.probes["208601"]).interval = Milliseconds(HOUR)
        device_revision.bump(tx)
    watch.reads(bad)
    watch.run()
    with watch.records.read() as tx:
        state = tx.scalars(select(SeriesState)).one()
    assert (state.value, state.newest_at, state.shard) == (round(bad * 100), DAWN, shard_of(watch.gateways["208601"]))
    assert (watch.alarm().equipment_id, watch.alarm().rule) == (fridge.equipment, "above")


def move(watch: Watch, fridge: Fridge, other: Fridge | None) -> None:
    """Take the fridge's probe out now, and put it into another fridge."""
    probe = fridge.probes["208601"]
    with watch.records.write() as tx:
        bound = [ProbeZone.probe_id == probe, ProbeZone.until.is_(None)]
        tx.execute(update(ProbeZone).where(*bound).values(until=watch.clock.time))
        if other:
            tx.add(ProbeZone(probe_id=probe, zone_id=other.zone, since=watch.clock.time))
        device_revision.bump(tx)


@on_both
def test_a_probe_that_is_entered_while_its_readings_are_followed_is_evaluated_all_the_same(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    fridge = watch.fridge()
    watch.gateways["208602"] = GatewayNumber("10001")
    watch.run()
    ahead(watch, 30)
    watch.reads(5.0)
    watch.reads(*[9.5] * 30, code="208602", at=ago(watch, 29))

    def look_up(entries: Mapping[Shard, Sequence[LogEntry]], directory: Directory) -> PlacedReadings:
        placed = place_readings(entries, directory)
        with watch.records.write() as tx:
            if tx.scalar(select(Probe).where(Probe.code == "208602")) is None:
                add_probe(tx, "208602", tx.scalars(select(Gateway.id)).one(), fridge.zone)
                device_revision.bump(tx)
        return placed

    monkeypatch.setattr("alerting.following.follower.place_readings", look_up)
    with suppress(CacheOutdated):
        watch.run()
    watch.run()
    assert (watch.alarm().rule, watch.alarm().state) == ("above", "open")


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
        device_revision.bump(tx)
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


def test_records_that_were_put_back_pass_what_was_pruned_meanwhile(watch: Watch) -> None:
    watch.fridge()
    for value in (4.0, 4.1, 4.2):
        watch.reads(value)
    watch.run()
    shard = shard_of(watch.gateways["208601"])
    watch.log.prune(before=Instant(2**52), readers=[])
    with watch.records.write() as tx:
        tx.execute(update(FollowCursor).values(position=1))
    watch.log.place_cursor("alerting", {shard: 1})
    worker = watch.worker()
    worker.run_once()
    assert not worker.is_behind()
    with watch.records.read() as tx:
        assert positions(tx) == watch.log.heads()
    watch.reads(4.3)
    worker.run_once()
    with watch.records.read() as tx:
        assert positions(tx) == {shard: 4}


def test_a_log_that_never_stands_still_holds_nobody_up(watch: Watch) -> None:
    watch.fridge()
    watch.fridge("208602")
    watch.warms_up()
    ahead(watch, 30)
    watch.reads(*[9.4] * 30, at=ago(watch, 29))
    read_each = watch.log.read_each
    appended: list[Mapping[Shard, int]] = []

    def growing(after: Mapping[Shard, int], limit: int) -> dict[Shard, list[LogEntry]]:
        # Whenever somebody looks, another batch has come.
        if len(appended) < 500:
            watch.reads(5.0, code="208602", at=Instant(watch.clock.time + len(appended)))
            appended.append(after)
        return read_each(after, limit)

    watch.log.read_each = growing  # type: ignore[method-assign]
    watch.run()
    assert 0 < len(appended) < 500, "it went after the head for as long as that moved"
    assert watch.tiers(2) == [2]
    assert watch.log.cursor("alerting"), "nothing of such a log could be pruned"


def test_who_is_stopped_before_all_is_read_tells_nobody_what_may_be_over(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.delivered()
    ahead(watch, 220)
    for minutes in range(219, 0, -10):
        values = [9.4 if minutes > 20 else 5.0] * 30
        watch.reads(*values, at=ago(watch, minutes), every=Milliseconds(20 * SECOND))
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


@on_both
def test_a_backlog_of_one_shard_lets_no_other_wait_for_its_end(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alerting.following.follower.CHUNK", 4)
    monkeypatch.setattr("alerting.following.follower.CHUNK_SQLITE", 4)
    watch.engine = watch.worker()
    first, last = sorted(("10001", "10002"), key=shard_of)  # type: ignore[type-var, arg-type]
    watch.fridge("208601", gateways=(first,))
    watch.fridge("208602", gateways=(last,))
    for n in range(50):
        watch.reads(*[5.0] * 10, at=Instant(DAWN - (500 - 10 * n) * MINUTE), origin="backfill")
    watch.reads(5.0, code="208602")
    follower = watch.engine._follower
    follower.start()
    follower.step(DAWN)
    follower.step(DAWN)
    assert follower.readings < 60, "most of the backlog is still to come"
    with watch.records.read() as tx:
        read = set(tx.scalars(select(SeriesState.newest_at)))
    assert DAWN in read, "the only reading of the other shard"
