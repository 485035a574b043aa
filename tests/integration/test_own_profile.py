"""A device that nobody of ours knew is read by a profile that its user wrote, without a change of code."""

import subprocess
import sys
from pathlib import Path

from config.settings import DeviceOnBus
from gateway_agent.device_profile import DeviceProfile
from tests.fixtures.broker import broker
from tests.fixtures.modbus import bus_to, line
from tests.fixtures.uplinks import GW, Upstream, agent_in

ROOT = Path(__file__).parents[2]
PROFILE = """
device = "Fridge controller of a maker we don't know"
[timing]
timeout = 0.3
quiet_after_timeout = 0.5
[block]
longest = 4
[[channels]]
name = "air"
quantity = "t"
function = 3
address = 100
type = "f32"
order = "CDAB"
valid = [-50, 90]
"""


def test_a_users_own_profile_is_found_beside_coldchain_toml(tmp_path: Path) -> None:
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "fridge-x.toml").write_text(PROFILE)
    with line("tcp") as devices:
        devices.add(7, DeviceProfile.read(PROFILE, "fridge-x"), lambda _channel: 4.75)
        unit = DeviceOnBus(address=7, profile="fridge-x", probes={"air": "208601"})
        settings = agent_in(tmp_path, bus_to(devices, "tcp", unit, interval=0.2))
        (tmp_path / "coldchain.toml").write_text(f"""
data_dir = "{tmp_path}"
broker.port = {settings.broker.port}
[[agent.gateways]]
number = "{GW}"
[[agent.gateways.buses]]
name = "b"
kind = "tcp"
host = "127.0.0.1"
port = {devices.port}
interval = 0.2
units = [{{ address = 7, profile = "fridge-x", probes = {{ air = "208601" }} }}]
""")
        with broker(settings), Upstream(settings) as up:
            agent = subprocess.Popen(
                [sys.executable, "-m", "coldchain", "gateway", "-c", str(tmp_path / "coldchain.toml")], cwd=ROOT
            )
            try:
                up.saw(lambda up: up.stored or agent.poll() is not None, "a reading")
                assert agent.poll() is None
                agent.terminate()
                assert agent.wait(15) == 0
            finally:
                agent.kill()
                agent.wait()
            assert up.readings[0][2:] == (4.75, 0)
