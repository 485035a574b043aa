"""When late readings are those of a clock that is behind, and when they are only late."""

from core.alarms.rules import skew
from core.alarms.rules.sample import Sample
from core.alarms.rules.skew import DeviceClock
from core.ids import Centi
from core.runtime.instant import HOUR, MINUTE, Instant, Milliseconds, parse

NOON = parse("2026-03-28T12:00:00+08:00")
BACK = Milliseconds(8 * HOUR)


def late(minute: int, behind: Milliseconds = BACK) -> tuple[Sample, Instant]:
    """Return a reading and its receipt."""
    received = Instant(NOON + minute * MINUTE)
    return Sample(Instant(received - behind), Centi(1500), 0), received


def after(*readings: tuple[Sample, Instant], clock: DeviceClock | None = None) -> DeviceClock:
    clock = clock or skew.on_time(DeviceClock(), NOON)
    for one, received in readings:
        clock = skew.suspect(clock, one, received)
    return clock


def test_three_messages_in_a_row_convict_a_clock_and_are_placed_when_they_came() -> None:
    assert skew.convicted(after(late(1), late(2))) is None
    found = skew.convicted(after(late(1), late(2), late(3)))
    assert found is not None
    clock, placed = found
    assert (clock.shift, clock.suspects) == (BACK, ())
    assert [one.at for one in placed] == [NOON + minute * MINUTE for minute in (1, 2, 3)]


def test_readings_of_one_message_count_once() -> None:
    _, received = late(1)
    same = [(Sample(Instant(received - BACK - n * MINUTE), Centi(1500), 0), received) for n in range(9)]
    assert after(*same).suspects == (same[0][::-1],)


def test_a_reading_on_time_between_acquits() -> None:
    clock = skew.on_time(after(late(1), late(2)), Instant(NOON + 3 * MINUTE))
    assert skew.convicted(after(late(4), late(5), clock=clock)) is None


def test_what_was_received_before_the_live_state_or_is_hardly_behind_is_no_suspect() -> None:
    assert not after(late(-3), late(-2), late(-1), late(0)).suspects
    assert not after(*(late(minute, skew.BEHIND) for minute in (1, 2, 3))).suspects


def test_a_shift_explains_neither_a_further_jump_nor_one_back_half_the_way() -> None:
    clock = DeviceClock(NOON, (), BACK)
    one, received = late(1)
    believed = skew.moved(clock, one, received)
    assert believed is not None
    assert believed.at == received
    assert skew.moved(clock, *late(1, Milliseconds(2 * BACK))) is None
    assert skew.moved(clock, *late(1, Milliseconds(BACK // 2))) is None
    assert skew.moved(DeviceClock(NOON), one, received) is None
