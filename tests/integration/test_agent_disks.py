"""The agent on a disk that is full, or read-only at its start: it goes on, says so, and loses no reading."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest

from coldchain.simulate.modbus import ModbusDevices
from config.settings import DeviceOnBus, Settings
from core.runtime.instant import DAY
from core.runtime.status import StatusFile
from core.runtime.trouble import TroubleKind
from gateway_agent import service
from gateway_agent.spool import Spool
from tests.fixtures.broker import broker, running
from tests.fixtures.disks import small_disk
from tests.fixtures.modbus import bus_to, line
from tests.fixtures.uplinks import GW, Upstream, agent_in
from tests.fixtures.waiting import until


@pytest.fixture(autouse=True)
def _quick_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.runtime.status.EVERY_S", 0.1)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    with line("tcp") as devices:
        devices.add(1, "xy-md02", another_each_time())
        yield with_one_device(devices, tmp_path)


def another_each_time() -> Callable[[str], float]:
    """Return what the device shows: two readings are told apart even where both are of one millisecond."""
    numbers = count()
    return lambda _channel: next(numbers) % 500 / 10


def with_one_device(devices: ModbusDevices, folder: Path) -> Settings:
    unit = DeviceOnBus(address=1, profile="xy-md02", probes={"t": "208601"})
    return agent_in(folder, bus_to(devices, "tcp", unit, interval=0.1))


def troubles(settings: Settings) -> dict[str, TroubleKind]:
    status = StatusFile(settings.data_dir, "gateway").read()
    return {trouble.part: trouble.kind for trouble in status.troubles} if status else {}


def read(settings: Settings) -> int:
    """Return how often the device was read, as the agent itself counted until its end."""
    status = StatusFile(settings.data_dir, "gateway").read()
    return int(status.facts["reads"]) if status else 0


def heard_or_kept(settings: Settings, up: Upstream) -> int:
    """Return how many readings arrived, each counted once, and how many more are in the spool."""
    spool = Spool(Path(settings.data_dir) / "spool" / f"{GW}.db", limit_bytes=2**30, limit_age=DAY)
    rows = [row for row in spool.after(0, 10_000) if (GW, spool.ep, row.seq) not in up.stored]
    spool.close()
    return len({(ts, value) for _, ts, value, _ in up.readings}) + sum(len(msgspec.json.decode(row.r)) for row in rows)


def test_while_the_disk_is_full_readings_go_from_memory_and_none_is_lost(settings: Settings) -> None:
    with small_disk(Path(settings.data_dir) / "spool", mib=1) as disk, broker(settings), Upstream(settings) as up:
        with running(service.run, settings):
            up.saw(lambda up: len(up.stored) > 3, "batches by way of the disk")
            disk.fill()
            until(lambda: troubles(settings) == {"spool": TroubleKind.DISK_FULL}, "a word of it")
            up.saw(lambda up: len({ep for _, ep, _ in up.stored}) == 2, "batches from memory")
            disk.free()
            until(lambda: troubles(settings) == {}, "its end")
            heard = len(up.stored)
            up.saw(lambda up: len(up.stored) > heard + 3, "batches by way of the disk again")
        assert len({ep for _, ep, _ in up.stored}) == 2, "the disk's spool went on where it was"
        assert up.clones == 0
        assert heard_or_kept(settings, up) == read(settings)


def test_on_a_disk_that_is_read_only_at_the_start_it_comes_up_and_heals(settings: Settings) -> None:
    with small_disk(Path(settings.data_dir) / "spool", mib=1) as disk, broker(settings), Upstream(settings) as up:
        disk.read_only(yes=True)
        with running(service.run, settings):
            until(lambda: troubles(settings) == {"spool": TroubleKind.READ_ONLY}, "a word of it")
            up.saw(lambda up: len(up.stored) > 3, "batches from memory")
            disk.read_only(yes=False)
            until(lambda: troubles(settings) == {}, "its end")
            up.saw(lambda up: len({ep for _, ep, _ in up.stored}) == 2, "batches by way of the disk")
        assert heard_or_kept(settings, up) == read(settings)
