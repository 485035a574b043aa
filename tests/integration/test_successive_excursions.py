"""Excursions after one another whose readings come or are followed late: each has an alarm of its own."""

import pytest

from core.alarms.handling import acknowledge
from core.runtime.instant import MINUTE, Instant
from tests.fixtures.alerting import Watch, ago, ahead, on_both


@on_both
def test_an_excursion_that_late_readings_show_to_be_over_is_not_the_next_one(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    first = watch.alarm()
    ahead(watch, 60)
    watch.reads(9.4)
    watch.run()
    assert watch.alarm().state == "open", "of the time between there are no readings yet"
    watch.reads(*[9.4] * 4, *[5.0] * 40, *[9.4] * 15, at=ago(watch, 59), origin="backfill")
    ended, onset = ago(watch, 55), ago(watch, 15)
    watch.evaluate_late()
    before, now = watch.alarms()
    assert (before.id, before.state, before.ended_at) == (first.id, "recovered", ended)
    assert (now.state, now.onset_at, now.cycle) == ("open", onset, 1)
    assert [message.alarm_id for message in watch.told(1)].count(now.id) == 1
    assert not watch.told(1, "recovery"), "it is too warm"


@on_both
def test_late_readings_tell_two_excursions_apart_that_live_ones_took_for_one_until_both_were_over(
    watch: Watch,
) -> None:
    watch.fridge()
    watch.warms_up()
    first = watch.alarm()
    ahead(watch, 60)
    watch.reads(9.4)
    watch.run()
    since, until = ago(watch, 59), Instant(watch.clock.time + MINUTE)
    watch.forward(20, showing=5.0)
    assert (watch.alarm().state, watch.alarm().ended_at) == ("recovered", until)
    watch.reads(*[9.4] * 4, *[5.0] * 40, *[9.4] * 15, at=since, origin="backfill")
    for _ in range(2):
        watch.evaluate_late()
        before, after = watch.alarms()
        assert (before.id, before.onset_at, before.ended_at) == (first.id, first.onset_at, since + 4 * MINUTE)
        assert (after.origin, after.onset_at, after.ended_at) == ("late", since + 44 * MINUTE, until)
        assert watch.events(before.id).count("widened") == 1
        watch.reads(9.4, at=Instant(since + MINUTE), origin="backfill")


@on_both
def test_an_alarm_that_was_acknowledged_keeps_the_times_that_were_seen(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    ahead(watch, 60)
    watch.reads(9.4)
    watch.run()
    since = ago(watch, 59)
    watch.forward(20, showing=5.0)
    seen = watch.alarm()
    with watch.records.write() as tx:
        acknowledge(tx, watch.person(1), seen.id, through="web", now=watch.clock.time)
    watch.reads(*[9.4] * 4, *[5.0] * 40, *[9.4] * 15, at=since, origin="backfill")
    watch.evaluate_late()
    assert (watch.alarm().onset_at, watch.alarm().ended_at) == (seen.onset_at, seen.ended_at)


@on_both
def test_an_excursion_after_one_that_late_readings_have_ended_waits_for_its_own_delay(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    ahead(watch, 60)
    watch.reads(9.4)
    watch.reads(*[9.4] * 4, *[5.0] * 50, *[9.4] * 5, at=ago(watch, 59), origin="backfill")
    onset = ago(watch, 5)
    watch.evaluate_late()
    assert watch.alarm().state == "recovered"
    watch.forward(4, showing=9.4)
    _, now = watch.alarms()
    assert (now.state, now.onset_at, now.opened_at) == ("open", onset, onset + 10 * MINUTE)


def test_an_end_that_late_readings_show_is_told_while_the_temperature_is_in_range(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    ahead(watch, 20)
    watch.reads(5.0)
    watch.run()
    assert watch.alarm().state == "open", "one reading is no end yet"
    watch.reads(*[9.4] * 4, *[5.0] * 15, at=ago(watch, 19), origin="backfill")
    ended = ago(watch, 15)
    watch.evaluate_late()
    assert (watch.alarm().state, watch.alarm().ended_at) == ("recovered", ended)
    assert len(watch.told(1, "recovery")) == 1


def test_late_readings_that_show_no_whole_end_leave_a_live_alarm_open(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    ahead(watch, 10)
    watch.reads(9.4)
    watch.reads(*[9.4] * 4, *[5.0] * 4, 9.4, at=ago(watch, 9), origin="backfill")
    watch.evaluate_late()
    assert watch.alarm().state == "open"


@on_both
@pytest.mark.parametrize(
    "size", [1, 20, pytest.param(1000, marks=pytest.mark.long)], ids=lambda size: f"{size} readings at once"
)
def test_excursions_that_are_followed_at_once_long_after_are_alarms_of_their_own(
    watch: Watch, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("alerting.following.follower.CHUNK", size)
    monkeypatch.setattr("alerting.following.follower.CHUNK_SQLITE", size)
    watch.engine = watch.worker()
    watch.fridge()
    watch.warms_up()
    begin = watch.clock.time
    for minute in range(1, 181):
        ahead(watch, 1)
        watch.reads(5.0 if minute in range(1, 41) or minute in range(80, 121) else 9.4)
    watch.evaluate_late()
    alarms = sorted((each.onset_at - begin, each.ended_at, each.cycle) for each in watch.alarms())
    assert alarms == [
        (-10 * MINUTE, begin + MINUTE, 1),
        (41 * MINUTE, begin + 80 * MINUTE, 1),
        (121 * MINUTE, None, 1),
    ]
