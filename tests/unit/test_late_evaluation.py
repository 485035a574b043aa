"""Late readings: the alarms are a function of the set of readings, not of their order, their parts or their repeats.

The oracle is the rule applied to all readings sorted, and, for the tables, the minutes in which the temperature was
wrong.
"""

import random
from collections.abc import Sequence

import msgspec
import pytest

from core.ids import AlarmId, Centi, ProbeId
from core.rules import evaluation
from core.rules.evaluation import ZonePeriod
from core.rules.reconcile import Alterable, FoundEpisode, KnownAlarm, reconcile, united
from core.rules.rule_types import BEGINNING, END, Rule, Sample
from core.runtime.instant import MINUTE, SECOND, Instant, Milliseconds
from tests.fixtures.late_model import BOUNDS, NOON, ZONE, Model, Span, minute, of_all, sample


def hour_with_gap(order: Sequence[int], warm: range, *, chunks: random.Random | None = None) -> list[Span]:
    """Let the minutes between two live readings come late in an order; return the alarms, in minutes."""
    model = Model()
    model.come(sample(0, 5.0))
    model.come(sample(60, 5.0))
    for n in order:
        model.come(sample(n, 9.4 if n in warm else 5.0, 64))
        if chunks and chunks.random() < 0.05:
            model.evaluate()
    model.evaluate()
    return model.spans()


IN_ORDER = list(range(1, 60))
PAUSE = Milliseconds(10 * MINUTE)


@pytest.mark.req("AL-14")
@pytest.mark.parametrize(
    "order",
    [
        IN_ORDER,
        [*range(18, 60), *range(1, 18)],
        [*range(1, 8), *range(18, 28), *range(8, 18), *range(28, 60)],
        IN_ORDER[::-1],
        IN_ORDER * 3,
    ],
    ids=["in order", "the second part first", "twenty in flight, the first ten again", "backwards", "three times"],
)
def test_seventeen_minutes_too_warm_are_found_in_whatever_order_they_come(order: list[int]) -> None:
    assert hour_with_gap(order, range(10, 27)) == [(10, 27)]


@pytest.mark.req("AL-14")
def test_blocks_of_ten_minutes_shuffled_three_hundred_times_are_one_excursion_each_time() -> None:
    for seed in range(300):
        chance = random.Random(seed)
        blocks = [list(range(max(1, first), first + 10)) for first in range(0, 60, 10)]
        chance.shuffle(blocks)
        order = [n for block in blocks for n in block]
        assert hour_with_gap(order, range(10, 41)) == [(10, 41)], seed
        assert hour_with_gap(order, range(10, 41), chunks=chance) == [(10, 41)], seed


QUICK = msgspec.structs.replace(
    BOUNDS,
    above=msgspec.structs.replace(
        BOUNDS.above,
        delay=Milliseconds(3 * MINUTE),
        well_inside=Milliseconds(2 * MINUTE),
        inside=Milliseconds(8 * MINUTE),
    ),
)


def readings_of(chance: random.Random) -> list[Sample]:
    """Return an hour or so: warm and cold stretches, gaps, failed readings, hesitating near the limit."""
    at, warm, made = 5.0, False, []
    while at < 70:
        if chance.random() < 0.12:
            warm = not warm
        if chance.random() < 0.05:
            at += chance.randint(3, 12)
        kind = chance.random()
        if kind < 0.05:
            made.append(sample(at, None, 4))
        else:
            made.append(sample(at, chance.choice((8.1, 9.0, 9.5)) if warm else chance.choice((5.0, 7.6, 8.0))))
        at += chance.choice((0.5, 1, 1, 1, 2))
    return made


def quick_and_long(parts: int) -> list[object]:
    """Return the numbers of the parts of many cases; all but the first are for the long run."""
    return [0, *(pytest.param(part, marks=pytest.mark.long) for part in range(1, parts))]


