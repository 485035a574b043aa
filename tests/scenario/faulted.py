"""Command `coldchain` with fault points: `python -m tests.scenario.faulted collector --config …`.

Its supervisor starts children with fault points too. `faulted many FILE` supervises the services in a JSON file, as
systemd does on several machines.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

import msgspec

import coldchain.supervisor
from coldchain.cli import main as coldchain_main
from coldchain.supervisor import Service, Supervisor
from core.runtime import logs
from core.runtime.instant import MINUTE, Milliseconds
from core.runtime.lifecycle import stop_on_signals
from tests.scenario.fault_points import points_of
from tests.scenario.faults import Armoury, install

FOLDER = "COLDCHAIN_TEST_FAULTS"
PAIR = "COLDCHAIN_TEST_PAIR"
MANY = "many"
LONGEST_WAIT_S = 0.4
"""Shorter back-off of the supervisor; tests/integration/test_supervisor.py tests the real one."""
UPKEEP_S = 1.0
"""Shorter interval of pruning in the collector and of sealing in the writer, since the clock runs many times faster."""


BLOCKS = 12
"""Fewer blocks in each commit when hours and days are sealed, so that there are boundaries to die at."""


def main() -> None:
    """Install the fault points of the named process and run it."""
    process = sys.argv[1]
    supervises = process in ("up", MANY)
    points = [point for point in points_of(os.environ[PAIR]) if point.process == ("up" if supervises else process)]
    install(points, Armoury(Path(os.environ[FOLDER])))
    if supervises:
        coldchain.supervisor.COLDCHAIN = (sys.executable, "-m", "tests.scenario.faulted")
        coldchain.supervisor.LONGEST_WAIT_S = LONGEST_WAIT_S
    if process == "collector":
        _hurry("collector.service", "UPKEEP_S", UPKEEP_S)
    if process == "writer":
        _hurry("collector.writer_service", "UPKEEP_S", UPKEEP_S)
        _hurry("collector.writer_service", "HOUR", Milliseconds(10 * MINUTE))
        _hurry("core.telemetry.hour_sealing", "CHUNK", BLOCKS)
        _hurry("core.telemetry.day_sealing", "CHUNK", BLOCKS)
    if process == MANY:
        logs.set_up("many")
        services = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[Service])
        Supervisor(services, log_folder=Path(sys.argv[2]).parent / "log").run(stop_on_signals())
    else:
        coldchain_main()


def _hurry(module: str, name: str, value: float) -> None:
    """Replace a constant that exists only to save work."""
    module_object = import_module(module)
    assert name in vars(module_object), f"{module} has no {name} any more"
    setattr(module_object, name, value)


if __name__ == "__main__":
    main()
