"""Walks through docs/deploy.md on bare Debian systems, block by block, and looks whether a province comes of it.

    python -m tests.deploy.walk --influxd "$(.ci/influxd/build)"

As root, with debootstrap, systemd-container and iptables installed; about 15 minutes and 6 GB in --folder, which are
removed unless --keep. Not part of the test suite; tests/integration/test_deploy.py is.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.deploy import promises
from tests.deploy.machines import NET, Machine, Network, debian, tell
from tests.deploy.page import MACHINES, PAGE, Block, blocks
from tests.deploy.promises import await_

ROOT = Path(__file__).parents[2]
NUMBERS = {"server": 2, "second": 3, "edge": 4}
NAMES = {"cold.example.org": "server", "node2.example.org": "second", "edge-10001": "edge"}

INSTEAD = {
    'app_id = "wx0123456789abcdef"\n': (
        'app_id = "wx-demo"\nbase_url = "http://cold.example.org:8090"\noauth_url = "http://cold.example.org:8090"\n'
    ),
    '"the id of your template for alarms"': '"alarm"',
    '"the id of your template for back to normal"': '"recovery"',
    'host = "192.168.1.20"\n': 'host = "127.0.0.1"\nport = 1502\ninterval = 2\n',
}
"""What stands in the page for the reader's own, and what the trial has: simulators."""

SHORT_DELAY = """
cat > /etc/coldchain/trial.toml <<'END'
[[zone]]
equipment = "CG-01"
kind = "refrigerated"
delay = "20s"
END
coldchain import /etc/coldchain/trial.toml
"""


class Walk:
    """The three machines, and what happened on them so far."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self.machines = machines
        self.server, self.second, self.edge = (machines[name] for name in MACHINES)
        self.page = blocks(PAGE.read_text("utf-8"))
        self._told = 0

    def go(self, behind: str = "") -> None:
        """Run every block, or those behind a part of the page, and after each part look at what it promised."""
        before: Mapping[str, Callable[[], object]] = {
            "9. The services": lambda: self.server.say(promises.SIMULATED_WECHAT),
        }
        after: Mapping[str, Callable[[], object]] = {
            "11. Look": self.the_line_is_ready,
            "An edge box": self.readings_arrive_and_an_alarm_reaches_the_phone,
            "A second server": self.the_alarm_is_still_one,
            "When something is killed": self.readings_go_on,
            "Backup": self.readings_go_on,
            "Upgrade": self.the_alarm_ends,
        }
        headings = list(dict.fromkeys(block.heading for block in self.page))
        missing = (before.keys() | after.keys()) - set(headings)
        assert not missing, f"the page has no blocks under {missing}"
        more: Mapping[str, Callable[[], object]] = {
            "(a revoked gateway)": self.a_revoked_gateway_is_refused,
            "(a county on one machine)": self.a_county_runs_on_one_machine,
        }
        headings += more
        after = {**after, **more}
        if behind:
            self.server.say(promises.SIMULATED_WECHAT)
            self.edge.say(promises.DEVICE)
        for heading in headings[headings.index(behind) if behind else 0 :]:
            tell(f"== {heading}")
            if heading != behind:
                before.get(heading, lambda: None)()
                for block in self.page:
                    if block.heading == heading:
                        self.run(block)
            after.get(heading, lambda: None)()

    def run(self, block: Block) -> None:
        where = f"docs/deploy.md:{block.line}"
        if block.machine == "not-tried":
            tell(f"   ---  {where} is not tried")
            return
        begun = time.monotonic()
        if block.machine == "carry":
            self.carry(block)
        else:
            text = block.text
            for said, instead in INSTEAD.items():
                if said in text:
                    text = text.replace(said, instead)
                    tell(f"   for  {said!r} stands {instead!r}")
            if block.machine == "edge" and "systemctl enable --now coldchain-gateway" in text:
                self.edge.say(promises.DEVICE)
            tell(f"   run  {where} on {block.machine}")
            said = self.machines[block.machine].say(text)[1].strip()
            for line in said.splitlines()[-12:]:
                tell(f"        | {line}")
        tell(f"        {time.monotonic() - begun:.0f} s")

    def carry(self, block: Block) -> None:
        """Copy as the page's scp would."""
        for line in block.text.splitlines():
            command, source, target = line.split()
            assert command == "scp"
            (host, path), (to, folder) = source.split(":"), target.split(":")
            disk = self.machines[NAMES[to]].root
            shutil.copy(self.machines[NAMES[host]].root / path.lstrip("/"), disk / folder.lstrip("/"))
            tell(f"   copy {line}")

    def the_line_is_ready(self) -> None:
        await_("/readyz is 200 through nginx", lambda: promises.ready(self.server))

    def readings_arrive_and_an_alarm_reaches_the_phone(self) -> None:
        await_("4.2 °C of the simulated device is in InfluxDB", lambda: promises.stored(self.server, 4.2))
        tell(self.server.say(SHORT_DELAY)[1].rstrip())
        promises.shows(self.edge, 9.4)
        await_("the alarm reached the phone", lambda: self.phone(1), 120)
        self.the_line_is_ready()

    def the_alarm_is_still_one(self) -> None:
        self.readings_go_on()
        await_("/readyz is 200 with half of the shards elsewhere", lambda: promises.ready(self.server))
        await_("the second server's own processes live", lambda: _active(self.second))
        self.told_once()

    def readings_go_on(self) -> None:
        """Another temperature of the device, still too warm, comes through."""
        self._told += 1
        celsius = 9.4 + self._told / 10
        promises.shows(self.edge, celsius)
        await_(f"{celsius:.1f} °C is in InfluxDB", lambda: promises.stored(self.server, celsius), 120)
        self.told_once()

    def the_alarm_ends(self) -> None:
        self.readings_go_on()
        promises.shows(self.edge, 4.5)
        await_("the phone was told that all is well, and nothing twice", lambda: self.phone(2), 900)
        await_("/readyz is 200", lambda: promises.ready(self.server))

    def a_revoked_gateway_is_refused(self) -> None:
        self.server.say("cd /root/ca && /opt/coldchain/deploy/tls/ca revoke 10001")
        again = next(block for block in self.page if "revoked.crl /etc/mosquitto/certs/revoked.crl" in block.text)
        self.run(again)
        look = "journalctl --unit=mosquitto --since=-1min --no-pager | grep -c 'certificate verify failed' || true"
        await_("Mosquitto refuses a certificate", lambda: _counted(self.server.say(look)[1]))
        await_("and takes those of the services", lambda: promises.ready(self.server))

    def a_county_runs_on_one_machine(self) -> None:
        """The unit of `coldchain up`, which the page names too, on the second server when it has left the province."""
        self.second.say(promises.COUNTY)
        await_("/readyz is 200 on one machine", lambda: promises.ready_alone(self.second))
        self.second.say("systemctl kill --kill-whom=main --signal=KILL coldchain; sleep 5")
        await_("/readyz is 200 after the supervisor was killed", lambda: promises.ready_alone(self.second))
        begun = time.monotonic()
        self.second.say("systemctl stop coldchain")
        said = self.second.say("journalctl --unit=coldchain --no-pager | grep -i 'timed out\\|sigkill' || true")[1]
        assert "timed out" not in said, said
        tell(f"   ok   it ended in {time.monotonic() - begun:.1f} s")

    def phone(self, messages: int) -> tuple[bool, object]:
        received = promises.on_the_phone(self.server)
        told = [
            (message.get("template_id") or message.get("template"), message.get("client_msg_id"))
            for message in received
        ]
        return len(received) == messages, told

    def told_once(self) -> None:
        so, seen = self.phone(1)
        if not so:
            sys.exit(f"   NOT  one alarm, one message: {seen}")


