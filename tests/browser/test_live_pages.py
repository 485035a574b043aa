"""Pages of live figures that stay open: how old each figure is, what is renewed, and what is said when it can't be."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from api.pages.texts import LANGUAGES, words
from core.db.engine import Records
from core.ids import AlarmId
from core.runtime.instant import MINUTE, Milliseconds
from tests.fixtures.browser import free_port, on_a_port, signed_in
from tests.fixtures.web import Site, site

LIVE = ("/", "/zones/{zone}", "/alarms", "/alarms/{alarm}", "{link}")
WITH_FIGURES = ("/", "/zones/{zone}", "/alarms/{alarm}", "{link}")


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    listening, address = free_port()
    with site(sqlite_records, tmp_path, public_url=address) as made, on_a_port(made.app, listening):
        made.measured("208601", [4.0 + n % 20 / 20 for n in range(120)] + [5.0 + n / 12 for n in range(55)])
        yield made


@pytest.fixture
def alarm(place: Site) -> AlarmId:
    return place.alarm()


def at(place: Site, alarm: AlarmId, path: str) -> str:
    """Return a page's address."""
    filled = path.format(zone=place.there.zone, alarm=alarm, link=place.link(alarm))
    return place.settings.public_url + filled


def on_phone(browser: Browser, place: Site, **more: object) -> BrowserContext:
    """Return a phone whose browser runs scripts, as most do."""
    return signed_in(browser, place, **{"java_script_enabled": True, **more})


def left_open(context: BrowserContext, address: str) -> Page:
    """Open a page whose clock the test can forward; all pages of a context have one."""
    page = context.new_page()
    if len(context.pages) == 1:
        page.clock.install()
    page.goto(address)
    return page


def test_a_page_that_stays_open_shows_what_is_measured_meanwhile(browser: Browser, place: Site, alarm: AlarmId) -> None:
    context = on_phone(browser, place)
    pages = [left_open(context, at(place, alarm, path)) for path in WITH_FIGURES]
    for page in pages:
        expect(page.locator("main")).to_contain_text("9.5")
    place.clock.forward(minutes=1)
    place.measured("208601", [3.3])
    context.clock.run_for(16_000)
    for page in pages:
        expect(page.locator("main")).to_contain_text("3.3")
        expect(page.locator("#updated")).to_contain_text("03:03:40")
        expect(page.locator("#stale")).to_be_hidden()


def test_without_a_network_a_page_says_so_and_its_figures_grow_old(
    browser: Browser, place: Site, alarm: AlarmId
) -> None:
    context = on_phone(browser, place)
    pages = [left_open(context, at(place, alarm, path)) for path in WITH_FIGURES]
    for page in pages:
        expect(page.locator(".age").first).to_be_visible()
    context.set_offline(True)
    context.clock.run_for(90_000)
    for page in pages:
        expect(page.locator("#stale")).to_be_visible()
        expect(page.locator(".age").first).to_have_text(re.compile("^[12] 分钟前$"))
    context.clock.run_for(2 * 3_600_000)
    for page in pages:
        expect(page.locator(".age").first).to_have_text(re.compile("^2 小时 [12] 分钟前$"))
        assert "刚刚" not in page.inner_text("body")
    context.set_offline(False)
    context.clock.run_for(16_000)
    for page in pages:
        expect(page.locator("#stale")).to_be_hidden()
        expect(page.locator(".age").first).to_have_text(re.compile("^[0-9]+ 秒前$"))


def test_without_scripts_a_page_gives_the_times_themselves(browser: Browser, place: Site, alarm: AlarmId) -> None:
    page = on_phone(browser, place, java_script_enabled=False).new_page()
    for path in LIVE:
        page.goto(at(place, alarm, path))
        expect(page.locator("#updated")).to_have_text("更新于 03:02:40")
        if path in WITH_FIGURES:
            expect(page.locator("time").first).to_have_text("03:02:40")
            expect(page.locator("time").first).to_have_attribute("datetime", "2026-03-28T03:02:40.000+08:00")
        expect(page.locator(".age").filter(visible=True)).to_have_count(0)
        assert not re.search("刚刚|前$", page.inner_text("main"), re.MULTILINE)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_script_writes_ages_as_the_server_would(
    browser: Browser, place: Site, alarm: AlarmId, language: str
) -> None:
    minutes = (1.5, 59.5, 60.5, 61.5, 23 * 60 + 59.5, 24 * 60 + 30, 2 * 24 * 60 - 30, 2 * 24 * 60 + 30, 53.5 * 60)
    lengths = [Milliseconds(round(one * MINUTE)) for one in minutes]
    page = on_phone(browser, place, locale=language).new_page()
    page.goto(at(place, alarm, "/"))
    page.evaluate(_ADD_AGES, lengths)
    told = words(language)
    expect(page.locator(".added")).to_have_text([told("age", age=told.span(length)) for length in lengths])


