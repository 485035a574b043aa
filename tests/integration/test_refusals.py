"""Refusals of a provider for reasons that aren't the message's: it waits, and reaches the phone once they are gone."""

import pytest
from sqlalchemy import update

from core.alarms.tables import OutboxMessage
from core.db.engine import Records
from core.ids import PersonId
from core.runtime.clock import real_now
from core.runtime.trouble import TroubleKind
from core.units.tables import Person
from tests.fixtures.delivering import SEND, channel_of, on_sqlite, rows, states, tries, until, worker
from tests.fixtures.messages import add_alarm, queue
from tests.fixtures.wechat import Wechat
from tests.integration.test_delivery import Slips


def time_passes(records: Records) -> None:
    """Make due what waits: minutes that no test has."""
    with records.write() as tx:
        tx.execute(update(OutboxMessage).where(OutboxMessage.state == "queued").values(next_at=real_now()))


@pytest.mark.parametrize("code", [45009, 48001, 40164, 50002, 45011])
def test_an_account_that_may_not_send_holds_all_and_each_is_told_when_it_may(
    sim: Wechat, records: Records, people: list[PersonId], code: int
) -> None:
    with records.write() as tx:
        alarm = add_alarm(tx)
        for person in people:
            queue(tx, alarm, person)
    sim.fault(SEND, "errcode", times=None, errcode=code)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
        assert set(states(records)) == {"queued"}
        waits = [row.next_at - real_now() for row in rows(records)]
        assert max(waits) <= 185_000, "tried again every few minutes"
        [trouble] = delivery.troubles.now() if code != 45011 else [None]
        assert trouble is None or (trouble.part, trouble.kind, str(code) in trouble.detail) == (
            "wechat",
            TroubleKind.HELD,
            True,
        )
    sim.mend()
    time_passes(records)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, lambda: set(states(records)) == {"sent"})
        assert not delivery.troubles.now()
    assert [len(sim.received(one)) for one in "abc"] == [1, 1, 1]


@on_sqlite
def test_meanwhile_another_channel_takes_them_and_the_first_says_none_again(
    sim: Wechat, records: Records, people: list[PersonId]
) -> None:
    with records.write() as tx:
        queue(tx, add_alarm(tx), people[0])
    sim.fault(SEND, "errcode", times=None, errcode=45009)
    slips = Slips()
    with worker(records, {"wechat": channel_of(sim, records), "slips": slips}) as delivery:
        until(delivery, lambda: len(slips.written) == 1)
        until(delivery, delivery.idle)
    assert states(records) == ["queued", "sent"]
    sim.mend()
    time_passes(records)
    with worker(records, {"wechat": channel_of(sim, records), "slips": slips}) as delivery:
        until(delivery, lambda: states(records) == ["superseded", "sent"])
    assert not sim.received("a")


def test_an_openid_called_invalid_once_is_tried_once_more(
    sim: Wechat, records: Records, people: list[PersonId]
) -> None:
    with records.write() as tx:
        queue(tx, add_alarm(tx), people[0])
    sim.fault(SEND, "errcode", errcode=40003)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, lambda: len(tries(records)) == 1)
        [row] = rows(records)
        assert (row.state, row.next_at - real_now() <= 20_000) == ("queued", True)
        time_passes(records)
        until(delivery, lambda: states(records) == ["sent"])
    assert tries(records) == [("retry", "40003"), ("sent", "")]
    assert len(sim.received("a")) == 1
    with records.read() as tx:
        assert tx.get_one(Person, people[0]).unreachable_since is None


@on_sqlite
def test_twice_it_is_believed_and_goes_another_way(sim: Wechat, records: Records, people: list[PersonId]) -> None:
    with records.write() as tx:
        alarm = add_alarm(tx)
        queue(tx, alarm, people[0])
    sim.fault(SEND, "errcode", times=None, errcode=40003)
    slips = Slips()
    with worker(records, {"wechat": channel_of(sim, records), "slips": slips}) as delivery:
        until(delivery, lambda: len(tries(records)) == 1)
        assert not slips.written
        time_passes(records)
        until(delivery, lambda: len(slips.written) == 1)
        assert states(records)[0] == "failed"
        with records.read() as tx:
            assert tx.get_one(Person, people[0]).unreachable_since is not None
        with records.write() as tx:
            queue(tx, alarm, people[0], tier=2)
        until(delivery, lambda: len(slips.written) == 2)
    assert tries(records).count(("refused", "40003")) == 2, "who counts as unreachable gets no second try"


@pytest.mark.parametrize("code", [40037, 47003])
@on_sqlite
def test_a_wrong_template_holds_messages_of_its_kind_and_no_other(
    sim: Wechat, records: Records, people: list[PersonId], code: int
) -> None:
    with records.write() as tx:
        alarm, other = add_alarm(tx), add_alarm(tx, "F2", state="recovered")
        queue(tx, alarm, people[0])
    sim.fault(SEND, "errcode", errcode=code)
    with worker(records, {"wechat": channel_of(sim, records)}) as delivery:
        until(delivery, delivery.idle)
        with records.write() as tx:
            queue(tx, other, people[1], kind="recovery")
        until(delivery, lambda: states(records) == ["queued", "sent"])
        assert [(one.part, one.kind) for one in delivery.troubles.now()] == [("wechat alarm", TroubleKind.HELD)]
        time_passes(records)
        until(delivery, lambda: states(records) == ["sent", "sent"])
        assert not delivery.troubles.now()
    assert len(sim.received("a")) == 1
