"""Several workers, their ends, and outages of a WeChat on a real socket: nothing is lost, doubled or hammered."""

import threading
import time
from collections import Counter

import pytest
from sqlalchemy import func, select

from alerting.delivering.channels.port import Address, Channel, OutgoingMessage, Receipt, Recipient
from alerting.delivering.delivery import Delivery
from core.alarms.tables import DeliveryAttempt, OutboxMessage
from core.db.engine import Records
from core.ids import PersonId
from tests.fixtures.delivering import (
    SEND,
    Noon,
    assert_each_once,
    channel_of,
    on_sqlite,
    queue_many,
    rows,
    states,
    tries,
    until,
    worker,
)
from tests.fixtures.messages import add_alarm, add_people, queue
from tests.fixtures.wechat import Wechat

pytestmark = pytest.mark.long


def test_two_workers_share_one_outbox(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    queue_many(records, people, 200)
    stop = threading.Event()
    workers = [
        Delivery(records, {"wechat": channel_of(sim, records, timeout_s=30)}, Noon(), worker=name, lease_s=300)
        for name in ("w1", "w2")  # so patient that a busy machine lets none of them try twice
    ]
    threads = [threading.Thread(target=each.run, args=(stop,)) for each in workers]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + 120
    while set(states(records)) != {"sent"} and time.monotonic() < ends:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(states(records)) == {"sent"}
    assert_each_once(sim, 200)
    assert sim.calls(SEND) == 200, "nothing was even tried twice"


class Dawdling:
    """A channel that comes back long after its longest send, as a process does that was stopped for a while."""

    longest_send_s = 0.1

    def __init__(self, real: Channel, dawdles_s: float) -> None:
        self._real = real
        self._dawdles_s = dawdles_s

    def send(self, message: OutgoingMessage, to: Address) -> Receipt:
        receipt = self._real.send(message, to)
        time.sleep(self._dawdles_s)
        return receipt

    def take_over(self, _message: OutgoingMessage, _to: Recipient) -> None:
        return


def test_a_worker_that_outlives_its_lease_changes_nothing(
    sim: Wechat, records: Records, people: list[PersonId]
) -> None:
    with records.write() as tx:
        queue(tx, add_alarm(tx), people[0])
    real = channel_of(sim, records)
    with (
        worker(records, {"wechat": Dawdling(real, 1.0)}, name="slow", lease_s=0.3) as slow,
        worker(records, {"wechat": real}, name="quick") as quick,
    ):
        until(slow, lambda: len(sim.received("a")) == 1)
        until(quick, lambda: states(records) == ["sent"])
        [before] = rows(records)
        until(slow, lambda: len(tries(records)) == 2)
    [after] = rows(records)
    assert (after.state, after.receipt, after.lease) == (before.state, before.receipt, None)
    with records.read() as tx:
        details = tx.scalars(select(DeliveryAttempt.detail).order_by(DeliveryAttempt.id)).all()
    assert list(details) == ["", "after the lease had ended"]
    assert_each_once(sim, 1)


@pytest.mark.parametrize("act", ["expire", "revoke"])
@on_sqlite
def test_a_token_that_ends_in_the_middle_of_a_burst_loses_nothing(sim: Wechat, records: Records, act: str) -> None:
    with records.write() as tx:
        people = add_people(tx, "a", "b", "c")
    queue_many(records, people, 120)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, lambda: len(sim.received()) > 30)
        sim.spoil_tokens(act)
        until(delivery, lambda: set(states(records)) == {"sent"})
    assert_each_once(sim, 120)
    assert sim.calls("stable_token") <= 3


@on_sqlite
def test_a_partial_outage_delays_and_doubles_nothing(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    queue_many(records, people, 60)
    for kind, every in (("reset", 4), ("lost_answer", 5), ("truncated", 7), ("html", 6)):
        sim.fault(SEND, kind, times=6, every=every)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, lambda: set(states(records)) == {"sent"}, within_s=25)
    assert_each_once(sim, 60)
    assert Counter(outcome for outcome, _ in tries(records))["retry"] == 24


@on_sqlite
def test_while_nothing_passes_few_are_tried_and_afterwards_all_are_sent(
    sim: Wechat, records: Records, people: list[PersonId]
) -> None:
    queue_many(records, people, 200)
    sim.fault(SEND, "http_502", times=None)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
        assert len(tries(records)) <= 40
        assert set(states(records)) == {"queued"}
        sim.mend()
        until(delivery, lambda: set(states(records)) == {"sent"}, within_s=20)
    assert_each_once(sim, 200)


@pytest.mark.parametrize(
    ("code", "calls"), [(45011, 32), (40164, 32), (45009, 32), (48001, 32), (47003, 60), (40037, 60), (12345, 60)]
)
@on_sqlite
def test_what_a_quota_an_account_or_a_template_refuses_waits_and_is_not_hammered(
    sim: Wechat, records: Records, code: int, calls: int
) -> None:
    with records.write() as tx:
        people = add_people(tx, "a", "b", "c")
    queue_many(records, people, 60)
    sim.fault(SEND, "errcode", times=None, errcode=code)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
    assert set(states(records)) == {"queued"}
    outcomes, codes = ({one[part] for one in tries(records)} for part in (0, 1))
    assert (outcomes, codes - {"timeout"}) == ({"retry"}, {str(code)}), "a busy machine may be late"
    assert sim.calls(SEND) <= calls


def test_the_next_life_of_a_worker_takes_over_at_once(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    queue_many(records, people, 3)
    sim.fault(SEND, "hang", times=3, seconds=0.8)
    dead = Delivery(records, {"wechat": channel_of(sim, records)}, Noon(), worker="w1", lease_s=3600)
    dead.run_once()
    until(dead, lambda: sim.calls(SEND) == 3)
    sim.mend()
    with worker(records, {"wechat": channel_of(sim, records)}, name="w2") as other:
        assert other.run_once() == 0, "the leases still hold"
    with worker(records, {"wechat": channel_of(sim, records)}) as reborn:
        until(reborn, lambda: set(states(records)) == {"sent"})
    assert_each_once(sim, 3)


@on_sqlite
def test_closing_waits_a_little_and_writes_down_what_came_back(
    sim: Wechat, records: Records, people: list[PersonId]
) -> None:
    queue_many(records, people, 30)
    sim.fault(SEND, "slow", times=None, seconds=0.4)
    delivery = Delivery(records, {"wechat": channel_of(sim, records)}, Noon(), worker="w1", lease_s=30)
    delivery.run_once()
    until(delivery, lambda: sim.calls(SEND) >= 16)
    delivery.close()
    sim.mend()
    assert Counter(states(records))["sent"] >= 16
    with records.read() as tx:
        assert tx.scalar(select(func.count()).where(OutboxMessage.lease.is_not(None))) == 0
    with worker(records, {"wechat": channel_of(sim, records)}) as reborn:
        until(reborn, reborn.idle)
    assert_each_once(sim, 30)
    assert sim.calls(SEND) == 30


@on_sqlite
def test_a_lease_must_be_longer_than_a_try(sim: Wechat, records: Records) -> None:
    with pytest.raises(ValueError, match=r"alerting\.lease = 6\.0: a wechat message may take 6\.0\d* s"):
        Delivery(records, {"wechat": channel_of(sim, records)}, Noon(), worker="w1", lease_s=6.0)


@on_sqlite
def test_many_messages_leave_each_once(sim: Wechat, records: Records) -> None:
    with records.write() as tx:
        people = add_people(tx, "a", "b", "c")
    queue_many(records, people, 400)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
    assert set(states(records)) == {"sent"}
    assert_each_once(sim, 400)
