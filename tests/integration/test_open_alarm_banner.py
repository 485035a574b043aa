"""Banner of open alarms on the home page: the list behind its link has exactly the alarms that it counts."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from core.access.accounts import create_account
from core.db.engine import Records
from core.ids import AlarmId, EquipmentId, ZoneId
from core.runtime.instant import MINUTE
from core.units.actor import OPERATOR
from core.units.rights import Role
from core.units.tables import Grant, Unit
from tests.fixtures.county import add_contact, add_fridge
from tests.fixtures.web import HASHED, NOW, Browser, Site, site, text_of

ABOVE: Mapping[str, str | None] = {
    "province": None,
    "county a": "province",
    "county b": "province",
    "clinic a": "county a",
    "clinic b": "county b",
}
NOT_CLOSED = {"province": 1, "county a": 2, "county b": 3, "clinic a": 32, "clinic b": 4}
"""Alarms in each unit; those of clinic a fill more than one page of the list."""


class Seen:
    """A place with alarms in every unit, some of them closed, and all who may look at them."""

    def __init__(self, place: Site) -> None:
        self.place = place
        self.alarms: dict[str, set[AlarmId]] = {}
        self.own: dict[str, set[AlarmId]] = {}
        fridges: dict[str, tuple[EquipmentId, ZoneId]] = {}
        units = place.there.units
        with place.records.write() as tx:
            for name in ABOVE:
                fridge, (zone,) = add_fridge(tx, f"X-{units[name]}", units[name])
                fridges[name] = fridge, zone
            lone, (lone_zone,) = add_fridge(tx, "X-lone", units["county a"])
            fridges["lone"] = lone, lone_zone
            rows = {name: tx.get_one(Unit, unit) for name, unit in units.items()}
            people = place.there.people
            people["吴刚"] = add_contact(tx, 2, "吴刚", rows["county a"], equipment=lone).id
            people["周强"] = add_contact(tx, 1, "周强", rows["clinic b"], equipment=lone).id
            people["钱伟"] = add_contact(tx, 3, "钱伟", rows["county b"]).id
            add = place.there.accounts
            for username, unit, role in (
                ("admin", "county a", Role.SYSTEM_ADMIN),
                ("business", "county b", Role.BUSINESS_ADMIN),
                ("installer", "province", Role.TECHNICIAN),
                ("two-units", "clinic a", Role.USER),
            ):
                add[username] = create_account(
                    tx, OPERATOR, username=username, password_hash=HASHED, unit=rows[unit], role=role, now=NOW
                )
            tx.add(Grant(account_id=add["two-units"].id, unit_id=units["clinic b"], role="user", since=NOW))
        for name, count in NOT_CLOSED.items():
            self.alarms[name] = {self._alarm(name, fridges[name], at) for at in range(count)}
            self._alarm(name, fridges[name], count, state="closed")
        self.own["lone"] = {self._alarm("county a", fridges["lone"], at) for at in range(2)}
        self.alarms["county a"] |= self.own["lone"]

    def _alarm(self, unit: str, fridge: tuple[EquipmentId, ZoneId], at: int, state: str = "") -> AlarmId:
        equipment, zone = fridge
        return self.place.alarm(
            unit_id=self.place.there.units[unit],
            equipment_id=equipment,
            zone_id=zone,
            cycle=1,
            opened=(at // 2 + 1) * MINUTE,  # two at a time: a page may end between them
            state=state or ("recovered" if at else "open"),
        )

    def below(self, unit: str) -> set[AlarmId]:
        """Return the alarms of a unit and all below it that aren't closed."""
        lower = (self.below(name) for name, above in ABOVE.items() if above == unit)
        return self.alarms[unit].union(*lower)


@pytest.fixture
def seen(records: Records, tmp_path: Path) -> Iterator[Seen]:
    with site(records, tmp_path) as made:
        yield Seen(made)


def banner(browser: Browser, path: str) -> tuple[int, str]:
    """Return the count of the banner, and the path to which it leads."""
    page = text_of(browser.get(path, headers={"accept": "text/html", "accept-language": "en"}))
    found = re.search(r'id="open-alarms" href="([^"]+)">(\d+) ', page)
    assert found is not None, page
    return int(found[2]), found[1].replace("&amp;", "&")


def listed(browser: Browser, path: str) -> list[int]:
    """Return the alarms on a list and on all its further pages."""
    alarms: list[int] = []
    while path:
        page = text_of(browser.get(path, headers={"accept": "text/html", "accept-language": "en"}))
        alarms += [int(number) for number in re.findall(r'href="/alarms/(\d+)"', page)]
        further = re.search(r'href="(/alarms\?[^"]*cursor=[^"]*)">More', page)
        path = further[1].replace("&amp;", "&") if further else ""
    return alarms


