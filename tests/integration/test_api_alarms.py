"""Alarms through the API: lists, who was told, acknowledging, handling; on both databases."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from core.alarms.tables import Alarm, AlarmEvent, HandlingRecord
from core.db.audit import Audit
from core.db.engine import Records
from core.db.idempotency import IdempotentAnswer
from core.ids import AlarmId
from core.runtime.instant import DAY, HOUR, MINUTE, SECOND, Instant, rfc3339
from core.units.tables import Contact
from tests.fixtures.web import NOW, Site, site

REPORT = {"cause": "柜门未关严", "action": "关门", "disposition": "评估后可继续使用"}


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        yield made


@pytest.fixture
def everywhere(records: Records, tmp_path: Path) -> Iterator[Site]:
    """Yield the app on each database in turn, for what SQL or locks decide."""
    with site(records, tmp_path) as made:
        yield made


def alarms(place: Site, username: str = "clinic-a", **asked: Any) -> list[int]:
    answer = place.signed_in(username).get("/api/v1/alarms", params=asked)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["items"]]


def count(place: Site, table: Any) -> int:
    with place.records.read() as tx:
        return tx.scalar(select(func.count()).select_from(table)) or 0


def test_lists_are_filtered_newest_first_and_paged_without_gap_or_repeat(everywhere: Site) -> None:
    place = everywhere
    made = [
        place.alarm(opened=n * MINUTE, state="closed", handling="handled", rule="below" if n % 2 else "above")
        for n in (5, 4, 3, 3, 2)
    ]
    newest = place.alarm(opened=MINUTE)
    at_once = sorted(made[2:4], reverse=True)
    ordered = [newest, made[4], *at_once, made[1], made[0]]
    assert alarms(place) == ordered
    assert alarms(place, state=["open", "recovered"]) == [newest]
    assert alarms(place, rule="below") == [one for one in ordered if one in {made[0], made[2], made[3]}]
    assert alarms(place, handling="handled") == ordered[1:]
    between = {"from": rfc3339(Instant(NOW - 4 * MINUTE)), "to": rfc3339(Instant(NOW - 2 * MINUTE))}
    assert alarms(place, **between) == [*at_once, made[1]]
    assert alarms(place, unit=place.there.units["clinic b"]) == []
    assert alarms(place, zone=place.there.zone, limit=200) == ordered
    seen: list[int] = []
    browser, cursor = place.signed_in("province"), None
    while True:
        page = browser.get("/api/v1/alarms", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one["id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ordered


@pytest.mark.req("AL-06")
def test_each_message_tells_when_it_was_handed_over_and_every_try(everywhere: Site) -> None:
    place = everywhere
    alarm = place.alarm()
    (message,) = place.signed_in("clinic-a").get(f"/api/v1/alarms/{alarm}/messages").json()
    assert (message["person_name"], message["state"], message["tier"]) == ("王芳", "sent", 1)
    assert message["sent_at"] == rfc3339(Instant(NOW - 10 * MINUTE + 900))
    assert message["receipt"] == "4056783452345234523"
    assert [(one["outcome"], one["code"]) for one in message["attempts"]] == [("retry", "-1"), ("sent", "")]
    assert "openid" not in str(message)


@pytest.mark.req("AL-08")
@pytest.mark.parametrize("username", ["clinic-a", "county-a"])
def test_acknowledging_notes_who_when_and_through_what(everywhere: Site, username: str) -> None:
    place = everywhere
    alarm = place.alarm()
    said = place.signed_in(username).post(f"/api/v1/alarms/{alarm}/acknowledge").json()
    assert (said["handling"], said["state"]) == ("acknowledged", "open")
    assert said["acknowledged_by"] == {"clinic-a": "王芳", "county-a": "county-a"}[username]
    assert (said["acknowledged_at"], said["acknowledged_through"]) == (rfc3339(NOW), "web")
    with place.records.read() as tx:
        audited = tx.scalars(select(Audit).where(Audit.act == "alarm acknowledged")).one()
    assert audited.actor == f"account:{place.there.accounts[username].id}"


@pytest.mark.req("AL-08")
def test_another_units_user_may_not_acknowledge_nor_handle(place: Site) -> None:
    alarm = place.alarm()
    for browser, status in (
        (place.signed_in("clinic-b"), 404),
        (place.phone_of("孙丽"), 404),
        (place.signed_in("technician"), 403),  # who may see it
    ):
        assert browser.post(f"/api/v1/alarms/{alarm}/acknowledge").status_code == status
        assert browser.post(f"/api/v1/alarms/{alarm}/handling", json=REPORT).status_code == status
    assert place.signed_in("clinic-a").get(f"/api/v1/alarms/{alarm}").json()["handling"] == "unacknowledged"


@pytest.mark.req("AL-08")
def test_of_several_who_acknowledge_at_once_the_first_stands(everywhere: Site) -> None:
    place = everywhere
    alarm = place.alarm()
    browsers = [place.signed_in("clinic-a"), place.signed_in("county-a"), place.phone_of("李建国")]
    at_once = threading.Barrier(len(browsers))
    said: list[Any] = []

    def acknowledge(browser: Any) -> None:
        at_once.wait()
        said.append(browser.post(f"/api/v1/alarms/{alarm}/acknowledge").json())

    threads = [threading.Thread(target=acknowledge, args=(browser,)) for browser in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one["acknowledged_by"] for one in said}) == 1
    with place.records.read() as tx:
        events = tx.scalars(select(AlarmEvent.kind).where(AlarmEvent.kind == "acknowledged")).all()
    assert len(events) == 1


@pytest.mark.req("AL-07")
@pytest.mark.parametrize(("after", "on_time"), [(29 * MINUTE, True), (30 * MINUTE, True), (31 * MINUTE, False)])
def test_handling_time_runs_from_the_alarm_to_its_acknowledgement(place: Site, after: int, *, on_time: bool) -> None:
    alarm = place.alarm(opened=after)
    said = place.signed_in("clinic-a").post(f"/api/v1/alarms/{alarm}/acknowledge").json()
    assert (said["handling_seconds"], said["on_time"]) == (after / SECOND, on_time)


@pytest.mark.req("AL-07")
def test_late_ones_are_counted(everywhere: Site) -> None:
    place = everywhere
    for after in (5, 29, 31, 45, 90):
        alarm = place.alarm(opened=after * MINUTE)
        place.signed_in("clinic-a").post(f"/api/v1/alarms/{alarm}/acknowledge")
        place.recovers(alarm)
    place.alarm(opened=MINUTE)
    span = {"from": rfc3339(Instant(NOW - DAY)), "to": rfc3339(NOW)}
    path = f"/api/v1/units/{place.there.units['county a']}/timeliness"
    assert place.signed_in("county-a").get(path, params=span).json() == {"on_time": 2, "late": 3, "unacknowledged": 1}
    span["from"] = rfc3339(Instant(NOW - HOUR))
    assert place.signed_in("county-a").get(path, params=span).json()["late"] == 2
    sibling = f"/api/v1/units/{place.there.units['county b']}/timeliness"
    assert sum(place.signed_in("province").get(sibling, params=span).json().values()) == 0


def test_a_handling_record_closes_a_recovered_alarm_and_stands(everywhere: Site) -> None:
    place = everywhere
    alarm = place.alarm()
    browser = place.signed_in("clinic-a")
    assert browser.get(f"/api/v1/alarms/{alarm}/handling").json() is None
    browser.post(f"/api/v1/alarms/{alarm}/acknowledge")
    place.recovers(alarm)
    made = browser.post(f"/api/v1/alarms/{alarm}/handling", json=REPORT)
    assert made.status_code == 201
    assert (
        made.json()
        == {**REPORT, "at": rfc3339(NOW), "by": "王芳"}
        == browser.get(f"/api/v1/alarms/{alarm}/handling").json()
    )
    assert browser.get(f"/api/v1/alarms/{alarm}").json()["state"] == "closed"
    again = browser.post(f"/api/v1/alarms/{alarm}/handling", json=REPORT)
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    kinds = [event["kind"] for event in browser.get(f"/api/v1/alarms/{alarm}/events").json()]
    assert kinds == ["opened", "acknowledged", "handled", "closed"]


def test_the_same_request_sent_twice_is_done_once_and_answered_twice(place: Site) -> None:
    alarm = place.alarm()
    browser = place.signed_in("clinic-a")
    browser.headers["idempotency-key"] = "phone-7f3a9c21-1"
    path = f"/api/v1/alarms/{alarm}/handling"
    first, second = (browser.post(path, json=REPORT) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert count(place, HandlingRecord) == 1
    other = browser.post(path, json={**REPORT, "cause": "another"})
    assert (other.status_code, other.json()["errors"][0]["field"]) == (422, "Idempotency-Key")
    somebody = place.signed_in("county-a", **{"idempotency-key": "phone-7f3a9c21-1"})
    assert somebody.post(path, json=REPORT).status_code == 409, "a key is each asker's own"


def test_a_refused_request_leaves_its_key_free(place: Site) -> None:
    alarm = place.alarm()
    browser = place.signed_in("clinic-a", **{"idempotency-key": "phone-7f3a9c21-2"})
    assert browser.post(f"/api/v1/alarms/{alarm}/handling", json={**REPORT, "cause": " "}).status_code == 422
    assert count(place, IdempotentAnswer) == 0
    assert browser.post(f"/api/v1/alarms/{alarm}/handling", json=REPORT).status_code == 201


def test_two_phones_that_send_one_key_at_once_create_once(everywhere: Site) -> None:
    place = everywhere
    alarm = place.alarm()
    browsers = [place.signed_in("clinic-a", **{"idempotency-key": "phone-7f3a9c21-3"}) for _ in range(4)]
    at_once = threading.Barrier(len(browsers))
    said: list[Any] = []

    def handle(browser: Any) -> None:
        at_once.wait()
        said.append(browser.post(f"/api/v1/alarms/{alarm}/handling", json=REPORT))

    threads = [threading.Thread(target=handle, args=(browser,)) for browser in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.status_code for one in said] == [201] * 4, [one.text for one in said]
    assert count(place, HandlingRecord) == 1


def test_pages_do_the_same_and_then_show_it(place: Site) -> None:
    alarm = place.alarm()
    browser = place.signed_in("clinic-a", accept="text/html")
    assert "我已收到" in browser.get(f"/alarms/{alarm}").text
    done = browser.post(f"/alarms/{alarm}/acknowledge")
    assert (done.status_code, done.headers["location"]) == (303, f"/alarms/{alarm}?said=acknowledged")
    page = browser.get(done.headers["location"]).text
    assert "已确认，谢谢" in page
    assert "我已收到" not in page
    second = place.signed_in("county-a", accept="text/html")
    assert "王芳已在 03:02 确认" in second.get(second.post(f"/alarms/{alarm}/acknowledge").headers["location"]).text
    place.recovers(alarm)
    done = browser.post(f"/alarms/{alarm}/handling", data=REPORT)
    page = browser.get(done.headers["location"]).text
    assert "处理记录已保存" in page
    assert REPORT["cause"] in page
    assert "没有报警" in browser.get("/alarms").text
    assert "冰箱A-01" in browser.get("/alarms?all=1").text


def test_a_session_that_ended_meanwhile_leads_back_to_the_page(place: Site) -> None:
    alarm = place.alarm()
    for path in (f"/alarms/{alarm}", place.link(alarm)):
        done = place.stranger(accept="text/html").post(f"{path}/acknowledge")
        assert (done.status_code, done.headers["location"]) == (303, path)


def test_a_contact_of_several_units_goes_from_one_to_the_other(place: Site) -> None:
    with place.records.write() as tx:
        tx.add(Contact(unit_id=place.there.units["clinic b"], level=2, person_id=place.there.people["王芳"]))
    phone = place.phone_of("王芳", accept="text/html")
    page = phone.get("/").text
    assert "甲镇卫生院" in page
    other = f"/?unit={place.there.units['clinic b']}"
    assert f'href="{other}"' in page
    assert "冰箱B-01" in phone.get(other).text


def test_a_watcher_sees_the_alarm_without_the_button(place: Site) -> None:
    alarm = place.alarm()
    page = place.signed_in("technician", accept="text/html").get(f"/alarms/{alarm}").text
    assert "没有权限确认" in page
    assert '<button class="primary' not in page


def test_what_people_write_is_shown_as_text(place: Site) -> None:
    alarm = place.alarm()
    browser = place.signed_in("clinic-a", accept="text/html")
    evil = "<script>alert(1)</script>"
    browser.post(f"/alarms/{alarm}/acknowledge")
    browser.post(f"/alarms/{alarm}/handling", data={**REPORT, "cause": evil})
    page = browser.get(f"/alarms/{alarm}").text
    assert evil not in page
    assert "&lt;script&gt;" in page


def test_the_peak_of_the_table_is_what_was_measured(place: Site) -> None:
    alarm: AlarmId = place.alarm(peak=940)
    said = place.signed_in("clinic-a").get(f"/api/v1/alarms/{alarm}").json()
    assert (said["peak"], said["limit"], said["opening_value"]) == (9.4, 8.0, 9.05)
    assert count(place, Alarm) == 1
