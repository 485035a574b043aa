"""Live state and history of zones over the API, on both databases."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from api.schemas import LAST_MOMENT
from core.db.engine import Records
from core.devices.tables import EquipmentUnit, GatewayUnit, MaintenanceWindow, ProbeZone
from core.ids import Centi
from core.intake.port import DeadLetter, IntakeBatch, StampedReading, WithheldReading
from core.runtime.instant import DAY, HOUR, MINUTE, Instant, Milliseconds, rfc3339
from core.telemetry.port import StoredReading
from core.units.tables import Grant
from core.wire.shards import GatewayNumber, shard_of
from tests.fixtures.county import add_gateway, add_probe
from tests.fixtures.web import NOW, Site, site


@pytest.fixture
def place(sqlite_records: Records, tmp_path: Path) -> Iterator[Site]:
    with site(sqlite_records, tmp_path) as made:
        yield made


@pytest.fixture
def everywhere(records: Records, tmp_path: Path) -> Iterator[Site]:
    """Yield the app on each database in turn, for what SQL decides."""
    with site(records, tmp_path) as made:
        yield made


def live(place: Site, username: str = "clinic-a", unit: str = "clinic a", **more: Any) -> list[dict[str, Any]]:
    answer = place.signed_in(username).get(f"/api/v1/units/{place.there.units[unit]}/live", params=more)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]  # type: ignore[no-any-return]


def history(place: Site, username: str = "clinic-a", zone: int | None = None, **more: Any) -> Any:
    asked = {"from": rfc3339(Instant(NOW - DAY)), "to": rfc3339(NOW), **more}
    return place.signed_in(username).get(f"/api/v1/zones/{zone or place.there.zone}/history", params=asked)


@pytest.mark.req("CC-05")
def test_every_zone_has_its_temperature_its_age_and_its_state(everywhere: Site) -> None:
    place = everywhere
    place.measured("208601", [4.0, 4.2], until=30_000)
    place.measured("208602", [-12.0])
    cold, frozen = live(place)
    assert (cold["state"], cold["value"], cold["age_seconds"]) == ("normal", 4.2, 30.0)
    assert cold["at"] == rfc3339(Instant(NOW - 30_000))
    assert (cold["low"], cold["high"], frozen["low"], frozen["high"]) == (2.0, 8.0, None, -15.0)
    assert (frozen["state"], frozen["value"]) == ("abnormal", -12.0)


@pytest.mark.req("CC-05")
def test_silence_is_offline_and_the_last_value_is_never_given_as_current(place: Site) -> None:
    place.measured("208601", [4.0], until=15 * MINUTE - 1)
    assert live(place)[0]["state"] == "normal"
    place.clock.forward(seconds=1)
    zone = live(place)[0]
    assert (zone["state"], zone["value"], zone["at"], zone["age_seconds"]) == ("offline", None, None, None)
    assert zone["last_at"] == rfc3339(Instant(NOW - 15 * MINUTE + 1))
    page = place.signed_in("clinic-a").get("/", headers={"accept": "text/html"}).text
    assert "离线" in page
    assert "4.0" not in page
    never = live(place)[1]
    assert (never["state"], never["last_at"]) == ("offline", None)


@pytest.mark.req("CC-05")
def test_failed_readings_are_no_temperature_and_a_broken_sensor_is_a_fault(place: Site) -> None:
    place.measured("208601", [4.0, None, None], every=6 * MINUTE)
    assert (live(place)[0]["value"], live(place)[0]["age_seconds"]) == (4.0, 720.0)
    place.telemetry.write_batch([StoredReading(place.there.series["208602"], NOW, None, 1)], {})
    assert live(place)[1]["state"] == "fault"


@pytest.mark.parametrize("kind", ["repair", "spare", "stopped", "stock_take", "defrost"])
def test_a_window_in_force_is_shown_in_place_of_what_the_probes_say(place: Site, kind: str) -> None:
    place.measured("208601", [12.0])
    for since, until in ((NOW - DAY, NOW), (NOW + 1, None)):
        with place.records.write() as tx:
            tx.add(MaintenanceWindow(equipment_id=place.there.equipment, kind=kind, since=since, until=until))
    assert live(place)[0]["state"] == "abnormal"
    place.clock.forward(seconds=1)
    zone = live(place)[0]
    assert zone["state"] == kind
    assert zone["value"] == (None if kind == "stopped" else 12.0)


def test_the_worst_probe_speaks_for_the_zone_and_a_silent_one_is_counted(place: Site) -> None:
    with place.records.write() as tx:
        gateway = add_gateway(tx, "10003", place.there.units["clinic a"])
        for code in ("208603", "208604"):
            add_probe(tx, code, gateway, place.there.zone)
    place.there.series["208603"] = place.there.series["208601"].__class__(4)
    place.measured("208601", [5.0])
    place.measured("208603", [8.5])
    zone = live(place)[0]
    assert (zone["state"], zone["value"], zone["silent"]) == ("abnormal", 8.5, 1)
    assert [probe["state"] for probe in zone["probes"]] == ["normal", "abnormal", "offline"]


def test_an_open_alarm_keeps_a_zone_abnormal_until_it_has_recovered(everywhere: Site) -> None:
    place = everywhere
    place.measured("208601", [7.9])
    alarm = place.alarm()
    assert (live(place)[0]["state"], live(place)[0]["alarms"]) == ("abnormal", [alarm])
    place.recovers(alarm)
    assert (live(place)[0]["state"], live(place)[0]["alarms"]) == ("normal", [])


def test_a_probe_taken_away_measures_the_zone_no_longer(place: Site) -> None:
    place.measured("208601", [4.0])
    with place.records.write() as tx:
        row = tx.scalars(select(ProbeZone).where(ProbeZone.zone_id == place.there.zone)).one()
        row.until = NOW
    assert (live(place)[0]["state"], live(place)[0]["probes"]) == ("unmonitored", [])


def test_who_stands_above_sees_all_below_page_by_page(everywhere: Site) -> None:
    place = everywhere
    browser = place.signed_in("province")
    path = f"/api/v1/units/{place.there.units['province']}/live"
    assert browser.get(path).json()["items"] == []
    first = browser.get(path, params={"below": True, "limit": 1}).json()
    assert [zone["equipment_code"] for zone in first["items"]] == ["A-01", "A-01"]
    second = browser.get(path, params={"below": True, "limit": 1, "cursor": first["next"]}).json()
    assert [zone["equipment_code"] for zone in second["items"]] == ["B-01"]
    assert browser.get(path, params={"below": True, "limit": 1, "cursor": second["next"]}).json()["items"] == []


def test_on_the_home_page_what_needs_somebody_comes_first(place: Site) -> None:
    place.measured("208601", [4.0])
    place.measured("208602", [-19.0])
    place.measured("208701", [9.0])
    page = place.signed_in("province", accept="text/html").get("/").text
    order = [page.index(shown) for shown in ("乙镇卫生院</h2>", "B-01（", "甲镇卫生院</h2>", "A-01（冷藏）")]
    assert order == sorted(order)


def test_units_are_those_of_the_subtree(everywhere: Site) -> None:
    place = everywhere

    def names(username: str, **more: Any) -> list[str]:
        found = place.signed_in(username).get("/api/v1/units", params=more).json()["items"]
        return [unit["name"] for unit in found]

    assert names("clinic-a") == ["甲镇卫生院"]
    assert names("county-a") == ["甲县疾控中心", "甲镇卫生院"]
    assert len(names("province")) == 5
    assert names("province", parent=place.there.units["county b"]) == ["乙镇卫生院"]
    assert names("county-a", parent=place.there.units["county b"]) == []


def test_a_grant_that_has_ended_grants_nothing(place: Site) -> None:
    with place.records.write() as tx:
        tx.scalars(select(Grant).where(Grant.account_id == place.there.accounts["clinic-a"].id)).one().until = NOW
    browser = place.signed_in("clinic-a")
    assert browser.get("/api/v1/units").json()["items"] == []
    assert browser.get(f"/api/v1/units/{place.there.units['clinic a']}/live").status_code == 404
    assert history(place).status_code == 404


@pytest.mark.req("CC-03")
def test_history_is_an_ordered_series_with_count_lowest_highest_and_average(place: Site) -> None:
    place.measured("208601", [4.0, None, 5.0, 7.5], until=MINUTE)
    said = history(place).json()
    assert (said["count"], said["failed"], said["min"], said["max"], said["avg"]) == (3, 1, 4.0, 7.5, 5.5)
    (series,) = said["series"]
    assert series["probe"] == "208601"
    assert [reading["t"] for reading in series["readings"]] == [4.0, None, 5.0, 7.5]
    times = [reading["at"] for reading in series["readings"]]
    assert times == sorted(times)
    assert times[-1] == rfc3339(Instant(NOW - MINUTE))


@pytest.mark.req("CC-03")
def test_a_sibling_is_refused_and_the_county_above_is_not(everywhere: Site) -> None:
    place = everywhere
    place.measured("208601", [4.0], until=MINUTE)
    assert history(place, "clinic-b").status_code == 404
    assert history(place, "county-a").json()["count"] == 1
    assert history(place, "province").json()["count"] == 1


def test_both_ends_are_as_asked_for_and_an_offset_may_be_unescaped(place: Site) -> None:
    place.measured("208601", [4.0, 5.0, 6.0])
    two = {"from": rfc3339(Instant(NOW - 2 * MINUTE)), "to": rfc3339(NOW)}
    assert history(place, **two).json()["count"] == 2
    path = f"/api/v1/zones/{place.there.zone}/history?from=2026-03-28T03:00:40+08:00&to=2026-03-28T03:02:40+08:00"
    assert place.signed_in("clinic-a").get(path).json()["count"] == 2


@pytest.mark.req("CC-03")
def test_a_fridge_that_has_moved_shows_each_unit_its_own_time(everywhere: Site) -> None:
    place = everywhere
    moved = Instant(NOW - HOUR)
    with place.records.write() as tx:
        row = tx.scalars(select(EquipmentUnit).where(EquipmentUnit.equipment_id == place.there.equipment)).one()
        row.until = moved
        tx.flush()
        tx.add(EquipmentUnit(equipment_id=row.equipment_id, unit_id=place.there.units["clinic b"], since=moved))
    place.measured("208601", [4.0, 5.0, 6.0], every=HOUR, until=MINUTE)
    before, after = history(place, "clinic-a").json(), history(place, "clinic-b").json()
    assert (before["count"], before["max"]) == (2, 5.0)
    assert (after["count"], after["min"]) == (1, 6.0)
    assert before["seen"] == [{"since": rfc3339(Instant(NOW - DAY)), "until": rfc3339(moved)}]
    assert history(place, "province").json()["count"] == 3
    lately = {"from": rfc3339(moved)}
    assert history(place, "clinic-a", **lately).status_code == 404
    assert [zone["unit_name"] for zone in live(place, "county-a", "county a", below=True)] == []


def test_a_probe_that_has_moved_brings_only_what_it_measured_here(everywhere: Site) -> None:
    place = everywhere
    with place.records.write() as tx:
        row = tx.scalars(select(ProbeZone).where(ProbeZone.zone_id == place.there.zone)).one()
        row.until = Instant(NOW - HOUR)
        tx.flush()
        tx.add(ProbeZone(probe_id=row.probe_id, zone_id=place.there.frozen, since=Instant(NOW - HOUR)))
    place.measured("208601", [4.0, 5.0, -19.0], every=HOUR, until=MINUTE)
    assert history(place).json()["count"] == 2
    assert history(place, zone=place.there.frozen).json()["max"] == -19.0


def test_long_histories_come_in_windows_that_keep_every_extreme(place: Site) -> None:
    place.measured("208601", [4.0] * 5_000 + [11.0] + [4.0] * 1_000)
    said = history(place, **{"from": rfc3339(Instant(NOW - 7 * DAY)), "to": rfc3339(Instant(NOW + 1))}).json()
    (series,) = said["series"]
    assert series["readings"] is None
    assert 400 < len(series["windows"]) <= 600
    assert max(window["max"] or 0 for window in series["windows"]) == said["max"] == 11.0
    assert sum(window["count"] for window in series["windows"]) == said["count"] == 6_001
    hourly = history(place, window=3600).json()
    assert hourly["window_seconds"] == 3600
    assert len(hourly["series"][0]["windows"]) == 24
    assert history(place, window=1).status_code == 422


def test_incomplete_and_unbound_contacts_are_told(everywhere: Site) -> None:
    place = everywhere
    path = f"/api/v1/units/{place.there.units['county b']}/contacts"
    browser = place.signed_in("province")
    assert [(one["code"], one["missing"]) for one in browser.get(f"{path}/incomplete").json()] == [("B-01", [2, 3])]
    assert browser.get(f"{path}/unbound").json() == []
    assert place.signed_in("county-a").get(f"{path}/incomplete").status_code == 404


def test_quarantine_is_for_who_looks_after_it_there(place: Site) -> None:
    for number in ("10001", "10002", "99999"):
        gw = GatewayNumber(number)
        reading = StampedReading(p="208699", quantity="t", at=NOW, value=Centi(450), q=0, ts=NOW)
        place.log.append([IntakeBatch(shard_of(gw), gw, "ep", "boot", 1, b"h", NOW, "live", (reading,))])
        place.log.hold([(shard_of(gw), place.log.head(shard_of(gw)), 0, "unknown_probe", "no probe 208699")], now=NOW)
    place.log.append([], letters=[DeadLetter(0, NOW, "cc/v1/xx", "not JSON", b"\xff{")])

    def held(username: str, **more: str) -> list[str]:
        answer = place.signed_in(username).get("/api/v1/intake/quarantine", params=more)
        return [one["gateway"] for one in answer.json()["items"]] if answer.status_code == 200 else ["refused"]

    assert held("province") == ["10001", "10002", "99999"]
    assert held("province", gateway="10002") == ["10002"]
    assert held("technician") == ["10001"]
    assert held("technician", gateway="10002") == []
    assert held("clinic-a") == ["refused"]
    letters = place.signed_in("province").get("/api/v1/intake/dead-letters").json()["items"]
    assert [(letter["reason"], letter["bytes"]) for letter in letters] == [("not JSON", 2)]
    assert place.signed_in("technician").get("/api/v1/intake/dead-letters").status_code == 403


def test_quarantine_of_a_gateway_that_moved_stays_and_no_detail_names_another_unit(everywhere: Site) -> None:
    place, numbers = everywhere, ("10001", "10002")
    for n, number in enumerate(numbers, 1):
        gw = GatewayNumber(number)
        reading = StampedReading(p="208601", quantity="t", at=NOW, value=Centi(450), q=0, ts=NOW)
        place.log.append([IntakeBatch(shard_of(gw), gw, "ep", "boot", 1, b"h", NOW, "live", (reading,))])
        for reason in ("foreign_gateway", "unknown_probe"):
            said = f"probe 208601 was with gateway {numbers[-n]} then, not with {number}"
            held_at = Instant(NOW - (2 - n) * HOUR)
            place.log.hold([(shard_of(gw), place.log.head(shard_of(gw)), 0, reason, said)], now=held_at)
    with place.records.write() as tx:
        rows = tx.scalars(select(GatewayUnit).order_by(GatewayUnit.gateway_id)).all()
        rows[0].until = Instant(NOW - MINUTE)  # 10001 leaves clinic a for clinic b, whose technician asks
        tx.flush()
        tx.add(GatewayUnit(gateway_id=rows[0].gateway_id, unit_id=rows[1].unit_id, since=Instant(NOW - MINUTE)))
        grant = tx.scalars(select(Grant).where(Grant.account_id == place.there.accounts["technician"].id)).one()
        grant.unit_id = rows[1].unit_id
    theirs = place.signed_in("technician").get("/api/v1/intake/quarantine").json()["items"]
    assert {one["gateway"] for one in theirs} == {"10002"}
    assert all("10001" not in str(one) for one in theirs if one["reason"] == "foreign_gateway")
    whole = place.signed_in("province").get("/api/v1/intake/quarantine").json()["items"]
    assert {one["gateway"] for one in whole} == {"10001", "10002"}
    assert all(one["detail"] for one in whole)


def test_quarantine_comes_in_pages_whatever_is_in_it(place: Site) -> None:
    times = [Instant(0), LAST_MOMENT, Instant(LAST_MOMENT + 1), Instant(2**53)]
    odd: list[StampedReading | bytes] = [StampedReading("a", "t", at, Centi(450), 0, at) for at in times]
    odd += [StampedReading("\x00", "door", NOW, None, 4, NOW), b'{"p":1,"t":NaN}', b"\x00\xff"]
    gw = GatewayNumber("10001")
    held = tuple(WithheldReading(each, "implausible_time", "why") for each in odd)
    place.log.append([IntakeBatch(shard_of(gw), gw, "ep", "boot", 1, b"h", NOW, "live", (), Milliseconds(0), held)])
    for username in ("province", "technician"):
        browser, cursor, found = place.signed_in(username), None, []
        while True:
            page = {"limit": 2} | ({"cursor": cursor} if cursor else {})
            answer = browser.get("/api/v1/intake/quarantine", params=page)
            assert answer.status_code == 200
            found += answer.json()["items"]
            cursor = answer.json()["next"]
            if cursor is None:
                break
        assert [one["ts"] for one in found] == [*times, NOW, None, None]
        assert [one["at"] is None for one in found] == [False, False, True, True, False, True, True]
        assert [one["as_sent"] for one in found][-2:] == ['{"p":1,"t":NaN}', "\x00\N{REPLACEMENT CHARACTER}"]
        assert browser.get("/api/v1/intake/quarantine", params={"cursor": "nonsense"}).status_code == 422
