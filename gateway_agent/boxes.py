"""What the settings say of the gateways, made ready to run; what contradicts itself is refused at start."""

from collections.abc import Sequence

import msgspec

from config.load import WrongSetting
from config.settings import Bus, GatewayBox, UnitOnBus
from core.runtime.clock import Clock
from core.wire.messages import ProbeInfo
from gateway_agent import profile
from gateway_agent.poller import BoundChannel, BusPoller, Unit


class Box(msgspec.Struct, frozen=True):
    """A gateway: its buses, and the probes on them."""

    number: str
    pollers: list[BusPoller]
    probes: list[ProbeInfo]


def check(gateways: Sequence[GatewayBox]) -> None:
    """Refuse what can't be run.

    Raises: WrongSetting.
    """
    _no_twins([gateway.number for gateway in gateways], "agent.gateways", "number")
    for g, gateway in enumerate(gateways):
        where = f"agent.gateways[{g}]"
        _no_twins([bus.name for bus in gateway.buses], f"{where}.buses", "name")
        codes = []
        for b, bus in enumerate(gateway.buses):
            at = f"{where}.buses[{b}]"
            _check_profiles(bus, at)
            _check_bus(bus, at)
            codes += [
                (code, quantity)
                for u, unit in enumerate(bus.units)
                for code, quantity in _codes(unit, f"{at}.units[{u}]")
            ]
        _no_twins([f"{code} ({quantity})" for code, quantity in codes], f"{where}.buses", "probes")


def ready(gateway: GatewayBox, clock: Clock, *, back_off: float) -> Box:
    """Make the pollers of a gateway that has been checked. Within a running event loop."""
    pollers = []
    probes: dict[str, ProbeInfo] = {}
    for bus in gateway.buses:
        units = [_unit(unit) for unit in bus.units]
        poller = BusPoller(bus, line_of(bus), units, clock, back_off=back_off)
        pollers.append(poller)
        for on_bus in bus.units:
            for code in on_bus.probes.values():
                probes[code] = ProbeInfo(code, on_bus.profile, poller.interval)
    return Box(gateway.number, pollers, list(probes.values()))


def line_of(bus: Bus) -> profile.Line:
    """Return baud rate and framing of a bus: its own where it says so, else what its units leave the factory with."""
    shipped = profile.load(bus.units[0].profile).line if bus.units else profile.Line()
    return profile.Line(
        baud=bus.baud or shipped.baud,
        parity=bus.parity or shipped.parity,
        stop_bits=bus.stop_bits or shipped.stop_bits,
    )


def _check_profiles(bus: Bus, at: str) -> None:
    for u, unit in enumerate(bus.units):
        try:
            profile.load(unit.profile)
        except profile.WrongProfile as error:
            msg = f"{at}.units[{u}].profile = {unit.profile!r}: {error}"
            raise WrongSetting(msg) from None


def _check_bus(bus: Bus, at: str) -> None:
    if bus.kind == "rtu" and not bus.device:
        msg = f"{at}.device is empty: a bus of kind 'rtu' needs its serial device, such as '/dev/ttyUSB0'"
        raise WrongSetting(msg)
    if bus.kind != "rtu" and not bus.host:
        msg = f"{at}.host is empty: a bus of kind {bus.kind!r} needs the address of what answers there"
        raise WrongSetting(msg)
    _no_twins([str(unit.address) for unit in bus.units], f"{at}.units", "address")
    lines = {unit.profile: profile.load(unit.profile).line for unit in bus.units}
    for key in ("baud", "parity", "stop_bits") if bus.kind == "rtu" else ():
        wanted = {getattr(line, key) for line in lines.values()}
        if len(wanted) > 1 and not getattr(bus, key):
            msg = f"{at}.{key} is not set, and the units leave the factory with {sorted(wanted)}: set the one in use"
            raise WrongSetting(msg)


def _codes(unit: UnitOnBus, at: str) -> list[tuple[str, str]]:
    known = profile.load(unit.profile)
    if not unit.probes:
        msg = f"{at}.probes is empty: write which channel is which probe, such as {{t = '208601'}}"
        raise WrongSetting(msg)
    codes: list[tuple[str, str]] = []
    for name, code in unit.probes.items():
        channel = known.channel(name)
        if channel is None:
            there_are = ", ".join(channel.name for channel in known.channels)
            msg = f"{at}.probes.{name}: {unit.profile} has no such channel; there are: {there_are}"
            raise WrongSetting(msg)
        codes.append((code, channel.quantity))
    return codes


def _no_twins(values: Sequence[str], where: str, key: str) -> None:
    for value in values:
        if values.count(value) > 1:
            msg = f"{where}: {key} = {value!r} stands twice; each needs its own"
            raise WrongSetting(msg)


def _unit(unit: UnitOnBus) -> Unit:
    known = profile.load(unit.profile)
    bound = [
        BoundChannel(channel, unit.probes[channel.name]) for channel in known.channels if channel.name in unit.probes
    ]
    return Unit(unit.address, known, bound)
