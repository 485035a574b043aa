"""Status file of a service: a small JSON file that it writes every few seconds for others on its machine.

Readiness, metrics, `coldchain status` and the demo's screen read it; no rule depends on it. `pid` and `at` tell whether
the writer is still alive; `at` is real time, since a virtual clock may stand still.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from core.runtime.clock import monotonic, real_now
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger
from core.runtime.trouble import Trouble, Troubles

log = logger(__name__)

EVERY_S = 2.0
STALE = Milliseconds(30_000)
"""Age from which a service counts as silent: many times the interval, since a busy machine delays a write."""
RATE_OVER_S = 60.0

StatusFields = Mapping[str, int | float | str | bool]
"""Figures of a service, such as `{"received": 12, "last_error": ""}`, named like its metrics without their prefix."""


class Status(msgspec.Struct, frozen=True):
    """Last status of a process."""

    service: str
    pid: int
    at: Instant
    """Real time of writing, ms UTC."""
    facts: dict[str, int | float | str | bool]
    troubles: list[Trouble] = []
    process: str = ""
    """Name among the processes of its service; the service's own name if it is the only one."""
    began: Instant = Instant(0)
    """Real time of the process's start."""
    per_minute: dict[str, float] = {}
    """Rates of some counters, over the last minute or since the start."""

    @property
    def name(self) -> str:
        """Name of the process in lists."""
        return self.process or self.service

    @property
    def fresh(self) -> bool:
        """Whether it was written recently. An `at` far in the future, left by a clock that was set back, is not."""
        return abs(real_now() - self.at) < STALE


class StatusFile:
    """Status file `status/<process>.json` of a data folder."""

    def __init__(self, data_dir: str | Path, service: str, process: str = "", *, rates: Sequence[str] = ()) -> None:
        """Whether it was written recently. With an `at` far in the future (the clock was set back) it was not."""
        self._process = process or service
        self._path = Path(data_dir) / "status" / f"{self._process}.json"
        self._service = service
        self._began = real_now()
        self._rates = rates
        self._history: deque[tuple[float, StatusFields]] = deque()
        self._troubles = Troubles()

    def write(self, facts: StatusFields, troubles: Sequence[Trouble] = ()) -> None:
        """Replace the file. A full disk is only logged, once, since it must not stop the service."""
        temporary = self._path.with_suffix(f".{os.getpid()}.tmp")
        status = Status(
            self._service,
            os.getpid(),
            real_now(),
            dict(facts),
            list(troubles),
            self._process,
            self._began,
            self._rates_per_minute(facts),
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(msgspec.json.encode(status))
            temporary.replace(self._path)
        except OSError as error:
            if self._troubles.note("status", error):
                log.warning("status not written", path=str(self._path), error=str(error))
        else:
            if self._troubles.note("status", None):
                log.info("status written again", path=str(self._path))

    def read(self) -> Status | None:
        """Return the last status, None if there is no readable one."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Status)
        except (OSError, msgspec.MsgspecError):
            return None

    def keep(
        self, facts: Callable[[], StatusFields], stop: threading.Event, troubles: Callable[[], Sequence[Trouble]] = list
    ) -> threading.Thread:
        """Write the status in a thread, every few seconds until `stop`, and once at the end."""

        def write() -> None:
            try:
                self.write(facts(), troubles())
            except Exception:  # the thread must go on, or a working service would look dead
                log.exception("status not told", service=self._service)

        def write_until_stop() -> None:
            write()
            while not stop.wait(EVERY_S):
                write()
            write()

        thread = threading.Thread(target=write_until_stop, name="status", daemon=True)
        thread.start()
        return thread

    def _rates_per_minute(self, facts: StatusFields) -> dict[str, float]:
        now = monotonic()
        self._history.append((now, {name: facts.get(name, 0) for name in self._rates}))
        while len(self._history) > 1 and now - self._history[1][0] >= RATE_OVER_S:
            self._history.popleft()
        first_at, first_facts = self._history[0]
        if now - first_at < EVERY_S / 2:
            return {}
        return {
            name: round((float(facts.get(name, 0)) - float(first_facts[name])) * 60 / (now - first_at), 1)
            for name in first_facts
        }


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_all(data_dir: str | Path) -> dict[str, Status]:
    """Return the last status of every process of a data folder, by the name of the process."""
    statuses = (StatusFile(data_dir, path.stem).read() for path in sorted((Path(data_dir) / "status").glob("*.json")))
    return {status.name: status for status in statuses if status}
