"""Connection limit of a server, and log warnings about connections at most once a minute."""

import asyncio
import resource
from typing import Any

from core.runtime.clock import monotonic
from core.runtime.logs import logger

log = logger(__name__)

RESERVED = 384
"""File descriptors kept free for databases, files and logs; at most half of a small limit."""
EVERY_S = 60.0
_OUT_OF_DESCRIPTORS = "socket.accept() out of system resource"


def connection_limit(most: int) -> int:
    """Return how many connections a process may have: at most `most`, and few enough to keep descriptors free."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return most
    return min(most, descriptors - min(RESERVED, descriptors // 2))


class RateLimitedLog:
    """Warning that is logged at most once a minute, with the number of times that it happened."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._times = 0
        self._next = 0.0

    def note(self, **facts: object) -> None:
        """Count an event, and log it unless a line was written within the last minute."""
        self._times += 1
        self.tell(**facts)

    def tell(self, **facts: object) -> None:
        """Log events that were counted but not logged yet, once the minute is over."""
        now = monotonic()
        if self._times and now >= self._next:
            log.warning(self._event, times=self._times, **facts)
            self._times, self._next = 0, now + EVERY_S


def tame_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Make an event loop log once a minute that no file descriptors are left.

    asyncio itself tries again after a second, and logs a traceback for each waiting connection: 62 MB in 40 s were
    measured.
    """
    rare = RateLimitedLog("no file descriptors left for connections")

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") == _OUT_OF_DESCRIPTORS:
            rare.note(problem=str(context.get("exception")))
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(report)
