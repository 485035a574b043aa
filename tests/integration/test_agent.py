import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from coldchain.simulate.modbus import ModbusDevices, ModbusFault
from config.secrets import NoSecrets
from config.settings import BusSettings, DeviceOnBus, Settings
from config.settings_loader import InvalidSetting
from core.runtime.barrier import Barrier
from core.runtime.clock import ClockKeeper, real_now
from core.runtime.instant import DAY, MINUTE, Instant
from core.wire.messages import Reading
from core.wire.topics import MessageKind
from gateway_agent import service
from gateway_agent.spool import VERSION, Spool
from tests.fixtures.broker import broker, running
from tests.fixtures.modbus import bus_to, line
from tests.fixtures.uplinks import GW, Upstream, agent_in
from tests.fixtures.waiting import until

START = Instant(1_774_632_960_000)
ROOT = Path(__file__).parents[2]


@pytest.fixture
def devices() -> Iterator[ModbusDevices]:
    with line("tcp") as made:
        made.add(1, "xy-md02", {"t": 4.2, "h": 54.6}.get)
        yield made


def fridge(devices: ModbusDevices, interval: float = 0.2, name: str = "bus-1") -> BusSettings:
    unit = DeviceOnBus(address=1, profile="xy-md02", probes={"t": "208601", "h": "208601"})
    return bus_to(devices, "tcp", unit, interval=interval, name=name)


def nothing_lost(settings: Settings, up: Upstream) -> bool:
    """Whether each number that the spool gave is stored, declared lost, or still in the spool."""
    spool = Spool(Path(settings.data_dir) / "spool" / f"{GW}.db", limit_bytes=2**30, limit_age=DAY)
    left = {row.seq for row in spool.after(0, 10_000)}
    stored = {seq for _, ep, seq in up.stored if ep == spool.ep}
    lost = {seq for _, batch in up.batches for first, last in batch.lost for seq in range(first, last + 1)}
    spool.close()
    return set(range(1, spool.seq + 1)) <= left | stored | lost


