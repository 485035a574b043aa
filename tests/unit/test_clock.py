import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.runtime.barrier import Barrier, report_idle
from core.runtime.clock import LEAD_S, ClockFace, ClockKeeper, VirtualClock
from core.runtime.instant import Instant

START = Instant(1_774_632_960_000)


def test_a_clock_at_speed_60_passes_a_minute_in_a_second(tmp_path: Path) -> None:
    keeper = ClockKeeper(tmp_path / "clock.json", start=START, speed=60)
    before, real = keeper.now(), time.monotonic()
    threading.Event().wait(0.1)
    passed, took = keeper.now() - before, time.monotonic() - real
    assert passed == pytest.approx(took * 60_000, rel=0.2)


@given(
    virtual=st.integers(0, 2**45),
    speed=st.floats(0, 600),
    ahead=st.integers(0, 10**6),
    looks=st.lists(st.integers(0, 10**12), min_size=2),
)
def test_a_reader_never_goes_back_or_beyond_the_bound(virtual: int, speed: float, ahead: int, looks: list[int]) -> None:
    face = ClockFace(virtual, 1_000, speed, virtual + ahead, 0)
    seen = [face.at(look) for look in sorted(looks)]
    assert seen == sorted(seen)
    assert all(virtual <= when <= virtual + ahead for when in seen)


def test_after_a_kill_time_goes_on_from_the_bound_so_nothing_that_was_seen_is_ahead_of_it(tmp_path: Path) -> None:
    ClockKeeper(tmp_path / "clock.json", start=START, speed=60)  # killed: never closed, never saved again
    seen = VirtualClock(tmp_path / "clock.json").now()
    again = ClockKeeper(tmp_path / "clock.json", start=Instant(0), speed=60)
    assert again.now() >= seen
    assert again.now() - START <= LEAD_S * 60_000 + 60_000


def test_closed_it_is_frozen_and_the_next_keeper_goes_on_from_exactly_there(tmp_path: Path) -> None:
    keeper = ClockKeeper(tmp_path / "clock.json", start=START, speed=600)
    keeper.close()
    reader = VirtualClock(tmp_path / "clock.json")
    stopped = reader.now()
    assert reader.now() == stopped
    assert reader.pause(Instant(stopped + 1)) > 0
    again = ClockKeeper(tmp_path / "clock.json", start=Instant(0), speed=0)
    assert again.now() == stopped


def test_unkept_it_stands_at_the_bound() -> None:
    face = ClockFace(int(START), time.monotonic_ns() - 10**12, 60, int(START) + 120_000, 0)
    assert face.at(time.monotonic_ns()) == START + 120_000


def test_a_clock_that_stood_still_runs_from_where_it_stood(tmp_path: Path) -> None:
    keeper = ClockKeeper(tmp_path / "clock.json", start=START, speed=0)
    reader = VirtualClock(tmp_path / "clock.json")
    assert reader.now() == START
    keeper.run(60)
    assert START <= reader.now() <= START + LEAD_S * 60_000
    assert reader.face().speed == 60


def test_a_step_moves_readers_and_never_backwards(tmp_path: Path) -> None:
    keeper = ClockKeeper(tmp_path / "clock.json", start=START, speed=0)
    reader = VirtualClock(tmp_path / "clock.json")
    assert keeper.step_to(Instant(START + 5)) == 1
    assert reader.now() == START + 5
    with pytest.raises(ValueError, match="does not go back"):
        keeper.step_to(START)


def test_the_barrier_waits_for_a_look_that_began_after_it_asked(tmp_path: Path) -> None:
    keeper = ClockKeeper(tmp_path / "clock.json", start=START, speed=0)
    clock = VirtualClock(tmp_path / "clock.json")
    stop, busy = threading.Event(), threading.Event()
    thread = threading.Thread(target=report_idle, args=(clock, "collector", lambda: not busy.is_set(), stop))
    thread.start()
    try:
        barrier = Barrier(clock.path)
        barrier.wait(["collector"], keeper.step_to(Instant(START + 1)), within_s=5)
        busy.set()
        with pytest.raises(TimeoutError, match="collector was not idle"):
            barrier.wait(["collector"], keeper.step_to(Instant(START + 2)), within_s=0.1)
    finally:
        stop.set()
        thread.join()
