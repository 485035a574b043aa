"""Contacts at each level, and levels at which somebody is missing or out of WeChat's reach."""

import pytest
from sqlalchemy.orm import Session

from core.contacts.contacts import ContactLevel, contacts_for, incomplete_contacts, set_contacts, unbound_contacts
from core.db.engine import Records
from core.devices.tables import EquipmentUnit, MaintenanceWindow
from core.errors import Invalid, NotFound
from core.ids import EquipmentId, PersonId
from core.runtime.instant import Instant
from core.units.actor import OPERATOR, Actor, Holding
from core.units.rights import RIGHTS, Right, Role
from core.units.tables import Unit
from tests.fixtures.county import add_contact, add_fridge, add_gateway, add_probe, add_unit

NOW = Instant(1_700_000_000_000)
EVERYWHERE = OPERATOR.scope(Right.SEE)
ONE, TWO, THREE = ContactLevel


def told(tx: Session, equipment: EquipmentId, at: int = NOW) -> list[list[str]]:
    return [[person.name for person in people] for people in contacts_for(tx, equipment, Instant(at)).values()]


def monitored(tx: Session, code: str, unit: Unit) -> EquipmentId:
    fridge, (zone,) = add_fridge(tx, code, unit)
    add_probe(tx, f"1{code}", add_gateway(tx, f"gw-{code}", unit), zone)
    return fridge


@pytest.mark.req("AL-01", "AL-02", "AL-03", "AL-04")
def test_an_equipment_resolves_to_three_levels_its_own_before_the_units(records: Records) -> None:
    assert [level.name for level in ContactLevel] == ["VACCINE_MANAGER", "DEPARTMENT_HEAD", "UNIT_HEAD"]
    assert list(ContactLevel) == [1, 2, 3]
    with records.write() as tx:
        clinic = add_unit(tx, "clinic")
        fridge, plain = monitored(tx, "F1", clinic), monitored(tx, "F2", clinic)
        for level, name in ((1, "manager"), (1, "deputy"), (2, "department"), (3, "head")):
            add_contact(tx, level, name, clinic)
        add_contact(tx, 1, "of the fridge", clinic, equipment=fridge)
        assert told(tx, plain) == [["manager", "deputy"], ["department"], ["head"]]
        assert told(tx, fridge) == [["of the fridge"], ["department"], ["head"]]
        assert incomplete_contacts(tx, EVERYWHERE, NOW) == []


def test_contacts_are_those_of_the_unit_where_it_stood_then(records: Records) -> None:
    with records.write() as tx:
        first, second = add_unit(tx, "first"), add_unit(tx, "second")
        fridge, _ = add_fridge(tx, "F1", first, until=NOW)
        tx.add(EquipmentUnit(equipment_id=fridge, unit_id=second.id, since=NOW))
        add_contact(tx, 1, "Li", first)
        add_contact(tx, 1, "Wang", second)
        assert told(tx, fridge, NOW - 1) == [["Li"], [], []]
        assert told(tx, fridge, NOW) == [["Wang"], [], []]


def test_who_has_left_is_told_no_more(records: Records) -> None:
    with records.write() as tx:
        clinic = add_unit(tx, "clinic")
        fridge, _ = add_fridge(tx, "F1", clinic)
        add_contact(tx, 1, "stays", clinic)
        add_contact(tx, 1, "leaves", clinic, equipment=fridge).left_at = NOW
        assert told(tx, fridge, NOW - 1) == [["leaves"], [], []]
        assert told(tx, fridge, NOW) == [["stays"], [], []], "the unit's again, rather than nobody"


