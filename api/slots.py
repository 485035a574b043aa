"""How many requests are worked on at once, in all and of one asker: many questions of one keep nobody else waiting.

Requests wait here in the event loop, where waiting costs no thread and no connection to a database. So neither runs
out, and whoever has just come isn't behind two hundred questions of somebody else.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

WAITS_S = 10.0
"""Real seconds that a request may wait for its turn."""


class Busy(Exception):
    """A request has waited too long for its turn; the text says why."""


class Slots:
    """So many at once, so many of them of one asker. In one event loop."""

    def __init__(self, most: int, *, of_one: int, waits_s: float = WAITS_S) -> None:
        self._of_one = of_one
        self._waits_s = waits_s
        self._all = asyncio.Semaphore(most)
        self._askers: dict[str, _Asker] = {}

    @asynccontextmanager
    async def slot(self, asker: str) -> AsyncIterator[None]:
        """Hold a slot for the asker.

        Raises: Busy.
        """
        mine = self._askers.setdefault(asker, _Asker(self._of_one))
        mine.requests += 1
        try:
            async with asyncio.timeout(self._waits_s) as waiting, mine.slots, self._all:
                waiting.reschedule(None)
                yield
        except TimeoutError:
            if not waiting.expired():
                raise
            msg = f"{self._of_one} of your requests are under way and more wait; ask again when they are answered"
            raise Busy(msg if mine.slots.locked() else "too many requests at the moment; ask again soon") from None
        finally:
            mine.requests -= 1
            if not mine.requests:
                del self._askers[asker]


class _Asker:
    def __init__(self, of_one: int) -> None:
        self.slots = asyncio.Semaphore(of_one)
        self.requests = 0
