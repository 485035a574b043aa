"""Checks of the agent's devices: settings and profiles, probes known to the records, Modbus lines."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from coldchain.checks.finding import Finding, bad, good, say
from coldchain.checks.network import answers
from coldchain.checks.stores import looking_into
from config.settings import BusSettings, Settings
from config.settings_loader import InvalidSetting
from core.devices.tables import Gateway, Probe, ProbeGateway
from core.health.disk_space import files
from core.migrations.migrate import NewerDatabase, pending
from gateway_agent.device_profile import DeviceProfiles, InvalidDeviceProfile
from gateway_agent.gateway_settings_check import check_gateways

Pairs = dict[str, set[str]]
"""Gateway number → codes of its probes."""


def devices(settings: Settings) -> Iterator[Finding]:
    """Check the settings of the agent as it does at its start, and every device profile that the user wrote."""
    profiles = DeviceProfiles(Path(settings.agent.profiles))
    for name in profiles.own():
        what = say("what.profile", name=name)
        try:
            device_profile = profiles.load(name)
        except InvalidDeviceProfile as error:
            yield bad(what, str(error), say("profile.mend"))
        else:
            channels = ", ".join(channel.name for channel in device_profile.channels)
            yield good(what, say("profile.good", device=device_profile.device, channels=channels))
    if not settings.agent.gateways:
        return
    what = say("what.devices")
    try:
        check_gateways(settings.agent.gateways, profiles)
    except InvalidSetting as error:
        yield bad(what, str(error), say("devices.mend"))
    else:
        names = {unit.profile for box in settings.agent.gateways for line in box.buses for unit in line.units}
        yield good(what, say("devices.good", names=", ".join(sorted(names))))


def probes(settings: Settings) -> Iterator[Finding]:
    """Compare the probes that the agent reads with those that the records pair with its gateways.

    Readings of a probe that the records don't know, or pair with another gateway, go to quarantine. A paired probe that
    no device of this machine reads will never have a reading.
    """
    read_probes: Pairs = {
        box.number: {code for line in box.buses for unit in line.units for code in unit.probes.values()}
        for box in settings.agent.gateways
    }
    if not read_probes:
        return
    what = say("what.probes")
    paired_probes = _known(settings)
    if paired_probes is None:
        yield good(what, say("probes.no_records"))
        return
    gateway_of = {code: number for number, codes in paired_probes.items() for code in codes}
    all_match = True
    for number, codes in sorted(read_probes.items()):
        for code in sorted(codes - paired_probes.get(number, set())):
            all_match = False
            state = say("probes.paired" if code in gateway_of else "probes.unknown", code=code, gateway=number)
            state += say("probes.with", gateway=gateway_of[code]) if code in gateway_of else ""
            yield bad(what, state, say("probes.import" if code.isascii() else "probes.code"))
        for code in sorted(paired_probes.get(number, set()) - codes):
            all_match = False
            yield bad(what, say("probes.unread", code=code, gateway=number), say("probes.read"))
    if all_match:
        yield good(what, say("probes.good", count=sum(map(len, read_probes.values()))))


def _known(settings: Settings) -> Pairs | None:
    """Return the present pairs in the records; None if there are no records or they can't be read.

    Unreadable records are a finding of another check.
    """
    file = files(settings).get("records")
    if file and not file.exists():
        return None
    engine = looking_into(settings)
    pairs: Pairs = defaultdict(set)
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
                pairs[number].add(code)
    except (SQLAlchemyError, NewerDatabase):
        return None
    finally:
        engine.dispose()
    return pairs


def modbus(number: str, line: BusSettings) -> Finding:
    """Check whether a Modbus line can be opened."""
    what = say("what.line", number=number, name=line.name)
    if line.kind == "rtu":
        if os.access(line.device, os.R_OK | os.W_OK):
            return good(what, line.device)
        return bad(what, say("line.closed", device=line.device), say("line.plug"))
    where = f"{line.host}:{line.port}"
    if answers(line.host, line.port):
        return good(what, say("line.good", where=where, count=len(line.units)))
    return bad(what, say("network.silent", where=where), say("line.mend"))
