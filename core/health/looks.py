"""How several parts are looked at together, when any of them may hang.

Each is asked in a thread of its own. One that still hangs from the last time isn't asked again: whoever looks waits for
the same answer, so a probe every second costs one thread a part, however long an outage lasts.
"""

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

import msgspec

from core.runtime.clock import monotonic
from core.runtime.logs import logger

log = logger(__name__)

T = TypeVar("T")


class Look(msgspec.Struct, Generic[T], frozen=True):
    """What came of asking one part."""

    seen: T | None
    error: Exception | None
    answered: bool
    """False when there was no answer in time."""


class _Asked(Generic[T]):
    """A question that is on its way."""

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._ask = ask
        self._done = threading.Event()
        self._look: Look[T] = Look(None, None, answered=False)
        threading.Thread(target=self._run, name=f"look-{name}", daemon=True).start()

    @property
    def is_done(self) -> bool:
        """Whether the answer is there."""
        return self._done.is_set()

    def wait(self, seconds: float) -> Look[T]:
        """Return the answer, or that there is none yet."""
        self._done.wait(seconds)
        return self._look

    def _run(self) -> None:
        try:
            self._look = Look(self._ask(), None, answered=True)
        except Exception as error:  # noqa: BLE001 (whatever a driver raises is the answer)
            self._look = Look(None, error, answered=True)
        self._done.set()


class Looks(Generic[T]):
    """Asks parts by name; may be used from any thread."""

    def __init__(self, asks: Mapping[str, Callable[[], T]]) -> None:
        self._asks = asks
        self._lock = threading.Lock()
        self._under_way: dict[str, _Asked[T]] = {}

    def look(self, within_s: float, names: Collection[str] | None = None) -> dict[str, Look[T]]:
        """Ask all at once, or only those that are named, and return after `within_s` at the latest."""
        ends = monotonic() + within_s
        asked = {}
        with self._lock:
            for name in self._asks if names is None else names:
                known = self._under_way.get(name)
                if known is None or known.is_done:
                    known = self._under_way[name] = _Asked(name, self._asks[name])
                asked[name] = known
        return {name: one.wait(max(0.0, ends - monotonic())) for name, one in asked.items()}
