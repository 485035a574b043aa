"""Small county on a stepped clock for scenario tests: devices, broker, services and WeChat, each in its own process.

A step of the clock is a barrier: when `forward` returns, agent, collectors and alerting have done everything that was
due. The same test runs on two kinds of installation, here called pairs. `embedded` is one machine with one process for
each service. `servers` is Mosquitto, InfluxDB and PostgreSQL with two collectors, two writers and two alerting
workers, each for half of the shards, and two API processes.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from coldchain.demo.environment import HOST, DemoEnvironment, SimulatedDevice, SimulatedGateway, free_port
from coldchain.importing import import_file
from coldchain.supervisor import Service, Supervisor
from config.settings import Settings
from core.db.engine import Records, connect, url_for
from core.migrations.migrate import upgrade
from core.runtime.barrier import Barrier
from core.runtime.clock import ClockKeeper
from core.runtime.instant import MINUTE, SECOND, Instant, parse
from core.units.actor import OPERATOR
from tests.fixtures.servers import Pair, Servers
from tests.fixtures.waiting import until
from tests.scenario.people import Phone

START = parse("2026-03-28T22:00:00+08:00")
LEVELS = {1: "openid-manager", 2: "openid-head", 3: "openid-director"}
LOW, HIGH = "10002", "10001"
"""Gateways in the first and in the second half of the shards; on `servers` each belongs to another worker."""
HALVES = ("00-7f", "80-ff")
LONGEST_S = 180.0
"""Time-out for the start of services and for a step of the clock. Both take seconds, on a busy machine half a
minute."""

PEOPLE = """
since = 2020-01-01T00:00:00+08:00
[[unit]]
code = "610103"
name = "碑林区疾控中心"
kind = "cdc"
level = "county"
[[unit]]
code = "6101030203"
name = "文艺路社区卫生服务中心"
kind = "pov"
level = "township"
parent = "610103"
[[person]]
unit = "6101030203"
name = "王小梅"
levels = [1]
openid = "openid-manager"
[[person]]
unit = "6101030203"
name = "李建军"
levels = [2]
openid = "openid-head"
[[person]]
unit = "6101030203"
name = "周敏"
levels = [3]
openid = "openid-director"
"""


class Fridge(msgspec.Struct, frozen=True):
    """Fridge with one refrigerated zone; `probes` has the gateway number of each probe code."""

    code: str
    name: str
    probes: Mapping[str, str]
    kind: str = "冰箱"
    zone: str = "冷藏"
    forgotten: bool = False
    """Its probes are read, but it is not in the records yet."""


class County:
    """The county, with the actions and questions of a scenario test."""

    def __init__(
        self,
        stage: DemoEnvironment,
        settings: Settings,
        keeper: ClockKeeper,
        fridges: Sequence[Fridge],
        servers: Servers | None = None,
        interval_s: int = 60,
    ) -> None:
        self.stage = stage
        self.interval_s = interval_s
        self.settings = settings
        self.servers = servers
        """Servers of the installation; None if it is embedded."""
        self.second_api_port = free_port() if servers else 0
        self.records = Records(connect(url_for(settings.records.url, settings.data_dir)))
        self.keeper = keeper
        self.fridges = {fridge.name: fridge for fridge in fridges}
        self.shown: dict[str, float | None] = {}
        self.order = ["gateway_agent", "collector", "writer", "alerting"]
        """Process names in the order in which a step of the clock waits for them."""
        if servers:
            # A zone may have probes in both halves: what one worker finds, the other must continue with, so twice each.
            line = ("gateway_agent", "collector", "collector-2", "writer", "writer-2")
            self.order = [*line, *("alerting", "alerting-2") * 2]
        self._phones = {level: Phone(stage.wechat_url, openid) for level, openid in LEVELS.items()}

    @property
    def now(self) -> Instant:
        return self.keeper.now()

    def services(self) -> list[Service]:
        """Return the services, one for each process, for a supervisor."""
        if not self.servers:
            return self.stage.services()
        first, second = HALVES
        names = ["collector", "writer", "alerting", "api", "gateway"]
        (collector, writer, alerting, api, gateway) = self.stage.services(names)
        return [
            changed(collector, **{"collector.shards": first}),
            changed(collector, "collector-2", **{"collector.client_id": "collector-2", "collector.shards": second}),
            changed(writer, **{"writer.shards": first}),
            changed(writer, "writer-2", **{"writer.worker": "writer-2", "writer.shards": second}),
            changed(alerting, **{"alerting.shards": first}),
            changed(alerting, "alerting-2", **{"alerting.worker": "alerting-2", "alerting.shards": second}),
            api,
            changed(api, "api-2", **{"api.name": "api-2", "api.port": self.second_api_port}),
            gateway,
        ]

    def elsewhere(self, url: str) -> str:
        """Return a link with the address of the second API process; unchanged if there is only one."""
        if not self.servers:
            return url
        second = f"http://{HOST}:{self.second_api_port}"
        assert url.startswith(self.stage.url)
        return url.replace(self.stage.url, second, 1)

    def phone(self, level: int) -> Phone:
        return self._phones[level]

    def show(self, fridge: str, celsius: float | None) -> None:
        """Set the temperature that all probes of a fridge measure from now on."""
        for probe in self.fridges[fridge].probes:
            self.shown[probe] = celsius

    def forward(self, *, minutes: int = 0, seconds: int = 0, every: int = 60) -> None:
        """Move the clock forward, one polling interval at each step."""
        end = Instant(self.now + minutes * MINUTE + seconds * SECOND)
        while self.now < end:
            next_poll = (self.now // (every * SECOND) + 1) * every * SECOND
            self.step(Instant(min(end, next_poll)))

    def step(self, to: Instant) -> None:
        Barrier(self.stage.clock_file).wait(self.order, self.keeper.step_to(to), within_s=LONGEST_S)

    def forward_until_alarm(self, *, within: int = 30) -> int:
        """Move the clock forward until level 1 gets a new alarm message; return the minutes."""
        before = len(self.phone(1).alarms())
        for minute in range(1, within + 1):
            self.forward(minutes=1)
            if len(self.phone(1).alarms()) > before:
                return minute
        raise AssertionError(f"no alarm within {within} min")

    def enter_at_last(self, fridge: str) -> None:
        """Enter a forgotten fridge into the records as an operator would, with a beginning in 2020."""
        forgotten_fridge = self.fridges[fridge]
        assert forgotten_fridge.forgotten
        parts = ["since = 2020-01-01T00:00:00+08:00", *_written([forgotten_fridge], self.interval_s)]
        _import(self.stage, self.settings, f"{forgotten_fridge.code}.toml", parts)

    def close(self) -> None:
        for phone in self._phones.values():
            phone.close()
        self.records.close()


def enter(stage: DemoEnvironment, settings: Settings, fridges: Sequence[Fridge], interval_s: int) -> None:
    """Import the county as an operator would."""
    gateways = sorted({gateway for fridge in fridges for gateway in fridge.probes.values()})
    parts = [PEOPLE]
    parts += [f'[[gateway]]\nnumber = "{number}"\nunit = "6101030203"\n' for number in gateways]
    parts += _written([fridge for fridge in fridges if not fridge.forgotten], interval_s)
    _import(stage, settings, "county.toml", parts)


def _written(fridges: Sequence[Fridge], interval_s: int) -> list[str]:
    parts = []
    for fridge in fridges:
        parts.append(
            f'[[equipment]]\ncode = "{fridge.code}"\nname = "{fridge.name}"\nkind = "{fridge.kind}"\n'
            f'unit = "6101030203"\nzones = ["{fridge.zone}"]\n'
        )
        parts += [
            f'[[probe]]\ncode = "{probe}{fridge.zone}"\ngateway = "{gateway}"\nequipment = "{fridge.code}"\n'
            f'interval = "{interval_s}s"\n'
            for probe, gateway in fridge.probes.items()
        ]
    return parts


def _import(stage: DemoEnvironment, settings: Settings, name: str, parts: Sequence[str]) -> None:
    file = stage.folder / name
    file.write_text("\n".join(parts), "utf-8")
    records = Records(connect(url_for(settings.records.url, settings.data_dir)))
    upgrade(records.engine)
    report = import_file(records, settings.data_dir, file, actor=OPERATOR, now=START)
    assert not report.mistakes, report.mistakes
    records.close()


def changed(service: Service, name: str = "", **settings: object) -> Service:
    """Return a service with other settings, and with another name if one is given."""
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return Service(name or service.name, (*service.arguments, *options))


def boxes_of(fridges: Sequence[Fridge]) -> list[SimulatedGateway]:
    """Return one R4DCB08 device for each gateway, with its probes on channels t1, t2 …"""
    probes: dict[str, list[str]] = {}
    for fridge in fridges:
        for probe, gateway in fridge.probes.items():
            probes.setdefault(gateway, []).append(probe)
    return [
        SimulatedGateway(
            number, [SimulatedDevice(1, "r4dcb08", {f"t{place}": probe for place, probe in enumerate(codes, 1)})]
        )
        for number, codes in probes.items()
    ]


@contextmanager
def staged(
    folder: Path,
    fridges: Sequence[Fridge],
    pair: Pair = "embedded",
    *,
    speed: float = 0,
    start: Instant = START,
    interval_s: int = 60,
    more: Mapping[str, Mapping[str, object]] | None = None,
) -> Iterator[County]:
    """Yield a county with running devices and servers; its services are not started."""
    servers = Servers() if pair == "servers" else None
    settings_of: dict[str, Mapping[str, object]] = {"agent": {"resend_after": 1.0}, "alerting": {"tick": 0.5}}
    for laid_over in (servers.settings() if servers else {}, more or {}):
        for name, values in laid_over.items():
            settings_of[name] = {**settings_of.get(name, {}), **values}
    shown: dict[str, float | None] = {}
    stage = DemoEnvironment(
        folder,
        boxes_of(fridges),
        lambda probe, _channel: shown.get(probe, 5.0),
        interval_s=float(interval_s),
        more=settings_of,
    )
    keeper = ClockKeeper(stage.clock_file, start=start, speed=speed)
    settings = stage.prepare()
    if servers:
        servers.set_up(settings)
    enter(stage, settings, fridges, interval_s)
    county = County(stage, settings, keeper, fridges, servers, interval_s)
    county.shown = shown
    try:
        if servers:
            servers.start(settings)
        yield county
    finally:
        county.close()
        keeper.close()
        stage.close()
        if servers:
            servers.close()


@contextmanager
def running(county: County, services: Sequence[Service] | None = None) -> Iterator[Supervisor]:
    """Run WeChat and the services, each in its own process; yield once all answer and the phones are registered.

    `services` are those of the county, unless given.
    """
    logs, services = county.stage.folder / "log", [county.stage.wechat(), *(services or county.services())]
    supervisor = Supervisor(services, log_folder=logs)
    supervisor.check_processes()

    def answers_yet(url: str) -> bool:
        for service in services:  # the supervisor is not running here, so a service that ended will never answer
            log_file = logs / f"{service.name}.log"
            assert supervisor.pid(service.name), f"{service.name} ended: {log_file.read_text()[-2000:]}"
        return answers(url)

    try:
        apis = sorted({county.stage.url, county.elsewhere(county.stage.url)})
        for url in (f"{county.stage.wechat_url}/sim/log", *(f"{api}/healthz" for api in apis)):
            until(lambda url=url: answers_yet(url), f"an answer of {url}", within_s=LONGEST_S)
        register_phones(county)
        if county.keeper.speed == 0:
            county.step(county.now)
        yield supervisor
    finally:
        supervisor.end()


def register_phones(county: County) -> None:
    until(lambda: answers(f"{county.stage.wechat_url}/sim/log"), "the WeChat simulator", within_s=LONGEST_S)
    users = [{"openid": openid, "name": openid} for openid in LEVELS.values()]
    httpx.post(f"{county.stage.wechat_url}/sim/users", json=users, timeout=30, trust_env=False).raise_for_status()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False


def python(*arguments: str, folder: Path) -> "subprocess.Popen[str]":
    """Start `coldchain` with arguments, as an operator would; its output goes to a file."""
    with (folder / f"{arguments[0]}.out").open("a") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "coldchain", *arguments],
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            text=True,
        )
