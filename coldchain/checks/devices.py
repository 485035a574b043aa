"""Checks of the agent's devices: their settings and profiles, the probes that the records know, the lines."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from coldchain.checks.finding import Finding, bad, good, say
from coldchain.checks.network import answers
from coldchain.checks.stores import looking_into
from config.load import WrongSetting
from config.settings import Bus, Settings
from core.db.migrate import NewerDatabase, pending
from core.devices.tables import Gateway, Probe, ProbeGateway
from core.health.disks import files

Pairs = dict[str, set[str]]
"""Gateway number → codes of its probes."""


def devices(settings: Settings) -> Iterator[Finding]:
    """Read the settings of the agent as the agent does at its start, and every device profile of one's own."""
    from gateway_agent import boxes  # noqa: PLC0415 (pymodbus is slow to import)
    from gateway_agent.profile import Profiles, WrongProfile  # noqa: PLC0415

    profiles = Profiles(Path(settings.agent.profiles))
    for name in profiles.own():
        what = say("what.profile", name=name)
        try:
            known = profiles.load(name)
        except WrongProfile as error:
            yield bad(what, str(error), say("profile.mend"))
        else:
            channels = ", ".join(channel.name for channel in known.channels)
            yield good(what, say("profile.good", device=known.device, channels=channels))
    if not settings.agent.gateways:
        return
    what = say("what.devices")
    try:
        boxes.check(settings.agent.gateways, profiles)
    except WrongSetting as error:
        yield bad(what, str(error), say("devices.mend"))
    else:
        names = {unit.profile for box in settings.agent.gateways for line in box.buses for unit in line.units}
        yield good(what, say("devices.good", names=", ".join(sorted(names))))


def probes(settings: Settings) -> Iterator[Finding]:
    """Compare the probes that the agent is to read with those that the records pair with its gateways.

    Readings of a probe that the records don't know, or pair with another gateway, are withheld; a probe of this
    machine's gateways that no unit reads is silent for ever.
    """
    read: Pairs = {
        box.number: {code for line in box.buses for unit in line.units for code in unit.probes.values()}
        for box in settings.agent.gateways
    }
    if not read:
        return
    what = say("what.probes")
    known = _known(settings)
    if known is None:
        yield good(what, say("probes.no_records"))
        return
    home = {code: number for number, codes in known.items() for code in codes}
    well = True
    for number, codes in sorted(read.items()):
        for code in sorted(codes - known.get(number, set())):
            well = False
            seen = say("probes.paired" if code in home else "probes.unknown", code=code, gateway=number)
            seen += say("probes.with", gateway=home[code]) if code in home else ""
            yield bad(what, seen, say("probes.import" if code.isascii() else "probes.code"))
        for code in sorted(known.get(number, set()) - codes):
            well = False
            yield bad(what, say("probes.unread", code=code, gateway=number), say("probes.read"))
    if well:
        yield good(what, say("probes.good", count=sum(map(len, read.values()))))


def _known(settings: Settings) -> Pairs | None:
    """Return what the records pair now; None on a machine without them, or when they can't be read (said above)."""
    file = files(settings).get("records")
    if file and not file.exists():
        return None
    engine = looking_into(settings)
    found: Pairs = defaultdict(set)
    try:
        if pending(engine):
            return None
        with engine.connect() as connection:
            rows = connection.execute(
                select(Gateway.number, Probe.code)
                .join(ProbeGateway, ProbeGateway.gateway_id == Gateway.id)
                .join(Probe, Probe.id == ProbeGateway.probe_id)
                .where(ProbeGateway.until.is_(None))
            )
            for number, code in rows:
                found[number].add(code)
    except (SQLAlchemyError, NewerDatabase):
        return None
    finally:
        engine.dispose()
    return found


def modbus(number: str, line: Bus) -> Finding:
    """Look whether a Modbus line can be opened."""
    what = say("what.line", number=number, name=line.name)
    if line.kind == "rtu":
        if os.access(line.device, os.R_OK | os.W_OK):
            return good(what, line.device)
        return bad(what, say("line.closed", device=line.device), say("line.plug"))
    where = f"{line.host}:{line.port}"
    if answers(line.host, line.port):
        return good(what, say("line.good", where=where, count=len(line.units)))
    return bad(what, say("network.silent", where=where), say("line.mend"))
