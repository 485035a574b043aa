"""What time it is: the one place that the system's own clocks are read.

Event times, rules, steps and expiry follow a `Clock`; leases, time-outs and back-off follow `monotonic`
(docs/architecture.md lists which follows what). A `VirtualClock` is a small file shared by every process of a
demo or a scenario; only a `ClockKeeper` writes it.

Guarantees of the virtual clock, tried by tests/unit/test_clock.py and the kill scenarios:
* never backwards, not even when the keeper was killed: a reader never goes beyond the `bound` in the file, and a keeper
  that starts again goes on from that bound when the last one did not close;
* frozen while nobody keeps it: at most until the bound, `LEAD_S` real seconds after the last save.
"""

import os
import time
from pathlib import Path
from typing import Protocol

import msgspec

from core.runtime.instant import Instant

LEAD_S = 2.0
LONGEST_PAUSE_S = 1.0
STEP_LOOK_S = 0.002


def monotonic() -> float:
    """Return real seconds that never jump: for leases in memory, time-outs and back-off."""
    return time.monotonic()


def real_now() -> Instant:
    """Return the machine's own UTC time: for leases kept in a database, and nothing that a person reads."""
    return Instant(time.time_ns() // 1_000_000)


class Clock(Protocol):
    """Tells the time that the system works by."""

    def now(self) -> Instant:
        """Return the current instant."""

    def pause(self, until: Instant) -> float:
        """Return real seconds to sleep before looking again while waiting for `until` (0 once it is due)."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> Instant:
        """Return the current instant."""
        return real_now()

    def pause(self, until: Instant) -> float:
        """Return the real seconds left, at most one, so that a jump of the clock is seen soon."""
        return min(LONGEST_PAUSE_S, max(0.0, (until - self.now()) / 1000))


class ClockFace(msgspec.Struct, frozen=True):
    """What the file of a virtual clock says."""

    virtual: int
    """Virtual time at `anchor`, ms UTC."""
    anchor: int
    """CLOCK_MONOTONIC of this boot, ns, when `virtual` was true."""
    speed: float
    """Virtual seconds a real second; 0 when the clock is stepped."""
    bound: int
    """No reader goes beyond this, ms UTC."""
    step: int
    """Number of the current step; 0 while the clock runs by itself."""
    closed: bool = False
    """The keeper ended in order, at `virtual`."""

    def at(self, mono_ns: int) -> Instant:
        """Return the virtual time at a moment of CLOCK_MONOTONIC."""
        run = int(max(0, mono_ns - self.anchor) * self.speed / 1_000_000)
        return Instant(min(self.virtual + run, self.bound))


class VirtualClock:
    """Reads a shared virtual clock. Cheap: the file is looked at again when its inode changes."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError when no keeper has made the file yet."""
        self.path = path
        self._seen: tuple[tuple[int, int], ClockFace] | None = None
        self.face()

    def face(self) -> ClockFace:
        """Return what the file says now."""
        stat = self.path.stat()
        stamp = (stat.st_ino, stat.st_mtime_ns)
        # One assignment of both: two threads that look at once must not leave the new stamp with the old face.
        seen = self._seen
        if seen is None or seen[0] != stamp:
            self._seen = seen = (stamp, msgspec.json.decode(self.path.read_bytes(), type=ClockFace))
        return seen[1]

    def now(self) -> Instant:
        """Return the current virtual instant."""
        return self.face().at(time.monotonic_ns())

    def pause(self, until: Instant) -> float:
        """Return real seconds to sleep: short, since a keeper may step the clock at any moment."""
        face = self.face()
        left = until - face.at(time.monotonic_ns())
        if left <= 0:
            return 0.0
        return STEP_LOOK_S if face.speed == 0 else min(0.1, left / 1000 / face.speed)


class ClockKeeper:
    """Keeps a virtual clock: the one writer of its file. `save` once a second, or it stands still."""

    def __init__(self, path: Path, *, start: Instant, speed: float) -> None:
        """Go on from the file where it exists (from its bound unless it was closed), else from `start`."""
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
        """Move the bound on; called once a second while the clock runs by itself."""
        self._write(int(self.now()))

    def step_to(self, when: Instant) -> int:
        """Put a stepped clock on `when` and return the step's number; the barrier waits for it.

        Raises: ValueError for a step backwards.
        """
        if when < self.now():
            msg = f"a clock does not go back: from {self.now()} to {when}"
            raise ValueError(msg)
        self._step += 1
        self._write(int(when))
        return self._step

    def close(self) -> None:
        """Freeze the clock where it is; the next keeper goes on from exactly there."""
        self._write(int(self.now()), closed=True)

    def _write(self, virtual: int, *, closed: bool = False) -> None:
        speed = 0.0 if closed else self.speed
        self._face = ClockFace(
            virtual, time.monotonic_ns(), speed, virtual + int(LEAD_S * 1000 * speed), self._step, closed
        )
        beside = self._path.with_suffix(f".{os.getpid()}.tmp")
        beside.write_bytes(msgspec.json.encode(self._face))
        beside.replace(self._path)


def clock_from(virtual_clock: str) -> Clock:
    """Return the clock that the setting `virtual_clock` names: a clock file, or the machine's clock when empty."""
    return VirtualClock(Path(virtual_clock)) if virtual_clock else SystemClock()
