"""The link in a message: what it shows, who may act on it, and WeChat's word for who that is."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
from sqlalchemy import func, select

from core.access.actors import actor_of_person
from core.alarms import handling
from core.alarms.tables import Alarm
from core.db.audit import Audit
from core.db.crypto import FieldCipher
from core.db.engine import Records
from core.devices.tables import EquipmentUnit
from core.ids import AlarmId
from core.runtime.instant import DAY
from core.units.actor import OPERATOR
from core.units.tables import Person, WebSession
from tests.fixtures.alarm_link import Shown, acknowledge, as_wechat_does, form_token, identified, phone, way_back
from tests.fixtures.web import NOW, Site, site
from tests.fixtures.wechat import SECRET, Wechat, wechat_simulator

REPORT = {"cause": "柜门未关严", "action": "关门", "disposition": "评估后可继续使用"}
HTML = {"accept": "text/html"}


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wechat]:
    with wechat_simulator(tmp_path_factory.mktemp("wechat")) as made:
        made.people("openid-王芳", "openid-李建国", "openid-孙丽", "openid-nobody")
        yield made


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path, simulator: Wechat) -> Iterator[Site]:
    with site(sqlite_records, tmp_path, wechat=simulator.start_over().settings, secret=SECRET) as made:
        made.measured("208601", [4.0] * 60 + [9.4] * 20)
        yield made


@pytest.fixture
def alarm(place: Site) -> AlarmId:
    return place.alarm()


def state(place: Site, alarm: AlarmId) -> tuple[str, int | None, str | None]:
    with place.records.read() as tx:
        row = tx.get_one(Alarm, alarm)
        return row.handling, row.acknowledged_by, row.acknowledged_through


def test_whoever_holds_the_link_may_look_and_names_are_shortened(place: Site, alarm: AlarmId) -> None:
    page = place.stranger(**HTML).get(place.link(alarm)).text
    for shown in (
        "冰箱A-01（冷藏）",
        "甲镇卫生院",
        "9.4",
        "2 ～ 8 ℃",
        "<svg",
        "02:42",
        "02:52",
        "一级负责人",
        "已发送",
    ):
        assert shown in page, shown
    assert "王*" in page
    assert "王芳" not in page
    assert "我已收到" not in page
    assert f'{place.link(alarm)}/wechat"' in page


def test_who_only_holds_the_link_is_shown_exactly_this(place: Site, alarm: AlarmId) -> None:
    """No full name, no phone number, no address of a message, no other alarm or equipment (docs/adr/0014)."""
    place.alarm(rule="below")
    place.measured("208602", [-18.0] * 20)
    cipher, now = FieldCipher(place.secrets), place.clock.now()
    with place.records.write() as tx:
        for person in tx.scalars(select(Person)):
            person.phone = cipher.seal("13800001234", field="phone")
        recipient = actor_of_person(tx, tx.get_one(Person, place.there.people["王芳"]), now)
        handling.acknowledge(tx, recipient, alarm, through="wechat", now=now)
        handling.handle(tx, recipient, alarm, handling.HandlingReport(**REPORT), now=now)
    link = place.link(alarm)
    shown = Shown(place.stranger(**HTML).get(link).text)
    table, facts = shown.texts.index("曲线的数据，每 10 分钟一行"), shown.texts.index("温度范围")
    assert "|".join(shown.texts[:table]) == (
        "跳到正文|疫苗冷链监测|English|与系统的连接已断开，显示的可能不是最新数据"
        f"|温度过高 · 仍异常|报警 {alarm}|冰箱A-01（冷藏）|甲镇卫生院"
        "|9.4|℃|当前温度 · 测于|03:02:40|更新于 03:02:40|温度曲线"
    )
    assert "|".join(shown.texts[facts:]) == (
        "温度范围|2 ～ 8 ℃|异常开始|02:42|报警时间|02:52|持续时间|20 分钟|最高温度|9.4 ℃"
        "|已确认|王*已于 03:02 确认|30 分钟内确认"
        "|处理记录|原因|柜门未关严|处理措施|关门|疫苗处置|评估后可继续使用|王*于 03:02 记录"
        "|已通知|王*|一级负责人 · 微信|报警|已发送|02:52"
        "|经过|报警|02:52|已确认 王*|03:02|已记录处理 王*|03:02"
    )
    numbers = shown.texts[table + 1 : facts]
    assert numbers[:4] == ["起始", "最低 ℃", "最高 ℃", "读数"]
    assert all(re.fullmatch(r"[\d.:]+|没有数据|超限", text) for text in numbers[4:])
    assert (shown.leads, shown.forms) == (["#main", "/", f"{link}?lang=en"], [])


def test_who_only_holds_the_link_of_an_alarm_that_nobody_took_is_led_to_sign_in(place: Site, alarm: AlarmId) -> None:
    link = place.link(alarm)
    shown = Shown(place.stranger(**HTML).get(link).text)
    assert shown.leads == ["#main", "/", f"{link}?lang=en", f"{link}/wechat", f"/sign-in?next={link}"]
    assert shown.forms == []


@pytest.mark.req("AL-08")
def test_a_get_changes_nothing_however_often_a_preview_bot_asks(place: Site, alarm: AlarmId) -> None:
    link = place.link(alarm)
    own = identified(place, link, "openid-王芳")
    for browser in (place.stranger(**HTML), phone(place), own):
        for path in (link, f"{link}?said=acknowledged", f"{link}/acknowledge", f"{link}/handling"):
            browser.get(path)
            browser.request("HEAD", path)
    assert state(place, alarm) == ("unacknowledged", None, None)
    with place.records.read() as tx:
        assert tx.scalar(select(func.count()).select_from(WebSession)) == 1


@pytest.mark.req("AL-08")
def test_the_recipient_acknowledges_from_the_phone_in_wechat(place: Site, alarm: AlarmId) -> None:
    link = place.link(alarm)
    browser = phone(place)
    first = browser.get(link)
    assert (first.status_code, first.headers["location"]) == (303, f"{link}/wechat")
    there = browser.get(first.headers["location"])
    asked = parse_qs(urlsplit(there.headers["location"]).query)
    assert asked["scope"] == ["snsapi_base"]
    assert asked["redirect_uri"] == ["http://cold.example/wechat/back"]
    assert as_wechat_does(browser, there, "openid-王芳").status_code == 303
    page = browser.get(link).text
    assert "我已收到" in page
    assert "王芳" in page
    assert "已确认，谢谢" in acknowledge(browser, link)
    assert state(place, alarm) == ("acknowledged", place.there.people["王芳"], "wechat")
    with place.records.read() as tx:
        name = f"person:{place.there.people['王芳']}"
        assert tx.scalars(select(Audit.act).where(Audit.actor == name).order_by(Audit.id)).all() == [
            "signed in",
            "alarm acknowledged",
        ]


@pytest.mark.req("AL-08")
def test_two_phones_acknowledge_once_and_the_second_learns_who_did(place: Site, alarm: AlarmId) -> None:
    first, second = place.link(alarm), place.link(alarm, "李建国")
    one, other = identified(place, first, "openid-王芳"), identified(place, second, "openid-李建国")
    token = form_token(other.get(second).text)
    assert "已确认，谢谢" in acknowledge(one, first)
    place.clock.forward(minutes=1)
    done = other.post(f"{second}/acknowledge", data={"csrf": token})
    assert "王芳已在 03:02 确认" in other.get(done.headers["location"]).text
    again = one.post(f"{first}/acknowledge", data={"csrf": form_token(one.get(f"{first}?lang=en").text)})
    assert again.status_code == 303
    assert state(place, alarm) == ("acknowledged", place.there.people["王芳"], "wechat")
    with place.records.read() as tx:
        assert tx.get_one(Alarm, alarm).acknowledged_at == NOW


@pytest.mark.req("AL-08")
@pytest.mark.parametrize(("openid", "refused"), [("openid-李建国", 403), ("openid-孙丽", 404)])
def test_a_forwarded_link_acknowledges_in_nobodys_name(place: Site, alarm: AlarmId, openid: str, refused: int) -> None:
    link = place.link(alarm)
    browser = identified(place, link, openid)
    page = browser.get(link).text
    assert "另一位负责人" in page
    assert "我已收到" not in page
    token = form_token(page)
    assert browser.post(f"{link}/acknowledge", data={"csrf": token}).status_code == refused
    assert browser.post(f"{link}/handling", data={"csrf": token, **REPORT}).status_code == refused
    assert state(place, alarm)[0] == "unacknowledged"


@pytest.mark.req("AL-08")
def test_a_forwarded_link_shows_nothing_to_another_units_people(place: Site, alarm: AlarmId) -> None:
    with place.records.write() as tx:
        handling.acknowledge(tx, OPERATOR, alarm, through="web", now=place.clock.now())
    link = place.link(alarm)
    for browser in (identified(place, link, "openid-孙丽"), place.signed_in("clinic-b", **HTML)):
        for path in (link, f"{link}?said=acknowledged", f"{link}?lang=en"):
            answer = browser.get(path)
            assert answer.status_code == 404
            for hidden in ("王", "李建国", "冰箱A-01", "甲镇", "9.4", "<svg"):
                assert hidden not in answer.text, hidden
    colleague = identified(place, link, "openid-李建国").get(link)
    assert (colleague.status_code, "王芳" in colleague.text) == (200, True)


@pytest.mark.req("AL-08")
def test_a_contact_of_where_the_equipment_stands_now_acknowledges_from_the_own_link_and_no_other(
    place: Site, alarm: AlarmId
) -> None:
    with place.records.write() as tx:
        tx.scalars(select(EquipmentUnit).where(EquipmentUnit.equipment_id == place.there.equipment)).one().until = NOW
        tx.add(EquipmentUnit(equipment_id=place.there.equipment, unit_id=place.there.units["clinic b"], since=NOW))
    link = place.link(alarm, "孙丽")
    browser = identified(place, link, "openid-孙丽")
    others = place.link(alarm)
    token = form_token(browser.get(others).text)
    assert browser.post(f"{others}/acknowledge", data={"csrf": token}).status_code == 404
    page = browser.get(link).text
    assert "王*" in page
    assert "王芳" not in page
    assert browser.get(f"/alarms/{alarm}").status_code == 404
    assert "已确认，谢谢" in acknowledge(browser, link)
    assert state(place, alarm) == ("acknowledged", place.there.people["孙丽"], "wechat")
    assert browser.post(f"{link}/handling", data={"csrf": token, **REPORT}).status_code == 303


def test_a_link_without_the_persons_session_changes_nothing(place: Site, alarm: AlarmId) -> None:
    link = place.link(alarm)
    assert place.stranger().post(f"{link}/acknowledge").status_code == 401
    browser = identified(place, link, "openid-王芳")
    for token in ("", "guessed"):
        assert browser.post(f"{link}/acknowledge", data={"csrf": token}).status_code == 403
    assert state(place, alarm)[0] == "unacknowledged"


@pytest.mark.req("AL-08")
def test_an_account_acknowledges_on_the_web_from_the_same_link(place: Site, alarm: AlarmId) -> None:
    link = place.link(alarm)
    page = place.stranger(**HTML).get(link).text
    assert f"/sign-in?next={link}" in page
    browser = place.signed_in("county-a", **HTML)
    del browser.headers["x-csrf-token"]
    assert "已确认，谢谢" in acknowledge(browser, link)
    assert state(place, alarm) == ("acknowledged", None, "web")
    watching = place.signed_in("technician", **HTML)
    assert "没有权限确认" in watching.get(place.link(place.alarm(rule="below"))).text


def test_an_expired_link_and_a_forged_one_say_so(place: Site, alarm: AlarmId) -> None:
    link = place.link(alarm, ttl=DAY)
    forged = place.stranger(**HTML).get(link[:-1] + ("A" if link[-1] != "A" else "B"))
    assert (forged.status_code, "链接无效" in forged.text) == (404, True)
    browser = identified(place, link, "openid-王芳")
    token = form_token(browser.get(link).text)
    place.clock.forward(minutes=24 * 60)
    with place.records.write() as tx:
        for row in tx.scalars(select(WebSession)):
            row.expires_at = place.clock.now() + DAY
    expired = browser.get(link)
    assert (expired.status_code, "链接已过期" in expired.text) == (410, True)
    assert "冰箱" not in expired.text
    assert browser.get(f"{link}/wechat").status_code == 410
    assert browser.post(f"{link}/acknowledge", data={"csrf": token}).status_code == 403
    assert state(place, alarm)[0] == "unacknowledged"


def test_wechats_answer_serves_once_and_only_in_the_browser_that_asked(place: Site, alarm: AlarmId) -> None:
    link = place.link(alarm)
    browser = phone(place)
    there = browser.get(f"{link}/wechat")
    back = way_back(there, "openid-王芳")
    assert phone(place).get(back).status_code == 400, "another browser"
    kept = browser.cookies["cc_wechat"]
    assert browser.get(back.replace("state=", "state=x")).status_code == 400
    assert browser.get(back).status_code == 303
    browser.cookies.set("cc_wechat", kept, domain="cold.example")
    assert browser.get(way_back(there, "openid-王芳")).status_code == 400, "the state had been used"


def test_states_are_random(place: Site, alarm: AlarmId) -> None:
    asked = [phone(place).get(f"{place.link(alarm)}/wechat").headers["location"] for _ in range(3)]
    states = {parse_qs(urlsplit(one).query)["state"][0] for one in asked}
    assert len(states) == 3
    assert all(len(one) >= 32 for one in states)


def test_a_snapshot_page_and_somebody_unknown_are_nobody(place: Site, alarm: AlarmId, simulator: Wechat) -> None:
    simulator.people("openid-王芳", state="snapshot")
    browser = phone(place)
    failed = as_wechat_does(browser, browser.get(f"{place.link(alarm)}/wechat"), "openid-王芳")
    assert (failed.status_code, "没有确认您的身份" in failed.text) == (400, True)
    simulator.people("openid-王芳")
    unbound = as_wechat_does(browser, browser.get(f"{place.link(alarm)}/wechat"), "openid-nobody")
    assert (unbound.status_code, "还没有绑定" in unbound.text) == (403, True)
    with place.records.write() as tx:
        tx.get_one(Person, place.there.people["王芳"]).left_at = NOW
    left = as_wechat_does(browser, browser.get(f"{place.link(alarm)}/wechat"), "openid-王芳")
    assert left.status_code == 403
    assert "cc_session" not in browser.cookies


@pytest.mark.parametrize("fault", ["reset", "html", "truncated"])
def test_a_wechat_in_trouble_is_told_and_tried_again(
    place: Site, alarm: AlarmId, simulator: Wechat, fault: str
) -> None:
    link = place.link(alarm)
    browser = phone(place)
    simulator.fault("/sns/oauth2/access_token", fault)
    assert as_wechat_does(browser, browser.get(f"{link}/wechat"), "openid-王芳").status_code == 400
    simulator.mend()
    assert as_wechat_does(browser, browser.get(f"{link}/wechat"), "openid-王芳").status_code == 303


def test_the_recipient_notes_what_was_done_and_the_alarm_closes(place: Site, alarm: AlarmId) -> None:
    link = place.link(alarm)
    browser = identified(place, link, "openid-王芳")
    acknowledge(browser, link)
    place.recovers(alarm)
    page = browser.get(link).text
    assert "疫苗处置" in page
    done = browser.post(f"{link}/handling", data={"csrf": form_token(page), **REPORT})
    page = browser.get(done.headers["location"]).text
    assert "处理记录已保存" in page
    assert "王芳于 03:02 记录" in page
    with place.records.read() as tx:
        assert tx.get_one(Alarm, alarm).state == "closed"


def test_whoever_isnt_signed_in_finds_the_way_to_the_handling_record(place: Site, alarm: AlarmId) -> None:
    """Also once somebody has acknowledged: the page asks for the record, and another phone or a PC is to write it."""
    link = place.link(alarm)
    recipient = identified(place, link, "openid-王芳")
    assert "用微信确认身份后确认报警" in place.stranger(**HTML).get(link).text
    acknowledge(recipient, link)
    for happens in (lambda: None, lambda: place.recovers(alarm)):
        happens()
        page = place.stranger(**HTML).get(link).text
        assert "用微信确认身份后填写处理记录" in page
        assert "登录账号填写处理记录" in page
        assert f'{link}/wechat"' in page
        assert "填写处理记录</a>" not in recipient.get(link).text, "who is known has the form itself"
    recipient.post(f"{link}/handling", data={"csrf": form_token(recipient.get(link).text), **REPORT})
    assert "填写处理记录</a>" not in place.stranger(**HTML).get(link).text


def test_without_an_official_account_an_account_of_the_web_acknowledges(
    sqlite_records: Records, tmp_path: Path
) -> None:
    with site(sqlite_records, tmp_path) as bare:
        alarm = bare.alarm()
        link = bare.link(alarm)
        page = phone(bare).get(link)
        assert page.status_code == 200
        assert "用微信确认身份" not in page.text
        assert bare.stranger().get(f"{link}/wechat").status_code == 404
        browser = bare.signed_in("clinic-a", **HTML)
        assert "已确认，谢谢" in acknowledge(browser, link)
        assert state(bare, alarm) == ("acknowledged", bare.there.people["王芳"], "web")


def test_an_old_key_still_opens_links_and_a_withdrawn_one_does_not(place: Site, alarm: AlarmId) -> None:
    link = place.link(alarm)
    old = dict(place.secrets.link_keys)
    place.context.secrets = msgspec.structs.replace(place.secrets, link_keys={"2": "ab" * 32, **old})
    assert place.stranger().get(link).status_code == 200
    place.context.secrets = msgspec.structs.replace(place.secrets, link_keys={"2": "ab" * 32})
    assert place.stranger().get(link).status_code == 404
