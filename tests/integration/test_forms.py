"""Forms that can't be taken come back with what was typed, every wrong field marked at once; nothing typed is lost."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
from sqlalchemy import text

from core.db.engine import Records
from core.ids import AlarmId
from tests.fixtures.web import PASSWORD, Browser, Site, site

HTML = {"accept": "text/html"}
REPORT = {"cause": "柜门未关严", "action": "关门", "disposition": "评估后可继续使用"}


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        made.measured("208601", [4.0] * 30 + [9.4] * 20)
        yield made


@pytest.fixture
def alarm(place: Site) -> AlarmId:
    return place.alarm(handling="acknowledged")


def handling(place: Site, alarm: AlarmId) -> dict[str, str] | None:
    found: dict[str, str] | None = place.signed_in("clinic-a").get(f"/api/v1/alarms/{alarm}/handling").json()
    return found


def typed(page: str) -> dict[str, str]:
    """Return what the fields of a page's forms hold."""
    areas = re.findall(r'<textarea id="(\w+)"[^>]*>([^<]*)</textarea>', page)
    inputs = re.findall(r'<input id="(\w+)"[^>]* value="([^"]*)"', page)
    return {name: unescape(value) for name, value in [*areas, *inputs]}


def marked(page: str) -> dict[str, str]:
    """Return the fields that are marked, with the reason beside each; the list on top leads to the same."""
    found = {}
    for name in re.findall(r'id="(\w+)" name="\w+" aria-invalid="true" aria-describedby="\1-error"', page):
        found[name] = re.search(rf'<p class="error" id="{name}-error">([^<]+)</p>', page)[1]  # type: ignore[index]
    assert re.findall(r'<li><a href="#(\w+)">', page) == list(found)
    return found


def csrf(page: str) -> str:
    return page.rsplit('name="csrf" value="', maxsplit=1)[-1].split('"', maxsplit=1)[0]


def by_link(place: Site, alarm: AlarmId) -> tuple[Browser, str]:
    return place.phone_of("王芳", **HTML), place.link(alarm)


def by_account(place: Site, alarm: AlarmId) -> tuple[Browser, str]:
    return place.signed_in("clinic-a", **HTML), f"/alarms/{alarm}"


@pytest.mark.parametrize("way", [by_link, by_account])
def test_blanks_come_back_with_what_was_typed_and_all_fields_marked(place: Site, alarm: AlarmId, way: object) -> None:
    browser, path = way(place, alarm)  # type: ignore[operator]
    sent = {"cause": " \u3000 ", "action": "关门\r\n<b>转移</b>", "disposition": "x" * 301}
    answer = browser.post(f"{path}/handling", data=sent)
    assert answer.status_code == 422
    assert marked(answer.text) == {"cause": "请填写", "disposition": "内容过长，请缩短"}
    assert typed(answer.text) == {**sent, "action": "关门\n<b>转移</b>"}
    assert "冰箱A-01" in answer.text, "the alarm itself is still there"
    assert f'data-from="{path}"' in answer.text, "and is renewed from its own address"
    assert handling(place, alarm) is None
    mended = browser.post(f"{path}/handling", data={**typed(answer.text), **REPORT, "csrf": csrf(answer.text)})
    assert mended.headers["location"] == f"{path}?said=handled"
    assert browser.get(mended.headers["location"]).status_code == 200


def test_an_empty_form_and_one_with_unseen_characters(place: Site, alarm: AlarmId) -> None:
    browser, path = by_account(place, alarm)
    assert set(marked(browser.post(f"{path}/handling").text)) == {"cause", "action", "disposition"}
    unseen = browser.post(
        f"{path}/handling", data={**REPORT, "cause": "柜门\u202e未关"}, headers={"accept-language": "en"}
    )
    assert marked(unseen.text) == {"cause": "has characters that nobody sees, please type it again"}


def test_300_characters_on_many_lines_are_300_characters(place: Site, alarm: AlarmId) -> None:
    """A browser counts a new line as one character, and sends two."""
    browser, path = by_account(place, alarm)
    lines = "\r\n".join(["一二三四五六七八九"] * 30)
    assert browser.post(f"{path}/handling", data={**REPORT, "cause": lines + "末"}).status_code == 303
    found = handling(place, alarm)
    assert found is not None
    assert found["cause"] == lines.replace("\r\n", "\n") + "末"


