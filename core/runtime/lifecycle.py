"""Process shutdown: SIGTERM and SIGINT set one event, and everything that runs watches it."""

import os
import signal
import threading
from types import FrameType


def stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set. A second signal ends the process at once."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(1)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    return stop


def end_within(seconds: float) -> None:
    """Kill this process `seconds` after the first signal, unless it has ended by then; for a service that is kill-safe.

    A blocked main thread can't delay this, since the interpreter reports a signal through a pipe.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)

    def watch() -> None:
        os.read(read_end, 1)
        threading.Event().wait(seconds)
        os._exit(1)

    threading.Thread(target=watch, name="end", daemon=True).start()
