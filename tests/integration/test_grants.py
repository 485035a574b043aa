"""Grants and substitutions: never more than the giver holds there, nor longer; on both databases."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from core.access.actors import actor_of_account
from core.access.grants import end_grant, give_grant, givers_holdings, grants
from core.access.substitutions import end_substitution, lend_review, substitutions
from core.access.tables import Substitution
from core.db.engine import Records
from core.errors import Conflict, DomainError, Invalid, NotFound, PermissionDenied
from core.runtime.instant import DAY, Instant
from core.units.account_states import AccountState
from core.units.actor import OPERATOR, Actor
from core.units.rights import RIGHTS_OF_LEVEL, Right, Role, rights_of
from core.units.tables import Account, Grant, Unit
from tests.fixtures.offices import NOW, Offices


@pytest.fixture
def tx(records: Records) -> Iterator[Session]:
    with records.write() as session:
        yield session


@pytest.fixture
def offices(tx: Session) -> Offices:
    return Offices(tx)


def give(actor: Actor, account: Account, unit: Unit, role: Role, offices: Offices, until: int | None = None) -> Grant:
    end = None if until is None else Instant(NOW + until)
    return give_grant(offices.tx, actor, account.id, unit, role, until=end, now=NOW)


@pytest.mark.req("UP-20", "UP-21")
def test_rights_are_given_level_by_level_and_only_inside_ones_own_area(tx: Session, offices: Offices) -> None:
    nation = offices.actor(Role.BUSINESS_ADMIN, offices.nation)
    at_province = offices.opens(OPERATOR, offices.province, Role.BUSINESS_ADMIN)
    give(nation, at_province, offices.province, Role.BUSINESS_ADMIN, offices)
    province = actor_of_account(tx, at_province, NOW)
    assert province.may(Right.SUMMARY, on=offices.province)
    at_county = offices.opens(OPERATOR, offices.county, Role.BUSINESS_ADMIN)
    give(province, at_county, offices.county, Role.BUSINESS_ADMIN, offices)
    county = actor_of_account(tx, at_county, NOW)
    assert county.may(Right.CODES, on=offices.county)
    user = offices.opens(OPERATOR, offices.clinic)
    give(county, user, offices.clinic, Role.USER, offices)
    refusals = (
        (county, user, offices.clinic, Role.SOFTWARE_PARTY, PermissionDenied),
        (county, user, offices.county, Role.BUSINESS_ADMIN, PermissionDenied),
        (county, user, offices.other_county, Role.USER, NotFound),
        (county, user, offices.province, Role.USER, NotFound),
        (province, user, offices.other_province, Role.USER, NotFound),
        (province, user, offices.nation, Role.USER, NotFound),
        (county, user, offices.clinic, Role.SYSTEM_ADMIN, PermissionDenied),
        (county, user, offices.clinic, Role.HEALTH_DEPT, PermissionDenied),
        (province, user, offices.county, Role.SOFTWARE_PARTY, Invalid),
        (county, at_county, offices.clinic, Role.USER, PermissionDenied),
        (county, at_province, offices.county, Role.USER, NotFound),
        (offices.actor(Role.SYSTEM_ADMIN, offices.county), user, offices.clinic, Role.USER, PermissionDenied),
        (offices.actor(Role.STOCK_KEEPER, offices.county), user, offices.clinic, Role.USER, NotFound),
    )
    for actor, account, unit, role, error in refusals:
        with pytest.raises(error):
            give(actor, account, unit, role, offices)
    with pytest.raises(Conflict, match="already"):
        give(county, user, offices.clinic, Role.USER, offices)


@pytest.mark.req("UP-22")
def test_entering_summary_reports_is_for_users_of_the_province_alone(offices: Offices) -> None:
    city = offices.actor(Role.BUSINESS_ADMIN, offices.city)
    assert offices.actor(Role.BUSINESS_ADMIN, offices.province).may(Right.SUMMARY, on=offices.province)
    with pytest.raises(PermissionDenied, match="summary"):
        city.require(Right.SUMMARY, on=offices.city)
    for role in set(Role) - {Role.BUSINESS_ADMIN}:
        assert Right.SUMMARY not in rights_of(role, offices.province.level)


def test_no_grant_lasts_longer_than_the_givers(tx: Session, offices: Offices) -> None:
    short = offices.account(Role.USER, offices.county)
    give(OPERATOR, short, offices.county, Role.BUSINESS_ADMIN, offices, until=10 * DAY)
    giver = actor_of_account(tx, short, NOW)
    user = offices.opens(OPERATOR, offices.clinic)
    for until in (None, 10 * DAY + 1):
        with pytest.raises(Invalid, match="at the latest"):
            give(giver, user, offices.clinic, Role.USER, offices, until=until)
    with pytest.raises(Invalid, match="over already"):
        give(giver, user, offices.clinic, Role.USER, offices, until=0)
    row = give(giver, user, offices.clinic, Role.USER, offices, until=10 * DAY)
    assert row.until == NOW + 10 * DAY
    assert not actor_of_account(tx, user, Instant(NOW + 10 * DAY)).holdings


def test_who_may_give_a_grant_may_end_it_and_nobody_else(tx: Session, offices: Offices) -> None:
    county = offices.actor(Role.BUSINESS_ADMIN, offices.county)
    user = offices.opens(OPERATOR, offices.clinic)
    row = give(county, user, offices.clinic, Role.USER, offices)
    seen = [(one.id, whose.id, where.id) for one, whose, where in grants(tx, county, account=user.id, after=0, limit=9)]
    assert seen == [(row.id, user.id, offices.clinic.id)]
    other = offices.actor(Role.BUSINESS_ADMIN, offices.other_county)
    assert list(grants(tx, other, account=user.id, after=0, limit=9)) == []
    assert [one.id for one, _, _ in grants(tx, actor_of_account(tx, user, NOW), after=0, limit=9)] == [row.id]
    for actor, error in (
        (other, NotFound),
        (offices.actor(Role.SYSTEM_ADMIN, offices.county), PermissionDenied),
        (offices.actor(Role.USER, offices.clinic), NotFound),
        (actor_of_account(tx, user, NOW), PermissionDenied),
    ):
        with pytest.raises(error):
            end_grant(tx, actor, row.id, now=Instant(NOW + 1))
    end_grant(tx, county, row.id, now=Instant(NOW + 1))
    assert not actor_of_account(tx, user, Instant(NOW + 1)).holdings
    with pytest.raises(Conflict, match="ended"):
        end_grant(tx, county, row.id, now=Instant(NOW + 1))
    with pytest.raises(NotFound):
        end_grant(tx, county, 999_999, now=NOW)


def test_a_security_officer_is_given_by_the_provinces_system_administrator(tx: Session, offices: Offices) -> None:
    officer = offices.opens(OPERATOR, offices.province)
    with pytest.raises(PermissionDenied):
        give(
            offices.actor(Role.BUSINESS_ADMIN, offices.province),
            officer,
            offices.province,
            Role.SECURITY_OFFICER,
            offices,
        )
    admin = offices.actor(Role.SYSTEM_ADMIN, offices.province)
    give(admin, officer, offices.province, Role.SECURITY_OFFICER, offices)
    assert actor_of_account(tx, officer, NOW).may(Right.SECURITY, on=offices.county)
    with pytest.raises(Invalid, match="wasn't opened as the system administrator"):
        give(offices.actor(Role.SYSTEM_ADMIN, offices.nation), officer, offices.province, Role.SYSTEM_ADMIN, offices)


def test_a_reviewers_right_is_lent_with_dates_and_with_nothing_else(tx: Session, offices: Offices) -> None:
    absent, colleague = offices.account(Role.BUSINESS_ADMIN, offices.county), offices.opens(OPERATOR, offices.county)
    outsider = offices.opens(OPERATOR, offices.clinic)
    reviewer = actor_of_account(tx, absent, NOW)

    def lend(actor: Actor, whose: Account, to: Account, since: int = 1, until: int = 5) -> Substitution:
        return lend_review(
            tx,
            actor,
            absent=whose.id,
            substitute=to.id,
            since=Instant(NOW + since),
            until=Instant(NOW + until),
            now=NOW,
        )

    row = lend(reviewer, absent, colleague)
    reviews = [
        actor_of_account(tx, colleague, Instant(NOW + offset)).may(Right.REVIEW, on=offices.county)
        for offset in (0, 1, 4, 5)
    ]
    assert reviews == [False, True, True, False]
    lent = actor_of_account(tx, colleague, Instant(NOW + 1))
    assert not lent.may(Right.REVIEW, on=offices.clinic)
    assert lent.may(Right.SEE, on=offices.clinic)
    assert not any(lent.may(right, on=offices.county) for right in set(Right) - {Right.SEE, Right.REVIEW})
    assert [whose.id for _, whose, _ in substitutions(tx, lent, after=0, limit=9)] == [absent.id]
    absent.state = AccountState.CLOSED
    tx.flush()
    assert not actor_of_account(tx, colleague, Instant(NOW + 1)).holdings, "rights are read at the moment of decision"
    absent.state = AccountState.OPEN
    for whose, to, since, until in (
        (absent, outsider, 1, 5),
        (absent, absent, 1, 5),
        (absent, colleague, 5, 5),
        (absent, colleague, -5, 0),
    ):
        with pytest.raises(Invalid):
            lend(reviewer, whose, to, since, until)
    with pytest.raises(Invalid, match="may review nowhere"):
        lend(OPERATOR, colleague, absent)
    second = offices.actor(Role.BUSINESS_ADMIN, offices.county)
    with pytest.raises(PermissionDenied):
        lend(second, absent, colleague)
    with pytest.raises(NotFound):
        lend(offices.actor(Role.BUSINESS_ADMIN, offices.other_county), absent, colleague)
    with pytest.raises(PermissionDenied):
        end_substitution(tx, second, row.id, now=NOW)
    above = offices.actor(Role.BUSINESS_ADMIN, offices.province)
    by_above = lend(above, absent, colleague, 10, 20)
    end_substitution(tx, above, by_above.id, now=NOW)
    end_substitution(tx, reviewer, row.id, now=Instant(NOW + 2))
    assert not actor_of_account(tx, colleague, Instant(NOW + 2)).holdings
    with pytest.raises(Conflict):
        end_substitution(tx, reviewer, row.id, now=Instant(NOW + 3))
    with pytest.raises(NotFound):
        end_substitution(tx, reviewer, by_above.id, now=NOW)


UNITS = ("nation", "province", "other_province", "city", "county", "other_county", "clinic", "other_clinic")
ENDS = (None, 5, 10, 20)
held = st.tuples(st.sampled_from(list(Role)), st.sampled_from(UNITS), st.sampled_from(ENDS))
asked = st.tuples(st.sampled_from(UNITS), st.sampled_from(list(Role)), st.sampled_from(UNITS), st.sampled_from(ENDS))


@pytest.mark.long
@pytest.mark.req("UP-21")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(held=st.lists(held, min_size=1, max_size=3), asked=st.lists(asked, min_size=1, max_size=8))
def test_whatever_is_granted_the_giver_held_there_at_least_as_long(
    records: Records, held: list[tuple[Role, str, int | None]], asked: list[tuple[str, Role, str, int | None]]
) -> None:
    with records.write() as tx:
        offices = Offices(tx)
        giver = Account(username="giver", password_hash="x", unit_id=offices.county.id)
        tx.add(giver)
        tx.flush()
        for role, unit, until in held:
            end = None if until is None else Instant(NOW + until)
            tx.add(Grant(account_id=giver.id, unit_id=getattr(offices, unit).id, role=role, since=NOW, until=end))
        tx.flush()
        actor = actor_of_account(tx, giver, NOW)
        for home, role, unit, until in asked:
            place, end = getattr(offices, unit), None if until is None else Instant(NOW + until)
            account = Account(
                username=f"{tx.query(Account).count()}", password_hash="x", unit_id=getattr(offices, home).id
            )
            tx.add(account)
            tx.flush()
            try:
                row = give_grant(tx, actor, account.id, place, role, until=end, now=NOW)
            except DomainError:
                continue
            assert actor.may(Right.SEE, on=place)
            above = [one for one in givers_holdings(tx, actor, NOW) if place.path.startswith(one.path)]
            if role is Role.SECURITY_OFFICER:
                assert any(Right.ACCOUNTS in one.rights and one.path == place.path for one in above)
                continue
            lasting = [one for one in above if one.until is None or (row.until is not None and row.until <= one.until)]
            rights = frozenset[Right]().union(*(one.rights for one in lasting))
            office = RIGHTS_OF_LEVEL.get((role, place.level), frozenset())
            assert rights_of(role, place.level) - office <= rights
            assert Right.GRANT in rights
            assert not office or any(one.path != place.path and Right.GRANT in one.rights for one in lasting)
        tx.rollback()