@pytest.mark.req("AL-14")
@pytest.mark.parametrize("part", quick_and_long(10))
def test_late_readings_in_any_order_repeat_and_chunk_are_the_episodes_of_all_sorted(part: int) -> None:
    """Ten thousand cases: between two live readings all is late, so that every alarm is made by the evaluation."""
    for seed in range(part * 1000, part * 1000 + 1000):
        chance = random.Random(seed)
        probes = chance.choice((1, 1, 2))
        model = Model(probes, QUICK)
        everything, late = [], []
        for probe in model.live_states:
            ends = [sample(0, 5.0), *(sample(n, 5.0) for n in range(95, 110))]
            for one in ends:
                model.come(one, probe)
            mine = readings_of(chance)
            late += [(one, probe) for one in mine]
            everything.append((probe, [*ends, *mine]))
        late += chance.sample(late, chance.randint(0, len(late)))
        if chance.random() < 0.5:
            chance.shuffle(late)
        else:
            size = chance.randint(1, 20)
            blocks = [late[n : n + size] for n in range(0, len(late), size)]
            chance.shuffle(blocks)
            late = [one for block in blocks for one in block]
        often = chance.choice((0, 0.01, 0.05))
        for one, probe in late:
            model.come(one, probe, released=chance.random() < 0.1)
            if chance.random() < often:
                model.evaluate()
        model.evaluate()
        limit = QUICK.above
        assert limit
        wanted = [
            FoundEpisode(probe, one.onset, one.until, one.ended is not None, one.peak, limit.value)
            for probe, samples in everything
            for one in of_all(limit, samples)
        ]
        expected = [((one.since - NOON) / MINUTE, (one.until - NOON) / MINUTE) for one in united(wanted, highest=True)]
        assert model.spans() == expected, seed
        assert not model.paged, seed


@pytest.mark.req("AL-14")
@pytest.mark.parametrize("part", quick_and_long(4))
def test_live_and_late_readings_mixed_leave_no_excursion_without_an_alarm(part: int) -> None:
    """Each episode of all readings is covered, and every alarm that late readings alone have made is one."""
    for seed in range(part * 500, part * 500 + 500):
        chance = random.Random(seed)
        model = Model(1, QUICK)
        mine = [sample(0, 5.0), *readings_of(chance), *(sample(n, 5.0) for n in range(95, 110))]
        order = list(mine)
        for _ in range(chance.randint(0, 4)):
            first = chance.randint(0, len(order))
            piece = order[first : first + chance.randint(1, 30)]
            del order[first : first + len(piece)]
            to = chance.randint(0, len(order))
            order[to:to] = piece
        often = chance.choice((0, 0.05, 0.3))
        for one in order:
            model.come(one)
            if chance.random() < often:
                model.evaluate()
        model.evaluate()
        limit = QUICK.above
        assert limit
        wanted = [((one.onset - NOON) / MINUTE, (one.until - NOON) / MINUTE) for one in of_all(limit, mine)]
        covered = model.spans()
        for since, until in wanted:
            assert any(a <= since and b >= until for a, b in covered), (seed, since, until, covered)
        assert set(model.spans(Alterable.LATE)) <= set(wanted), seed


def test_a_window_of_any_size_around_a_span_says_the_same() -> None:
    chance = random.Random(1)
    limit = QUICK.above
    assert limit
    periods = [ZonePeriod(BEGINNING, END, ZONE, QUICK)]
    for _ in range(300):
        samples = readings_of(chance)
        everything = of_all(limit, samples)
        first = chance.randrange(len(samples))
        span = samples[first].at, samples[min(first + chance.randint(0, 10), len(samples) - 1)].at
        for back in (0, 5, 20, 100):
            read = [one for one in samples if one.at >= span[0] - back * MINUTE]
            found = evaluation.evaluate(Rule.ABOVE, periods, read, span, complete=len(read) == len(samples))
            if found is None:
                continue
            assert all(one in everything for one in found.episodes)
            inside = [one for one in everything if one.until >= span[0] and one.onset <= span[1]]
            assert all(one in found.episodes for one in inside if one.ended is None or one.until > span[0])


def fixed(since: float, until: float, number: int = 1, standing: Alterable = Alterable.FIXED) -> KnownAlarm:
    return KnownAlarm(AlarmId(number), minute(since), minute(until), standing)


