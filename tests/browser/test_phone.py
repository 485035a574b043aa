"""The pages on a small phone in a real browser: no JavaScript, two languages, by keyboard, from no other host."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from core.alarms.tables import Alarm
from core.db.engine import Records
from core.ids import AlarmId
from tests.fixtures.browser import PHONE, free_port, on_a_port, phone
from tests.fixtures.web import PASSWORD, Site, site
from tests.fixtures.wechat import SECRET, Wechat, wechat_simulator


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wechat]:
    with wechat_simulator(tmp_path_factory.mktemp("wechat")) as made:
        made.people("openid-王芳", "openid-李建国")
        yield made


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path, simulator: Wechat) -> Iterator[Site]:
    listening, address = free_port()
    with (
        site(sqlite_records, tmp_path, public_url=address, wechat=simulator.settings, secret=SECRET) as made,
        on_a_port(made.app, listening),
    ):
        made.measured("208601", [4.0 + n % 20 / 20 for n in range(120)] + [5.0 + n / 12 for n in range(55)])
        made.measured("208602", [-19.0] * 60, until=60 * 60_000)
        yield made


@pytest.fixture
def alarm(place: Site) -> AlarmId:
    return place.alarm()


@pytest.fixture
def asked() -> list[str]:
    """Every address that a page asked for."""
    return []


def opened(browser: Browser, asked: list[str], **more: object) -> BrowserContext:
    context = phone(browser, **more)
    context.on("request", lambda request: asked.append(request.url))
    return context


def at(place: Site, path: str) -> str:
    return place.settings.public_url + path


def signed_in(context: BrowserContext, place: Site) -> Page:
    page = context.new_page()
    page.goto(at(place, "/sign-in"))
    page.get_by_label("用户名").fill("clinic-a")
    page.get_by_label("密码").fill(PASSWORD)
    page.get_by_role("button", name="登录").click()
    return page


def fits(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def handling(place: Site, alarm: AlarmId) -> str:
    with place.records.read() as tx:
        return tx.get_one(Alarm, alarm).handling


@pytest.mark.req("AL-08")
def test_the_recipient_acknowledges_from_a_small_phone_without_javascript(
    browser: Browser, place: Site, alarm: AlarmId, asked: list[str]
) -> None:
    page = opened(browser, asked).new_page()
    page.goto(at(place, place.link(alarm)))
    expect(page.get_by_role("heading", name="冰箱A-01（冷藏）")).to_be_visible()
    curve = page.get_by_role("img")
    expect(curve).to_be_visible()
    box = curve.bounding_box()
    assert box is not None
    assert box["width"] > 280
    assert page.locator("svg .line.beyond").count() >= 1
    assert page.locator("svg .onset").count() == 1
    assert all(request.startswith(place.settings.public_url) for request in asked)
    assert handling(place, alarm) == "unacknowledged"

    page.get_by_role("link", name="用微信确认身份").click()
    page.get_by_text("openid-王芳").first.click()
    page.wait_for_url("**/a/*")
    button = page.get_by_role("button", name="我已收到")
    place_of_button = button.bounding_box()
    assert place_of_button is not None
    assert place_of_button["height"] >= 48
    assert place_of_button["y"] + place_of_button["height"] <= PHONE["height"], "without scrolling"
    assert handling(place, alarm) == "unacknowledged"
    button.click()
    expect(page.get_by_role("status")).to_contain_text("已确认")
    assert handling(place, alarm) == "acknowledged"
    expect(page.get_by_role("button", name="我已收到")).to_have_count(0)

    place.recovers(alarm)
    page.reload()
    for field, text in (("原因", "柜门未关严"), ("处理措施", "关门"), ("疫苗处置", "可继续使用")):
        page.get_by_label(field).fill(text)
    page.get_by_role("button", name="提交处理记录").click()
    expect(page.get_by_role("status")).to_contain_text("已保存")
    assert handling(place, alarm) == "handled"


def test_every_page_fits_a_small_phone_and_asks_no_other_host(
    browser: Browser, place: Site, alarm: AlarmId, asked: list[str]
) -> None:
    for scheme in ("light", "dark"):
        context = opened(browser, asked, color_scheme=scheme, java_script_enabled=True)
        page = signed_in(context, place)
        complaints: list[str] = []
        page.on("console", lambda message, said=complaints: said.append(message.text))
        page.on("pageerror", lambda error, said=complaints: said.append(str(error)))
        page.wait_for_url(at(place, "/"))
        paths = (
            "/",
            "/alarms",
            "/alarms?all=1&since=2026-03-27",
            f"/alarms/{alarm}",
            f"/zones/{place.there.zone}?span=30d",
            place.link(alarm),
        )
        for path in (*paths, "/api/v1/docs", "/sign-in", "/nowhere"):
            page.goto(at(place, path))
            assert fits(page), path
        assert [said for said in complaints if "404" not in said] == []
        context.close()
    assert asked
    assert all(address.startswith(place.settings.public_url) for address in asked)


@pytest.mark.req("CC-05")
def test_the_home_page_shows_states_and_never_a_stale_value(
    browser: Browser, place: Site, alarm: AlarmId, asked: list[str]
) -> None:
    page = signed_in(opened(browser, asked), place)
    zones = page.locator(".zones li")
    expect(zones.nth(0)).to_contain_text("异常")
    expect(zones.nth(0)).to_contain_text("9.5")
    expect(zones.nth(1)).to_contain_text("离线")
    expect(zones.nth(1)).not_to_contain_text("-19")
    page.get_by_role("link", name="1 个报警未结束").click()
    page.get_by_role("link", name="冰箱A-01").click()
    assert page.url == at(place, f"/alarms/{alarm}")


def test_the_keyboard_reaches_the_button(browser: Browser, place: Site, alarm: AlarmId, asked: list[str]) -> None:
    page = signed_in(opened(browser, asked), place)
    page.goto(at(place, f"/alarms/{alarm}"))
    for _ in range(20):
        page.keyboard.press("Tab")
        focused = page.locator(":focus")
        if focused.get_attribute("id") == "acknowledge":
            break
        outline = focused.evaluate("element => getComputedStyle(element).outlineStyle")
        assert outline != "none", focused.inner_text()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("已确认")
    assert handling(place, alarm) == "acknowledged"


def test_english_is_a_link_away_and_stays(browser: Browser, place: Site, alarm: AlarmId, asked: list[str]) -> None:
    page = opened(browser, asked).new_page()
    page.goto(at(place, place.link(alarm)))
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.get_by_role("link", name="English").click()
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.get_by_text("Too warm")).to_be_visible()
    page.goto(at(place, "/sign-in"))
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    english = opened(browser, asked, locale="en-GB").new_page()
    english.goto(at(place, place.link(alarm)))
    expect(english.get_by_text("Who was told")).to_be_visible()


@pytest.mark.parametrize("language", ["zh-CN", "en"])
def test_an_alarm_acknowledged_late_fits_a_small_phone_too(
    browser: Browser, place: Site, alarm: AlarmId, asked: list[str], language: str
) -> None:
    page = signed_in(opened(browser, asked), place)
    place.clock.forward(minutes=45)
    page.goto(at(place, f"/alarms/{alarm}"))
    page.locator("#acknowledge").click()
    assert handling(place, alarm) == "acknowledged"
    page.goto(at(place, f"/alarms/{alarm}?lang={language}"))
    assert page.locator("html").get_attribute("lang") == language
    assert fits(page)
    narrow = page.locator(".facts dt").evaluate_all("all => Math.min(...all.map(one => one.offsetWidth))")
    assert narrow >= 40, "labels run one letter a line"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: Browser, place: Site, alarm: AlarmId, scheme: str) -> None:
    """WCAG AA: 4.5 to 1 for text, 3 to 1 for large text."""
    context = phone(browser, color_scheme=scheme, java_script_enabled=True)
    page = signed_in(context, place)
    for path in ("/", "/alarms", f"/alarms/{alarm}", f"/zones/{place.there.frozen}"):
        page.goto(at(place, path))
        pale = page.evaluate(_CONTRAST)
        assert pale == [], path
    context.close()


_CONTRAST = """() => {
  const rgb = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const linear = v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map(v => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const element of document.querySelectorAll('main *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || element.closest('svg') || !element.getClientRects().length) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    const [a, b] = [light(rgb(style.color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) found.push([element.textContent.trim().slice(0, 20), ratio.toFixed(2)]);
  }
  return found;
}"""
