"""What can be set in `coldchain.toml`, with the default and the meaning of each.

docs/settings.md is written from this module, and a test fails when it isn't up to date. `config.load` reads files.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 takes a free one")]
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

    embedded: Annotated[bool, Meta(description="`coldchain up` runs a broker of its own")] = True
    host: str = "127.0.0.1"
    port: Port = 1883
    tls_ca: Annotated[str, Meta(description="CA file; empty: no TLS")] = ""
    tls_cert: Annotated[str, Meta(description="client certificate file")] = ""
    tls_key: Annotated[str, Meta(description="key file of the client certificate")] = ""
    username: Annotated[str, Meta(description="of the services; gateways use their number")] = "coldchain"
    protocol: Annotated[
        Literal["3.1.1", "5"], Meta(description="the embedded broker speaks 3.1.1; use 5 with Mosquitto")
    ] = "3.1.1"


class Records(Section, frozen=True, kw_only=True):
    """Where units, devices, alarms and people are kept."""

    url: Annotated[
        str,
        Meta(description="SQLAlchemy URL (sqlite or postgresql+psycopg); empty: records.db in data_dir"),
    ] = ""


class Intake(Section, frozen=True, kw_only=True):
    """The durable hand-over between collector and its readers."""

    url: Annotated[
        str, Meta(description="sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE; empty: intake.db in data_dir")
    ] = ""
    keep: Annotated[Seconds, Meta(description="seconds a row stays after all readers have passed it")] = 86_400.0


class Telemetry(Section, frozen=True, kw_only=True):
    """Where readings are kept for good."""

    store: Annotated[
        Literal["embedded", "influxdb"], Meta(description="influxdb: InfluxDB 2, set up by `coldchain telemetry init`")
    ] = "embedded"
    folder: Annotated[str, Meta(description="of the embedded store; empty: telemetry/ in data_dir")] = ""
    url: Annotated[str, Meta(pattern=r"^https?://\S+$", description="of InfluxDB; its tokens are in secrets.json")] = (
        "http://127.0.0.1:8086"
    )
    tls_ca: Annotated[str, Meta(description="CA file of an https InfluxDB; empty: the system's")] = ""
    org: Annotated[str, Meta(min_length=1, description="organisation in InfluxDB")] = "coldchain"
    bucket: Annotated[Name, Meta(description="bucket in InfluxDB")] = "readings"
    timeout: Annotated[Seconds, Meta(description="seconds for one request to InfluxDB")] = 10.0


class UnitOnBus(Section, frozen=True, kw_only=True):
    """One Modbus device."""

    address: Annotated[int, Meta(ge=1, le=247)]
    profile: Annotated[Name, Meta(description="a file in config/devices, without .toml")]
    probes: Annotated[
        dict[str, str],
        Meta(description='channel of the profile = probe code, such as {"t1" = "208601"}'),
    ]


class Bus(Section, frozen=True, kw_only=True):
    """One Modbus line: one task reads it, one request at a time."""

    name: Name
    kind: Annotated[Literal["tcp", "rtu", "rtu-over-tcp"], Meta(description="how it is reached")]
    host: Annotated[str, Meta(description="tcp and rtu-over-tcp")] = ""
    port: Port = 502
    device: Annotated[str, Meta(description="rtu: serial device")] = ""
    baud: Annotated[int, Meta(ge=0, description="rtu: 0 takes the profile's")] = 0
    parity: Literal["N", "E", "O", ""] = ""
    stop_bits: Annotated[int, Meta(ge=0, le=2)] = 0
    interval: Annotated[Seconds, Meta(description="seconds between two readings of a unit")] = 60.0
    latency: Annotated[
        float, Meta(ge=0, le=10, description="seconds that a radio or serial server adds to a device's answer at most")
    ] = 0.0
    units: list[UnitOnBus]


class GatewayBox(Section, frozen=True, kw_only=True):
    """A gateway that this agent is: its number, and the lines that it reads."""

    number: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$", description="`gw` on the wire")]
    buses: list[Bus]


class Agent(Section, frozen=True, kw_only=True):
    """The edge process `coldchain gateway`."""

    folder: Annotated[str, Meta(description="of the spools; empty: spool/ in data_dir")] = ""
    resend_after: Annotated[Seconds, Meta(description="seconds until an unacknowledged batch is sent again")] = 30.0
    in_flight: Annotated[int, Meta(ge=1, le=1000, description="unacknowledged batches at most")] = 20
    spool_bytes: Annotated[int, Meta(ge=65_536, description="size at which the oldest are dropped")] = 512 * 2**20
    spool_age: Annotated[Seconds, Meta(description="seconds; older ones are dropped")] = 90 * 86_400.0
    backfill_rate: Annotated[Seconds, Meta(description="batches a second of the backlog")] = 50.0
    back_off: Annotated[Seconds, Meta(description="seconds that a silent device is left alone at most")] = 60.0
    gateways: list[GatewayBox] = []


class Collector(Section, frozen=True, kw_only=True):
    """The ingest process."""

    client_id: Name = "collector-1"
    shards: Annotated[str, Meta(pattern=r"^[0-9a-f]{2}-[0-9a-f]{2}$", description="range of shards it owns")] = "00-ff"
    group: Annotated[int, Meta(ge=1, description="messages in one commit at most")] = 1000
    linger: Annotated[float, Meta(ge=0, description="seconds to wait for more before a commit")] = 0.0

    @property
    def process(self) -> str:
        """Name of its lock, its status and its answers to a stepped clock: `collector` unless it has its own id."""
        return _process("collector", self.client_id, Collector().client_id)


class Alerting(Section, frozen=True, kw_only=True):
    """The alarm process."""

    worker: Name = "alerting-1"
    shards: Annotated[str, Meta(pattern=r"^[0-9a-f]{2}-[0-9a-f]{2}$")] = "00-ff"
    tick: Annotated[Seconds, Meta(description="real seconds between two looks at due steps and the outbox")] = 0.5
    poll: Annotated[Seconds, Meta(description="real seconds between two looks at the log without a wake")] = 1.0
    lease: Annotated[Seconds, Meta(description="seconds that a worker may hold a message")] = 60.0
    channels: Annotated[tuple[str, ...], Meta(description="tried in this order")] = ("wechat",)
    dead_man_url: Annotated[str, Meta(description="asked every minute while all is well; empty: nobody")] = ""

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
    template_alarm: Annotated[str, Meta(description="template id of alarm messages")] = ""
    template_recovery: Annotated[str, Meta(description="template id of back-to-normal messages")] = ""
    timeout: Annotated[Seconds, Meta(description="seconds a request; alerting.lease must exceed six of them")] = 8.0
    rate: Annotated[float, Meta(gt=0, description="messages a second at most")] = 200.0


class Api(Section, frozen=True, kw_only=True):
    """The HTTP process."""

    name: Annotated[Name, Meta(description="of this one, where several run on one data_dir")] = "api-1"
    host: str = "127.0.0.1"
    port: Port = 8080
    session: Annotated[Seconds, Meta(description="seconds that a sign-in lasts")] = 12 * 3600.0
    link: Annotated[Seconds, Meta(description="seconds that the link in a message serves")] = 7 * 86_400.0
    metrics: Annotated[
        tuple[str, ...],
        Meta(description='networks that may ask for /metrics besides the machine itself, such as ["10.0.3.0/24"]'),
    ] = ()

    @property
    def process(self) -> str:
        """Name of its lock and its status: `api` unless it has its own name."""
        return _process("api", self.name, Api().name)


class Settings(Section, frozen=True, kw_only=True):
    """All of `coldchain.toml`."""

    data_dir: Annotated[str, Meta(description="folder of everything that is kept")] = "coldchain-data"
    public_url: Annotated[str, Meta(description="how phones reach the API; starts every link")] = (
        "http://127.0.0.1:8080"
    )
    timezone: Annotated[str, Meta(description="of sites whose unit names none")] = "Asia/Shanghai"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    virtual_clock: Annotated[str, Meta(description="clock file of a demo or a test; empty: the machine's clock")] = ""
    broker: Broker = Broker()
    records: Records = Records()
    intake: Intake = Intake()
    telemetry: Telemetry = Telemetry()
    agent: Agent = Agent()
    collector: Collector = Collector()
    alerting: Alerting = Alerting()
    wechat: Wechat = Wechat()
    api: Api = Api()