def episode(since: float, until: float) -> FoundEpisode:
    return FoundEpisode(ProbeId(1), minute(since), minute(until), ended=True, peak=Centi(940), limit=Centi(800))


def test_what_exceeds_an_alarm_that_somebody_has_handled_is_a_linked_one_and_only_once() -> None:
    first = reconcile([episode(5, 40)], [fixed(10, 27)], pause=PAUSE)
    assert [(new.found.since, new.found.until, new.exceeds) for new in first.made] == [
        (minute(5), minute(10), 1),
        (minute(27), minute(40), 1),
    ]
    known = [fixed(5, 10, 2, Alterable.LATE), fixed(10, 27), fixed(27, 40, 3, Alterable.LATE)]
    again = reconcile([episode(5, 40)], known, pause=PAUSE)
    assert (again.made, again.withdrawn, [number for number, _ in again.placed]) == ([], [], [2, 3])


def test_an_episode_that_began_after_the_acknowledgement_is_an_alarm_of_its_own() -> None:
    """Live readings held one alarm open over two excursions; late ones show that the first was over in between."""
    held_open = msgspec.structs.replace(fixed(0, 104), acknowledged=minute(36))
    two = [episode(0, 29), episode(75, 104)]
    changes = reconcile(two, [held_open], pause=PAUSE)
    assert [(new.found.since, new.found.until, new.exceeds) for new in changes.made] == [
        (minute(75), minute(104), None)
    ]
    again = reconcile(two, [held_open, fixed(75, 104, 2, Alterable.LATE)], pause=PAUSE)
    assert (again.made, again.withdrawn, [number for number, _ in again.placed]) == ([], [], [2])


@pytest.mark.parametrize("acknowledged", [80, None])
def test_what_somebody_has_acknowledged_since_it_began_is_covered(acknowledged: int | None) -> None:
    at = None if acknowledged is None else minute(acknowledged)
    held_open = msgspec.structs.replace(fixed(0, 104), acknowledged=at)
    assert reconcile([episode(0, 29), episode(75, 104)], [held_open], pause=PAUSE).made == []
    close = msgspec.structs.replace(held_open, acknowledged=minute(36))
    assert reconcile([episode(0, 66), episode(75, 104)], [close], pause=PAUSE).made == [], "it would have re-opened"


def test_an_alarm_of_late_readings_goes_with_its_episode_and_an_open_one_is_widened() -> None:
    assert reconcile([], [fixed(10, 27, 4, Alterable.LATE)], pause=PAUSE).withdrawn == [4]
    split = reconcile([episode(10, 15), episode(20, 27)], [fixed(10, 27, 4, Alterable.LATE)], pause=PAUSE)
    assert ([number for number, _ in split.placed], [new.found.since for new in split.made]) == ([4], [minute(20)])
    open_one = KnownAlarm(AlarmId(5), minute(30), END, Alterable.WIDENS)
    joined = reconcile([episode(10, 40)], [fixed(10, 27, 4, Alterable.LATE), open_one], pause=PAUSE)
    assert ([number for number, _ in joined.widened], joined.withdrawn) == ([5], [4])


def test_a_limit_that_changed_counts_from_when_it_held() -> None:
    warm = msgspec.structs.replace(BOUNDS, above=msgspec.structs.replace(BOUNDS.above, value=Centi(1500)))
    periods = [ZonePeriod(BEGINNING, minute(30), ZONE, warm), ZonePeriod(minute(30), END, ZONE, BOUNDS)]
    samples = [Sample(Instant(minute(n) + SECOND), Centi(900 if 10 <= n < 50 else 500), 0) for n in range(70)]
    (found,) = evaluation.around(
        Rule.ABOVE,
        periods,
        lambda since, until: [one for one in samples if since <= one.at < until],
        (minute(12), minute(45)),
        newest=samples[-1].at,
    ).episodes
    assert (found.onset, found.ended) == (minute(30) + SECOND, minute(50) + SECOND)
