"""Readings that come late, twice, or with a clock that is wrong: what they wake, and what they are a record of."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select
from sqlalchemy.event import listen
from sqlalchemy.orm import Session

from collector.receiving import clocks_running_behind
from core.alarms.handling import acknowledge
from core.alarms.late_alarms import known_alarms
from core.alarms.lifecycle import ZoneRule
from core.alarms.tables import Alarm, LateSpan
from core.devices.tables import Series
from core.health.trouble_text import wrong
from core.ids import SeriesId, ZoneId
from core.rules.reconcile import AlarmChanges, FoundEpisode, KnownAlarm, reconcile
from core.runtime.instant import DAY, HOUR, MINUTE, Instant, Milliseconds
from core.runtime.trouble import TroubleKind
from core.telemetry.codec import Damaged
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.port import Curve, TelemetryUnavailable
from core.units.tables import Contact, Person
from core.wire.messages import Batch, ClockReport
from core.wire.shards import GatewayNumber, Shard, shard_of
from tests.fixtures.alerting import DAWN, Watch, ago, ahead, on_both
from tests.fixtures.waiting import until


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


@pytest.mark.req("AL-14")
@on_both
def test_what_exceeds_an_alarm_that_was_acknowledged_is_a_linked_record(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 120)
    watch.reads(5.0)
    begin = ago(watch, 119)
    watch.reads(*[9.5] * 20, *[5.0] * 10, at=Instant(begin + 30 * MINUTE), origin="backfill")
    watch.evaluate_late()
    first = watch.alarm()
    with watch.records.write() as tx:
        acknowledge(tx, watch.person(1), first.id, through="web", now=watch.clock.time)
    watch.reads(*[5.0] * 10, *[9.9] * 20, at=begin, origin="backfill")
    watch.evaluate_late()
    again, second = watch.alarms()
    assert (again.onset_at, again.ended_at, again.peak) == (first.onset_at, first.ended_at, 950)
    assert (second.exceeds_id, second.origin, second.state, second.handling) == (
        first.id,
        "late",
        "recovered",
        "unacknowledged",
    )
    assert (second.onset_at, second.ended_at, second.peak) == (begin + 10 * MINUTE, first.onset_at, 990)
    watch.reads(*[9.9] * 5, at=Instant(begin + 20 * MINUTE), origin="backfill")
    watch.evaluate_late()
    assert len(watch.alarms()) == 2


def old_alarms(watch: Watch, like: Alarm, days: int) -> None:
    """Enter a closed alarm of an hour on each of the days before an alarm."""
    columns = {column.name: getattr(like, column.name) for column in Alarm.__table__.c if column.name != "id"}
    with watch.records.write() as tx:
        for day in range(1, days + 1):
            onset = Instant(like.onset_at - day * DAY)
            closed = {"state": "closed", "handling": "handled", "onset_at": onset, "ended_at": onset + HOUR}
            tx.add(Alarm(**{**columns, **closed}))


@on_both
def test_of_all_alarms_of_a_zone_those_near_late_readings_are_read(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(6, showing=5.0)
    old_alarms(watch, watch.alarm(), days=50)
    ahead(watch, 300)
    watch.reads(5.0)
    watch.run()
    read: list[int] = []

    def reading(tx: Session, zones: Collection[ZoneId], *span: Instant) -> dict[ZoneRule, list[KnownAlarm]]:
        found = known_alarms(tx, zones, *span)
        read.append(sum(map(len, found.values())))
        return found

    monkeypatch.setattr("core.alarms.late_alarms.known_alarms", reading)
    watch.reads(*[9.5] * 30, *[5.0] * 10, at=ago(watch, 60), origin="backfill")
    watch.evaluate_late()
    assert len(watch.alarms()) == 52
    assert read
    assert sum(read) == 0, "alarms that can't overlap the late readings were read"


@on_both
def test_an_alarm_far_from_late_readings_counts_where_their_excursion_reaches_it(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 800)
    watch.reads(5.0)
    watch.run()
    begin = ago(watch, 700)
    watch.reads(*[9.5] * 60, *[5.0] * 10, at=begin, origin="backfill")
    watch.evaluate_late()
    first = watch.alarm()
    with watch.records.write() as tx:
        acknowledge(tx, watch.person(1), first.id, through="web", now=watch.clock.time)
    watch.reads(*[9.5] * 540, at=Instant(begin + 60 * MINUTE), origin="backfill")
    watch.evaluate_late()
    watch.reads(*[9.5] * 10, *[5.0] * 10, at=Instant(begin + 600 * MINUTE), origin="backfill")
    watch.evaluate_late()
    first, second = watch.alarms()
    assert (first.onset_at, first.ended_at) == (begin, begin + 60 * MINUTE)
    assert (second.onset_at, second.ended_at, second.exceeds_id) == (first.ended_at, begin + 610 * MINUTE, first.id)


@pytest.mark.parametrize("watch", ["postgresql"], indirect=True)
def test_an_alarm_that_is_acknowledged_at_the_moment_of_its_change_stays_as_it_was_seen(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 120)
    watch.reads(5.0)
    begin = ago(watch, 119)
    watch.reads(*[9.5] * 20, *[5.0] * 10, at=Instant(begin + 30 * MINUTE), origin="backfill")
    watch.evaluate_late()
    first = watch.alarm()
    somebody = watch.person(1)

    def take_it_on() -> None:
        with watch.records.write() as tx:
            acknowledge(tx, somebody, first.id, through="web", now=watch.clock.time)

    other = threading.Thread(target=take_it_on)

    def compared(episodes: Sequence[FoundEpisode], alarms: Sequence[KnownAlarm]) -> AlarmChanges:
        if alarms and not other.ident:
            other.start()
            other.join(1)  # it comes first if nothing holds it
        return reconcile(episodes, alarms)

    monkeypatch.setattr("alerting.evaluating.late_readings.reconcile", compared)
    watch.reads(*[5.0] * 10, *[9.9] * 20, at=begin, origin="backfill")
    watch.evaluate_late()
    other.join()
    happened = watch.events(first.id)
    assert "acknowledged" in happened
    assert "widened" not in happened[happened.index("acknowledged") :]


@pytest.mark.req("AL-14")
@on_both
def test_a_record_that_nobody_has_touched_follows_the_readings_and_is_withdrawn_where_they_leave_nothing(
    watch: Watch,
) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 120)
    watch.reads(5.0)
    begin = ago(watch, 100)
    watch.reads(*[9.5] * 20, *[5.0] * 10, at=begin, origin="backfill")
    watch.evaluate_late()
    watch.reads(*[9.6] * 15, at=ago(watch, 116), origin="backfill")
    watch.evaluate_late()
    wider = watch.alarm()
    assert (wider.onset_at, wider.ended_at, wider.peak) == (begin - 15 * MINUTE, begin + 20 * MINUTE, 960)
    watch.reads(*[5.0] * 60, at=Instant(begin - 20 * MINUTE), origin="backfill")
    watch.evaluate_late()
    assert (watch.alarm().origin, watch.alarm().state) == ("withdrawn", "closed")
    watch.forward(10, showing=5.0)
    assert not watch.told(1, "digest")
    watch.reads(*[9.5] * 20, at=begin, origin="backfill")
    watch.evaluate_late()
    assert [alarm.origin for alarm in watch.alarms()] == ["withdrawn", "late"]


@on_both
def test_a_store_that_can_not_be_read_delays_late_readings_alone_and_is_told(watch: Watch) -> None:
    watch.fridge()
    watch.fridge("208602")
    watch.reads(5.0)
    watch.run()
    ahead(watch, 60)
    watch.reads(5.0)
    watch.reads(*[9.5] * 30, *[5.0] * 20, at=ago(watch, 55), origin="backfill")
    watch.engine.run_once()
    there, watch.telemetry = watch.telemetry, Broken()  # type: ignore[assignment]
    watch.clock.time = Instant(watch.clock.time + 2 * MINUTE)
    watch.reads(9.5, code="208602", at=ago(watch, 11))
    watch.reads(*[9.5] * 11, code="208602", at=ago(watch, 10))
    stop, late = threading.Event(), watch.late_worker()
    thread = threading.Thread(target=late.run, args=(stop,))
    thread.start()
    until(lambda: bool(late.troubles.now()), "the trouble is noted")
    (trouble,) = late.troubles.now()
    assert wrong(trouble) == "reading the telemetry store can't be reached"
    assert late.is_idle(), "a barrier isn't held up by it"
    watch.engine.run_once()
    assert watch.tiers(1) == [1], "the other fridge's alarm"
    watch.telemetry = there
    watch.store()
    until(lambda: len(watch.alarms()) == 2 and not late.troubles.now(), "what was late is evaluated")
    stop.set()
    late.wake()
    thread.join()
    watch.telemetry = EmbeddedTelemetry(watch.folder / "telemetry")


class Broken:
    """A telemetry store behind a network that is down."""

    def positions(self) -> Mapping[Shard, int]:
        msg = "InfluxDB gave no answer: connection refused"
        raise TelemetryUnavailable(msg)

    def close(self) -> None:
        pass


class PartlyUnreadable(EmbeddedTelemetry):
    """A store of which the readings of some series can't be read."""

    unreadable: set[SeriesId]
    error: Exception

    def multi_range(self, series: Sequence[SeriesId], since: Instant, until: Instant) -> dict[SeriesId, Curve]:
        if self.unreadable & set(series):
            raise self.error
        return super().multi_range(series, since, until)


