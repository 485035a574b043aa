"""Factory of bus pollers: it binds the channels of device profiles to the probes in the settings of a gateway."""

import msgspec

from config.settings import BusSettings, DeviceOnBus, GatewaySettings
from core.runtime.clock import Clock
from core.wire.messages import ProbeInfo
from gateway_agent.bus_poller import BoundChannel, BusPoller, PolledDevice
from gateway_agent.device_profile import DeviceProfile, DeviceProfiles, LineDefaults


class PolledGateway(msgspec.Struct, frozen=True):
    """Gateway with its pollers, one a bus, and the probes that they read."""

    number: str
    pollers: list[BusPoller]
    probes: list[ProbeInfo]


def build_polled_gateway(
    gateway: GatewaySettings, clock: Clock, profiles: DeviceProfiles, *, back_off: float
) -> PolledGateway:
    """Build the pollers of a gateway whose settings have been checked. Call it within a running event loop."""
    pollers = []
    probes: dict[str, ProbeInfo] = {}
    for bus in gateway.buses:
        units = [_polled_device(unit, profiles.load(unit.profile)) for unit in bus.units]
        poller = BusPoller(bus, line_of(bus, profiles), units, clock, back_off=back_off)
        pollers.append(poller)
        for on_bus in bus.units:
            for code in on_bus.probes.values():
                probes[code] = ProbeInfo(code, on_bus.profile, poller.interval)
    return PolledGateway(gateway.number, pollers, list(probes.values()))


def line_of(bus: BusSettings, profiles: DeviceProfiles) -> LineDefaults:
    """Return the serial parameters of a bus: those of its settings, otherwise the factory defaults of its units."""
    factory = profiles.load(bus.units[0].profile).line if bus.units else LineDefaults()
    return LineDefaults(
        baud=bus.baud or factory.baud,
        parity=bus.parity or factory.parity,
        stop_bits=bus.stop_bits or factory.stop_bits,
    )


def _polled_device(unit: DeviceOnBus, profile: DeviceProfile) -> PolledDevice:
    bound = [
        BoundChannel(channel, unit.probes[channel.name]) for channel in profile.channels if channel.name in unit.probes
    ]
    return PolledDevice(unit.address, profile, bound)