_ADD_AGES = """lengths => lengths.forEach(length => {
  const one = document.createElement('p');
  one.className = 'added';
  one.dataset.age = length;
  document.body.append(one);
})"""


def test_what_somebody_is_writing_stays_while_the_rest_is_renewed(
    browser: Browser, place: Site, alarm: AlarmId
) -> None:
    browser_of = place.signed_in("clinic-a")
    assert browser_of.post(f"/api/v1/alarms/{alarm}/acknowledge").status_code == 200
    page = left_open(on_phone(browser, place), at(place, alarm, "/alarms/{alarm}"))
    cause = page.get_by_label("原因")
    cause.fill("柜门未关")
    page.locator("#events summary").click()
    cause.focus()
    place.clock.forward(minutes=1)
    place.measured("208601", [3.3])
    place.recovers(alarm)
    page.clock.run_for(16_000)
    expect(page.locator("#head")).to_contain_text("3.3")
    expect(page.locator("#head")).to_contain_text("已恢复")
    expect(cause).to_have_value("柜门未关")
    expect(cause).to_be_focused()
    assert page.locator("#events").get_attribute("open") is not None
    report = {"cause": "停电", "action": "发电", "disposition": "可继续使用"}
    assert place.signed_in("county-a").post(f"/api/v1/alarms/{alarm}/handling", json=report).status_code == 201
    page.clock.run_for(16_000)
    expect(page.locator("#head")).to_contain_text("已处理完成")
    expect(cause).to_have_value("柜门未关")


def test_a_second_phone_sees_that_somebody_is_on_the_way(browser: Browser, place: Site, alarm: AlarmId) -> None:
    page = left_open(on_phone(browser, place), at(place, alarm, "/alarms/{alarm}"))
    expect(page.locator("#acknowledge")).to_be_visible()
    assert place.signed_in("county-a").post(f"/api/v1/alarms/{alarm}/acknowledge").status_code == 200
    page.clock.run_for(16_000)
    expect(page.locator("#acknowledge")).to_have_count(0)
    expect(page.locator("#facts")).to_contain_text("county-a")
    expect(page.get_by_label("原因")).to_be_visible()


def test_a_page_whose_focus_is_on_a_link_keeps_it(browser: Browser, place: Site, alarm: AlarmId) -> None:
    page = left_open(on_phone(browser, place), at(place, alarm, "/"))
    first = page.locator("#zone-1")
    first.focus()
    place.clock.forward(minutes=1)
    place.measured("208601", [3.3])
    page.clock.run_for(16_000)
    expect(first).to_contain_text("3.3")
    expect(first).to_be_focused()


def test_a_server_in_trouble_is_waited_for(browser: Browser, place: Site, alarm: AlarmId) -> None:
    """A screen on a wall must not end on an error page."""
    page = left_open(on_phone(browser, place), at(place, alarm, "/"))
    home = at(place, alarm, "/")

    def trouble(route: Route) -> None:
        route.fulfill(status=503, body="unavailable")

    page.route(home, trouble)
    page.clock.run_for(16_000)
    expect(page.locator("#stale")).to_be_visible()
    expect(page.locator("main")).to_contain_text("9.5")
    page.unroute(home)
    page.clock.run_for(16_000)
    expect(page.locator("#stale")).to_be_hidden()


def test_an_ended_session_leads_to_the_sign_in_page(browser: Browser, place: Site, alarm: AlarmId) -> None:
    context = on_phone(browser, place)
    page = left_open(context, at(place, alarm, "/zones/{zone}"))
    context.clear_cookies()
    page.clock.run_for(16_000)
    page.wait_for_url("**/sign-in?next=/zones/*")


def test_the_script_is_small() -> None:
    script = Path(__file__).resolve().parents[2] / "api" / "pages" / "assets" / "watch.js"
    assert script.stat().st_size <= 4096
