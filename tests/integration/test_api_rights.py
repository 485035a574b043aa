"""Every route and page, asked for everything there is by everybody there is, on both databases.

The table says of each route what it names; a route without a line fails. What an asker may not see is 404, worded as if
it weren't there, and no answer holds a word of it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from core.access.accounts import create_account
from core.access.tokens import issue_token
from core.alarms.alarm_facts import AlarmSnapshot
from core.alarms.tables import Alarm, AlarmEvent, OutboxMessage
from core.db.engine import Records
from core.devices.tables import EquipmentUnit, Series, Zone
from core.ids import AlarmId, Centi, PersonId, SeriesId, UnitId, ZoneId
from core.intake.port import IntakeBatch, StampedReading
from core.limits.rule_profile import load
from core.runtime.instant import HOUR, MINUTE, Instant, rfc3339
from core.telemetry.port import StoredReading
from core.units.actor import OPERATOR
from core.units.rights import Role
from core.units.tables import Account, Contact, Person, Unit
from core.wire.shards import GatewayNumber, shard_of
from tests.fixtures.county import add_contact, add_fridge, add_gateway, add_probe
from tests.fixtures.routes import routes_of
from tests.fixtures.web import HASHED, NOW, Browser, Site, site

pytestmark = pytest.mark.long

MOVED = Instant(NOW - HOUR)
REPORT = {"cause": "door", "action": "closed it", "disposition": "fit for use"}
TIME = {"from": rfc3339(Instant(NOW - 6 * HOUR)), "to": rfc3339(Instant(NOW + 1))}
Kind = Literal["unit", "zone", "alarm"]


class Row(msgspec.Struct, frozen=True):
    """What a route names in its path, and what else it needs."""

    names: Kind | None = None
    params: Mapping[str, str] = {}
    json: Any = None
    data: Any = None
    visible: Sequence[int] = (200,)
    """Statuses for whoever may see the thing."""


OPEN = Row(visible=(200, 303, 400, 401, 403, 404, 422, 503))
"""For everybody, or about the asker alone: only what it shows is looked at."""
SIGNED = Row()

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
    ("GET", "/"): SIGNED,
    ("GET", "/alarms"): Row(params={"all": "1"}),
    ("GET", "/alarms/{alarm}"): Row("alarm"),
    ("POST", "/alarms/{alarm}/acknowledge"): Row("alarm", visible=(303, 403)),
    ("POST", "/alarms/{alarm}/handling"): Row("alarm", data=REPORT, visible=(303, 403, 409, 422)),
    ("GET", "/zones/{zone}"): Row("zone"),
}

MARKERS: Mapping[str, Sequence[str]] = {
    "province": ("某省疾控中心",),
    "county a": ("甲县疾控中心",),
    "clinic a": ("甲镇卫生院",),
    "county b": ("乙县疾控中心",),
    "clinic b": ("乙镇卫生院",),
    "A-01": ("A-01", "208601", "208602"),
    "B-01": ("B-01", "208701"),
    "C-01": ("C-01", "208801"),
    "C-02": ("C-02", "208802"),
    "M-01": ("M-01", "208901"),
    "people of a": ("王芳", "李建国", "赵敏"),
    "people of b": ("孙丽",),
    "quarantine of a": ("10001",),
    "quarantine of b": ("10002",),
}
"""Words that stand in answers only where somebody may see what they are of."""
WARM = {"A-01": 9.11, "C-01": 9.22, "C-02": 9.33, "B-01": 9.44, "M-01 before": 9.55, "M-01 after": 5.66}
"""What each probe measured, by which its readings and alarms are known."""


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and all that they may see."""

    units: Sequence[str] = ()
    zones: Sequence[str] = ()
    alarms: Sequence[str] = ()
    also: Sequence[str] = ()
    """Words that come with it."""

    @property
    def words(self) -> set[str]:
        return {word for name in (*self.units, *self.zones, *self.also) for word in MARKERS.get(name, ())} | {
            f"{WARM[name]:g}" for name in (*self.zones, *self.alarms, *self.also) if name in WARM
        }


