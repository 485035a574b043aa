"""Signing in: by form and by API, slowed and locked against guessing; cookies; machines."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from api import sign_in_throttle
from api.sign_in_throttle import Throttle
from core.access.tokens import issue_token
from core.db.engine import Records
from core.runtime.connection_limits import RateLimitedLog
from core.runtime.instant import HOUR, MINUTE
from core.units.account_states import AccountState
from core.units.actor import OPERATOR
from core.units.rights import Role
from core.units.tables import Account, Unit
from tests.fixtures.web import NOW, PASSWORD, Browser, Site, site


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        yield made


def sign_in(browser: Browser, password: str = PASSWORD, username: str = "clinic-a") -> int:
    said = browser.post("/api/v1/session", json={"username": username, "password": password})
    return said.status_code


def by_form(browser: Browser, password: str = PASSWORD, **more: str) -> tuple[int, str]:
    page = browser.get("/sign-in", headers={"accept": "text/html"}).text
    csrf = page.split('name="csrf" value="')[1].split('"')[0]
    said = browser.post("/sign-in", data={"username": "clinic-a", "password": password, "csrf": csrf, **more})
    return said.status_code, said.headers.get("location", said.text)


def test_signing_in_and_out_through_the_api(place: Site) -> None:
    browser = place.stranger()
    answer = browser.post("/api/v1/session", json={"username": "clinic-a", "password": PASSWORD})
    assert answer.status_code == 201
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=lax" in answer.headers["set-cookie"]
    assert "Secure" not in answer.headers["set-cookie"]
    who = browser.get("/api/v1/session").json()
    assert [unit["name"] for unit in who["units"]] == ["甲镇卫生院"]
    assert who["csrf"] == answer.json()["csrf"]
    assert browser.request("DELETE", "/api/v1/session").status_code == 403
    gone = browser.request("DELETE", "/api/v1/session", headers={"x-csrf-token": who["csrf"]})
    assert gone.status_code == 204
    assert browser.get("/api/v1/session").status_code == 401


def test_a_session_ends_on_the_systems_clock_and_a_stolen_cookie_with_it(place: Site) -> None:
    browser = place.stranger()
    assert sign_in(browser) == 201
    token = browser.cookies["cc_session"]
    place.clock.forward(seconds=12 * 3600 - 1)
    assert browser.get("/api/v1/units").status_code == 200
    place.clock.forward(seconds=1)
    thief = place.stranger()
    thief.cookies.set("cc_session", token)
    assert thief.get("/api/v1/units").status_code == 401


def test_signing_out_ends_the_session_on_the_server_too(place: Site) -> None:
    browser = place.signed_in("clinic-a")
    token = browser.cookies["cc_session"]
    done = browser.post("/sign-out")
    assert (done.status_code, done.headers["location"]) == (303, "/sign-in")
    thief = place.stranger()
    thief.cookies.set("cc_session", token)
    assert thief.get("/api/v1/units").status_code == 401


@pytest.mark.parametrize("username", ["clinic-a", "nobody"])
def test_whoever_guesses_waits_and_the_owner_elsewhere_does_not(
    place: Site, username: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_throttle, "FIRST_WAIT_S", 600.0)

    def guess(peer: str) -> tuple[int, str, str]:
        asked = {"username": username, "password": "wrong password"}
        answer = place.stranger(peer=peer).post("/api/v1/session", json=asked)
        return answer.status_code, answer.json()["code"], answer.headers.get("retry-after", "")

    refused = (401, "not_signed_in", "")
    assert [guess("10.1.1.1") for _ in range(5)] == [refused] * 5
    status, code, after = guess("10.1.1.1")
    assert (status, code, 1 <= int(after) <= 600) == (429, "too_many", True)
    with capture_logs() as lines:
        place.context.slowed_sign_ins = RateLimitedLog("guesses of passwords were slowed")
        for _ in range(5):
            guess("10.1.1.1")
    slowed = [line for line in lines if line["event"] == "guesses of passwords were slowed"]
    assert [line["source"] for line in slowed] == ["10.1.1.1"]
    assert username not in str(slowed)
    assert guess("10.1.1.2") == refused
    assert sign_in(place.stranger(peer="10.1.1.3")) == 201


def test_who_has_guessed_waits_with_the_right_password_too(place: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in_throttle, "FIRST_WAIT_S", 600.0)
    guessing = place.stranger(peer="10.1.1.1")
    assert [sign_in(guessing, "wrong password") for _ in range(5)] == [401] * 5
    assert sign_in(guessing) == 429
    assert by_form(guessing)[0] == 429
    assert sign_in(guessing, username="county-a") == 201


def test_a_forgotten_password_that_comes_back_is_forgiven(place: Site) -> None:
    for _ in range(2):
        place.context.throttle = Throttle(100, 60.0)
        assert [sign_in(place.stranger(), "wrong password") for _ in range(4)] == [401] * 4
        assert sign_in(place.stranger()) == 201


def test_one_address_is_slowed_whatever_the_names_it_guesses(place: Site) -> None:
    place.context.throttle = Throttle(2, 60.0)
    said = [sign_in(place.stranger(), "wrong password", f"guess-{n}") for n in range(3)]
    assert said == [401, 401, 429]
    assert sign_in(place.stranger()) == 429


def test_an_unknown_name_is_answered_like_a_wrong_password(place: Site) -> None:
    answers = [
        place.stranger().post("/api/v1/session", json={"username": name, "password": "wrong password"}).json()
        for name in ("clinic-a", "nobody")
    ]
    for answer in answers:
        del answer["instance"]
    assert answers[0] == answers[1]


def test_the_form_leads_where_one_wanted_to_go_and_never_elsewhere(place: Site) -> None:
    assert by_form(place.stranger(), next="/alarms") == (303, "/alarms")
    for elsewhere in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\nb"):
        assert by_form(place.stranger(), next=elsewhere) == (303, "/")


def test_the_form_says_what_was_wrong_and_keeps_the_name(place: Site) -> None:
    status, page = by_form(place.stranger(), "wrong password")
    assert status == 401
    assert "用户名或密码不对" in page
    assert 'value="clinic-a"' in page
    assert "wrong password" not in page


def test_a_form_that_another_site_filled_in_signs_nobody_in(place: Site) -> None:
    stranger = place.stranger()
    stranger.get("/sign-in")
    said = stranger.post("/sign-in", data={"username": "clinic-a", "password": PASSWORD, "csrf": "guessed"})
    assert said.status_code == 403
    assert "cc_session" not in stranger.cookies


def test_behind_tls_cookies_are_for_this_host_and_https_alone(sqlite_records: Records, tmp_path: Path) -> None:
    with site(sqlite_records, tmp_path, public_url="https://cold.example") as place:
        browser = place.stranger()
        answer = browser.post("/api/v1/session", json={"username": "clinic-a", "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-cc_session=")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
        assert answer.headers["strict-transport-security"]
        assert browser.get("/api/v1/session").status_code == 200


def test_a_machine_shows_a_token_and_needs_no_form_token(place: Site) -> None:
    with place.records.write() as tx:
        unit = tx.get_one(Unit, place.there.units["clinic a"])
        token = issue_token(tx, OPERATOR, name="hub", unit=unit, role=Role.USER, expires_at=NOW + HOUR, now=NOW)
    machine = place.stranger(authorization=f"Bearer {token}")
    assert [unit["name"] for unit in machine.get("/api/v1/units").json()["items"]] == ["甲镇卫生院"]
    assert machine.get("/api/v1/session").json()["csrf"] == ""
    assert machine.post(f"/api/v1/alarms/{place.alarm()}/acknowledge").status_code == 200
    place.clock.forward(minutes=60)
    refused = machine.get("/api/v1/units")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


def test_a_closed_account_is_out_at_once(place: Site) -> None:
    browser = place.signed_in("clinic-a")
    with place.records.write() as tx:
        tx.scalars(select(Account).where(Account.username == "clinic-a")).one().state = AccountState.CLOSED
    assert browser.get("/api/v1/units").status_code == 401
    assert sign_in(place.stranger()) == 401


def test_an_account_without_any_unit_is_told_so(place: Site) -> None:
    place.clock.at = NOW - 60 * 365 * 24 * 60 * MINUTE
    page = place.signed_in("clinic-a", accept="text/html").get("/")
    assert page.status_code == 403
    assert "没有权限" in page.text