@pytest.mark.req("AL-14")
@pytest.mark.parametrize("error", [Damaged("block of day 20540: checksum"), ValueError("an error of ours")])
def test_what_can_not_be_read_of_one_probe_keeps_no_other_s_late_readings_waiting(
    watch: Watch, tmp_path: Path, error: Exception
) -> None:
    codes = ("208601", "208602", "208603")
    fridges = [watch.fridge(code) for code in codes]
    for code in codes:
        watch.reads(5.0, code=code)
    watch.run()
    ahead(watch, 200)
    for code in codes:
        watch.reads(5.0, code=code)
        watch.reads(*[5.0] * 30, *[9.5] * 60, *[5.0] * 100, code=code, at=ago(watch, 190), origin="backfill")
    watch.engine.run_once()
    watch.store()
    ahead(watch, 6)
    store = PartlyUnreadable(tmp_path / "telemetry")
    with watch.records.read() as tx:
        store.unreadable, store.error = {min(tx.scalars(select(Series.id)))}, error
    whole, watch.telemetry = watch.telemetry, store
    stop, late = threading.Event(), watch.late_worker()
    thread = threading.Thread(target=late.run, args=(stop,))
    thread.start()
    try:
        until(lambda: len(watch.alarms()) == 2, "the others' excursions", within_s=60)
        until(late.is_idle, "what can be evaluated was", within_s=60)
        assert [trouble.kind for trouble in late.troubles.now()] == [
            TroubleKind.DAMAGED if isinstance(error, Damaged) else TroubleKind.OTHER
        ]
    finally:
        stop.set()
        late.wake()
        thread.join()
    assert {alarm.zone_id for alarm in watch.alarms()} == {fridge.zone for fridge in fridges[1:]}
    watch.telemetry = whole
    watch.late = watch.late_worker()
    watch.run()
    assert {alarm.zone_id for alarm in watch.alarms()} == {fridge.zone for fridge in fridges}


