"""Single-instance lock: one process of a name for each data folder. A second one waits for the first, or is refused.

A service waits, so that an old and a new process of it never work at the same time. `up` and `demo` are refused, since
their user would wait for ever.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from config.settings_loader import InvalidSetting
from config.texts import say
from core.runtime import logs

log = logs.logger(__name__)


class AlreadyRunning(Exception):
    """Another process of this name holds the lock. `pid` is its process number, 0 if it hasn't written it yet."""

    def __init__(self, process: str, data_dir: str, pid: int) -> None:
        super().__init__(f"{process} runs on {data_dir} already: process {pid}")
        self.data_dir = data_dir
        self.pid = pid


@contextmanager
def single_process(data_dir: str, process: str, stop: threading.Event, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of `process` in a data folder; yield False if `stop` is set while waiting for it.

    The lock ends with its process, so a killed process never blocks the next one.

    Raises: InvalidSetting if no file can be created in data_dir; AlreadyRunning if the lock is taken and `wait` is
    False.
    """
    path = Path(data_dir) / "run" / f"{process}.lock"
    with _open(path) as file:
        is_logged = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not wait:
                    raise AlreadyRunning(process, data_dir, _holder(path)) from None
                if not is_logged:
                    log.warning(
                        "another process of this name is running; waiting for it to end (several of a service need"
                        " a name each: collector.client_id, writer.worker, alerting.worker, api.name)",
                        lock=str(path),
                        pid=_holder(path),
                    )
                    is_logged = True
                if stop.wait(0.05):
                    yield False
                    return
        with suppress(OSError):  # the lock holds on a full disk too
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield True


def has_ended(data_dir: str | Path, process: str) -> bool:
    """Return whether a process of this name has held the lock in a data folder, and none does now."""
    try:
        with (Path(data_dir) / "run" / f"{process}.lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held; or there is no such file, as where the process runs without a lock
        return False
    return True


def _holder(path: Path) -> int:
    try:
        return int(path.read_text("utf-8"))
    except (OSError, ValueError):
        return 0


def _open(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise InvalidSetting(say("settings.no_lock", path=path, problem=error.strerror)) from None
