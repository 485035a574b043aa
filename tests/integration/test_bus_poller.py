"""Polling of a Modbus bus: every device is read, and a fault of one is a fact of that one."""

import asyncio
import time
from collections.abc import Iterator

import msgspec
import pytest

from coldchain.simulate.modbus import Framing, ModbusDevices, ModbusFault
from config.settings import DeviceOnBus
from core.runtime.clock import SystemClock
from core.runtime.instant import Instant
from core.wire.messages import Reading
from gateway_agent import device_profile
from gateway_agent.bus_poller import BoundChannel, BusPoller, PolledDevice
from gateway_agent.device_profile import DeviceProfile, Timing
from gateway_agent.modbus_line import GarbledReply, ModbusLine, NoReply
from gateway_agent.read_plan import BlockRead
from tests.fixtures.modbus import bus_to, line
from tests.fixtures.polling import QUICK, Reader, reading, steady

FRAMINGS: list[Framing] = ["tcp", "rtu", "serial"]


@pytest.fixture(params=FRAMINGS)
def framing(request: pytest.FixtureRequest) -> Framing:
    return request.param


@pytest.fixture
def devices(framing: Framing) -> Iterator[ModbusDevices]:
    with line(framing) as made:
        yield made


def test_two_kinds_of_device_are_read_in_one_request_each(framing: Framing, devices: ModbusDevices) -> None:
    devices.add(1, "xy-md02", {"t": 4.2, "h": 54.6}.get)
    devices.add(2, "r4dcb08", {"t1": -18.3, "t8": 2.0}.get)
    bus = bus_to(
        devices,
        framing,
        DeviceOnBus(address=1, profile="xy-md02", probes={"t": "208601", "h": "208601"}),
        DeviceOnBus(address=2, profile="r4dcb08", probes={"t1": "208604", "t2": "208605", "t8": "208606"}),
    )

    async def story(reader: Reader) -> None:
        before = SystemClock().now()
        assert await reader.cycle() == {
            "208601": (4.2, 0),
            "208601h": (54.6, 0),
            "208604": (-18.3, 0),
            "208605": (None, 1),
            "208606": (2.0, 0),
        }
        stamps = [reading.ts for readings, _ in reader.deliveries for reading in readings]
        assert all(before <= ts <= SystemClock().now() for ts in stamps)
        assert stamps == sorted(stamps)

    reading(bus, story)
    assert devices.reads == {1: 1, 2: 1}


def test_a_late_answer_is_never_taken_for_the_next_one(framing: Framing, devices: ModbusDevices) -> None:
    devices.add(1, "r4dcb08", lambda _channel: 9.0 if devices.reads[1] == 2 else 4.0)

    async def story(reader: Reader) -> None:
        assert await reader.cycle() == {"p1": (4.0, 0)}
        devices.fail(1, ModbusFault("late", seconds=0.16, times=2))
        # 9.0 answers the request that was given up, while the second try waits for its own answer.
        assert await reader.cycle() == {"p1": (None, 4)}
        assert devices.reads[1] == 3
        await asyncio.sleep(0.12)  # the back-off, in real time
        assert await reader.cycle() == {"p1": (4.0, 0)}

    reading(bus_to(devices, framing, DeviceOnBus(address=1, profile="r4dcb08", probes={"t1": "p1"})), story)


def test_a_slow_way_to_the_line_costs_no_reading(framing: Framing, devices: ModbusDevices) -> None:
    devices.add(1, "r4dcb08", steady(4.0))
    devices.fail(1, ModbusFault("late", seconds=0.16, times=2))
    there = bus_to(devices, framing, DeviceOnBus(address=1, profile="r4dcb08", probes={"t1": "p1"}))

    async def story(reader: Reader) -> None:
        assert await reader.cycle() == {"p1": (4.0, 0)}

    reading(msgspec.structs.replace(there, latency=5.0), story)


def test_without_the_silence_an_answer_of_another_length_is_refused_all_the_same() -> None:
    with line("rtu") as devices:
        devices.add(1, "r4dcb08", steady(4.0))
        hasty = Timing(timeout=0.1, quiet_after_timeout=0.0)

        async def story() -> None:
            modbus = ModbusLine(bus_to(devices, "rtu"), device_profile.LineDefaults())
            devices.fail(1, ModbusFault("late", seconds=0.15, times=1))
            with pytest.raises(NoReply):
                await modbus.read(1, BlockRead(3, 0, 8), hasty)
            devices.fail(1, ModbusFault("late", seconds=0.3, times=1))
            with pytest.raises(GarbledReply, match="asked 2 of function 3, got 8"):
                await modbus.read(1, BlockRead(3, 0, 2), hasty)
            modbus.close()

        asyncio.run(story())


