"""Requests of an intruder: markup in names, forged headers and hosts, bodies of any shape, junk instead of cookies."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.alarms import handling
from core.db.engine import Records
from core.devices.tables import Equipment
from core.ids import AlarmId
from core.runtime.instant import Instant
from core.units.actor import OPERATOR
from core.units.tables import Person, Unit
from tests.fixtures.routes import routes_of
from tests.fixtures.web import NOW, PASSWORD, Browser, Site, site

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>\"' onmouseover=alert(1) {{ 7*7 }} </textarea>"
REPORT = {"cause": MARKUP, "action": MARKUP, "disposition": MARKUP}
HTML = {"accept": "text/html"}
LIVE = re.compile(r"<script>alert|<img src=x|[\"'] onmouseover=|\b49\b.*textarea", re.IGNORECASE)


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        made.measured("208601", [4.0] * 30 + [9.0] * 20)
        yield made


@pytest.fixture
def alarm(place: Site) -> AlarmId:
    return place.alarm()


def pages(place: Site, alarm: AlarmId) -> list[str]:
    return [
        path.format(
            zone=place.there.zone,
            alarm=alarm,
            token=place.link(alarm).removeprefix("/a/"),
            application=1,
            file="coldchain.css",
        )
        for method, path in routes_of(place.app)
        if method == "GET" and not path.startswith("/api/v1/")
    ]


def test_markup_in_names_and_reports_is_text_on_every_page(place: Site, alarm: AlarmId) -> None:
    with place.records.write() as tx:
        tx.get_one(Equipment, place.there.equipment).name = MARKUP[:100]
        for unit in place.there.units.values():
            tx.get_one(Unit, unit).name = MARKUP[:100]
        tx.get_one(Person, place.there.people["王芳"]).name = MARKUP[:50]
        report = handling.HandlingReport(**REPORT)
        handling.acknowledge(tx, OPERATOR, alarm, through="web", now=Instant(NOW))
        handling.handle(tx, OPERATOR, alarm, report, now=Instant(NOW))
    shown = 0
    for browser in (place.signed_in("province", **HTML), place.stranger(**HTML)):
        for path in pages(place, alarm):
            answer = browser.get(path)
            text = answer.text
            if answer.headers.get("content-type", "").startswith("text/csv"):
                assert answer.headers["content-disposition"].startswith("attachment"), "no browser shows it"
                assert answer.headers["x-content-type-options"] == "nosniff"
            else:
                assert not LIVE.search(text), path
            shown += "&lt;script&gt;alert" in text
    assert shown >= 5, "the names are shown"


@pytest.mark.parametrize("field", ["said", "next", "lang", "cursor", "unit", "colour"])
def test_markup_in_an_address_is_text_too(place: Site, alarm: AlarmId, field: str) -> None:
    browser = place.signed_in("province", **HTML)
    for path in pages(place, alarm):
        answer = browser.get(path, params={field: MARKUP})
        assert not LIVE.search(answer.text), path
        assert not LIVE.search(str(answer.headers)), path


def test_markup_that_somebody_typed_comes_back_as_text(place: Site, alarm: AlarmId) -> None:
    browser = place.signed_in("clinic-a", **HTML)
    for base in (f"/alarms/{alarm}", place.link(alarm)):
        answer = browser.post(f"{base}/handling", data={**REPORT, "cause": MARKUP * 5})
        assert answer.status_code == 422
        assert not LIVE.search(answer.text), base
    stranger = place.stranger(**HTML)
    stranger.get("/sign-in")
    answer = stranger.post("/sign-in", data={"username": MARKUP[:50], "password": "x", "csrf": "x"})
    assert not LIVE.search(answer.text)


@pytest.mark.parametrize("injected", ["' OR '1'='1", "'; DROP TABLE alarm; --", "%", "_", "\\", "1)) UNION SELECT 1"])
def test_a_filter_is_a_value_and_never_a_part_of_a_question(place: Site, alarm: AlarmId, injected: str) -> None:
    browser = place.signed_in("province")
    assert browser.get("/api/v1/alarms", params={"rule": injected}).json() == {"items": [], "next": None}
    for name in ("gateway", "reason"):
        assert browser.get("/api/v1/intake/quarantine", params={name: injected}).status_code in {200, 422}
    said = place.stranger().post("/api/v1/session", json={"username": injected, "password": injected})
    assert said.status_code == 401
    assert browser.get(f"/api/v1/alarms/{alarm}").status_code == 200


def test_the_name_that_a_request_gives_the_host_is_used_nowhere(place: Site, alarm: AlarmId) -> None:
    forged = {"host": "evil.example", "x-forwarded-host": "evil.example", "forwarded": "host=evil.example"}
    for browser in (place.signed_in("province", **forged, **HTML), place.stranger(**forged, **HTML)):
        for path in pages(place, alarm):
            answer = browser.get(path)
            assert "evil.example" not in answer.text + str(answer.headers), path


def test_no_header_can_be_injected_by_what_is_asked(place: Site) -> None:
    for path in ("/sign-in?next=/%0d%0aset-cookie:%20a=b", "/?lang=en%0d%0aset-cookie:%20a=b", "/%0d%0aa:b"):
        answer = place.stranger(**HTML).get(path)
        assert "a=b" not in str([value for name, value in answer.headers.items() if name == "set-cookie"])
        assert all("\n" not in value and "\r" not in value for value in answer.headers.values())


def test_a_session_that_somebody_else_prepared_is_not_taken_over(place: Site) -> None:
    browser = place.stranger()
    browser.cookies.set("cc_session", "prepared", domain="cold.example")
    assert browser.post("/api/v1/session", json={"username": "clinic-a", "password": PASSWORD}).status_code == 201
    assert browser.cookies.get("cc_session", domain="cold.example", path="/") != "prepared"
    known = place.signed_in("clinic-b")
    before = known.cookies["cc_session"]
    known.post("/api/v1/session", json={"username": "clinic-a", "password": PASSWORD})
    assert before not in {cookie.value for cookie in known.cookies.jar if cookie.name == "cc_session"}


def test_what_is_anybodys_own_is_kept_by_no_cache(place: Site, alarm: AlarmId) -> None:
    for browser in (place.signed_in("province", **HTML), place.stranger(**HTML)):
        for path in [*pages(place, alarm), "/api/v1/alarms", "/api/v1/session", "/nowhere"]:
            cached = browser.get(path).headers["cache-control"]
            assert cached == "no-store" or path.startswith("/assets/"), path


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("[" * 60_000, id="deep list"),
        pytest.param('{"username":' * 8_000 + "1" + "}" * 8_000, id="deep object"),
        pytest.param(json.dumps({"username": "a", "password": "b", **{str(n): n for n in range(9_000)}}), id="wide"),
        pytest.param('{"username": 1' + "0" * 6_000 + ', "password": "x"}', id="long number"),
        pytest.param('{"username": "a", "password": "b", "password": "c"} trailing', id="trailing"),
        pytest.param('{"username": NaN, "password": 1e999}', id="no numbers"),
        pytest.param("\ufeff{}", id="mark"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_body_that_is_no_form_of_ours_is_refused_and_nothing_breaks(place: Site, body: str) -> None:
    for kind in ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x"):
        for path in ("/api/v1/session", "/sign-in", "/api/v1/alarms/1/handling"):
            browser = place.signed_in("clinic-a", **{"content-type": kind})
            answer = browser.post(path, content=body.encode())
            assert answer.status_code in {400, 403, 404, 422}, (path, kind, answer.status_code, answer.text[:200])


def test_a_form_with_thousands_of_parts_is_refused(place: Site) -> None:
    part = '--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    for path in ("/sign-in", "/sign-out", "/api/v1/session"):
        browser = place.signed_in("clinic-a", **{"content-type": "multipart/form-data; boundary=x"})
        del browser.headers["x-csrf-token"]
        answer = browser.post(path, content=(part * 2_000 + "--x--\r\n").encode())
        assert answer.status_code in {400, 403, 413, 422}, path


@pytest.mark.parametrize("path", ["/assets/../app.py", "/assets/..%2fapp.py", "/assets/%2e%2e/words/en.toml"])
def test_files_are_given_by_name_from_one_folder(place: Site, path: str) -> None:
    answer = place.stranger().get(path)
    assert answer.status_code == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "FOO"])
def test_a_method_that_a_route_does_not_have_does_nothing(place: Site, alarm: AlarmId, method: str) -> None:
    browser: Browser = place.signed_in("clinic-a")
    for path in ("/", "/sign-out", f"/alarms/{alarm}/acknowledge", f"/api/v1/alarms/{alarm}/acknowledge"):
        assert browser.request(method, path).status_code in {404, 405}, path
    assert browser.get(f"/api/v1/alarms/{alarm}").json()["handling"] == "unacknowledged"


def test_cookies_and_tokens_of_any_shape_are_a_strangers(place: Site) -> None:
    for junk in ("", "a" * 10_000, "é" * 100, '"quoted"', "a;b", "=", "\x7f"):
        given = {"cookie": f"cc_session={junk}; cc_lang={junk}; cc_form={junk}; cc_wechat={junk}"}
        raw = {name: value.encode("latin-1") for name, value in given.items()}
        assert place.stranger().get("/api/v1/units", headers=raw).status_code == 401
        assert place.stranger().get("/wechat/back", headers=raw, params={"code": "x", "state": "y"}).status_code == 400
        bearer = {"authorization": f"Bearer {junk}".encode("latin-1")}
        assert place.stranger().get("/api/v1/units", headers=bearer).status_code == 401