def in_chinese(browser: Browser, path: str) -> str:
    """Return the path of the same page in the other language, without the language."""
    page = text_of(browser.get(path, headers={"accept": "text/html", "accept-language": "en"}))
    found = re.search(r'href="([^"]+)" lang="zh-CN"', page)
    assert found is not None, page
    return found[1].replace("&amp;", "&").removesuffix("lang=zh-CN").rstrip("?&")


def asked(browser: Browser, **parameters: object) -> set[int]:
    answer = browser.get("/api/v1/alarms", params={"state": ["open", "recovered"], "limit": 200, **parameters})
    assert answer.status_code == 200, answer.text
    return {alarm["id"] for alarm in answer.json()["items"]}


def test_the_banner_leads_to_exactly_the_alarms_that_it_counts(seen: Seen) -> None:
    place, units = seen.place, seen.place.there.units
    first_page = {
        "province": seen.below("province"),
        "installer": seen.below("province"),
        "county-a": seen.below("county a"),
        "admin": seen.below("county a"),
        "business": seen.below("county b"),
        "clinic-a": seen.below("clinic a"),
        "technician": seen.below("clinic a"),
        "clinic-b": seen.below("clinic b"),
        "two-units": seen.below("clinic a") | seen.below("clinic b"),
        "王芳": seen.below("clinic a"),
        "钱伟": seen.below("county b"),
        "吴刚": seen.own["lone"],
        "周强": seen.below("clinic b") | seen.own["lone"],
    }
    for name, expected in first_page.items():
        browser = place.phone_of(name) if name in place.there.people else place.signed_in(name)
        count, path = banner(browser, "/")
        alarms = listed(browser, path)
        assert sorted(alarms) == sorted(expected), name
        assert count == len(alarms), name
        assert sorted(listed(browser, in_chinese(browser, path))) == sorted(expected), name
        shown = 0
        for unit, number in units.items():
            if browser.get("/", params={"unit": number}, headers={"accept": "text/html"}).status_code == 200:
                count, path = banner(browser, f"/?unit={number}")
                alarms = listed(browser, path)
                assert sorted(alarms) == sorted(seen.below(unit)), (name, unit)
                assert count == len(alarms), (name, unit)
                shown += 1
        assert shown == _units_of(name), name


def test_the_banner_of_an_account_with_two_grants_counts_the_alarms_of_both(seen: Seen) -> None:
    units = seen.place.there.units
    browser = seen.place.signed_in("two-units")
    count, path = banner(browser, "/")
    assert count == NOT_CLOSED["clinic a"] + NOT_CLOSED["clinic b"]
    assert path == "/alarms"
    assert sorted(listed(browser, path)) == sorted(seen.alarms["clinic a"] | seen.alarms["clinic b"])
    for name in ("clinic a", "clinic b"):
        count, path = banner(browser, f"/?unit={units[name]}")
        assert count == NOT_CLOSED[name]
        assert sorted(listed(browser, path)) == sorted(seen.alarms[name])


def _units_of(name: str) -> int:
    """Return how many units have a page for somebody."""
    visible = {"province": 5, "installer": 5, "county-a": 2, "admin": 2, "business": 2, "two-units": 2, "钱伟": 2}
    return 0 if name == "吴刚" else visible.get(name, 1)


def test_alarms_are_asked_for_a_unit_alone_or_with_all_below_it(seen: Seen) -> None:
    units = seen.place.there.units
    browser = seen.place.signed_in("province")
    for unit, number in units.items():
        assert asked(browser, unit=number) == asked(browser, unit=number, below=False) == seen.alarms[unit], unit
        assert asked(browser, unit=number, below=True) == seen.below(unit), unit
        assert sorted(listed(browser, f"/alarms?unit={number}")) == sorted(seen.alarms[unit]), unit
    assert len(listed(browser, f"/alarms?unit={units['clinic a']}&all=1")) == NOT_CLOSED["clinic a"] + 1
    assert asked(browser, below=True) == asked(browser) == seen.below("province")


def test_what_is_below_a_unit_that_one_may_not_see_is_not_told(seen: Seen) -> None:
    place, units = seen.place, seen.place.there.units
    for name in ("clinic-a", "two-units", "周强", "吴刚"):
        browser = place.phone_of(name) if name in place.there.people else place.signed_in(name)
        assert asked(browser, unit=999_999, below=True) == set(), name
        for unit in ("province", "county b"):
            assert asked(browser, unit=units[unit], below=True) == asked(browser, unit=units[unit]) == set(), name
            page = browser.get("/alarms", params={"unit": units[unit], "below": 1}, headers={"accept": "text/html"})
            assert page.status_code == 404, name