@pytest.mark.parametrize("framing", ["tcp", "serial"], indirect=True)
@pytest.mark.parametrize(
    ("fault", "q"),
    [
        (ModbusFault("dead"), 4),
        (ModbusFault("wrong_count"), 8),
        (ModbusFault("exception", code=4), 8),
        (ModbusFault("exception", code=0x0A), 4),
        (ModbusFault("exception", code=0x0B), 4),
        (ModbusFault("garbage"), 8),
        (ModbusFault("other_unit"), 8),
        (ModbusFault("dropped"), 4),
    ],
    ids=lambda value: f"{value.kind}-{value.code}" if isinstance(value, ModbusFault) else "",
)
def test_a_fault_of_one_unit_is_null_with_its_cause_and_the_others_are_read(
    framing: Framing, devices: ModbusDevices, fault: ModbusFault, q: int
) -> None:
    for unit in (1, 2, 3):
        devices.add(unit, "xy-md02", steady(5.0))
    units = [DeviceOnBus(address=unit, profile="xy-md02", probes={"t": f"p{unit}"}) for unit in (1, 2, 3)]

    async def story(reader: Reader) -> None:
        assert await reader.cycle() == {"p1": (5.0, 0), "p2": (5.0, 0), "p3": (5.0, 0)}
        devices.fail(2, fault)
        got = await reader.cycle()
        assert got["p2"] == (None, q)
        assert (got["p1"], got["p3"]) == ((5.0, 0), (5.0, 0))
        devices.fail(2, None)
        await asyncio.sleep(0.12)
        assert await reader.cycle() == {"p1": (5.0, 0), "p2": (5.0, 0), "p3": (5.0, 0)}

    reading(bus_to(devices, framing, *units), story)


def test_a_single_lost_frame_costs_no_reading(framing: Framing, devices: ModbusDevices) -> None:
    devices.add(1, "xy-md02", steady(5.0))

    async def story(reader: Reader) -> None:
        await reader.cycle()
        devices.fail(1, ModbusFault("dead", times=1))
        assert await reader.cycle() == {"p1": (5.0, 0)}

    reading(bus_to(devices, framing, DeviceOnBus(address=1, profile="xy-md02", probes={"t": "p1"})), story)


@pytest.mark.parametrize(
    ("framing", "fault", "said"),
    [
        ("tcp", ModbusFault("other_transaction"), "a reply of transaction 2, asked 1"),
        ("tcp", ModbusFault("other_unit"), "a reply of unit 8"),
        ("tcp", ModbusFault("wrong_count"), "asked 2 of function 4, got 3 of 4"),
        ("rtu", ModbusFault("other_unit"), "a reply of unit 8"),
        ("rtu", ModbusFault("bad_crc"), "a reply with a wrong CRC"),
        ("serial", ModbusFault("bad_crc"), "a reply with a wrong CRC"),
    ],
    ids=lambda value: value.kind if isinstance(value, ModbusFault) else "",
)
def test_what_came_in_place_of_a_reply_is_said(framing: Framing, fault: ModbusFault, said: str) -> None:
    with line(framing) as devices:
        devices.add(7, "xy-md02", steady(5.0))
        devices.fail(7, fault)

        async def story() -> None:
            modbus = ModbusLine(bus_to(devices, framing), device_profile.LineDefaults())
            with pytest.raises(GarbledReply, match=f"unit 7: {said}"):
                await modbus.read(7, BlockRead(4, 1, 2), QUICK)
            modbus.close()

        asyncio.run(story())


@pytest.mark.parametrize("framing", ["rtu", "serial"], indirect=True)
def test_noise_before_a_reply_costs_no_reading(framing: Framing, devices: ModbusDevices) -> None:
    devices.add(1, "xy-md02", steady(5.0))
    devices.fail(1, ModbusFault("noise_before"))

    async def story(reader: Reader) -> None:
        for _ in range(5):
            assert await reader.cycle() == {"p1": (5.0, 0)}
        assert devices.reads[1] == 5, "found the first time"

    reading(bus_to(devices, framing, DeviceOnBus(address=1, profile="xy-md02", probes={"t": "p1"})), story)


