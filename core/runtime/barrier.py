"""How a keeper of a stepped clock knows that every process has done all that was due.

The keeper asks the processes in the order in which a reading passes them (agent, collector, alerting), each once the
one before has answered. A process answers when it finds itself idle after it was asked. So when the last has answered,
all that was due by the step has been done. Unasked, a process only looks whether it is.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from core.runtime.clock import STEP_LOOK_S, Clock, VirtualClock


class Barrier:
    """Questions and answers: small files beside the clock's."""

    def __init__(self, clock_file: Path) -> None:
        self._folder = clock_file.parent
        self._seen: dict[str, tuple[int, int]] = {}
        self._question: dict[str, str] = {}

    def wait(self, processes: Sequence[str], step: int, *, within_s: float = 300.0) -> None:
        """Ask the processes, in this order, and wait for each answer.

        Raises: TimeoutError naming the process that did not answer.
        """
        ends = time.monotonic() + within_s
        for process in processes:
            question = f"{step} {time.monotonic_ns()}"
            self._put(f"{process}.asked", question)
            while self._read(f"{process}.idle") != question:
                if time.monotonic() > ends:
                    msg = f"{process} was not idle within {within_s} s of step {step}"
                    raise TimeoutError(msg)
                time.sleep(STEP_LOOK_S)

    def question(self, process: str) -> str:
        """Return what a process was asked last, empty when never. Cheap: the file is read again when it changed."""
        try:
            stat = (self._folder / f"{process}.asked").stat()
        except FileNotFoundError:
            return ""
        stamp = (stat.st_ino, stat.st_mtime_ns)
        if self._seen.get(process) != stamp:
            self._question[process] = self._read(f"{process}.asked")
            self._seen[process] = stamp
        return self._question[process]

    def answer(self, process: str, question: str) -> None:
        """Say that a process was idle after it was asked."""
        self._put(f"{process}.idle", question)

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return ""

    def _put(self, name: str, text: str) -> None:
        beside = self._folder / f"{name}.{os.getpid()}.tmp"
        beside.write_text(text)
        beside.replace(self._folder / name)


def report_idle(clock: Clock, process: str, is_idle: Callable[[], bool], stop: threading.Event) -> None:
    """Answer every question by `stop`, once idle; returns at once when the clock isn't a virtual one.

    `is_idle` answers whether all that is due at `clock.now()` has been done. Run it in a daemon thread.
    """
    if not isinstance(clock, VirtualClock):
        return
    barrier = Barrier(clock.path)
    answered = ""
    while not stop.wait(STEP_LOOK_S):
        question = barrier.question(process)
        if question != answered and is_idle():
            barrier.answer(process, question)
            answered = question
