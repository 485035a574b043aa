"""When a bus is due: at the multiples of its interval, by the injected clock.

One look at the clock serves every bus of the process, since a stepped clock must be looked at every few milliseconds.
A clock that jumped ahead over several cycles makes one poll, for the latest. One that went back by up to a cycle (a
correction) makes none until it has caught up; one that went back further was wrong before, so its time counts anew.
"""

import asyncio
import threading

from core.runtime.clock import Clock
from core.runtime.instant import SECOND, Instant, Milliseconds

LONGEST_LOOK_S = 0.05


def latest_due(now: Instant, interval: Milliseconds) -> Instant:
    """Return the start of the cycle that `now` is in."""
    return Instant(now - now % interval)


def is_due(now: Instant, interval: Milliseconds, last: Instant | None) -> bool:
    """Whether a bus last polled for the cycle begun at `last` is to be polled now."""
    due = latest_due(now, interval)
    return last is None or due > last or due < last - interval


class Cycles:
    """Wakes whoever waits for a cycle."""

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
        """Look at the clock until `stop`."""
        while not stop.is_set():
            now = self.clock.now()
            ready = [waiter for waiter in self._waiting if is_due(now, waiter[0], waiter[1])]
            for interval, last, future in ready:
                self._waiting.remove((interval, last, future))
                if not future.done():
                    future.set_result(latest_due(now, interval))
            # While all are at work the next cycle may come at any step of the clock.
            ahead = [latest_due(now, interval) + interval for interval, _, _ in self._waiting] or [now + SECOND]
            await asyncio.sleep(min(self.clock.pause(Instant(min(ahead))), LONGEST_LOOK_S))
