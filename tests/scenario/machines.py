"""Processes of a kill scenario and the ways to kill them: services, their supervisor, and the servers.

All services are children of one supervisor: of `coldchain up` in an embedded county, otherwise of one that does what
systemd would on several machines. A killed supervisor is started again, as an init system would do.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from coldchain.supervisor import Service
from tests.fixtures import waiting
from tests.scenario import faulted
from tests.scenario.county import County

until = partial(waiting.until, poll_s=0.2)

ROOT = Path(__file__).resolve().parents[2]
SUPERVISOR = "up"
KILLED = -signal.SIGKILL
UP_WITHIN_S = 60.0
"""Time-out for the start of a supervisor, which takes seconds on a busy machine."""


class Machines:
    """Processes of a county; each may be killed at any time."""

    def __init__(self, county: County, faults: Path) -> None:
        """`faults` is the folder of the armoury."""
        self._folder = county.stage.folder
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            faulted.FOLDER: str(faults),
            faulted.PAIR: "servers" if county.servers else "embedded",
        }
        if county.servers:
            self._services = county.services()
            file = self._folder / "services.json"
            file.write_bytes(msgspec.json.encode(self._services))
            self._words = (faulted.MANY, str(file))
        else:
            self._services = [Service(service.name, service.arguments[:1]) for service in county.services()]
            self._words = ("up", "--config", str(county.stage.config))
        self._servers: Mapping[str, Callable[[], None]] = (
            {
                "mosquitto": lambda: _again(county.servers.mosquitto),  # type: ignore[union-attr]
                "influxdb": lambda: _again(county.servers.influx),  # type: ignore[union-attr]
                "postgresql": lambda: _again(county.servers.postgres),  # type: ignore[union-attr]
            }
            if county.servers
            else {}
        )
        self.kills: Counter[str] = Counter()
        self.unexpected: list[str] = []
        """Ends of the supervisor that no test caused."""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._process = self._start()
        self._tending = threading.Thread(target=self._tend, daemon=True)
        self._tending.start()

    @property
    def names(self) -> list[str]:
        """Return the names of all processes that can be killed."""
        return [*(service.name for service in self._services), SUPERVISOR, *self._servers]

    def kill(self, name: str) -> bool:
        """Kill a process with -9; return False if it isn't running. Servers and supervisor run again at the return."""
        if name in self._servers:
            self._servers[name]()
        elif name == SUPERVISOR:
            if not self._supervises():
                return False
            with self._lock:
                self._process.kill()
                self._process.wait()
                self._start_again()
            until(self._supervises, "the supervisor, killed, is up again", UP_WITHIN_S)
        elif (pid := self._child(name)) is not None:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return False
        else:
            return False
        self.kills[name] += 1
        return True

    def stop(self) -> None:
        """Stop all processes in order; a supervisor that has just died at a fault point is started again first."""
        until(self._supervises, "the supervisor is up", UP_WITHIN_S)
        self._stop.set()
        self._tending.join()
        self._process.terminate()
        code = self._process.wait(120)
        assert code == 0, f"the supervisor ended with {code}"

    def end(self) -> None:
        """Kill the supervisor, in whatever state it is; its children end with it."""
        self._stop.set()
        self._tending.join()
        self._process.kill()
        self._process.wait()

    def crashes(self) -> list[str]:
        """Return the log lines of children that ended with another code than that of kill -9."""
        log = (self._folder / "supervisor.out").read_text("utf-8")
        return [line for line in log.splitlines() if "child ended" in line and _code(line) != KILLED]

    def _start(self) -> "subprocess.Popen[bytes]":
        with (self._folder / "supervisor.out").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.scenario.faulted", *self._words],
                env=self._environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _tend(self) -> None:
        while not self._stop.wait(0.1):
            with self._lock:
                if self._process.poll() is not None:
                    self._start_again()

    def _start_again(self) -> None:
        """Start the supervisor again after it has ended. The caller holds the lock."""
        code = self._process.returncode
        if code != KILLED:
            self.unexpected.append(f"the supervisor ended with {code}")
        self._process = self._start()

    def _supervises(self) -> bool:
        """Return whether the supervisor has started a child; from then on it also stops in order when asked."""
        return any(self._child(service.name) is not None for service in self._services)

    def _child(self, name: str) -> int | None:
        arguments = next(service.arguments for service in self._services if service.name == name)
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            for child in children:
                command_line = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
                if tuple(command_line[3:-1]) == arguments:
                    return int(child)
        except (FileNotFoundError, ProcessLookupError):
            pass
        return None


class _Server:
    def kill(self) -> None: ...

    def start(self) -> object: ...


def _again(server: "_Server") -> None:
    server.kill()
    server.start()


def _code(line: str) -> int | None:
    try:
        return int(json.loads(line)["code"])
    except (ValueError, KeyError):
        match = re.search(r"code=(-?\d+)", line)
        return int(match[1]) if match else None
