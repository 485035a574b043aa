"""The tree of units and what hangs where; who may do what on which part of it."""

import pytest
from msgspec.structs import replace
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.access.actors import actor_of_account, actor_of_person
from core.access.passwords import PasswordHash
from core.access.tokens import actor_of_token, issue_token, revoke_token
from core.db.engine import Records
from core.devices.tables import EquipmentUnit
from core.errors import Conflict, Invalid, NotFound, NotSignedIn, PermissionDenied
from core.ids import AccountId
from core.runtime.instant import Instant
from core.units.account_states import AccountState
from core.units.actor import OPERATOR, Actor, Holding
from core.units.rights import RIGHTS, Right, Role
from core.units.tables import Account, ApiToken, Contact, Grant, Person, Unit
from core.units.tree import UnitParticulars, add_unit, change_unit, move_unit, particulars
from core.units.unit_levels import Level, UnitKind
from tests.fixtures.county import DAWN, add_contact, add_fridge

NOW = Instant(1_700_000_000_000)
HASH = PasswordHash("not a real one")


def unit_under(
    tx: Session, parent: Unit | None, name: str, level: str = "county", *, kind: str = "cdc", code: str | None = None
) -> Unit:
    wish = UnitParticulars(name=name, kind=UnitKind(kind), level=Level(level), code=code)
    return add_unit(tx, OPERATOR, wish, parent=parent, now=NOW)


def holder(role: Role, *units: Unit) -> Actor:
    return Actor("account:9", tuple(Holding(unit.path, RIGHTS[role]) for unit in units), account=AccountId(9))


def seen(tx: Session, actor: Actor, right: Right = Right.SEE) -> list[str]:
    return sorted(tx.scalars(select(Unit.name).where(actor.scope(right))))


def test_a_county_may_hang_under_a_province_and_a_clinic_beside_its_level(records: Records) -> None:
    with records.write() as tx:
        province = unit_under(tx, None, "province", "province")
        county = unit_under(tx, province, "county")
        clinic = unit_under(tx, county, "hospital", "county", kind="pov")
        assert clinic.path == f"/{province.id}/{county.id}/{clinic.id}/"
        with pytest.raises(Invalid, match=r"county.*can't hang under county"):
            unit_under(tx, county, "another", "county")
        with pytest.raises(Invalid, match="can't hang"):
            unit_under(tx, clinic, "upside down", "province", kind="pov")


