"""The alarm list by days and as a CSV file: the same alarms as the page, all of them, and cells without formulas."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from api.csv_export import degrees
from api.pages import alarm_export
from core.alarms.tables import Alarm
from core.db.engine import Records
from core.devices.tables import Equipment
from core.ids import Centi
from core.runtime.instant import DAY, HOUR, MINUTE
from tests.fixtures.web import Site, site

REPORT = {"cause": '=HYPERLINK("http://x")', "action": "关门, 转移", "disposition": "评估后\n可继续使用"}


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        yield made


@pytest.fixture
def everywhere(records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(records, tmp_path) as made:
        yield made


def rows_of(place: Site, username: str, query: str = "", **headers: str) -> list[dict[str, str]]:
    answer = place.signed_in(username, **headers).get(f"/alarms.csv{query}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.content.startswith("\ufeff".encode())
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


@pytest.mark.parametrize("on_a_page", [2, 500])
def test_the_file_has_every_alarm_of_the_list_once_in_its_order(
    everywhere: Site, monkeypatch: pytest.MonkeyPatch, on_a_page: int
) -> None:
    monkeypatch.setattr(alarm_export, "ROWS", on_a_page)
    made = [everywhere.alarm(opened=n * MINUTE, state="closed", handling="handled") for n in (2, 3, 3, 4)]
    newest = everywhere.alarm(opened=MINUTE)
    in_order = [newest, made[0], *sorted(made[1:3], reverse=True), made[3]]
    assert [row["报警编号"] for row in rows_of(everywhere, "clinic-a", "?all=1")] == list(map(str, in_order))
    assert [row["报警编号"] for row in rows_of(everywhere, "clinic-a")] == [str(newest)]
    assert rows_of(everywhere, "clinic-b", "?all=1") == []


def test_each_row_says_what_happened_and_what_was_done(place: Site) -> None:
    alarm = place.alarm()
    place.recovers(alarm)
    browser = place.signed_in("clinic-a")
    browser.post(f"/api/v1/alarms/{alarm}/acknowledge")
    assert browser.post(f"/api/v1/alarms/{alarm}/handling", json=REPORT).status_code == 201
    (row,) = rows_of(place, "county-a", "?all=1")
    assert (row["报警类型"], row["状态"], row["处理情况"]) == ("温度过高", "已处理完成", "已处理")
    assert (row["确认人"], row["30 分钟内确认"], row["处理人"]) == ("王芳", "是", "王芳")
    assert (row["处理措施"], row["疫苗处置"]) == (REPORT["action"], REPORT["disposition"])
    (english,) = rows_of(place, "county-a", "?all=1&lang=en")
    assert (english["Kind"], english["Acknowledged within 30 minutes"]) == ("Too warm", "yes")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1+2", "@SUM(A1)", "\uff1d1", "  =1", "\t=1"])
def test_no_cell_is_a_formula(place: Site, name: str) -> None:
    alarm = place.alarm()
    with place.records.write() as tx:
        tx.execute(update(Equipment).values(name=name))
        tx.execute(update(Alarm).where(Alarm.id == alarm).values(peak=-1780, limit=-1500))
    (row,) = rows_of(place, "clinic-a")
    assert row["设备"] == f"'{name}"
    assert (row["最高或最低温度（℃）"], row["限值（℃）"]) == ("-17.80", "-15.00"), "a temperature stays a number"


def test_a_report_that_begins_a_formula_is_text(place: Site) -> None:
    alarm = place.alarm()
    browser = place.signed_in("clinic-a")
    assert browser.post(f"/api/v1/alarms/{alarm}/handling", json=REPORT).status_code == 201
    (row,) = rows_of(place, "clinic-a", "?all=1")
    assert row["原因"] == f"'{REPORT['cause']}"
    assert degrees(Centi(805)) == "8.05"


def test_days_are_those_of_the_site_both_included(place: Site) -> None:
    """It is three o'clock in the morning of 2026-03-28, so an alarm of four hours before is of the day before."""
    today, yesterday = place.alarm(opened=MINUTE), place.alarm(opened=4 * HOUR, state="recovered")
    before = place.alarm(opened=2 * DAY, state="recovered")

    def listed(query: str) -> list[str]:
        return [row["报警编号"] for row in rows_of(place, "clinic-a", query)]

    assert listed("?since=2026-03-28") == [str(today)]
    assert listed("?since=2026-03-27&until=2026-03-27") == [str(yesterday)]
    assert listed("?until=2026-03-26") == [str(before)]
    assert listed("?since=&until=") == [str(today), str(yesterday), str(before)]
    shown = place.signed_in("clinic-a").get("/alarms?since=2026-03-27&until=2026-03-27").text
    assert f"/alarms/{yesterday}" in shown
    assert f"/alarms/{today}" not in shown
    assert "/alarms.csv?since=2026-03-27&amp;until=2026-03-27" in shown
    assert "all=1&amp;since=2026-03-27" in shown, "the other list keeps the days"


@pytest.mark.parametrize("query", ["?since=yesterday", "?until=0001-01-01", "?since=9999-12-31", "?from=2026-03-01"])
def test_a_day_that_is_none_is_refused_by_its_name(place: Site, query: str) -> None:
    for path in ("/alarms", "/alarms.csv"):
        answer = place.signed_in("clinic-a").get(path + query)
        assert answer.status_code == 422
        assert query[1:].partition("=")[0] in answer.text


def test_who_is_not_signed_in_or_may_not_see_the_unit_gets_no_file(place: Site) -> None:
    assert place.stranger().get("/alarms.csv").status_code in (303, 401)
    unit = place.there.units["clinic b"]
    assert place.signed_in("clinic-a").get(f"/alarms.csv?unit={unit}").status_code == 404
