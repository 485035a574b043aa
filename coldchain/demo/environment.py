"""Stage of a demo or scenario: a folder, simulated devices on real sockets, and settings for one machine.

A stage has no clock of its own: whoever uses it keeps the virtual clock (`core.runtime.clock.ClockKeeper`).
"""

import json
import random
import socket
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path

import msgspec

from coldchain.simulate.modbus import ModbusDevices
from coldchain.supervisor import Service
from config import secrets
from config.settings import Settings
from config.settings_loader import load_settings
from core.runtime.clock import VirtualClock
from core.runtime.instant import Instant

HOST = "127.0.0.1"
LATENCY_S = 5.0
"""The devices answer from a thread that has other work on a busy machine."""
PORTS = "ports.json"
ONE_MACHINE = ("broker", "collector", "writer", "alerting", "api", "gateway")
"""Services of one machine."""
APP_ID = "wx-demo"
APP_SECRET = "demo-secret"  # noqa: S105 (of the simulator)


_PORTS = range(20_000, 32_768)
_turn = count(random.randrange(len(_PORTS)))  # noqa: S311  (no secret)
"""Each process begins at another port, so that two at once hardly take the same."""


class SimulatedDevice(msgspec.Struct, frozen=True):
    """A Modbus device: its unit address, its profile, and which probe each channel is."""

    address: int
    profile: str
    probes: Mapping[str, str]


class SimulatedGateway(msgspec.Struct, frozen=True):
    """A gateway and the devices on its one line."""

    number: str
    devices: Sequence[SimulatedDevice]


class Ports(msgspec.Struct):
    """Ports of the services, kept so that links of an earlier run still work."""

    api: int
    broker: int
    wechat: int


class DemoEnvironment:
    """The folder of a demo or scenario, its devices and its settings."""

    def __init__(
        self,
        folder: Path,
        boxes: Sequence[SimulatedGateway],
        read: Callable[[str, str], float | None],
        *,
        interval_s: float = 30.0,
        api_port: int = 0,
        more: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        """`read(probe code, channel)` is what a device shows; `more` are settings laid over the stage's own."""
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clock_file = self.folder / "clock" / "clock.json"
        self.config = self.folder / "coldchain.toml"
        self.ports = self._ports(api_port)
        self._boxes = boxes
        self._interval_s = interval_s
        self._more = more or {}
        self._clock: VirtualClock | None = None
        self.lines = {box.number: self._line(box, read) for box in boxes}

    @property
    def data_dir(self) -> str:
        """Folder of what the services keep."""
        return str(self.folder / "data")

    @property
    def url(self) -> str:
        """Where the pages are."""
        return f"http://{HOST}:{self.ports.api}"

    @property
    def wechat_url(self) -> str:
        """Where the WeChat simulator is."""
        return f"http://{HOST}:{self.ports.wechat}"

    def now(self) -> Instant:
        """Return what the virtual clock says, once somebody keeps it."""
        if self._clock is None:
            self._clock = VirtualClock(self.clock_file)
        return self._clock.now()

    def prepare(self) -> Settings:
        """Start the devices, make secrets and write the settings; returns them as a service would read them."""
        for line in self.lines.values():
            line.start()
        if not secrets.path_in(self.data_dir).exists():
            made = secrets.fresh("coldchain")
            secrets.write(self.data_dir, msgspec.structs.replace(made, wechat_secret=APP_SECRET))
        self.config.write_text(_toml(self._settings()), "utf-8")
        return load_settings(self.config)

    def wechat(self) -> Service:
        """Return the simulator as a child of the supervisor."""
        words = (
            "--port",
            str(self.ports.wechat),
            "--folder",
            str(self.folder / "wechat"),
            "--clock",
            str(self.clock_file),
        )
        return Service("wechat-sim", ("wechat-sim", *words))

    def services(self, names: Sequence[str] = ONE_MACHINE) -> list[Service]:
        """Return the services of one machine as children of the supervisor."""
        return [Service(name, (name, "--config", str(self.config))) for name in names]

    def close(self) -> None:
        """Stop the devices."""
        for line in self.lines.values():
            line.stop()

    def _line(self, box: SimulatedGateway, read: Callable[[str, str], float | None]) -> ModbusDevices:
        line = ModbusDevices(host=HOST, port=0)
        for device in box.devices:
            probes = dict(device.probes)

            def shown(channel: str, probes: dict[str, str] = probes) -> float | None:
                return read(probes[channel], channel) if channel in probes else None

            line.add(device.address, device.profile, shown)
        return line

    def _settings(self) -> dict[str, object]:
        gateways = [
            {
                "number": box.number,
                "buses": [
                    {
                        "name": "line-1",
                        "kind": "tcp",
                        "host": HOST,
                        "port": self.lines[box.number].port,
                        "interval": self._interval_s,
                        "latency": LATENCY_S,
                        "units": [msgspec.to_builtins(device) for device in box.devices],
                    }
                ],
            }
            for box in self._boxes
        ]
        own: dict[str, dict[str, object]] = {
            "broker": {"port": self.ports.broker},
            "api": {"port": self.ports.api},
            "agent": {"gateways": gateways},
            "wechat": {
                "base_url": self.wechat_url,
                "oauth_url": self.wechat_url,
                "app_id": APP_ID,
                "template_alarm": "alarm",
                "template_recovery": "recovery",
            },
        }
        for name, values in self._more.items():
            own[name] = {**own.get(name, {}), **values}
        top = {"data_dir": "data", "public_url": self.url, "virtual_clock": str(self.clock_file)}
        return {**top, **own}

    def _ports(self, api_port: int) -> Ports:
        """Take the ports of the last run where they are free, else others."""
        kept = self.folder / PORTS
        last = json.loads(kept.read_text()) if kept.exists() else {}
        if api_port and _free(api_port):
            last["api"] = api_port
        ports = Ports(**{name: free_port(last.get(name, 0)) for name in Ports.__struct_fields__})
        kept.write_text(json.dumps(msgspec.to_builtins(ports)))
        return ports


def address_in(folder: Path) -> str:
    """Return where the pages of the demo in a folder are, by what it keeps."""
    try:
        return f"http://{HOST}:{msgspec.json.decode((folder / PORTS).read_bytes(), type=Ports).api}"
    except (OSError, msgspec.MsgspecError):
        return ""


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(wanted: int = 0) -> int:
    """Return the wanted port of this machine if it is free, else another that this process was not given before.

    None of those that the system gives to connections (from 32768 on): one of these may be taken before it is used.

    Raises: OSError when none is free.
    """
    others = (_PORTS[next(_turn) % len(_PORTS)] for _ in _PORTS)
    for port in chain((wanted,) if wanted else (), others):
        if _free(port):
            return port
    msg = f"no free port on {HOST} from {_PORTS[0]} to {_PORTS[-1]}"
    raise OSError(msg)


def _toml(settings: Mapping[str, object]) -> str:
    """Write settings as TOML: plain values, then tables; what is inside them inline. Text is as JSON writes it."""
    plain = [f"{name} = {_value(value)}" for name, value in settings.items() if not isinstance(value, Mapping)]
    tables = [
        "\n".join([f"[{name}]", *(f"{key} = {_value(inner)}" for key, inner in value.items())])
        for name, value in settings.items()
        if isinstance(value, Mapping)
    ]
    return "\n\n".join(["\n".join(plain), *tables]) + "\n"


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(name)} = {_value(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False)
