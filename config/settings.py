"""What can be set in `coldchain.toml`, with the default and the meaning of each.

The meaning of each is in `text/`, in both languages; docs/settings.md and docs/settings.zh-CN.md are written from both,
and a test fails when a page isn't up to date or a meaning is missing. `config.load` reads files.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


def _process(service: str, worker: str, first: str) -> str:
    """Return what one of several processes of a service is called where they meet on one machine."""
    if worker == first:
        return service
    return worker if worker.startswith(service) else f"{service}-{worker}"


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of the file; an unknown key in it is refused."""


class Broker(Section, frozen=True, kw_only=True):
    """Where MQTT is spoken."""

    embedded: bool = True
    host: str = "127.0.0.1"
    port: Port = 1883
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    username: str = "coldchain"
    protocol: Literal["3.1.1", "5"] = "3.1.1"


class Records(Section, frozen=True, kw_only=True):
    """Where units, devices, alarms and people are kept."""

    url: str = ""


class Intake(Section, frozen=True, kw_only=True):
    """The durable hand-over between collector and its readers."""

    url: str = ""
    keep: Seconds = 86_400.0


class Telemetry(Section, frozen=True, kw_only=True):
    """Where readings are kept for good."""

    store: Literal["embedded", "influxdb"] = "embedded"
    folder: str = ""
    url: Annotated[str, Meta(pattern=r"^https?://\S+$")] = "http://127.0.0.1:8086"
    tls_ca: str = ""
    org: Annotated[str, Meta(min_length=1)] = "coldchain"
    bucket: Name = "readings"
    timeout: Seconds = 10.0


class UnitOnBus(Section, frozen=True, kw_only=True):
    """One Modbus device."""

    address: Annotated[int, Meta(ge=1, le=247)]
    profile: Name
    probes: dict[str, str]


class Bus(Section, frozen=True, kw_only=True):
    """One Modbus line: one task reads it, one request at a time."""

    name: Name
    kind: Literal["tcp", "rtu", "rtu-over-tcp"]
    host: str = ""
    port: Port = 502
    device: str = ""
    baud: Annotated[int, Meta(ge=0)] = 0
    parity: Literal["N", "E", "O", ""] = ""
    stop_bits: Annotated[int, Meta(ge=0, le=2)] = 0
    interval: Seconds = 60.0
    latency: Annotated[float, Meta(ge=0, le=10)] = 0.0
    units: list[UnitOnBus]


class GatewayBox(Section, frozen=True, kw_only=True):
    """A gateway that this agent is: its number, and the lines that it reads."""

    number: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    buses: list[Bus]


class Agent(Section, frozen=True, kw_only=True):
    """The edge process `coldchain gateway`."""

    folder: str = ""
    profiles: str = "devices"
    resend_after: Seconds = 30.0
    in_flight: Annotated[int, Meta(ge=1, le=1000)] = 20
    spool_bytes: Annotated[int, Meta(ge=65_536)] = 512 * 2**20
    spool_age: Seconds = 90 * 86_400.0
    backfill_rate: Seconds = 50.0
    back_off: Seconds = 60.0
    gateways: list[GatewayBox] = []


class Collector(Section, frozen=True, kw_only=True):
    """The ingest process."""

    client_id: Name = "collector-1"
    shards: Annotated[str, Meta(pattern=r"^[0-9a-f]{2}-[0-9a-f]{2}$")] = "00-ff"
    group: Annotated[int, Meta(ge=1)] = 1000
    linger: Annotated[float, Meta(ge=0)] = 0.0

    @property
    def process(self) -> str:
        """Name of its lock, its status and its answers to a stepped clock: `collector` unless it has its own id."""
        return _process("collector", self.client_id, Collector().client_id)


class Alerting(Section, frozen=True, kw_only=True):
    """The alarm process."""

    worker: Name = "alerting-1"
    shards: Annotated[str, Meta(pattern=r"^[0-9a-f]{2}-[0-9a-f]{2}$")] = "00-ff"
    tick: Seconds = 0.5
    poll: Seconds = 1.0
    lease: Seconds = 60.0
    channels: tuple[str, ...] = ("wechat",)
    dead_man_url: str = ""

    @property
    def process(self) -> str:
        """Name of its lock, its status, its answers to a stepped clock, and at the broker.

        `alerting` unless it has its own name; what it has begins so.
        """
        return _process("alerting", self.worker, Alerting().worker)


class Wechat(Section, frozen=True, kw_only=True):
    """The official account that sends the alarms. Without an app_id messages stay queued and visible."""

    base_url: str = "https://api.weixin.qq.com"
    oauth_url: str = "https://open.weixin.qq.com"
    app_id: str = ""
    template_alarm: str = ""
    template_recovery: str = ""
    timeout: Seconds = 8.0
    rate: Annotated[float, Meta(gt=0)] = 200.0

    @property
    def is_complete(self) -> bool:
        """Whether messages can be sent with it. An account without its templates is none yet."""
        return bool(self.app_id and self.template_alarm and self.template_recovery)


class Api(Section, frozen=True, kw_only=True):
    """The HTTP process."""

    name: Name = "api-1"
    host: str = "127.0.0.1"
    port: Port = 8080
    session: Seconds = 12 * 3600.0
    link: Seconds = 7 * 86_400.0
    metrics: tuple[str, ...] = ()

    @property
    def process(self) -> str:
        """Name of its lock and its status: `api` unless it has its own name."""
        return _process("api", self.name, Api().name)


class Settings(Section, frozen=True, kw_only=True):
    """All of `coldchain.toml`."""

    data_dir: str = "coldchain-data"
    public_url: str = "http://127.0.0.1:8080"
    timezone: str = "Asia/Shanghai"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    virtual_clock: str = ""
    broker: Broker = Broker()
    records: Records = Records()
    intake: Intake = Intake()
    telemetry: Telemetry = Telemetry()
    agent: Agent = Agent()
    collector: Collector = Collector()
    alerting: Alerting = Alerting()
    wechat: Wechat = Wechat()
    api: Api = Api()

    @property
    def channels(self) -> tuple[str, ...]:
        """Return the channels of `alerting.channels` that are configured; whether a secret is there, `check` says."""
        configured = {"wechat": self.wechat.is_complete}
        return tuple(name for name in self.alerting.channels if configured.get(name))
