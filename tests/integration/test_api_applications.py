"""Applications through the API: the example of form 1 from draft to execution, and every problem on the way."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from api.app import make_app
from api.app_context import AppContext, opened_store
from core.access.accounts import create_account
from core.db.engine import Records, connect
from core.devices.kinds_and_labels import zone_name
from core.devices.tables import Equipment, EquipmentUnit, Probe, ProbeGateway, ProbeZone, Zone
from core.runtime.instant import Instant, rfc3339
from core.units.actor import OPERATOR
from core.units.rights import Role
from core.units.tables import Person, Unit
from core.workflow.tables import Execution
from tests.fixtures.county import add_fridge, add_probe
from tests.fixtures.routes import routes_of
from tests.fixtures.web import HASHED, NOW, Browser, Site, site

APPLICATIONS = "/api/v1/applications"
CODE = "6101030203"
FIELDS = {
    "unit_name": "甲镇卫生院",
    "unit_code": CODE,
    "operation": "更换",
    "filled_by": "王芳",
    "phone": "13800000000",
}
ROWS = [
    dict(zip(("fridge_before", "fridge_now", "probe_before", "probe_now"), cells, strict=True))
    for cells in (
        ("美菱冰箱冷藏", "海尔冰箱冷藏", "208601冷藏", "208602冷藏"),
        ("美菱冰箱冷冻", "海尔冰箱冷冻", "208604冷冻", "208604冷冻"),
        ("奥马冰箱冷藏", "医用冷藏柜", "203708冷藏", "203708冷藏"),
    )
]


def furnish(place: Site) -> None:
    """Let clinic a have the fridges and probes of the example, and the province a second person."""
    with place.records.write() as tx:
        clinic = tx.get_one(Unit, place.there.units["clinic a"])
        clinic.code = CODE
        tx.get_one(Equipment, place.there.equipment).name = "美菱冰箱"
        for probe in tx.scalars(select(ProbeZone).where(ProbeZone.zone_id == place.there.frozen)).all():
            tx.delete(probe)
        tx.flush()
        gateway = tx.scalars(select(ProbeGateway.gateway_id)).first()
        assert gateway is not None
        add_probe(tx, "208604", gateway, place.there.frozen)
        for name, kinds, probe_code in (
            ("海尔冰箱", ("refrigerated", "frozen"), None),
            ("奥马冰箱", ("refrigerated",), "203708"),
            ("医用冷藏柜", ("refrigerated",), None),
        ):
            equipment, zones = add_fridge(tx, name, clinic, *kinds)
            tx.get_one(Equipment, equipment).name = name
            if probe_code:
                add_probe(tx, probe_code, gateway, zones[0])
        for probe in tx.scalars(select(Probe)):
            probe.warranty_end = date(2027, 1, 1)
        for username in ("county-a", "province"):
            unit = tx.get_one(Unit, place.there.units["county a" if username == "county-a" else username])
            person = Person(unit_id=unit.id, name=f"{unit.name}审核员")
            tx.add(person)
            tx.flush()
            place.there.accounts[username] = tx.merge(place.there.accounts[username])
            place.there.accounts[username].person_id = person.id
        party, role = tx.get_one(Unit, place.there.units["province"]), Role.SOFTWARE_PARTY
        account = {"username": "software", "password_hash": HASHED, "unit": party, "role": role}
        place.there.accounts["software"] = create_account(tx, OPERATOR, **account, now=NOW)
        account = {"username": "expired", "password_hash": HASHED, "unit": clinic, "role": Role.USER}
        place.there.accounts["expired"] = create_account(tx, OPERATOR, **account, now=Instant(0))


@pytest.fixture
def place(records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(records, tmp_path) as made:
        furnish(made)
        yield made


@pytest.fixture
def one_place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        furnish(made)
        yield made


def body(place: Site, **more: Any) -> dict[str, Any]:
    return {"kind": "form1", "unit": place.there.units["clinic a"], "fields": FIELDS, "rows": ROWS, **more}


def drafted(place: Site, **more: Any) -> dict[str, Any]:
    answer = place.signed_in("clinic-a").post(APPLICATIONS, json=body(place, **more))
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def submitted(place: Site, **more: Any) -> dict[str, Any]:
    draft = drafted(place, **more)
    path = f"{APPLICATIONS}/{draft['id']}/submission"
    answer = place.signed_in("clinic-a").post(path, headers={"if-match": str(draft["revision"])})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def passed(place: Site, waiting: Mapping[str, Any], username: str) -> dict[str, Any]:
    decision = {
        "step": waiting["waits_for"]["step"],
        "outcome": "passed_up",
        "opinion": "同意",
        "content_hash": waiting["content_hash"],
    }
    answer = place.signed_in(username).post(f"{APPLICATIONS}/{waiting['id']}/decisions", json=decision)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def filed(place: Site) -> dict[str, Any]:
    return passed(place, passed(place, submitted(place), "county-a"), "province")


def bindings(place: Site) -> dict[str, str]:
    with place.records.read() as tx:
        query = (
            select(Probe.code, Equipment.name, Zone.kind)
            .join(ProbeZone, ProbeZone.probe_id == Probe.id)
            .join(Zone, Zone.id == ProbeZone.zone_id)
            .join(Equipment, Equipment.id == Zone.equipment_id)
            .join(EquipmentUnit, EquipmentUnit.equipment_id == Equipment.id)
            .where(ProbeZone.until.is_(None), EquipmentUnit.unit_id == place.there.units["clinic a"])
        )
        return {code: zone_name(name, kind) for code, name, kind in tx.execute(query)}


def rows_of_executions(place: Site) -> list[tuple[int, str, int]]:
    with place.records.read() as tx:
        query = select(Execution.row, Execution.effect, Execution.at).order_by(Execution.id)
        return [(row, effect, at) for row, effect, at in tx.execute(query)]


@pytest.mark.req("HW-22", "HW-23", "HW-24")
def test_the_example_of_form_1_from_draft_to_execution(place: Site) -> None:
    waiting = submitted(place)
    assert (waiting["state"], waiting["waits_for"]["unit_name"]) == ("in_review", "甲县疾控中心")
    assert [(row["payer"], row["cost"]) for row in waiting["rows"]] == [(None, None)] + [("manufacturer", 0)] * 3
    for username, unit in (("county-a", "甲县疾控中心"), ("province", "某省疾控中心")):
        (item,) = place.signed_in(username).get(f"{APPLICATIONS}/inbox").json()["items"]
        assert (item["id"], item["waits_for"]["unit_name"]) == (waiting["id"], unit)
        waiting = passed(place, waiting, username)
        assert place.signed_in(username).get(f"{APPLICATIONS}/inbox").json()["items"] == []
    assert (waiting["state"], waiting["waits_for"], waiting["filed_at"]) == ("filed", None, rfc3339(NOW))
    place.clock.forward(minutes=5)
    path = f"{APPLICATIONS}/{waiting['id']}/execution"
    for _ in range(2):
        done = place.signed_in("software").post(path, json={}).json()
        assert (done["state"], done["executed_at"]) == ("executed", rfc3339(Instant(NOW + 5 * 60_000)))
        assert bindings(place) == {"208602": "海尔冰箱冷藏", "208604": "海尔冰箱冷冻", "203708": "医用冷藏柜冷藏"}
        assert len(rows_of_executions(place)) == 6
        place.clock.forward(minutes=1)
    story = place.signed_in("clinic-a").get(f"{APPLICATIONS}/{waiting['id']}/history").json()
    assert [(each["person_name"], each["round"]) for each in story["submissions"]] == [("王芳", 1)]
    assert [(each["person_name"], each["outcome"], each["opinion"], each["late"]) for each in story["steps"]] == [
        ("甲县疾控中心审核员", "passed_up", "同意", False),
        ("某省疾控中心审核员", "passed_up", "同意", False),
    ]
    assert {each["content_hash"] for each in [*story["steps"], *story["submissions"]]} == {waiting["content_hash"]}


@pytest.mark.req("HW-01")
def test_both_a_point_of_vaccination_and_a_cdc_file_form_1(one_place: Site) -> None:
    place = one_place
    assert submitted(place)["state"] == "in_review"
    with place.records.write() as tx:
        tx.get_one(Unit, place.there.units["county a"]).code = "6101030001"
    mine = body(place, unit=place.there.units["county a"])
    made = place.signed_in("county-a").post(APPLICATIONS, json=mine)
    assert (made.status_code, made.json()["unit_name"]) == (201, "甲县疾控中心")


@pytest.mark.req("HW-18")
def test_faults_are_listed_by_row_and_column_and_nothing_is_submitted(place: Site) -> None:
    wrong = [{**ROWS[0], "probe_now": "999999", "fridge_now": ""}, {**ROWS[1], "fridge_before": "容声冰箱冷冻"}]
    draft = drafted(place, rows=wrong, fields={**FIELDS, "unit_code": "610103020"})
    path = f"{APPLICATIONS}/{draft['id']}"
    answer = place.signed_in("clinic-a").post(f"{path}/submission", headers={"if-match": "1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert [(each["row"], each["column"], each["field"]) for each in answer.json()["errors"]] == [
        (0, "unit_code", "fields.unit_code"),
        (1, "fridge_now", "rows.1.fridge_now"),
        (1, "probe_now", "rows.1.probe_now"),
        (2, "fridge_before", "rows.2.fridge_before"),
    ]
    assert all(each["problem"] for each in answer.json()["errors"])
    after = place.signed_in("clinic-a").get(path).json()
    assert (after["state"], after["revision"], after["waits_for"]) == ("draft", 1, None)


def test_the_second_of_two_writers_gets_a_conflict_and_the_revision_comes_as_etag(place: Site) -> None:
    draft = drafted(place)
    path = f"{APPLICATIONS}/{draft['id']}"
    browser = place.signed_in("clinic-a")
    form = {"fields": FIELDS, "rows": ROWS[:1]}
    first = browser.put(path, json=form, headers={"if-match": "1"})
    assert (first.status_code, first.headers["etag"], len(first.json()["rows"])) == (200, "2", 2)
    assert browser.put(path, json=form, headers={"if-match": "1"}).status_code == 409
    assert browser.put(path, json=form).status_code == 422
    assert browser.get(path).headers["etag"] == "2"


def test_a_draft_that_is_sent_twice_is_made_once(place: Site) -> None:
    browser = place.signed_in("clinic-a")
    key = {"idempotency-key": "draft-0001"}
    first, second = (browser.post(APPLICATIONS, json=body(place), headers=key) for _ in range(2))
    assert first.json() == second.json()
    assert len(browser.get(APPLICATIONS).json()["items"]) == 1
    assert browser.post(APPLICATIONS, json=body(place, rows=[]), headers=key).status_code == 422


def test_a_blocked_application_says_what_differs_and_can_be_given_back(place: Site) -> None:
    application = filed(place)
    with place.records.write() as tx:
        probe = tx.scalars(select(Probe.id).where(Probe.code == "203708")).one()
        tx.scalars(select(ProbeZone).where(ProbeZone.probe_id == probe)).one().until = NOW
    path = f"{APPLICATIONS}/{application['id']}"
    software = place.signed_in("software")
    place.clock.forward(minutes=1)
    blocked = software.post(f"{path}/execution", json={}).json()
    assert (blocked["state"], rows_of_executions(place)) == ("blocked", [])
    assert [(each["row"], each["column"]) for each in blocked["differences"]] == [(3, "probe_before")]
    given_back = software.post(f"{path}/return", json={"reason": "第 3 行与现状不符"}).json()
    assert given_back["state"] == "returned"
    again = place.signed_in("clinic-a").put(
        path, json={"fields": FIELDS, "rows": ROWS[:2]}, headers={"if-match": str(given_back["revision"])}
    )
    assert (again.json()["state"], again.json()["round"]) == ("draft", 2)


def test_lists_are_filtered_and_paged(place: Site) -> None:
    made = [drafted(place)["id"] for _ in range(3)]
    made.append(submitted(place)["id"])
    browser = place.signed_in("province")
    ids = [each["id"] for each in browser.get(APPLICATIONS).json()["items"]]
    assert ids == made[::-1]
    drafts = browser.get(APPLICATIONS, params={"state": "draft", "kind": "form1"}).json()["items"]
    assert [each["id"] for each in drafts] == made[2::-1]
    other = {"unit": place.there.units["county b"]}
    assert browser.get(APPLICATIONS, params=other).json() == {"items": [], "next": None}
    assert place.signed_in("clinic-b").get(APPLICATIONS).json()["items"] == []
    seen, cursor = [], None
    while True:
        page = browser.get(APPLICATIONS, params={"limit": 3, **({"cursor": cursor} if cursor else {})}).json()
        seen += [each["id"] for each in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == ids


def test_the_kinds_name_their_cells(one_place: Site) -> None:
    kinds = {each["code"]: each for each in one_place.signed_in("clinic-a").get(f"{APPLICATIONS}/kinds").json()}
    assert list(kinds) == ["form1", "form2", "form3", "form4"]
    assert [cell["title"] for cell in kinds["form1"]["columns"]] == [
        "变更前的冰箱名称",
        "现使用的冰箱名称",
        "更改前使用探头编码",
        "现使用的探头编码",
        "备注",
    ]
    assert kinds["form3"]["linked_kind"] == "form2"


def test_no_route_changes_a_binding_without_an_application(one_place: Site) -> None:
    """What may change anything is listed here: a new route that binds a probe has to be looked at."""
    changing = {path for method, path in routes_of(one_place.app) if method not in {"GET", "HEAD"}}
    assert not [path for path in changing if "probe" in path or "bind" in path or "zone" in path]
    technician = one_place.signed_in("technician")
    before = bindings(one_place)
    waiting = submitted(one_place)
    answer = technician.post(f"{APPLICATIONS}/{waiting['id']}/execution", json={"rows": [1]})
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert bindings(one_place) == before


class Watched:
    """Requests of this test, with the statuses that each operation answered."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.told = {
            (method.upper(), path): operation
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            if operation["tags"] == ["applications"]
        }
        self.found: dict[tuple[str, str], set[int]] = defaultdict(set)

    def ask(self, browser: Browser, method: str, path: str, number: object = "", **more: Any) -> httpx.Response:
        answer = browser.request(method, APPLICATIONS + path.format(number), **more)
        operation = (method, APPLICATIONS + path.replace("{}", "{application}"))
        responses = self.told[operation]["responses"]
        assert str(answer.status_code) in responses, f"{operation}: {answer.status_code} {answer.text[:200]}"
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
        self.found[operation].add(answer.status_code)
        return answer


