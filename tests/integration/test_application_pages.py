"""Pages of applications: drafts and their faults, two writers, decisions by level, withdrawal, history and print."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest

from core.db.engine import Records
from core.units.tables import Unit
from core.workflow.states import ApplicationState
from core.workflow.tables import Application
from tests.fixtures.web import Browser, Site, site, text_of

HTML = {"accept": "text/html"}
CODE = "6101030203"
FILLED = {
    "f.unit_name": "甲镇卫生院",
    "f.unit_code": CODE,
    "f.filled_by": "王芳",
    "f.phone": "13800138000",
    "r1.fridges": "2",
    "r1.gateways": "1",
    "r1.probes": "4",
    "r1.note": "",
}


@pytest.fixture
def place(records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(records, tmp_path) as made:
        with records.write() as tx:
            tx.get_one(Unit, made.there.units["clinic a"]).code = CODE
        yield made


def hidden(page: str, name: str) -> str:
    return re.search(rf'name="{name}" value="([^"]*)"', page)[1]  # type: ignore[index]


def new_form(place: Site) -> str:
    return f"/applications/new?kind=form2&unit={place.there.units['clinic a']}"


def sent(browser: Browser, path: str, do: str, cells: dict[str, str] = FILLED) -> httpx.Response:
    page = text_of(browser.get(path))
    values = {"once": hidden(page, "once"), "revision": hidden(page, "revision")}
    return browser.post(path, data={**values, **cells, "do": do})


def submitted(place: Site) -> str:
    answer = sent(place.signed_in("clinic-a", **HTML), new_form(place), "submit")
    assert answer.status_code == 303, answer.text
    return answer.headers["location"].partition("?")[0]


def decided(browser: Browser, path: str, outcome: str, opinion: str = "") -> httpx.Response:
    page = text_of(browser.get(path))
    data = {"step": hidden(page, "step"), "seen": hidden(page, "seen"), "outcome": outcome, "opinion": opinion}
    return browser.post(f"{path}/decide", data=data)


def state(place: Site, path: str) -> tuple[ApplicationState, int]:
    with place.records.read() as tx:
        row = tx.get_one(Application, int(path.rsplit("/", 1)[1]))
        return row.state, row.round


def count(place: Site) -> int:
    with place.records.read() as tx:
        return tx.query(Application).count()


def test_a_new_form_has_the_unit_and_a_draft_may_be_faulty(place: Site) -> None:
    browser = place.signed_in("clinic-a", **HTML)
    page = text_of(browser.get("/applications/new?kind=form2"))
    assert f'name="f.unit_code" value="{CODE}"' in page
    answer = sent(browser, new_form(place), "save", {**FILLED, "r1.fridges": "two"})
    assert answer.status_code == 303
    edit = answer.headers["location"]
    assert 'value="two"' in text_of(browser.get(edit))
    assert "草稿已保存" in text_of(browser.get(edit))


@pytest.mark.req("HW-18", "HW-19")
def test_all_faults_are_at_their_cells_and_in_a_list_that_leads_there(place: Site) -> None:
    browser = place.signed_in("clinic-a", **HTML)
    wrong = {**FILLED, "f.unit_code": "610103020", "f.phone": "", "r1.fridges": "<b>", "r1.probes": ""}
    answer = sent(browser, new_form(place), "submit", wrong)
    assert answer.status_code == 422
    assert re.findall(r'<li><a href="#([\w-]+)">', answer.text) == ["f-unit_code", "f-phone", "r1-fridges", "r1-probes"]
    for cell in ("f-unit_code", "f-phone", "r1-fridges", "r1-probes"):
        assert f'id="{cell}-error"' in answer.text
    assert 'value="&lt;b&gt;"' in answer.text, "typed text stays"
    assert count(place) == 0, "nothing was stored as submitted"


def test_the_same_form_sent_twice_makes_one_application(place: Site) -> None:
    browser = place.signed_in("clinic-a", **HTML)
    data = {**FILLED, "once": hidden(text_of(browser.get(new_form(place))), "once"), "do": "save"}
    first, second = (browser.post(new_form(place), data=data) for _ in range(2))
    assert first.headers["location"] == second.headers["location"]
    other = browser.post(new_form(place), data={**data, "r1.note": "另一"})
    assert (other.status_code, count(place)) == (409, 1)
    assert 'value="另一"' in other.text
    assert "已经提交过另一内容" in other.text


def test_the_second_of_two_writers_keeps_the_text_and_has_both_ways_out(place: Site) -> None:
    browser = place.signed_in("clinic-a", **HTML)
    path = sent(browser, new_form(place), "save").headers["location"].partition("?")[0]
    stale = text_of(browser.get(path))
    assert sent(browser, path, "save", {**FILLED, "r1.note": "先"}).status_code == 303
    values = {"once": hidden(stale, "once"), "revision": hidden(stale, "revision")}
    answer = browser.post(path, data={**values, **FILLED, "r1.note": "后", "do": "save"})
    assert answer.status_code == 409
    assert 'value="后"' in answer.text
    assert "他人已保存为：先" in answer.text
    assert f'href="{path}"' in answer.text, "the way to theirs"
    mine = {"once": hidden(answer.text, "once"), "revision": hidden(answer.text, "revision")}
    assert browser.post(path, data={**mine, **FILLED, "r1.note": "后", "do": "save"}).status_code == 303
    assert 'value="后"' in text_of(browser.get(path)), "the way to keep mine"


@pytest.mark.req("HW-03")
def test_county_and_province_decide_and_the_page_says_who_when(place: Site) -> None:
    path = submitted(place)
    county, province = (place.signed_in(name, **HTML) for name in ("county-a", "province"))
    assert "待 甲县疾控中心 审核" in text_of(county.get(path))
    assert f'href="{path}"' in text_of(county.get("/applications/inbox"))
    assert 'id="decide"' not in text_of(province.get(path)), "the province doesn't decide in the county's place"
    assert decided(county, path, "passed_up", "同意").status_code == 303
    assert decided(province, path, "passed_up").status_code == 303
    assert state(place, path) == (ApplicationState.FILED, 1)
    page = text_of(place.signed_in("clinic-a", **HTML).get(path))
    assert (
        page.index("提交 · 王芳")
        < page.index("通过上报 · 甲县疾控中心 · county-a")
        < page.index("某省疾控中心 · province")
    )
    assert "2026-03-28 03:02" in page
    paper = text_of(county.get(f"{path}/print"))
    for part in ("冰箱个数", "陕西省", "西安市", "碑林区", "13800138000", "同意", "2026-03-28 03:02"):
        assert part in paper, part


def test_a_refusal_needs_an_opinion_and_the_unit_submits_again(place: Site) -> None:
    path = submitted(place)
    county, clinic = place.signed_in("county-a", **HTML), place.signed_in("clinic-a", **HTML)
    bare = decided(county, path, "refused")
    assert bare.status_code == 422
    assert "未通过须填写意见" in bare.text
    assert decided(county, path, "refused", "探头数不对").status_code == 303
    assert state(place, path) == (ApplicationState.RETURNED, 1)
    assert "探头数不对" in text_of(clinic.get(f"{path}/edit"))
    assert sent(clinic, f"{path}/edit", "submit", {**FILLED, "r1.probes": "３"}).status_code == 303
    assert state(place, path) == (ApplicationState.IN_REVIEW, 2)
    assert "<td>3</td>" in text_of(clinic.get(path))


def test_a_decision_that_somebody_else_made_first_is_said_with_the_opinion_kept(place: Site) -> None:
    path = submitted(place)
    county = place.signed_in("county-a", **HTML)
    page = text_of(county.get(path))
    data = {"step": hidden(page, "step"), "seen": hidden(page, "seen")}
    assert county.post(f"{path}/decide", data={**data, "outcome": "passed_up"}).status_code == 303
    late = county.post(f"{path}/decide", data={**data, "outcome": "refused", "opinion": "不行"})
    assert late.status_code == 409
    assert "county-a 已审核" in unescape(late.text)
    assert state(place, path)[0] is ApplicationState.IN_REVIEW


def test_withdrawing_ends_the_review(place: Site) -> None:
    path = submitted(place)
    clinic = place.signed_in("clinic-a", **HTML)
    assert clinic.post(f"{path}/withdraw").status_code == 303
    assert state(place, path)[0] is ApplicationState.WITHDRAWN
    assert "没有待审的申请单" in text_of(place.signed_in("county-a", **HTML).get("/applications/inbox"))
    assert "修改后重新提交" in text_of(clinic.get(path))


def test_the_list_is_filtered_and_an_empty_one_says_what_to_do(place: Site) -> None:
    clinic = place.signed_in("clinic-a", **HTML)
    assert "点“填报申请单”开始填写" in text_of(clinic.get("/applications"))
    path = submitted(place)
    assert f'href="{path}"' in text_of(clinic.get("/applications?state=in_review&kind=form2"))
    assert "没有符合条件的申请单" in text_of(clinic.get("/applications?state=filed"))
    assert f'href="{path}"' not in text_of(place.signed_in("clinic-b", **HTML).get("/applications"))
    assert "waits for 甲县疾控中心" in text_of(clinic.get(f"{path}?lang=en"))
