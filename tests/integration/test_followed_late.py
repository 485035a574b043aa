"""Alarms of a worker that dies at commits and goes on hours later: each excursion has one, whatever came when.

Probes send live readings, with outages whose readings come late, in disorder, in parts and partly twice. Workers follow
the log in small chunks, die before or after commits, and stay away for up to 150 minutes; what is followed then is long
past. The oracle is the rule applied to all readings sorted.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from alerting.alerting_loop import AlertingLoop
from alerting.evaluating.late_readings import LateEvaluation
from core.alarms.tables import Alarm, LateSpan
from core.ids import AlarmId, Centi, ProbeId
from core.limits import rule_profile
from core.limits.rule_profile import ZoneOverrides
from core.rules.reconcile import FoundEpisode, of_episode, united
from core.rules.rule_types import END, Sample
from core.runtime.instant import MINUTE, Instant
from core.wire.shards import GatewayNumber, shard_of
from tests.fixtures.alerting import DAWN, Watch, ahead
from tests.fixtures.databases import DATABASES, opened
from tests.fixtures.late_model import of_all
from tests.fixtures.mortal import Death, Mortal

LIMIT = rule_profile.bounds(rule_profile.load("china-2017"), "refrigerated", MINUTE, ZoneOverrides()).above
PAUSE = 38 * MINUTE
"""Longest time between two excursions that live readings may have taken for one: 30 and 3 minutes until the end, and 15
until the next, which must last for 10."""
WARM, CALM_END = 240, 60
"""Minutes with excursions, and behind them without."""
Reading = tuple[Instant, float | None]
LOW, HIGH = (
    next(f"{n}" for n in range(10001, 11000) if (shard_of(GatewayNumber(f"{n}")) <= "7f") is low)
    for low in (True, False)
)
"""Gateways of shards 00-7f and 80-ff."""
HALVES = ("00-7f", "80-ff")


def excursions(chance: random.Random) -> list[range]:
    """Return the minutes of a fridge's excursions."""
    made, minute = [], chance.randint(1, 80)
    while minute < WARM:
        until = min(WARM, minute + chance.choice((4, 9, 12, 15, 20, 30, 60)))
        made.append(range(minute, until))
        minute = until + chance.choice((2, 6, 20, 35, 60, 90))
    return made


def measured(chance: random.Random, warm: list[range]) -> list[Reading]:
    """Return what a probe measures: excursions somewhat earlier or later than those of the fridge, gaps, failures."""
    minutes: set[int] = set()
    for each in warm:
        first, last = (min(WARM, minute + chance.choice((-8, -2, 0, 0, 2, 8))) for minute in (each.start, each.stop))
        minutes |= set(range(first, last if chance.random() < 0.8 else first + 1))
    readings: list[Reading] = []
    for minute in range(1, WARM + CALM_END):
        if chance.random() < 0.03:
            continue
        t: float | None = chance.choice((8.1, 9.4) if minute in minutes else (5.0, 5.0, 7.8))
        readings.append((Instant(DAWN + minute * MINUTE), None if chance.random() < 0.02 else t))
    return readings


def sent(chance: random.Random, readings: list[Reading]) -> dict[int, list[tuple[str, list[Reading]]]]:
    """Return what is sent at each minute: most readings at once, those of outages later, in disorder, partly twice."""
    by_minute: dict[int, list[tuple[str, list[Reading]]]] = {}
    outage: list[Reading] = []
    together: list[Reading] = []
    ends = 0
    for at, t in readings:
        minute = (at - DAWN) // MINUTE
        if not ends and minute < WARM and chance.random() < 0.02:
            ends = min(WARM + 1, minute + chance.choice((3, 10, 40, 90)))
        if minute < ends:
            outage.append((at, t))
            continue
        ends = 0
        together.append((at, t))
        if chance.random() < 0.4 or minute > WARM + CALM_END - 5:
            by_minute.setdefault(minute, []).append(("live", together))
            together = []
        if outage:
            size = chance.choice((1, 5, 20, 100))
            parts = [outage[first : first + size] for first in range(0, len(outage), size)]
            parts += chance.sample(parts, chance.randint(0, len(parts)))
            if chance.random() < 0.5:
                chance.shuffle(parts)
            for part in parts:
                when = minute + chance.choice((0, 0, 1, 5, 20))
                by_minute.setdefault(when, []).append((chance.choice(("live", "backfill")), part))
            outage = []
    assert not outage
    return by_minute


