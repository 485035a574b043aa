"""Time stamping: when a reading was taken, what its value is, and what is not believed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.receiving import time_stamping as stamping
from collector.receiving.acks import MOST_RANGES, ack_of
from collector.receiving.message_decoder import DecodedMessage
from collector.receiving.time_stamping import lost_ranges
from core.intake.port import IntakeBatch as Kept
from core.runtime.instant import Instant, Milliseconds
from core.wire.messages import LARGEST_MESSAGE, MOST_LOST, Ack, Batch, ClockReport, Reading, frozen_hash
from core.wire.shards import GatewayNumber
from core.wire.topics import MessageKind, Topic

GW = GatewayNumber("10001")
DATA, BACKFILL = Topic(GW, MessageKind.DATA), Topic(GW, MessageKind.BACKFILL)
NOW = Instant(1_774_632_960_000)
SYNCED = ClockReport("ntp", 0, 1)


def batch(*readings: Reading, sent: int = NOW, clk: ClockReport = SYNCED, **changes: Any) -> Batch:
    whole = Batch(1, GW, "9f3c02d1a47be865", "7f3a9c21", 7, sent, clk, list(readings))
    return msgspec.structs.replace(whole, **changes)


def stamp(topic: Topic, sent: Batch, received: int, behind: int = 0) -> Kept:
    return stamping.stamp(DecodedMessage(topic, sent, frozen_hash(sent)), sent, Instant(received), Milliseconds(behind))


def one(reading: Reading, topic: Topic = DATA, received: int = NOW, **changes: Any) -> tuple[Any, ...]:
    stamped = stamp(topic, batch(reading, **changes), Instant(received))
    if stamped.held:
        (held,) = stamped.held
        return held.reason, held.detail
    (taken,) = stamped.readings
    return taken.quantity, taken.at - NOW, taken.value, taken.q


EDGES = st.sampled_from([-2, -1, 0, 1, 2])


@given(
    ts=st.sampled_from([0, 1_262_304_000_000, NOW, NOW + 120_000, NOW + 180_000, NOW + 300_000]),
    near=EDGES,
    t=st.none() | st.sampled_from([-273.15, -273.2, 327.67, 327.7, -0.005, 4.21, float("nan")]) | st.floats(),
    q=st.integers(0, 255) | st.integers(0, 65_535),
    extra=st.sampled_from([{}, {"p": "a\n"}, {"k": "h"}, {"v": 1.0}, {"k": "door", "v": 1.0}]),
    sent=st.sampled_from([NOW, NOW + 60_000, NOW + 180_000]),
    topic=st.sampled_from([DATA, BACKFILL]),
)
def test_the_short_way_of_usual_readings_says_what_the_long_one_does(
    ts: int, near: int, t: float | None, q: int, extra: dict[str, Any], sent: int, topic: Topic
) -> None:
    reading = msgspec.structs.replace(Reading("208601", max(0, ts + near), t, q), **extra)
    said = batch(reading, sent=sent)
    with pytest.MonkeyPatch.context() as patched:
        quick = stamp(topic, said, NOW)
        patched.setattr("collector.receiving.time_stamping._COLDEST", 1e9)  # no reading is usual
        assert repr(stamp(topic, said, NOW)) == repr(quick)  # a NaN equals nothing


def test_values_become_hundredths_and_counts() -> None:
    assert one(Reading("208601", NOW - 5, 4.21)) == ("t", -5, 421, 0)
    assert one(Reading("208601", NOW, -18.235)) == ("t", 0, -1824, 0)
    assert one(Reading("208601", NOW, k="h", v=55.1)) == ("h", 0, 5510, 0)
    assert one(Reading("208601", NOW, k="batt", v=87)) == ("batt", 0, 87, 0)
    assert one(Reading("208601", NOW, k="door", v=1)) == ("door", 0, 1, 0)


def test_a_failed_reading_keeps_its_cause_and_has_no_value() -> None:
    assert one(Reading("208604", NOW, None, 4)) == ("t", 0, None, 4)
    assert one(Reading("208604", NOW, None, 1, k="h")) == ("h", 0, None, 1)


def test_where_a_reading_came_from_is_known_by_the_topic_alone() -> None:
    for claimed in (0, 64, 256, 512, 1024, 64 | 256 | 512 | 1024):
        assert one(Reading("208601", NOW, 4.0, claimed), BACKFILL)[3] == 64
        assert one(Reading("208601", NOW, 4.0, claimed | 128))[3] == 128
    assert stamp(BACKFILL, batch(Reading("a", NOW, 4.0)), NOW).origin == "backfill"


@pytest.mark.parametrize(
    ("reading", "fault"),
    [
        (Reading("a", NOW, 327.68), "t 327.68 is not within"),
        (Reading("a", NOW, -300.0), "t -300.0 is not within"),
        (Reading("a", NOW, 1e308), "is not within"),
        (Reading("a", NOW, None, 0), "t is null, and q 0 names no cause"),
        (Reading("a", NOW, None, 16), "names no cause"),
        (Reading("a", NOW, 4.0, 2), "says that it failed"),
        (Reading("a", NOW, 4.0, k="h"), "t does not go with k h"),
        (Reading("a", NOW, 4.0, v=1.0), "v does not go with k missing"),
        (Reading("a", NOW, k="h", v=101.0), "v 101.0 is not within"),
        (Reading("a", NOW, k="mains", v=0.5), "neither 0 nor 1"),
        (Reading("a\x00b", NOW, 4.0), "can't be printed"),
        (Reading("a", NOW, 4.0, 2048), "q 2048 has bits that this version doesn't know; the highest is 1024"),
    ],
)
def test_what_contradicts_itself_is_withheld_and_says_why(reading: Reading, fault: str) -> None:
    reason, detail = one(reading)
    assert reason == "implausible"
    assert detail.startswith("r[0]: ")
    assert fault in detail


def test_one_bad_reading_does_not_take_the_others_with_it() -> None:
    stamped = stamp(DATA, batch(Reading("a", NOW, 4.0), Reading("b", NOW, 999.0), Reading("c", NOW, 5.0)), NOW)
    assert [reading.p for reading in stamped.readings] == ["a", "c"]
    assert [(held.reading.p, held.detail[:4]) for held in stamped.held] == [("b", "r[1]")]


def test_a_batch_from_the_future_is_moved_as_a_whole() -> None:
    ahead = 3_600_000
    readings = [Reading("a", NOW + ahead - 60_000, 4.0), Reading("a", NOW + ahead - 1, 4.0)]
    stamped = stamp(DATA, batch(*readings, sent=NOW + ahead), NOW)
    assert stamped.shifted == ahead
    assert [reading.at - NOW for reading in stamped.readings] == [-60_000, -1]
    assert [reading.ts for reading in stamped.readings] == [reading.ts for reading in readings]


def test_two_minutes_ahead_are_let_pass() -> None:
    assert one(Reading("a", NOW + 119_000, 4.0), sent=NOW + 120_000)[1] == 119_000
    assert one(Reading("a", NOW + 119_000, 4.0), sent=NOW + 120_001)[1] == -1_001


def test_an_old_reading_in_a_batch_sent_now_keeps_its_time() -> None:
    assert one(Reading("a", NOW - 30 * 86_400_000, 4.0))[1] == -30 * 86_400_000


def test_an_unsynced_reading_waits_for_its_boots_offset() -> None:
    reading = Reading("a", 5_000, 4.0, 32)
    assert one(reading, clk=ClockReport("none", None, 1))[0] == "unset_clock"
    assert one(reading, clk=ClockReport("none", 12, 1))[0] == "unset_clock"
    assert one(reading, clk=ClockReport("rtc", None, 1))[0] == "unset_clock"
    assert one(reading, clk=ClockReport("ntp", NOW - 6_000, 1)) == ("t", -1_000, 400, 32)
    assert one(reading, clk=ClockReport("ntp", 12, 1))[0] == "implausible_time"


def test_a_time_that_cannot_be_is_withheld_for_a_reason_that_no_offset_resolves() -> None:
    reason, why = one(Reading("a", 5_000, 4.0))
    assert (reason, why) == ("implausible_time", "taken before 2010, by a clock that didn't say that it was not set")
    for ahead in (120_001, 150_000, 8 * 3_600_000):
        reason, why = one(Reading("a", NOW + ahead, 4.0))
        assert reason == "implausible_time"
        assert why.startswith(f"taken +{ahead / 1000:.0f} s from its receipt")


def test_a_reading_ahead_of_when_its_own_batch_was_truly_sent_is_withheld() -> None:
    """Whether the batch came at once, late, or from a clock that is ahead."""
    for sent in (NOW, NOW - 3_600_000, NOW + 3_600_000):
        assert one(Reading("a", sent + 119_000, 4.0), sent=sent)[0] == "t"
        assert one(Reading("a", sent + 121_000, 4.0), sent=sent)[0] == "implausible_time"


def test_of_a_clock_that_nobody_vouches_for_the_receipt_alone_counts() -> None:
    """After a loss of power the box sends, in 1970, what it read before."""
    for clk in (ClockReport("none"), ClockReport("rtc"), ClockReport("ntp", None)):
        assert one(Reading("a", NOW - 60_000, 4.0), sent=5_000, clk=clk) == ("t", -60_000, 400, 0)
        assert one(Reading("a", NOW + 121_000, 4.0), sent=5_000, clk=clk)[0] == "implausible_time"


def test_a_batch_of_a_clock_that_runs_behind_is_moved_as_a_whole() -> None:
    behind = 3 * 3_600_000
    sent = batch(Reading("a", NOW - behind - 60_000, 4.0), Reading("a", NOW - behind, 4.1), sent=NOW - behind)
    for topic in (DATA, BACKFILL):
        stamped = stamp(topic, sent, NOW, behind)
        assert stamped.shifted == -behind
        assert [reading.at - NOW for reading in stamped.readings] == [-60_000, 0]
    ahead = stamp(DATA, batch(Reading("a", NOW - behind + 121_000, 4.0), sent=NOW - behind), NOW, behind)
    assert [held.reason for held in ahead.held] == ["implausible_time"]


def test_only_numbers_below_its_own_can_be_declared_lost() -> None:
    lost = [(1, 3), (0, 2), (5, 4), (6, 6), (6, 7), (8, 2**53), (-5, 3)]
    believed, fault = lost_ranges(batch(Reading("a", NOW, 4.0), lost=lost))
    assert believed == [(1, 3), (6, 6)]
    assert fault == "lost: [0, 2] is no range of numbers below its own, 7"


def test_of_too_many_lost_ranges_the_first_are_taken() -> None:
    lost = [(seq, seq) for seq in range(1, 2 * MOST_LOST + 2, 2)]
    assert lost_ranges(batch(Reading("a", NOW, 4.0), seq=10_000, lost=lost[:-1])) == (lost[:-1], "")
    believed, fault = lost_ranges(batch(Reading("a", NOW, 4.0), seq=10_000, lost=lost))
    assert believed == lost[:-1]
    assert "101 ranges" in fault


FLOATS = st.one_of(st.none(), st.floats(allow_nan=False))


@given(
    st.lists(
        st.builds(
            Reading,
            p=st.text(min_size=1, max_size=64),
            ts=st.integers(0, 2**53),
            t=FLOATS,
            q=st.integers(0, 255) | st.integers(0, 65_535),
            k=st.sampled_from([None, "h", "door", "mains", "batt"]),
            v=FLOATS,
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 2**53),
    st.builds(ClockReport, st.sampled_from(["ntp", "rtc", "broker", "none"]), st.one_of(st.none(), st.integers())),
)
def test_every_reading_is_taken_or_withheld_and_what_is_taken_can_be_kept(
    readings: list[Reading], sent: int, clk: ClockReport
) -> None:
    stamped = stamp(DATA, batch(*readings, sent=sent, clk=clk), NOW)
    assert len(stamped.readings) + len(stamped.held) == len(readings)
    for reading in stamped.readings:
        assert 1_262_304_000_000 <= reading.at <= NOW + 120_000
        assert reading.value is None or abs(reading.value) < 2**15
    msgspec.msgpack.encode(stamped)


def test_an_ack_says_what_lies_below_and_what_above() -> None:
    assert ack_of("e", [(1, 5), (8, 9)], {8}) == Ack("e", 5, [(8, 9)])
    assert ack_of("e", [(3, 5)], {3}) == Ack("e", 0, [(3, 5)])
    assert ack_of("e", [], {3}) == Ack("e", 0, [])


def test_an_ack_of_a_spool_full_of_holes_stays_small_and_answers_what_was_asked() -> None:
    have = [(seq, seq) for seq in range(3, 100_003, 2)]
    ack = ack_of("e" * 16, have, {5, 7, 99_999})
    assert MOST_RANGES - 3 <= len(ack.have) <= MOST_RANGES
    assert {(5, 5), (7, 7), (99_999, 99_999)} <= set(ack.have)
    assert set(ack.have) <= set(have)
    assert ack.have == sorted(ack.have)
    assert len(msgspec.json.encode(ack)) < LARGEST_MESSAGE / 8
