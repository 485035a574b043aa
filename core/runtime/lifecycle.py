"""How a process ends: SIGTERM or SIGINT asks, and everything that runs looks at one event."""

import signal
import threading
from types import FrameType


def stop_on_signals() -> threading.Event:
    """Return the event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = threading.Event()

    def asked(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(1)
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
    return stop
