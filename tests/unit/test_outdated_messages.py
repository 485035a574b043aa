"""Every message of an alarm, at every moment that its turn may come."""

import pytest

from alerting.delivering.outdated_messages import AlarmStanding, Relevance, SiblingMessage, relevance
from core.runtime.instant import Instant

NOW = Instant(1_000_000)
SEND, WAIT, SUPERSEDE = Relevance.SEND, Relevance.WAIT, Relevance.SUPERSEDE
OPEN, RECOVERED, CLOSED = AlarmStanding("open", 1), AlarmStanding("recovered", 1), AlarmStanding("closed", 1)
REOPENED = AlarmStanding("open", 2)


def row(
    kind: str = "alarm",
    tier: int = 1,
    state: str = "queued",
    attempts: int = 0,
    lease_until: int | None = None,
    channel: str = "wechat",
    repeat: int = 0,
) -> SiblingMessage:
    until = None if lease_until is None else Instant(lease_until)
    return SiblingMessage(f"7:1:{tier}:{repeat}:3:{channel}:{kind}", kind, tier, state, attempts, until)


@pytest.mark.parametrize("tier", [1, 2, 3])
def test_an_alarm_is_told_while_it_is_open(tier: int) -> None:
    assert relevance(row(tier=tier), 1, OPEN, [], NOW) is SEND


@pytest.mark.req("AL-09")
@pytest.mark.parametrize("alarm", [RECOVERED, CLOSED, REOPENED])
def test_nobody_above_level_1_is_woken_for_what_is_over(alarm: AlarmStanding) -> None:
    assert relevance(row(tier=2), 1, alarm, [], NOW) is SUPERSEDE


def test_level_1_hears_of_the_end_in_place_of_the_beginning() -> None:
    recovery = row("recovery")
    assert relevance(row(), 1, RECOVERED, [recovery], NOW) is SUPERSEDE
    assert relevance(recovery, 1, RECOVERED, [row()], NOW) is SEND


def test_level_1_is_told_of_what_is_over_when_nothing_else_tells_them() -> None:
    assert relevance(row(), 1, RECOVERED, [], NOW) is SEND
    assert relevance(row(), 1, CLOSED, [], NOW) is SUPERSEDE


def test_the_end_is_told_to_whom_the_beginning_was() -> None:
    assert relevance(row("recovery", 2), 1, RECOVERED, [row(tier=2, state="sent", attempts=1)], NOW) is SEND
    assert relevance(row("recovery", 2), 1, RECOVERED, [row(tier=2, state="superseded")], NOW) is SUPERSEDE
    assert relevance(row("recovery", 2), 1, RECOVERED, [row(tier=2, state="failed", attempts=1)], NOW) is SUPERSEDE


@pytest.mark.parametrize("state", ["queued", "superseded"])
def test_a_try_whose_end_was_lost_in_a_crash_counts_as_told(state: str) -> None:
    assert relevance(row("recovery", 2), 1, RECOVERED, [row(tier=2, state=state, attempts=1)], NOW) is SEND


def test_the_end_never_overtakes_the_beginning() -> None:
    on_its_way = row(attempts=1, lease_until=NOW + 1)
    assert relevance(row("recovery"), 1, RECOVERED, [on_its_way], NOW) is WAIT
    assert relevance(row("recovery"), 1, RECOVERED, [row(attempts=1, lease_until=NOW)], NOW) is SEND


def test_the_end_is_not_told_when_it_began_again() -> None:
    assert relevance(row("recovery"), 1, REOPENED, [row(state="sent")], NOW) is SUPERSEDE


@pytest.mark.parametrize("kind", ["alarm", "recovery"])
def test_what_another_channel_delivered_is_not_said_twice(kind: str) -> None:
    elsewhere = row(kind, state="sent", channel="sms")
    assert relevance(row(kind), 1, OPEN, [elsewhere], NOW) is SUPERSEDE


def test_a_repeat_gives_way_to_a_later_one_but_the_first_word_does_not() -> None:
    first, second, third = (row(tier=3, repeat=repeat) for repeat in (0, 1, 2))
    assert relevance(second, 1, OPEN, [first, third], NOW) is SUPERSEDE
    assert relevance(third, 1, OPEN, [first, second], NOW) is SEND
    assert relevance(first, 1, OPEN, [second, third], NOW) is SEND
