"""Clocks of gateways that run behind: found after three live messages, and never by what was long on its way."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.receiving.clocks_running_behind import CONVINCED, JudgedClock, judge, lag_of
from core.runtime.instant import HOUR, MINUTE, SECOND, Instant
from core.wire.messages import Batch, ClockReport, Reading

NOW = Instant(1_774_632_960_000)
BEHIND = 3 * HOUR


def sent_at(sent: int, boot: str = "7f3a9c21") -> Batch:
    return Batch(1, "10001", "9f3c02d1a47be865", boot, 7, sent, ClockReport("rtc"), [Reading("a", sent, 4.0)])


def after(clock: JudgedClock | None, *messages: tuple[int, int], boot: str = "7f3a9c21") -> JudgedClock | None:
    """Let live messages come, as (sent, received) in ms from NOW."""
    for sent, received in messages:
        clock = judge(clock, sent_at(NOW + sent, boot), Instant(NOW + received))
    return clock


def found(clock: JudgedClock | None) -> int:
    return clock.behind if clock else 0


@pytest.mark.parametrize("every", [5 * SECOND, 10 * SECOND, MINUTE, 15 * MINUTE])
@pytest.mark.parametrize("behind", [2 * MINUTE + 1, BEHIND, 400 * 24 * HOUR])
def test_three_live_messages_in_a_row_are_enough_and_two_are_not(every: int, behind: int) -> None:
    clock = None
    for n in range(CONVINCED):
        assert found(clock) == 0
        clock = after(clock, (n * every - behind, n * every))
    assert found(clock) == behind
    assert clock is not None
    assert clock.since == NOW + 2 * every
    late = sent_at(NOW + 9 * every - behind)
    assert lag_of(clock, late, Instant(NOW + 9 * every + 300)) == behind, "the same shift for all, whatever the network"
    assert lag_of(clock, sent_at(NOW + 9 * every), Instant(NOW + 9 * every)) == 0
    assert lag_of(clock, sent_at(NOW - behind, boot="00000000"), NOW) == 0


def test_one_on_time_between_ends_the_suspicion_and_the_finding() -> None:
    late = [(n * MINUTE - BEHIND, n * MINUTE) for n in range(5)]
    assert found(after(None, late[0], late[1], (2 * MINUTE, 2 * MINUTE), late[3], late[4])) == 0
    clock = after(None, *late)
    assert found(clock) == BEHIND
    assert found(after(clock, (5 * MINUTE, 5 * MINUTE))) == 0
    assert found(after(clock, (5 * MINUTE - BEHIND, 5 * MINUTE))) == BEHIND


def test_what_waited_in_a_broker_is_no_clock_that_runs_behind() -> None:
    """A collector that was away for an hour is given all of it at once, or as fast as it can be."""
    for faster in (1000, 60, 5, 2):
        backlog = [(n * MINUTE, HOUR + n * MINUTE // faster) for n in range(50)]
        assert found(after(None, *backlog)) == 0


def test_the_same_message_again_counts_once() -> None:
    again = [(-BEHIND, n * 30 * SECOND) for n in range(9)]
    assert found(after(None, *again)) == 0
    overtaken = [(-BEHIND, 0), (-BEHIND - MINUTE, 1), (-BEHIND - 2 * MINUTE, 2)]
    assert found(after(None, *overtaken)) == 0


def test_a_clock_that_jumps_again_is_found_again_and_meanwhile_not_moved_wrongly() -> None:
    clock = after(None, *((n * MINUTE - BEHIND, n * MINUTE) for n in range(3)))
    jumped = [(n * MINUTE - 5 * HOUR, n * MINUTE) for n in range(3, 6)]
    for sent, received in jumped[:-1]:
        clock = after(clock, (sent, received))
        assert found(clock) == BEHIND
        assert lag_of(clock, sent_at(NOW + sent), Instant(NOW + received)) == 0
    assert found(after(clock, jumped[-1])) == 5 * HOUR


def test_another_boot_begins_anew() -> None:
    clock = after(None, *((n * MINUTE - BEHIND, n * MINUTE) for n in range(3)))
    clock = after(clock, (3 * MINUTE - BEHIND, 3 * MINUTE), boot="00000000")
    assert found(clock) == 0
    assert found(after(clock, *((n * MINUTE - BEHIND, n * MINUTE) for n in (4, 5)), boot="00000000")) == BEHIND


@given(st.lists(st.tuples(st.integers(-(2**52), 2**52), st.integers(0, 10**9)), max_size=9))
def test_a_clock_is_behind_by_what_a_message_was_or_not_at_all(messages: list[tuple[int, int]]) -> None:
    clock = None
    for sent, received in messages:
        clock = judge(clock, sent_at(max(0, NOW + sent)), Instant(NOW + received))
        assert clock.behind == 0 or clock.behind > 2 * MINUTE
        assert len(clock.suspects) < CONVINCED
        assert lag_of(clock, sent_at(max(0, NOW + sent)), Instant(NOW + received)) in (0, clock.behind)
        msgspec.json.encode(clock)
