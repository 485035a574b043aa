"""Poll cycles of the buses: a bus is due at each multiple of its interval, by the injected clock.

One task watches the clock for all buses of the process, since a stepped clock must be read every few milliseconds. If
the clock jumps forward over several cycles, only the latest one is polled. If it goes back by up to one cycle (a
correction), nothing is polled until it has caught up; if it goes back further, it was wrong before and the new time
counts. tests/unit/test_poll_schedule.py tries to break it.
"""

import asyncio
import threading

from core.runtime.clock import Clock
from core.runtime.instant import SECOND, Instant, Milliseconds

LONGEST_PAUSE_S = 0.05


def latest_due(now: Instant, interval: Milliseconds) -> Instant:
    """Return the start of the cycle that contains `now`."""
    return Instant(now - now % interval)


def is_due(now: Instant, interval: Milliseconds, last: Instant | None) -> bool:
    """Return whether a bus is due; `last` is the start of the cycle that was polled last."""
    due = latest_due(now, interval)
    return last is None or due > last or due < last - interval


class PollSchedule:
    """Scheduler that wakes the pollers when their cycle is due."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._waiting: list[tuple[Milliseconds, Instant | None, asyncio.Future[Instant]]] = []

    async def due(self, interval: Milliseconds, last: Instant | None) -> Instant:
        """Wait until a cycle after `last` is due, and return its start."""
        if is_due(now := self.clock.now(), interval, last):
            return latest_due(now, interval)
        future: asyncio.Future[Instant] = asyncio.get_running_loop().create_future()
        self._waiting.append((interval, last, future))
        return await future

    async def run(self, stop: threading.Event) -> None:
        """Watch the clock until `stop`."""
        while not stop.is_set():
            now = self.clock.now()
            ready = [waiter for waiter in self._waiting if is_due(now, waiter[0], waiter[1])]
            for interval, last, future in ready:
                self._waiting.remove((interval, last, future))
                if not future.done():
                    future.set_result(latest_due(now, interval))
            # While all pollers are busy, none waits here; look again within a second of the clock.
            next_due = [latest_due(now, interval) + interval for interval, _, _ in self._waiting] or [now + SECOND]
            await asyncio.sleep(min(self.clock.pause(Instant(min(next_due))), LONGEST_PAUSE_S))
