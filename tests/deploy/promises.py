"""Promises of the province that docs/deploy.md makes, asked of its machines: small scripts, run there."""

import json
import sys
import time
from typing import Any

from tests.deploy.machines import Machine, tell

SIMULATED_WECHAT = """
systemd-run --quiet --unit=wechat-sim --property=Restart=always --property=DynamicUser=yes \\
  --property=StateDirectory=wechat-sim \\
  /opt/coldchain/venv/bin/coldchain wechat-sim --folder /var/lib/wechat-sim --host 0.0.0.0
curl --silent --fail --retry 90 --retry-connrefused --retry-delay 1 http://127.0.0.1:8090/sim/users \\
  --json '[{"openid": "oWangFang", "name": "王芳"}]'
"""

DEVICE_SCRIPT = """
import threading
from pathlib import Path
from coldchain.simulate.modbus import ModbusDevices

devices = ModbusDevices(host="0.0.0.0", port=1502)
devices.add(1, "xy-md02", lambda channel: float(Path("/run/fridge/temperature").read_text()))
devices.start()
threading.Event().wait()
"""

DEVICE = f"""
mkdir -p /run/fridge && echo 4.2 > /run/fridge/temperature
cat > /run/fridge/device.py <<'END'{DEVICE_SCRIPT}END
systemd-run --quiet --unit=fridge /opt/coldchain/venv/bin/python /run/fridge/device.py
"""

COUNTY = """
systemctl disable --now coldchain.target coldchain-collector@80-ff coldchain-writer@80-ff coldchain-alerting@80-ff
install -d -o coldchain -g coldchain /etc/county
export COLDCHAIN_CONFIG=/etc/county/coldchain.toml
printf 'data_dir = "/var/lib/coldchain/county"\\n' > $COLDCHAIN_CONFIG
coldchain init /etc/county
install -d /etc/systemd/system/coldchain.service.d
cd /etc/systemd/system/coldchain.service.d
printf '[Service]\\nEnvironment=COLDCHAIN_CONFIG=%s\\n' $COLDCHAIN_CONFIG > county.conf
systemctl daemon-reload
systemctl start coldchain
"""

NEWEST = """
import csv, io, json
import requests
from config import secrets, settings_loader
from pathlib import Path
settings = settings_loader.load_settings(Path("/etc/coldchain/coldchain.toml")).telemetry
token = secrets.read("/var/lib/coldchain").influx_read
flux = f'from(bucket: "{settings.bucket}") |> range(start: -1h) |> group() |> sort(columns: ["_time"]) |> tail(n: 5)'
answer = requests.post(f"{settings.url}/api/v2/query", params={"org": settings.org}, json={"query": flux},
                       headers={"Authorization": f"Token {token}"}, verify=settings.tls_ca, timeout=20)
answer.raise_for_status()
rows = list(csv.DictReader(io.StringIO(answer.text)))
print(json.dumps([[row["_time"], row["_field"], row["_value"]] for row in rows]))
"""


def await_(what: str, look: Any, seconds: float = 60) -> Any:
    """Look until it is so; what was seen last is told when it never is."""
    deadline, begun = time.monotonic() + seconds, time.monotonic()
    while True:
        so, seen = look()
        if so:
            tell(f"   ok   {what} ({time.monotonic() - begun:.0f} s): {seen}")
            return seen
        if time.monotonic() > deadline:
            sys.exit(f"   NOT  {what}, within {seconds:.0f} s; seen last: {seen}")
        time.sleep(1)


def python(machine: Machine, script: str) -> Any:
    """Run a script with the machine's own coldchain, as the services' user; return what it printed as JSON."""
    shell = ("runuser", "-u", "coldchain", "--", "/opt/coldchain/venv/bin/python", "-c")
    code, said = machine.say(script, bear=True, shell=shell)
    return json.loads(said) if code == 0 else said[-300:]


def stored(server: Machine, celsius: float) -> Any:
    """Whether the newest readings in InfluxDB say this."""
    rows = python(server, NEWEST)
    so = isinstance(rows, list) and any(abs(float(value) - celsius * 100) < 1 for _, _, value in rows)
    return so, rows


def on_the_phone(server: Machine) -> list[dict[str, Any]]:
    """What the simulated phone received, oldest first."""
    return list(json.loads(server.say("curl --silent --fail http://127.0.0.1:8090/sim/log")[1])["messages"])


def ready(server: Machine) -> tuple[bool, str]:
    code, said = server.say(
        "curl --silent --show-error --fail-with-body --cacert /etc/coldchain/ca.crt https://cold.example.org/readyz",
        bear=True,
    )
    return code == 0, said


def ready_alone(machine: Machine) -> tuple[bool, str]:
    code, said = machine.say("curl --silent --show-error --fail-with-body http://127.0.0.1:8080/readyz", bear=True)
    return code == 0, said


def shows(edge: Machine, celsius: float) -> None:
    edge.say(f"echo {celsius} > /run/fridge/temperature.new && mv /run/fridge/temperature.new /run/fridge/temperature")
