"""Freshness index of the telemetry writer, against a list of all entries."""

from hypothesis import given
from hypothesis import strategies as st

from collector.storing.freshness_index import PARTS, SHORT, FreshnessIndex
from core.runtime.instant import Instant
from core.wire.shards import Shard

ONE, OTHER = Shard("00"), Shard("ff")

CHUNKS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=300), max_size=12)
"""What is stored at once: the oldest instant of each entry, one behind the other."""


@given(CHUNKS, st.integers(0, 200), st.integers(-1, 100), st.integers(0, 200))
def test_nothing_before_an_instant_is_ever_passed_by(
    chunks: list[list[int]], begun: int, since: int, cursor: int
) -> None:
    """The writer began behind `begun` entries that it knows nothing of."""
    oldest, log = FreshnessIndex(), [0] * begun
    for ages in chunks:
        oldest.note(ONE, len(log), len(log) + len(ages), Instant(min(ages)))
        oldest.note(OTHER, 0, 10_000, Instant(10**6))
        log += ages
    until = oldest.fresh_until(ONE, cursor, Instant(since))
    assert until >= cursor
    assert until == cursor or (begun <= cursor and until <= len(log))
    assert all(age >= since for age in log[cursor:until])


@given(CHUNKS, st.data())
def test_what_is_fresh_and_known_is_passed_by(chunks: list[list[int]], data: st.DataObject) -> None:
    oldest, log, cursor = FreshnessIndex(), 0, 0
    for ages in chunks:
        oldest.note(ONE, log, log + len(ages), Instant(min(ages)))
        log += len(ages)
        if data.draw(st.booleans()):
            cursor = oldest.fresh_until(ONE, cursor, Instant(0))
            assert cursor == log


def test_a_late_reading_stops_whoever_passes_until_it_has_been_read() -> None:
    oldest = FreshnessIndex()
    for n, age in enumerate((50, 20, 50)):
        oldest.note(ONE, n * SHORT, (n + 1) * SHORT, Instant(age))
    assert oldest.fresh_until(ONE, 0, Instant(20)) == 3 * SHORT
    oldest = FreshnessIndex()
    for n, age in enumerate((50, 20, 50)):
        oldest.note(ONE, n * SHORT, (n + 1) * SHORT, Instant(age))
    assert oldest.fresh_until(ONE, 0, Instant(21)) == SHORT
    assert oldest.fresh_until(ONE, SHORT + 9, Instant(21)) == SHORT + 9
    assert oldest.fresh_until(ONE, 2 * SHORT, Instant(21)) == 3 * SHORT


def test_what_comes_after_a_look_is_told_by_itself() -> None:
    oldest = FreshnessIndex()
    oldest.note(ONE, 0, 3, Instant(20))
    assert oldest.fresh_until(ONE, 0, Instant(50)) == 0
    oldest.note(ONE, 3, 4, Instant(50))
    oldest.note(ONE, 4, 5, Instant(50))
    assert oldest.fresh_until(ONE, 3, Instant(50)) == 5


def test_nothing_is_known_across_a_hole_or_of_another_shard() -> None:
    oldest = FreshnessIndex()
    oldest.note(ONE, 0, 10, Instant(50))
    oldest.note(ONE, 12, 20, Instant(50))
    assert oldest.fresh_until(ONE, 0, Instant(1)) == 0
    assert oldest.fresh_until(OTHER, 0, Instant(1)) == 0
    assert oldest.fresh_until(ONE, 12, Instant(1)) == 20


def test_it_takes_no_more_memory_while_nobody_asks_and_forgets_what_was_passed() -> None:
    oldest = FreshnessIndex()
    for n in range(10 * PARTS):
        oldest.note(ONE, n * SHORT, (n + 1) * SHORT, Instant(5 if n == 9 * PARTS else 50))
    assert len(oldest._parts[ONE]) == PARTS
    assert oldest.fresh_until(ONE, 0, Instant(50)) == (PARTS - 1) * SHORT
    assert oldest.fresh_until(ONE, 0, Instant(5)) == 10 * PARTS * SHORT
    assert oldest.fresh_until(ONE, 10 * PARTS * SHORT, Instant(50)) == 10 * PARTS * SHORT
    assert not oldest._parts[ONE]
