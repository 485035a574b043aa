"""Middleware of the API: headers of every answer, problem details, numbers, and no secret in any log."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from config.settings import ApiSettings
from core.db.engine import Records
from core.runtime.trouble import Trouble, TroubleKind
from tests.fixtures.web import Site, site


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        yield made


def test_every_answer_has_the_security_headers_and_its_number(place: Site) -> None:
    for path in ("/", "/nowhere", "/healthz", "/api/v1/units", "/assets/coldchain.css", "/sign-in", "/a/forged"):
        answer = place.stranger().get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["x-request-id"])
        assert answer.headers["cache-control"] == ("public, max-age=300" if "assets" in path else "no-store")
        assert "server" not in answer.headers


def test_pages_hold_no_inline_script_or_style(place: Site) -> None:
    alarm = place.alarm()
    for path in ("/", "/alarms", f"/alarms/{alarm}", f"/zones/{place.there.zone}", "/sign-in", place.link(alarm)):
        page = place.signed_in("clinic-a").get(path, headers={"accept": "text/html"}).text
        assert "<!doctype html>" in page
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?! src=\"/assets/)", page), path
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page), path


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nowhere", 404, "not_found"),
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/api/v1/units", 405, "wrong_method"),
        ("GET", "/api/v1/units/99", 404, "not_found"),
        ("GET", "/api/v1/units/x", 422, "invalid"),
        ("GET", "/api/v1/units?limit=0", 422, "invalid"),
        ("GET", "/api/v1/units?cursor=nonsense", 422, "invalid"),
        ("GET", "/api/v1/units?cursor=W10", 422, "invalid"),
        ("GET", "/api/v1/units?cursor=WzFd!*", 422, "invalid"),
        ("GET", "/api/v1/units/1", 404, "not_found"),
        ("GET", "/api/v1/alarms?colour=red", 422, "invalid"),
        ("GET", "/api/v1/alarms?from=yesterday", 422, "invalid"),
        ("GET", "/api/v1/alarms?from=2026-03-28T00:00:00", 422, "invalid"),
        ("GET", "/api/v1/zones/1/history", 422, "invalid"),
        ("GET", "/api/v1/zones/1/history?from=2026-03-28T00:00:00Z&to=2026-03-27T00:00:00Z", 422, "invalid"),
        ("GET", "/api/v1/zones/1/history?from=2020-03-28T00:00:00Z&to=2026-03-27T00:00:00Z", 422, "invalid"),
        (
            "GET",
            "/api/v1/zones/99999999999999999999/history?from=2026-03-26T00:00:00Z&to=2026-03-27T00:00:00Z",
            422,
            "invalid",
        ),
    ],
)
def test_every_error_is_a_problem_detail(place: Site, method: str, path: str, status: int, code: str) -> None:
    answer = place.signed_in("clinic-a").request(method, path)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"/api/v1/docs#{code}"
    assert problem["instance"] == f"urn:request:{answer.headers['x-request-id']}"
    assert f'id="{code}"' in place.stranger().get("/api/v1/docs").text
    if code == "invalid":
        assert all(set(fault) == {"field", "problem"} for fault in problem["errors"])
        assert problem["errors"]


def test_people_get_a_page_in_their_language(place: Site) -> None:
    html = {"accept": "text/html,*/*"}
    page = place.stranger().get("/nowhere", headers=html)
    assert page.status_code == 404
    assert "没有这个页面" in page.text
    english = place.stranger().get("/nowhere", headers=html | {"accept-language": "en-GB"})
    assert "no such page" in english.text
    asked = place.stranger().get("/?unit=1", headers=html)
    assert (asked.status_code, asked.headers["location"]) == (303, "/sign-in?next=/%3Funit%3D1")


def test_a_body_beyond_the_limit_is_refused(place: Site) -> None:
    answer = place.stranger().post(
        "/api/v1/session", content=b"x" * 1_100_000, headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_a_number_given_by_a_proxy_is_kept_unless_it_could_forge_a_log_line(place: Site) -> None:
    given = place.stranger().get("/healthz", headers={"x-request-id": "7f3a9c21-0001"})
    assert given.headers["x-request-id"] == "7f3a9c21-0001"
    forged = place.stranger().get("/healthz", headers={"x-request-id": "1 level=critical"})
    assert re.fullmatch(r"[0-9a-f]{16}", forged.headers["x-request-id"])


def test_a_bug_is_an_internal_problem_without_its_insides(place: Site) -> None:
    @place.app.get("/api/v1/broken")
    def broken() -> None:
        msg = "inside knowledge"
        raise ZeroDivisionError(msg)

    with capture_logs():
        answer = place.stranger().get("/api/v1/broken")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "inside" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_records_that_went_away_are_unavailable_not_a_bug(place: Site) -> None:
    browser = place.signed_in("clinic-a")
    with place.records.write() as tx:
        tx.execute(text("ALTER TABLE web_session RENAME TO away"))
    answer = browser.get("/api/v1/units")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]
    assert "web_session" not in answer.text
    page = browser.get("/", headers={"accept": "text/html"})
    assert page.status_code == 503


def test_metrics_count_by_route_and_tell_the_state_of_the_line(place: Site) -> None:
    place.alarm()
    place.stranger().get("/a/one")
    place.stranger().get("/a/two")
    said = place.stranger().get("/metrics").text
    assert 'coldchain_http_requests_total{method="GET",route="/a/{token}",status="404"} 2.0' in said
    assert 'coldchain_alarms{of="open"} 1.0' in said
    assert 'coldchain_messages{of="sent"} 1.0' in said
    assert 'coldchain_ready{of="records"} 1.0' in said
    assert 'coldchain_ready{of="collector"} 0.0' in said


def test_figures_are_for_this_machine_and_the_networks_that_the_settings_name(
    sqlite_records: Records, tmp_path: Path
) -> None:
    here = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
    named = ("10.0.3.7", "::ffff:10.0.3.7", "fd00:1::9")
    others = ("10.0.4.7", "203.0.113.9", "fd00:2::9", "somewhere", "")
    with site(sqlite_records, tmp_path, api=ApiSettings(metrics=("10.0.3.0/24", "fd00:1::/64"))) as place:
        for peer in (*here, *named):
            assert "coldchain_ready" in place.stranger(peer=peer).get("/metrics").text, peer
        for peer in others:
            answer = place.stranger(peer=peer).get("/metrics")
            assert (answer.status_code, answer.json()["code"]) == (403, "not_granted"), peer
            assert "coldchain_ready" not in answer.text
            assert place.stranger(peer=peer).get("/healthz").status_code == 200
        document = place.stranger().get("/api/v1/openapi.json").json()
        assert document["paths"]["/metrics"]["get"]["responses"].keys() == {"200", "403"}


def test_figures_are_for_nobody_else_by_default(place: Site) -> None:
    assert place.stranger(peer="192.168.1.2").get("/metrics").status_code == 403


def test_of_what_is_almost_full_and_away_the_figure_says_away(place: Site) -> None:
    """Of two troubles of one part the lesser is told last."""
    found = place.context.health_check.run(5.0)
    both = [Trouble("records", kind, found.at) for kind in (TroubleKind.LOCKED, TroubleKind.DISK_LOW)]
    place.context.health_check.run = lambda _within: msgspec.structs.replace(found, troubles=both)  # type: ignore[method-assign]
    assert 'coldchain_ready{of="records"} 0.0' in place.stranger().get("/metrics").text


def test_a_long_answer_is_compressed_and_a_short_one_is_not(place: Site) -> None:
    browser = place.signed_in("clinic-a")
    for path in (f"/alarms/{place.alarm()}", "/assets/coldchain.css", "/api/v1/openapi.json", "/api/v1/docs"):
        plain = browser.get(path, headers={"accept": "text/html", "accept-encoding": "identity"})
        small = browser.get(path, headers={"accept": "text/html", "accept-encoding": "gzip"})
        assert "content-encoding" not in plain.headers
        assert small.headers["content-encoding"] == "gzip", path
        assert "Accept-Encoding" in small.headers["vary"]
        assert int(small.headers["content-length"]) < len(plain.content) / 2, path
        assert small.text[:200] == plain.text[:200]
    assert "content-encoding" not in browser.get("/healthz").headers


def test_a_page_carries_the_form_token_in_another_text_each_time(place: Site) -> None:
    """What an answer repeats each time could be guessed from its compressed length."""
    browser = place.signed_in("clinic-a")
    csrf = browser.headers.pop("x-csrf-token")
    path = f"/alarms/{place.alarm()}"
    pages = [browser.get(path, headers={"accept": "text/html"}).text for _ in range(2)]
    tokens = [set(re.findall(r'name="csrf" value="([^"]+)"', page)) for page in pages]
    assert len(tokens[0] | tokens[1]) == 2
    assert csrf not in "".join(pages)
    for (token,) in tokens:
        assert browser.post(f"{path}/acknowledge", data={"csrf": token}).status_code == 303
        assert browser.post(f"{path}/acknowledge", data={"csrf": token[:-1] + "z"}).status_code == 403
        assert browser.post(f"{path}/acknowledge", data={"csrf": token[len(token) // 2 :]}).status_code == 403
        other = token[: len(token) // 2] * 2
        assert browser.post(f"{path}/acknowledge", data={"csrf": other}).status_code == 403


def test_assets_are_named_with_their_hash_and_kept(place: Site) -> None:
    browser = place.signed_in("clinic-a")
    named = re.findall(r'(?:href|src)="(/assets/[^"]+)"', browser.get("/", headers={"accept": "text/html"}).text)
    assert len(named) == 3
    for path in named:
        answer = browser.get(path)
        assert "immutable" in answer.headers["cache-control"]
        again = browser.get(path.partition("?")[0], headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        old = browser.get(path.partition("?")[0] + "?v=000000000000")
        assert old.headers["cache-control"] == "public, max-age=300", "a page of before an upgrade"
        assert old.content == answer.content


def test_the_alarm_page_is_light_enough_for_a_bad_network(place: Site) -> None:
    """30 KB in all, compressed, on a line of 30 kbit/s: 8 s at most, and 3 s when style and icon are kept."""
    place.measured("208601", [4.0 + n % 17 / 10 for n in range(720)])
    page = place.stranger(**{"accept": "text/html", "accept-encoding": "gzip"}).get(place.link(place.alarm()))
    loaded = re.findall(r'(?:href|src)="(/assets/[^"]+)"', page.text)
    sizes = [int(page.headers["content-length"])]
    stranger = place.stranger(**{"accept-encoding": "gzip"})
    sizes += [int(stranger.get(path).headers["content-length"]) for path in loaded]
    assert len(loaded) <= 3
    assert sum(sizes) <= 30_000, sizes
    assert sizes[0] <= 11_000
