"""Steps of an alarm that opens again and again: pure, so every rhythm can be tried."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from core.alarms.escalation_steps import DRAIN, AlarmOpening, EarlierCycles, steps_of
from core.ids import AlarmId
from core.limits.rule_profile import load
from core.runtime.instant import MINUTE, Instant

POLICY = load("china-2017").policy
T0 = Instant(1_774_632_960_000)


def opening(cycle: int, *, draining: bool = False) -> AlarmOpening:
    return AlarmOpening(AlarmId(1), cycle, T0, POLICY, draining=draining)


def at(minutes: int) -> Instant:
    return Instant(T0 + minutes * MINUTE)


def test_a_first_opening_counts_from_itself() -> None:
    assert steps_of(opening(1), EarlierCycles(), T0) == {(1, 0): T0, (2, 0): at(30), (3, 0): at(60)}
    assert steps_of(opening(1, draining=True), EarlierCycles(), T0)[1, 0] == T0 + DRAIN


def test_a_later_one_goes_on() -> None:
    earlier = EarlierCycles({(1, 0)}, {(2, 0): at(30), (3, 0): at(60)})
    assert steps_of(opening(2), earlier, at(20)) == {(1, 0): at(20), (2, 0): at(30), (3, 0): at(60)}
    assert steps_of(opening(3), earlier, at(40)) == {(1, 0): at(40), (2, 0): at(40), (3, 0): at(60)}


def test_what_a_window_moved_stays_where_it_was_moved() -> None:
    earlier = EarlierCycles({(1, 0)}, {(2, 0): at(90), (3, 0): at(120)})
    assert steps_of(opening(2), earlier, at(70)) == {(1, 0): at(70), (2, 0): at(90), (3, 0): at(120)}


def test_repeats_go_on_counting() -> None:
    earlier = EarlierCycles({(1, 0), (2, 0), (3, 0), (3, 1)}, {(3, 2): at(120)})
    assert steps_of(opening(4), earlier, at(110)) == {(1, 0): at(110), (3, 2): at(120)}
    assert steps_of(opening(5), earlier, at(130)) == {(1, 0): at(130), (3, 2): at(130)}


def test_where_acknowledging_had_ended_the_repeats_the_next_is_a_whole_one_away() -> None:
    earlier = EarlierCycles({(1, 0), (2, 0), (3, 0)}, {})
    assert steps_of(opening(2), earlier, at(70))[3, 1] == at(100)
    without = msgspec.structs.replace(POLICY, repeat_min=0)
    assert steps_of(AlarmOpening(AlarmId(1), 2, T0, without, draining=False), earlier, at(70)) == {(1, 0): at(70)}


def test_what_told_nobody_is_no_beginning() -> None:
    earlier = EarlierCycles(set(), {(1, 0): T0, (2, 0): at(30), (3, 0): at(60)})
    assert steps_of(opening(2), earlier, at(50)) == {(1, 0): at(50), (2, 0): at(80), (3, 0): at(110)}


def test_nothing_comes_before_level_1_while_a_backlog_drains() -> None:
    earlier = EarlierCycles({(1, 0)}, {(2, 0): at(30), (3, 0): at(60)})
    assert min(steps_of(opening(2, draining=True), earlier, at(61)).values()) == at(61) + DRAIN


@given(
    cycles=st.lists(st.tuples(st.integers(0, 90), st.integers(1, 15)), min_size=1, max_size=12),
)
def test_every_level_is_told_at_the_first_activity_after_its_time_and_once(cycles: list[tuple[int, int]]) -> None:
    """Fire by hand what falls due while a cycle lasts, in whole minutes; `cycles` are (minutes open, minutes over)."""
    earlier, now, active = EarlierCycles(), 0, []
    first_told: dict[int, int] = {}
    repeats = []
    for number, (lasts, over) in enumerate(cycles, 1):
        steps = steps_of(opening(number), earlier, at(now))
        for minute in range(now, now + lasts + 1):
            active.append(minute)
            for (tier, repeat), due in sorted(steps.items()):
                if due <= at(minute):
                    del steps[tier, repeat]
                    earlier.fired.add((tier, repeat))
                    if repeat:
                        repeats.append(minute)
                    elif tier > 1:
                        assert tier not in first_told
                        first_told[tier] = minute
                    if tier == POLICY.top:
                        steps[tier, repeat + 1] = Instant(due + POLICY.repeat_min * MINUTE)
        for place, due in steps.items():
            earlier.unfired[place] = due
        now += lasts + over
    for tier, after in ((2, 30), (3, 60)):
        assert first_told.get(tier) == next((minute for minute in active if minute >= after), None)
    gaps = [later - sooner for sooner, later in zip([first_told.get(3, 0), *repeats], repeats, strict=False)]
    assert all(gap >= POLICY.repeat_min for gap in gaps)
