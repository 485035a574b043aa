"""Navigation: who may open what is shown that, and each page belongs to one entry."""

import pytest

from api.pages.navigation import NAVIGATION, current, destinations
from core.ids import EquipmentId, UnitId
from core.units.actor import OPERATOR, Actor, EquipmentHolding, Holding
from core.units.rights import RIGHTS, Right, Role


def test_the_operator_is_shown_all_and_somebody_without_a_grant_nothing() -> None:
    assert destinations(OPERATOR) == list(NAVIGATION)
    assert destinations(Actor("account:1", ())) == []


@pytest.mark.parametrize("role", Role)
def test_nobody_is_shown_what_their_rights_do_not_open(role: Role) -> None:
    shown = destinations(Actor("account:1", (Holding("/1/", RIGHTS[role]),)))
    assert [each for each in NAVIGATION if each.right in RIGHTS[role]] == shown
    assert (Right.SEE in RIGHTS[role]) == ("/" in {each.path for each in shown})


def test_the_contact_of_one_equipment_is_shown_its_pages() -> None:
    holding = EquipmentHolding(EquipmentId(1), UnitId(1), frozenset({Right.SEE}))
    assert "/alarms" in {each.path for each in destinations(Actor("person:1", (), equipment=(holding,)))}


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/", "/"),
        ("/zones/7", "/"),
        ("/alarms", "/alarms"),
        ("/alarms/12", "/alarms"),
        ("/applications/12/edit", "/applications"),
        ("/alarms.csv", "/"),
    ],
)
def test_a_page_belongs_to_the_entry_that_its_address_begins_with(path: str, owner: str) -> None:
    assert current(path) == owner