@pytest.mark.req("AL-01")
def test_a_monitored_equipment_that_lacks_a_level_is_listed_and_nobody_above_stands_in(records: Records) -> None:
    with records.write() as tx:
        county = add_unit(tx, "county")
        clinic = add_unit(tx, "clinic", county, level="township", kind="pov")
        for level in ContactLevel:
            add_contact(tx, level, f"county {level}", county)
        fridge = monitored(tx, "F1", clinic)
        add_contact(tx, 1, "Li", clinic)
        add_contact(tx, 3, "Zhao", clinic, equipment=fridge)
        assert told(tx, fridge) == [["Li"], [], ["Zhao"]]
        (listed,) = incomplete_contacts(tx, EVERYWHERE, NOW)
        assert (listed.equipment, listed.code, listed.unit, listed.missing) == (fridge, "F1", clinic.id, (TWO,))
        user = Actor("account:1", (Holding(county.path, RIGHTS[Role.USER]),))
        assert incomplete_contacts(tx, user.scope(Right.SEE), NOW) == [listed]
        assert incomplete_contacts(tx, Actor("account:2", ()).scope(Right.SEE), NOW) == []


@pytest.mark.req("AL-01")
def test_what_is_stopped_or_has_no_probe_needs_no_contacts(records: Records) -> None:
    with records.write() as tx:
        clinic = add_unit(tx, "clinic")
        add_fridge(tx, "F1", clinic)
        stopped = monitored(tx, "F2", clinic)
        tx.add(MaintenanceWindow(equipment_id=stopped, kind="stopped", since=NOW))
        repaired = monitored(tx, "F3", clinic)
        tx.add(MaintenanceWindow(equipment_id=repaired, kind="repair", since=NOW))
        tx.flush()
        assert [row.code for row in incomplete_contacts(tx, EVERYWHERE, NOW)] == ["F3"]
        assert [row.code for row in incomplete_contacts(tx, EVERYWHERE, Instant(NOW - 1))] == ["F2", "F3"]


@pytest.mark.req("AL-05")
def test_a_contact_without_wechat_is_shown_as_unbound(records: Records) -> None:
    with records.write() as tx:
        county = add_unit(tx, "county")
        clinic = add_unit(tx, "clinic", county, level="township", kind="pov")
        fridge = monitored(tx, "F1", clinic)
        add_contact(tx, 1, "bound", clinic)
        unbound = add_contact(tx, 2, "unbound", clinic, openid=None)
        of_fridge = add_contact(tx, 3, "blocked", clinic, equipment=fridge)
        of_fridge.unreachable_since = Instant(NOW - 5)
        tx.flush()
        set_contacts(tx, OPERATOR, clinic, {THREE: [unbound.id]}, now=NOW)
        found = {row.name: row for row in unbound_contacts(tx, EVERYWHERE, NOW)}
        assert sorted(found) == ["blocked", "unbound"]
        assert found["unbound"].levels == (TWO, THREE)
        assert (found["unbound"].unreachable_since, found["blocked"].unreachable_since) == (None, NOW - 5)
        assert {row.unit for row in found.values()} == {clinic.id}
        other = add_unit(tx, "other")
        elsewhere = Actor("account:1", (Holding(other.path, RIGHTS[Role.USER]),))
        assert unbound_contacts(tx, elsewhere.scope(Right.SEE), NOW) == []


def test_setting_contacts_replaces_the_levels_given_and_needs_the_right(records: Records) -> None:
    with records.write() as tx:
        clinic, other = add_unit(tx, "clinic"), add_unit(tx, "other")
        fridge, _ = add_fridge(tx, "F1", clinic)
        old, head = add_contact(tx, 1, "old", clinic), add_contact(tx, 3, "head", clinic)
        stranger = add_contact(tx, 1, "stranger", other)
        admin = Actor("account:1", (Holding(clinic.path, RIGHTS[Role.BUSINESS_ADMIN]),))
        set_contacts(tx, admin, clinic, {ONE: [head.id, head.id], TWO: [old.id]}, now=NOW)
        assert told(tx, fridge) == [["head"], ["old"], ["head"]]
        with pytest.raises(Invalid, match="isn't yours"):
            set_contacts(tx, admin, clinic, {ONE: [stranger.id]}, now=NOW)
        with pytest.raises(Invalid, match="isn't yours"):
            set_contacts(tx, admin, clinic, {ONE: [PersonId(999)]}, now=NOW)
        with pytest.raises(NotFound):
            set_contacts(tx, admin, other, {ONE: []}, now=NOW)
