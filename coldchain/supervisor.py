"""Supervisor of child processes: the embedded broker and the services of one machine.

Guarantees, tried by tests/scenario/test_kills.py and tests/integration/test_supervisor.py:
* A child that ends for any reason, or can't be started, is started again with back-off: 0.2 s doubling to 5 s, reset
  once a child has run for 10 s.
* Children end with the supervisor, also when it is killed with -9: each checks for its parent twice a second.
* Two generations of one service never work at the same time: a service waits for its lock file
  (`core.runtime.process_lock`).
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from core.runtime import logs
from core.runtime.clock import monotonic

log = logs.logger(__name__)

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
HEALTHY_AFTER_S = 10.0
POLL_S = 0.1
END_WITHIN_S = 25.0
"""Time for a child to stop before it is killed: enough on a busy machine, less than the 30 s of systemd and Docker.

A collector or writer that hangs ends itself sooner."""
PARENT = "COLDCHAIN_PARENT"
"""Environment variable with the process id of the supervisor. A child ends when that process ends."""
COLDCHAIN = (sys.executable, "-m", "coldchain")
"""Command that starts a child; its arguments follow."""


class Service(msgspec.Struct, frozen=True):
    """Name of a child, and the arguments of `coldchain` that start it."""

    name: str
    arguments: tuple[str, ...]


class _Child:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.wait = FIRST_WAIT_S
        self.start_at = 0.0
        self.restarts = -1


class Supervisor:
    """Runner of services. Their output goes to files in `log_folder`, or where the supervisor's own output goes."""

    def __init__(self, services: Sequence[Service], *, log_folder: Path | None = None) -> None:
        self._children = {service.name: _Child(service) for service in services}
        self._log_folder = log_folder

    def run(self, stop: threading.Event) -> None:
        """Start all services and keep them running until `stop`; then end them and wait for each."""
        try:
            while not stop.wait(POLL_S):
                self.check_processes()
        finally:
            self.end()

    def check_processes(self) -> None:
        """Note which children have ended, and start those whose back-off is over."""
        for child in self._children.values():
            if child.process is not None and child.process.poll() is not None:
                self._ended(child, child.process.returncode)
            if child.process is None and monotonic() >= child.start_at:
                self._start(child)

    def end(self) -> None:
        """Ask all children to stop, the last started first; kill those that still run after `END_WITHIN_S`."""
        running = [child.process for child in reversed(self._children.values()) if child.process]
        for process in running:
            process.terminate()
        deadline = monotonic() + END_WITHIN_S
        for process in running:
            try:
                process.wait(max(0.1, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("child killed, since it did not stop", pid=process.pid)
                process.kill()
                process.wait()

    def pid(self, name: str) -> int | None:
        """Return the process id of a child, or None while it is not running."""
        process = self._children[name].process
        return process.pid if process and process.poll() is None else None

    def restarts(self) -> dict[str, int]:
        """Return the number of restarts of each child."""
        return {name: max(0, child.restarts) for name, child in self._children.items()}

    def kill(self, name: str) -> None:
        """Kill a child with -9. Only the demo and tests do so."""
        pid = self.pid(name)
        if pid:
            os.kill(pid, signal.SIGKILL)

    @contextmanager
    def paused(self, name: str) -> Iterator[None]:
        """Let a child stand still, as a machine without power would."""
        pid = self.pid(name)
        if pid:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _start(self, child: _Child) -> None:
        child.started = monotonic()
        try:
            child.process = self._spawn(child.service)
        except OSError as error:  # such as a full disk or no memory: it may work later
            log.warning("child not started", child=child.service.name, error=str(error), again_in_s=child.wait)
            self._later(child)
            return
        child.restarts += 1
        log.info("child started", child=child.service.name, pid=child.process.pid, restarts=child.restarts)

    def _spawn(self, service: Service) -> subprocess.Popen[bytes]:
        command = [*COLDCHAIN, *service.arguments]
        environment = {**os.environ, PARENT: str(os.getpid())}
        output = None
        if self._log_folder is not None:
            self._log_folder.mkdir(parents=True, exist_ok=True)
            output = (self._log_folder / f"{service.name}.log").open("ab")
        try:
            # Each child has its own process group, so Ctrl-C reaches the supervisor only, which asks each child once.
            return subprocess.Popen(  # noqa: S603 (our own)
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
            )
        finally:
            if output is not None:
                output.close()

    def _ended(self, child: _Child, code: int) -> None:
        if monotonic() - child.started > HEALTHY_AFTER_S:
            child.wait = FIRST_WAIT_S
        log.warning("child ended", child=child.service.name, code=code, again_in_s=child.wait)
        self._later(child)

    def _later(self, child: _Child) -> None:
        child.process = None
        child.start_at = monotonic() + child.wait
        child.wait = min(LONGEST_WAIT_S, child.wait * 2)


def end_with_parent(stop: threading.Event) -> None:
    """Set `stop` once the supervisor that started this process is gone.

    After `END_WITHIN_S` end the process at once.
    """
    parent = int(os.environ.get(PARENT, "0"))
    if not parent:
        return

    def watch() -> None:
        while os.getppid() == parent:
            if stop.wait(0.5):
                return
        stop.set()
        threading.Event().wait(END_WITHIN_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
