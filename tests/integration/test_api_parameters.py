"""A query parameter that a route doesn't take is refused by name, on every page and route of the API."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from core.db.engine import Records
from core.ids import AlarmId
from tests.fixtures.web import Browser, Site, site

OPEN = {"/healthz", "/readyz", "/metrics", "/a/{token}", "/wechat/back"}
"""Asked by programs that append their own: monitors, and WeChat, where an alarm has to open all the same."""
HTML = {"accept": "text/html"}
TIME = {"from": "2026-03-27T00:00:00+08:00", "to": "2026-03-28T23:00:00+08:00"}


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        made.measured("208601", [4.0] * 30)
        yield made


@pytest.fixture
def alarm(place: Site) -> AlarmId:
    return place.alarm()


def get_routes(place: Site) -> list[str]:
    return [
        route.path or ""
        for route in iter_route_contexts(place.app.routes)
        if isinstance(route.original_route, APIRoute) and "GET" in (route.methods or ())
    ]


def ask(place: Site, alarm: AlarmId, path: str, **params: str) -> httpx.Response:
    filled = path.format(
        unit=place.there.units["clinic a"],
        zone=place.there.zone,
        alarm=alarm,
        token=place.link(alarm).removeprefix("/a/"),
        application=1,
        file="coldchain.css",
        account=place.there.accounts["clinic-a"].id,
    )
    needed = TIME if path.endswith(("{zone}/history", "/timeliness")) else {}
    return place.signed_in("province").get(filled, params={**needed, **params})


def test_every_route_refuses_what_it_does_not_take_and_names_it(place: Site, alarm: AlarmId) -> None:
    asked = 0
    for path in get_routes(place):
        if path in OPEN or path.endswith("/wechat"):
            continue
        answer = ask(place, alarm, path, colour="red", frm="x")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), path
        assert [fault["field"] for fault in answer.json()["errors"]] == ["colour", "frm"], path
        asked += 1
    assert asked > 20


def test_alarms_from_a_day_on_the_page_is_refused_and_the_api_takes_it(place: Site, alarm: AlarmId) -> None:
    refused = ask(place, alarm, "/alarms", **TIME)
    faults = {fault["field"]: fault["problem"] for fault in refused.json()["errors"]}
    assert set(faults) == {"from", "to"}
    assert "all, below, cursor, lang, since, unit, until" in faults["from"]
    assert ask(place, alarm, "/api/v1/alarms", **TIME).status_code == 200


@pytest.mark.parametrize(("language", "said"), [("zh-CN", "不认识的参数：from"), ("en", "not understood here: from")])
def test_a_person_reads_which_it_is(place: Site, language: str, said: str) -> None:
    page = place.signed_in("clinic-a").get(f"/alarms?from=2026-03-28&lang={language}", headers=HTML)
    assert page.status_code == 422
    assert said in page.text
    assert "all, below, cursor, lang, since, unit, until" in page.text


def test_a_change_with_an_unknown_parameter_changes_nothing(place: Site, alarm: AlarmId) -> None:
    browser = place.signed_in("clinic-a")
    assert browser.post(f"/api/v1/alarms/{alarm}/acknowledge?force=1").status_code == 422
    assert browser.get(f"/api/v1/alarms/{alarm}").json()["handling"] == "unacknowledged"


def test_what_wechat_appends_to_an_address_that_is_shared_is_no_mistake(place: Site, alarm: AlarmId) -> None:
    shared = {"from": "singlemessage", "isappinstalled": "0"}
    for path in ("/", "/alarms", "/alarms/{alarm}", "/zones/{zone}", "/a/{token}"):
        assert ask(place, alarm, path, **shared).status_code == 200, path
    assert ask(place, alarm, "/a/{token}", scene="334", clicktime="1717", enterid="1").status_code == 200
    assert ask(place, alarm, "/api/v1/units", **shared).status_code == 422


def test_health_answers_whatever_a_monitor_appends(place: Site) -> None:
    stranger: Browser = place.stranger()
    assert stranger.get("/healthz?_=1234").status_code == 200
    assert stranger.get("/metrics?x=1").status_code == 200


def test_the_other_language_and_signing_in_lead_back_to_what_was_shown(place: Site) -> None:
    page = place.signed_in("province").get(f"/zones/{place.there.zone}?span=7d&lang=zh-CN", headers=HTML).text
    assert f'href="/zones/{place.there.zone}?span=7d&amp;lang=en"' in page
    asked = place.stranger().get("/alarms?all=1", headers=HTML).headers["location"]
    form = place.stranger().get(asked, headers=HTML).text
    assert 'name="next" value="/alarms?all=1"' in form
    assert 'href="/sign-in?next=%2Falarms%3Fall%3D1&amp;lang=en"' in form


def test_a_parameter_given_twice_is_refused_unless_the_route_takes_several(place: Site) -> None:
    browser = place.signed_in("clinic-a")
    for path in (f"/zones/{place.there.zone}?span=24h&span=7d", "/api/v1/alarms?limit=1&limit=2"):
        answer = browser.get(path)
        assert answer.status_code == 422, path
        assert [fault["problem"] for fault in answer.json()["errors"]] == ["give it once"]
    assert browser.get("/api/v1/alarms?state=open&state=closed").status_code == 200


def test_a_page_repeats_nothing_of_an_address_that_it_has_not_understood(place: Site, alarm: AlarmId) -> None:
    """What a page repeats could be used to guess what else is in it, by its compressed length (ADR 13)."""
    for path in ("/a/{token}", "/alarms/{alarm}"):
        params = {"said": "guess-1"} if path == "/alarms/{alarm}" else {"said": "guess-1", "guess-2": "guess-3"}
        filled = path.format(token=place.link(alarm).removeprefix("/a/"), alarm=alarm)
        page = place.signed_in("province").get(filled, params=params, headers=HTML)
        assert page.status_code == 200
        assert "guess" not in page.text
