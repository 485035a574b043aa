"""Gateways of the settings, made ready to run; what contradicts itself is refused at start, all of it at once."""

import re
from collections.abc import Iterator, Sequence

import msgspec

from config.load import WrongSetting
from config.settings import Bus, GatewayBox, UnitOnBus
from core.runtime.clock import Clock
from core.wire.messages import ProbeInfo
from gateway_agent.poller import BoundChannel, BusPoller, Unit
from gateway_agent.profile import Line, Profile, Profiles, WrongProfile
from gateway_agent.words import say

_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A probe's code as it travels; the label on it may have 冷藏 or 冷冻 behind that."""


class Box(msgspec.Struct, frozen=True):
    """A gateway: its buses, and the probes on them."""

    number: str
    pollers: list[BusPoller]
    probes: list[ProbeInfo]


def check(gateways: Sequence[GatewayBox], profiles: Profiles) -> None:
    """Refuse what can't be run.

    Raises: WrongSetting, with every mistake in a line of its own.
    """
    mistakes = list(_mistakes(gateways, profiles))
    if mistakes:
        raise WrongSetting("\n".join(mistakes))


def _mistakes(gateways: Sequence[GatewayBox], profiles: Profiles) -> Iterator[str]:
    yield from _twins([gateway.number for gateway in gateways], "agent.gateways", "number")
    for g, gateway in enumerate(gateways):
        where = f"agent.gateways[{g}]"
        yield from _twins([bus.name for bus in gateway.buses], f"{where}.buses", "name")
        codes: list[str] = []
        for b, bus in enumerate(gateway.buses):
            at = f"{where}.buses[{b}]"
            unusable = list(_wrong_profiles(bus, at, profiles))
            yield from unusable
            yield from _wrong_bus(bus, at, profiles if not unusable else None)
            if not unusable:
                for u, unit in enumerate(bus.units):
                    yield from _wrong_probes(unit, f"{at}.units[{u}]", profiles.load(unit.profile))
                    codes += _codes(unit, profiles.load(unit.profile))
        yield from _twins(codes, f"{where}.buses", "probes")


def ready(gateway: GatewayBox, clock: Clock, profiles: Profiles, *, back_off: float) -> Box:
    """Make the pollers of a gateway that has been checked. Within a running event loop."""
    pollers = []
    probes: dict[str, ProbeInfo] = {}
    for bus in gateway.buses:
        units = [_unit(unit, profiles.load(unit.profile)) for unit in bus.units]
        poller = BusPoller(bus, line_of(bus, profiles), units, clock, back_off=back_off)
        pollers.append(poller)
        for on_bus in bus.units:
            for code in on_bus.probes.values():
                probes[code] = ProbeInfo(code, on_bus.profile, poller.interval)
    return Box(gateway.number, pollers, list(probes.values()))


def line_of(bus: Bus, profiles: Profiles) -> Line:
    """Return baud rate and framing of a bus: its own where it says so, else what its units leave the factory with."""
    shipped = profiles.load(bus.units[0].profile).line if bus.units else Line()
    return Line(
        baud=bus.baud or shipped.baud,
        parity=bus.parity or shipped.parity,
        stop_bits=bus.stop_bits or shipped.stop_bits,
    )


def _wrong_profiles(bus: Bus, at: str, profiles: Profiles) -> Iterator[str]:
    for u, unit in enumerate(bus.units):
        try:
            profiles.load(unit.profile)
        except WrongProfile as error:
            for problem in str(error).splitlines():
                yield say("gateways.profile", at=f"{at}.units[{u}]", name=repr(unit.profile), problem=problem)


def _wrong_bus(bus: Bus, at: str, profiles: Profiles | None) -> Iterator[str]:
    """Yield what is wrong with a bus; `profiles` is None where one of them can't be read, which has been said."""
    if bus.kind == "rtu" and not bus.device:
        yield say("gateways.no_device", at=at)
    if bus.kind != "rtu" and not bus.host:
        yield say("gateways.no_host", at=at, kind=repr(bus.kind))
    yield from _twins([str(unit.address) for unit in bus.units], f"{at}.units", "address")
    if profiles is None or bus.kind != "rtu":
        return
    lines = [profiles.load(unit.profile).line for unit in bus.units]
    for key in ("baud", "parity", "stop_bits"):
        values = sorted({getattr(line, key) for line in lines})
        if len(values) > 1 and not getattr(bus, key):
            yield say("gateways.factory", at=at, key=key, values=values)


def _wrong_probes(unit: UnitOnBus, at: str, known: Profile) -> Iterator[str]:
    if not unit.probes:
        yield say("gateways.no_probes", at=at)
    for name, code in unit.probes.items():
        if not _CODE.fullmatch(code):
            bare = re.match(r"[A-Za-z0-9_-]*", code.strip())
            yield say("gateways.label", at=at, name=name, code=repr(code), bare=repr(bare[0] if bare else ""))
        if known.channel(name) is None:
            there_are = ", ".join(channel.name for channel in known.channels)
            yield say("gateways.no_channel", at=at, name=name, profile=unit.profile, names=there_are)


def _codes(unit: UnitOnBus, known: Profile) -> list[str]:
    channels = [(code, known.channel(name)) for name, code in unit.probes.items()]
    return [f"{code} ({channel.quantity})" for code, channel in channels if channel is not None]


def _twins(values: Sequence[str], where: str, key: str) -> Iterator[str]:
    for value in dict.fromkeys(values):
        if values.count(value) > 1:
            yield say("gateways.twice", where=where, key=key, value=repr(value))


def _unit(unit: UnitOnBus, known: Profile) -> Unit:
    bound = [
        BoundChannel(channel, unit.probes[channel.name]) for channel in known.channels if channel.name in unit.probes
    ]
    return Unit(unit.address, known, bound)
