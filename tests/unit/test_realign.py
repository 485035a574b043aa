"""Realigning: cursors that don't fit the log, and where they are placed, for every history of a log and its copies."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.health.cursor_alignment import CursorFault, MisplacedCursor, faults
from core.health.realign import placings
from core.intake.port import EntryGap
from core.wire.shards import Shard

A = Shard("0a")


def fault(
    position: int,
    mark: str,
    *,
    names: tuple[str, ...] = ("1f",),
    head: int = 10,
    copy: int = 0,
    here: str = "1f/",
) -> CursorFault | None:
    found = faults("alerting", {A: (position, mark)}, {A: copy}, names, {A: head}, {A: here})
    return found[0].fault if found else None


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (fault(10, "1f/aa", here="1f/aa"), None),
        (fault(3, "1f/aa", here="1f/aa", copy=3), None),
        (fault(3, "1f/aa", here="1f/"), None),
        (fault(3, "1f/"), None),
        (fault(10, ""), None),
        (fault(3, "1f/aa", names=("1f", "2e"), here="2e/aa"), None),
        (fault(3, "2e/aa"), CursorFault.OTHER_LOG),
        (fault(0, "2e/"), CursorFault.OTHER_LOG),
        (fault(11, "1f/aa"), CursorFault.BEYOND_HEAD),
        (fault(11, ""), CursorFault.BEYOND_HEAD),
        (fault(3, "1f/aa", here="1f/bb"), CursorFault.OTHER_ENTRY),
        (fault(3, "1f/aa", here="1f/aa", copy=4), CursorFault.PUT_BACK),
        (fault(0, "", copy=1), CursorFault.PUT_BACK),
    ],
)
def test_a_cursor_fits_or_the_reason_is_known(found: CursorFault | None, expected: CursorFault | None) -> None:
    assert found is expected


@pytest.mark.parametrize(
    ("position", "mark", "copy", "expected"),
    [
        (3, "1f/aa", 3, CursorFault.ENTRIES_MISSING),
        (3, "1f/aa", 7, CursorFault.ENTRIES_MISSING),
        (3, "2e/aa", 3, CursorFault.OTHER_LOG),
    ],
)
def test_a_log_that_has_lost_the_next_entry_is_not_followed(
    position: int, mark: str, copy: int, expected: CursorFault
) -> None:
    cursor = {A: (position, mark)}
    (found,) = faults("alerting", cursor, {A: copy}, ["1f"], {A: 10}, {A: "1f/aa"}, {A})
    assert found.fault is expected
    (unread,) = faults("alerting", {}, {}, ["1f"], {A: 10}, {}, {A})
    assert (unread.fault, unread.position) == (CursorFault.ENTRIES_MISSING, 0)


def test_a_cursor_before_missing_entries_stays_and_what_it_loses_is_counted() -> None:
    found = MisplacedCursor("alerting", A, CursorFault.ENTRIES_MISSING, position=3, copy=3, head=20)
    (move,) = placings([found], {A: 1}, [EntryGap(A, 2, 6), EntryGap(A, 9, 9), EntryGap(Shard("0b"), 1, 5)])
    assert (move.to, move.gone, move.again) == (3, 4, 13)


def test_a_shard_that_the_log_knows_of_a_reader_and_its_store_no_more_is_found() -> None:
    assert faults("alerting", {}, {A: 7}, ["1f"], {A: 9}, {}) == [
        MisplacedCursor("alerting", A, CursorFault.PUT_BACK, position=0, copy=7, head=9)
    ]


class World:
    """A log of one shard as lists of entries, a reader's cursor, and what the log has noted of it."""

    def __init__(self) -> None:
        self.entries: list[str] = []
        self.names = ["1f"]
        self.copy = 0
        self.position, self.mark = 0, ""
        self.read: set[str] = set()
        self.known: set[str] = set()
        """What was ever read or can be."""
        self.appended = 0
        self.saved = ([*self.entries], [*self.names], 0)

    def mark_at(self, n: int) -> str:
        return f"{self.names[-1]}/{self.entries[n - 1] if 0 < n <= len(self.entries) else ''}"

    def found(self) -> list[MisplacedCursor]:
        cursor: Mapping[Shard, tuple[int, str]] = {A: (self.position, self.mark)} if self.mark else {}
        heads, marks = {A: len(self.entries)}, {A: self.mark_at(self.position)}
        return faults("alerting", cursor, {A: self.copy}, self.names, heads, marks)

    def append(self) -> None:
        self.appended += 1
        self.entries.append(f"{self.appended:x}")

    def follow(self) -> None:
        if not self.found():
            self.read |= set(self.entries[self.position :])
            self.position, self.mark = len(self.entries), self.mark_at(len(self.entries))

    def mirror(self) -> None:
        if not self.found():
            self.copy = max(self.copy, self.position)

    def save(self) -> None:
        self.saved = ([*self.entries], [*self.names], self.copy)

    def put_back(self) -> None:
        self.entries, self.names, self.copy = [*self.saved[0]], [*self.saved[1]], self.saved[2]

    def make_anew(self) -> None:
        self.entries, self.names, self.copy = [], [f"new{self.appended}"], 0

    def realign(self) -> None:
        for each in placings(self.found(), {A: 1}):
            self.names.append(f"re{self.appended}{len(self.names)}")
            self.position, self.mark, self.copy = each.to, self.mark_at(each.to), each.to


@given(
    st.lists(st.sampled_from(["append", "follow", "mirror", "save", "put_back", "make_anew", "realign"]), max_size=40)
)
def test_after_realigning_every_entry_that_the_log_has_is_read_whatever_came_before(steps: list[str]) -> None:
    """Even if what nothing should do was done: appends to a log whose cursors don't fit."""
    world = World()
    for step in steps:
        getattr(world, step)()
    world.realign()
    assert world.found() == []
    world.append()
    world.follow()
    assert set(world.entries) <= world.read
