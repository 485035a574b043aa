"""Throttle of sign-in tries: slows guessing before it costs argon2's work.

Tries are counted by the source that guesses, never by account alone: so a stranger can't lock the owner of an account
out, and a name that nobody has is slowed like any other. In memory and by real time; each process counts for itself.
"""

from collections import OrderedDict
from collections.abc import Hashable
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from math import ceil
from threading import Lock
from typing import Generic, TypeVar

from core.errors import DomainError
from core.runtime.clock import monotonic

REMEMBERED = 10_000
FREE_GUESSES = 5
"""Wrong passwords for one name from one source that cost no wait."""
FIRST_WAIT_S = 4.0
LONGEST_WAIT_S = 900.0
FORGOTTEN_AFTER_S = 3_600.0
NETWORK_BITS = 64
"""Prefix of an IPv6 address: the network that a provider assigns to one house."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class TooManyAttempts(DomainError):
    """Error: too many tries lately; the next is allowed after so many seconds."""

    def __init__(self, after_s: float) -> None:
        self.after_s = max(1, ceil(after_s))
        super().__init__(f"too many tries; try again in {self.after_s} s")


class Throttle:
    """Token bucket of `most` tries for each address, which refills over `seconds`."""

    def __init__(self, most: int, seconds: float) -> None:
        self._most = most
        self._rate = most / seconds
        self._left: _Remembered[str, tuple[float, float]] = _Remembered()
        self._lock = Lock()

    def spend(self, address: str) -> None:
        """Count a try.

        Raises: TooManyAttempts.
        """
        now = monotonic()
        with self._lock:
            remaining, last_try = self._left.take(address) or (float(self._most), now)
            remaining = min(float(self._most), remaining + (now - last_try) * self._rate)
            self._left.put(address, (max(0.0, remaining - 1), now))
        if remaining < 1:
            raise TooManyAttempts((1 - remaining) / self._rate)


class FailedSignIns:
    """Wrong passwords by user name and source: after some, each further one doubles the wait for the next."""

    def __init__(self) -> None:
        self._counted: _Remembered[tuple[bytes, str], tuple[int, float]] = _Remembered()
        """Number of tries, and the time until which the next has to wait."""
        self._lock = Lock()

    def spend(self, username: str, source: str) -> None:
        """Count a try before its password is checked, so that concurrent ones are counted too.

        Raises: TooManyAttempts.
        """
        now, key = monotonic(), _key(username, source)
        with self._lock:
            tries, until = self._counted.take(key) or (0, now)
            if now > until + FORGOTTEN_AFTER_S:
                tries = 0
            if now < until:
                self._counted.put(key, (tries, until))
                raise TooManyAttempts(until - now)
            tries += 1
            doublings = tries - FREE_GUESSES
            wait = 0.0 if doublings < 0 else min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(doublings, 16))
            self._counted.put(key, (tries, now + wait))

    def forget(self, username: str, source: str) -> None:
        """Forget the tries that ended with the right password."""
        with self._lock:
            self._counted.take(_key(username, source))


class _Remembered(Generic[K, V]):
    """Map of the last values, with a bounded number of keys."""

    def __init__(self) -> None:
        self._kept: OrderedDict[K, V] = OrderedDict()

    def take(self, key: K) -> V | None:
        return self._kept.pop(key, None)

    def put(self, key: K, value: V) -> None:
        self._kept[key] = value
        if len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)


def source_of(address: str) -> str:
    """Return the source of a request: an IPv4 address, or the network of an IPv6 one."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{IPv6Address(int(parsed) >> NETWORK_BITS << NETWORK_BITS)}/{NETWORK_BITS}"
    return str(parsed)


def _key(username: str, source: str) -> tuple[bytes, str]:
    return sha256(username.encode("utf-8", "surrogatepass")).digest(), source
