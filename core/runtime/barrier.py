"""How a keeper of a stepped clock knows that every process has done all that was due."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from core.runtime.clock import STEP_LOOK_S, Clock, VirtualClock


class Barrier:
    """What a process says about a step of the clock, and how a keeper waits for it.

    A process reports that it was idle, and when it had last looked. A keeper that waits for the processes in the order
    in which a reading passes them (agent, collector, alerting), each time for a look that began after the one before
    was idle, knows that everything due by the step has been done.
    """

    def __init__(self, clock_file: Path) -> None:
        """Reports live beside the clock's file."""
        self._folder = clock_file.parent

    def report(self, process: str, step: int, looked_at: int) -> None:
        """Say that `process` was idle in `step` at a look begun at `looked_at` (CLOCK_MONOTONIC ns)."""
        beside = self._folder / f"{process}.{os.getpid()}.step.tmp"
        beside.write_text(json.dumps([step, looked_at]))
        beside.replace(self._folder / f"{process}.step")

    def wait(self, processes: list[str], step: int, *, within_s: float = 30.0) -> None:
        """Wait until all processes, in this order, have reported `step` idle.

        Raises: TimeoutError naming the process that did not.
        """
        ends = time.monotonic() + within_s
        for process in processes:
            asked = time.monotonic_ns()
            while not self._reported(process, step, asked):
                if time.monotonic() > ends:
                    msg = f"{process} was not idle within {within_s} s of step {step}"
                    raise TimeoutError(msg)
                time.sleep(STEP_LOOK_S)

    def _reported(self, process: str, step: int, asked: int) -> bool:
        try:
            said_step, looked_at = json.loads((self._folder / f"{process}.step").read_text())
        except (FileNotFoundError, ValueError):
            return False
        return bool(said_step == step and looked_at >= asked)


def report_idle(clock: Clock, process: str, is_idle: Callable[[], bool], stop: threading.Event) -> None:
    """Report every look that finds `process` idle, until `stop`; returns at once when the clock isn't a virtual one.

    `is_idle` answers whether all that is due at `clock.now()` has been done. Run it in a daemon thread.
    """
    if not isinstance(clock, VirtualClock):
        return
    barrier = Barrier(clock.path)
    while not stop.wait(STEP_LOOK_S):
        looked_at = time.monotonic_ns()
        step = clock.face().step
        if step and is_idle():
            barrier.report(process, step, looked_at)