def test_a_reply_that_came_while_the_process_was_held_up_is_no_time_out(
    framing: Framing, devices: ModbusDevices
) -> None:
    devices.add(1, "xy-md02", steady(5.0))

    async def story() -> None:
        modbus = ModbusLine(bus_to(devices, framing), device_profile.LineDefaults())
        await modbus.read(1, BlockRead(4, 1, 2), QUICK)
        asked = asyncio.ensure_future(modbus.read(1, BlockRead(4, 1, 2), QUICK))
        while devices.reads[1] < 2:  # noqa: ASYNC110  # it counts in another thread
            await asyncio.sleep(0)
        time.sleep(1.0)  # noqa: ASYNC251  # longer than the time-out: nobody looks at the line meanwhile
        assert await asked == [50, 50]
        modbus.close()

    asyncio.run(story())


def test_silence_stands_between_frames_of_a_serial_line() -> None:
    with line("serial") as devices:
        devices.add(1, "xy-md02", steady(5.0))
        slow = device_profile.LineDefaults(baud=600)

        async def story() -> None:
            modbus = ModbusLine(bus_to(devices, "serial"), slow)
            await modbus.read(1, BlockRead(4, 1, 2), QUICK)
            begun = time.monotonic()
            for _ in range(3):
                await modbus.read(1, BlockRead(4, 1, 2), QUICK)
            assert time.monotonic() - begun >= 3 * 3.5 * 11 / 600
            modbus.close()

        asyncio.run(story())


EVERYTHING = """
device = "everything at once"
[timing]
timeout = 0.2
quiet_after_timeout = 0.1
[block]
longest = 20
gap = 2
[[channels]]
name = "a"
quantity = "t"
function = 3
address = 0
type = "u32"
order = "DCBA"
scale = 0.01
valid = [-100, 1e6]
[[channels]]
name = "b"
quantity = "t"
function = 3
address = 3
type = "f64"
order = "CDAB"
valid = [-100, 100]
[[channels]]
name = "c"
quantity = "t"
function = 4
address = 300
type = "s32"
order = "BADC"
scale = 0.1
offset = -40.0
valid = [-100, 100]
[[channels]]
name = "d"
quantity = "t"
function = 4
address = 304
type = "s16"
scale = 1.0
valid = [-100, 100]
selector = { function = 3, address = 76, scales = { "1" = 0.01, "0" = 0.1 } }
status = { function = 2, address = 5, mask = 1 }
[[channels]]
name = "door"
quantity = "door"
function = 1
address = 9
type = "bit"
valid = [0, 1]
[[channels]]
name = "mains"
quantity = "mains"
function = 3
address = 20
type = "bit"
bit = 12
valid = [0, 1]
[[channels]]
name = "batt"
quantity = "batt"
function = 3
address = 21
type = "f32"
valid = [0, 100]
"""


def test_every_type_order_table_selector_and_status_bit_over_the_wire(framing: Framing, devices: ModbusDevices) -> None:
    known = DeviceProfile.read(EVERYTHING, "here")
    feels: dict[str, float | None] = {
        "a": 8.01,
        "b": -70.25,
        "c": 4.2,
        "d": 4.21,
        "door": 1.0,
        "mains": 1.0,
        "batt": 87.6,
    }
    devices.add(7, known, feels.get)
    unit = PolledDevice(7, known, [BoundChannel(channel, channel.name) for channel in known.channels])

    async def story() -> None:
        bus = bus_to(devices, framing)
        poller = BusPoller(bus, known.line, [unit], SystemClock(), back_off=1)
        got: list[Reading] = []

        def take(readings: list[Reading], _bus: str, _due: Instant | None) -> None:
            got[:] = readings

        def values() -> dict[str, tuple[float | None, int]]:
            return {reading.p: (reading.v if reading.k else reading.t, reading.q) for reading in got}

        await poller.poll(Instant(0), take)
        assert values() == {name: (value, 0) for name, value in feels.items()} | {"batt": (88.0, 0)}
        feels.update(d=None, door=0.0, mains=0.0, b=None)
        await poller.poll(Instant(0), take)
        assert values()["d"] == (None, 1)
        assert values()["b"] == (None, 1)
        assert (values()["door"], values()["mains"]) == ((0.0, 0), (0.0, 0))
        poller._line.close()

    asyncio.run(story())
