"""Rule state of a probe that can't be read: no other's alarm is missed, none of its own is doubled or lost."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import ColumnElement, select, update
from structlog.testing import capture_logs

from core.alarms.tables import RuleState, SeriesState
from core.runtime.instant import MINUTE, Instant
from tests.fixtures.alerting import DAWN, Fridge, Watch
from tests.fixtures.databases import DATABASES, opened

OF_BEFORE = {
    "above": msgspec.msgpack.encode({"live": "ok", "settled": "ok"}),
    "recent": msgspec.msgpack.encode({"zone": 1, "samples": []}),
}
"""As a version might have written them that names what it remembers."""
ROTTEN = dict.fromkeys(("above", "recent"), b"\x96\x01")


@pytest.fixture(params=DATABASES)
def watch(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watch]:
    with opened(request.param, tmp_path) as records:
        made = Watch(records, tmp_path)
        yield made
        made.close()


def spoil(watch: Watch, fridge: Fridge, memory: dict[str, bytes] = OF_BEFORE) -> None:
    """Make unreadable what is remembered of a fridge's probe."""
    with watch.records.write() as tx:
        series = tx.scalars(select(RuleState.series_id).where(RuleState.zone_id == fridge.zone).distinct()).one()
        tx.execute(update(SeriesState).where(SeriesState.series_id == series).values(recent=memory["recent"]))
        tx.execute(update(RuleState).where(*_rule(fridge, "above")).values(memory=memory["above"]))


def condition(watch: Watch, fridge: Fridge) -> str:
    with watch.records.read() as tx:
        return tx.scalars(select(RuleState.condition).where(*_rule(fridge, "above"))).one()


def _rule(fridge: Fridge, rule: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return RuleState.zone_id == fridge.zone, RuleState.rule == rule


@pytest.mark.parametrize("memory", [OF_BEFORE, ROTTEN], ids=["of before", "rotten"])
def test_the_others_alarms_go_on_and_it_is_told_once(watch: Watch, memory: dict[str, bytes]) -> None:
    spoilt, well = watch.fridge("208601"), watch.fridge("208602")
    for code in ("208601", "208602"):
        watch.reads(5.0, code=code)
    watch.run()
    spoil(watch, spoilt, memory)
    with capture_logs() as logs:
        for _ in range(11):
            watch.clock.time = Instant(watch.clock.time + MINUTE)
            for code in ("208601", "208602"):
                watch.reads(9.4, code=code)
            watch.run()
    assert {alarm.zone_id: alarm.state for alarm in watch.alarms()} == {spoilt.zone: "open", well.zone: "open"}
    assert [log["event"] for log in logs if log["log_level"] == "error"] == [
        "memory of rules can't be read, begun anew"
    ]
    assert watch.engine._follower.begun_anew == 1


def test_an_open_alarm_stays_and_is_over_when_readings_say_so(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.warms_up()
    alarm = watch.alarm()
    spoil(watch, fridge)
    watch.forward(5, showing=9.0)
    assert (condition(watch, fridge), watch.alarm().onset_at, watch.alarm().peak) == ("active", DAWN, 940)
    assert watch.tiers(1) == [1]
    watch.forward(40, showing=5.0)
    assert (watch.alarm().state, watch.alarm().id, watch.alarm().cycle) == ("recovered", alarm.id, 1)
    assert len(watch.told(1, "recovery")) == 1


def test_what_was_clearing_has_to_be_inside_for_long_enough_anew(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.warms_up()
    watch.forward(2, showing=5.0)
    assert condition(watch, fridge) == "clearing"
    spoil(watch, fridge)
    watch.forward(1, showing=5.0)
    assert (condition(watch, fridge), watch.alarm().state) == ("clearing", "open")
    watch.forward(40, showing=5.0)
    assert watch.alarm().state == "recovered"


def test_what_was_too_short_for_an_alarm_counts_anew_from_its_newest_reading(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.reads(9.4)
    watch.run()
    watch.forward(8, showing=9.4)
    spoil(watch, fridge)
    watch.forward(9, showing=9.4)
    assert not watch.alarms()
    watch.forward(2, showing=9.4)
    assert watch.alarm().state == "open"
    assert watch.alarm().onset_at >= DAWN + 8 * MINUTE


def test_readings_older_than_the_newest_stay_of_the_past(watch: Watch) -> None:
    """Were the newest reading forgotten too, a backlog would be taken for the present."""
    fridge = watch.fridge()
    watch.reads(5.0)
    watch.run()
    watch.forward(60, showing=5.0)
    spoil(watch, fridge)
    watch.reads(*[9.5] * 20, at=Instant(DAWN + 20 * MINUTE), origin="backfill")
    watch.run()
    assert condition(watch, fridge) == "ok"
    assert not watch.told(1)


def test_a_silence_whose_onset_can_not_be_read_ends_all_the_same(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.reads(5.0)
    watch.run()
    watch.forward(60)
    assert (watch.alarm().rule, watch.alarm().state) == ("probe_offline", "open")
    onset = watch.alarm().onset_at
    with watch.records.write() as tx:
        tx.execute(update(RuleState).where(*_rule(fridge, "probe_offline")).values(memory=b""))
    watch.reads(5.0)
    watch.run()
    assert (watch.alarm().state, watch.alarm().onset_at) == ("recovered", onset)
