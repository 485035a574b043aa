"""Parallel checks with a time limit, for parts that may hang.

Each part is asked in a thread of its own. A question that is still unanswered isn't asked again: later callers wait for
the same answer, so a check every second costs one thread per part, however long an outage lasts
(tests/unit/test_concurrent_checks.py).
"""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

import msgspec

from core.runtime.clock import monotonic
from core.runtime.logs import logger

log = logger(__name__)

T = TypeVar("T")


class CheckResult(msgspec.Struct, Generic[T], frozen=True):
    """Result of one check."""

    value: T | None
    error: Exception | None
    answered: bool
    """False when there was no answer in time."""


class _Question(Generic[T]):
    """A question to one part, running in its own thread."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._done = threading.Event()
        self._result: CheckResult[T] = CheckResult(None, None, answered=False)
        threading.Thread(target=self._run, name=f"check-{name}", daemon=True).start()

    @property
    def is_done(self) -> bool:
        """Return whether the answer has arrived."""
        return self._done.is_set()

    def wait(self, seconds: float) -> CheckResult[T]:
        """Wait for up to `seconds`, then return the answer; without one, `answered` is False."""
        self._done.wait(seconds)
        return self._result

    def _run(self) -> None:
        try:
            self._result = CheckResult(self._ask(), None, answered=True)
        except Exception as error:  # noqa: BLE001 (the exception of a driver is the answer)
            self._result = CheckResult(None, error, answered=True)
        self._done.set()


class ConcurrentChecks(Generic[T]):
    """Parallel checks by name. Thread-safe."""

    def __init__(self, asks: Mapping[str, Callable[[], T]]) -> None:
        self._asks = asks
        self._lock = threading.Lock()
        self._under_way: dict[str, _Question[T]] = {}

    def run(self, within_s: float, names: Collection[str] | None = None) -> dict[str, CheckResult[T]]:
        """Ask all parts, or the named ones, in parallel; return after `within_s` seconds at the latest."""
        deadline = monotonic() + within_s
        questions = {}
        with self._lock:
            for name in self._asks if names is None else names:
                question = self._under_way.get(name)
                if question is None or question.is_done:
                    question = self._under_way[name] = _Question(name, self._asks[name])
                questions[name] = question
        return {name: each.wait(max(0.0, deadline - monotonic())) for name, each in questions.items()}
