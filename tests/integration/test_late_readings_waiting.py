"""Late readings that have to wait, for a store, its writer or their own end, and keep nothing else waiting."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select

from core.alarms import late_spans
from core.alarms.tables import LateSpan
from core.devices.tables import Series
from core.health.trouble_text import wrong
from core.ids import SeriesId
from core.runtime.instant import MINUTE, Instant
from core.runtime.trouble import TroubleKind
from core.telemetry.codec import Damaged
from core.telemetry.embedded import EmbeddedTelemetry
from core.telemetry.port import Curve, TelemetryUnavailable
from core.wire.shards import GatewayNumber, Shard, shard_of
from tests.fixtures.alerting import Watch, ago, ahead, on_both
from tests.fixtures.waiting import until


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


@pytest.mark.req("AL-14")
@on_both
def test_readings_several_times_a_second_keep_no_span_from_its_end(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 30)
    watch.reads(9.4)
    onset = ago(watch, 20)
    watch.reads(*[9.4] * 20, at=onset, origin="backfill")
    watch.engine.run_once()
    ahead(watch, 1)
    watch.reads(9.4)
    watch.engine.run_once()
    watch.store()
    store = ReadMeanwhile(watch.folder / "telemetry")

    def more() -> None:
        watch.clock.time = Instant(watch.clock.time + 200)
        watch.reads(9.4)
        watch.engine.run_once()

    store.meanwhile = more
    whole, watch.telemetry = watch.telemetry, store
    late = watch.late_worker()
    assert late.step()
    late.close()
    watch.telemetry = whole
    assert (watch.alarm().state, watch.alarm().onset_at) == ("open", onset)
    with watch.records.read() as tx:
        assert not tx.scalar(select(func.count()).select_from(LateSpan))


@pytest.mark.req("AL-14")
def test_a_live_state_that_moves_on_during_each_evaluation_keeps_no_excursion_from_its_alarm(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 60)
    watch.reads(5.0)
    watch.reads(*[9.4] * 20, *[5.0] * 38, at=ago(watch, 58), origin="backfill")
    watch.engine.run_once()
    watch.store()
    store = ReadMeanwhile(watch.folder / "telemetry")

    def more() -> None:
        for _ in range(3):
            ahead(watch, 1)
            watch.reads(5.0)
        watch.engine.run_once()

    store.meanwhile = more
    whole, watch.telemetry = watch.telemetry, store
    late = watch.late_worker()
    ahead(watch, 1)
    for _ in range(5):
        watch.store()
        late.step()
    late.close()
    watch.telemetry = whole
    assert watch.alarm().state == "recovered"
    assert late.evaluated <= 3
    watch.evaluate_late()
    with watch.records.read() as tx:
        assert not tx.scalar(select(func.count()).select_from(LateSpan))


@pytest.mark.req("AL-14")
@on_both
def test_a_reading_that_is_overtaken_by_newer_ones_during_an_evaluation_counts_in_it(watch: Watch) -> None:
    watch.fridge()
    watch.reads(5.0)
    watch.run()
    ahead(watch, 30)
    watch.reads(9.4)
    onset = watch.clock.time
    watch.reads(*[9.4] * 7, at=ago(watch, 8), origin="backfill")
    watch.engine.run_once()
    watch.store()
    store = ReadMeanwhile(watch.folder / "telemetry")

    def overtaken() -> None:
        store.meanwhile = lambda: None
        watch.reads(5.0, at=Instant(onset - MINUTE))
        watch.reads(9.4)
        ahead(watch, 1)
        watch.reads(9.4)
        watch.engine.run_once()

    store.meanwhile = overtaken
    whole, watch.telemetry = watch.telemetry, store
    late = watch.late_worker()
    watch.clock.time = Instant(watch.clock.time + late_spans.QUIET_TIME)
    assert late.step()
    assert not watch.alarms(), "it was within its limits for a while"
    watch.store()
    assert late.step(), "it is evaluated again"
    late.close()
    watch.telemetry = whole
    assert not watch.alarms()
    watch.forward(12, showing=9.4)
    assert watch.alarm().onset_at == onset


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
@pytest.mark.parametrize("behind", [pytest.param(False, marks=pytest.mark.long), True])
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
