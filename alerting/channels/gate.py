"""Whether a channel takes anything at present: closed for a while by its own word, or by failures in a row."""

import threading

from alerting.channels.port import Retry
from core.runtime.clock import monotonic

FAILURES_TO_CLOSE = 5
FAILURES_A_ROUND = 16
"""So many are in flight when it opens again; a failed round doubles the pause."""
LONGEST_S = 30.0


class Gate:
    """Of one channel. A partial outage never closes it: a single success resets the count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._opens = 0.0

    def closed_for(self) -> float:
        """Return the seconds until it is worth asking again, 0 when it is open."""
        return max(0.0, self._opens - monotonic())

    def answered(self) -> None:
        """Note that the provider is there, whatever it said."""
        with self._lock:
            self._failures = 0

    def failed(self, error: Retry) -> None:
        """Note that nothing was handed over, and close when no other message would fare better."""
        with self._lock:
            self._failures += 1
            beyond = self._failures - FAILURES_TO_CLOSE
            pause = min(LONGEST_S, 2.0 ** (beyond // FAILURES_A_ROUND)) if beyond >= 0 else 0.0
            if error.channel_wide:
                pause = max(pause, error.after or 0.0)
            self._opens = max(self._opens, monotonic() + pause)
