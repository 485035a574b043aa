"""Bare Debian systems that boot with their own systemd, on a network of their own behind this machine.

A machine is a folder made by debootstrap, booted by systemd-nspawn. Commands run in its namespaces. All that is made
here (bridge, network namespaces, rules, processes) is taken away by `Network.close` and `Machine.stop`.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

BRIDGE = "cold-trial"
NET = "10.77.0"


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(*words: str, text: str | None = None, quiet: bool = False) -> str:
    """Run a command of this machine; a failure ends the trial with what it said."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode and not quiet:
        sys.exit(f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Network:
    """A bridge, with a way out that hides its machines behind this one's address."""

    RULES = (
        ("nat", "POSTROUTING", "-s", f"{NET}.0/24", "!", "-d", f"{NET}.0/24", "-j", "MASQUERADE"),
        ("filter", "FORWARD", "-i", BRIDGE, "-j", "ACCEPT"),
        ("filter", "FORWARD", "-o", BRIDGE, "-j", "ACCEPT"),
    )

    def __init__(self) -> None:
        self.close()
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{NET}.1/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        forward = Path("/proc/sys/net/ipv4/ip_forward")
        self._forwarded = forward.read_text()
        forward.write_text("1")
        for table, chain, *rule in self.RULES:
            run("iptables", "-t", table, "-I", chain, *rule)

    def close(self) -> None:
        for table, chain, *rule in self.RULES:
            run("iptables", "-t", table, "-D", chain, *rule, quiet=True)
        run("ip", "link", "del", BRIDGE, quiet=True)
        if hasattr(self, "_forwarded"):
            Path("/proc/sys/net/ipv4/ip_forward").write_text(self._forwarded)


class Machine:
    """One Debian. `root` is its disk, seen from here."""

    def __init__(
        self, name: str, number: int, root: Path, names: Mapping[str, str], environment: Sequence[str]
    ) -> None:
        """`names` is host name → machine address for its /etc/hosts; `environment` is set for every command."""
        self.name = name
        self.root = root
        self.address = f"{NET}.{number}"
        self._netns = f"cold-{name}"
        self._environment = environment
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0
        hosts = ["127.0.0.1 localhost", *(f"{address} {host}" for host, address in names.items())]
        (root / "etc/hosts").write_text("\n".join(hosts) + "\n")
        (root / "etc/hostname").write_text(f"{name}\n")
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")

    def boot(self) -> None:
        self._unplug()
        run("ip", "netns", "add", self._netns)
        run("ip", "link", "add", f"c-{self.name}", "type", "veth", "peer", "name", "host0", "netns", self._netns)
        run("ip", "link", "set", f"c-{self.name}", "master", BRIDGE, "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{self.address}/24", "dev", "host0"),
            ("link", "set", "host0", "up"),
            ("route", "add", "default", "via", f"{NET}.1"),
        ):
            run("ip", "-n", self._netns, *words)
        self._nspawn = subprocess.Popen(
            [
                *("systemd-nspawn", "--quiet", "--boot", f"--machine={self.name}", "-D", str(self.root)),
                *("--register=no", "--keep-unit", "--console=pipe", "--kill-signal=SIGRTMIN+3"),
                *(f"--network-namespace-path=/run/netns/{self._netns}", "--resolv-conf=off"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=(self.root.parent / f"{self.name}.console").open("wb"),
            stderr=subprocess.STDOUT,
        )
        deadline = time.monotonic() + 60
        while self.say("systemctl is-system-running --wait", bear=True)[1].strip() not in ("running", "degraded"):
            if time.monotonic() > deadline or self._nspawn.poll() is not None:
                sys.exit(f"{self.name} did not boot; see {self.root.parent / f'{self.name}.console'}")
            time.sleep(0.5)

    def say(
        self, script: str, *, bear: bool = False, shell: Sequence[str] = ("bash", "-euo", "pipefail", "-c")
    ) -> tuple[int, str]:
        """Run a script as root in a fresh shell; unless borne, a failure ends the trial."""
        if not self._alive():
            return 1, ""
        # No terminal, and an environment of its own, as after a sign-in.
        words = [
            "nsenter",
            "--all",
            f"--target={self._init}",
            "--wdns=/root",
            "env",
            "-i",
            "HOME=/root",
            "LANG=C.UTF-8",
        ]
        words += ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive"]
        done = subprocess.run(
            [*words, *self._environment, *shell, script],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if done.returncode and not bear:
            sys.exit(f"{self.name}: ended with {done.returncode}:\n{script}\n--- said:\n{done.stdout}")
        return done.returncode, done.stdout

    def stop(self) -> None:
        if self._nspawn is not None:
            self._nspawn.terminate()
            try:
                self._nspawn.wait(30)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        self._unplug()

    def _unplug(self) -> None:
        run("ip", "link", "del", f"c-{self.name}", quiet=True)
        run("ip", "netns", "del", self._netns, quiet=True)

    def _alive(self) -> bool:
        """Whether its init is there; finds it, the process below nspawn that is number 1 inside."""
        assert self._nspawn is not None
        if not self._init:
            for child in run("pgrep", "-P", str(self._nspawn.pid), quiet=True).split():
                status = Path(f"/proc/{child}/status")
                inside = [line.split()[1:] for line in status.read_text().splitlines() if line.startswith("NSpid:")]
                if inside and inside[0][-1] == "1" and len(inside[0]) > 1:
                    self._init = int(child)
        return bool(self._init) and Path(f"/proc/{self._init}").exists()


def debian(folder: Path, *, suite: str, mirror: str) -> Path:
    """Return the disk of a Debian that has nothing but what a fresh server has; made once, then copied."""
    base = folder / "base"
    if not (base / "etc/debian_version").exists():
        shutil.rmtree(base, ignore_errors=True)
        tell(f"== debootstrap {suite}")
        run(
            "debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dbus,iproute2", suite, str(base), mirror
        )
        (base / "etc/machine-id").write_text("")
    return base
