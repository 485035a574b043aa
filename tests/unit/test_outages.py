"""Outages of every length, live readings between them, a backlog that comes in parts: no excursion goes unfound."""

import random
from itertools import pairwise

import pytest

from tests.fixtures.late_model import Model, Span, sample

GAP, LONG = 3, 12
"""Minutes: readings farther apart say nothing of the time between; an excursion of this length must be found."""
Minute = tuple[int, float]


def day(chance: random.Random) -> tuple[list[Minute], list[Minute]]:
    """Return readings in the order in which they were taken, and in the order in which they came."""
    taken, came, backlog = [], [], []
    minute, warm, changes, connected, breaks = 0, False, chance.randint(5, 30), True, chance.randint(3, 20)
    while minute < 200:
        if minute >= changes:
            warm = not warm
            changes = minute + chance.choice((chance.randint(3, 12), chance.randint(12, 60)))
        if minute >= breaks:
            connected = not connected
            breaks = minute + chance.choice((1, 2, chance.randint(2, 30)))
        reading = (minute, 9.0 if warm else 5.0)
        taken.append(reading)
        if not connected:
            backlog.append(reading)
        else:
            came.append(reading)
            if backlog and chance.random() < 0.4:
                sent = chance.randint(1, len(backlog))
                came += backlog[:sent]
                del backlog[:sent]
        minute += 1 if chance.random() < 0.97 else chance.randint(GAP + 1, 9)
    over = [(minute, 5.0) for minute in range(205, 240)]
    return [*taken, *over], [*came, *backlog, *over]


def found_in(came: list[Minute], chance: random.Random) -> list[Span]:
    """Return the alarms there are in the end, in minutes; the marked spans are evaluated by chance."""
    model, often = Model(), chance.choice((0.0, 0.05, 0.3))
    for at, t in came:
        model.come(sample(at, t))
        if chance.random() < often:
            model.evaluate()
    model.evaluate()
    return model.spans()


def excursions(taken: list[Minute]) -> list[tuple[int, int]]:
    """Return the first and last minute of each, by what was measured."""
    stretches = [[taken[0]]]
    for last, reading in pairwise(taken):
        if reading[1] == last[1] and reading[0] - last[0] <= GAP:
            stretches[-1].append(reading)
        else:
            stretches.append([reading])
    return [(one[0][0], one[-1][0]) for one in stretches if one[0][1] > 8]


@pytest.mark.req("AL-14")
@pytest.mark.parametrize("part", range(4))
def test_every_excursion_is_found_however_outages_and_backlog_mix_and_none_is_made_up(part: int) -> None:
    for seed in range(part * 60, part * 60 + 60):
        chance = random.Random(seed)
        taken, came = day(chance)
        found, there = found_in(came, chance), excursions(taken)
        for since, until in there:
            if until - since >= LONG:
                assert any(a <= until and b >= since for a, b in found), (seed, since, until, found)
        for since, _ in found:
            assert any(a <= since <= b for a, b in there), (seed, since, there)
