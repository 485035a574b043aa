"""Kill scenario: a county at thirty times the speed of real time, in which processes are killed all the time."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from core.alarms.tables import Alarm
from core.intake.factory import open_log
from core.intake.port import IntakeUnavailable
from core.runtime.barrier import Barrier
from core.runtime.clock import ClockKeeper, monotonic
from core.runtime.instant import Instant, parse
from tests.fixtures.servers import Pair
from tests.scenario.county import County, Fridge, python, register_phones, staged
from tests.scenario.county_activity import Episode, History, Registrar, Staff, Weather, going_on, weather
from tests.scenario.faults import Armoury, Point
from tests.scenario.machines import Machines, until
from tests.scenario.oracles import LogWatch, Tally, examine

SPEED = 30
SLOWLY = 12
HESITATES_S = 4.0
INTERVAL_S = 90
START = parse("2026-03-28T22:50:00+08:00")
GATEWAYS = ("10001", "10002", "10003", "10004", "10005", "10006")
FRIDGES = [
    Fridge(f"BX-{number}", f"冰箱{number:02}", {f"2086{number:02}": GATEWAYS[number % len(GATEWAYS)]})
    for number in range(1, 25)
]
FORGOTTEN = [
    Fridge(f"YW-{number}", f"药物柜{number}", {f"2087{number:02}": GATEWAYS[number % 2]}, forgotten=True)
    for number in range(1, 6)
]
"""Fridges whose readings stay in quarantine until the registrar enters the fridges."""
Times = Callable[[Point], int]
"""Function from a fault point to the number of hits that it must get."""
PAUSE_S = 0.3
KEEP_S = 30 * 60
"""Age at which entries of the intake log are pruned: half an hour of the clock, a minute of real time."""
TICK_S = 0.2
ENTERED_EVERY_S = 2.0
OUTAGE = "outage"
LANES = {"gateway": OUTAGE, "up": OUTAGE}
"""Processes whose death stops the measurements. They share a lane: between two such kills every gateway must
measure."""
WEATHER_DAYS = 6
"""Days of the clock for which episodes are drawn: more than the longest run."""
LONG_S = 300.0


class Story:
    """Running county whose processes are killed."""

    def __init__(self, county: County, folder: Path, episodes: Sequence[Episode]) -> None:
        self.county = county
        self.episodes = episodes
        self.armoury = Armoury(folder / "faults")
        self.machines = Machines(county, folder / "faults")
        self._going = ExitStack()
        self.watch: LogWatch | None = None
        self._going.enter_context(going_on(self._keep_the_clock))
        register_phones(county)
        until(lambda: _received(county), "first readings", LONG_S)
        self.watch = watch = LogWatch(county)
        self._staff = Staff(county)
        self.history = History(county)
        self.registrar = Registrar(county, ENTERED_EVERY_S)
        self._going.enter_context(
            going_on(Weather(county, episodes).run, watch.run, self._staff.run, self.registrar.run, self.history.run)
        )

    def calm(self) -> Tally:
        """Stop the clock, wait until everything due is done, stop all processes, and examine the stores and phones."""
        self.registrar.notice()
        until(lambda: not self.registrar.left, "all fridges are entered", LONG_S)
        self._going.close()
        self.county.keeper.close()
        keeper = ClockKeeper(self.county.stage.clock_file, start=Instant(0), speed=0)
        Barrier(self.county.stage.clock_file).wait(self.county.order, keeper.step_to(keeper.now()), within_s=LONG_S)
        keeper.close()
        self.machines.stop()
        assert self.watch
        tally = examine(self.county, self.watch, self.history, self._staff, self.episodes)
        tally.wrong += [*self.machines.crashes(), *self.machines.unexpected]
        return tally

    def _keep_the_clock(self, stop: threading.Event) -> None:
        """Run the clock fast, but slow it down while no batch arrives, so that a busy machine can keep up."""
        batches_before, since = 0, monotonic()
        while not stop.wait(0.2):
            if self.watch is None or self.batches() != batches_before:
                batches_before, since = self.batches(), monotonic()
            self.county.keeper.speed = SPEED if monotonic() - since < HESITATES_S else SLOWLY
            self.county.keeper.save()

    def end(self) -> None:
        """End everything, in whatever state it is."""
        self._going.close()
        self.machines.end()
        if self.watch:
            self.watch.close()

    def batches(self) -> int:
        """Return how many batches are in the log so far."""
        return self.watch.batches.total() if self.watch else 0

    def open_alarms(self) -> int:
        """Return how many alarms are open; 0 while the records can't be read."""
        try:
            with self.county.records.read() as tx:
                return tx.scalar(select(func.count()).where(Alarm.state == "open")) or 0
        except SQLAlchemyError:
            return 0

    def kill_at_points(self, points: Sequence[Point], *, times: Times, within_s: float) -> None:
        """Kill at each point as often as `times` says.

        One process of a kind dies at a time; processes of several kinds die at the same time.
        """
        self.history.begin()
        ends = monotonic() + within_s
        lanes: dict[str, _Lane] = {}
        for point in points:
            lanes.setdefault(LANES.get(point.process, point.process), _Lane(self)).points.append(point)
        while any(lane.left(times) for lane in lanes.values()):
            unfinished = [
                f"{point_left.process}: {point_left.name}" for lane in lanes.values() for point_left in lane.left(times)
            ]
            assert monotonic() < ends, f"not hit often enough within {within_s} s: {unfinished}"
            for name, lane in lanes.items():
                lane.tend(times, readings_first=name == OUTAGE)
            threading.Event().wait(PAUSE_S)
        for point in points:  # a point that was hit for the last time while it was armed again is still armed
            self.armoury.disarm(point)
        self.history.end()

    def kill_at_random(self, number: int, chance: random.Random) -> None:
        """Kill randomly chosen processes `number` times; wait for a process that is not running."""
        for _ in range(number):
            target, batches_before = chance.choice(self.machines.names), self.batches()
            threading.Event().wait(chance.uniform(0.1, 1.4))
            until(lambda target=target: self.machines.kill(target), f"{target} runs", LONG_S)
            # Let some readings pass before the next kill: work that has not begun can't be interrupted.
            until(lambda batches_before=batches_before: self.batches() > batches_before, "readings come", LONG_S)


