"""The OpenAPI document against the API: every error that it lists can be had, in the form that it says; no other."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import make_app
from api.app_context import SIGN_INS, AppContext, opened_store
from core.db.engine import Records, connect
from core.ids import AlarmId
from tests.fixtures.web import PASSWORD, Browser, Site, site

TIME = {"from": "2026-03-27T00:00:00+08:00", "to": "2026-03-28T23:00:00+08:00"}
REPORT = {"cause": "door", "action": "closed it", "disposition": "fit for use"}
WITHOUT = ("health", "documentation", "applications")
"""Tags of what has no problems of its own, which the guard's test asks, or a test of its own (applications)."""

Ask = Callable[..., httpx.Response]


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        made.measured("208601", [4.0] * 30)
        yield made


@pytest.fixture
def document(place: Site) -> dict[str, Any]:
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


def asking(place: Site, alarm: AlarmId, method: str, path: str) -> Ask:
    """Return how a route is asked, by default rightly."""

    def ask(browser: Browser, number: object = None, params: object = TIME, body: object = None) -> httpx.Response:
        right = {"unit": place.there.units["clinic a"], "zone": place.there.zone, "alarm": alarm}
        filled = path.format(**(right if number is None else dict.fromkeys(right, number)))
        more: dict[str, Any] = {}
        if params is not TIME or (method == "GET" and path.endswith(("{zone}/history", "/timeliness"))):
            more["params"] = params
        if path.endswith("/handling") and method == "POST":
            more["json"] = REPORT if body is None else body
        elif path == "/api/v1/session" and method == "POST":
            more["json"] = {"username": "clinic-a", "password": PASSWORD} if body is None else body
        return browser.request(method, filled, **more)

    return ask


def broken(place: Site) -> Site:
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


def answers_of(place: Site, ask: Ask, path: str, *, takes_body: bool) -> Iterator[httpx.Response]:
    """Do all that can be wrong with a request."""
    yield ask(place.stranger())
    yield ask(place.signed_in("clinic-b"))
    without_token = place.signed_in("clinic-a")
    del without_token.headers["x-csrf-token"]
    yield ask(without_token)
    above = "province"
    if "{" in path:
        yield ask(place.signed_in(above), number=999_999)
        yield ask(place.signed_in(above), number="x")
    yield ask(place.signed_in(above))
    yield ask(place.signed_in(above))  # again: what can be done once only
    yield ask(place.signed_in(above), params={"limit": "x", "from": "x"})
    if takes_body:
        yield ask(place.signed_in(above), body={"cause": ""})
        yield ask(place.signed_in(above), body={"cause": "x" * 2**20})


def test_every_route_lists_the_problems_that_it_answers_and_no_other(place: Site, document: Mapping[str, Any]) -> None:
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
        if operation == ("POST", "/api/v1/session"):
            for _ in range(SIGN_INS + 1):
                note(operation, ask(place.stranger(), body={"username": "nobody", "password": "x"}))
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
