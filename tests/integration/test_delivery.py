"""The outbox's worker against a WeChat on a real socket; what the phones received is the oracle."""

import msgspec
import pytest
from sqlalchemy import update

from alerting.delivering.channels.port import Address, MessageRefused, OutgoingMessage, Receipt, Recipient
from alerting.delivering.channels.wechat import wechat_channel
from core.alarms.message_text import on_channel
from core.alarms.tables import Alarm, OutboxMessage
from core.db.engine import Records
from core.ids import PersonId
from core.runtime.clock import real_now
from core.runtime.instant import Instant
from core.units.tables import Person
from tests.fixtures.delivering import (
    NOON,
    SEND,
    assert_each_once,
    channel_of,
    on_sqlite,
    rows,
    states,
    tries,
    until,
    worker,
)
from tests.fixtures.messages import add_alarm, add_people, queue
from tests.fixtures.wechat import SECRET, Wechat


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
            queue(tx, alarm, people[0], repeat=1)
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

    longest_send_s = 1.0

    def __init__(self) -> None:
        self.written: list[tuple[Address, bytes]] = []

    def send(self, message: OutgoingMessage, to: Address) -> Receipt:
        if to == "slip of b":
            code = "no paper"
            raise MessageRefused(code)
        self.written.append((to, message.body))
        return Receipt(str(len(self.written)))

    def take_over(self, message: OutgoingMessage, to: Recipient) -> tuple[Address, bytes] | None:
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
        tx.execute(update(OutboxMessage).values(attempts=2))
    slips = Slips()
    with worker(records, {"wechat": channel_of(sim, records), "slips": slips}) as delivery:
        until(delivery, lambda: len(slips.written) == 1)
        until(delivery, delivery.idle)
        assert states(records) == ["queued", "sent"]
        sim.mend()
        with records.write() as tx:
            tx.execute(update(OutboxMessage).where(OutboxMessage.state == "queued").values(next_at=real_now()))
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


@on_sqlite
def test_a_row_that_cannot_be_read_stops_no_other(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    with records.write() as tx:
        alarm = add_alarm(tx)
        spoilt = queue(tx, alarm, people[0])
        tx.flush()
        tx.execute(update(OutboxMessage).where(OutboxMessage.key == spoilt).values(body=b"\xff"))
        queue(tx, alarm, people[1])
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
    assert states(records) == ["queued", "sent"]
    assert ("retry", "DecodeError") in tries(records)
