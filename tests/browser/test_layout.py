"""Every page as people have it: a small phone with type twice as large, a wide desk, paper, a screen reader."""

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from api.pages.texts import LANGUAGES
from core.db.engine import Records
from core.runtime.instant import DAY
from tests.fixtures.browser import free_port, on_a_port, signed_in
from tests.fixtures.web import Site, site

pytestmark = pytest.mark.long

DESK = {"width": 1920, "height": 1080}
A4_INSIDE = {"width": 680, "height": 1010}
"""CSS pixels of an A4 page within margins of 15 mm."""


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    listening, address = free_port()
    with site(sqlite_records, tmp_path, public_url=address) as made, on_a_port(made.app, listening):
        made.measured("208601", [4.0 + n % 20 / 20 for n in range(120)] + [5.0 + n / 12 for n in range(55)])
        made.measured("208602", [-19.0] * 60, until=60 * 60_000)
        yield made


def pages_of(place: Site) -> dict[str, str]:
    """Return every page by a name, with alarms in each of their states."""
    now = place.clock.now()
    done: dict[str, int | None] = {"acknowledged_at": now - 1, "recovered_at": now, "ended_at": now}
    opened = place.alarm()
    recovered = place.alarm(rule="below", state="recovered", handling="acknowledged", **done)
    closed = place.alarm(
        rule="probe_offline", state="closed", handling="acknowledged", peak=None, closed_at=now, **done
    )
    return {
        "home": "/",
        "units": "/units",
        "units in a state": "/units?state=abnormal",
        "zone": f"/zones/{place.there.zone}",
        "zone without data": f"/zones/{place.there.frozen}?span=7d",
        "alarms": "/alarms?all=1",
        "devices": "/devices?state=in_use",
        "open alarm": f"/alarms/{opened}",
        "recovered alarm": f"/alarms/{recovered}",
        "closed alarm": f"/alarms/{closed}",
        "link": place.link(opened),
        "forged link": "/a/1.2.3",
        "expired link": place.link(opened, ttl=-DAY),
        "sign-in": "/sign-in",
        "nothing there": "/nowhere",
        "unknown parameter": "/alarms?from=2026-03-28",
        "documentation": "/api/v1/docs",
    }


def each_page(context: BrowserContext, place: Site, pages: dict[str, str]) -> Iterator[tuple[str, Page]]:
    """Open every page, and the forms that were refused."""
    page = context.new_page()
    for name, path in pages.items():
        page.goto(place.settings.public_url + path)
        yield name, page
    for form in ("recovered alarm", "sign-in"):
        page.goto(place.settings.public_url + pages[form])
        sent = page.locator("form", has=page.locator(".field"))
        sent.evaluate("form => { form.noValidate = true; }")
        with page.expect_response(lambda answer: answer.request.method == "POST") as answered:
            sent.get_by_role("button").click()
        assert answered.value.status == HTTPStatus.UNPROCESSABLE_ENTITY
        expect(page.locator("#errors")).to_be_visible()
        yield f"refused {form}", page


@pytest.mark.parametrize("language", LANGUAGES)
def test_type_twice_as_large_fits_a_small_phone(browser: Browser, place: Site, language: str) -> None:
    context = signed_in(browser, place, locale=language)
    page = context.new_page()
    context.new_cdp_session(page).send("Page.setFontSizes", {"fontSizes": {"standard": 32, "fixed": 26}})
    for name, path in pages_of(place).items():
        page.goto(place.settings.public_url + path)
        assert page.evaluate("getComputedStyle(document.documentElement).fontSize") == "36px"
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name
        assert page.evaluate(_FOLDED) == [], f"{name}: a few letters a line"


_FOLDED = """() => {
  const found = [], words = document.createTreeWalker(document.querySelector('main'), NodeFilter.SHOW_TEXT);
  for (let node = words.nextNode(); node; node = words.nextNode()) {
    const text = node.textContent.trim(), range = document.createRange();
    if (text.length < 5 || node.parentElement.closest('svg, details:not([open]) > :not(summary)')) continue;
    range.selectNodeContents(node);
    const lines = new Set([...range.getClientRects()].map(box => Math.round(box.top))).size;
    if (lines > text.length / 3) found.push([text, lines]);
  }
  return found;
}"""


@pytest.mark.parametrize(
    ("language", "scheme", "names"),
    [("zh-CN", "light", None), ("en", "dark", ("home", "zone", "alarms", "open alarm", "recovered alarm", "sign-in"))],
)
def test_nothing_serious_for_who_uses_a_keyboard_or_a_screen_reader(
    browser: Browser, place: Site, language: str, scheme: str, names: tuple[str, ...] | None
) -> None:
    context = signed_in(browser, place, locale=language, color_scheme=scheme, java_script_enabled=True, bypass_csp=True)
    pages = pages_of(place)
    some = pages if names is None else {name: pages[name] for name in names}
    for name, page in each_page(context, place, some):
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        serious = [
            (one["id"], one["help"], [node["html"] for node in one["nodes"]])
            for one in found
            if one["impact"] in {"serious", "critical"}
        ]
        assert serious == [], name


def test_a_desk_is_used_in_its_whole_width(browser: Browser, place: Site) -> None:
    page = signed_in(browser, place, viewport=DESK, device_scale_factor=1).new_page()
    pages = pages_of(place)
    for name in ("home", "zone", "alarms", "open alarm", "recovered alarm"):
        page.goto(place.settings.public_url + pages[name])
        box = page.locator("main").bounding_box()
        assert box is not None
        assert box["width"] >= 0.9 * DESK["width"], name
        assert page.evaluate("document.documentElement.scrollWidth") <= DESK["width"], name
    for name in ("zone", "open alarm"):
        page.goto(place.settings.public_url + pages[name])
        left, right = (page.locator(".columns > div").nth(n).bounding_box() for n in (0, 1))
        assert left is not None
        assert right is not None
        assert left["y"] == right["y"]
        assert right["x"] > left["x"] + left["width"] > 0.5 * DESK["width"]


def test_a_page_prints_black_on_white_within_an_a4_sheet(browser: Browser, place: Site) -> None:
    page = signed_in(browser, place, viewport=A4_INSIDE, color_scheme="dark", device_scale_factor=1).new_page()
    pages = pages_of(place)
    for name in ("home", "zone", "alarms", "open alarm", "recovered alarm"):
        page.goto(place.settings.public_url + pages[name])
        page.emulate_media(media="print")
        assert page.evaluate("document.documentElement.scrollWidth") <= A4_INSIDE["width"], name
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(20, 32, 43)"
        for nothing_to_press in page.locator("button, .choices, .bar form").all():
            expect(nothing_to_press).to_be_hidden()
        expect(page.locator("#updated")).to_be_visible()
        for curve in page.locator("svg.curve").all():
            box = curve.bounding_box()
            assert box is not None
            assert box["height"] <= 345, "leaves room on the sheet"


def test_a_tall_page_on_a_phone_begins_with_what_is_asked_for(browser: Browser, place: Site) -> None:
    """The temperature and the button stand above the fold, in both languages."""
    pages = pages_of(place)
    for language in LANGUAGES:
        page = signed_in(browser, place, locale=language).new_page()
        page.goto(place.settings.public_url + pages["open alarm"])
        for what in (".now", "#acknowledge"):
            box = page.locator(what).bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 640, (language, what)