OF_CLINIC_B = Asker(units=("clinic b",), zones=("B-01", "M-01"), alarms=("B-01",), also=("people of b", "M-01 after"))
ASKERS: Mapping[str, Asker] = {
    "account of clinic b": OF_CLINIC_B,
    "contact of unit b": OF_CLINIC_B,
    "token of clinic b": OF_CLINIC_B,
    "technician of clinic b": msgspec.structs.replace(OF_CLINIC_B, also=(*OF_CLINIC_B.also, "quarantine of b")),
    "account of clinic a, below": Asker(
        units=("clinic a",),
        zones=("A-01", "M-01"),
        alarms=("A-01", "M-01 before"),
        also=("people of a", "M-01 before"),
    ),
    "contact of C-02 from clinic b": Asker(
        units=("clinic b",),
        zones=("B-01", "M-01", "C-02"),
        alarms=("B-01", "C-02"),
        also=("people of b", "M-01 after", "county a"),  # where C-02 is, is a part of what it is
    ),
    "contact of C-02 from county a": Asker(zones=("C-02",), alarms=("C-02",), also=("county a",)),
    "account without a grant": Asker(),
}
REFUSED = ("nobody", "disabled account", "left person", "expired token")


class World:
    """A site with something of everything, by name."""

    def __init__(self, place: Site) -> None:
        self.place = place
        self.zones: dict[str, ZoneId] = {"A-01": place.there.zone}
        self.alarms: dict[str, AlarmId] = {}
        self.browsers: dict[str, Browser] = {}
        units = place.there.units
        with place.records.write() as tx:
            county, clinic_b = tx.get_one(Unit, units["county a"]), tx.get_one(Unit, units["clinic b"])
            gateway = add_gateway(tx, "10003", county)
            series = {"A-01": place.there.series["208601"], "B-01": place.there.series["208701"]}
            made = {}
            for code, unit, probe in (
                ("C-01", county.id, "208801"),
                ("C-02", county.id, "208802"),
                ("M-01", units["clinic a"], "208901"),
            ):
                until = MOVED if code == "M-01" else None
                made[code], (self.zones[code],) = add_fridge(tx, code, unit, until=until)
                probed = add_probe(tx, probe, gateway, self.zones[code])
                series[code] = tx.query(Series).where(Series.probe_id == probed).one().id
            tx.add(EquipmentUnit(equipment_id=made["M-01"], unit_id=clinic_b.id, since=MOVED))
            equipment_b = tx.query(EquipmentUnit).where(
                EquipmentUnit.unit_id == clinic_b.id, EquipmentUnit.equipment_id != made["M-01"]
            )
            made["A-01"], made["B-01"] = place.there.equipment, equipment_b.one().equipment_id
            self.zones["B-01"] = tx.query(Zone).where(Zone.equipment_id == made["B-01"]).one().id
            people = place.there.people
            people["周强"] = add_contact(tx, 1, "周强", clinic_b, equipment=made["C-02"]).id
            people["吴刚"] = add_contact(tx, 2, "吴刚", county, equipment=made["C-02"]).id
            left = add_contact(tx, 2, "郑伟", tx.get_one(Unit, units["clinic a"]))
            people["郑伟"] = left.id
            for name, username, role in (
                ("account without a grant", "newcomer", None),
                ("technician of clinic b", "technician-b", Role.TECHNICIAN),
                ("disabled account", "disabled", Role.USER),
            ):
                if role is None:
                    place.there.accounts[username] = Account(username=username, password_hash=HASHED)
                    tx.add(place.there.accounts[username])
                else:
                    place.there.accounts[username] = create_account(
                        tx, OPERATOR, username=username, password_hash=HASHED, unit=clinic_b, role=role, now=NOW
                    )
                assert name in ASKERS or name in REFUSED
            token = {
                name: issue_token(
                    tx, OPERATOR, name=name, unit=clinic_b, role=Role.USER, expires_at=Instant(NOW + ends), now=NOW
                )
                for name, ends in (("token of clinic b", HOUR), ("expired token", 0))
            }
        for code, warm in WARM.items():
            self._measure(series[code.partition(" ")[0]], warm, before=code.endswith("before"))
        for code, unit in (
            ("A-01", "clinic a"),
            ("B-01", "clinic b"),
            ("C-01", "county a"),
            ("C-02", "county a"),
            ("M-01 before", "clinic a"),
        ):
            whom = {"clinic a": "李建国", "clinic b": "孙丽", "county a": "吴刚"}[unit]
            equipment = made[code.partition(" ")[0]]
            self._alarm(code, units[unit], equipment, people[whom])
        self._held()
        self.browsers = {
            "nobody": place.stranger(),
            "account of clinic b": place.signed_in("clinic-b"),
            "contact of unit b": place.phone_of("孙丽"),
            "technician of clinic b": place.signed_in("technician-b"),
            "account of clinic a, below": place.signed_in("clinic-a"),
            "contact of C-02 from clinic b": place.phone_of("周强"),
            "contact of C-02 from county a": place.phone_of("吴刚"),
            "account without a grant": place.signed_in("newcomer"),
            "disabled account": place.signed_in("disabled"),
            "left person": place.phone_of("郑伟"),
            **{name: place.stranger(authorization=f"Bearer {given}") for name, given in token.items()},
        }
        with place.records.write() as tx:
            tx.get_one(Person, people["郑伟"]).left_at = NOW
            tx.get_one(Account, place.there.accounts["disabled"].id).disabled = True
            assert tx.query(Contact).count() == 7

    def numbers(self, kind: Kind) -> Mapping[str, int]:
        """Return the things that a path may name."""
        return {"unit": self.place.there.units, "zone": self.zones, "alarm": self.alarms}[kind]

    def _measure(self, series: SeriesId, warm: float, *, before: bool) -> None:
        last = MOVED - 3 * MINUTE if before else NOW - MINUTE
        samples = [StoredReading(series, Instant(last - n * MINUTE), Centi(round(warm * 100)), 0) for n in range(5)]
        self.place.telemetry.write_batch(samples, {})

    def _alarm(self, code: str, unit: UnitId, equipment: int, person: PersonId) -> None:
        opened = Instant(MOVED - 2 * MINUTE)
        policy = msgspec.json.encode(AlarmSnapshot("china-2017", Centi(800), load("china-2017").policy)).decode()
        with self.place.records.write() as tx:
            row = Alarm(
                zone_id=self.zones[code.partition(" ")[0]],
                equipment_id=equipment,
                unit_id=unit,
                probe_id=1,
                rule="above",
                state="open",
                opened_at=opened,
                onset_at=Instant(opened - MINUTE),
                limit=800,
                opening_value=round(WARM[code] * 100),
                peak=round(WARM[code] * 100),
                snapshot=policy,
            )
            tx.add(row)
            tx.flush()
            tx.add(AlarmEvent(alarm_id=row.id, at=opened, kind="opened"))
            told = [(person, opened)]
            if code == "M-01 before":  # level 2 was due when the fridge was with clinic b
                told.append((self.place.there.people["孙丽"], Instant(MOVED + MINUTE)))
                tx.add(AlarmEvent(alarm_id=row.id, at=MOVED + MINUTE, kind="unreachable", person_id=told[-1][0]))
            for tier, (whom, at) in enumerate(told, 1):
                tx.add(
                    OutboxMessage(
                        key=f"{row.id}:1:{tier}:0:{whom}:wechat:alarm",
                        alarm_id=row.id,
                        kind="alarm",
                        person_id=whom,
                        channel="wechat",
                        address="openid",
                        body=b"{}",
                        state="sent",
                        created_at=at,
                        sent_at=at,
                        next_at=0,
                        attempts=1,
                    )
                )
            self.alarms[code] = row.id

    def _held(self) -> None:
        log = self.place.log
        for number in ("10001", "10002", "99999"):
            gw = GatewayNumber(number)
            reading = StampedReading(p="700001", quantity="t", at=NOW, value=Centi(450), q=0, ts=NOW)
            log.append([IntakeBatch(shard_of(gw), gw, "ep", "boot", 1, b"h", NOW, "live", (reading,))])
            log.hold([(shard_of(gw), log.head(shard_of(gw)), 0, "unknown_probe", "no probe 700001")], now=NOW)


