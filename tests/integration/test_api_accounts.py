"""Accounts through HTTP: opened, used with the initial password, granted, and locked when misused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.db.engine import Records
from core.db.idempotency import IdempotentAnswer
from core.runtime.instant import DAY, Instant
from tests.fixtures.managed_accounts import Described
from tests.fixtures.web import NOW, PASSWORD, Browser, site

HTML = {"accept": "text/html"}
NEW_PASSWORD = "Quite another 1"


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Described]:
    with site(sqlite_records, tmp_path, kind=Described) as made:
        assert isinstance(made, Described)
        made.prepare()
        yield made


def opened(place: Described, **headers: str) -> dict[str, Any]:
    body = place.bodies["POST", "/api/v1/accounts"]
    answer = place.signed_in("admin-a").post("/api/v1/accounts", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def signs_in(place: Described, password: str, username: str = "new") -> Browser:
    browser = place.stranger()
    answer = browser.post("/api/v1/session", json={"username": username, "password": password})
    assert answer.status_code == 201, answer.text
    browser.headers["x-csrf-token"] = answer.json()["csrf"]
    return browser


@pytest.mark.req("UP-23", "SE-02")
def test_a_new_account_changes_its_password_sees_nothing_and_sees_its_unit_once_that_is_granted(
    place: Described,
) -> None:
    account = opened(place)
    assert (account["state"], account["must_change_password"]) == ("open", True)
    browser = signs_in(place, account["initial_password"])
    refused = browser.get("/api/v1/units")
    assert (refused.status_code, refused.json()["code"]) == (403, "password_expired")
    sent = browser.get("/alarms", headers=HTML)
    assert (sent.status_code, sent.headers["location"]) == (303, "/password")
    poor = browser.post("/api/v1/session/password", json={"present": account["initial_password"], "new": "Short 1"})
    assert (poor.status_code, poor.json()["errors"][0]["field"]) == (422, "password")
    change = {"present": account["initial_password"], "new": NEW_PASSWORD}
    changed = browser.post("/api/v1/session/password", json=change)
    assert changed.status_code == 200
    browser.headers["x-csrf-token"] = changed.json()["csrf"]
    assert browser.get("/api/v1/units").json()["items"] == []
    page = browser.get("/", headers=HTML)
    assert page.status_code == 403
    assert "没有权限" in page.text
    grant = {"account": account["id"], "unit": place.there.units["clinic a"], "role": "user"}
    assert place.signed_in("county-a").post("/api/v1/grants", json=grant).status_code == 201
    assert [unit["name"] for unit in browser.get("/api/v1/units").json()["items"]] == ["甲镇卫生院"]
    assert 'href="/password"' in browser.get("/", headers=HTML).text


@pytest.mark.req("SE-02")
def test_the_day_after_ninety_days_only_the_page_for_a_new_password_answers(place: Described) -> None:
    chosen = Instant(NOW - DAY)
    place.clock.at = Instant(chosen + 90 * DAY - 1)
    assert place.signed_in("clinic-a").get("/api/v1/units").status_code == 200
    place.clock.at = Instant(chosen + 90 * DAY)
    browser = place.signed_in("clinic-a", **HTML)
    assert browser.get("/").headers["location"] == "/password"
    page = browser.get("/password")
    assert page.status_code == 200
    assert "必须先修改密码" in page.text
    english = browser.get("/password?lang=en").text
    assert "The password must be changed before anything else" in english
    typed = {"present": PASSWORD, "new": NEW_PASSWORD, "again": NEW_PASSWORD}
    for wrong, said in (
        ({"again": "Quite another 2"}, "differs from the new password"),
        ({"present": "Guessed it 1"}, "this isn&#39;t the present password"),
        ({"new": "quite another", "again": "quite another"}, "take three kinds"),
        ({"new": PASSWORD, "again": PASSWORD}, "one of the last 5 passwords"),
        ({"new": ""}, "please fill in"),
    ):
        answer = browser.post("/password?lang=en", data={**typed, **wrong})
        assert answer.status_code == 422
        assert said in answer.text
        assert NEW_PASSWORD not in answer.text
    done = browser.post("/password", data=typed)
    assert (done.status_code, done.headers["location"]) == (303, "/")
    assert browser.get("/").status_code == 200


@pytest.mark.req("SE-09")
def test_a_misused_account_is_locked_from_the_page_and_unlocked_by_its_managing_unit(place: Described) -> None:
    owner, thief = place.signed_in("victim", **HTML), place.signed_in("victim")
    page = owner.post("/password/misuse")
    assert page.status_code == 200
    assert "账号已锁定" in page.text
    assert thief.get("/api/v1/units").status_code == 401
    answer = place.stranger().post("/api/v1/session", json={"username": "victim", "password": PASSWORD})
    assert answer.status_code == 401
    admin, number = place.signed_in("admin-a"), place.things["account"]
    place.clock.forward(minutes=120, seconds=1)
    (incident,) = admin.get("/api/v1/accounts/incidents").json()["items"]
    assert (incident["username"], incident["resolved_at"], incident["late"]) == ("victim", None, True)
    assert place.signed_in("county-a").post(f"/api/v1/accounts/{number}/reset").status_code == 403
    reset = admin.post(f"/api/v1/accounts/{number}/reset").json()
    assert (reset["state"], reset["must_change_password"]) == ("open", True)
    assert admin.get("/api/v1/accounts/incidents").json()["items"][0]["resolved_at"]
    assert signs_in(place, reset["initial_password"], "victim").get("/api/v1/units").status_code == 403
    kinds = [event["kind"] for event in admin.get(f"/api/v1/accounts/{number}").json()["history"]]
    assert kinds == ["opened", "granted", "reported_misused", "password_reset"]


def test_an_initial_password_is_shown_once_and_never_kept(place: Described) -> None:
    key = {"idempotency-key": "opened-once"}
    first, again = opened(place, **key), opened(place, **key)
    assert first["initial_password"]
    assert again == {**first, "initial_password": None}
    with place.records.read() as tx:
        kept = str([vars(row) for row in tx.query(IdempotentAnswer)])
    assert first["initial_password"] not in kept


def test_people_are_listed_masked_and_a_file_of_province_administrators_is_sent(place: Described) -> None:
    opened(place)
    people = place.signed_in("admin-a").get("/api/v1/people", params={"unit": place.there.units["clinic a"]}).json()
    (shown,) = [one for one in people["items"] if one["identity_number"]]
    assert (shown["phone"], shown["identity_number"]) == ("138****5678", "110***********002X")
    file = place.signed_in("province").get("/api/v1/accounts/province-administrators.csv")
    assert file.text.splitlines()[1].split(",")[1:3] == ["某省疾控中心", "province"]
    mine = place.signed_in("clinic-a").get("/api/v1/sessions").json()
    assert [one["is_current"] for one in mine] == [True]