class Worker:
    """A process that follows a part of the shards, and evaluates late readings if it has the first."""

    def __init__(self, watch: Watch, shards: str) -> None:
        self._watch = watch
        self._shards = shards
        self.away_until = 0
        self.begin()

    def begin(self) -> None:
        self.engine: AlertingLoop = self._watch.worker(self._shards)
        self.late: LateEvaluation | None = self._watch.late_worker() if self._shards.startswith("00") else None

    def works(self, chance: random.Random, minute: int) -> None:
        """Let it work for a while, or die."""
        if minute < self.away_until:
            return
        try:
            for _ in range(chance.choice((1, 1, 2, 6))):
                self.engine.run_once()
                if self.late is not None and chance.random() < 0.3:
                    self._watch.store()
                    self.late.step()
        except Death:
            self.away_until = minute + chance.choice((0, 10, 40, 90, 150))
            self.begin()

    def ends(self) -> None:
        """Let it do all that is left."""
        while self.engine.is_behind():
            self.engine.run_once()
        self.engine.run_once()


class County:
    """Some fridges, of which the half have probes behind gateways of two shards."""

    def __init__(self, watch: Watch, seed: int, fridges: int) -> None:
        self.chance = chance = random.Random(seed)
        self.watch = watch
        self.readings: dict[str, list[Reading]] = {}
        self.probes: dict[int, list[str]] = {}
        self._sent: dict[str, dict[int, list[tuple[str, list[Reading]]]]] = {}
        for n in range(fridges):
            codes = [f"2086{n}{m}" for m in range(chance.choice((1, 2)))]
            fridge = watch.fridge(*codes, gateways=chance.choice(((LOW,), (HIGH,), (LOW, HIGH))))
            warm = excursions(chance)
            self.probes[fridge.zone] = codes
            for code in codes:
                self.readings[code] = measured(chance, warm)
                self._sent[code] = sent(chance, self.readings[code])
        shards = chance.choice((("00-ff",), HALVES))
        self.workers = [Worker(watch, each) for each in shards]

    def lives(self) -> None:
        assert isinstance(self.watch.records, Mortal)
        self.watch.records.chance = self.chance
        works_at = 0
        for minute in range(1, WARM + CALM_END + 30):
            ahead(self.watch, 1)
            for code, by_minute in self._sent.items():
                for origin, readings in by_minute.get(minute, ()):
                    self.watch.reads_all(code, readings, origin=origin)
            if minute >= works_at:
                for worker in self.workers:
                    worker.works(self.chance, minute)
                works_at = minute + self.chance.choice((1, 2, 5, 10))
        self.watch.records.chance = None
        for _ in range(3):
            for worker in self.workers:
                worker.ends()
            ahead(self.watch, 6)
            self.watch.store()
            late = self.watch.late_worker()
            while late.step():
                pass

    def episodes(self, zone: int) -> list[FoundEpisode]:
        assert LIMIT
        found = []
        for number, code in enumerate(self.probes[zone]):
            samples = [Sample(at, None if t is None else Centi(round(t * 100)), 0) for at, t in self.readings[code]]
            found += [of_episode(ProbeId(number), one, None) for one in of_all(LIMIT, samples)]
        return united(found, highest=True)

    def problems(self) -> list[str]:
        """Return what is wrong with the alarms, compared with the episodes of all readings."""
        wrong = []
        alarms = [each for each in self.watch.alarms() if each.rule == "above" and each.origin != "withdrawn"]
        for zone in self.probes:
            mine = [alarm for alarm in alarms if alarm.zone_id == zone]
            wrong += [f"zone {zone}: {each}" for each in _compared(self.episodes(zone), mine)]
        with self.watch.records.read() as tx:
            wrong += [f"series {span.series_id} still has a marked span" for span in tx.scalars(select(LateSpan))]
        return wrong


