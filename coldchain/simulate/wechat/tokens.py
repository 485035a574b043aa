"""Which access tokens serve, as the platform has it: in real time, like the programs that hold them.

A plain token ends the one before, which overlaps for five minutes. The stable one is another world: the same is given
until five minutes before its end, unless a refresh is forced, which ends it at once and works twice a minute at most.
"""

import secrets
from collections.abc import Callable
from enum import IntEnum

from core.runtime.instant import Instant

OVERLAP_MS = 300_000
FORCED_APART_MS = 30_000


class Standing(IntEnum):
    """What the platform answers to a token; the errcode where it is bad."""

    GOOD = 0
    INVALID = 40001
    EXPIRED = 42001


class Tokens:
    """The tokens of one account; `now` is real time."""

    def __init__(self, life_s: float, now: Callable[[], Instant]) -> None:
        self._life = int(life_s * 1000)
        self._now = now
        self._ends: dict[str, Instant] = {}
        self._revoked: set[str] = set()
        self._plain = ""
        self._stable = ""
        self._forced_at = -FORCED_APART_MS

    def plain(self) -> tuple[str, int]:
        """Give a new plain token and its seconds."""
        if self._plain:
            self._ends[self._plain] = min(self._ends[self._plain], Instant(self._now() + OVERLAP_MS))
        self._plain = self._mint()
        return self._plain, self._seconds(self._plain)

    def stable(self, *, force: bool) -> tuple[str, int]:
        """Give the stable token and its seconds left."""
        now = self._now()
        early = min(OVERLAP_MS, self._life // 4)
        if force and now - self._forced_at >= FORCED_APART_MS:
            self._forced_at = now
            self._revoked.add(self._stable)
            self._stable = self._mint()
        elif self._ends.get(self._stable, now) - now <= early:
            self._stable = self._mint()
        return self._stable, self._seconds(self._stable)

    def standing(self, token: str) -> Standing:
        """Return what a token is worth."""
        if token in self._revoked or token not in self._ends:
            return Standing.INVALID
        return Standing.GOOD if self._now() < self._ends[token] else Standing.EXPIRED

    def expire(self) -> None:
        """End all tokens as if their time were over: 42001, and asking gives another."""
        self._ends = dict.fromkeys(self._ends, self._now())

    def revoke(self) -> None:
        """Make all tokens bad without a reason: 40001, and only a forced refresh gives another."""
        self._revoked |= set(self._ends)

    def _mint(self) -> str:
        token = f"{secrets.randbelow(100)}_{secrets.token_urlsafe(96)}"
        self._ends[token] = Instant(self._now() + self._life)
        return token

    def _seconds(self, token: str) -> int:
        return max(1, (self._ends[token] - self._now()) // 1000)
