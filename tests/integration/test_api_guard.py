"""Every route, walked by who has no business there. A new route that nobody guards fails here."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from api.application_kinds import KINDS
from core.db.engine import Records
from core.ids import AlarmId
from core.runtime.instant import Instant
from core.units.actor import OPERATOR
from core.units.tables import Grant
from core.workflow.drafts import create_draft
from core.workflow.form import DraftContent
from tests.fixtures.routes import application_request, routes_of
from tests.fixtures.web import Browser, Site, site

TIME = {"from": "2026-03-27T00:00:00+08:00", "to": "2026-03-28T23:00:00+08:00"}
REPORT = {"cause": "door", "action": "closed it", "disposition": "fit for use"}

FOR_EVERYBODY = {
    ("GET", "/healthz"): 200,
    ("GET", "/readyz"): 503,
    ("GET", "/metrics"): 200,
    ("GET", "/api/v1/openapi.json"): 200,
    ("GET", "/api/v1/docs"): 200,
    ("GET", "/assets/{file}"): 200,
    ("GET", "/sign-in"): 200,
    ("POST", "/sign-in"): 403,
    ("POST", "/api/v1/session"): 401,
    ("GET", "/a/{token}"): 200,
    ("GET", "/a/{token}/wechat"): 404,
    ("GET", "/wechat/back"): 400,
}
"""What may be asked without signing in, and what a stranger then gets."""


BODIES = {
    ("POST", "/api/v1/accounts"): {
        "username": "new",
        "unit": 999_999,
        "name": "Li Na",
        "identity_number": "11010519491231002X",
        "phone": "13812345678",
    },
    ("POST", "/api/v1/grants"): {"account": 1, "unit": 999_999, "role": "user"},
    ("POST", "/api/v1/substitutions"): {
        "absent": 999_998,
        "substitute": 999_999,
        "since": TIME["from"],
        "until": TIME["to"],
    },
    ("PUT", "/api/v1/managers/{unit}"): {"person": 999_999},
    ("POST", "/api/v1/session/password"): {"present": "x", "new": "y"},
}
"""Bodies of changes that name nothing, or nothing that is there."""
OF_ADMINISTRATORS = {
    "/api/v1/accounts",
    "/api/v1/accounts/province-administrators",
    "/api/v1/accounts/province-administrators.csv",
    "/api/v1/people",
}
"""Lists for whoever manages or grants somewhere."""
OF_ONESELF = {"/password", "/password/misuse"}


def account_things(place: Site) -> dict[str, int]:
    """Return an account of clinic a, its grant, and a substitution that isn't there."""
    with place.records.read() as tx:
        account = place.there.accounts["clinic-a"].id
        return {"account": account, "grant": grant_of(tx, account), "substitution": 1}


def grant_of(tx: Session, account: int) -> int:
    return tx.query(Grant).where(Grant.account_id == account).one().id


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        made.measured("208601", [4.0] * 30 + [9.0] * 20)
        with sqlite_records.write() as tx:
            unit, content = made.there.units["clinic a"], DraftContent()
            assert create_draft(tx, OPERATOR, KINDS, "form2", unit, content, now=Instant(0)).id == 1
        yield made


@pytest.fixture
def alarm(place: Site) -> AlarmId:
    return place.alarm()


def routes(place: Site) -> list[tuple[str, str]]:
    return routes_of(place.app)


def ask(browser: Browser, place: Site, alarm: AlarmId, method: str, path: str) -> tuple[int, str]:
    """Ask for what belongs to clinic a, wherever the path names something."""
    filled = path.format(
        unit=place.there.units["clinic a"],
        zone=place.there.zone,
        alarm=alarm,
        token=place.link(alarm).removeprefix("/a/"),
        application=1,
        file="coldchain.css",
        session="0" * 16,
        **account_things(place),
    )
    body: dict[str, Any] = application_request(method, path, place.there.units["clinic a"])
    if (method, path) in BODIES:
        body = {"json": BODIES[method, path]}
    if path == "/api/v1/session" and method == "POST":
        body = {"json": {"username": "clinic-a", "password": "wrong password"}}
    elif path == "/sign-in" and method == "POST":
        body = {"data": {"username": "clinic-a", "password": "wrong password"}}
    elif path.endswith("/handling") and method == "POST":
        body = {"json": REPORT} if path.startswith("/api/") else {"data": REPORT}
    params = TIME if method == "GET" and path.endswith(("{zone}/history", "/timeliness")) else {}
    answer = browser.request(method, filled, **{"params": params, **body})
    return answer.status_code, answer.text


