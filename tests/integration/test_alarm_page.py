"""The page of an alarm: its times, whom it told when and with what outcome, and what it offers once it is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from core.alarms.message_text import outbox_key
from core.alarms.tables import Alarm, AlarmEvent, DeliveryAttempt, OutboxMessage
from core.db.engine import Records
from core.ids import AlarmId
from core.runtime.instant import MINUTE, Instant
from tests.fixtures.web import NOW, Site, site, text_of


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        made.measured("208601", [9.4] * 21)
        yield made


def page(place: Site, alarm: AlarmId, language: str = "") -> str:
    more = f"?lang={language}" if language else ""
    return text_of(place.signed_in("clinic-a", accept="text/html").get(f"/alarms/{alarm}{more}"))


def told(
    place: Site, alarm: AlarmId, person: str, tier: int, state: str, *, repeat: int = 0, kind: str = "alarm"
) -> int:
    """Add a message to a person."""
    key = outbox_key(alarm, 1, tier, repeat, place.there.people[person], "wechat", kind)  # type: ignore[arg-type]
    row = OutboxMessage(
        key=key,
        alarm_id=alarm,
        tier=tier,
        kind=kind,
        person_id=place.there.people[person],
        channel="wechat",
        address=person,
        body=b"{}",
        state=state,
        created_at=NOW,
        sent_at=Instant(NOW + MINUTE) if state == "sent" else None,
        next_at=0,
    )
    with place.records.write() as tx:
        tx.add(row)
        tx.flush()
        return row.id


@pytest.mark.req("AL-08")
def test_one_that_is_over_offers_handling_alone_and_says_what_happened(place: Site) -> None:
    alarm = place.alarm()
    hot = page(place, alarm)
    assert "我已收到，马上处理" in hot
    assert "30 分钟、60 分钟后仍异常" in hot
    assert f'action="/alarms/{alarm}/handling"' not in hot
    place.clock.forward(minutes=25)
    with place.records.write() as tx:
        row = tx.get_one(Alarm, alarm)
        row.state, row.ended_at, row.recovered_at = "recovered", Instant(NOW + 13 * MINUTE), place.clock.now()
    over = page(place, alarm)
    assert "我已收到" not in over
    assert "30 分钟、60 分钟" not in over
    assert f'action="/alarms/{alarm}/handling"' in over
    assert "已于 03:15 恢复正常，异常共持续 33 分钟。请填写处理记录。" in over, "not 03:27, when it was confirmed"
    browser = place.signed_in("clinic-a", accept="text/html")
    report = {"cause": "门没有关严", "action": "关门", "disposition": "可用"}
    assert browser.post(f"/alarms/{alarm}/handling", data=report).status_code == 303
    with place.records.read() as tx:
        row = tx.get_one(Alarm, alarm)
        assert (row.state, row.handling) == ("closed", "handled")
    assert "handling" not in page(place, alarm).partition('id="told"')[0]


def test_whoever_must_say_who_they_are_is_asked_for_handling_once_it_is_over(place: Site) -> None:
    alarm = place.alarm()
    link = place.link(alarm)
    assert "登录账号确认报警" in text_of(place.stranger(accept="text/html").get(link))
    place.recovers(alarm)
    over = text_of(place.stranger(accept="text/html").get(link))
    assert "登录账号填写处理记录" in over
    assert "确认报警" not in over


def test_times_and_length_are_of_the_excursion_in_page_and_api_alike(place: Site) -> None:
    alarm = place.alarm(
        cycle=3,
        earlier_out=24 * MINUTE,
        onset_at=NOW - 52 * MINUTE,
        opened_at=NOW - 42 * MINUTE,
        cycle_onset_at=NOW - 12 * MINUTE,
        cycle_opened_at=NOW - 2 * MINUTE,
    )
    assert "36 分钟" in page(place, alarm)
    assert "（3 次合计）" in page(place, alarm)
    said = place.signed_in("clinic-a").get(f"/api/v1/alarms/{alarm}").json()
    assert said["out_seconds"] == 36 * 60
    with place.records.write() as tx:
        row = tx.get_one(Alarm, alarm)
        row.state, row.ended_at, row.recovered_at = "recovered", Instant(NOW - MINUTE), NOW
    place.clock.forward(minutes=500)
    said = place.signed_in("clinic-a").get(f"/api/v1/alarms/{alarm}").json()
    assert said["out_seconds"] == 35 * 60
    assert "35 分钟" in page(place, alarm)
    listed = place.signed_in("clinic-a").get("/api/v1/alarms").json()["items"]
    assert [one["out_seconds"] for one in listed] == [35 * 60]


@pytest.mark.req("AL-06")
def test_who_was_told_is_listed_each_time_with_channel_time_and_outcome(place: Site) -> None:
    alarm = place.alarm()
    told(place, alarm, "李建国", 2, "sent")
    waits = told(place, alarm, "王芳", 2, "queued")
    told(place, alarm, "赵敏", 3, "failed")
    told(place, alarm, "王芳", 3, "sent", repeat=1)
    told(place, alarm, "王芳", 1, "sent", kind="recovery")
    with place.records.write() as tx:
        failed = tx.scalars(select(OutboxMessage.id).where(OutboxMessage.state == "failed")).one()
        tx.add(DeliveryAttempt(outbox_id=waits, at=NOW, outcome="retry", code="45009", detail="quota"))
        tx.add(DeliveryAttempt(outbox_id=failed, at=NOW, outcome="refused", code="43101", detail="blocked"))
    shown = page(place, alarm).partition('id="told"')[2].partition("</section>")[0]
    lines = " ".join(shown.split()).split("<li")[1:]
    assert len(lines) == 6
    for line, parts in zip(
        lines,
        [
            ("王芳", "一级负责人", "微信", "恢复通知", "已发送", "03:03"),
            ("王芳", "一级负责人", "重复提醒", "已发送"),
            ("赵敏", "三级负责人", "报警", "发送失败 43101"),
            ("王芳", "一级负责人", "发送中 45009", "03:02"),
            ("李建国", "二级负责人", "已发送", "03:03"),
            ("王芳", "一级负责人", "已发送", "02:52"),
        ],
        strict=True,
    ):
        for part in parts:
            assert part in line, (part, line)


def test_many_messages_fold(place: Site) -> None:
    alarm = place.alarm()
    for repeat in range(1, 13):
        told(place, alarm, "王芳", 3, "sent", repeat=repeat)
    shown = page(place, alarm)
    assert "更早的 3 条" in shown
    assert shown.count("重复提醒") == 12


@pytest.mark.parametrize(
    ("states", "text"),
    [
        ((), "已通知1、2级负责人"),
        (("sent", "failed"), "已通知1、2级负责人"),
        (("queued", "failed"), "正在通知1、2级负责人，尚未送出"),
        (("failed", "superseded"), "未能通知1、2级负责人"),
    ],
)
def test_what_came_of_telling_is_said_as_it_is(place: Site, states: tuple[str, ...], text: str) -> None:
    alarm = place.alarm()
    with place.records.write() as tx:
        detail = '{"cycle":1,"levels":[1,2],"tier":2,"repeat":0}'
        tx.add(AlarmEvent(alarm_id=alarm, at=NOW, kind="told", detail=detail))
    for person, state in zip(("王芳", "李建国"), states, strict=False):
        told(place, alarm, person, 2, state)
    happened = page(place, alarm).partition('id="events"')[2]
    assert text in happened
    assert happened.count("通知") == 1


def test_an_event_of_an_earlier_version_still_reads(place: Site) -> None:
    alarm = place.alarm()
    with place.records.write() as tx:
        tx.add(AlarmEvent(alarm_id=alarm, at=NOW, kind="told", detail='{"cycle":1,"people":1,"tier":1,"turn":0}'))
    assert "已通知1级负责人" in page(place, alarm)
    assert "told level 1" in page(place, alarm, "en")