def _compared(episodes: Sequence[FoundEpisode], alarms: Sequence[Alarm]) -> Iterator[str]:
    """Yield what is wrong: each episode has one alarm, and each alarm one excursion.

    There may be several alarms only if live readings have opened all of them: somebody was told of each.
    """
    own: dict[AlarmId, list[FoundEpisode]] = {alarm.id: [] for alarm in alarms}
    for episode in episodes:
        touching = [alarm for alarm in alarms if alarm.onset_at <= episode.until and _end(alarm) >= episode.since]
        covering = [a for a in touching if a.onset_at <= episode.since and _end(a) >= episode.until]
        for alarm in covering:
            own[alarm.id].append(episode)
        if not covering or (len(touching) > 1 and any(alarm.origin != "live" for alarm in touching)):
            yield f"{_minutes(episode)} is covered by {len(covering)} alarms and touched by {len(touching)}"
    for alarm in alarms:
        yield from (f"{_text(alarm)}: {problem}" for problem in _problems(alarm, own[alarm.id]))


def _problems(alarm: Alarm, own: Sequence[FoundEpisode]) -> Iterator[str]:
    if alarm.state == "open":
        yield "is open"
    if not own and alarm.origin == "late":
        yield "covers no episode"
    if own and alarm.ended_at not in (own[-1].until, alarm.cycle_onset_at):
        yield f"its last episode is {_minutes(own[-1])}"
    for before, after in pairwise(own):
        # What was before it re-opened is its own.
        if after.since - before.until > PAUSE and before.until >= (alarm.cycle_onset_at or 0):
            yield f"covers {_minutes(before)} and {_minutes(after)}"


def _end(alarm: Alarm) -> Instant:
    return END if alarm.ended_at is None else alarm.ended_at


def _minutes(episode: FoundEpisode) -> str:
    return f"{(episode.since - DAWN) // MINUTE}-{(episode.until - DAWN) // MINUTE}"


def _text(alarm: Alarm) -> str:
    since, until = ((at - DAWN) // MINUTE for at in (alarm.onset_at, _end(alarm)))
    return f"{alarm.origin} alarm {since}-{until}, {alarm.cycle} cycles"


def problems_of(database: str, folder: Path, seed: int, fridges: int = 8) -> list[str]:
    """Return what is wrong with the alarms of one county."""
    with opened(database, folder) as records:
        watch = Watch(Mortal(records.engine), folder)
        try:
            county = County(watch, seed, fridges)
            county.lives()
            return county.problems()
        finally:
            watch.close()


@pytest.fixture
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the size of chunks; workers neither wait for each other nor for the telemetry writer."""
    size: int = request.param
    monkeypatch.setattr("alerting.following.follower.CHUNK", size)
    monkeypatch.setattr("alerting.following.follower.CHUNK_SQLITE", size)
    monkeypatch.setattr("alerting.alerting_loop.HOLD_S", -1.0)
    monkeypatch.setattr("alerting.late_queue.WRITER_S", 0.0)
    return size


@pytest.mark.req("AL-14")
@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("chunk", [40], indirect=True)
def test_each_excursion_has_one_alarm_though_workers_die_and_go_on_hours_later(
    database: str, chunk: int, tmp_path: Path
) -> None:
    assert problems_of(database, tmp_path, chunk, fridges=3) == []


@pytest.mark.long
@pytest.mark.req("AL-14")
@pytest.mark.parametrize("database", DATABASES)
@pytest.mark.parametrize("chunk", [10, 40, 500], indirect=True)
def test_many_excursions_have_one_alarm_each_though_workers_die_and_go_on_hours_later(
    database: str, chunk: int, tmp_path: Path
) -> None:
    for seed in range(10 * chunk, 10 * chunk + 3):
        folder = tmp_path / f"{seed}"
        folder.mkdir()
        assert problems_of(database, folder, seed) == [], seed
