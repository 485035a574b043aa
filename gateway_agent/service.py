"""Agent process: polls the buses of all its gateways, and publishes the readings of each.

It starts without broker, devices or disk, and keeps trying each of them. Guarantees: `spool`, `spool_failover`,
`poller` and `uplink`; tests/integration/test_agent.py tries to break it.
"""

import asyncio
import hashlib
import logging
import secrets as random
import threading
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec

from config import secrets
from config.settings import GatewaySettings, Settings
from config.settings_loader import InvalidSetting
from core.mqtt.client import BrokerAddress
from core.runtime.barrier import report_idle
from core.runtime.clock import Clock, clock_from, monotonic
from core.runtime.instant import MINUTE, Instant
from core.runtime.logs import logger
from core.runtime.status import StatusFields, StatusFile
from core.wire.shards import GatewayNumber
from gateway_agent.device_profile import DeviceProfiles
from gateway_agent.gateway_settings_check import check_gateways
from gateway_agent.message_encoder import GatewayIdentity
from gateway_agent.poll_schedule import PollSchedule
from gateway_agent.poller_factory import PolledGateway, build_polled_gateway
from gateway_agent.texts import say
from gateway_agent.uplink import Uplink

log = logger(__name__)

END_WITHIN_S = 2.5
CLOCK_CHECK_S = 0.5


def run(settings: Settings, stop: threading.Event) -> None:
    """Poll and publish until `stop`.

    Raises: InvalidSetting, NoSecrets, which only a person can fix.
    """
    if not settings.agent.gateways:
        raise InvalidSetting(say("gateways.none"))
    profiles = DeviceProfiles(Path(settings.agent.profiles))
    check_gateways(settings.agent.gateways, profiles)
    passwords = _passwords(settings)
    clock = _clock(settings, stop)
    if clock is None:
        return
    # The agent logs the same facts as pymodbus, but once for each change instead of each request.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    asyncio.run(_serve(settings, profiles, passwords, clock, stop))


async def _serve(
    settings: Settings, profiles: DeviceProfiles, passwords: Mapping[str, str], clock: Clock, stop: threading.Event
) -> None:
    asyncio.get_running_loop().set_exception_handler(_log_loop_error)
    boot = random.token_hex(4)
    work = [
        (polled, _uplink(settings, gateway, polled, boot, clock, passwords))
        for gateway in settings.agent.gateways
        for polled in [build_polled_gateway(gateway, clock, profiles, back_off=settings.agent.back_off)]
    ]
    uplinks = [uplink for _, uplink in work]
    for uplink in uplinks:
        uplink.start()
    status = StatusFile(settings.data_dir, "gateway", rates=("reads",)).keep(
        lambda: _facts(work), stop, lambda: [trouble for uplink in uplinks for trouble in uplink.troubles]
    )
    threading.Thread(
        target=report_idle, args=(clock, "gateway_agent", lambda: _is_idle(work, clock), stop), daemon=True
    ).start()
    cycles = PollSchedule(clock)
    tasks = [
        asyncio.create_task(poller.run(cycles, uplink.deliver, uplink.polled.get(poller.name)))
        for polled, uplink in work
        for poller in polled.pollers
    ]
    tasks.append(asyncio.create_task(_publish_health_each_minute(cycles, uplinks)))
    log.info("agent started", gateways=len(work), buses=len(tasks) - 1, boot=boot)
    try:
        await cycles.run(stop)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(_end, uplinks)
        status.join(1)
    log.info("agent ended")


def _end(uplinks: Sequence[Uplink]) -> None:
    """End all uplinks at the same time. One that hangs is left behind; what it has stored is not lost."""
    deadline = monotonic() + END_WITHIN_S
    for uplink in uplinks:
        uplink.stop()
    for uplink in uplinks:
        uplink.join(max(0.0, deadline - monotonic()))


async def _publish_health_each_minute(cycles: PollSchedule, uplinks: Sequence[Uplink]) -> None:
    last: Instant | None = None
    while True:
        last = await cycles.due(MINUTE, last)
        for uplink in uplinks:
            uplink.tell_health()


def _uplink(
    settings: Settings,
    gateway: GatewaySettings,
    polled: PolledGateway,
    boot: str,
    clock: Clock,
    passwords: Mapping[str, str],
) -> Uplink:
    identity = GatewayIdentity(
        number=GatewayNumber(gateway.number),
        boot=boot,
        firmware=_version(),
        config=hashlib.sha256(msgspec.json.encode(gateway)).hexdigest()[:16],
        probes=polled.probes,
    )
    return Uplink(
        identity,
        folder=Path(settings.agent.folder or Path(settings.data_dir) / "spool"),
        agent=settings.agent,
        broker=BrokerAddress.of(settings.broker),
        password=passwords[gateway.number],
        clock=clock,
        health=lambda: [poller.health() for poller in polled.pollers],
        polling=lambda: any(poller.polling for poller in polled.pollers),
    )


def _passwords(settings: Settings) -> dict[str, str]:
    broker_passwords = secrets.read(settings.data_dir, edge=True).broker
    missing = [gateway.number for gateway in settings.agent.gateways if gateway.number not in broker_passwords]
    if missing:
        raise secrets.NoSecrets(secrets.no_gateway_password(missing[0], settings.data_dir))
    return {gateway.number: broker_passwords[gateway.number] for gateway in settings.agent.gateways}


def _clock(settings: Settings, stop: threading.Event) -> Clock | None:
    """Open the clock, waiting for the keeper of a virtual one; return None if `stop` is set meanwhile."""
    while True:
        try:
            return clock_from(settings.virtual_clock)
        except FileNotFoundError as error:
            log.warning("no clock yet", path=error.filename)
            if stop.wait(CLOCK_CHECK_S):
                return None


def _is_idle(work: Sequence[tuple[PolledGateway, Uplink]], clock: Clock) -> bool:
    now = clock.now()
    return all(all(poller.is_idle(now) for poller in polled.pollers) and uplink.is_idle for polled, uplink in work)


def _facts(work: Sequence[tuple[PolledGateway, Uplink]]) -> StatusFields:
    buses = [poller.health() for polled, _ in work for poller in polled.pollers]
    return {
        "gateways": len(work),
        "connected": sum(uplink.connected for _, uplink in work),
        "spool": sum(uplink.depth for _, uplink in work),
        "reads": sum(bus.reads for bus in buses),
        "failures": sum(bus.failures for bus in buses),
        "backing_off": sum(len(bus.backing_off) for bus in buses),
    }


def _version() -> str:
    try:
        return metadata.version("coldchain")
    except metadata.PackageNotFoundError:
        return "0"


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that pymodbus leaves to the event loop: an answer that can't be decoded ends its connection."""
    log.warning("line garbled", why=str(context.get("exception") or context.get("message")))