def test_from_the_device_to_an_empty_spool(tmp_path: Path, devices: ModbusDevices) -> None:
    settings = agent_in(tmp_path, fridge(devices))
    with broker(settings), Upstream(settings) as up:
        with running(service.run, settings):
            up.saw(lambda up: len(up.stored) > 3, "batches")
            up.saw(lambda up: up.healths, "health")
        up.saw(lambda up: up.states[-1].state == "offline", "an orderly good-bye")
        assert nothing_lost(settings, up)
        birth, (kind, batch) = up.births[0], up.batches[0]
        assert up.states[0].state == "online"
        assert [(probe.p, probe.profile, probe.interval) for probe in birth.probes] == [("208601", "xy-md02", 200)]
        assert (birth.gw, birth.ep, birth.boot) == (batch.gw, batch.ep, batch.boot)
        assert kind is MessageKind.DATA
        assert [(r.p, r.k, r.t, r.v, r.q) for r in batch.r[:2]] == [
            ("208601", None, 4.2, None, 0),
            ("208601", "h", None, 54.6, 0),
        ]
        assert batch.sent >= batch.r[0].ts
        assert [batch.seq for _, batch in up.batches] == list(range(1, len(up.batches) + 1)), "each once, in order"
        assert up.healths[0].buses[0].bus == "bus-1"
        # A reading is stamped as its answer ends, which on a busy machine may be in the next cycle.
        ends = [ts // 200 for probe, ts, _, _ in up.readings[::2]]
        assert ends == sorted(ends)
        assert len(ends) <= ends[-1] - ends[0] + 2, "one reading a cycle"


def test_without_acknowledgement_nothing_leaves_and_all_is_sent_again(tmp_path: Path, devices: ModbusDevices) -> None:
    settings = agent_in(tmp_path, fridge(devices), in_flight=4)
    with broker(settings), Upstream(settings, acks=False) as up:
        with running(service.run, settings):
            up.saw(lambda up: len(up.batches) >= 8, "everything twice")
            assert {batch.seq for _, batch in up.batches} == {1, 2, 3, 4}, "no more than in flight"
            once, twice = up.batches[0][1], next(b for _, b in up.batches[4:] if b.seq == 1)
            assert (once.r, once.ep, once.boot) == (twice.r, twice.ep, twice.boot)
            assert twice.sent > once.sent
            up.acks = True
            up.saw(lambda up: len(up.stored) > 8, "the rest")
        assert not up.clones
        assert nothing_lost(settings, up)


def test_a_broker_that_forgot_everything_is_told_everything_again(tmp_path: Path, devices: ModbusDevices) -> None:
    settings = agent_in(tmp_path, fridge(devices), resend_after=60.0)
    with running(service.run, settings):
        with broker(settings), Upstream(settings, acks=False) as up:
            up.saw(lambda up: len(up.batches) >= 3, "batches")
        until(lambda: _spooled(settings) >= 6, "readings while there is no broker")
        with broker(settings), Upstream(settings) as up:
            up.saw(lambda up: up.births and up.states and 1 in {batch.seq for _, batch in up.batches}, "all of it")
            up.saw(lambda up: max(batch.seq for _, batch in up.batches) > up.births[-1].seq + 1, "and what is new")
            assert up.births[-1].seq >= 6
            seqs = [batch.seq for _, batch in up.batches]
            assert sorted(set(seqs)) == list(range(1, max(seqs) + 1))
            assert not up.clones


def test_a_kill_is_told_by_the_last_will_and_loses_nothing(tmp_path: Path, devices: ModbusDevices) -> None:
    settings = agent_in(tmp_path, fridge(devices, interval=0.1))
    (tmp_path / "coldchain.toml").write_text(_toml(settings, devices))
    with broker(settings), Upstream(settings) as up:
        boots = set()
        for kill in range(5):
            seen = len(up.stored)
            agent = subprocess.Popen(
                [sys.executable, "-m", "coldchain", "gateway", "-c", str(tmp_path / "coldchain.toml")],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stderr=subprocess.DEVNULL,
            )
            up.acks = kill != 2
            if up.acks:
                up.saw(lambda up, seen=seen: len(up.stored) > seen + 3, "batches")
            else:
                heard = len(up.batches)
                up.saw(lambda up, heard=heard: len(up.batches) > heard + 3, "batches")
            agent.send_signal(signal.SIGKILL)
            agent.wait()
            up.saw(lambda up: up.states[-1].state == "offline", "the last will")
            boots.add(up.births[-1].boot)
        up.acks = True
        with running(service.run, settings):
            up.saw(lambda up: up.births[-1].boot not in boots, "a new birth")
            seen = up.births[-1].seq
            up.saw(lambda up: set(range(1, seen + 1)) <= {seq for _, _, seq in up.stored}, "all that was spooled")
        assert len(boots) == 5
        assert not up.clones, "no number was given twice"
        eps = {ep for _, ep, _ in up.stored}
        assert len(eps) == 1, "one life of the spool"
        assert nothing_lost(settings, up)


def test_a_stepped_clock_gives_one_reading_a_step_stamped_then(tmp_path: Path, devices: ModbusDevices) -> None:
    keeper = ClockKeeper(tmp_path / "run" / "clock.json", start=START, speed=0)
    settings = msgspec.structs.replace(
        agent_in(tmp_path, fridge(devices, interval=60)), virtual_clock=str(tmp_path / "run" / "clock.json")
    )
    barrier = Barrier(Path(settings.virtual_clock))
    with broker(settings), Upstream(settings) as up, running(service.run, settings):
        steps = [START, *(Instant(START + minute * MINUTE) for minute in (1, 2, 7, 8))]
        for when in steps:
            barrier.wait(["gateway_agent"], keeper.step_to(when), within_s=10)
            assert [ts for probe, ts, _, _ in up.readings[::2]] == steps[: steps.index(when) + 1]
        devices.fail(1, ModbusFault("dead"))
        barrier.wait(["gateway_agent"], keeper.step_to(Instant(START + 9 * MINUTE)), within_s=10)
        assert up.readings[-2:] == [("208601", START + 9 * MINUTE, None, 4)] * 2
        assert up.healths[-1].sent == START + 9 * MINUTE


def test_the_step_is_not_over_before_all_is_acknowledged(tmp_path: Path, devices: ModbusDevices) -> None:
    keeper = ClockKeeper(tmp_path / "run" / "clock.json", start=START, speed=0)
    settings = msgspec.structs.replace(
        agent_in(tmp_path, fridge(devices, interval=60)), virtual_clock=str(tmp_path / "run" / "clock.json")
    )
    barrier = Barrier(Path(settings.virtual_clock))
    with broker(settings), Upstream(settings, acks=False) as up, running(service.run, settings):
        step = keeper.step_to(Instant(START + MINUTE))
        up.saw(lambda up: up.batches, "a batch")
        with pytest.raises(TimeoutError, match="gateway_agent was not idle"):
            barrier.wait(["gateway_agent"], step, within_s=0.3)
        up.acks = True
        barrier.wait(["gateway_agent"], step, within_s=5)


def test_buses_of_one_gateway_are_one_commit_and_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with line("tcp") as quick, line("rtu") as dead:
        quick.add(1, "xy-md02", {"t": 4.2, "h": 54.6}.get)
        silent = [DeviceOnBus(address=n, profile="r4dcb08", probes={"t1": str(n)}) for n in (7, 8, 9)]
        slow = bus_to(dead, "rtu", *silent, name="slow", interval=1)
        settings = agent_in(tmp_path, fridge(quick, interval=1), slow, back_off=30.0)
        with broker(settings), Upstream(settings) as up, running(service.run, settings):
            both = {"208601", "7", "8", "9"}
            # once the dead units are left alone for a whole cycle
            up.saw(lambda up: both in [{r.p for r in batch.r} for _, batch in up.batches], "one batch of both buses")
            delays = [batch.sent - r.ts for _, batch in up.batches for r in batch.r if r.p == "208601"]
            assert max(delays) < 1500, "the other bus's time-outs delay nothing"


def test_a_full_disk_is_no_reason_to_stop_and_heals(tmp_path: Path, devices: ModbusDevices) -> None:
    settings = agent_in(tmp_path, fridge(devices))
    folder = Path(settings.data_dir) / "spool"
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")  # a disk that refuses: the folder can't be made
    with broker(settings), Upstream(settings) as up, running(service.run, settings):
        up.saw(lambda up: len(up.stored) > 3, "readings from memory")
        folder.unlink()
        up.saw(lambda up: len({ep for _, ep, _ in up.stored}) == 2, "readings by way of the disk")
        assert not up.clones
    assert (folder / f"{GW}.db").exists()


def test_a_damaged_spool_is_set_aside_and_polling_goes_on(tmp_path: Path, devices: ModbusDevices) -> None:
    settings = agent_in(tmp_path, fridge(devices))
    folder = Path(settings.data_dir) / "spool"
    folder.mkdir()
    (folder / f"{GW}.db").write_bytes(b"not a database" * 1000)
    with broker(settings), Upstream(settings) as up, running(service.run, settings):
        up.saw(lambda up: len(up.stored) > 2, "batches")
    [aside] = folder.glob("*.damaged-*")
    assert aside.read_bytes().startswith(b"not a database")
    assert sqlite3.connect(folder / f"{GW}.db").execute("PRAGMA user_version").fetchone() == (VERSION,)


def test_what_the_spool_dropped_is_declared_until_covered(tmp_path: Path, devices: ModbusDevices) -> None:
    settings = agent_in(tmp_path, fridge(devices), spool_bytes=65_536)
    path = Path(settings.data_dir) / "spool" / f"{GW}.db"
    small = Spool(path, limit_bytes=300, limit_age=DAY)
    then = Instant(real_now() - 10 * MINUTE)
    for number in range(1, 10):
        small.append([Reading(p="208601", ts=then + number, t=4.0)], boot="00000000", at=then)
    dropped, kept = small.lost, small.depth
    assert dropped == [(1, 9 - kept)]
    small.close()
    with broker(settings), Upstream(settings) as up, running(service.run, settings):
        up.saw(lambda up: up.batches, "a batch")
        assert up.batches[0][1].lost == dropped
        up.saw(lambda up: up.batches[-1][1].lost == [], "a batch without a declaration")
        assert {batch.seq for kind, batch in up.batches if kind is MessageKind.BACKFILL} == set(range(10 - kept, 10))
    assert nothing_lost(settings, up)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"profile": "xy-md2"},
            "agent.gateways[0].buses[0].units[0].profile = 'xy-md2': no device profile 'xy-md2'; there are: ",
        ),
        ({"probes": {"t9": "1"}}, "agent.gateways[0].buses[0].units[0].probes.t9: xy-md02 has no such channel"),
        ({"probes": {}}, "agent.gateways[0].buses[0].units[0].probes is empty"),
        (
            {"probes": {"t": "208601冷藏"}},
            "units[0].probes.t = '208601冷藏': write the code alone, as it travels: '208601'",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_at_start(tmp_path: Path, change: dict[str, object], said: str) -> None:
    unit = msgspec.structs.replace(DeviceOnBus(address=1, profile="xy-md02", probes={"t": "1"}), **change)
    bus = BusSettings(name="b", kind="tcp", host="127.0.0.1", units=[unit])
    with pytest.raises(InvalidSetting) as refused:
        service.run(agent_in(tmp_path, bus), threading.Event())
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("bus", "said"),
    [
        ({"kind": "rtu"}, "buses[0].device is empty"),
        ({"kind": "tcp", "host": ""}, "buses[0].host is empty"),
        ({"units": [DeviceOnBus(address=1, profile="xy-md02", probes={"t": str(n)}) for n in (1, 2)]}, "address = '1'"),
        (
            {"units": [DeviceOnBus(address=n, profile="xy-md02", probes={"t": "1"}) for n in (1, 2)]},
            "'1 (t)' stands twice",
        ),
    ],
)
def test_so_is_a_bus_that_can_not_be(tmp_path: Path, bus: dict[str, object], said: str) -> None:
    plain = BusSettings(name="b", kind="tcp", host="127.0.0.1", units=[])
    with pytest.raises(InvalidSetting) as refused:
        service.run(agent_in(tmp_path, msgspec.structs.replace(plain, **bus)), threading.Event())
    assert said in str(refused.value)