@pytest.fixture
def world(records: Records, tmp_path: Path) -> Iterator[World]:
    with site(records, tmp_path) as made:
        yield World(made)


def ask(browser: Browser, method: str, path: str, row: Row, number: int = 0, **more: str) -> Any:
    filled = path.format(unit=number, zone=number, alarm=number, token="x.1.1.1.1.x", file="coldchain.css")
    headers = {"accept": "application/json" if path.startswith("/api/") else "text/html"}
    return browser.request(method, filled, params={**row.params, **more}, json=row.json, data=row.data, headers=headers)


def hidden_words(asker: Asker) -> list[str]:
    every = {word for words in MARKERS.values() for word in words} | {f"{value:g}" for value in WARM.values()}
    return sorted(every - asker.words)


def leaks(answer: Any, asker: Asker) -> list[str]:
    """Return what an answer tells that the asker may not see; a curve's own coordinates are no temperatures."""
    text = re.sub(r"<svg.*?</svg>", lambda found: re.sub(r'"[^"]*"', '""', found[0]), answer.text, flags=re.DOTALL)
    text += "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
    return [word for word in hidden_words(asker) if re.search(rf"(?<![0-9.]){re.escape(word)}", text)]


def worded(answer: Any, number: int) -> str:
    """Return an answer without what differs from one request to another."""
    text = re.sub(r"urn:request:\w+|[0-9a-f]{16}|value=\"[^\"]+\"", "", answer.text)
    return re.sub(rf"((?<=/)|(?<=no unit )|(?<=no zone )|(?<=no alarm )){number}\b", "N", text)


