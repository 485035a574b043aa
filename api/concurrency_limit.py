"""Slots that limit concurrent requests, in all and for one principal: many requests of one delay nobody else.

Requests wait here in the event loop, where waiting costs neither a thread nor a database connection. So neither runs
out, and a new principal doesn't wait behind two hundred requests of another.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

WAITS_S = 10.0
"""Real seconds that a request may wait for its slot."""


class TooBusy(Exception):
    """Error: a request has waited too long for its slot; the text says why."""


class ConcurrencyLimit:
    """Limit of concurrent requests, in all and for one principal. In one event loop."""

    def __init__(self, most: int, *, per_principal: int, waits_s: float = WAITS_S) -> None:
        self._per_principal = per_principal
        self._waits_s = waits_s
        self._all = asyncio.Semaphore(most)
        self._by_principal: dict[str, _PrincipalSlots] = {}

    @asynccontextmanager
    async def slot(self, principal: str) -> AsyncIterator[None]:
        """Hold a slot for the principal.

        Raises: TooBusy.
        """
        own = self._by_principal.setdefault(principal, _PrincipalSlots(self._per_principal))
        own.requests += 1
        try:
            async with asyncio.timeout(self._waits_s) as waiting, own.slots, self._all:
                waiting.reschedule(None)
                yield
        except TimeoutError:
            if not waiting.expired():
                raise
            msg = (
                f"{self._per_principal} of your requests are under way and more wait; ask again when they are answered"
            )
            raise TooBusy(msg if own.slots.locked() else "too many requests at the moment; ask again soon") from None
        finally:
            own.requests -= 1
            if not own.requests:
                del self._by_principal[principal]


class _PrincipalSlots:
    def __init__(self, per_principal: int) -> None:
        self.slots = asyncio.Semaphore(per_principal)
        self.requests = 0
