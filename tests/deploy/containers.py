"""Runs the blocks of deploy/compose/README.md, and looks whether a province comes of it.

    python -m tests.deploy.containers

As root, with an engine (DOCKER_HOST) and docker-compose, ports 80, 443 and 8883 free, and the images that compose.yaml
names: the public ones, or tests/deploy/standins. Containers, network, volumes and the folder are removed at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.deploy.machines import tell
from tests.deploy.page import blocks
from tests.deploy.promises import DEVICE_SCRIPT, NEWEST, await_
from tests.deploy.walk import PAGE, source

COUNTY = next(block.text for block in blocks(PAGE.read_text("utf-8")) if "county.toml <<'END'" in block.text)
COUNTY = (
    COUNTY[COUNTY.index("[[unit]]") : COUNTY.index("\nEND\n")]
    + '\n[[zone]]\nequipment = "CG-01"\nkind = "冷藏"\ndelay = "20s"\n'
)

WECHAT = """
[wechat]
app_id = "wx-demo"
template_alarm = "alarm"
template_recovery = "recovery"
base_url = "http://wechat:8090"
oauth_url = "http://wechat:8090"
"""

SIMULATED_WECHAT = """
docker run --detach --network coldchain_default --name wechat coldchain wechat-sim --folder /tmp/wechat --host 0.0.0.0
docker exec wechat curl --silent --fail --retry 90 --retry-connrefused --retry-delay 1 \\
  http://127.0.0.1:8090/sim/users --json '[{"openid": "oWangFang", "name": "王芳"}]'
"""

EDGE = """
data_dir = "/edge"
[broker]
embedded = false
protocol = "5"
host = "cold.example.org"
port = 8883
tls_ca = "/certs/ca.crt"
tls_cert = "/certs/10001.crt"
tls_key = "/certs/10001.key"
[[agent.gateways]]
number = "10001"
[[agent.gateways.buses]]
name = "line-1"
kind = "tcp"
host = "fridge"
port = 1502
interval = 2
[[agent.gateways.buses.units]]
address = 1
profile = "xy-md02"
probes = { t = "208601" }
"""


class Trial:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.compose = folder / "source/deploy/compose"
        self.edge = folder / "edge"

    def say(self, script: str, *, bear: bool = False) -> tuple[int, str]:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.compose, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        if done.returncode and not bear:
            logs = subprocess.run(
                ["docker-compose", "logs", "--tail=5"], cwd=self.compose, capture_output=True, text=True, check=False
            )
            sys.exit(f"ended with {done.returncode}:\n{script}\n--- said:\n{done.stdout}\n{logs.stdout}")
        return done.returncode, done.stdout

    def go(self) -> None:
        (self.folder / "county.toml").write_text(COUNTY)
        settings = self.compose / "coldchain.toml"
        settings.write_text(settings.read_text() + WECHAT)
        for block in blocks((self.compose / "README.md").read_text("utf-8")):
            tell(f"   run  deploy/compose/README.md:{block.line}")
            text = block.text.replace("/root/county.toml", str(self.folder / "county.toml"))
            said = self.say(text.replace("touch secrets/wechat_secret", "echo demo-secret > secrets/wechat_secret"))[1]
            for line in said.strip().splitlines()[-8:]:
                tell(f"        | {line}")
            if "up -d" in block.text:
                self.say(SIMULATED_WECHAT)
        self.say("docker-compose ps && docker-compose up -d 2>&1")
        await_("every container is healthy", self.healthy, 180)
        self.simulators()
        await_("/readyz is 200 through nginx", self.ready)
        await_("4.2 °C of the simulated device is in InfluxDB", lambda: self.stored(4.2))
        self.shows(9.4)
        await_("the alarm reached the phone", lambda: self.phone(1), 120)
        # The engine takes its own `docker kill` for a wish; this is a crash.
        self.say("""
for service in coldchain_collector-high_1 coldchain_collector-low_1 coldchain_writer-high_1 coldchain_writer-low_1; do
  kill -KILL "$(docker inspect --format '{{.State.Pid}}' $service)"
