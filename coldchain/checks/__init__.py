"""Checks of an installation for `coldchain check`: whether everything that the settings name works, and what to mend.

A check changes nothing.
"""

import sqlite3
from collections.abc import Iterator

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from coldchain.checks.contacts import reach
from coldchain.checks.damage import damage, has_people
from coldchain.checks.data_folder import folder, privacy
from coldchain.checks.devices import devices, modbus, probes
from coldchain.checks.finding import Finding, bad, good, say
from coldchain.checks.network import broker, web_pages, wechat
from coldchain.checks.stores import intake_log, numbers_seen, page_checksums, records, retention, telemetry
from config.secrets import NoSecrets, Secrets, path_in, read
from config.settings import Settings
from core.runtime.trouble import first_line

__all__ = ["Finding", "check"]


def check(settings: Settings) -> Iterator[Finding]:
    """Run all checks, in the order in which an operator would mend what they find."""
    yield folder(settings.data_dir)
    yield from privacy(settings)
    secrets: Secrets | None = None
    try:
        secrets = read(settings.data_dir)
        yield good(say("what.secrets"), say("secrets.good", path=path_in(settings.data_dir)))
    except NoSecrets as error:
        advice = say("secrets.put_back", path=path_in(settings.data_dir))
        yield bad(say("what.secrets"), str(error), advice if has_people(settings) else "coldchain init")
    yield from damage(settings)
    yield records(settings)
    yield intake_log(settings)
    yield from numbers_seen(settings)
    yield from page_checksums(settings)
    yield telemetry(settings, secrets)
    yield from retention(settings, secrets)
    yield broker(settings, secrets)
    yield from devices(settings)
    yield from _as_far_as_it_goes("what.probes", probes(settings))
    for box in settings.agent.gateways:
        if secrets and box.number not in secrets.broker:
            yield bad(say("what.gateway", number=box.number), say("gateway.no_password"), say("gateway.import"))
        for line in box.buses:
            yield modbus(box.number, line)
    yield wechat(settings, secrets)
    yield from _as_far_as_it_goes("what.contacts", reach(settings))
    yield web_pages(settings)


def _as_far_as_it_goes(what: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """Yield the findings of a check that reads the records; if they can't be read any further, that is the last one."""
    try:
        yield from findings
    except (SQLAlchemyError, sqlite3.Error, ValueError, msgspec.MsgspecError) as error:
        yield bad(say(what), first_line(error), say("stores.unreadable"))
