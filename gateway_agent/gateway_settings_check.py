"""Check of the gateways, buses and probes in the settings of the agent.

All mistakes are reported at once, before anything runs.
"""

import re
from collections.abc import Iterator, Sequence

from config.settings import BusSettings, DeviceOnBus, GatewaySettings
from config.settings_loader import InvalidSetting
from gateway_agent.device_profile import DeviceProfile, DeviceProfiles, InvalidDeviceProfile
from gateway_agent.texts import say

_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""Probe code in messages. The label on a probe may have 冷藏 or 冷冻 after it, which isn't part of the code."""


def check_gateways(gateways: Sequence[GatewaySettings], profiles: DeviceProfiles) -> None:
    """Check that the gateways can be run.

    Raises: InvalidSetting, with every mistake in a line of its own.
    """
    mistakes = list(_mistakes(gateways, profiles))
    if mistakes:
        raise InvalidSetting("\n".join(mistakes))


def _mistakes(gateways: Sequence[GatewaySettings], profiles: DeviceProfiles) -> Iterator[str]:
    yield from _duplicates([gateway.number for gateway in gateways], "agent.gateways", "number")
    for g, gateway in enumerate(gateways):
        where = f"agent.gateways[{g}]"
        yield from _duplicates([bus.name for bus in gateway.buses], f"{where}.buses", "name")
        codes: list[str] = []
        for b, bus in enumerate(gateway.buses):
            at = f"{where}.buses[{b}]"
            unusable = list(_wrong_profiles(bus, at, profiles))
            yield from unusable
            yield from _wrong_bus(bus, at, profiles if not unusable else None)
            if not unusable:
                for u, unit in enumerate(bus.units):
                    yield from _wrong_probes(unit, f"{at}.units[{u}]", profiles.load(unit.profile))
                    codes += _codes_with_quantity(unit, profiles.load(unit.profile))
        yield from _duplicates(codes, f"{where}.buses", "probes")


def _wrong_profiles(bus: BusSettings, at: str, profiles: DeviceProfiles) -> Iterator[str]:
    for u, unit in enumerate(bus.units):
        try:
            profiles.load(unit.profile)
        except InvalidDeviceProfile as error:
            for problem in str(error).splitlines():
                yield say("gateways.profile", at=f"{at}.units[{u}]", name=repr(unit.profile), problem=problem)


def _wrong_bus(bus: BusSettings, at: str, profiles: DeviceProfiles | None) -> Iterator[str]:
    """Yield the mistakes of a bus; `profiles` is None if one of them can't be used, which is reported separately."""
    if bus.kind == "rtu" and not bus.device:
        yield say("gateways.no_device", at=at)
    if bus.kind != "rtu" and not bus.host:
        yield say("gateways.no_host", at=at, kind=repr(bus.kind))
    yield from _duplicates([str(unit.address) for unit in bus.units], f"{at}.units", "address")
    if profiles is None or bus.kind != "rtu":
        return
    lines = [profiles.load(unit.profile).line for unit in bus.units]
    for key in ("baud", "parity", "stop_bits"):
        values = sorted({getattr(line, key) for line in lines})
        if len(values) > 1 and not getattr(bus, key):
            yield say("gateways.factory", at=at, key=key, values=values)


def _wrong_probes(unit: DeviceOnBus, at: str, profile: DeviceProfile) -> Iterator[str]:
    if not unit.probes:
        yield say("gateways.no_probes", at=at)
    for name, code in unit.probes.items():
        if not _CODE.fullmatch(code):
            bare = re.match(r"[A-Za-z0-9_-]*", code.strip())
            yield say("gateways.label", at=at, name=name, code=repr(code), bare=repr(bare[0] if bare else ""))
        if profile.channel(name) is None:
            names = ", ".join(channel.name for channel in profile.channels)
            yield say("gateways.no_channel", at=at, name=name, profile=unit.profile, names=names)


def _codes_with_quantity(unit: DeviceOnBus, profile: DeviceProfile) -> list[str]:
    channels = [(code, profile.channel(name)) for name, code in unit.probes.items()]
    return [f"{code} ({channel.quantity})" for code, channel in channels if channel is not None]


def _duplicates(values: Sequence[str], where: str, key: str) -> Iterator[str]:
    for value in dict.fromkeys(values):
        if values.count(value) > 1:
            yield say("gateways.twice", where=where, key=key, value=repr(value))
