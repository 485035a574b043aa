"""`coldchain up`: everything that one machine runs."""

from threading import Event

from coldchain.supervisor import Service, Supervisor
from config import secrets
from config.settings import Settings
from gateway_agent import boxes


def services(settings: Settings) -> list[Service]:
    """Return the children of one machine in the order in which a reading passes them."""
    names = ["collector", "alerting", "api"]
    if settings.broker.embedded:
        names.insert(0, "broker")
    if settings.agent.gateways:
        names.append("gateway")
    return [Service(name, (name,)) for name in names]


def run(settings: Settings, stop: Event) -> None:
    """Run them until `stop`.

    Raises: NoSecrets when `coldchain init` has not been run; WrongSetting for devices that can't be read, which would
    otherwise only be said by a child that ends again and again.
    """
    secrets.read(settings.data_dir)
    boxes.check(settings.agent.gateways)
    Supervisor(services(settings)).run(stop)