def _active(machine: Machine) -> tuple[bool, str]:
    said = machine.say("systemctl list-units --plain --no-legend --state=active 'coldchain-*'")[1]
    return said.count("coldchain-") >= 2, f"{said.count(' running ')} running"


def _counted(said: str) -> tuple[bool, str]:
    return int(said) > 0, f"{said.strip()} times"


def source(target: Path, *, committed: bool) -> None:
    """Put the source where the page expects it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    what = ["archive", "HEAD"] if committed else ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(["git", *what], cwd=ROOT, capture_output=True, check=True).stdout
    if not committed:
        there = [path for path in listed.split(b"\0") if path and (ROOT / os.fsdecode(path)).exists()]
        pack = ["tar", "-c", "--null", "--files-from=-"]
        listed = subprocess.run(pack, cwd=ROOT, input=b"\0".join(there), capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(target)], input=listed, check=True)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--influxd", type=Path, required=True, help="the binary that .ci/influxd/build prints")
    asked.add_argument("--folder", type=Path, default=Path("/var/tmp/coldchain-walk"))
    asked.add_argument("--suite", default="bookworm")
    asked.add_argument("--mirror", default="http://deb.debian.org/debian")
    asked.add_argument("--env", action="append", default=[], metavar="KEY=VALUE", help="set in the machines, for pip")
    asked.add_argument("--copy", action="append", default=[], metavar="FILE", help="the same path in the machines")
    asked.add_argument("--committed", action="store_true", help="HEAD, not the files as they are")
    asked.add_argument("--keep", action="store_true", help="leave the folder, and the machines until Enter")
    asked.add_argument("--behind", default="", metavar="HEADING", help="go on behind a part, in a folder that was kept")
    how = asked.parse_args()
    base = debian(how.folder, suite=how.suite, mirror=how.mirror)
    names = {host: f"{NET}.{NUMBERS[name]}" for host, name in NAMES.items()}
    with contextlib.ExitStack() as ending:
        if not how.keep:
            ending.callback(shutil.rmtree, how.folder, ignore_errors=True)
        ending.callback(Network().close)
        machines = {}
        for name in MACHINES:
            disk = how.folder / name
            if not how.behind:
                shutil.rmtree(disk, ignore_errors=True)
                subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(disk)], check=True)
            source(disk / "root/coldchain", committed=how.committed)
            for path in how.copy:
                (disk / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, disk / path.lstrip("/"))
            machines[name] = Machine(name, NUMBERS[name], disk, names, how.env)
            ending.callback(machines[name].stop)
            machines[name].boot()
        shutil.copy(how.influxd, how.folder / "server/root/influxd")
        (how.folder / "server/root/wechat-secret").write_text("demo-secret\n")
        Walk(machines).go(how.behind)
        if how.keep and sys.stdin.isatty():
            input("All is as promised. The machines are up until Enter: ")
    tell("== all is as promised")


if __name__ == "__main__":
    main()
