"""Physical model of the temperature in a simulated chamber.

The same seed and instant give the same temperature, however often it is read. A chamber is a mass that warms towards
its surroundings and is cooled by a compressor between two thermostat points, warm air that enters while a door is open,
and a probe that follows both slowly. Steps lie on a fixed grid of time, so reading every second or every hour gives the
same curve. Local time is that of China: UTC+8 without summer time. Tried by tests/unit/test_physics.py.
"""

import math
import random
import zlib
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from core.runtime.instant import DAY, HOUR, MINUTE, SECOND, Instant, Milliseconds

STEP = Milliseconds(20 * SECOND)
LOCAL = Milliseconds(8 * HOUR)
CLINIC = ((8.0, 11.5), (13.5, 17.0))
"""Local hours in which doors are opened."""
LONGEST_JUMP = Milliseconds(3 * DAY)
"""Longest pause between two reads that is computed step by step; after a longer one the chamber begins a day before."""

ChamberKind = Literal["refrigerated", "freezer", "cold_room", "vehicle"]


class ChamberFault(msgspec.Struct, frozen=True):
    """Fault of a chamber from `since` to `until`; it lasts for ever if `until` is None."""

    kind: Literal["compressor", "thermostat", "door"]
    """compressor: it doesn't cool; thermostat: it doesn't stop cooling; door: the door stands open."""
    since: Instant
    until: Instant | None = None

    def at(self, now: int) -> bool:
        """Return whether the fault exists at an instant."""
        return self.since <= now and (self.until is None or now < self.until)


class ChamberBuild(msgspec.Struct, frozen=True):
    """Constants of a kind of chamber. Temperatures are in °C, rates in °C an hour."""

    on: float
    """Thermostat: the compressor starts at `on` and stops at `off`."""
    off: float
    leak: Milliseconds
    """Time constant of warming to the surroundings without cooling."""
    cooling: float
    coldest: float
    """Temperature that the mass approaches if the compressor never stops."""
    puff: float
    """Share of the difference to the surroundings by which the air warms while a door is open."""
    openings: tuple[int, int]
    """Fewest and most openings a day."""
    open_for: tuple[int, int]
    """Shortest and longest opening, in seconds."""
    defrosts: tuple[float, ...]
    """Local hours at which a defrost begins."""
    defrost_for: Milliseconds
    heating: float
    ambient: float
    swing: float
    """Half of the difference of the surroundings between four in the morning and four in the afternoon."""


BUILDS: dict[ChamberKind, ChamberBuild] = {
    "refrigerated": ChamberBuild(
        on=5.3, off=4.0, leak=Milliseconds(4 * HOUR), cooling=14.0, coldest=-8.0,
        puff=0.25, openings=(6, 14), open_for=(20, 60),
        defrosts=(3.0,), defrost_for=Milliseconds(15 * MINUTE), heating=0.0, ambient=23.0, swing=3.0,
    ),
    "freezer": ChamberBuild(
        on=-19.5, off=-22.0, leak=Milliseconds(10 * HOUR), cooling=13.0, coldest=-34.0,
        puff=0.10, openings=(1, 4), open_for=(20, 40),
        defrosts=(2.0, 14.5), defrost_for=Milliseconds(14 * MINUTE), heating=3.0, ambient=23.0, swing=3.0,
    ),
    "cold_room": ChamberBuild(
        on=5.2, off=4.2, leak=Milliseconds(9 * HOUR), cooling=8.0, coldest=-5.0,
        puff=0.18, openings=(4, 9), open_for=(60, 160),
        defrosts=(0.5, 6.5, 12.5, 18.5), defrost_for=Milliseconds(20 * MINUTE), heating=1.5, ambient=24.0, swing=4.0,
    ),
    "vehicle": ChamberBuild(
        on=5.4, off=4.2, leak=Milliseconds(3 * HOUR), cooling=26.0, coldest=-10.0,
        puff=0.14, openings=(5, 12), open_for=(40, 120),
        defrosts=(5.0,), defrost_for=Milliseconds(8 * MINUTE), heating=0.0, ambient=25.0, swing=6.0,
    ),
}  # fmt: skip


def _share(time_constant: Milliseconds) -> float:
    """Return the share of the way to its goal that a value with this time constant covers in one step."""
    return 1 - math.exp(-STEP / time_constant)


PROBE_FOLLOWS = _share(Milliseconds(4 * MINUTE))
PUFF_GROWS = _share(Milliseconds(45 * SECOND))
PUFF_DIES = _share(Milliseconds(3 * MINUTE))
OPEN_LEAK = 4.0
"""Factor by which the mass warms faster while a door is open."""
NOISE = 0.03
"""Largest noise of a reading, in °C."""


