"""Probes that say nothing, or nothing that can be believed: when that is an alarm, and when our own absence."""

import pytest
from sqlalchemy import select

from core.devices.tables import ProbeGateway, ProbeZone
from core.runtime.instant import MINUTE, Instant
from core.units import device_revision
from tests.fixtures.alerting import DAWN, Watch, ago, ahead, on_both


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
        device_revision.bump(tx)
    watch.forward(14)
    assert not watch.alarms()
    watch.forward(5)
    assert (watch.alarm().rule, watch.tiers(1)) == ("probe_offline", [1])
    with watch.records.write() as tx:
        tx.add(ProbeGateway(probe_id=read.probe_id, gateway_id=read.gateway_id, since=watch.clock.time))
        device_revision.bump(tx)
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


@on_both
def test_what_is_released_of_a_probe_that_never_spoke_leaves_its_silence_to_its_first_reading(watch: Watch) -> None:
    watch.fridge()
    watch.run()
    watch.forward(20)
    assert (watch.alarm().rule, watch.alarm().state) == ("probe_offline", "open")
    watch.reads(5.0, 5.0, at=ago(watch, 10), origin="released")
    watch.run()
    assert watch.alarm().state == "open"
    watch.reads(5.0)
    watch.run()
    assert watch.alarm().state == "recovered"


@on_both
@pytest.mark.parametrize("into_another", [True, False])
def test_a_silent_probe_that_speaks_for_the_first_time_elsewhere_ends_its_alarm(
    watch: Watch,
    into_another: bool,  # noqa: FBT001
) -> None:
    fridge, other = watch.fridge(), watch.fridge("208602")
    watch.run()
    for _ in range(4):
        watch.forward(5, showing=5.0, code="208602")
    assert (watch.alarm().rule, watch.alarm().state) == ("probe_offline", "open")
    with watch.records.write() as tx:
        place = tx.scalars(select(ProbeZone).where(ProbeZone.zone_id == fridge.zone)).one()
        place.until = watch.clock.time
        if into_another:
            tx.add(ProbeZone(probe_id=place.probe_id, zone_id=other.zone, since=watch.clock.time))
        device_revision.bump(tx)
    watch.reads(5.0)
    watch.run()
    for _ in range(3):
        watch.forward(1, showing=5.0)
        watch.reads(5.0, code="208602")
    assert [(one.zone_id, one.state) for one in watch.alarms()] == [(fridge.zone, "recovered")]
    assert not watch.told(1, "recovery")
