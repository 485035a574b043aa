"""How often one address may try to sign in: guessing is slowed here before it costs argon2's work.

In memory and by real time: each process counts for itself. The lock on an account after wrong passwords is kept in the
records, and holds for all.
"""

from collections import OrderedDict
from threading import Lock

from core.errors import Wrong
from core.runtime.clock import monotonic

REMEMBERED = 10_000


class TooMany(Wrong):
    """This address has tried too often lately."""


class Throttle:
    """A bucket of `most` tries an address, which fills again over `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._rate = most / seconds
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = Lock()

    def spend(self, address: str) -> None:
        """Count a try.

        Raises: TooMany.
        """
        now = monotonic()
        with self._lock:
            left, seen = self._left.pop(address, (float(self._most), now))
            left = min(float(self._most), left + (now - seen) * self._rate)
            self._left[address] = (max(0.0, left - 1), now)
            if len(self._left) > REMEMBERED:
                self._left.popitem(last=False)
        if left < 1:
            msg = "too many tries from this address; wait a minute"
            raise TooMany(msg)
