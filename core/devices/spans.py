"""What a subject had at an instant, from all that it ever had: the timelines in memory."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from core.runtime.instant import Instant

T = TypeVar("T")

BEGINNING, END = Instant(-(2**62)), Instant(2**62)
"""Before and after every instant that there is."""


class Stretch(NamedTuple, Generic[T]):
    """What the answer is at every instant of [since, until)."""

    since: Instant
    until: Instant
    value: T


class Spans(Generic[T]):
    """Values over [since, until) that don't overlap; open at the end where until is None. O(log n) to ask."""

    __slots__ = ("_since", "_until", "_value")

    def __init__(self, rows: Iterable[tuple[Instant, Instant | None, T]]) -> None:
        """Take the rows of one subject in any order."""
        ordered = sorted(rows, key=lambda row: row[0])
        self._since = [since for since, _, _ in ordered]
        self._until = [until for _, until, _ in ordered]
        self._value = [value for _, _, value in ordered]

    def at(self, when: Instant) -> T | None:
        """Return the value at an instant, None when there was none."""
        index = bisect_right(self._since, when) - 1
        if index < 0:
            return None
        until = self._until[index]
        return self._value[index] if until is None or when < until else None

    def around(self, when: Instant) -> Stretch[T | None]:
        """Return the value at an instant as `at` does, and from when until when it is the answer."""
        index = bisect_right(self._since, when) - 1
        after = self._since[index + 1] if index + 1 < len(self._since) else END
        if index < 0:
            return Stretch(BEGINNING, after, None)
        since, until = self._since[index], self._until[index]
        if until is None or when < until:
            return Stretch(since, after if until is None else min(until, after), self._value[index])
        return Stretch(max(since, until), after, None)


def merged(rows: Iterable[tuple[Instant, Instant | None]]) -> list[tuple[Instant, Instant | None, bool]]:
    """Join intervals that overlap or touch, since maintenance windows may be entered twice."""
    joined: list[tuple[Instant, Instant | None, bool]] = []
    for since, until in sorted(rows, key=lambda row: row[0]):
        if joined:
            first, end, _ = joined[-1]
            if end is None:
                break
            if since <= end:
                joined[-1] = (first, None if until is None else max(end, until), True)
                continue
        joined.append((since, until, True))
    return joined