def test_a_gateway_without_a_password_is_refused_with_what_to_do(tmp_path: Path) -> None:
    settings = agent_in(tmp_path)
    box = msgspec.structs.replace(settings.agent.gateways[0], number="10002")
    settings = msgspec.structs.replace(settings, agent=msgspec.structs.replace(settings.agent, gateways=[box]))
    with pytest.raises(NoSecrets, match="no broker password of gateway 10002"):
        service.run(settings, threading.Event())


def _spooled(settings: Settings) -> int:
    """Rows of the spool as another process sees them: committed ones."""
    path = Path(settings.data_dir) / "spool" / f"{GW}.db"
    try:
        db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        [[rows]] = db.execute("SELECT count(*) FROM batch")
        db.close()
    except sqlite3.OperationalError:
        return -1
    return int(rows)


def _toml(settings: Settings, devices: ModbusDevices) -> str:
    return f"""
data_dir = "{settings.data_dir}"
[broker]
port = {settings.broker.port}
[agent]
resend_after = 1.0
[[agent.gateways]]
number = "{GW}"
[[agent.gateways.buses]]
name = "bus-1"
kind = "tcp"
host = "127.0.0.1"
port = {devices.port}
interval = 0.1
units = [{{ address = 1, profile = "xy-md02", probes = {{ t = "208601", h = "208601" }} }}]
"""