def test_every_route_of_applications_lists_the_problems_that_it_answers_and_no_other(one_place: Site) -> None:
    place = one_place
    watched = Watched(place.stranger().get("/api/v1/openapi.json").json())
    clinic, county, software = (place.signed_in(name) for name in ("clinic-a", "county-a", "software"))
    without_token = place.signed_in("clinic-a")
    del without_token.headers["x-csrf-token"]
    of_round = {"if-match": "1"}
    good: dict[tuple[str, str], Any] = {
        ("POST", ""): {"json": body(place)},
        ("PUT", "/{}"): {"json": {}, "headers": of_round},
        ("POST", "/{}/submission"): {"headers": of_round},
        ("POST", "/{}/decisions"): {"json": {"step": 1, "outcome": "passed_up"}},
        ("POST", "/{}/withdrawal"): {},
        ("POST", "/{}/execution"): {"json": {}},
        ("POST", "/{}/return"): {"json": {"reason": "?"}},
    }
    reads = [("GET", ""), ("GET", "/kinds"), ("GET", "/inbox"), ("GET", "/{}"), ("GET", "/{}/history")]
    mine = drafted(place)["id"]
    for operation in [*reads, *good]:
        more = good.get(operation, {})
        watched.ask(place.stranger(), *operation, mine, **more)
        watched.ask(place.signed_in("expired"), *operation, mine, **more)
        watched.ask(clinic, *operation, "x" if "{}" in operation[1] else mine, **{**more, "params": {"colour": "red"}})
        if operation in reads:
            watched.ask(clinic, *operation, mine)
        else:
            watched.ask(without_token, *operation, mine, **more)
        if "{}" in operation[1]:
            watched.ask(place.signed_in("clinic-b"), *operation, mine, **more)
        if "json" in more:
            watched.ask(clinic, *operation, mine, **{**more, "json": {"cause": "x" * 2**20}})
    watched.ask(clinic, "POST", "", json=body(place, unit=999_999))
    watched.ask(clinic, "POST", "", json=body(place))
    watched.ask(clinic, "PUT", "/{}", mine, json=body_of_form(), headers=of_round)
    watched.ask(clinic, "PUT", "/{}", mine, json=body_of_form(), headers=of_round)
    watched.ask(clinic, "POST", "/{}/submission", mine, headers=of_round)
    waiting = watched.ask(clinic, "POST", "/{}/submission", mine, headers={"if-match": "2"}).json()
    for username in ("county-a", "province"):
        step = {"step": waiting["waits_for"]["step"], "outcome": "passed_up"}
        waiting = watched.ask(place.signed_in(username), "POST", "/{}/decisions", mine, json=step).json()
    watched.ask(county, "POST", "/{}/decisions", mine, json={**step, "outcome": "refused", "opinion": "?"})
    watched.ask(clinic, "POST", "/{}/withdrawal", mine)
    watched.ask(clinic, "POST", "/{}/withdrawal", drafted(place)["id"])
    watched.ask(software, "POST", "/{}/execution", drafted(place)["id"], json={})
    watched.ask(software, "POST", "/{}/return", mine, json={"reason": "?"})
    with place.records.write() as tx:
        probe = tx.scalars(select(Probe.id).where(Probe.code == "203708")).one()
        tx.scalars(select(ProbeZone).where(ProbeZone.probe_id == probe)).one().until = NOW
    place.clock.forward(minutes=1)
    watched.ask(software, "POST", "/{}/execution", mine, json={})
    watched.ask(software, "POST", "/{}/return", mine, json={"reason": "?"})
    broken = Browser(with_broken_records(place), place.settings.public_url, dict(clinic.headers))
    broken.cookies.update(clinic.cookies)
    for operation in [*reads, *good]:
        watched.ask(broken, *operation, mine, **good.get(operation, {}))
    for operation, said in watched.told.items():
        assert {int(status) for status in said["responses"]} == watched.found[operation], operation


def body_of_form() -> dict[str, Any]:
    return {"fields": FIELDS, "rows": ROWS}


def with_broken_records(place: Site) -> Any:
    """Return an app whose records can't be opened."""
    return make_app(
        AppContext(
            records=Records(connect(f"sqlite:///{place.settings.data_dir}")),
            telemetry=place.context.telemetry,
            log=opened_store("the intake log", place.log),
            clock=place.clock,
            settings=place.settings,
            secrets=place.secrets,
        )
    )
