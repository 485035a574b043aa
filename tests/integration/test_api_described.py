"""The OpenAPI document against the API: every error that it lists can be had, in the form that it says; no other."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from api.app import make_app
from api.app_context import SIGN_INS, AppContext, opened_store
from core.db.engine import Records, connect
from core.ids import AlarmId
from core.units.account_states import AccountState
from core.units.tables import Account
from tests.fixtures.managed_accounts import Described
from tests.fixtures.web import PASSWORD, Browser, Site, site

TIME = {"from": "2026-03-27T00:00:00+08:00", "to": "2026-03-28T23:00:00+08:00"}
REPORT = {"cause": "door", "action": "closed it", "disposition": "fit for use"}
GUESSES = {
    ("POST", "/api/v1/session"): {"username": "nobody", "password": "x"},
    ("POST", "/api/v1/session/password"): {"present": "x", "new": "y"},
}
WITHOUT = ("health", "documentation", "applications")
"""Tags of what has no problems of its own, which the guard's test asks, or a test of its own (applications)."""

Ask = Callable[..., httpx.Response]


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Described]:
    with site(sqlite_records, tmp_path, kind=Described) as made:
        assert isinstance(made, Described)
        made.measured("208601", [4.0] * 30)
        made.prepare()
        yield made


@pytest.fixture
def document(place: Described) -> dict[str, Any]:
    found: dict[str, Any] = place.stranger().get("/api/v1/openapi.json").json()
    return found


def operations(document: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]]:
    found = {
        (method.upper(), path): said
        for path, methods in document["paths"].items()
        for method, said in methods.items()
        if said["tags"][0] not in WITHOUT
    }
    assert len(found) > 15
    return found


def asking(place: Described, alarm: AlarmId, method: str, path: str) -> Ask:
    """Return how a route is asked, by default rightly."""

    def ask(browser: Browser, number: object = None, params: object = TIME, body: object = None) -> httpx.Response:
        right = {"unit": place.there.units["clinic a"], "zone": place.there.zone, "alarm": alarm, **place.things}
        named: dict[str, object] = {**right} if number is None else dict.fromkeys(right, number)
        named["session"] = str(number).zfill(16) if number is not None else a_session_of(browser, path)
        filled = path.format(**named)
        more: dict[str, Any] = {}
        if params is not TIME or (method == "GET" and path.endswith(("{zone}/history", "/timeliness"))):
            more["params"] = params
        if path.endswith("/handling") and method == "POST":
            more["json"] = REPORT if body is None else body
        elif path == "/api/v1/session" and method == "POST":
            more["json"] = {"username": "clinic-a", "password": PASSWORD} if body is None else body
        elif (method, path) in place.bodies:
            more["json"] = place.bodies[method, path] if body is None else body
        answer = browser.request(method, filled, **more)
        if path.endswith("/misuse"):
            unlock(place)
        return answer

    return ask


def a_session_of(browser: Browser, path: str) -> str:
    """Return the id of a session of whoever is signed in, if a path names one."""
    listed = browser.get("/api/v1/sessions") if "{session}" in path else None
    return str(listed.json()[0]["id"]) if listed is not None and listed.status_code == 200 else "0" * 16


def unlock(place: Site) -> None:
    with place.records.write() as tx:
        tx.execute(update(Account).values(state=AccountState.OPEN))


def broken(place: Described) -> Site:
    """Let every store be out of reach."""
    services = AppContext(
        records=Records(connect(f"sqlite:///{place.settings.data_dir}")),  # a folder can't be opened
        telemetry=place.context.telemetry,
        log=opened_store("the intake log", place.log),
        clock=place.clock,
        settings=place.settings,
        secrets=place.secrets,
    )
    place.app = make_app(services)
    return place


def answers_of(place: Described, ask: Ask, path: str, *, takes_body: bool) -> Iterator[httpx.Response]:
    """Do all that can be wrong with a request."""
    yield ask(place.stranger())
    yield ask(place.signed_in("clinic-b"))
    without_token = place.signed_in("clinic-a")
    del without_token.headers["x-csrf-token"]
    yield ask(without_token)
    if not path.endswith("/password"):
        yield ask(place.signed_in("expired"))
    above = "admin-a" if path.startswith("/api/v1/accounts") else "province"
    if "{" in path:
        yield ask(place.signed_in(above), number=999_999)
        yield ask(place.signed_in(above), number="x")
    yield ask(place.signed_in(above))
    yield ask(place.signed_in(above))  # again: what can be done once only
    yield ask(place.signed_in(above), params={"limit": "x", "from": "x"})
    if path in {"/api/v1/accounts", "/api/v1/people"} and not takes_body:
        yield ask(place.signed_in(above), params={"unit": "999999"})
    if path.endswith("/reset"):
        with place.records.write() as tx:
            tx.get_one(Account, place.things["account"]).state = AccountState.CLOSED
        yield ask(place.signed_in(above))
    if ("POST", path) in place.nowhere and takes_body and "session" not in path:
        yield ask(place.signed_in(above), body=place.nowhere["POST", path])
    if takes_body:
        yield ask(place.signed_in(above), body={"cause": ""})
        yield ask(place.signed_in(above), body={"cause": "x" * 2**20})


def test_every_route_lists_the_problems_that_it_answers_and_no_other(
    place: Described, document: Mapping[str, Any]
) -> None:
    shape = document["components"]["schemas"]["Problem"]
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    told = operations(document)

    def note(operation: tuple[str, str], answer: httpx.Response) -> None:
        responses = told[operation]["responses"]
        assert str(answer.status_code) in responses, f"{operation}: {answer.status_code} {answer.text[:200]}"
        if answer.status_code >= 400:
            (media,) = responses[str(answer.status_code)]["content"]
            assert answer.headers["content-type"] == media == "application/problem+json"
            body = answer.json()
            assert set(shape["required"]) <= set(body) <= set(shape["properties"])
            assert body["status"] == answer.status_code
        found[operation].add(answer.status_code)

    alarm = place.alarm()
    for operation, said in told.items():
        ask = asking(place, alarm, *operation)
        place.context.throttle = type(place.context.throttle)(SIGN_INS, 60.0)
        for answer in answers_of(place, ask, operation[1], takes_body="requestBody" in said):
            note(operation, answer)
        guess = GUESSES.get(operation)
        for _ in range(SIGN_INS + 1 if guess else 0):
            note(operation, ask(place.signed_in("province"), body=guess))
    token = place.signed_in("clinic-a")
    broken(place)
    for operation in told:
        browser = Browser(place.app, place.settings.public_url, dict(token.headers))
        browser.cookies.update(token.cookies)
        note(operation, asking(place, AlarmId(1), *operation)(browser))
    for operation, said in told.items():
        assert {int(status) for status in said["responses"]} == found[operation], operation


def test_the_framework_s_own_description_of_errors_is_gone(document: Mapping[str, Any]) -> None:
    assert "ValidationError" not in str(document)
