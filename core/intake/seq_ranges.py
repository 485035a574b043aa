"""Closed ranges of sequence numbers: what a group of batches adds to them, and which rows that changes.

A gateway that loses nothing has one range for years of readings. One in error may have as many as it sent messages, so
nothing here or in the adapters looks at all of them.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

NEAR = 1_000
"""Numbers between two that are looked up at once: so many ranges at most are read for nothing."""


def spans(numbers: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans to look for ranges in: the given numbers, those near each other as one."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(numbers):
        if found and first - found[-1][1] <= NEAR:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


class SeqRangeSet:
    """Ranges of one spool's life, those near the numbers that a group is about. No two overlap or touch."""

    def __init__(self, kept: Iterable[tuple[int, int]]) -> None:
        """`kept` are the ranges as the store has them."""
        self._kept = dict(kept)
        self._last = dict(self._kept)
        self._firsts = sorted(self._kept)

    @property
    def is_empty(self) -> bool:
        """Whether the store has none near the numbers."""
        return not self._kept

    def has(self, seq: int) -> bool:
        """Return whether a number is in a range."""
        place = bisect_right(self._firsts, seq) - 1
        return place >= 0 and self._last[self._firsts[place]] >= seq

    def add(self, first: int, last: int) -> None:
        """Add [first, last], merged with whatever it overlaps or touches."""
        begin = bisect_left(self._firsts, first)
        if begin and self._last[self._firsts[begin - 1]] >= first - 1:
            begin -= 1
            first = self._firsts[begin]
        end = begin
        while end < len(self._firsts) and self._firsts[end] <= last + 1:
            last = max(last, self._last.pop(self._firsts[end]))
            end += 1
        self._firsts[begin:end] = [first]
        self._last[first] = last

    def gone(self) -> list[int]:
        """Return the first numbers of kept ranges that are part of another now."""
        return [first for first in self._kept if first not in self._last]

    def changed(self) -> list[tuple[int, int]]:
        """Return the ranges that the store doesn't have like this."""
        return [(first, last) for first, last in self._last.items() if self._kept.get(first) != last]
