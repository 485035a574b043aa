"""Late readings of a time of which alarms are known: which are read, changed, linked, withdrawn or left alone."""

import threading
from collections.abc import Collection, Sequence

import pytest
from sqlalchemy.orm import Session

from core.alarms.handling import acknowledge
from core.alarms.late_alarms import known_alarms
from core.alarms.lifecycle import ZoneRule
from core.alarms.tables import Alarm
from core.ids import ZoneId
from core.rules.reconcile import AlarmChanges, FoundEpisode, KnownAlarm, reconcile
from core.runtime.instant import DAY, HOUR, MINUTE, Instant, Milliseconds
from tests.fixtures.alerting import Watch, ago, ahead, on_both


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

    def compared(
        episodes: Sequence[FoundEpisode], alarms: Sequence[KnownAlarm], *, pause: Milliseconds
    ) -> AlarmChanges:
        if alarms and not other.ident:
            other.start()
            other.join(1)  # it comes first if nothing holds it
        return reconcile(episodes, alarms, pause=pause)

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
