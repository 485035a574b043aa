"""The outbox's worker against a WeChat on a real socket; what the phones received is the oracle."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec
import pytest
from sqlalchemy import func, select, update

from alerting.channels.port import Address, Channel, Message, Receipt, Recipient, Refused
from alerting.channels.wechat import wechat_channel
from alerting.deliver import Delivery
from core.alarms.message import on_channel
from core.alarms.tables import Alarm, Attempt, Outbox
from core.db.engine import Records
from core.ids import PersonId
from core.runtime.clock import SystemClock, real_now
from core.runtime.instant import Instant
from core.units.tables import Person
from tests.fixtures.messages import add_alarm, add_people, queue
from tests.fixtures.wechat import SECRET, Wechat, wechat_simulator

SEND = "message/template/send"
NOON = Instant(1_774_670_400_000)


on_sqlite = pytest.mark.parametrize("records", ["sqlite"], indirect=True)
"""For what no database has a say in."""


class Noon(SystemClock):
    """The system's clock of these tests, far from real time."""

    def now(self) -> Instant:
        return NOON


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wechat]:
    with wechat_simulator(tmp_path_factory.mktemp("wechat"), timeout=1.0) as simulator:
        yield simulator


@pytest.fixture
def sim(running: Wechat) -> Wechat:
    running.start_over().people("a", "b", "c")
    return running


@pytest.fixture
def people(records: Records) -> list[PersonId]:
    with records.write() as tx:
        return add_people(tx, "a", "b", "c")


def channel_of(sim: Wechat, records: Records) -> Channel:
    channel = wechat_channel(sim.settings, SECRET, records)
    assert channel is not None
    return channel


@contextmanager
def worker(
    records: Records, channels: Mapping[str, Channel], *, name: str = "w1", lease_s: float = 30.0
) -> Iterator[Delivery]:
    delivery = Delivery(records, channels, Noon(), worker=name, lease_s=lease_s)
    yield delivery
    delivery.close()


def until(delivery: Delivery, done: Callable[[], bool], within_s: float = 15.0) -> None:
    """Let a worker work until something is so."""
    ends = time.monotonic() + within_s
    while not done():
        assert time.monotonic() < ends, "not within its time"
        delivery.run_once()


def rows(records: Records) -> Sequence[Outbox]:
    with records.read() as tx:
        return tx.scalars(select(Outbox).order_by(Outbox.id)).all()


def states(records: Records) -> list[str]:
    return [row.state for row in rows(records)]


def tries(records: Records) -> list[tuple[str, str]]:
    with records.read() as tx:
        return [(one.outcome, one.code) for one in tx.scalars(select(Attempt).order_by(Attempt.id))]