class _Lane:
    """Fault points of which one is hit at a time."""

    def __init__(self, of: Story) -> None:
        self.points: list[Point] = []
        self._story = of
        self._hits = self._batches = 0

    def left(self, times: Times) -> list[Point]:
        return [point for point in self.points if self._story.armoury.hits(point) < times(point)]

    def tend(self, times: Times, *, readings_first: bool) -> None:
        """Arm the points that need more hits, unless one of the lane was just hit."""
        hits = sum(self._story.armoury.hits(point) for point in self.points)
        batches = self._story.batches()
        if hits != self._hits:
            self._hits, self._batches = hits, batches
            for point in self.points:
                self._story.armoury.disarm(point)
        elif not readings_first or batches >= self._batches + len(GATEWAYS):
            for point in self.left(times):
                self._story.armoury.arm(point)


@contextmanager
def story(folder: Path, pair: Pair, chance: random.Random) -> Iterator[Story]:
    """Yield the running scenario; `chance` draws the episodes."""
    settings = {"intake": {"keep": KEEP_S}, "alerting": {"tick": TICK_S}}
    with staged(
        folder, [*FRIDGES, *FORGOTTEN], pair, speed=SPEED, start=START, interval_s=INTERVAL_S, more=settings
    ) as county:
        wechat = python(*county.stage.wechat().arguments, folder=folder)
        running_story: Story | None = None
        try:
            episodes = weather(
                [fridge.name for fridge in FRIDGES], county.now, chance, apart_min=1.5, days=WEATHER_DAYS
            )
            running_story = Story(county, folder, episodes)
            yield running_story
        finally:
            if running_story:
                running_story.end()
            wechat.terminate()
            wechat.wait(10)


def _received(county: County) -> int:
    try:
        log = open_log(county.settings.intake.url, county.settings.data_dir)
    except IntakeUnavailable:
        return 0
    try:
        return sum(log.heads().values())
    finally:
        log.close()
