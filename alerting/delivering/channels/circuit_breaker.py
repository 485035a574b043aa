"""Circuit breaker of a channel: blocks it for a while after the provider's own answer, or after failures in a row.

The provider may answer that nothing passes at present (a quota, a blocked account). Then one message alone tests
whether that is over, and the others wait for its result, so that the whole queue doesn't hit a blocked account.
"""

import threading

from alerting.delivering.channels.port import RetryLater
from core.runtime.clock import monotonic

FAILURES_TO_BLOCK = 5
FAILURES_A_ROUND = 16
"""Messages in flight when the channel is tried again; a failed round doubles the pause."""
LONGEST_S = 30.0
WAIT_S = 1.0
"""Seconds after which the waiting messages check again while one is testing the channel."""


class CircuitBreaker:
    """Circuit breaker of one channel. A partial outage never blocks it: a single success resets the count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._blocked_until = 0.0
        self._blocked_by_provider = False
        """Whether the provider's own answer blocked it, until it takes a message."""
        self._trying = False

    def blocked_for(self) -> float:
        """Return the seconds until the next try is worthwhile, 0 when it is not blocked."""
        return max(0.0, self._blocked_until - monotonic())

    def admit(self) -> float:
        """Return 0 when a message may be sent now, else the seconds to wait.

        After 0 the caller must call `answered`, `failed` or `gave_up`.
        """
        with self._lock:
            wait_s = max(0.0, self._blocked_until - monotonic())
            if wait_s or not self._blocked_by_provider:
                return wait_s
            if self._trying:
                return WAIT_S
            self._trying = True
            return 0.0

    def answered(self) -> None:
        """Note that the provider answered, with success or an error."""
        with self._lock:
            self._failures = 0
            self._blocked_by_provider = self._trying = False

    def gave_up(self) -> None:
        """Note that an admitted message failed by an error of this program."""
        with self._lock:
            self._trying = False

    def failed(self, error: RetryLater) -> None:
        """Note that nothing was sent, and block when no other message would fare better."""
        with self._lock:
            self._failures += 1
            excess = self._failures - FAILURES_TO_BLOCK
            pause = min(LONGEST_S, 2.0 ** (excess // FAILURES_A_ROUND)) if excess >= 0 else 0.0
            self._trying = False
            if error.channel_wide:
                self._blocked_by_provider = True
                pause = max(pause, error.after or 0.0)
            self._blocked_until = max(self._blocked_until, monotonic() + pause)
