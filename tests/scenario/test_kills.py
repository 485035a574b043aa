"""kill -9 of everything that runs, at named points of its code and at random, while readings and alarms are in flight.

The oracles are outside (`oracles.py`): what phones received, and what the stores give back to another process.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.servers import PAIRS, Pair
from tests.scenario.fault_points import ONCE_ENTERED, points_of
from tests.scenario.faults import Point
from tests.scenario.kill_report import lines
from tests.scenario.kill_story import FRIDGES, story
from tests.scenario.machines import until

pytestmark = pytest.mark.long

HITS = 3
"""Of each point, in a run of both pairs."""
SHARED: dict[Pair, int] = {"embedded": 2, "servers": 1}
"""How many of them a pair has of a point that exists on both."""
AT_RANDOM = 25
"""On each pair."""
LONGEST_S = 900.0
"""Two minutes on a machine that has nothing else to do."""


@pytest.mark.req("AL-06", "AL-09", "AL-10")
@pytest.mark.parametrize("pair", PAIRS)
def test_whatever_is_killed_every_reading_is_stored_once_and_every_level_told_once(
    tmp_path: Path, pair: Pair, record_property: Callable[[str, object], None]
) -> None:
    points, chance = points_of(pair), random.Random(20261121)

    def times(point: Point) -> int:
        return HITS if len(point.pairs) == 1 else SHARED[pair]

    with story(tmp_path, pair, chance) as running:
        until(lambda: running.open_alarms() >= 3, "alarms are open", LONGEST_S)
        at_first = [point for point in points if not any(words in point.name for words in ONCE_ENTERED)]
        running.kill_at_points(at_first, times=times, within_s=LONGEST_S)
        running.registrar.notice()
        running.kill_at_points(points, times=times, within_s=LONGEST_S)
        running.kill_at_random(AT_RANDOM, chance)
        tally = running.calm()
    hits = {point: running.armoury.hits(point) for point in points}
    kills = running.machines.kills
    record_property("report", "\n".join(lines(f"on {pair}", hits, kills, tally)))
    assert all(hits[point] >= times(point) for point in points)
    assert not tally.wrong
    assert kills.total() == AT_RANDOM
    assert tally.alarms_opened >= tally.episodes >= len(FRIDGES) / 2
    assert tally.alarms_recovered
    assert tally.readings_stored > 500