def test_the_api_names_every_wrong_field_too(place: Site, alarm: AlarmId) -> None:
    answer = place.signed_in("clinic-a").post(f"/api/v1/alarms/{alarm}/handling", json=dict.fromkeys(REPORT, "  "))
    assert {fault["field"] for fault in answer.json()["errors"]} == set(REPORT)


def test_a_session_that_ended_loses_no_text(place: Site, alarm: AlarmId) -> None:
    browser, path = by_account(place, alarm)
    session = browser.cookies["cc_session"]
    browser.headers.pop("x-csrf-token")
    page = browser.get(path).text
    browser.cookies.clear()
    ended = browser.post(f"{path}/handling", data={**REPORT, "csrf": csrf(page)})
    assert ended.status_code == 401
    assert typed(ended.text) == REPORT
    assert f'href="/sign-in?next={path}"' in ended.text
    browser.cookies.set("cc_session", session, domain="cold.example")
    again = browser.post(f"{path}/handling", data={**typed(ended.text), "csrf": csrf(ended.text)})
    assert again.status_code == 403, "signed in meanwhile, in another window"
    assert "重新提交" in again.text
    assert handling(place, alarm) is None
    done = browser.post(f"{path}/handling", data={**typed(again.text), "csrf": csrf(again.text)})
    assert done.status_code == 303
    assert handling(place, alarm) is not None


def test_who_was_second_reads_the_own_text_again(place: Site, alarm: AlarmId) -> None:
    browser, path = by_account(place, alarm)
    assert browser.post(f"{path}/handling", data=REPORT).status_code == 303
    second = browser.post(f"{path}/handling", data={**REPORT, "cause": "停电"})
    assert second.status_code == 409
    assert typed(second.text)["cause"] == "停电"
    assert f'<a href="{path}">' in second.text
    found = handling(place, alarm)
    assert found is not None
    assert found["cause"] == REPORT["cause"]


def test_records_that_are_away_lose_no_text(place: Site, alarm: AlarmId) -> None:
    browser, path = by_account(place, alarm)
    with place.records.write() as tx:
        tx.execute(text("ALTER TABLE handling_record RENAME TO away"))
    answer = browser.post(f"{path}/handling", data=REPORT)
    assert answer.status_code == 503
    assert typed(answer.text) == REPORT
    assert "refresh" not in answer.headers
    assert browser.get(path).headers["refresh"] == "30", "a screen on a wall finds its page again"
    with place.records.write() as tx:
        tx.execute(text("ALTER TABLE away RENAME TO handling_record"))
    done = browser.post(f"{path}/handling", data={**typed(answer.text), "csrf": csrf(answer.text)})
    assert done.status_code == 303


def test_an_old_button_says_that_the_page_is_old(place: Site) -> None:
    alarm = place.alarm()
    browser, path = by_account(place, alarm)
    browser.headers.pop("x-csrf-token")
    answer = browser.post(f"{path}/acknowledge", data={"csrf": "of before"})
    assert answer.status_code == 403
    assert "页面已过期" in answer.text
    assert f'<a href="{path}">' in answer.text


@pytest.mark.parametrize(
    ("username", "password", "wrong"),
    [
        ("", "", {"username", "password"}),
        ("  ", PASSWORD, {"username"}),
        ("clinic-a", "", {"password"}),
        ("x" * 51, "y" * 201, {"username", "password"}),
        ("clinic\u200b-a", PASSWORD, {"username"}),
    ],
)
def test_the_sign_in_form_comes_back_too(place: Site, username: str, password: str, wrong: set[str]) -> None:
    browser = place.stranger(**HTML)
    first = browser.get("/sign-in?next=/alarms").text
    sent = {"username": username, "password": password, "next": "/alarms"}
    answer = browser.post("/sign-in", data={**sent, "csrf": csrf(first)})
    assert answer.status_code == 422
    assert set(marked(answer.text)) == wrong
    assert typed(answer.text)["username"] == username
    assert "y" * 201 not in answer.text
    assert PASSWORD not in answer.text
    assert 'name="next" value="/alarms"' in answer.text
    good = {"username": "clinic-a", "password": PASSWORD, "next": "/alarms", "csrf": csrf(answer.text)}
    assert browser.post("/sign-in", data=good).headers["location"] == "/alarms"
