import asyncio
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from core.runtime.clock import ClockKeeper, VirtualClock
from core.runtime.instant import MINUTE, Instant, Milliseconds
from gateway_agent.poll_schedule import PollSchedule, is_due, latest_due

T0 = Instant(1_774_632_960_000)
times = st.integers(0, 2**45).map(Instant)
spans = st.integers(1, 10**8).map(Milliseconds)


@given(now=times, interval=spans)
def test_a_cycle_begins_at_a_multiple_of_the_interval_and_holds_now(now: Instant, interval: Milliseconds) -> None:
    due = latest_due(now, interval)
    assert due % interval == 0
    assert due <= now < due + interval
    assert is_due(now, interval, None)
    assert not is_due(now, interval, due)
    assert is_due(Instant(due + interval), interval, due)


def test_a_small_step_back_waits_and_a_large_one_counts_anew() -> None:
    due = latest_due(T0, MINUTE)
    assert not is_due(Instant(due - 20), MINUTE, due)
    assert not is_due(Instant(due - MINUTE), MINUTE, due)
    assert is_due(Instant(due - MINUTE - 1), MINUTE, due)


def test_a_clock_that_jumps_polls_once_for_the_latest_cycle(tmp_path: Path) -> None:
    start = latest_due(T0, MINUTE)
    keeper = ClockKeeper(tmp_path / "clock.json", start=start, speed=0)
    cycles = PollSchedule(VirtualClock(tmp_path / "clock.json"))
    stop = threading.Event()

    async def story() -> None:
        polled = [await cycles.due(MINUTE, None)]
        looking = asyncio.create_task(cycles.run(stop))
        waiting = asyncio.create_task(cycles.due(MINUTE, polled[-1]))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        keeper.step_to(Instant(start + 7 * MINUTE + 30_000))
        polled.append(await asyncio.wait_for(waiting, 1))
        waiting = asyncio.create_task(cycles.due(MINUTE, polled[-1]))
        keeper.step_to(Instant(start + 8 * MINUTE - 1))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        keeper.step_to(Instant(start + 8 * MINUTE))
        polled.append(await asyncio.wait_for(waiting, 1))
        stop.set()
        await looking
        assert polled == [start, start + 7 * MINUTE, start + 8 * MINUTE]

    asyncio.run(story())
