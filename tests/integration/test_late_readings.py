"""Readings that come late, twice, or with a clock that is wrong: what they wake, and what they are a record of."""

import pytest
from sqlalchemy import delete
from sqlalchemy.event import listen

from collector.receiving import clocks_running_behind
from core.runtime.instant import DAY, HOUR, MINUTE, Instant, Milliseconds
from core.units.tables import Contact, Person
from core.wire.messages import Batch, ClockReport
from tests.fixtures.alerting import DAWN, Watch, ago, ahead, on_both


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
    onset, ended = ago(watch, 160), ago(watch, 100)
    assert not watch.alarms()
    watch.evaluate_late()
    first, second = watch.alarms()
    assert (first.state, first.handling) == ("recovered", "unacknowledged")
    assert (first.onset_at, first.ended_at, first.peak) == (onset, ended, 950)
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
    watch.forward(15, showing=5.0)
    assert not watch.told(1, "digest")
    assert ("unreachable" if anybody else "nobody_to_tell") in watch.events(watch.alarm().id)


def test_a_digest_of_many_alarms_asks_once_whom_it_goes_to(watch: Watch) -> None:
    codes = [f"20860{n}" for n in range(1, 7)]
    for code in codes:
        watch.fridge(code)
        watch.reads(5.0, code=code)
    watch.run()
    ahead(watch, 200)
    for code in codes:
        watch.reads(5.0, code=code)
        watch.reads(*[5.0] * 30, *[9.5] * 60, *[5.0] * 100, code=code, at=ago(watch, 190), origin="backfill")
    watch.evaluate_late()
    statements: list[str] = []
    listen(watch.records.engine, "before_cursor_execute", lambda *said: statements.append(said[2]))
    watch.forward(10)
    (digest,) = watch.told(1, "digest")
    assert "6次" in digest.body.decode()
    assert len([one for one in statements if "FROM contact" in one]) == 1


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
    onset = ago(watch, 160)
    watch.evaluate_late()
    alarm = watch.alarm()
    assert (alarm.opened_at, alarm.onset_at) == (watch.clock.time, onset)
    assert [watch.tiers(level) for level in (1, 2, 3)] == [[1], [], []]
    watch.forward(29, showing=9.0)
    assert watch.tiers(2) == []
    watch.forward(1, showing=9.0)
    assert watch.tiers(2) == [2]


@on_both
def test_an_excursion_whose_beginning_came_late_opens_its_alarm_though_its_live_part_is_too_short(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    onset = Instant(watch.clock.time + MINUTE)
    ahead(watch, 8)
    watch.reads(*[9.5] * 4, at=ago(watch, 3))
    watch.reads(*[9.5] * 4, at=onset, origin="backfill")
    watch.evaluate_late()
    watch.reads(9.5)
    watch.run()
    assert not watch.alarms(), "after 8 of the rule's 10 minutes"
    watch.forward(2, showing=9.5)
    assert (watch.alarm().state, watch.alarm().onset_at) == ("open", onset)
    watch.forward(20, showing=5.0)
    assert watch.alarm().state == "recovered"


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
    until = watch.clock.time
    watch.reads(*[9.5] * 30, at=ago(watch, 29), origin="released")
    watch.evaluate_late()
    assert watch.alarm().state == "recovered"
    assert watch.alarm().ended_at == until
    watch.reads(*[9.5] * 30, at=ago(watch, 30), origin="released")
    watch.run()
    watch.forward(10)
    assert len(watch.alarms()) == 1
    assert not watch.told(1)


@on_both
def test_an_excursion_that_began_before_the_release_and_goes_on_live_is_one_however_short_its_parts(
    watch: Watch,
) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    onset = Instant(watch.clock.time + MINUTE)
    ahead(watch, 5)
    watch.reads(*[9.5] * 5, at=onset, origin="released")
    watch.evaluate_late()
    assert not watch.alarms()
    ahead(watch, 1)
    watch.reads(9.5)
    watch.forward(4, showing=9.5)
    watch.forward(20, showing=5.0)
    assert watch.alarm().onset_at == onset


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


class SkewedClock:
    """A gateway whose clock is behind, and the collector, which corrects its times once it has found that."""

    def __init__(self, watch: Watch, behind: Milliseconds) -> None:
        self._watch = watch
        self._behind = behind
        self._judged: clocks_running_behind.JudgedClock | None = None

    def reads(self, minutes: int, value: float) -> None:
        """Let it send a live reading a minute."""
        for _ in range(minutes):
            ahead(self._watch, 1)
            now = self._watch.clock.time
            sent = Batch(1, "10001", "00" * 8, "00" * 4, 1, now - self._behind, ClockReport("ntp", 0, 1), [])
            self._judged = clocks_running_behind.judge(self._judged, sent, now)
            self._watch.reads(value, at=Instant(sent.sent + clocks_running_behind.lag_of(self._judged, sent, now)))
            self._watch.run()


@pytest.mark.req("AL-14")
@on_both
def test_a_device_clock_that_jumps_back_blinds_nobody(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.forward(60, showing=5.0)
    jumped = watch.clock.time
    gateway = SkewedClock(watch, Milliseconds(8 * HOUR))
    gateway.reads(13, 15.0)
    alarm = watch.alarm()
    assert (alarm.rule, alarm.state, alarm.onset_at) == (
        "above",
        "open",
        jumped + clocks_running_behind.CONVINCED * MINUTE,
    )
    assert watch.tiers(1) == [1]
    watch.delivered()
    watch.engine = watch.worker()
    gateway.reads(60, 15.0)
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
    SkewedClock(watch, Milliseconds(8 * HOUR)).reads(20, 9.4)
    gateway = SkewedClock(watch, Milliseconds(3 * HOUR))
    gateway.reads(20, 9.4)
    assert watch.alarm().state == "open"
    gateway.reads(10, 5.0)
    assert (watch.alarm().state, watch.alarm().cycle) == ("recovered", 1)
    assert not watch.told(1, "digest")


def test_stragglers_among_readings_on_time_and_a_backlog_are_late_data_as_ever(watch: Watch) -> None:
    watch.fridge()
    watch.forward(60, showing=5.0)
    for _ in range(20):
        SkewedClock(watch, Milliseconds(30 * MINUTE)).reads(2, 15.0)
        watch.forward(1, showing=5.0)
    for minutes in range(30):
        ahead(watch, 1)
        watch.reads(15.0, at=ago(watch, 40 - minutes % 10), origin="backfill")
        watch.run()
    assert not [alarm for alarm in watch.alarms() if alarm.state == "open" and alarm.rule == "above"]
    assert not watch.told(1)
