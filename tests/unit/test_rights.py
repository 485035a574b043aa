"""The table of roles and rights, and which unit manages whose accounts."""

import pytest

from core.ids import UnitId
from core.units.actor import OPERATOR, Actor, Holding
from core.units.managing_units import managing_unit
from core.units.rights import ON_EXACTLY_THE_UNIT, RIGHTS, Right, Role, may_have, rights_of
from core.units.tables import Unit
from core.units.unit_levels import Level, UnitKind

USER = "see acknowledge handle care verify file"
STOCK_KEEPER = f"{USER} stock_see stock_move report"
VACCINATOR = "see file register vaccinate person_see stock_see"
BUSINESS_ADMIN = (
    f"{STOCK_KEEPER} {VACCINATOR} bind equip contacts quarantine review grant trace recall analyse feedback inspect"
    " correct"
)
TECHNICIAN = "see bind equip care quarantine"
ROLES = {
    "user": USER,
    "stock_keeper": STOCK_KEEPER,
    "vaccinator": VACCINATOR,
    "business_admin": BUSINESS_ADMIN,
    "system_admin": "see units accounts",
    "technician": TECHNICIAN,
    "software_party": f"{TECHNICIAN} execute catalogue",
    "info_centre": f"{TECHNICIAN} institutions exchange",
    "health_dept": "see analyse answer",
    "regulator": "see analyse trace",
    "inspector": "see analyse stock_see inspect",
    "security_officer": "security",
}
PROVINCE_ONLY = {"lots", "catalogue", "summary", "execute", "institutions", "exchange", "answer"}
COUNTY, CLINIC, SIBLING = Unit(path="/1/2/"), Unit(path="/1/2/3/"), Unit(path="/1/4/")


def unit(number: int, level: Level, kind: UnitKind = UnitKind.CDC) -> Unit:
    return Unit(id=UnitId(number), level=level, kind=kind)


CHAIN = [unit(1, Level.PROVINCE), unit(2, Level.CITY), unit(3, Level.COUNTY)]
HOSPITAL = unit(4, Level.TOWNSHIP, UnitKind.POV)
VILLAGE = unit(5, Level.VILLAGE, UnitKind.POV)


@pytest.mark.req("UP-01")
def test_a_role_has_the_rights_of_the_table_and_no_others() -> None:
    assert {role.value: rights for role, rights in RIGHTS.items()} == {
        role: set(rights.split()) for role, rights in ROLES.items()
    }
    assert [role.value for role in Role if "admin" in role] == ["system_admin", "business_admin"]


@pytest.mark.parametrize("level", list(Level))
def test_some_rights_of_a_business_administrator_are_those_of_one_level(level: Level) -> None:
    added = rights_of(Role.BUSINESS_ADMIN, level) - RIGHTS[Role.BUSINESS_ADMIN]
    assert added == {Level.COUNTY: {Right.CODES}, Level.PROVINCE: PROVINCE_ONLY}.get(level, set())
    for role in set(Role) - {Role.BUSINESS_ADMIN}:
        assert rights_of(role, level) == RIGHTS[role]


def test_which_level_may_have_which_role() -> None:
    everywhere = {
        Role.BUSINESS_ADMIN,
        Role.USER,
        Role.STOCK_KEEPER,
        Role.VACCINATOR,
        Role.TECHNICIAN,
        Role.HEALTH_DEPT,
        Role.REGULATOR,
        Role.INSPECTOR,
    }
    possible = {level: {role for role in Role if may_have(role, level)} for level in Level}
    assert possible[Level.PROVINCE] == set(Role)
    assert possible[Level.CITY] == possible[Level.COUNTY] == everywhere | {Role.SYSTEM_ADMIN}
    assert possible[Level.TOWNSHIP] == possible[Level.VILLAGE] == everywhere


@pytest.mark.parametrize("right", list(Right))
def test_reviewing_and_accounts_hold_on_the_unit_alone_and_the_rest_below_it_too(right: Right) -> None:
    actor = Actor("account:1", (Holding(COUNTY.path, frozenset({right})),))
    assert {Right.REVIEW, Right.ACCOUNTS} == ON_EXACTLY_THE_UNIT
    assert actor.may(right, on=COUNTY)
    assert actor.may(right, on=CLINIC) is (right not in {Right.REVIEW, Right.ACCOUNTS})
    assert not actor.may(right, on=SIBLING)
    assert not actor.may(right, on=Unit(path="/1/"))
    assert not any(actor.may(other, on=COUNTY) for other in set(Right) - {right})
    assert all(OPERATOR.may(right, on=anywhere) for anywhere in (COUNTY, CLINIC, SIBLING))


@pytest.mark.parametrize(
    ("lineage", "role", "manager"),
    [
        (CHAIN, Role.SYSTEM_ADMIN, 2),
        (CHAIN[:1], Role.SYSTEM_ADMIN, None),
        ([CHAIN[0], CHAIN[2]], Role.SYSTEM_ADMIN, 1),
        (CHAIN, Role.BUSINESS_ADMIN, 3),
        (CHAIN[:1], Role.USER, 1),
        ([*CHAIN, HOSPITAL], Role.BUSINESS_ADMIN, 3),
        ([*CHAIN, HOSPITAL, VILLAGE], Role.VACCINATOR, 3),
        ([CHAIN[0], unit(6, Level.COUNTY, UnitKind.HEALTH_DEPT), HOSPITAL], Role.USER, 1),
        ([HOSPITAL], Role.USER, None),
    ],
)
def test_who_manages_an_account(lineage: list[Unit], role: Role, manager: int | None) -> None:
    found = managing_unit(lineage, role)
    assert (found and found.id) == manager