done
docker stop coldchain_api-1_1""")
        self.shows(9.6)
        await_("9.6 °C is in InfluxDB after collectors and writers were killed", lambda: self.stored(9.6))
        await_("the pages answer with one API process", lambda: self.asked("/healthz"))
        self.say("docker start coldchain_api-1_1")
        await_("/readyz is 200 again", self.ready)
        so, told = self.phone(1)
        assert so, told

    def simulators(self) -> None:
        """A device, and an edge box that comes in through the published port."""
        self.edge.mkdir()
        (self.edge / "coldchain.toml").write_text(EDGE)
        (self.edge / "temperature").write_text("4.2")
        (self.edge / "device.py").write_text(DEVICE_SCRIPT.replace("/run/fridge", "/edge"))
        run = "docker run --detach --network coldchain_default"
        self.say(f"""
(cd certs && ../../tls/ca client 10001)
cp secrets/edge-10001.json {self.edge}/secrets.json
mkdir {self.edge}/certs && cp certs/ca.crt certs/10001.* {self.edge}/certs/
chown -R 900:900 {self.edge} && chmod 600 {self.edge}/secrets.json
{run} --name fridge --volume {self.edge}:/edge --entrypoint python3 coldchain /edge/device.py
outside=$(docker network inspect coldchain_default --format '{{{{(index .IPAM.Config 0).Gateway}}}}')
{run} --name edge --volume {self.edge}:/edge --volume {self.edge}/certs:/certs \\
  --env COLDCHAIN_CONFIG=/edge/coldchain.toml --add-host cold.example.org:$outside coldchain gateway
""")

    def shows(self, celsius: float) -> None:
        (self.edge / "temperature.new").write_text(str(celsius))
        (self.edge / "temperature.new").replace(self.edge / "temperature")

    def healthy(self) -> tuple[bool, object]:
        form = "{{.Name}} {{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"
        said = self.say(f"docker-compose ps -q | xargs docker inspect --format '{form}'")[1].splitlines()
        ill = [line for line in said if "_init_" not in line and not line.endswith("running healthy")]
        return not ill, ill or f"{len(said)} containers"

    def ready(self) -> tuple[bool, object]:
        return self.asked("/readyz")

    def asked(self, path: str) -> tuple[bool, object]:
        curl = "curl --silent --show-error --fail-with-body --cacert certs/ca.crt --connect-to ::127.0.0.1:"
        code, said = self.say(f"{curl} https://cold.example.org{path}", bear=True)
        return code == 0, said

    def stored(self, celsius: float) -> tuple[bool, object]:
        (self.folder / "newest.py").write_text(NEWEST)
        python = "docker-compose exec -T api-2 /opt/coldchain/bin/python -"
        code, said = self.say(f"{python} < {self.folder}/newest.py", bear=True)
        rows: Sequence[Sequence[str]] = json.loads(said) if code == 0 else []
        return any(abs(float(value) - celsius * 100) < 1 for _, _, value in rows), rows or said[-300:]

    def phone(self, messages: int) -> tuple[bool, object]:
        said = self.say("docker exec wechat curl --silent --fail http://127.0.0.1:8090/sim/log")[1]
        told = [
            (one["template"], one["client_msg_id"], one["data"]["thing3"]["value"])
            for one in json.loads(said)["messages"]
        ]
        return len(told) == messages, told

    def end(self) -> None:
        self.say("docker rm --force wechat fridge edge", bear=True)
        self.say("docker-compose down --volumes --timeout 20", bear=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--committed", action="store_true", help="HEAD, not the files as they are")
    how = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="coldchain-containers-") as folder:
        # The engine's users pass through it to what is bound from it.
        Path(folder).chmod(0o711)
        source(Path(folder) / "source", committed=how.committed)
        trial = Trial(Path(folder))
        try:
            trial.go()
        finally:
            trial.end()
    tell("== all is as promised")


if __name__ == "__main__":
    main()