class Chamber:
    """One chamber with its probe. Instants must rise; an earlier one gets the last temperature. Not thread-safe."""

    def __init__(self, kind: ChamberKind, seed: int, faults: Sequence[ChamberFault] = ()) -> None:
        self._build = BUILDS[kind]
        self._seed = seed
        self._faults = tuple(faults)
        self._next = 0
        """Number of the next step, counted from 1970."""
        self._day = 0
        self._opened: frozenset[int] = frozenset()
        self._defrosting: frozenset[int] = frozenset()
        self._weather = (0.0, 0.0)
        self._mass = self._air = self._probe = self._before = 0.0
        self._cooling = False

    def temperature(self, now: Instant) -> float:
        """Return the temperature that the probe shows, in °C."""
        step, into_step = divmod(now, STEP)
        if step < self._next - 1:
            return self._probe
        if not self._next or step - self._next > LONGEST_JUMP // STEP:
            self._begin((now + LOCAL) // DAY * DAY - LOCAL - DAY)
        while self._next <= step:
            self._advance()
        noise = (zlib.crc32(b"%d %d" % (self._seed, now)) / 2**31 - 1) * NOISE
        return self._before + (self._probe - self._before) * into_step / STEP + noise

    def add(self, fault: ChamberFault) -> None:
        """Add a fault that begins now or later."""
        self._faults = (*self._faults, fault)

    def _begin(self, when: int) -> None:
        self._next = when // STEP
        self._mass = self._probe = self._before = self._draw("begin").uniform(self._build.off, self._build.on)
        self._air = 0.0
        self._cooling = False

    def _advance(self) -> None:
        """Compute the next step of the grid: `_before` is the probe's temperature at its start, `_probe` at its end."""
        build, now = self._build, self._next * STEP
        local = now + LOCAL
        if local // DAY != self._day:
            self._begin_day(local // DAY)
        hour = local % DAY / HOUR
        ambient = self._ambient(hour)
        faults = [fault.kind for fault in self._faults if fault.at(now)]
        open_door = self._next in self._opened or "door" in faults
        defrosting = self._next in self._defrosting

        if self._mass >= build.on:
            self._cooling = True
        elif self._mass <= build.off:
            self._cooling = False
        cools = (self._cooling or "thermostat" in faults) and "compressor" not in faults and not defrosting
        rate = (ambient - self._mass) * HOUR / build.leak
        if open_door:
            rate *= OPEN_LEAK
        if cools:
            power = (self._mass - build.coldest) / (build.off - build.coldest)
            rate -= build.cooling * max(0.0, min(1.0, power))
        if defrosting:
            rate += build.heating
        self._mass += rate * STEP / HOUR
        goal, share = ((ambient - self._mass) * build.puff, PUFF_GROWS) if open_door else (0.0, PUFF_DIES)
        self._air += (goal - self._air) * share
        self._before = self._probe
        self._probe += (self._mass + self._air - self._probe) * PROBE_FOLLOWS
        self._next += 1

    def _ambient(self, hour: float) -> float:
        today, tomorrow = self._weather
        weather = today + (tomorrow - today) * hour / 24
        return self._build.ambient + weather + self._build.swing * math.cos((hour - 16) / 12 * math.pi)

    def _begin_day(self, day: int) -> None:
        self._day = day
        self._weather = (self._draw("weather", day).uniform(-2, 2), self._draw("weather", day + 1).uniform(-2, 2))
        midnight = day * DAY - LOCAL
        self._opened = frozenset(self._door_steps(midnight, self._draw("doors", day)))
        self._defrosting = frozenset(
            step for hour in self._build.defrosts for step in _steps(midnight + hour * HOUR, self._build.defrost_for)
        )

    def _door_steps(self, midnight: int, draw: random.Random) -> Iterator[int]:
        """Yield the steps in which a door is open. Each opening lies in an equal share of the clinic's hours."""
        openings = draw.randint(*self._build.openings)
        share = sum(last - first for first, last in CLINIC) / openings
        for n in range(openings):
            hour = CLINIC[0][0] + (n + draw.uniform(0, 0.6)) * share
            if hour >= CLINIC[0][1]:
                hour += CLINIC[1][0] - CLINIC[0][1]
            yield from _steps(midnight + hour * HOUR, Milliseconds(draw.randint(*self._build.open_for) * SECOND))

    def _draw(self, *what: object) -> random.Random:
        return random.Random(f"{self._seed} {what}")  # noqa: S311 (no secret)


def _steps(since: float, length: Milliseconds) -> range:
    return range(round(since / STEP), round((since + length) / STEP))
