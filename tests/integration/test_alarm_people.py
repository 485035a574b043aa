"""People of an alarm: those who are notified, and those who acknowledge and handle it."""

import pytest
from sqlalchemy import delete

from core.access.actors import actor_of_person
from core.alarms import handling
from core.alarms.handling import HandlingReport
from core.errors import Conflict, Invalid, NotFound
from core.ids import AlarmId
from core.runtime.instant import MINUTE, Instant
from core.units.tables import Contact, Person
from tests.fixtures.alerting import REPORT, Watch, on_both
from tests.fixtures.county import add_contact


@pytest.mark.req("AL-07", "AL-08")
@pytest.mark.parametrize(("minutes", "in_time"), [(29, True), (30, True), (31, False)])
def test_acknowledged_within_30_minutes_or_late(watch: Watch, minutes: int, in_time: bool) -> None:  # noqa: FBT001
    watch.fridge()
    watch.warms_up()
    assert handling.acknowledged_in_time(watch.alarm()) is None
    at = Instant(watch.clock.time + minutes * MINUTE)
    with watch.records.write() as tx:
        handling.acknowledge(tx, watch.person(1), watch.alarm().id, through="wechat", now=at)
    alarm = watch.alarm()
    assert handling.acknowledged_in_time(alarm) is in_time
    assert (alarm.acknowledged_by, alarm.acknowledged_through) == (watch.people[1], "wechat")


@pytest.mark.req("AL-08")
@on_both
def test_the_first_of_two_phones_acknowledges_and_a_stranger_never(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    alarm_id = watch.alarm().id
    _, stranger = watch.sibling_unit()
    with pytest.raises(NotFound), watch.records.write() as tx:
        handling.acknowledge(tx, stranger, alarm_id, through="wechat", now=watch.clock.time)
    assert watch.alarm().handling == "unacknowledged"
    for level, later in ((1, 60_000), (2, 61_000)):
        with watch.records.write() as tx:
            handling.acknowledge(
                tx, watch.person(level), alarm_id, through="wechat", now=Instant(watch.clock.time + later)
            )
    alarm = watch.alarm()
    assert (alarm.acknowledged_by, alarm.acknowledged_at) == (watch.people[1], watch.clock.time + 60_000)
    assert watch.events(alarm_id).count("acknowledged") == 1
    with pytest.raises(NotFound), watch.records.write() as tx:
        handling.acknowledge(tx, stranger, AlarmId(999), through="web", now=watch.clock.time)


@pytest.mark.req("AL-08")
def test_a_contact_of_the_equipment_from_elsewhere_may_acknowledge(watch: Watch) -> None:
    fridge = watch.fridge()
    watch.warms_up()
    unit, somebody = watch.sibling_unit()
    with watch.records.write() as tx:
        tx.add(Contact(equipment_id=fridge.equipment, level=1, person_id=somebody.person))
    with watch.records.write() as tx:
        somebody = actor_of_person(tx, tx.get_one(Person, somebody.person), watch.clock.time)
        assert (
            handling.acknowledge(tx, somebody, watch.alarm().id, through="wechat", now=watch.clock.time).acknowledged_by
            == somebody.person
        )
    assert unit


def test_a_record_of_handling_is_written_once_and_says_something(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    alarm, me = watch.alarm().id, watch.person(1)
    with pytest.raises(Invalid, match="cause"), watch.records.write() as tx:
        handling.handle(tx, me, alarm, HandlingReport(cause=" ", action="x", disposition="y"), now=watch.clock.time)
    with watch.records.write() as tx:
        handling.handle(tx, me, alarm, REPORT, now=watch.clock.time)
    with pytest.raises(Conflict), watch.records.write() as tx:
        handling.handle(tx, me, alarm, REPORT, now=watch.clock.time)


@on_both
def test_contacts_are_those_of_the_moment(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    watch.forward(20, showing=9.4)
    with watch.records.write() as tx:
        tx.execute(delete(Contact).where(Contact.level == 2))
        successor = add_contact(tx, 2, "successor", watch.unit).id
    watch.forward(10, showing=9.4)
    assert not watch.told(2)
    assert [row.tier for row in watch.messages(successor)] == [2]


def test_nobody_at_a_level_is_seen_and_the_step_counts(watch: Watch) -> None:
    watch.fridge()
    with watch.records.write() as tx:
        tx.execute(delete(Contact).where(Contact.level == 2))
    watch.warms_up()
    watch.forward(60, showing=9.4)
    assert watch.tiers(1) == [1, 2, 3]
    assert watch.tiers(3) == [3]
    assert watch.events(watch.alarm().id).count("nobody_to_tell") == 2


@pytest.mark.req("AL-05")
def test_a_contact_without_wechat_is_an_event_not_a_silence(watch: Watch) -> None:
    watch.fridge()
    with watch.records.write() as tx:
        tx.get_one(Person, watch.people[1]).openid = None
    watch.warms_up()
    assert not watch.told(1)
    assert watch.events(watch.alarm().id) == ["opened", "nobody_to_tell", "unreachable"]


@pytest.mark.req("AL-05")
def test_who_lost_their_wechat_after_they_were_told_is_an_event_when_it_is_over(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    with watch.records.write() as tx:
        tx.get_one(Person, watch.people[1]).openid = None
    watch.forward(6, showing=5.0)
    assert not watch.told(1, "recovery")
    assert watch.events(watch.alarm().id) == ["opened", "told", "unreachable", "recovered"]


def test_one_person_in_two_levels_gets_one_message(watch: Watch) -> None:
    watch.fridge()
    with watch.records.write() as tx:
        tx.add(Contact(unit_id=watch.unit.id, level=2, person_id=watch.people[1]))
    watch.warms_up()
    watch.forward(30, showing=9.4)
    assert watch.tiers(1) == [1, 2]


@pytest.mark.req("AL-15")
@on_both
def test_messages_stay_queued_and_visible_while_nothing_sends_them(watch: Watch) -> None:
    watch.fridge()
    watch.warms_up()
    (row,) = watch.told(1)
    assert (row.state, row.attempts, row.channel) == ("queued", 0, "wechat")
    assert b"https://cc.example/a/1." in row.body
