"""Access tokens of the simulated platform, in real time.

A plain token ends the one before, which stays valid for five more minutes. The stable token is independent of plain
ones: the same token is given until five minutes before its end. A forced refresh ends it at once; it works at most
twice a minute.
"""

import secrets
from collections.abc import Callable
from enum import IntEnum

from core.runtime.instant import Instant

OVERLAP_MS = 300_000
FORCED_APART_MS = 30_000


class TokenStanding(IntEnum):
    """Validity of a token; for a bad one the value is WeChat's errcode."""

    GOOD = 0
    INVALID = 40001
    EXPIRED = 42001


class SimulatedTokens:
    """Tokens of one account; `now` is real time."""

    def __init__(self, life_s: float, now: Callable[[], Instant]) -> None:
        self._life = int(life_s * 1000)
        self._now = now
        self._ends: dict[str, Instant] = {}
        self._revoked: set[str] = set()
        self._plain = ""
        self._stable = ""
        self._forced_at = -FORCED_APART_MS

    def plain(self) -> tuple[str, int]:
        """Return a new plain token and its life in seconds."""
        if self._plain:
            self._ends[self._plain] = min(self._ends[self._plain], Instant(self._now() + OVERLAP_MS))
        self._plain = self._mint()
        return self._plain, self._seconds(self._plain)

    def stable(self, *, force: bool) -> tuple[str, int]:
        """Return the stable token and the seconds that it is still valid."""
        now = self._now()
        early = min(OVERLAP_MS, self._life // 4)
        if force and now - self._forced_at >= FORCED_APART_MS:
            self._forced_at = now
            self._revoked.add(self._stable)
            self._stable = self._mint()
        elif self._ends.get(self._stable, now) - now <= early:
            self._stable = self._mint()
        return self._stable, self._seconds(self._stable)

    def standing(self, token: str) -> TokenStanding:
        """Return whether a token is valid, expired or unknown."""
        if token in self._revoked or token not in self._ends:
            return TokenStanding.INVALID
        return TokenStanding.GOOD if self._now() < self._ends[token] else TokenStanding.EXPIRED

    def expire(self) -> None:
        """Let all tokens expire: 42001; the next request gets a new one."""
        self._ends = dict.fromkeys(self._ends, self._now())

    def revoke(self) -> None:
        """Revoke all tokens without a reason: 40001; only a forced refresh gives a new one."""
        self._revoked |= set(self._ends)

    def _mint(self) -> str:
        token = f"{secrets.randbelow(100)}_{secrets.token_urlsafe(96)}"
        self._ends[token] = Instant(self._now() + self._life)
        return token

    def _seconds(self, token: str) -> int:
        return max(1, (self._ends[token] - self._now()) // 1000)
