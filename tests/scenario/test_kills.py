"""kill -9 of everything that `coldchain up` runs, and of itself, while readings and alarms are in flight.

The oracles are outside: what phones received (the simulator's log), and what the stores give back to another process.
"""

import os
import random
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.alarms.message import client_msg_id
from core.alarms.tables import Outbox
from core.devices.tables import Probe, Series
from core.ids import SeriesId
from core.intake.open import open_log
from core.runtime.barrier import Barrier
from core.runtime.clock import ClockKeeper, monotonic
from core.runtime.instant import DAY, Instant, Milliseconds
from core.telemetry.open import open_telemetry
from core.wire.topics import GatewayNumber
from gateway_agent.spool import Spool
from tests.scenario.county import County, Fridge, python, register_phones, staged

FRIDGES = [
    Fridge("BX-1", "美菱冰箱", {"208601": "10001"}),
    Fridge("BX-2", "海尔冰箱", {"208602": "10001"}),
    Fridge("LK-1", "一号冷库", {"200101": "10001", "200102": "10002"}, kind="冷库"),
    Fridge("BX-3", "容声冰箱", {"208603": "10002"}),
]
HOT = ("美菱冰箱", "一号冷库", "容声冰箱")
SERVICES = ("gateway", "collector", "alerting", "broker", "up")
AT_RANDOM = 10
SPEED = 60


class Machine:
    """`coldchain up` as an operator runs it, and what a power cut or an OOM killer does to it."""

    def __init__(self, county: County) -> None:
        self._county = county
        self.process = self._start()

    def kill(self, name: str) -> bool:
        """Kill a child, or all of it by its parent; False when the child isn't running just now."""
        if name == "up":
            self.process.kill()
            self.process.wait()
            self.process = self._start()
            return True
        for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split():
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if name.encode() in words:
                os.kill(int(child), signal.SIGKILL)
                return True
        return False

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0

    def _start(self) -> "subprocess.Popen[str]":
        return python("up", "--config", str(self._county.stage.config), folder=self._county.stage.folder)


@contextmanager
def kept(keeper: ClockKeeper) -> Iterator[None]:
    """Let the clock run."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.wait(0.5):
            keeper.save()

    thread = threading.Thread(target=keep)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        keeper.close()


def until(true: Callable[[], object], what: str, within_s: float) -> None:
    ends = monotonic() + within_s
    while not true():
        assert monotonic() < ends, f"{what}: not within {within_s} s"
        threading.Event().wait(0.2)


@pytest.mark.req("AL-06", "AL-09", "AL-10")
def test_whatever_is_killed_every_reading_is_stored_once_and_every_level_told_once(tmp_path: Path) -> None:
    chance = random.Random(20261121)
    with staged(tmp_path, FRIDGES, speed=SPEED) as county:
        wechat = python(*county.stage.wechat().arguments, folder=tmp_path)
        machine = Machine(county)
        try:
            with kept(county.keeper):
                register_phones(county)
                _have_some_of_the_day(county, machine, chance)
            _drain(county)
            machine.stop()
            _every_reading_once(county)
            _every_message_once(county)
        finally:
            machine.process.kill()
            machine.process.wait()
            wechat.terminate()
            wechat.wait(10)


def _have_some_of_the_day(county: County, machine: Machine, chance: random.Random) -> None:
    until(lambda: _received(county), "first readings", 30)
    for fridge in HOT:
        county.show(fridge, 9.4)
    kills: Counter[str] = Counter()
    targets = [*SERVICES, *(chance.choice(SERVICES) for _ in range(AT_RANDOM))]
    for target in targets:
        threading.Event().wait(chance.uniform(1.0, 5.0))
        until(lambda target=target: machine.kill(target), f"{target} runs", 30)
        kills[target] += 1
    assert kills.total() == len(SERVICES) + AT_RANDOM
    until(lambda: len(_third_level(county)) == len(HOT), "the third level of each alarm", 150)


def _received(county: County) -> int:
    log = open_log(county.settings.intake.url, county.settings.data_dir)
    try:
        return sum(log.heads().values())
    finally:
        log.close()


def _third_level(county: County) -> set[str]:
    return {
        one["data"]["thing2"]["value"]
        for one in county.phone(3).alarms()
        if one["data"]["phrase5"]["value"] == "三级报警" and "高于" in one["data"]["thing3"]["value"]
    }


def _drain(county: County) -> None:
    """Stop the clock and wait until all that was due has been done."""
    keeper = ClockKeeper(county.stage.clock_file, start=Instant(0), speed=0)
    Barrier(county.stage.clock_file).wait(county.order, keeper.step_to(keeper.now()), within_s=60)
    keeper.close()


def _every_reading_once(county: County) -> None:
    log = open_log(county.settings.intake.url, county.settings.data_dir)
    taken: dict[str, dict[int, int | None]] = {}
    batches: Counter[tuple[str, str, int]] = Counter()
    for shard in log.shards():
        for entry in log.read(shard, 0, log.head(shard)):
            batches[entry.batch.gw, entry.batch.ep, entry.batch.seq] += 1
            for reading in entry.batch.readings:
                taken.setdefault(reading.p, {})[reading.at] = reading.value
    assert set(batches.values()) == {1}, "a batch stands in the log twice"
    for number in ("10001", "10002"):
        file = Path(county.settings.data_dir) / "spool" / f"{number}.db"
        spool = Spool(file, limit_bytes=2**30, limit_age=Milliseconds(10 * DAY))
        spooled = spool.seq
        assert spooled > 60
        assert log.have(GatewayNumber(number), spool.ep) == [(1, spooled)], "not all that was spooled was stored"
        assert sum(gw == number for gw, _, _ in batches) == spooled
        spool.close()
    log.close()
    store = open_telemetry(county.settings, read_only=True)
    with county.records.read() as tx:
        series = dict(tx.query(Probe.code, Series.id).join(Series, Series.probe_id == Probe.id).all())
    for code, readings in taken.items():
        curve = store.range(SeriesId(series[code]), Instant(0), Instant(2**52))
        assert {sample.at: sample.value for sample in curve.samples(series[code])} == readings
    store.close()


def _every_message_once(county: County) -> None:
    received = [one for level in (1, 2, 3) for one in county.phone(level).messages]
    copies = Counter(one["client_msg_id"] for one in received)
    assert set(copies.values()) == {1}, "somebody was told the same twice"
    with county.records.read() as tx:
        rows = tx.query(Outbox.key, Outbox.state).all()
    assert {state for _, state in rows} <= {"sent", "superseded"}
    assert {client_msg_id(key) for key, state in rows if state == "sent"} == set(copies)
    for fridge in HOT:
        told = {
            level: Counter(
                one["data"]["phrase5"]["value"]
                for one in county.phone(level).alarms(fridge)
                if "高于" in one["data"]["thing3"]["value"] and "重复" not in one["data"]["phrase5"]["value"]
            )
            for level in (1, 2, 3)
        }
        assert told == {
            1: {"一级报警": 1, "二级报警": 1, "三级报警": 1},
            2: {"二级报警": 1, "三级报警": 1},
            3: {"三级报警": 1},
        }
