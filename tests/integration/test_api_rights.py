"""Every route and page, asked for everything there is by everybody there is, on both databases.

The table says of each route what it names; a route without a line fails. What a viewer may not see is 404, worded as if
it weren't there, and no answer holds a word of it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from core.db.engine import Records
from core.devices.tables import EquipmentUnit
from core.runtime.instant import HOUR, Instant, rfc3339
from tests.fixtures.rights_world import REFUSED, VIEWERS, Kind, Viewer, World, leaks
from tests.fixtures.routes import routes_of
from tests.fixtures.web import NOW, Browser, site

pytestmark = pytest.mark.long
REPORT = {"cause": "door", "action": "closed it", "disposition": "fit for use"}
OPENED = {
    "username": "new",
    "unit": 999_999,
    "name": "Li Na",
    "identity_number": "11010519491231002X",
    "phone": "13812345678",
}
LENT = {"absent": 999_998, "substitute": 999_999, "since": rfc3339(NOW), "until": rfc3339(Instant(NOW + HOUR))}
ENDS_THE_SESSION = {
    ("POST", "/sign-out"),
    ("POST", "/api/v1/session"),
    ("DELETE", "/api/v1/session"),
    ("POST", "/api/v1/session/misuse"),
    ("POST", "/password/misuse"),
}
TIME = {"from": rfc3339(Instant(NOW - 6 * HOUR)), "to": rfc3339(Instant(NOW + 1))}


class Row(msgspec.Struct, frozen=True):
    """What a route names in its path, and what else it needs."""

    names: Kind | None = None
    params: Mapping[str, str] = {}
    json: Any = None
    headers: Mapping[str, str] = {}
    data: Any = None
    visible: Sequence[int] = (200,)
    """Statuses for whoever may see the thing."""


OPEN = Row(visible=(200, 303, 400, 401, 403, 404, 422, 503))
"""For everybody, or about the viewer alone: only what it shows is looked at."""
SIGNED = Row()
SEEN = {"if-match": "1"}
DECISION = {"step": "1", "outcome": "passed_up", "seen": "0" * 64}

TABLE: Mapping[tuple[str, str], Row] = {
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/metrics"): OPEN,
    ("GET", "/assets/{file}"): OPEN,
    ("GET", "/api/v1/openapi.json"): OPEN,
    ("GET", "/api/v1/docs"): OPEN,
    ("GET", "/sign-in"): OPEN,
    ("POST", "/sign-in"): OPEN,
    ("POST", "/sign-out"): OPEN,
    ("POST", "/api/v1/session"): OPEN,
    ("DELETE", "/api/v1/session"): OPEN,
    ("GET", "/wechat/back"): OPEN,
    ("GET", "/a/{token}"): OPEN,  # the link has tests of its own below
    ("GET", "/a/{token}/wechat"): OPEN,
    ("POST", "/a/{token}/acknowledge"): OPEN,
    ("POST", "/a/{token}/handling"): OPEN,
    ("GET", "/api/v1/session"): SIGNED,
    ("GET", "/api/v1/units"): SIGNED,
    ("GET", "/api/v1/units/{unit}"): Row("unit"),
    ("GET", "/api/v1/units/{unit}/live"): Row("unit", {"below": "true"}),
    ("GET", "/api/v1/units/{unit}/timeliness"): Row("unit", TIME),
    ("GET", "/api/v1/units/{unit}/overview"): Row("unit"),
    ("GET", "/api/v1/units/{unit}/coverage"): Row("unit"),
    ("GET", "/api/v1/units/{unit}/readiness"): Row("unit"),
    ("GET", "/api/v1/units/{unit}/codes"): Row("unit", {"year": "2026"}),
    ("GET", "/api/v1/units/{unit}/ancestors"): Row("unit", {"at": rfc3339(NOW)}),
    ("GET", "/api/v1/units/{unit}/contacts/incomplete"): Row("unit"),
    ("GET", "/api/v1/units/{unit}/contacts/unbound"): Row("unit"),
    ("GET", "/api/v1/zones/{zone}/history"): Row("zone", TIME),
    ("GET", "/api/v1/alarms"): SIGNED,
    ("GET", "/api/v1/alarms/{alarm}"): Row("alarm"),
    ("GET", "/api/v1/alarms/{alarm}/events"): Row("alarm"),
    ("GET", "/api/v1/alarms/{alarm}/messages"): Row("alarm"),
    ("GET", "/api/v1/alarms/{alarm}/handling"): Row("alarm"),
    ("POST", "/api/v1/alarms/{alarm}/acknowledge"): Row("alarm", visible=(200, 403)),
    ("POST", "/api/v1/alarms/{alarm}/handling"): Row("alarm", json=REPORT, visible=(201, 403, 409)),
    ("GET", "/api/v1/intake/quarantine"): Row(visible=(200, 403)),
    ("GET", "/api/v1/intake/dead-letters"): Row(visible=(403,)),
    ("GET", "/api/v1/devices"): SIGNED,
    ("GET", "/devices"): SIGNED,
    ("GET", "/devices.csv"): SIGNED,
    ("GET", "/api/v1/applications"): SIGNED,
    ("GET", "/api/v1/applications/kinds"): SIGNED,
    ("GET", "/api/v1/applications/inbox"): SIGNED,
    ("POST", "/api/v1/applications"): Row(json={"kind": "form2", "unit": 1}, visible=(201, 403, 404)),
    ("GET", "/api/v1/applications/{application}"): Row("application"),
    ("GET", "/api/v1/applications/{application}/history"): Row("application"),
    ("PUT", "/api/v1/applications/{application}"): Row("application", json={}, headers=SEEN, visible=(200, 403, 409)),
    ("POST", "/api/v1/applications/{application}/submission"): Row(
        "application", headers=SEEN, visible=(200, 403, 409, 422)
    ),
    ("POST", "/api/v1/applications/{application}/decisions"): Row(
        "application", json={"step": 1, "outcome": "passed_up"}, visible=(404, 403)
    ),
    ("POST", "/api/v1/applications/{application}/withdrawal"): Row("application", visible=(200, 403)),
    ("POST", "/api/v1/applications/{application}/execution"): Row("application", json={}, visible=(403, 409)),
    ("POST", "/api/v1/applications/{application}/return"): Row("application", json={"reason": "?"}, visible=(403, 409)),
    ("GET", "/applications"): SIGNED,
    ("GET", "/applications/inbox"): SIGNED,
    ("GET", "/applications/new"): SIGNED,
    ("POST", "/applications/new"): Row(params={"kind": "form2", "unit": "999999"}, visible=(404,)),
    ("GET", "/applications/{application}"): Row("application"),
    ("GET", "/applications/{application}/print"): Row("application"),
    ("GET", "/applications/{application}/edit"): Row("application", visible=(200, 403)),
    ("POST", "/applications/{application}/edit"): Row("application", data={"revision": "1"}, visible=(303, 403, 409)),
    ("POST", "/applications/{application}/decide"): Row("application", data=DECISION, visible=(404, 403)),
    ("POST", "/applications/{application}/withdraw"): Row("application", visible=(303, 403)),
    ("GET", "/api/v1/accounts"): Row(visible=(200, 403)),
    ("POST", "/api/v1/accounts"): Row(json=OPENED, visible=(404,)),
    ("GET", "/api/v1/accounts/province-administrators"): Row(visible=(200, 403)),
    ("GET", "/api/v1/accounts/province-administrators.csv"): Row(visible=(200, 403)),
    ("GET", "/api/v1/accounts/incidents"): SIGNED,
    ("GET", "/api/v1/accounts/{account}"): Row("account"),
    ("POST", "/api/v1/accounts/{account}/close"): Row("account", visible=(200, 403)),
    ("POST", "/api/v1/accounts/{account}/reopen"): Row("account", visible=(200, 403)),
    ("POST", "/api/v1/accounts/{account}/reset"): Row("account", visible=(200, 403)),
    ("GET", "/api/v1/grants"): SIGNED,
    ("POST", "/api/v1/grants"): Row(json={"account": 1, "unit": 999_999, "role": "user"}, visible=(404,)),
    ("DELETE", "/api/v1/grants/{grant}"): Row("grant", visible=(200, 403)),
    ("GET", "/api/v1/substitutions"): SIGNED,
    ("POST", "/api/v1/substitutions"): Row(json=LENT, visible=(404,)),
    ("DELETE", "/api/v1/substitutions/{substitution}"): Row("substitution", visible=(204, 403)),
    ("GET", "/api/v1/people"): Row(visible=(200, 403)),
    ("GET", "/api/v1/managers/missing"): SIGNED,
    ("GET", "/api/v1/managers/{unit}"): Row("unit"),
    ("PUT", "/api/v1/managers/{unit}"): Row("unit", json={"person": 999_999}, visible=(403, 422)),
    ("GET", "/api/v1/sessions"): SIGNED,
    ("DELETE", "/api/v1/sessions/{session}"): Row(visible=(404,)),
    ("POST", "/api/v1/session/password"): Row(json={"present": "x", "new": "y"}, visible=(401, 422)),
    ("POST", "/api/v1/session/misuse"): OPEN,
    ("GET", "/password"): Row(visible=(200, 403)),
    ("POST", "/password"): Row(visible=(403, 422)),
    ("POST", "/password/misuse"): OPEN,
    ("GET", "/"): SIGNED,
    ("GET", "/units"): SIGNED,
    ("GET", "/alarms"): Row(params={"all": "1"}),
    ("GET", "/alarms.csv"): Row(params={"all": "1"}),
    ("GET", "/alarms/{alarm}"): Row("alarm"),
    ("POST", "/alarms/{alarm}/acknowledge"): Row("alarm", visible=(303, 403)),
    ("POST", "/alarms/{alarm}/handling"): Row("alarm", data=REPORT, visible=(303, 403, 409, 422)),
    ("GET", "/zones/{zone}"): Row("zone"),
}


@pytest.fixture
def world(records: Records, tmp_path: Path) -> Iterator[World]:
    with site(records, tmp_path) as made:
        yield World(made)


def ask(browser: Browser, method: str, path: str, row: Row, number: int = 0, **more: str) -> Any:
    kinds = ("unit", "zone", "alarm", "application", "account", "grant", "substitution")
    named = dict.fromkeys(kinds, number)
    filled = path.format(**named, token="x.1.1.1.1.x", file="coldchain.css", session="0" * 16)
    headers = {"accept": "application/json" if path.startswith("/api/") else "text/html", **row.headers}
    return browser.request(method, filled, params={**row.params, **more}, json=row.json, data=row.data, headers=headers)


def worded(answer: Any, number: int) -> str:
    """Return an answer without what differs from one request to another."""
    text = re.sub(r"urn:request:\w+|[0-9a-f]{16}|value=\"[^\"]+\"", "", answer.text)
    return re.sub(rf"(/|no (?:unit|zone|alarm|application|account|grant|substitution) ){number}\b", r"\1N", text)


def test_every_route_has_a_line_in_the_table(world: World) -> None:
    assert set(routes_of(world.place.app)) == set(TABLE)


@pytest.mark.req("CC-03", "AL-08")
@pytest.mark.parametrize("name", VIEWERS)
def test_nothing_is_told_of_what_an_asker_may_not_see(world: World, name: str) -> None:
    viewer, browser = VIEWERS[name], world.browsers[name]
    seen = {"unit": viewer.units, "zone": viewer.zones, "alarm": viewer.alarms, "application": viewer.units}
    seen |= dict.fromkeys(("account", "grant", "substitution"), viewer.accounts)
    for (method, path), row in TABLE.items():
        if row.names is None:
            if (method, path) in ENDS_THE_SESSION:
                continue
            answer = ask(browser, method, path, row)
            own = (403,) if path in {"/", "/units"} and not (viewer.units or viewer.zones) else row.visible
            assert answer.status_code in own, f"{method} {path}: {answer.status_code}"
            assert not leaks(answer, viewer), f"{method} {path}"
            continue
        nowhere = ask(browser, method, path, row, 999_999)
        assert nowhere.status_code == 404
        for thing, number in world.numbers(row.names).items():
            answer = ask(browser, method, path, row, number)
            what = f"{method} {path} of {thing}: {answer.status_code} {answer.text[:300]}"
            assert not leaks(answer, viewer), what
            if thing in seen[row.names]:
                assert answer.status_code in row.visible, what
            else:
                assert answer.status_code == 404, what
                assert worded(answer, number) == worded(nowhere, 999_999), what
                assert answer.headers.keys() == nowhere.headers.keys(), what


@pytest.mark.parametrize("name", VIEWERS)
def test_lists_asked_for_another_units_things_are_as_if_they_were_not_there(world: World, name: str) -> None:
    viewer, browser = VIEWERS[name], world.browsers[name]
    for kind, given in (("unit", "unit"), ("zone", "zone")):
        seen = viewer.units if kind == "unit" else viewer.zones
        for thing, number in world.numbers(kind).items():  # type: ignore[arg-type]
            if thing not in seen and thing not in viewer.also:
                answer = browser.get("/api/v1/alarms", params={given: str(number)})
                assert answer.json() == {"items": [], "next": None}, thing
    for thing, number in world.place.there.units.items():
        if thing not in viewer.units:
            for path, key in (("/api/v1/units", "parent"), ("/", "unit"), ("/units", "unit")):
                answer = browser.get(path, params={key: str(number)}, headers={"accept": "text/html"})
                assert answer.status_code == (200 if key == "parent" else 404)
                assert not leaks(answer, viewer), thing


@pytest.mark.parametrize("name", REFUSED)
def test_who_may_not_sign_in_gets_what_a_stranger_gets(world: World, name: str) -> None:
    nothing = Viewer()
    for (method, path), row in TABLE.items():
        for number in world.numbers(row.names).values() if row.names else (0,):
            answer = ask(world.browsers[name], method, path, row, number)
            what = f"{method} {path}: {answer.status_code} {answer.text[:200]}"
            assert not leaks(answer, nothing), what
            if row is not OPEN:
                assert answer.status_code in {303, 401}, what
                assert answer.status_code == 401 or "/sign-in" in answer.headers["location"] or method == "POST", what
    assert not world.browsers[name].get("/api/v1/alarms").json().get("items")


@pytest.mark.parametrize("name", [*VIEWERS, "nobody", "disabled account", "left person"])
def test_a_link_that_was_passed_on_names_nobody(world: World, name: str) -> None:
    place, viewer = world.place, VIEWERS.get(name, Viewer())
    for thing, alarm in world.alarms.items():
        link = place.link(alarm, "王芳")
        answer = world.browsers[name].get(link, headers={"accept": "text/html"})
        if name in VIEWERS and thing not in viewer.alarms and name != "account of clinic a, below":
            assert answer.status_code == 404, thing
            assert not leaks(answer, viewer), thing
            for verb in ("acknowledge", "handling"):
                said = world.browsers[name].post(f"{link}/{verb}", data=REPORT if verb == "handling" else None)
                assert said.status_code == 404, (thing, verb)
        else:
            assert answer.status_code == 200, thing
        if name not in VIEWERS:
            assert not {"李建国", "王芳", "孙丽", "吴刚"} & set(re.findall(r"[\u4e00-\u9fff]+", answer.text)), thing


def test_a_contact_of_one_equipment_finds_it_on_the_first_page_and_nothing_else(world: World) -> None:
    browser = world.browsers["contact of C-02 from county a"]
    page = browser.get("/", headers={"accept": "text/html"}).text
    assert f'href="/zones/{world.zones["C-02"]}"' in page
    assert page.count('href="/zones/') == 1
    who = browser.get("/api/v1/session").json()
    assert who["units"] == []
    assert [(one["name"], one["unit_name"]) for one in who["equipment"]] == [("冰箱C-02", "甲县疾控中心")]
    both = world.browsers["contact of C-02 from clinic b"].get("/", headers={"accept": "text/html"}).text
    assert {int(found) for found in re.findall(r'href="/zones/(\d+)"', both)} == {
        world.zones[code] for code in ("B-01", "M-01", "C-02")
    }
    alarm = world.alarms["C-02"]
    assert browser.post(f"/api/v1/alarms/{alarm}/acknowledge").json()["handling"] == "acknowledged"


@pytest.mark.req("CC-03")
def test_a_fridge_that_was_moved_takes_neither_its_alarm_nor_its_readings_along(world: World) -> None:
    units, old = world.place.there.units, world.alarms["M-01 before"]
    live = world.browsers["account of clinic b"].get(f"/api/v1/units/{units['clinic b']}/live").json()["items"]
    moved = next(zone for zone in live if zone["zone"] == world.zones["M-01"])
    assert (moved["alarms"], moved["state"], moved["value"]) == ([], "normal", 5.66)
    for name, visible in (("account of clinic b", False), ("account of clinic a, below", True)):
        alarms = world.browsers[name].get("/api/v1/alarms").json()["items"]
        assert (old in {alarm["id"] for alarm in alarms}) is visible
        history = world.browsers[name].get(f"/api/v1/zones/{world.zones['M-01']}/history", params=TIME).json()
        assert (history["min"], history["max"]) == ((9.55, 9.55) if visible else (5.66, 5.66))
    told = world.browsers["account of clinic a, below"].get(f"/api/v1/alarms/{old}/messages").json()
    assert [one["person_name"] for one in told] == ["李建国"]


def test_right_after_a_move_nothing_from_before_is_the_present(world: World) -> None:
    """Within the minutes in which a reading counts as current."""
    place, units = world.place, world.place.there.units
    with place.records.write() as tx:
        for row in tx.query(EquipmentUnit).where(EquipmentUnit.equipment_id == place.there.equipment):
            row.until = NOW
        tx.flush()
        tx.add(EquipmentUnit(equipment_id=place.there.equipment, unit_id=units["clinic b"], since=NOW))
    live = world.browsers["account of clinic b"].get(f"/api/v1/units/{units['clinic b']}/live").json()["items"]
    moved = next(zone for zone in live if zone["zone"] == place.there.zone)
    assert (moved["value"], moved["at"], moved["last_at"], moved["alarms"]) == (None, None, None, [])
    page = world.browsers["account of clinic b"].get(f"/zones/{place.there.zone}", headers={"accept": "text/html"})
    assert page.status_code == 200
    assert "9.11" not in page.text
