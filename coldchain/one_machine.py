"""Set of services that one machine runs, started by `coldchain up`."""

import sys
from pathlib import Path
from threading import Event

import typer

from coldchain.checks.network import holder_text
from coldchain.commands.texts import say
from coldchain.supervisor import Service, Supervisor
from config import secrets
from config.settings import Settings
from config.settings_loader import InvalidSetting
from core.runtime.clock import monotonic
from core.runtime.port_holder import Holder, foreign_holder
from gateway_agent.device_profile import DeviceProfiles
from gateway_agent.gateway_settings_check import check_gateways

ENDING_S = 3.0
POLL_S = 0.1


def services(settings: Settings) -> list[Service]:
    """Return the services of one machine, in the order in which a reading passes them."""
    names = ["collector", "writer", "alerting", "api"]
    if settings.broker.embedded:
        names.insert(0, "broker")
    if settings.agent.gateways:
        names.append("gateway")
    return [Service(name, (name,)) for name in names]


def run(settings: Settings, stop: Event) -> None:
    """Run all services until `stop`.

    Raises: NoSecrets when `coldchain init` has not been run; InvalidSetting for devices that can't be read and for
    ports that another program holds. Without these checks a child would only end and be restarted again and again.
    """
    secrets.read(settings.data_dir)
    check_gateways(settings.agent.gateways, DeviceProfiles(Path(settings.agent.profiles)))
    refuse_taken_ports(settings)
    if sys.stdout.isatty():
        typer.echo(say("up.running", url=settings.public_url, folder=settings.data_dir))
    Supervisor(services(settings)).run(stop)


def refuse_taken_ports(settings: Settings) -> None:
    """Refuse ports on which another program listens.

    Raises: InvalidSetting, which names the setting, the port and its holder.
    """
    needed_ports = {"api.port": (settings.api.host, settings.api.port)}
    if settings.broker.embedded:
        needed_ports["broker.port"] = (settings.broker.host, settings.broker.port)
    taken = [
        say("up.port_taken", key=key, port=port, holder=holder_text(holder))
        for key, (host, port) in needed_ports.items()
        if (holder := _lasting_holder(host, port, settings.data_dir)) is not None
    ]
    if taken:
        raise InvalidSetting("\n".join(taken))


def _lasting_holder(host: str, port: int, data_dir: str) -> Holder | None:
    """Return the holder of a port, or None.

    A holder without a name may be a former child that is ending, so it gets `ENDING_S` to do so.
    """
    ends = monotonic() + ENDING_S
    while True:
        holder = foreign_holder(host, port, data_dir)
        if holder is None or holder.pid or monotonic() > ends:
            return holder
        Event().wait(POLL_S)