def test_codes_names_and_time_zones_are_checked(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county", code="610102")
        with pytest.raises(Conflict, match="610102 is taken"):
            unit_under(tx, county, "clinic", "township", code="610102")
        with pytest.raises(Invalid, match=r"code = '61-01'"):
            unit_under(tx, county, "clinic", "township", code="61-01")
        with pytest.raises(Invalid, match="name"):
            unit_under(tx, county, " ", "township")
        wish = UnitParticulars(name="x", kind=UnitKind.POV, level=Level.TOWNSHIP, timezone="Asia/Nowhere")
        with pytest.raises(Invalid, match="Asia/Nowhere"):
            add_unit(tx, OPERATOR, wish, parent=county, now=NOW)


def test_changing_a_unit_is_checked_like_entering_one(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county", code="1")
        clinic = unit_under(tx, county, "clinic", "township", kind="pov", code="2")
        change_unit(tx, OPERATOR, clinic, replace(particulars(clinic), name="renamed", code="3"), now=NOW)
        assert (clinic.name, clinic.code) == ("renamed", "3")
        with pytest.raises(Conflict, match="1 is taken"):
            change_unit(tx, OPERATOR, clinic, replace(particulars(clinic), code="1"), now=NOW)
        with pytest.raises(Invalid, match="can't hang"):
            change_unit(tx, OPERATOR, clinic, replace(particulars(clinic), level=Level.CITY), now=NOW)
        with pytest.raises(PermissionDenied):
            change_unit(tx, holder(Role.USER, county), clinic, particulars(clinic), now=NOW)


def test_moving_a_unit_takes_all_below_it_along(records: Records) -> None:
    with records.write() as tx:
        province = unit_under(tx, None, "province", "province")
        west, east = unit_under(tx, province, "west", "city"), unit_under(tx, province, "east", "city")
        county = unit_under(tx, west, "county")
        clinic = unit_under(tx, county, "clinic", "township", kind="pov")
        beside = unit_under(tx, west, "beside")
        move_unit(tx, OPERATOR, county, east, now=NOW)
        assert clinic.path == f"/{province.id}/{east.id}/{county.id}/{clinic.id}/"
        assert beside.path == f"/{province.id}/{west.id}/{beside.id}/"
        assert seen(tx, holder(Role.USER, east)) == ["clinic", "county", "east"]
        assert seen(tx, holder(Role.USER, west)) == ["beside", "west"]
        with pytest.raises(Conflict, match="hangs under it"):
            move_unit(tx, OPERATOR, east, county, now=NOW)
        with pytest.raises(NotFound):
            move_unit(tx, holder(Role.SYSTEM_ADMIN, east), county, west, now=NOW)
        with pytest.raises(PermissionDenied, match="root"):
            move_unit(tx, holder(Role.SYSTEM_ADMIN, east), county, None, now=NOW)


def test_a_subtree_is_no_prefix_of_digits(records: Records) -> None:
    with records.write() as tx:
        roots = [unit_under(tx, None, f"root {n}") for n in range(12)]
        assert {root.id for root in roots} >= {1, 11}
        first = next(root for root in roots if root.id == 1)
        assert seen(tx, holder(Role.USER, first)) == [first.name]


def test_nothing_is_seen_and_nothing_may_be_done_unless_it_was_granted(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county")
        clinic = unit_under(tx, county, "clinic", "township", kind="pov")
        sibling = unit_under(tx, county, "sibling", "township", kind="pov")
        nobody = Actor("account:9", ())
        assert seen(tx, nobody) == []
        user = holder(Role.USER, clinic)
        assert seen(tx, user) == ["clinic"]
        assert seen(tx, user, Right.BIND) == []
        user.require(Right.SEE, on=clinic)
        for hidden in (sibling, county):
            for right in (Right.SEE, Right.BIND):
                with pytest.raises(NotFound) as refused:
                    user.require(right, on=hidden)
                assert hidden.name not in str(refused.value)
        with pytest.raises(PermissionDenied, match="clinic"):
            user.require(Right.BIND, on=clinic)
        upper = holder(Role.BUSINESS_ADMIN, county)
        assert seen(tx, upper) == ["clinic", "county", "sibling"]
        assert not upper.may(Right.ACCOUNTS, on=clinic)
        assert seen(tx, upper, Right.REVIEW) == ["county"]
        assert seen(tx, OPERATOR, Right.REVIEW) == ["clinic", "county", "sibling"]


def test_a_grant_counts_only_while_it_lasts_and_a_disabled_account_not_at_all(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county")
        account = Account(username="li", password_hash="x")
        tx.add(account)
        tx.flush()
        tx.add(Grant(account_id=account.id, unit_id=county.id, role="user", since=NOW, until=NOW + 10))
        tx.flush()
        allowed = [
            actor_of_account(tx, account, Instant(NOW + offset)).may(Right.SEE, on=county) for offset in (-1, 0, 9, 10)
        ]
        assert allowed == [False, True, True, False]
        account.state = AccountState.CLOSED
        with pytest.raises(NotSignedIn):
            actor_of_account(tx, account, NOW)


def test_a_person_from_wechat_sees_their_unit_and_where_they_are_told(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county")
        clinic = unit_under(tx, county, "clinic", "township", kind="pov")
        other = unit_under(tx, county, "other", "township", kind="pov")
        third = unit_under(tx, county, "third", "township", kind="pov")
        fridge, _ = add_fridge(tx, "F1", other)
        person = Person(unit_id=clinic.id, name="Wang")
        tx.add(person)
        tx.flush()
        assert seen(tx, actor_of_person(tx, person, NOW)) == ["clinic"]
        add_contact(tx, 1, "Li", other, equipment=fridge)
        told = add_contact(tx, 2, "Zhao", third)
        told.unit_id = clinic.id
        tx.flush()
        actor = actor_of_person(tx, told, NOW)
        assert seen(tx, actor) == ["clinic", "third"]
        assert seen(tx, actor, Right.ACKNOWLEDGE) == ["clinic", "third"]
        assert seen(tx, actor, Right.CONTACTS) == []
        told.left_at = NOW
        with pytest.raises(NotSignedIn):
            actor_of_person(tx, told, NOW)


def test_who_is_told_of_one_equipment_sees_that_equipment_alone(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county")
        clinic = unit_under(tx, county, "clinic", "township", kind="pov")
        other = unit_under(tx, county, "other", "township", kind="pov")
        fridge, _ = add_fridge(tx, "F1", other, since=DAWN, until=NOW)
        person = add_contact(tx, 1, "Li", clinic, equipment=fridge)
        beside, _ = add_fridge(tx, "F2", other)
        before = actor_of_person(tx, person, Instant(NOW - 1))
        assert seen(tx, before) == ["clinic"]
        assert before.may(Right.HANDLE, on=other, equipment=fridge)
        assert not before.may(Right.CONTACTS, on=other, equipment=fridge)
        assert not any(before.may(Right.SEE, on=unit, equipment=beside) for unit in (other, county))
        assert not before.may(Right.SEE, on=county, equipment=fridge)
        afterwards = actor_of_person(tx, person, NOW)
        assert seen(tx, afterwards) == ["clinic"]
        assert not afterwards.may(Right.SEE, on=other, equipment=fridge)


def test_who_works_where_their_one_equipment_is_sees_nothing_else_of_that_unit(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county")
        clinic = unit_under(tx, county, "clinic", "township", kind="pov")
        fridge, _ = add_fridge(tx, "F1", county)
        guard = add_contact(tx, 1, "Li", county, equipment=fridge)
        actor = actor_of_person(tx, guard, NOW)
        assert seen(tx, actor) == []
        assert actor.may(Right.ACKNOWLEDGE, on=county, equipment=fridge)
        assert not actor.may(Right.SEE, on=county)
        assert not actor.may(Right.SEE, on=clinic)
        tx.add(Contact(unit_id=county.id, level=2, person_id=guard.id))
        tx.flush()
        assert seen(tx, actor_of_person(tx, guard, NOW)) == ["clinic", "county"]


def test_a_move_of_their_one_equipment_gives_nobody_more(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county")
        clinic = unit_under(tx, county, "clinic", "township", kind="pov")
        other = unit_under(tx, county, "other", "township", kind="pov")
        fridge, _ = add_fridge(tx, "F1", clinic, since=DAWN, until=NOW)
        beside, _ = add_fridge(tx, "F2", clinic)
        guard = add_contact(tx, 1, "Li", clinic, equipment=fridge)
        tx.add(EquipmentUnit(equipment_id=fridge, unit_id=other.id, since=NOW, until=Instant(NOW + 2)))
        tx.add(EquipmentUnit(equipment_id=fridge, unit_id=clinic.id, since=Instant(NOW + 3)))
        tx.flush()
        for at, unit in ((NOW - 1, clinic), (NOW, other), (NOW + 2, None), (NOW + 3, clinic)):
            actor = actor_of_person(tx, guard, Instant(at))
            assert seen(tx, actor) == []
            assert [one for one in (clinic, other) if actor.may(Right.SEE, on=one, equipment=fridge)] == (
                [unit] if unit else []
            )
            assert not actor.may(Right.SEE, on=clinic, equipment=beside)
        tx.execute(delete(Contact).where(Contact.person_id == guard.id))
        gone = actor_of_person(tx, guard, Instant(NOW + 1))
        assert seen(tx, gone) == ["clinic"]
        assert not gone.may(Right.SEE, on=other, equipment=fridge)


def test_a_token_is_bound_to_its_unit_and_ends(records: Records) -> None:
    with records.write() as tx:
        county = unit_under(tx, None, "county")
        clinic = unit_under(tx, county, "clinic", "township", kind="pov")
        token = issue_token(
            tx, OPERATOR, name="hub", unit=clinic, role=Role.USER, expires_at=Instant(NOW + 10), now=NOW
        )
        assert seen(tx, actor_of_token(tx, token, NOW)) == ["clinic"]
        pairing = issue_token(
            tx, OPERATOR, name="pairing", unit=county, role=Role.BUSINESS_ADMIN, expires_at=None, now=NOW
        )
        machine = actor_of_token(tx, pairing, NOW)
        assert machine.may(Right.CODES, on=clinic)
        assert not any(machine.may(right, on=county) for right in (Right.REVIEW, Right.GRANT, Right.BIND))
        for wrong, when in ((token + "x", NOW), (token, NOW + 10)):
            with pytest.raises(NotSignedIn):
                actor_of_token(tx, wrong, Instant(when))
        with pytest.raises(Conflict):
            issue_token(tx, OPERATOR, name="hub", unit=clinic, role=Role.USER, expires_at=None, now=NOW)
        with pytest.raises(PermissionDenied):
            issue_token(
                tx, holder(Role.USER, county), name="mine", unit=clinic, role=Role.USER, expires_at=None, now=NOW
            )
        kept = tx.scalars(select(ApiToken).where(ApiToken.name == "hub")).one()
        assert token.encode() not in kept.token_hash
        revoke_token(tx, OPERATOR, kept, now=NOW)
        with pytest.raises(NotSignedIn):
            actor_of_token(tx, token, NOW)
