"""How a service tells others on its machine how it is: a small JSON file, written every few seconds.

Readiness, metrics, `coldchain status` and the demo's screen read it; nothing that decides anything does. `pid` and `at`
tell whether the writer still lives: real time, since a virtual clock may stand still.
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
"""A service that has written nothing for so long is silent: many times its rule, which a busy machine breaks."""
RATE_OVER_S = 60.0

Facts = Mapping[str, int | float | str | bool]
"""What a service tells, such as `{"received": 12, "last_error": ""}`; named like its metrics, without prefix."""


class Status(msgspec.Struct, frozen=True):
    """What a service said last."""

    service: str
    pid: int
    at: Instant
    """Real time of writing, ms UTC."""
    facts: dict[str, int | float | str | bool]
    troubles: list[Trouble] = []
    process: str = ""
    """What it is called among those of its service; the service's own name when it is the only one."""
    began: Instant = Instant(0)
    """Real time of the process's start."""
    per_minute: dict[str, float] = {}
    """How fast the counters went that the service named, over the last minute or since its start."""

    @property
    def name(self) -> str:
        """What it is called where they are listed."""
        return self.process or self.service

    @property
    def fresh(self) -> bool:
        """Whether it was written so lately that the service must be alive; not what a clock since set back says."""
        return abs(real_now() - self.at) < STALE


class StatusFile:
    """The file `status/<process>.json` of a data folder."""

    def __init__(self, data_dir: str | Path, service: str, process: str = "", *, rates: Sequence[str] = ()) -> None:
        """`process`: its name, where several of a service run on one folder. `rates`: counters to tell the speed of."""
        self._process = process or service
        self._path = Path(data_dir) / "status" / f"{self._process}.json"
        self._service = service
        self._began = real_now()
        self._rates = rates
        self._past: deque[tuple[float, Facts]] = deque()
        self._own = Troubles()

    def write(self, facts: Facts, troubles: Sequence[Trouble] = ()) -> None:
        """Replace it. A disk that is full is reported in the log alone, once: telling must not stop the work."""
        beside = self._path.with_suffix(f".{os.getpid()}.tmp")
        told = Status(
            self._service,
            os.getpid(),
            real_now(),
            dict(facts),
            list(troubles),
            self._process,
            self._began,
            self._speeds(facts),
        )
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(told))
            beside.replace(self._path)
        except OSError as error:
            if self._own.note("status", error):
                log.warning("status not written", path=str(self._path), error=str(error))
        else:
            if self._own.note("status", None):
                log.info("status written again", path=str(self._path))

    def read(self) -> Status | None:
        """Return what was written last, None when there is nothing readable."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Status)
        except (OSError, msgspec.MsgspecError):
            return None

    def keep(
        self, facts: Callable[[], Facts], stop: threading.Event, troubles: Callable[[], Sequence[Trouble]] = list
    ) -> threading.Thread:
        """Write what `facts` and `troubles` answer now, every few seconds and at the end, until `stop`, in a thread."""

        def tell() -> None:
            try:
                self.write(facts(), troubles())
            except Exception:  # a service that works must not look dead for it
                log.exception("status not told", service=self._service)

        def write_until_stop() -> None:
            tell()
            while not stop.wait(EVERY_S):
                tell()
            tell()

        thread = threading.Thread(target=write_until_stop, name="status", daemon=True)
        thread.start()
        return thread

    def _speeds(self, facts: Facts) -> dict[str, float]:
        now = monotonic()
        self._past.append((now, {name: facts.get(name, 0) for name in self._rates}))
        while len(self._past) > 1 and now - self._past[1][0] >= RATE_OVER_S:
            self._past.popleft()
        began, then = self._past[0]
        if now - began < EVERY_S / 2:
            return {}
        return {name: round((float(facts.get(name, 0)) - float(then[name])) * 60 / (now - began), 1) for name in then}


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def read_all(data_dir: str | Path) -> dict[str, Status]:
    """Return what every process of a data folder said last, by the process's name."""
    found = (StatusFile(data_dir, path.stem).read() for path in sorted((Path(data_dir) / "status").glob("*.json")))
    return {status.name: status for status in found if status}
