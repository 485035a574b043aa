"""A door that never quite closes: cycles of one alarm escalate together, and say how long it was too warm in all."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.alarms import handling
from core.alarms.duration import time_out
from core.alarms.tables import OutboxMessage
from core.db.engine import Records, connect
from core.runtime.instant import MINUTE, Instant
from tests.fixtures.alerting import Watch, ahead, on_both
from tests.fixtures.databases import fresh_url


def fields(row: OutboxMessage) -> dict[str, str]:
    return {key: field["value"] for key, field in msgspec.json.decode(row.body)["data"].items()}


def swings(watch: Watch, minutes: int, *, warm: int = 12, cold: int = 8) -> None:
    """Let a fridge be too warm and cold enough in turn, a reading a minute."""
    for minute in range(minutes):
        watch.reads(9.0 if minute % (warm + cold) < warm else 7.0)
        watch.run()
        watch.delivered()
        ahead(watch, 1)


def minutes_since(watch: Watch, rows: list[OutboxMessage]) -> list[tuple[int, int]]:
    """Return tier and minutes after the first opening of each message."""
    return [(row.tier, (row.created_at - watch.alarm().opened_at) // MINUTE) for row in rows]


@pytest.mark.req("AL-09", "AL-10")
@on_both
def test_twelve_minutes_too_warm_and_eight_cold_reach_levels_2_and_3(watch: Watch) -> None:
    watch.fridge()
    swings(watch, 115)
    alarm = watch.alarm()
    assert alarm.cycle == 6
    # Inside the limits at +30, so at the next activity; active at +60; and a repeat at the next activity after +90.
    assert minutes_since(watch, watch.told(2)) == [(2, 40), (3, 60), (3, 100)]
    assert minutes_since(watch, watch.told(3)) == [(3, 60), (3, 100)]
    assert minutes_since(watch, watch.told(1)) == [(1, 0), (1, 20), (2, 40), (3, 60), (1, 80), (3, 100)]


@on_both
def test_the_last_recovery_says_from_and_to_of_its_cycle_and_the_minutes_in_all(watch: Watch) -> None:
    watch.fridge()
    began = watch.clock.time
    swings(watch, 100)
    watch.forward(20, showing=5.0)
    alarm = watch.alarm()
    assert (alarm.state, alarm.onset_at) == ("recovered", began)
    assert time_out(alarm, watch.clock.time) == 60 * MINUTE
    assert alarm.ended_at == began + 92 * MINUTE
    first, *_, last = [fields(row) for row in watch.told(1, "recovery")]
    assert (first["thing3"], first["time4"][-5:], first["time5"][-5:]) == ("已恢复7.0℃，最高9.0℃", "03:00", "03:12")
    assert (last["thing3"], last["time4"][-5:], last["time5"][-5:]) == ("累计60分钟，最高9.0℃", "04:20", "04:32")
    to_level_3 = [fields(row) for row in watch.told(3)]
    assert [(one["thing3"], one["time4"][-5:]) for one in to_level_3] == [("9.0℃再超8.0℃，共46分", "04:00")]


def test_one_excursion_says_no_sum(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(6, showing=5.0)
    assert "共" not in fields(watch.told(1)[0])["thing3"]


def test_two_probes_of_a_room_end_with_the_later_one_whichever_is_confirmed_last(watch: Watch) -> None:
    watch.fridge("a", "b")
    for minute in range(1, 61):
        watch.clock.time = Instant(watch.clock.time + MINUTE)
        watch.reads(9.0 if minute <= 30 else 5.0, code="a")  # cold enough for 5 min: over at 36
        watch.reads(9.0 if minute <= 12 else 7.8, code="b")  # inside, but hardly: over after 30 min
        watch.run()
    alarm = watch.alarm()
    assert alarm.state == "recovered"
    assert alarm.ended_at == alarm.onset_at + 30 * MINUTE


@pytest.mark.req("AL-07")
def test_whoever_acknowledges_a_later_cycle_is_timed_from_its_opening(watch: Watch) -> None:
    watch.fridge()
    swings(watch, 52)
    alarm = watch.alarm()
    assert (alarm.cycle, alarm.handling) == (3, "unacknowledged")
    with watch.records.write() as tx:
        handling.acknowledge(tx, watch.person(1), alarm.id, through="wechat", now=watch.clock.time)
    assert handling.acknowledged_in_time(watch.alarm()) is True


@on_both
def test_what_a_window_kept_from_everybody_does_not_count_towards_the_levels(watch: Watch) -> None:
    fridge = watch.fridge()
    with watch.window(fridge, "defrost"):
        swings(watch, 38)
        assert not watch.told(1)
    swings(watch, 15)
    assert watch.alarm().cycle > 1
    assert (watch.tiers(1), watch.tiers(2)) == ([1], [])


@pytest.mark.long
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spells=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 30)), min_size=2, max_size=4))
def test_whatever_the_rhythm_levels_come_at_the_first_activity_after_their_time(
    tmp_path_factory: pytest.TempPathFactory, spells: list[tuple[int, int]]
) -> None:
    """Each alarm tells each level once by a step, at the first active minute after t0 + 30 and + 60."""
    folder = tmp_path_factory.mktemp("rhythm")
    watch = Watch(Records(connect(fresh_url("sqlite", folder))), folder)
    watch.fridge()
    active: dict[int, list[int]] = {}
    for warm, cold in spells:
        for t in [9.0] * warm + [7.0] * cold:
            watch.reads(t)
            watch.run()
            for alarm in watch.alarms():
                if alarm.state == "open" and t > 8.0:
                    active.setdefault(alarm.id, []).append(watch.clock.time)
            ahead(watch, 1)
    for alarm in watch.alarms():
        for tier, after in ((2, 30), (3, 60)):
            at = [minute for minute in active[alarm.id] if minute >= alarm.opened_at + after * MINUTE]
            fired = [step.fired_at for step in watch.steps(alarm.id) if step.state == "fired" and step.tier == tier]
            assert fired[:1] == at[:1], (spells, tier)
            assert tier == 3 or len(fired) <= 1
        told = [row.created_at for row in watch.told(1) if row.alarm_id == alarm.id and row.tier == 1]
        assert all(later - sooner >= 15 * MINUTE for sooner, later in pairwise(told))
    watch.close()
    watch.records.close()
