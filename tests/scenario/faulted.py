"""`coldchain` with fault points in it: `python -m tests.scenario.faulted collector --config …`.

Its supervisor starts its children in the same way. `faulted many FILE` supervises the services of a JSON file, which
stands for the systemd of many machines.
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
"""The supervisor's back-off is tried elsewhere; here it would only be waited for."""
UPKEEP_S = 1.0
"""So often the collector seals and prunes: a clock that runs sixty times as fast asks for it."""


BLOCKS = 12
"""So many a commit when hours and days are sealed, so that there are moments between."""


def main() -> None:
    """Be that process."""
    process = sys.argv[1]
    supervises = process in ("up", MANY)
    points = [point for point in points_of(os.environ[PAIR]) if point.process == ("up" if supervises else process)]
    install(points, Armoury(Path(os.environ[FOLDER])))
    if supervises:
        coldchain.supervisor.COLDCHAIN = (sys.executable, "-m", "tests.scenario.faulted")
        coldchain.supervisor.LONGEST_WAIT_S = LONGEST_WAIT_S
    if process == "collector":
        _hurry("collector.service", "UPKEEP_S", UPKEEP_S)
        _hurry("collector.service", "HOUR", Milliseconds(10 * MINUTE))
        _hurry("core.telemetry.sealing", "CHUNK", BLOCKS)
        _hurry("core.telemetry.day_sealing", "CHUNK", BLOCKS)
    if process == MANY:
        logs.set_up("many")
        services = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[Service])
        Supervisor(services, log_folder=Path(sys.argv[2]).parent / "log").run(stop_on_signals())
    else:
        coldchain_main()


def _hurry(module: str, name: str, value: float) -> None:
    """Replace a figure that is only there to save work."""
    home = import_module(module)
    assert name in vars(home), f"{module} has no {name} any more"
    setattr(home, name, value)


if __name__ == "__main__":
    main()
