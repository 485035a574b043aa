"""How a process ends: SIGTERM or SIGINT asks, and everything that runs looks at one event."""

import os
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


def end_within(seconds: float) -> None:
    """End this process hard so long after a signal asked it to stop: for a service that no kill can hurt.

    Nothing that hangs in it can delay that, the main thread neither: the interpreter tells of a signal by a pipe.
    """
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told)

    def watch() -> None:
        os.read(heard, 1)
        threading.Event().wait(seconds)
        os._exit(1)

    threading.Thread(target=watch, name="end", daemon=True).start()
