"""kill -9 of a delivery worker at the worst moments. What the phones received is the oracle."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import func, select

from alerting.delivering.channels.wechat import wechat_channel
from alerting.delivering.delivery import Delivery
from core.alarms.tables import OutboxMessage
from core.db.engine import Records
from core.runtime.clock import SystemClock
from tests.fixtures import delivery_process
from tests.fixtures.delivering import assert_each_once
from tests.fixtures.messages import add_alarm, add_people, queue
from tests.fixtures.waiting import until
from tests.fixtures.wechat import SECRET, Wechat, wechat_simulator

pytestmark = pytest.mark.long

LEASE_S = 4.0
PEOPLE = ("a", "b", "c")


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Wechat]:
    with wechat_simulator(tmp_path / "wechat", timeout=0.6) as running:
        running.people(*PEOPLE)
        yield running


def url_of(records: Records) -> str:
    return records.engine.url.render_as_string(hide_password=False)


def queue_many(records: Records, number: int) -> None:
    with records.write() as tx:
        people = add_people(tx, *PEOPLE)
        alarms = [add_alarm(tx, f"F{each}") for each in range(10)]
        for turn in range(number):
            # Not repeats, which would give way to each other.
            queue(tx, alarms[turn % 10], people[turn % 3], tier=1 + turn // 10)


def left(records: Records) -> int:
    with records.read() as tx:
        return tx.scalar(select(func.count()).where(OutboxMessage.state != "sent")) or 0


@contextmanager
def delivering(records: Records, sim: Wechat) -> Iterator[None]:
    """Run a worker, and kill it with -9 at the end."""
    process = delivery_process.start(url_of(records), sim.settings, worker="w1", lease_s=LEASE_S)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.req("AL-06")
@pytest.mark.parametrize("mended_by", ["w1", "w2"])
def test_killed_between_send_and_finish_nobody_sees_two(sim: Wechat, records: Records, mended_by: str) -> None:
    queue_many(records, 6)
    process = delivery_process.start(url_of(records), sim.settings, worker="w1", lease_s=LEASE_S, dies_after=2)
    assert process.wait(30) == -9
    assert len(sim.received()) >= 2
    assert left(records) > 0
    channel = wechat_channel(sim.settings, SECRET, records)
    assert channel is not None
    heir = Delivery(records, {"wechat": channel}, SystemClock(), worker=mended_by, lease_s=LEASE_S)
    began = time.monotonic()
    while left(records):
        heir.run_once()
        assert time.monotonic() - began < 15
    took = time.monotonic() - began
    heir.close()
    assert (took < LEASE_S - 0.5) if mended_by == "w1" else (took < LEASE_S + 5)
    assert_each_once(sim, 6)
    assert sim.calls("message/template/send") > 6, "some were sent again, and WeChat dropped the copies"
    with records.read() as tx:
        assert max(tx.scalars(select(OutboxMessage.attempts))) == 2


def test_killed_again_and_again_nothing_is_lost_or_doubled(sim: Wechat, records: Records) -> None:
    number = 150
    queue_many(records, number)
    chance = random.Random(6)
    for _ in range(4):
        enough = min(number, len(sim.received()) + chance.randrange(1, 30))
        with delivering(records, sim):
            until(lambda enough=enough: len(sim.received()) >= enough, within_s=30.0)  # type: ignore[misc]
    with delivering(records, sim):
        until(lambda: left(records) == 0, within_s=30.0)
    assert_each_once(sim, number)
