from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.runtime.instant import DAY, MINUTE, Instant
from core.wire.messages import Ack, Reading
from core.wire.topics import MessageKind
from gateway_agent.send_order import SendOrder, SendPace
from gateway_agent.spool import Spool

T0 = Instant(1_774_632_960_000)


@pytest.fixture
def spool() -> Iterator[Spool]:
    spool = Spool(None, limit_bytes=2**20, limit_age=DAY)
    yield spool
    spool.close()


def spooled(spool: Spool, *minutes: int) -> None:
    """One batch at each minute after T0."""
    for minute in minutes:
        at = Instant(T0 + minute * MINUTE)
        spool.append([Reading(p="1", ts=at, t=4.0)], boot="7f3a9c21", at=at)


def sending(spool: Spool, now: int, *, in_flight: int = 8, resend_after: float = 30, rate: float = 1e9) -> SendOrder:
    made = SendOrder(spool, SendPace(in_flight, resend_after, rate))
    made.restart(Instant(T0 + now * MINUTE))
    return made


def sent(made: SendOrder, now: int, real: float) -> list[tuple[int, MessageKind]]:
    return [(row.seq, kind) for row, kind in made.next(Instant(T0 + now * MINUTE), real)]


def test_live_goes_first_then_the_backlog_oldest_first(spool: Spool) -> None:
    spooled(spool, 0, 1, 2, 58, 59, 60)
    made = sending(spool, 60)
    assert sent(made, 60, 1) == [
        (4, MessageKind.DATA),
        (5, MessageKind.DATA),
        (6, MessageKind.DATA),
        (1, MessageKind.BACKFILL),
        (2, MessageKind.BACKFILL),
        (3, MessageKind.BACKFILL),
    ]
    assert sent(made, 60, 2) == [], "once"


def test_a_short_outage_is_sent_in_order(spool: Spool) -> None:
    spooled(spool, 0, 1, 2)
    assert sent(sending(spool, 2), 2, 1) == [(1, MessageKind.DATA), (2, MessageKind.DATA), (3, MessageKind.DATA)]


def test_a_backlog_that_nobody_acknowledges_leaves_room_for_a_fresh_reading(spool: Spool) -> None:
    spooled(spool, *range(20))
    made = sending(spool, 100)
    assert [seq for seq, _ in sent(made, 100, 1)] == [1, 2, 3, 4, 5, 6]
    spooled(spool, 100)
    made.added()
    assert sent(made, 100, 2) == [(21, MessageKind.DATA)]


def test_no_more_than_in_flight_are_unacknowledged(spool: Spool) -> None:
    spooled(spool, *([0] * 20))
    made = sending(spool, 0)
    assert len(sent(made, 0, 1)) == 8
    assert sent(made, 0, 2) == []
    made.acknowledged(Ack(spool.ep, 0, [(2, 3)]))
    spool.acknowledge(Ack(spool.ep, 0, [(2, 3)]))
    assert len(sent(made, 0, 3)) == 2


def test_the_unacknowledged_are_sent_again_after_a_while_and_only_these(spool: Spool) -> None:
    spooled(spool, 0, 0, 0)
    made = sending(spool, 0)
    sent(made, 0, 100)
    made.acknowledged(Ack(spool.ep, 1))
    spool.acknowledge(Ack(spool.ep, 1))
    assert made.wait(110) == pytest.approx(20)
    assert sent(made, 0, 129.9) == []
    assert sent(made, 0, 130) == [(2, MessageKind.DATA), (3, MessageKind.DATA)]
    assert sent(made, 0, 140) == []
    assert sent(made, 3, 160) == [(2, MessageKind.BACKFILL), (3, MessageKind.BACKFILL)], "older by now"


def test_the_backlog_keeps_its_pace(spool: Spool) -> None:
    spooled(spool, *range(100))
    made = sending(spool, 1000, in_flight=1000, rate=10)
    passed = []
    for tenth in range(31):
        passed += sent(made, 1000, 50 + tenth / 10)
    assert 29 <= len(passed) <= 32
    wait = made.wait(53)
    assert wait is not None
    assert 0 < wait <= 0.1


def test_a_new_connection_starts_over(spool: Spool) -> None:
    spooled(spool, 0, 1)
    made = sending(spool, 1)
    assert len(sent(made, 1, 1)) == 2
    made.restart(Instant(T0 + MINUTE))
    assert len(sent(made, 1, 1.1)) == 2


def test_live_ones_that_waited_too_long_become_backlog(spool: Spool) -> None:
    spooled(spool, *([0] * 8))
    made = sending(spool, 0)
    assert len(sent(made, 0, 1)) == 8
    spooled(spool, *range(1, 60))  # an hour without a collector
    made.added()
    assert sent(made, 59, 2) == []
    made.acknowledged(Ack(spool.ep, 8))
    spool.acknowledge(Ack(spool.ep, 8))
    order = sent(made, 59, 3)
    assert order[:3] == [(65, MessageKind.DATA), (66, MessageKind.DATA), (67, MessageKind.DATA)]
    assert order[3] == (9, MessageKind.BACKFILL)


def test_what_an_overflow_dropped_is_not_sent_again() -> None:
    spool = Spool(None, limit_bytes=350, limit_age=DAY)
    spooled(spool, 0, 0)
    made = sending(spool, 0, resend_after=1)
    assert len(sent(made, 0, 1)) == 2
    spooled(spool, 0, 0, 0, 0)
    made.added()
    assert spool.lost == [(1, 3)]
    assert [seq for seq, _ in sent(made, 0, 10)] == [4, 5, 6]
    assert made.wait(10) == pytest.approx(1)
    spool.close()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_everything_is_sent_in_the_end_and_nothing_too_often(data: st.DataObject) -> None:
    spool = Spool(None, limit_bytes=2**20, limit_age=DAY)
    in_flight = data.draw(st.integers(1, 6), "in flight")
    made = sending(spool, 0, in_flight=in_flight, resend_after=5, rate=data.draw(st.sampled_from([1.0, 50.0]), "rate"))
    now, real = 0, 1.0
    flying: set[int] = set()
    for _ in range(data.draw(st.integers(0, 25), "steps")):
        match data.draw(st.sampled_from(["spool", "ack", "later", "reconnect"])):
            case "spool":
                spooled(spool, now)
                made.added()
            case "ack" if flying:
                seq = data.draw(st.sampled_from(sorted(flying)), "acked")
                spool.acknowledge(Ack(spool.ep, 0, [(seq, seq)]))
                made.acknowledged(Ack(spool.ep, 0, [(seq, seq)]))
                flying.discard(seq)
            case "later":
                now += data.draw(st.integers(0, 5), "minutes")
                real += data.draw(st.floats(0, 6), "seconds")
            case "reconnect":
                made.restart(Instant(T0 + now * MINUTE))
                flying.clear()
        flying |= {seq for seq, _ in sent(made, now, real)}
        assert len(flying) <= in_flight
    for _ in range(200):
        if not spool.depth:
            break
        real += (made.wait(real) or 0.0) + 1e-6
        for seq, _ in sent(made, now, real):
            spool.acknowledge(Ack(spool.ep, 0, [(seq, seq)]))
            made.acknowledged(Ack(spool.ep, 0, [(seq, seq)]))
    assert spool.depth == 0, "all that was spooled was sent"
    assert sent(made, now, real + (made.wait(real) or 0.0) + 1e-6) == []
    assert made.wait(real) is None, "nothing to wake up for"
    spool.close()
