"""What has the collector done since it started? Counted in memory, told by its status file."""

import threading
from collections import Counter


class Counts:
    """Counters and the problems of now; any thread may add."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._problems: dict[str, str] = {}
        self._last_error = ""

    def add(self, name: str, n: int = 1) -> None:
        """Count."""
        with self._lock:
            self._counts[name] += n

    def problem(self, part: str, text: str) -> bool:
        """Say what keeps a part from working, empty when nothing does any more; returns whether that is news."""
        with self._lock:
            news = self._problems.get(part, "") != text
            self._problems[part] = text
            self._last_error = text or self._last_error
        return news

    def facts(self) -> dict[str, int | float | str | bool]:
        """Return everything, for the status file."""
        with self._lock:
            problem = "; ".join(f"{part}: {text}" for part, text in self._problems.items() if text)
            return {**dict.fromkeys(COUNTED, 0), **self._counts, "problem": problem, "last_error": self._last_error}


COUNTED = (
    "received",
    "appended",
    "readings",
    "duplicates",
    "clones",
    "dead_letters",
    "lost",
    "withheld",
    "acks",
    "refused_full",
    "stored",
    "held",
    "released",
)
"""Messages received, batches appended with how many readings, known and cloned ones, unreadable messages, sequence
numbers declared lost, readings withheld at the append, acknowledgements sent, messages not taken because too many wait;
readings that the telemetry writer stored, held, and released from quarantine."""
