"""One process of a name in a data folder: a second one waits until the first is gone, or is refused.

A service waits, so that two generations of it never work at once; `up` and `demo` are refused, since whoever types them
would wait for ever.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from config.load import WrongSetting
from config.words import say
from core.runtime import logs

log = logs.logger(__name__)


class AlreadyRunning(Exception):
    """Another process of the name holds the lock. `pid` is its number, 0 where it hasn't written it."""

    def __init__(self, process: str, data_dir: str, pid: int) -> None:
        super().__init__(f"{process} runs on {data_dir} already: process {pid}")
        self.data_dir = data_dir
        self.pid = pid


@contextmanager
def only_one(data_dir: str, process: str, stop: threading.Event, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of `process` in a data folder; yields False when stopped while waiting for it.

    The lock dies with its process, so a killed one never blocks the next.

    Raises: WrongSetting, when data_dir is where no file can be made; AlreadyRunning, where it is not to wait.
    """
    path = Path(data_dir) / "run" / f"{process}.lock"
    with _opened(path) as file:
        waited = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not wait:
                    raise AlreadyRunning(process, data_dir, _holder(path)) from None
                if not waited:
                    log.warning(
                        "another process of this name is running; waiting for it to end (several of a service need"
                        " a name each: collector.client_id, alerting.worker, api.name)",
                        lock=str(path),
                        pid=_holder(path),
                    )
                    waited = True
                if stop.wait(0.05):
                    yield False
                    return
        with suppress(OSError):  # on a full disk the lock holds all the same
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield True


def _holder(path: Path) -> int:
    try:
        return int(path.read_text("utf-8"))
    except (OSError, ValueError):
        return 0


def _opened(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise WrongSetting(say("settings.no_lock", path=path, problem=error.strerror)) from None