@pytest.mark.req("AL-14")
def test_late_readings_wait_until_telemetry_has_them_all(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 60)
    watch.reads(5.0)
    watch.store()
    watch.reads(*[9.5] * 30, *[5.0] * 20, at=ago(watch, 55), origin="backfill")
    watch.engine.run_once()
    ahead(watch, 10)
    assert not watch.late.step()
    assert not watch.late.is_idle()
    watch.run()
    assert watch.late.is_idle()
    assert watch.alarm().state == "recovered"


class ReadMeanwhile(EmbeddedTelemetry):
    """A store during whose reading something else happens."""

    meanwhile: Callable[[], None]

    def multi_range(self, series: Sequence[SeriesId], since: Instant, until: Instant) -> dict[SeriesId, Curve]:
        self.meanwhile()
        return super().multi_range(series, since, until)


class EndlessBacklog:
    """A backlog with an excursion, of which more comes every ten seconds and during each evaluation."""

    def __init__(self, watch: Watch, *, behind: bool) -> None:
        """`behind`: telemetry never has the newest of it."""
        self.watch = watch
        self._behind = behind
        self._minute = 0
        watch.fridge()
        watch.reads(5.0)
        watch.run()
        ahead(watch, 600)
        watch.reads(5.0)
        watch.run()
        self._begin = ago(watch, 590)
        watch.reads(*[9.5] * 60, *[5.0] * 10, at=self._begin, origin="backfill")
        watch.engine.run_once()
        watch.store()
        store = ReadMeanwhile(watch.folder / "telemetry")
        store.meanwhile = self._more
        self._whole, watch.telemetry = watch.telemetry, store
        self.late = watch.late_worker()

    def _more(self) -> None:
        self._minute += 1
        at = Instant(self._begin + (100 + self._minute % 300) * MINUTE)
        self.watch.reads(5.0, at=at, origin="backfill")
        self.watch.engine.run_once()

    def goes_on(self, seconds: int) -> int:
        """Let it go on; return how often late readings were evaluated meanwhile."""
        before = self.late.evaluated
        for _ in range(0, seconds, 10):
            ahead(self.watch, 1 / 6)
            if not self._behind:
                self._more()
            self.watch.store()
            if self._behind:
                self._more()
            self.late.step()
        return self.late.evaluated - before

    def ends(self) -> None:
        self.late.close()
        self.watch.telemetry = self._whole
        self.watch.evaluate_late()


