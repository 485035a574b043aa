"""Counters and troubles of a process since its start, in memory, for its status file."""

import threading
from collections import Counter
from collections.abc import Sequence

from core.runtime.trouble import Trouble, TroubleKind, Troubles


class Counters:
    """Counters and present troubles; any thread may add."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        """`names` are the counters that are shown before anything was counted."""
        self._names = names
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._troubles = Troubles()
        self._last_error = ""

    def add(self, name: str, n: int = 1) -> None:
        """Add `n` to a counter."""
        with self._lock:
            self._counts[name] += n

    def problem(self, part: str, error: Exception | str, *, kind: TroubleKind | None = None) -> bool:
        """Set a part's trouble, empty when it works again; return whether that is a change."""
        self._last_error = str(error) or self._last_error
        return self._troubles.note(part, error, kind=kind)

    def troubles(self) -> list[Trouble]:
        """Return the present troubles, for the status file."""
        return self._troubles.now()

    def facts(self) -> dict[str, int | float | str | bool]:
        """Return all counters and troubles, for the status file."""
        with self._lock:
            problem = "; ".join(f"{trouble.part}: {trouble.detail}" for trouble in self.troubles())
            return {**dict.fromkeys(self._names, 0), **self._counts, "problem": problem, "last_error": self._last_error}


RECEIVING = (
    "received",
    "appended",
    "readings",
    "duplicates",
    "clones",
    "dead_letters",
    "lost",
    "withheld",
    "moved",
    "acks",
    "refused_full",
    "failed",
    "released",
    "dropped",
)
"""Messages received, batches appended with how many readings, known and cloned ones, unreadable messages, sequence
numbers declared lost, readings withheld at the append, batches moved for a wrong clock, acknowledgements sent, messages
refused because too many wait and because of an error here; readings released from quarantine once a clock was known,
and dropped from it."""
STORING = ("stored", "held", "released", "days")
"""Readings that the telemetry writer stored, held, and released from quarantine once the records fitted; days of a
series whose figures were computed."""
