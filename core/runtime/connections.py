"""Connections of a server: how many there may be, and one line a minute about those that it ended."""

import asyncio
import resource
from typing import Any

from core.runtime.clock import monotonic
from core.runtime.logs import logger

log = logger(__name__)

RESERVED = 384
"""File descriptors for databases, files and logs; of a small limit at most half."""
EVERY_S = 60.0
_OUT_OF_DESCRIPTORS = "socket.accept() out of system resource"


def connection_limit(most: int) -> int:
    """Return how many connections a process may have: below `most`, and so that descriptors are left for its work."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return most
    return min(most, descriptors - min(RESERVED, descriptors // 2))


class RareLog:
    """A warning that is written when something happens, and then once a minute with how often it happened."""

    def __init__(self, event: str) -> None:
        self._event = event
        self._times = 0
        self._next = 0.0

    def note(self, **facts: object) -> None:
        """Count, and say so unless a line was written within the last minute."""
        self._times += 1
        self.tell(**facts)

    def tell(self, **facts: object) -> None:
        """Write what was counted and not yet said, once its minute is over."""
        now = monotonic()
        if self._times and now >= self._next:
            log.warning(self._event, times=self._times, **facts)
            self._times, self._next = 0, now + EVERY_S


def tame_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Let a loop say in one line a minute that no descriptors are left.

    asyncio tries again after a second by itself, and reports each connection that waits with a traceback: 62 MB within
    40 s were seen.
    """
    rare = RareLog("no file descriptors left for connections")

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") == _OUT_OF_DESCRIPTORS:
            rare.note(problem=str(context.get("exception")))
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(report)
