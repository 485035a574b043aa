"""Timelines in memory: the value of a subject at an instant, by binary search."""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from core.runtime.instant import Instant

T = TypeVar("T")

BEGINNING, END = Instant(-(2**62)), Instant(2**62)
"""Before and after every real instant."""


class Segment(NamedTuple, Generic[T]):
    """A value that holds at every instant of [since, until)."""

    since: Instant
    until: Instant
    value: T


class Timeline(Generic[T]):
    """Values over spans [since, until) that don't overlap; a span with `until` None is open. Look-up is O(log n)."""

    __slots__ = ("_since", "_until", "_value")

    def __init__(self, rows: Iterable[tuple[Instant, Instant | None, T]]) -> None:
        """Build from the rows of one subject, in any order."""
        ordered = sorted(rows, key=lambda row: row[0])
        self._since = [since for since, _, _ in ordered]
        self._until = [until for _, until, _ in ordered]
        self._value = [value for _, _, value in ordered]

    def at(self, when: Instant) -> T | None:
        """Return the value at an instant, or None."""
        index = bisect_right(self._since, when) - 1
        if index < 0:
            return None
        until = self._until[index]
        return self._value[index] if until is None or when < until else None

    def around(self, when: Instant) -> Segment[T | None]:
        """Return the value at an instant, like `at`, with the stretch of time in which the answer is the same."""
        index = bisect_right(self._since, when) - 1
        after = self._since[index + 1] if index + 1 < len(self._since) else END
        if index < 0:
            return Segment(BEGINNING, after, None)
        since, until = self._since[index], self._until[index]
        if until is None or when < until:
            return Segment(since, after if until is None else min(until, after), self._value[index])
        return Segment(max(since, until), after, None)


def merged(rows: Iterable[tuple[Instant, Instant | None]]) -> list[tuple[Instant, Instant | None, bool]]:
    """Join intervals that overlap or touch: maintenance windows of one equipment may overlap."""
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