def test_a_stranger_gets_nothing_but_what_is_for_everybody(place: Site, alarm: AlarmId) -> None:
    for method, path in routes(place):
        status, text = ask(place.stranger(), place, alarm, method, path)
        assert status == FOR_EVERYBODY.get((method, path), 401), f"{method} {path}: {status} {text[:200]}"


def test_a_forged_session_and_token_are_a_strangers(place: Site, alarm: AlarmId) -> None:
    for method, path in routes(place):
        guessed = place.stranger(authorization="Bearer cc_guessed")
        guessed.cookies.set("cc_session", "guessed")
        status, text = ask(guessed, place, alarm, method, path)
        assert status in {FOR_EVERYBODY.get((method, path), 401), 401}, f"{method} {path}: {status} {text[:200]}"


@pytest.mark.req("CC-03", "AL-08")
@pytest.mark.parametrize("sibling", ["clinic-b", "孙丽"])
def test_a_sibling_unit_is_refused_wherever_something_is_named(place: Site, alarm: AlarmId, sibling: str) -> None:
    for method, path in routes(place):
        if (method, path) in FOR_EVERYBODY or "session" in path or path in {"/sign-out", *OF_ONESELF}:
            continue
        browser = place.signed_in(sibling) if sibling in place.there.accounts else place.phone_of(sibling)
        status, text = ask(browser, place, alarm, method, path)
        creates = {("POST", "/api/v1/applications"), ("POST", "/applications/new")}
        names_something = "{" in path or (method, path) in creates or (method, path) in BODIES
        if names_something or path.startswith("/api/v1/intake") or path in OF_ADMINISTRATORS:
            assert status == (404 if names_something else 403), f"{method} {path}: {status} {text[:200]}"
        else:
            assert status == 200, f"{method} {path}: {status} {text[:200]}"
            assert not re.search("甲|A-01|208601", text), f"{method} {path} shows what is another unit's"


@pytest.mark.req("CC-03")
@pytest.mark.parametrize("above", ["county-a", "province"])
def test_who_stands_above_sees_it(place: Site, alarm: AlarmId, above: str) -> None:
    for method, path in routes(place):
        if method == "GET" and "{" in path and (method, path) not in FOR_EVERYBODY and "substitution" not in path:
            status, text = ask(place.signed_in(above), place, alarm, method, path)
            assert status == 200, f"{method} {path}: {status} {text[:200]}"


def test_a_change_on_the_strength_of_a_cookie_needs_the_form_token(place: Site, alarm: AlarmId) -> None:
    for method, path in routes(place):
        if method == "GET" or (method, path) in FOR_EVERYBODY:
            continue
        for given in ("", "another"):
            browser = place.signed_in("clinic-a")
            browser.headers["x-csrf-token"] = given
            status, text = ask(browser, place, alarm, method, path)
            assert status == 403, f"{method} {path}: {status} {text[:200]}"
    assert place.signed_in("clinic-a").get(f"/api/v1/alarms/{alarm}").json()["handling"] == "unacknowledged"


def test_nothing_that_a_get_may_ask_changes_anything(place: Site, alarm: AlarmId) -> None:
    before = place.signed_in("clinic-a").get(f"/api/v1/alarms/{alarm}").json()
    for method, path in routes(place):
        if method == "GET":
            ask(place.signed_in("clinic-a"), place, alarm, method, path)
    assert place.signed_in("clinic-a").get(f"/api/v1/alarms/{alarm}").json() == before


def test_every_route_is_in_the_documentation(place: Site) -> None:
    document = place.stranger().get("/api/v1/openapi.json").json()
    page = place.stranger().get("/api/v1/docs", headers={"accept": "text/html"}).text
    for method, path in routes(place):
        if path.startswith("/api/") or path in {"/healthz", "/readyz", "/metrics"}:
            assert method.lower() in document["paths"][path], path
        assert path in page, path
    names = [said["operationId"] for methods in document["paths"].values() for said in methods.values()]
    assert len(set(names)) == len(names)
    for path, methods in document["paths"].items():
        assert all(said["description"] for said in methods.values()), path


def test_the_documentation_asks_no_other_host(place: Site) -> None:
    page = place.stranger().get("/api/v1/docs", headers={"accept": "text/html"}).text
    assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page)
    assert "<script" not in page
