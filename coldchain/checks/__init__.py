"""`coldchain check`: does everything that the settings name answer, and if not, what to mend. It changes nothing."""

from collections.abc import Iterator

from coldchain.checks.devices import devices, modbus, probes
from coldchain.checks.finding import Finding, bad, good, say
from coldchain.checks.folder import folder, privacy
from coldchain.checks.network import broker, web_pages, wechat
from coldchain.checks.reach import reach
from coldchain.checks.stores import intake_log, records, telemetry
from config.secrets import NoSecrets, Secrets, path_in, read
from config.settings import Settings

__all__ = ["Finding", "check"]


def check(settings: Settings) -> Iterator[Finding]:
    """Look at everything, in the order in which one would mend it."""
    yield folder(settings.data_dir)
    yield from privacy(settings)
    secrets: Secrets | None = None
    try:
        secrets = read(settings.data_dir)
        yield good(say("what.secrets"), say("secrets.good", path=path_in(settings.data_dir)))
    except NoSecrets as error:
        yield bad(say("what.secrets"), str(error), "coldchain init")
    yield records(settings)
    yield intake_log(settings)
    yield telemetry(settings, secrets)
    yield broker(settings, secrets)
    yield from devices(settings)
    yield from probes(settings)
    for box in settings.agent.gateways:
        if secrets and box.number not in secrets.broker:
            yield bad(say("what.gateway", number=box.number), say("gateway.no_password"), say("gateway.import"))
        for line in box.buses:
            yield modbus(box.number, line)
    yield wechat(settings, secrets)
    yield from reach(settings)
    yield web_pages(settings)
