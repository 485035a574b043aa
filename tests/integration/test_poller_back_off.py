"""Back-off of a device that does not answer: it delays nobody, and is tried again."""

import asyncio
import time

import pytest

from coldchain.simulate.modbus import Framing, ModbusDevices, ModbusFault
from config.settings import BusSettings, DeviceOnBus
from gateway_agent import device_profile
from gateway_agent.bus_poller import PolledDevice
from tests.fixtures.modbus import bus_to, line
from tests.fixtures.polling import Reader, reading, steady


@pytest.mark.parametrize(
    "fault", [ModbusFault("exception", code=0x0B), ModbusFault("garbage")], ids=lambda fault: fault.kind
)
def test_a_unit_that_a_gateway_speaks_for_or_that_talks_rubbish_is_left_alone_like_a_silent_one(
    fault: ModbusFault,
) -> None:
    units = [DeviceOnBus(address=unit, profile="xy-md02", probes={"t": f"p{unit}"}) for unit in (1, 2)]

    async def story(reader: Reader, devices: ModbusDevices) -> None:
        await reader.cycle()
        devices.fail(1, fault)
        await reader.cycle()
        devices.reads.clear()
        got = await reader.cycle()
        assert devices.reads == {2: 1}, "in back-off it is not asked"
        assert got == {"p1": (None, 4), "p2": (5.0, 0)}

    with line("tcp") as devices:
        for unit in (1, 2):
            devices.add(unit, "xy-md02", steady(5.0))
        reading(bus_to(devices, "tcp", *units), lambda reader: story(reader, devices), back_off=30.0)


def test_a_dead_unit_never_delays_the_others_and_in_back_off_does_not_touch_the_bus() -> None:
    units = [DeviceOnBus(address=unit, profile="xy-md02", probes={"t": f"p{unit}"}) for unit in range(1, 9)]

    async def story(reader: Reader, devices: ModbusDevices) -> None:
        await reader.cycle()
        for unit in (1, 2, 3):  # those that stand first
            devices.fail(unit, ModbusFault("dead"))
        await reader.cycle()
        await asyncio.sleep(1.05)
        devices.reads.clear()
        asked_first: list[int] = []
        reader.told = lambda: asked_first.extend(devices.reads)
        got = await reader.cycle()
        alive, _ = reader.deliveries[0]
        assert {reading.p for reading in alive} == {f"p{unit}" for unit in range(4, 9)}
        assert asked_first[:5] == [4, 5, 6, 7, 8], "delivered before any of the silent ones was asked"
        assert [got[f"p{unit}"] for unit in (1, 2, 3)] == [(None, 4)] * 3
        assert all(devices.reads[unit] == 1 for unit in range(1, 9))
        devices.reads.clear()
        got = await reader.cycle()
        assert [got[f"p{unit}"] for unit in (1, 2, 3)] == [(None, 4)] * 3, "a failed reading is a fact"
        assert [devices.reads[unit] for unit in (1, 2, 3)] == [0, 0, 0]
        assert reader.poller.health().backing_off == [1, 2, 3]

    with line("rtu") as devices:
        for unit in range(1, 9):
            devices.add(unit, "xy-md02", steady(5.0))
        reading(bus_to(devices, "rtu", *units), lambda reader: story(reader, devices), back_off=1.0)


def test_back_off_doubles_up_to_its_limit() -> None:
    unit = PolledDevice(1, device_profile.load("xy-md02"), [])
    waits = []
    for _ in range(8):
        unit.was_silent(60.0)
        waits.append(round(unit.alone_until - time.monotonic()))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    unit.has_answered()
    unit.was_silent(60.0)
    assert round(unit.alone_until - time.monotonic()) == 1


@pytest.mark.parametrize("framing", ["tcp", "rtu"])
def test_nobody_at_the_port_then_somebody_then_a_restart(framing: Framing) -> None:
    with line(framing) as first:
        port = first.port
    units = [DeviceOnBus(address=unit, profile="xy-md02", probes={"t": f"p{unit}"}) for unit in (1, 2)]

    async def story(reader: Reader) -> None:
        assert await reader.cycle() == {"p1": (None, 4), "p2": (None, 4)}
        for _ in range(2):
            with line(framing, port) as devices:
                devices.add(1, "xy-md02", steady(5.0))
                devices.add(2, "xy-md02", steady(6.0))
                assert await reader.cycle() == {"p1": (5.0, 0), "p2": (6.0, 0)}
                assert await reader.cycle() == {"p1": (5.0, 0), "p2": (6.0, 0)}

    reading(bus_to(first, framing, *units), story)


def test_a_serial_device_that_is_not_there_is_tried_again(tmp_path: object) -> None:
    bus = BusSettings(
        name="b",
        kind="rtu",
        device=f"{tmp_path}/ttyUSB0",
        units=[DeviceOnBus(address=1, profile="xy-md02", probes={"t": "p1"})],
    )

    async def story(reader: Reader) -> None:
        assert await reader.cycle() == {"p1": (None, 4)}
        with line("serial") as devices:
            devices.add(1, "xy-md02", steady(5.0))
            (tmp_path / "ttyUSB0").symlink_to(devices.device)  # type: ignore[operator]
            assert await reader.cycle() == {"p1": (5.0, 0)}

    reading(bus, story)
