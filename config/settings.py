"""Settings of `coldchain.toml`, with their types and defaults.

Their meaning is in `text/`, in both languages. docs/settings.md and docs/settings.zh-CN.md are generated from both; a
test fails if a page isn't up to date or a meaning is missing. `config.settings_loader` reads files.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


def _process(service: str, worker: str, first: str) -> str:
    """Return the name of a process, unique among the processes of one machine."""
    if worker == first:
        return service
    return worker if worker.startswith(service) else f"{service}-{worker}"


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Table of the file. An unknown key in it is refused."""


class BrokerSettings(Section, frozen=True, kw_only=True):
    """Settings of the MQTT broker."""

    embedded: bool = True
    host: str = "127.0.0.1"
    port: Port = 1883
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    username: str = "coldchain"
    protocol: Literal["3.1.1", "5"] = "3.1.1"


class RecordsSettings(Section, frozen=True, kw_only=True):
    """Settings of the records: units, devices, alarms and people."""

    url: str = ""


class IntakeSettings(Section, frozen=True, kw_only=True):
    """Settings of the intake log, the durable queue between the collector and its readers."""

    url: str = ""
    keep: Seconds = 86_400.0


class TelemetrySettings(Section, frozen=True, kw_only=True):
    """Settings of the telemetry store, which keeps readings permanently."""

    store: Literal["embedded", "influxdb"] = "embedded"
    folder: str = ""
    url: Annotated[str, Meta(pattern=r"^https?://\S+$")] = "http://127.0.0.1:8086"
    tls_ca: str = ""
    org: Annotated[str, Meta(min_length=1)] = "coldchain"
    bucket: Name = "readings"
    timeout: Seconds = 10.0


class DeviceOnBus(Section, frozen=True, kw_only=True):
    """Modbus device on a bus."""

    address: Annotated[int, Meta(ge=1, le=247)]
    profile: Name
    probes: dict[str, str]


class BusSettings(Section, frozen=True, kw_only=True):
    """Modbus line. One task reads it, one request at a time."""

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
    units: list[DeviceOnBus]


class GatewaySettings(Section, frozen=True, kw_only=True):
    """Gateway that this agent acts as: its number, and the lines that it reads."""

    number: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    buses: list[BusSettings]


class AgentSettings(Section, frozen=True, kw_only=True):
    """Settings of the edge process `coldchain gateway`."""

    folder: str = ""
    profiles: str = "devices"
    resend_after: Seconds = 30.0
    in_flight: Annotated[int, Meta(ge=1, le=1000)] = 20
    spool_bytes: Annotated[int, Meta(ge=65_536)] = 512 * 2**20
    spool_age: Seconds = 90 * 86_400.0
    backfill_rate: Seconds = 50.0
    back_off: Seconds = 60.0
    gateways: list[GatewaySettings] = []


class CollectorSettings(Section, frozen=True, kw_only=True):
    """Settings of the ingest process."""

    client_id: Name = "collector-1"
    shards: Annotated[str, Meta(pattern=r"^[0-9a-f]{2}-[0-9a-f]{2}$")] = "00-ff"
    group: Annotated[int, Meta(ge=1)] = 1000
    linger: Annotated[float, Meta(ge=0)] = 0.0

    @property
    def process(self) -> str:
        """Name for its lock, status file and clock barrier: `collector` unless it has its own client id."""
        return _process("collector", self.client_id, CollectorSettings().client_id)


class WriterSettings(Section, frozen=True, kw_only=True):
    """Settings of the process that writes telemetry and daily figures."""

    worker: Name = "writer-1"
    shards: Annotated[str, Meta(pattern=r"^[0-9a-f]{2}-[0-9a-f]{2}$")] = "00-ff"

    @property
    def process(self) -> str:
        """Name for its lock, status file and clock barrier: `writer` unless the worker has its own name."""
        return _process("writer", self.worker, WriterSettings().worker)


class AlertingSettings(Section, frozen=True, kw_only=True):
    """Settings of the alarm process."""

    worker: Name = "alerting-1"
    shards: Annotated[str, Meta(pattern=r"^[0-9a-f]{2}-[0-9a-f]{2}$")] = "00-ff"
    tick: Seconds = 0.5
    poll: Seconds = 1.0
    lease: Seconds = 60.0
    channels: tuple[str, ...] = ("wechat",)
    dead_man_url: str = ""

    @property
    def process(self) -> str:
        """Name for its lock, status file, clock barrier and MQTT client.

        It is `alerting` unless the worker has its own name, and always begins with `alerting`.
        """
        return _process("alerting", self.worker, AlertingSettings().worker)


class WechatSettings(Section, frozen=True, kw_only=True):
    """Settings of the official account that sends alarms. Without an app_id messages stay queued and visible."""

    base_url: str = "https://api.weixin.qq.com"
    oauth_url: str = "https://open.weixin.qq.com"
    app_id: str = ""
    template_alarm: str = ""
    template_recovery: str = ""
    timeout: Seconds = 8.0
    rate: Annotated[float, Meta(gt=0)] = 200.0

    @property
    def is_complete(self) -> bool:
        """Whether messages can be sent: the account and both templates are set."""
        return bool(self.app_id and self.template_alarm and self.template_recovery)


class ApiSettings(Section, frozen=True, kw_only=True):
    """Settings of the HTTP process."""

    name: Name = "api-1"
    host: str = "127.0.0.1"
    port: Port = 8080
    session_ttl: Seconds = 12 * 3600.0
    password_ttl: Seconds = 90 * 86_400.0
    link_ttl: Seconds = 7 * 86_400.0
    metrics: tuple[str, ...] = ()

    @property
    def process(self) -> str:
        """Name for its lock and status file: `api` unless it has its own name."""
        return _process("api", self.name, ApiSettings().name)


class Settings(Section, frozen=True, kw_only=True):
    """All settings of `coldchain.toml`."""

    data_dir: str = "coldchain-data"
    public_url: str = "http://127.0.0.1:8080"
    timezone: str = "Asia/Shanghai"
    tables: str = "tables"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    virtual_clock: str = ""
    broker: BrokerSettings = BrokerSettings()
    records: RecordsSettings = RecordsSettings()
    intake: IntakeSettings = IntakeSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    agent: AgentSettings = AgentSettings()
    collector: CollectorSettings = CollectorSettings()
    writer: WriterSettings = WriterSettings()
    alerting: AlertingSettings = AlertingSettings()
    wechat: WechatSettings = WechatSettings()
    api: ApiSettings = ApiSettings()

    @property
    def channels(self) -> tuple[str, ...]:
        """Channels of `alerting.channels` that are configured. `coldchain check` reports a missing secret."""
        is_configured = {"wechat": self.wechat.is_complete}
        return tuple(name for name in self.alerting.channels if is_configured.get(name))
