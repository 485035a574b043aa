"""Characters that nobody sees, or that PostgreSQL refuses, in everything that can be asked, on both databases.

Each route's own parameters are taken from the app, so that a new one is tried as well.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from sqlalchemy import select

from core.access.accounts import create_account
from core.access.passwords import PasswordHash
from core.access.tokens import issue_token
from core.alarms.tables import HandlingRecord
from core.db.engine import Records
from core.errors import Invalid
from core.ids import AlarmId
from core.plain_text import is_plain, require_plain
from core.runtime.instant import Instant
from core.units.actor import OPERATOR
from core.units.people import add_person
from core.units.rights import Role
from core.units.tables import Unit
from core.units.tree import UnitParticulars, add_unit
from core.units.unit_levels import Level, UnitKind
from tests.fixtures.web import Browser, Site, site

BAD = {"NUL": "a\0b", "bidirectional": "甲\u202e乙", "zero-width": "a\u200bb", "replacement": "\ufffd"}
TIME = {"from": "2026-03-27T00:00:00+08:00", "to": "2026-03-28T23:00:00+08:00"}
REPORT = {"cause": "door", "action": "closed it", "disposition": "fit for use"}


@pytest.fixture
def place(records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(records, tmp_path) as made:
        made.measured("208601", [4.0] * 5)
        yield made


@pytest.fixture
def alarm(place: Site) -> AlarmId:
    return place.alarm()


def filled(place: Site, alarm: AlarmId, path: str) -> str:
    token = place.link(alarm).removeprefix("/a/")
    unit = place.there.units["clinic a"]
    return path.format(unit=unit, zone=place.there.zone, alarm=alarm, token=token, application=1, file="coldchain.css")


def get_routes(place: Site) -> Iterator[tuple[str, list[str]]]:
    for route in iter_route_contexts(place.app.routes):
        if isinstance(route.original_route, APIRoute) and "GET" in (route.methods or ()):
            known = place.app.state.parameters[id(route.original_route)]
            yield route.path or "", [] if known is None else list(known)


@pytest.mark.parametrize("bad", BAD)
def test_no_parameter_of_any_route_takes_them(place: Site, alarm: AlarmId, bad: str) -> None:
    browser, tried = place.signed_in("province"), 0
    for path, names in get_routes(place):
        needed = TIME if path.endswith(("{zone}/history", "/timeliness")) else {}
        for name in names:
            answer = browser.get(filled(place, alarm, path), params={**needed, name: BAD[bad]})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), f"{path} {name}"
            assert name in {fault["field"] for fault in answer.json()["errors"]}, f"{path} {name}"
            tried += 1
    assert tried > 25


@pytest.mark.parametrize("bad", BAD)
def test_nor_does_any_part_of_a_path(place: Site, bad: str) -> None:
    browser = place.signed_in("province")
    for path, _ in get_routes(place):
        if "{" in path:
            before, _, rest = path.partition("{")
            answer = browser.get(before + quote(BAD[bad]) + rest.partition("}")[2])
            assert answer.status_code in {404, 422}, path


def test_they_are_not_found_where_whatever_is_appended_is_let_through(place: Site, alarm: AlarmId) -> None:
    for text in BAD.values():
        for path in (place.link(alarm), "/wechat/back", "/readyz"):
            answer = place.stranger().get(path, params={"code": text, "state": text, "said": text, text: text})
            assert answer.status_code in {200, 400, 503}, path
            assert text not in answer.text


@pytest.mark.parametrize("bad", BAD)
def test_no_report_is_kept_with_them(place: Site, alarm: AlarmId, bad: str) -> None:
    browser = place.signed_in("clinic-a")
    for field in REPORT:
        report = {**REPORT, field: BAD[bad]}
        said = browser.post(f"/api/v1/alarms/{alarm}/handling", json=report)
        assert (said.status_code, said.json()["code"]) == (422, "invalid")
        assert [fault["field"] for fault in said.json()["errors"]] == [field]
        for base in (f"/alarms/{alarm}", place.link(alarm)):
            assert browser.post(f"{base}/handling", data=report).status_code == 422
    with place.records.read() as tx:
        assert tx.scalars(select(HandlingRecord)).all() == []
    lines = {**REPORT, "action": "first\r\n\tthen"}
    assert browser.post(f"/api/v1/alarms/{alarm}/handling", json=lines).status_code == 201


@pytest.mark.parametrize("username", [*BAD.values(), "clinic-a\0", "a\ud800", "a" * 51])
def test_signing_in_with_them_is_refused_and_nothing_breaks(place: Site, username: str) -> None:
    body = json.dumps({"username": username, "password": "x\0"})
    said = place.stranger().post("/api/v1/session", content=body, headers={"content-type": "application/json"})
    assert said.status_code in {401, 422}
    stranger: Browser = place.stranger()
    csrf = stranger.get("/sign-in").text.split('name="csrf" value="')[1].split('"')[0]
    form = {"username": username.encode("utf-8", "surrogatepass"), "password": "x", "csrf": csrf}
    assert stranger.post("/sign-in", data=form).status_code in {401, 422}


@pytest.mark.parametrize("bad", BAD)
def test_no_name_is_kept_with_them(place: Site, bad: str) -> None:
    text, now = BAD[bad], Instant(1)
    with place.records.write() as tx:
        unit = tx.get_one(Unit, place.there.units["clinic a"])
        wish = UnitParticulars(name=text, kind=UnitKind.POV, level=Level.VILLAGE)
        with pytest.raises(Invalid, match="U\\+"):
            add_unit(tx, OPERATOR, wish, parent=unit, now=now)
        with pytest.raises(Invalid, match="U\\+"):
            add_person(tx, OPERATOR, unit, text, now=now)
        with pytest.raises(Invalid, match="U\\+"):
            issue_token(tx, OPERATOR, name=text, unit=unit, role=Role.USER, expires_at=None, now=now)
        hashed = PasswordHash("x")
        with pytest.raises(Invalid, match="U\\+"):
            create_account(tx, OPERATOR, username=text, password_hash=hashed, unit=unit, role=Role.USER, now=now)


def test_a_refusal_says_which_character_and_where() -> None:
    with pytest.raises(Invalid, match=r"U\+202E RIGHT-TO-LEFT OVERRIDE as character 2"):
        require_plain("name", BAD["bidirectional"])
    assert is_plain("甲镇卫生院 A-01 ℃ é 🙂")
    assert is_plain("two\nlines", several_lines=True)
    assert not is_plain("two\nlines")
