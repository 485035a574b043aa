"""One process a name and folder: the second waits until the first is gone, so two generations never work at once."""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.runtime import logs

log = logs.logger(__name__)


@contextmanager
def only_one(data_dir: str, process: str, stop: threading.Event) -> Iterator[bool]:
    """Hold the lock of `process` in a data folder; yields False when stopped while waiting for it.

    The lock dies with its process, so a killed one never blocks the next.
    """
    path = Path(data_dir) / "run" / f"{process}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        waited = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waited:
                    log.warning(
                        "another process of this name is running; waiting for it to end (several of a service need"
                        " a name each: collector.client_id, alerting.worker, api.name)",
                        lock=str(path),
                    )
                    waited = True
                if stop.wait(0.05):
                    yield False
                    return
        yield True