@pytest.mark.req("AL-14")
@pytest.mark.parametrize("behind", [False, True])
def test_a_backlog_that_never_ends_has_its_alarm_after_five_minutes_and_is_not_evaluated_all_the_time(
    watch: Watch,
    monkeypatch: pytest.MonkeyPatch,
    behind: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr("alerting.late_queue.WRITER_S", 0.0)
    backlog = EndlessBacklog(watch, behind=behind)
    backlog.goes_on(290)
    assert not watch.alarms()
    backlog.goes_on(20)
    alarm = watch.alarm()
    assert (alarm.origin, alarm.state, alarm.peak) == ("late", "recovered", 950)
    assert backlog.goes_on(600) <= 2
    with watch.records.read() as tx:
        assert tx.scalar(select(func.count()).select_from(LateSpan)), "what was marked meanwhile waits"
    backlog.ends()
    assert len(watch.alarms()) == 1


@pytest.mark.req("AL-14")
@on_both
def test_a_live_alarm_is_told_before_another_gateway_s_backlog_is_read(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerting.following.follower.CHUNK", 20)
    monkeypatch.setattr("alerting.following.follower.CHUNK_SQLITE", 20)
    first, last = sorted(("10001", "10002"), key=lambda number: shard_of(GatewayNumber(number)))
    watch.fridge("208601", gateways=(first,))
    watch.fridge("208602", gateways=(last,))
    watch.engine = watch.worker()
    watch.forward(10, showing=9.4, code="208602")
    assert not watch.told(1)
    ahead(watch, 1)
    watch.reads(9.4, code="208602")
    for n in range(100):
        watch.reads(*[5.0] * 50, at=Instant(watch.clock.time - (6000 - 50 * n) * MINUTE), origin="backfill")
    told_after: list[int] = []
    follower, step = watch.engine._follower, watch.engine._follower.step

    def stepping(now: Instant) -> bool:
        worked = step(now)
        told_after.append(len(watch.told(1)))
        return worked

    follower.step = stepping  # type: ignore[method-assign]
    watch.run()
    assert told_after[5] == 1, told_after
    assert len(told_after) > 20, "the backlog was read at once: the test shows nothing"


@on_both
def test_what_is_entered_within_a_pass_is_met_by_all_its_parts(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    follower, step = watch.engine._follower, watch.engine._follower.step
    entered = []

    def entering(now: Instant) -> bool:
        worked = step(now)
        if not worked and not entered:
            entered.append(watch.fridge("208602", gateways=("10002",)))
        return worked

    follower.step = entering  # type: ignore[method-assign]
    watch.forward(seconds=30)
    assert entered
    watch.forward(30)
    silent = [alarm for alarm in watch.alarms() if alarm.zone_id == entered[0].zone]
    assert [alarm.rule for alarm in silent] == ["probe_offline"]
    assert not watch.engine.troubles.now()
