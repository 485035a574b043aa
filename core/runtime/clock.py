"""Clocks: the only module that reads the machine's own clocks.

Event times, rules, steps and expiry follow a `Clock`; leases, time-outs and back-off follow `monotonic`
(docs/architecture.md has the list). A `VirtualClock` is a small file shared by all processes of a demo or a scenario;
only a `ClockKeeper` writes it.

Guarantees of the virtual clock, tried by tests/unit/test_clock.py and the kill scenarios:
* It never goes backwards, also if the keeper is killed: a reader never goes beyond the `bound` in the file, and a new
  keeper goes on from that bound if the last one did not close the clock.
* It stands still without a keeper: it stops at the bound, at most `LEAD_S` real seconds after the last save.
"""

import os
import time
from pathlib import Path
from typing import Protocol

import msgspec

from core.runtime.instant import Instant

LEAD_S = 2.0
LONGEST_PAUSE_S = 1.0
STEP_POLL_S = 0.002


def monotonic() -> float:
    """Return monotonic real seconds, for leases in memory, time-outs and back-off."""
    return time.monotonic()


def real_now() -> Instant:
    """Return the machine's UTC time, for leases in a database; never for a time that a person reads."""
    return Instant(time.time_ns() // 1_000_000)


class Clock(Protocol):
    """Clock that the system works by."""

    def now(self) -> Instant:
        """Return the current instant."""

    def pause(self, until: Instant) -> float:
        """Return real seconds to sleep before looking at the clock again while waiting for `until`; 0 once due."""


class SystemClock:
    """Clock of the machine."""

    def now(self) -> Instant:
        """Return the current instant."""
        return real_now()

    def pause(self, until: Instant) -> float:
        """Return the real seconds left, at most one, so that a jump of the clock is noticed soon."""
        return min(LONGEST_PAUSE_S, max(0.0, (until - self.now()) / 1000))


class ClockFace(msgspec.Struct, frozen=True):
    """Content of the file of a virtual clock."""

    virtual: int
    """Virtual time at `anchor`, ms UTC."""
    anchor: int
    """CLOCK_MONOTONIC of this boot at `virtual`, ns."""
    speed: float
    """Virtual seconds per real second; 0 if the clock is stepped."""
    bound: int
    """Virtual time beyond which no reader goes, ms UTC."""
    step: int
    """Number of the current step; 0 while the clock runs by itself."""
    closed: bool = False
    """The keeper ended in order, at `virtual`."""

    def at(self, mono_ns: int) -> Instant:
        """Return the virtual time at a moment of CLOCK_MONOTONIC."""
        elapsed = int(max(0, mono_ns - self.anchor) * self.speed / 1_000_000)
        return Instant(min(self.virtual + elapsed, self.bound))


class VirtualClock:
    """Reader of a shared virtual clock. It reads the file again only if its inode or time of change differs."""

    def __init__(self, path: Path) -> None:
        """Raise FileNotFoundError if no keeper has created the file yet."""
        self.path = path
        self._cached: tuple[tuple[int, int], ClockFace] | None = None
        self.face()

    def face(self) -> ClockFace:
        """Return the current content of the file."""
        stat = self.path.stat()
        stamp = (stat.st_ino, stat.st_mtime_ns)
        # Assign both at once: otherwise two threads could leave the new stamp with the old face.
        cached = self._cached
        if cached is None or cached[0] != stamp:
            self._cached = cached = (stamp, msgspec.json.decode(self.path.read_bytes(), type=ClockFace))
        return cached[1]

    def now(self) -> Instant:
        """Return the current virtual instant."""
        return self.face().at(time.monotonic_ns())

    def pause(self, until: Instant) -> float:
        """Return real seconds to sleep. They are short, since a keeper may step the clock at any moment."""
        face = self.face()
        remaining = until - face.at(time.monotonic_ns())
        if remaining <= 0:
            return 0.0
        return STEP_POLL_S if face.speed == 0 else min(0.1, remaining / 1000 / face.speed)


class ClockKeeper:
    """Keeper of a virtual clock, the only writer of its file. Without a `save` each second the clock stands still."""

    def __init__(self, path: Path, *, start: Instant, speed: float) -> None:
        """Go on from an existing file (from its bound unless it was closed), but not before `start`."""
        self._path = path
        self.speed = speed
        self._step = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        virtual = int(start)
        if path.exists():
            last = msgspec.json.decode(path.read_bytes(), type=ClockFace)
            virtual = max(virtual, last.virtual) if last.closed else max(virtual, last.bound)
            self._step = last.step
        self._write(virtual)

    def now(self) -> Instant:
        """Return the current virtual instant."""
        return self._face.at(time.monotonic_ns())

    def run(self, speed: float) -> None:
        """Let the clock run from where it is, `speed` virtual seconds a real second."""
        now = self.now()
        self.speed = speed
        self._write(int(now))

    def save(self) -> None:
        """Move the bound forward. Call it once a second while the clock runs by itself."""
        self._write(int(self.now()))

    def step_to(self, when: Instant) -> int:
        """Set a stepped clock to `when` and return the number of the step, for which the barrier waits.

        Raises: ValueError for a step backwards.
        """
        if when < self.now():
            msg = f"a clock does not go back: from {self.now()} to {when}"
            raise ValueError(msg)
        self._step += 1
        self._write(int(when))
        return self._step

    def close(self) -> None:
        """Stop the clock. The next keeper goes on from exactly this time."""
        self._write(int(self.now()), closed=True)

    def _write(self, virtual: int, *, closed: bool = False) -> None:
        speed = 0.0 if closed else self.speed
        self._face = ClockFace(
            virtual, time.monotonic_ns(), speed, virtual + int(LEAD_S * 1000 * speed), self._step, closed
        )
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(msgspec.json.encode(self._face))
        temporary.replace(self._path)


def clock_from(virtual_clock: str) -> Clock:
    """Return the clock of the setting `virtual_clock`: that of a clock file, or the machine's clock if it is empty."""
    return VirtualClock(Path(virtual_clock)) if virtual_clock else SystemClock()
