"""How a service tells others on its machine how it is: a small JSON file, written every few seconds.

Readiness, metrics and the demo's screen read it; nothing that decides anything does. `pid` and `at` tell whether the
writer still lives: real time, since a virtual clock may stand still.
"""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from core.runtime.clock import real_now
from core.runtime.instant import Instant, Milliseconds
from core.runtime.logs import logger

log = logger(__name__)

EVERY_S = 2.0
STALE = Milliseconds(10_000)

Facts = Mapping[str, int | float | str | bool]
"""What a service tells, such as `{"received": 12, "last_error": ""}`; named like its metrics, without prefix."""


class Status(msgspec.Struct, frozen=True):
    """What a service said last."""

    service: str
    pid: int
    at: Instant
    """Real time of writing, ms UTC."""
    facts: dict[str, int | float | str | bool]

    @property
    def fresh(self) -> bool:
        """Whether it was written so lately that the service must be alive."""
        return real_now() - self.at < STALE


class StatusFile:
    """The file `status/<process>.json` of a data folder; where one process of a service runs, both names are one."""

    def __init__(self, data_dir: str | Path, service: str, process: str = "") -> None:
        self._path = Path(data_dir) / "status" / f"{process or service}.json"
        self._service = service

    def write(self, facts: Facts) -> None:
        """Replace it. A disk that is full is reported in the log alone: telling must not stop the work."""
        beside = self._path.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(msgspec.json.encode(Status(self._service, os.getpid(), real_now(), dict(facts))))
            beside.replace(self._path)
        except OSError as error:
            log.warning("status not written", path=str(self._path), error=str(error))

    def read(self) -> Status | None:
        """Return what was written last, None when there is nothing readable."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Status)
        except (OSError, msgspec.MsgspecError):
            return None

    def keep(self, facts: Callable[[], Facts], stop: threading.Event) -> threading.Thread:
        """Write what `facts` answers now, every few seconds and at the end, in a thread that ends with `stop`."""

        def tell() -> None:
            try:
                self.write(facts())
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


def read_all(data_dir: str | Path) -> dict[str, Status]:
    """Return what every process of a data folder said last, by the name of the process."""
    names = [path.stem for path in sorted((Path(data_dir) / "status").glob("*.json"))]
    found = {name: StatusFile(data_dir, name).read() for name in names}
    return {name: status for name, status in found.items() if status}
