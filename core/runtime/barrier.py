"""Barrier for a stepped clock: tells its keeper that every process has done all that was due.

The keeper asks the processes in the order in which a reading passes them (agent, collector, writer, alerting), each one
after the one before has answered. A process answers once it is idle after the question. So when the last one has
answered, all that was due by the step has been done.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from core.runtime.clock import STEP_POLL_S, Clock, VirtualClock


class Barrier:
    """Questions and answers, each in a small file in the folder of the clock's file."""

    def __init__(self, clock_file: Path) -> None:
        self._folder = clock_file.parent
        self._stamps: dict[str, tuple[int, int]] = {}
        self._questions: dict[str, str] = {}

    def wait(self, processes: Sequence[str], step: int, *, within_s: float = 300.0) -> None:
        """Ask the processes in this order, and wait for each answer.

        Raises: TimeoutError, which names the process that did not answer.
        """
        deadline = time.monotonic() + within_s
        for process in processes:
            question = f"{step} {time.monotonic_ns()}"
            self._write(f"{process}.asked", question)
            while self._read(f"{process}.idle") != question:
                if time.monotonic() > deadline:
                    msg = f"{process} was not idle within {within_s} s of step {step}"
                    raise TimeoutError(msg)
                time.sleep(STEP_POLL_S)

    def question(self, process: str) -> str:
        """Return the last question to a process, empty if there was none. The file is read only if it has changed."""
        try:
            stat = (self._folder / f"{process}.asked").stat()
        except FileNotFoundError:
            return ""
        stamp = (stat.st_ino, stat.st_mtime_ns)
        if self._stamps.get(process) != stamp:
            self._questions[process] = self._read(f"{process}.asked")
            self._stamps[process] = stamp
        return self._questions[process]

    def answer(self, process: str, question: str) -> None:
        """Record that a process was idle after `question`."""
        self._write(f"{process}.idle", question)

    def _read(self, name: str) -> str:
        try:
            return (self._folder / name).read_text()
        except FileNotFoundError:
            return ""

    def _write(self, name: str, text: str) -> None:
        temporary = self._folder / f"{name}.{os.getpid()}.tmp"
        temporary.write_text(text)
        temporary.replace(self._folder / name)


def report_idle(clock: Clock, process: str, is_idle: Callable[[], bool], stop: threading.Event) -> None:
    """Answer every question once the process is idle, until `stop`; return at once if the clock isn't virtual.

    `is_idle` returns whether all that is due at `clock.now()` has been done. Run this in a daemon thread.
    """
    if not isinstance(clock, VirtualClock):
        return
    barrier = Barrier(clock.path)
    answered = ""
    while not stop.wait(STEP_POLL_S):
        question = barrier.question(process)
        if question != answered and is_idle():
            barrier.answer(process, question)
            answered = question
