"""`coldchain check`: does everything that the settings name answer, and if not, what to mend. It changes nothing."""

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event

import msgspec
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from coldchain.holders import ANSWER_WITHIN_S, holder_of, is_coldchain
from config.load import WrongSetting
from config.secrets import NoSecrets, Secrets, path_in, read
from config.settings import Bus as ModbusLine
from config.settings import Settings
from core.bus.client import BrokerAddress, Bus
from core.db.engine import connect, url_for
from core.db.migrate import NewerDatabase, pending
from core.intake import port as intake
from core.intake.open import is_ready
from core.runtime.sqlite import look_into
from core.telemetry.open import embedded_folder
from core.telemetry.port import Unavailable

ENOUGH_DISK = 2**30
_LATER = ", to be made by the first service that starts"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at; `mend` says what to do when it isn't good."""

    what: str
    good: bool
    seen: str
    mend: str = ""

    def __str__(self) -> str:
        mark = "ok  " if self.good else "BAD "
        return f"{mark}{self.what}: {self.seen}" + (f"\n      → {self.mend}" if self.mend else "")


def check(settings: Settings) -> Iterator[Finding]:
    """Look at everything, in the order in which one would mend it."""
    yield _folder(settings.data_dir)
    secrets: Secrets | None = None
    try:
        secrets = read(settings.data_dir)
        yield Finding("secrets", good=True, seen=f"{path_in(settings.data_dir)}, mode 0600")
    except NoSecrets as error:
        yield Finding("secrets", good=False, seen=str(error), mend="coldchain init")
    yield _records(settings)
    yield _intake(settings)
    yield _telemetry(settings, secrets)
    yield _broker(settings, secrets)
    yield from _devices(settings)
    for box in settings.agent.gateways:
        if secrets and box.number not in secrets.broker:
            yield Finding(
                f"gateway {box.number}",
                good=False,
                seen="no broker password was issued for it",
                mend="import a file that lists the gateway: it issues one",
            )
        for line in box.buses:
            yield _modbus(box.number, line)
    yield _wechat(settings, secrets)
    yield _port(settings)


