"""Whether a channel takes anything at present: closed for a while by its own word, or by failures in a row.

After its own word that nothing passes (a quota, an account that is shut out) one message alone tries whether that is
over; the others wait for what comes of it, so an account isn't hammered by all that has piled up.
"""

import threading

from alerting.channels.port import Retry
from core.runtime.clock import monotonic

FAILURES_TO_CLOSE = 5
FAILURES_A_ROUND = 16
"""So many are in flight when it opens again; a failed round doubles the pause."""
LONGEST_S = 30.0
WAIT_S = 1.0
"""Those that wait for the one that tries look again after this."""


class Gate:
    """Of one channel. A partial outage never closes it: a single success resets the count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._opens = 0.0
        self._shut_out = False
        """By the provider's own word, until it takes a message."""
        self._trying = False

    def closed_for(self) -> float:
        """Return the seconds until it is worth asking again, 0 when it is open."""
        return max(0.0, self._opens - monotonic())

    def admit(self) -> float:
        """Return 0 when a message may be handed over now, else the seconds to wait.

        Who is admitted calls `answered`, `failed` or `gave_up` afterwards.
        """
        with self._lock:
            closed = max(0.0, self._opens - monotonic())
            if closed or not self._shut_out:
                return closed
            if self._trying:
                return WAIT_S
            self._trying = True
            return 0.0

    def answered(self) -> None:
        """Note that the provider is there, whatever it said about the message."""
        with self._lock:
            self._failures = 0
            self._shut_out = self._trying = False

    def gave_up(self) -> None:
        """Note that a message which was admitted came to nothing by a fault of ours."""
        with self._lock:
            self._trying = False

    def failed(self, error: Retry) -> None:
        """Note that nothing was handed over, and close when no other message would fare better."""
        with self._lock:
            self._failures += 1
            beyond = self._failures - FAILURES_TO_CLOSE
            pause = min(LONGEST_S, 2.0 ** (beyond // FAILURES_A_ROUND)) if beyond >= 0 else 0.0
            self._trying = False
            if error.channel_wide:
                self._shut_out = True
                pause = max(pause, error.after or 0.0)
            self._opens = max(self._opens, monotonic() + pause)