def queue_many(records: Records, people: Sequence[PersonId], number: int) -> None:
    with records.write() as tx:
        alarms = [add_alarm(tx, f"F{each}") for each in range(10)]
        for turn in range(number):
            # Not repeats, which would give way to each other.
            queue(tx, alarms[turn % 10], people[turn % len(people)], tier=1 + turn // 10)


def assert_each_once(sim: Wechat, number: int) -> None:
    seen = Counter(message["client_msg_id"] for message in sim.received())
    assert len(seen) == number
    assert set(seen.values()) == {1}


@pytest.mark.req("AL-06")
def test_a_message_is_sent_with_its_time_and_result(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    with records.write() as tx:
        queue(tx, add_alarm(tx), people[0])
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        assert not delivery.idle()
        until(delivery, delivery.idle)
    [message] = sim.received("a")
    [row] = rows(records)
    assert (row.state, row.sent_at, row.receipt, row.attempts) == ("sent", NOON, message["msgid"], 1)
    assert message["body"].encode() == row.body
    assert tries(records) == [("sent", "")]


@pytest.mark.req("AL-15")
def test_without_a_sender_everything_stays_queued_and_is_sent_once_there_is_one(
    sim: Wechat, records: Records, people: list[PersonId]
) -> None:
    with records.write() as tx:
        queue(tx, add_alarm(tx), people[0], template="")
    with worker(records, {}) as delivery:
        assert delivery.idle()
        assert delivery.run_once() == 0
    assert states(records) == ["queued"]
    assert rows(records)[0].attempts == 0
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
    assert states(records) == ["sent"]
    assert len(sim.received("a")) == 1


@pytest.mark.req("AL-15")
@pytest.mark.parametrize("lacking", ["app_id", "template_alarm", "template_recovery"])
@on_sqlite
def test_an_account_that_is_half_configured_is_no_sender(sim: Wechat, records: Records, lacking: str) -> None:
    settings = msgspec.structs.replace(sim.settings, **{lacking: ""})
    assert wechat_channel(settings, SECRET, records) is None


@pytest.mark.req("AL-06")
@pytest.mark.parametrize("kind", ["http_502", "lost_answer"])
@on_sqlite
def test_a_failure_is_tried_again_and_visible(sim: Wechat, records: Records, people: list[PersonId], kind: str) -> None:
    with records.write() as tx:
        queue(tx, add_alarm(tx), people[0])
    sim.fault(SEND, kind)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, lambda: len(tries(records)) == 1)
        assert states(records) == ["queued"]
        assert delivery.idle(), "a row that backs off can't be sent now"
        until(delivery, lambda: states(records) == ["sent"])
    assert [outcome for outcome, _ in tries(records)] == ["retry", "sent"]
    assert_each_once(sim, 1)


@pytest.mark.req("AL-05")
def test_who_cannot_be_reached_is_marked_until_a_message_arrives(
    sim: Wechat, records: Records, people: list[PersonId]
) -> None:
    def marked() -> Instant | None:
        with records.read() as tx:
            return tx.get_one(Person, people[0]).unreachable_since

    sim.people("a", state="blocking")
    with records.write() as tx:
        alarm = add_alarm(tx)
        queue(tx, alarm, people[0])
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
        assert states(records) == ["failed"]
        assert tries(records) == [("refused", "43101")]
        assert marked() == NOON
        sim.people("a")
        with records.write() as tx:
            queue(tx, alarm, people[0], turn=1)
        until(delivery, delivery.idle)
    assert marked() is None
    assert len(sim.received("a")) == 1


@pytest.mark.req("AL-05", "AL-06")
@on_sqlite
def test_who_is_not_bound_is_a_visible_failure(sim: Wechat, records: Records) -> None:
    with records.write() as tx:
        [nobody] = add_people(tx, None)
        queue(tx, add_alarm(tx), nobody)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
    assert (states(records), tries(records)) == (["failed"], [("refused", "unbound")])
    assert sim.calls(SEND) == 0


class Slips:
    """Another way to reach a person: paper slips. A whole channel, only the provider is simple."""

    patience = 1.0

    def __init__(self) -> None:
        self.written: list[tuple[Address, bytes]] = []

    def send(self, message: Message, to: Address) -> Receipt:
        if to == "slip of b":
            code = "no paper"
            raise Refused(code)
        self.written.append((to, message.body))
        return Receipt(str(len(self.written)))

    def take_over(self, message: Message, to: Recipient) -> tuple[Address, bytes] | None:
        return (f"slip of {to.openid}", b"slip: " + message.key.encode()) if to.openid != "c" else None


def test_what_one_channel_refuses_goes_another_way(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    sim.people("a", "b", "c", state="unsubscribed")
    slips = Slips()
    with records.write() as tx:
        alarm = add_alarm(tx)
        key, *_ = [queue(tx, alarm, person) for person in people]
    with worker(records, {"wechat": channel_of(sim, records), "slips": slips}) as delivery:
        until(delivery, delivery.idle)
    found = {(row.channel, row.address): row.state for row in rows(records)}
    assert found == {
        ("wechat", "a"): "failed",
        ("wechat", "b"): "failed",
        ("wechat", "c"): "failed",
        ("slips", "slip of a"): "sent",
        ("slips", "slip of b"): "failed",
    }
    assert slips.written == [("slip of a", b"slip: " + key.encode())]
    assert on_channel(key, "slips") in [row.key for row in rows(records)]


@on_sqlite
def test_after_three_tries_another_channel_is_asked_and_the_first_says_it_not_again(
    sim: Wechat, records: Records, people: list[PersonId]
) -> None:
    sim.fault(SEND, "http_502", times=None)
    with records.write() as tx:
        queue(tx, add_alarm(tx), people[0])
        tx.execute(update(Outbox).values(attempts=2))
    slips = Slips()
    with worker(records, {"wechat": channel_of(sim, records), "slips": slips}) as delivery:
        until(delivery, lambda: len(slips.written) == 1)
        until(delivery, delivery.idle)
        assert states(records) == ["queued", "sent"]
        sim.mend()
        with records.write() as tx:
            tx.execute(update(Outbox).where(Outbox.state == "queued").values(next_at=real_now()))
        until(delivery, delivery.idle)
    assert states(records) == ["superseded", "sent"]
    assert sim.received() == []


@pytest.mark.req("AL-09")
def test_what_is_over_before_it_is_sent_is_not_sent(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    with records.write() as tx:
        alarm = add_alarm(tx, state="recovered")
        queue(tx, alarm, people[1], tier=2)
        queue(tx, alarm, people[0], tier=1)
        queue(tx, alarm, people[0], tier=1, kind="recovery")
        queue(tx, alarm, people[1], tier=2, kind="recovery")
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
    assert states(records) == ["superseded", "superseded", "sent", "superseded"]
    assert [(message["openid"], message["template"]) for message in sim.received()] == [("a", "recovery")]
    assert [row.attempts for row in rows(records)] == [0, 0, 1, 0]


@on_sqlite
def test_the_end_waits_for_the_beginning_that_is_on_its_way(
    sim: Wechat, records: Records, people: list[PersonId]
) -> None:
    with records.write() as tx:
        alarm = add_alarm(tx)
        queue(tx, alarm, people[0], tier=2)
    sim.fault(SEND, "slow", seconds=0.5)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, lambda: sim.calls(SEND) == 1)
        with records.write() as tx:
            tx.get_one(Alarm, alarm).state = "recovered"
            queue(tx, alarm, people[0], tier=2, kind="recovery")
        until(delivery, lambda: states(records) == ["sent", "sent"])
    assert [message["template"] for message in sim.received("a")] == ["alarm", "recovery"]


def test_two_workers_share_one_outbox(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    queue_many(records, people, 200)
    stop = threading.Event()
    workers = [
        Delivery(records, {"wechat": channel_of(sim, records)}, Noon(), worker=name, lease_s=30)
        for name in ("w1", "w2")
    ]
    threads = [threading.Thread(target=each.run, args=(stop,)) for each in workers]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + 20
    while set(states(records)) != {"sent"} and time.monotonic() < ends:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(states(records)) == {"sent"}
    assert_each_once(sim, 200)
    assert sim.calls(SEND) == 200, "nothing was even tried twice"


class Dawdling:
    """A channel that comes back long after its patience, as a process does that was stopped for a while."""

    patience = 0.1

    def __init__(self, real: Channel, dawdles_s: float) -> None:
        self._real = real
        self._dawdles_s = dawdles_s

    def send(self, message: Message, to: Address) -> Receipt:
        receipt = self._real.send(message, to)
        time.sleep(self._dawdles_s)
        return receipt

    def take_over(self, _message: Message, _to: Recipient) -> None:
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
        details = tx.scalars(select(Attempt.detail).order_by(Attempt.id)).all()
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
    ("code", "state"), [(45011, "queued"), (40164, "queued"), (45009, "failed"), (47003, "failed")]
)
@on_sqlite
def test_a_quota_or_a_shut_out_account_is_not_hammered(sim: Wechat, records: Records, code: int, state: str) -> None:
    with records.write() as tx:
        people = add_people(tx, "a", "b", "c")
    queue_many(records, people, 60)
    sim.fault(SEND, "errcode", times=None, errcode=code)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
    assert set(states(records)) == {state}
    assert set(tries(records)) == {("retry" if state == "queued" else "refused", str(code))}
    assert sim.calls(SEND) <= (32 if state == "queued" else 60)


@on_sqlite
def test_a_row_that_cannot_be_read_stops_no_other(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    with records.write() as tx:
        alarm = add_alarm(tx)
        spoilt = queue(tx, alarm, people[0])
        tx.flush()
        tx.execute(update(Outbox).where(Outbox.key == spoilt).values(body=b"\xff"))
        queue(tx, alarm, people[1])
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
    assert states(records) == ["queued", "sent"]
    assert ("retry", "DecodeError") in tries(records)


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
        assert tx.scalar(select(func.count()).where(Outbox.lease.is_not(None))) == 0
    with worker(records, {"wechat": channel_of(sim, records)}) as reborn:
        until(reborn, reborn.idle)
    assert_each_once(sim, 30)
    assert sim.calls(SEND) == 30


@on_sqlite
def test_a_lease_must_be_longer_than_a_try(sim: Wechat, records: Records) -> None:
    with pytest.raises(ValueError, match=r"alerting\.lease = 6\.0: a wechat message may take 6\.0\d* s"):
        Delivery(records, {"wechat": channel_of(sim, records)}, Noon(), worker="w1", lease_s=6.0)


@on_sqlite
def test_many_messages_leave_quickly(sim: Wechat, records: Records) -> None:
    with records.write() as tx:
        people = add_people(tx, "a", "b", "c")
    queue_many(records, people, 400)
    began = time.monotonic()
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
    assert set(states(records)) == {"sent"}
    assert time.monotonic() - began < 8
