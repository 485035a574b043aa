"""One process a name and folder: the second waits until the first is gone, so two generations never work at once."""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from config.load import WrongSetting
from core.runtime import logs

log = logs.logger(__name__)


@contextmanager
def only_one(data_dir: str, process: str, stop: threading.Event) -> Iterator[bool]:
    """Hold the lock of `process` in a data folder; yields False when stopped while waiting for it.

    The lock dies with its process, so a killed one never blocks the next.

    Raises: WrongSetting, when data_dir is where no file can be made.
    """
    path = Path(data_dir) / "run" / f"{process}.lock"
    with _opened(path) as file:
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


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w")
    except OSError as error:
        why = f"{path} can't be made ({error.strerror})"
        msg = f"{why}: data_dir must be on a disk that has room, and that this user can write"
        raise WrongSetting(msg) from None
