"""The edge box: the same wheel without its dependencies, and requirements-edge.lock."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from config.settings import DeviceOnBus
from tests.fixtures.broker import broker
from tests.fixtures.modbus import bus_to, line
from tests.fixtures.uplinks import GW, Upstream, agent_in

ROOT = Path(__file__).parents[2]
HEAVY = {"sqlalchemy", "fastapi", "pandas", "numpy", "influxdb_client", "wechatpy", "alembic", "amqtt", "cryptography"}

# Every distribution that the edge lock doesn't name is as good as not installed.
EDGE_BOX = """
import sys
from importlib import metadata

ours = {"coldchain", "gateway_agent", "core", "config"}
pinned = set(sys.argv.pop(1).split(","))
there = {name: {d.lower().replace("_", "-") for d in of} for name, of in metadata.packages_distributions().items()}
absent = {name for name, of in there.items() if not of & pinned and name not in ours}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"not on an edge box: {name}", name=name)

sys.meta_path.insert(0, Absent())
missing = {"sqlalchemy", "fastapi", "pandas", "numpy"} - absent
assert not missing, f"these are not kept away: {missing}"
from coldchain.cli import main
main()
"""


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text("utf-8").splitlines()
    found = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", said) for said in lines]
    assert all(found), "nothing but name==version"
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def test_the_edge_lock_pins_what_the_lock_pins_and_nothing_heavy() -> None:
    edge = pins("requirements-edge.lock")
    assert edge.items() <= pins("requirements.lock").items()
    assert not {canonicalize_name(name) for name in HEAVY} & edge.keys()


def test_the_edge_lock_is_closed() -> None:
    edge = pins("requirements-edge.lock")
    for name in edge:
        for said in metadata.requires(name) or []:
            need = Requirement(said)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in edge, f"{name} needs {need.name}"


def test_a_gateway_runs_on_what_the_edge_lock_names(tmp_path: Path) -> None:
    with line("tcp") as devices:
        devices.add(1, "xy-md02", lambda _channel: 4.2)
        unit = DeviceOnBus(address=1, profile="xy-md02", probes={"t": "208601"})
        settings = agent_in(tmp_path, bus_to(devices, "tcp", unit, interval=0.2))
        (tmp_path / "coldchain.toml").write_text(f"""
data_dir = "{tmp_path}"
[broker]
port = {settings.broker.port}
[[agent.gateways]]
number = "{GW}"
[[agent.gateways.buses]]
name = "b"
kind = "tcp"
host = "127.0.0.1"
port = {devices.port}
interval = 0.2
units = [{{ address = 1, profile = "xy-md02", probes = {{ t = "208601" }} }}]
""")
        with broker(settings), Upstream(settings) as up:
            words = ["gateway", "-c", str(tmp_path / "coldchain.toml")]
            agent = subprocess.Popen(
                [sys.executable, "-c", EDGE_BOX, ",".join(pins("requirements-edge.lock")), *words],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                up.saw(lambda up: up.stored or agent.poll() is not None, "a reading")
                assert agent.poll() is None
                agent.terminate()
                _, said = agent.communicate(timeout=5)
                assert agent.returncode == 0, said
            finally:
                agent.kill()
            assert up.readings[0][2:] == (4.2, 0)