def test_every_route_has_a_line_in_the_table(world: World) -> None:
    assert set(routes_of(world.place.app)) == set(TABLE)


@pytest.mark.req("CC-03", "AL-08")
@pytest.mark.parametrize("name", ASKERS)
def test_nothing_is_told_of_what_an_asker_may_not_see(world: World, name: str) -> None:
    asker, browser = ASKERS[name], world.browsers[name]
    seen = {"unit": asker.units, "zone": asker.zones, "alarm": asker.alarms}
    for (method, path), row in TABLE.items():
        if row.names is None:
            if path in {"/sign-out", "/api/v1/session"} and method != "GET":
                continue  # would end the session
            answer = ask(browser, method, path, row)
            own = (403,) if path == "/" and not (asker.units or asker.zones) else row.visible
            assert answer.status_code in own, f"{method} {path}: {answer.status_code}"
            assert not leaks(answer, asker), f"{method} {path}"
            continue
        nowhere = ask(browser, method, path, row, 999_999)
        assert nowhere.status_code == 404
        for thing, number in world.numbers(row.names).items():
            answer = ask(browser, method, path, row, number)
            what = f"{method} {path} of {thing}: {answer.status_code} {answer.text[:300]}"
            assert not leaks(answer, asker), what
            if thing in seen[row.names]:
                assert answer.status_code in row.visible, what
            else:
                assert answer.status_code == 404, what
                assert worded(answer, number) == worded(nowhere, 999_999), what
                assert answer.headers.keys() == nowhere.headers.keys(), what


@pytest.mark.parametrize("name", ASKERS)
def test_lists_asked_for_another_units_things_are_as_if_they_were_not_there(world: World, name: str) -> None:
    asker, browser = ASKERS[name], world.browsers[name]
    for kind, given in (("unit", "unit"), ("zone", "zone")):
        seen = asker.units if kind == "unit" else asker.zones
        for thing, number in world.numbers(kind).items():  # type: ignore[arg-type]
            if thing not in seen and thing not in asker.also:
                answer = browser.get("/api/v1/alarms", params={given: str(number)})
                assert answer.json() == {"items": [], "next": None}, thing
    for thing, number in world.place.there.units.items():
        if thing not in asker.units:
            for path, key in (("/api/v1/units", "parent"), ("/", "unit")):
                answer = browser.get(path, params={key: str(number)}, headers={"accept": "text/html"})
                assert answer.status_code == (200 if key == "parent" else 404)
                assert not leaks(answer, asker), thing


@pytest.mark.parametrize("name", REFUSED)
def test_who_may_not_sign_in_gets_what_a_stranger_gets(world: World, name: str) -> None:
    nothing = Asker()
    for (method, path), row in TABLE.items():
        for number in world.numbers(row.names).values() if row.names else (0,):
            answer = ask(world.browsers[name], method, path, row, number)
            what = f"{method} {path}: {answer.status_code} {answer.text[:200]}"
            assert not leaks(answer, nothing), what
            if row is not OPEN:
                assert answer.status_code in {303, 401}, what
                assert answer.status_code == 401 or "/sign-in" in answer.headers["location"] or method == "POST", what
    assert not world.browsers[name].get("/api/v1/alarms").json().get("items")


@pytest.mark.parametrize("name", [*ASKERS, "nobody", "disabled account", "left person"])
def test_a_link_that_was_passed_on_names_nobody(world: World, name: str) -> None:
    place, asker = world.place, ASKERS.get(name, Asker())
    for thing, alarm in world.alarms.items():
        link = place.link(alarm, "王芳")
        answer = world.browsers[name].get(link, headers={"accept": "text/html"})
        if name in ASKERS and thing not in asker.alarms and name != "account of clinic a, below":
            assert answer.status_code == 404, thing
            assert not leaks(answer, asker), thing
            for verb in ("acknowledge", "handling"):
                said = world.browsers[name].post(f"{link}/{verb}", data=REPORT if verb == "handling" else None)
                assert said.status_code == 404, (thing, verb)
        else:
            assert answer.status_code == 200, thing
        if name not in ASKERS:
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