def _folder(data_dir: str) -> Finding:
    path = Path(data_dir)
    there = next(folder for folder in (path, *path.resolve().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        mend = f"chown it to {os.getuid()}" if there == path else "set data_dir to a folder that can be written"
        return Finding("data folder", good=False, seen=f"{there} can't be written", mend=mend)
    free = shutil.disk_usage(there).free
    if free < ENOUGH_DISK:
        return Finding(
            "data folder", good=False, seen=f"{path}: {free >> 20} MiB free", mend="make 1 GiB free at least"
        )
    later = "" if there == path else ", to be made by `coldchain init`"
    return Finding("data folder", good=True, seen=f"{path}, {free >> 30} GiB free{later}")


def _records(settings: Settings) -> Finding:
    url = make_url(url_for(settings.records.url, settings.data_dir))
    shown = url.render_as_string(hide_password=True)
    file = Path(url.database or "") if url.get_backend_name() == "sqlite" else None
    if file and not file.exists():
        return Finding("records", good=True, seen=shown + _LATER)
    engine = create_engine(url, creator=partial(look_into, file)) if file else connect(settings.records.url)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        behind = pending(engine)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).strip().splitlines()[0]
        return Finding("records", good=False, seen=f"{shown}: {reason}", mend="start the database, or set records.url")
    except NewerDatabase as error:
        return Finding("records", good=False, seen=f"{shown}: {error}", mend="install the newer coldchain again")
    finally:
        engine.dispose()
    after = ", to be migrated by the first service that starts" if behind else ""
    return Finding("records", good=True, seen=shown + after)


def _intake(settings: Settings) -> Finding:
    where = settings.intake.url or "intake.db in the data folder"
    shown = re.sub(r"(//[^:/@]*):[^@]*@", r"\1:***@", where)
    try:
        ready = is_ready(settings.intake.url, settings.data_dir)
    except (intake.Unavailable, intake.WrongVersion, WrongSetting, OSError) as error:
        seen = f"{shown}: {str(error).splitlines()[0]}"
        return Finding("intake log", good=False, seen=seen, mend="start the database, or set intake.url")
    return Finding("intake log", good=True, seen=shown + ("" if ready else _LATER))


def _telemetry(settings: Settings, secrets: Secrets | None) -> Finding:
    asked = settings.telemetry
    if asked.store == "embedded":
        return Finding("telemetry", good=True, seen=f"embedded, in {embedded_folder(settings)}")
    if secrets is None:
        return Finding("telemetry", good=False, seen="not tried without secrets", mend="coldchain init")
    from core.telemetry.influx_setup import Server  # noqa: PLC0415 (an edge box never needs it)

    server = Server(asked)
    where = f"InfluxDB at {asked.url}"
    try:
        version = server.version()
        lack = "nobody has set it up" if server.is_fresh() else ""
        for name, write in (("influx_write", True), ("influx_read", False)):
            lack = lack or server.lacks(getattr(secrets, name), write=write)
    except Unavailable as error:
        mend = "start InfluxDB, or look at url and tls_ca in [telemetry]"
        return Finding("telemetry", good=False, seen=str(error), mend=mend)
    if lack:
        return Finding("telemetry", good=False, seen=f"{where}: {lack}", mend="coldchain telemetry init")
    return Finding("telemetry", good=True, seen=f"{where}, {version}: both tokens serve bucket {asked.bucket}")


def _broker(settings: Settings, secrets: Secrets | None) -> Finding:
    where = f"{settings.broker.host}:{settings.broker.port}"
    if secrets is None:
        return Finding("broker", good=False, seen="not tried without secrets", mend="coldchain init")
    if not _answers(settings.broker.host, settings.broker.port):
        if settings.broker.embedded:
            return Finding("broker", good=True, seen=f"{where}: embedded, not running now; `coldchain up` runs it")
        return Finding("broker", good=False, seen=f"{where} does not answer", mend="start it, or look at [broker]")
    user = settings.broker.username
    bus = Bus(
        BrokerAddress.of(settings.broker),
        client_id=f"check-{os.getpid()}",
        username=user,
        password=secrets.broker.get(user, ""),
        clean=True,
        on_message=lambda _message: None,
    )
    bus.start()
    try:
        for _ in range(int(ANSWER_WITHIN_S / 0.05)):
            if bus.connected:
                return Finding("broker", good=True, seen=f"{where} accepts {user}")
            Event().wait(0.05)
        problem = bus.problem
    finally:
        bus.stop()
    return Finding(
        "broker", good=False, seen=f"{where}: {problem}", mend=f"look at [broker], and the password of {user}"
    )


def _devices(settings: Settings) -> Iterator[Finding]:
    if not settings.agent.gateways:
        return
    from gateway_agent import boxes  # noqa: PLC0415 (pymodbus is slow to import)

    try:
        boxes.check(settings.agent.gateways)
    except WrongSetting as error:
        yield Finding("devices", good=False, seen=str(error), mend="look at [[agent.gateways]]")
    else:
        profiles = {unit.profile for box in settings.agent.gateways for line in box.buses for unit in line.units}
        yield Finding("devices", good=True, seen=f"profiles {', '.join(sorted(profiles))}")


def _modbus(number: str, line: ModbusLine) -> Finding:
    what = f"gateway {number}, line {line.name}"
    if line.kind == "rtu":
        if os.access(line.device, os.R_OK | os.W_OK):
            return Finding(what, good=True, seen=line.device)
        return Finding(
            what, good=False, seen=f"{line.device} can't be opened", mend="plug it in; add the user to group dialout"
        )
    where = f"{line.host}:{line.port}"
    if _answers(line.host, line.port):
        return Finding(what, good=True, seen=f"{where} accepts connections, {len(line.units)} devices to read")
    return Finding(what, good=False, seen=f"{where} does not answer", mend="look at power, cable, host and port")


def _wechat(settings: Settings, secrets: Secrets | None) -> Finding:
    if not settings.wechat.app_id:
        return Finding("WeChat", good=True, seen="not configured: messages stay queued and visible")
    if not (secrets and secrets.wechat_secret):
        return Finding(
            "WeChat",
            good=False,
            seen=f"no secret for {settings.wechat.app_id}",
            mend="put wechat_secret in secrets.json",
        )
    missing = [name for name in ("template_alarm", "template_recovery") if not getattr(settings.wechat, name)]
    if missing:
        return Finding("WeChat", good=False, seen=f"no {' and '.join(missing)}", mend="set them in [wechat]")
    from core.wechat.client import try_token  # noqa: PLC0415 (wechatpy is slow to import)

    problem = try_token(settings.wechat, secrets.wechat_secret)
    if problem:
        return Finding("WeChat", good=False, seen=f"{settings.wechat.base_url}: {problem}", mend="look at [wechat]")
    return Finding("WeChat", good=True, seen=f"{settings.wechat.base_url} gives {settings.wechat.app_id} a token")


def _port(settings: Settings) -> Finding:
    if not re.fullmatch(r"https?://[^/\s]+(/.*)?", settings.public_url):
        seen = f"public_url = {settings.public_url!r} is no address"
        return Finding("web pages", good=False, seen=seen, mend="write it like https://cold.example.org")
    where = f"{settings.api.host}:{settings.api.port}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.api.host, settings.api.port))
        except OSError as error:
            if is_coldchain(settings.api.host, settings.api.port):
                return Finding("web pages", good=True, seen=f"{where} is served by a coldchain that runs")
            held = f", held by {holder_of(settings.api.port)}" if error.errno == errno.EADDRINUSE else ""
            mend = "end that program, or set api.port to a free one" if held else "set api.host and api.port"
            return Finding("web pages", good=False, seen=f"{where}: {error.strerror}{held}", mend=mend)
    return Finding("web pages", good=True, seen=f"{where} is free; phones reach it as {settings.public_url}")


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=ANSWER_WITHIN_S):
            return True
    except OSError:
        return False
