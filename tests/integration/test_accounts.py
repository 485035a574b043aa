"""Accounts of named persons: who opens, closes and resets whose, and what is listed of them; on both databases."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.access import account_lists
from core.access.account_history import history_of
from core.access.accounts import close_account, create_account, reopen_account, reset_account
from core.access.actors import actor_of_account
from core.access.designated_managers import designate, designated_manager, units_without_manager
from core.access.grants import give_grant
from core.access.management import visible_account
from core.access.misuse import incidents, is_late, report_misuse
from core.access.new_cdcs import NewAdministrator, add_unit_with_administrator
from core.access.password_policy import REMEMBERED_PASSWORDS
from core.access.passwords import PasswordHash, change_own_password, hash_password, used_passwords
from core.access.sessions import end_own_session, open_session, session_of, sessions_of
from core.access.sign_in import sign_in
from core.db.engine import Records
from core.errors import Conflict, Invalid, NotFound, NotSignedIn, PermissionDenied
from core.ids import AccountId
from core.runtime.instant import DAY, HOUR, Instant
from core.units.account_states import AccountEventKind, AccountState
from core.units.actor import OPERATOR, Actor
from core.units.named_persons import opened_identity
from core.units.people import opened_phone
from core.units.rights import Right, Role
from core.units.tables import Account, Person, Unit
from core.units.tree import UnitParticulars
from core.units.unit_levels import Level, UnitKind
from tests.fixtures.offices import CIPHER, HASH, NOW, Offices, identity

LATER = Instant(NOW + HOUR)


@pytest.fixture
def tx(records: Records) -> Iterator[Session]:
    with records.write() as session:
        yield session


@pytest.fixture
def offices(tx: Session) -> Offices:
    return Offices(tx)


@pytest.mark.req("UP-02", "UP-04")
def test_a_new_cdc_from_the_county_up_gets_its_administrator_from_the_unit_above(tx: Session, offices: Offices) -> None:
    above = offices.actor(Role.SYSTEM_ADMIN, offices.province)

    def add(level: Level, kind: UnitKind, administrator: NewAdministrator | None, parent: Unit) -> Account | None:
        wish = UnitParticulars(name=f"新{level.value}", kind=kind, level=level)
        return add_unit_with_administrator(
            tx, above, wish, parent=parent, administrator=administrator, password_hash=HASH, cipher=CIPHER, now=NOW
        )[1]

    named = NewAdministrator(username="new-admin", name="赵敏", identity=identity(900), phone="13800000001")
    account = add(Level.COUNTY, UnitKind.CDC, named, offices.province)
    assert account is not None
    assert account.account_type is Role.SYSTEM_ADMIN
    county = tx.get_one(Unit, account.unit_id)
    assert actor_of_account(tx, account, NOW).may(Right.ACCOUNTS, on=county)
    assert tx.get_one(Person, account.person_id).name == "赵敏"
    for level, kind, administrator in (
        (Level.COUNTY, UnitKind.CDC, None),
        (Level.TOWNSHIP, UnitKind.POV, named),
        (Level.TOWNSHIP, UnitKind.CDC, named),
    ):
        with pytest.raises(Invalid, match="administrator"):
            add(level, kind, administrator, county)
    own = actor_of_account(tx, account, NOW)
    second = offices.actor(Role.SYSTEM_ADMIN, county)
    for refused in (second, offices.actor(Role.BUSINESS_ADMIN, offices.province)):
        with pytest.raises(PermissionDenied):
            reset_account(tx, refused, account.id, HASH, now=NOW)
        with pytest.raises(PermissionDenied):
            close_account(tx, refused, account.id, now=NOW)
    with pytest.raises(PermissionDenied, match="own account"):
        reset_account(tx, own, account.id, HASH, now=NOW)
    assert reset_account(tx, above, account.id, HASH, now=LATER).password_set_at is None
    assert close_account(tx, above, account.id, now=LATER).state is AccountState.CLOSED


@pytest.mark.req("UP-03", "UP-04", "UP-19")
def test_who_opens_whose_account_follows_from_the_unit_and_the_type(tx: Session, offices: Offices) -> None:
    of_county = offices.actor(Role.SYSTEM_ADMIN, offices.county)
    of_province = offices.actor(Role.SYSTEM_ADMIN, offices.province)
    assert offices.opens(of_county, offices.county, Role.BUSINESS_ADMIN).account_type is Role.BUSINESS_ADMIN
    assert offices.opens(of_county, offices.clinic, Role.BUSINESS_ADMIN).unit_id == offices.clinic.id
    offices.opens(of_province, offices.county, Role.SYSTEM_ADMIN)
    refusals = (
        (of_county, offices.county, Role.SYSTEM_ADMIN, PermissionDenied),
        (of_county, offices.clinic, Role.SYSTEM_ADMIN, Invalid),
        (of_county, offices.other_county, Role.BUSINESS_ADMIN, NotFound),
        (of_county, offices.province, Role.USER, NotFound),
        (of_province, offices.county, Role.BUSINESS_ADMIN, PermissionDenied),
        (of_province, offices.clinic, Role.USER, PermissionDenied),
        (offices.actor(Role.BUSINESS_ADMIN, offices.county), offices.clinic, Role.USER, PermissionDenied),
        (offices.actor(Role.USER, offices.county), offices.county, Role.USER, PermissionDenied),
        (offices.actor(Role.SYSTEM_ADMIN, offices.city), offices.county, Role.USER, NotFound),
    )
    for actor, unit, role, error in refusals:
        with pytest.raises(error) as refused:
            offices.opens(actor, unit, role)
        if error is NotFound:
            assert unit.name not in str(refused.value)
    with pytest.raises(NotFound):
        create_account(tx, of_county, username="both", password_hash=HASH, unit=offices.county, role=Role.USER, now=NOW)


@pytest.mark.req("UP-03")
def test_only_the_managing_unit_closes_reopens_and_resets(tx: Session, offices: Offices) -> None:
    of_county = offices.actor(Role.SYSTEM_ADMIN, offices.county)
    account = offices.opens(of_county, offices.clinic)
    hidden = [offices.actor(Role.SYSTEM_ADMIN, offices.other_county), offices.actor(Role.USER, offices.clinic)]
    denied = [offices.actor(Role.SYSTEM_ADMIN, offices.province), offices.actor(Role.BUSINESS_ADMIN, offices.county)]
    for actors, error in ((hidden, NotFound), (denied, PermissionDenied)):
        for actor in actors:
            with pytest.raises(error):
                close_account(tx, actor, account.id, now=NOW)
            with pytest.raises(error):
                reset_account(tx, actor, account.id, HASH, now=NOW)
    with pytest.raises(NotFound):
        close_account(tx, OPERATOR, AccountId(999_999), now=NOW)
    with pytest.raises(Conflict, match="isn't closed"):
        reopen_account(tx, of_county, account.id, HASH, now=NOW)
    opened = open_session(tx, account=account.id, now=NOW, ttl=HOUR)
    close_account(tx, of_county, account.id, now=NOW)
    with pytest.raises(NotSignedIn):
        session_of(tx, opened.token, NOW)
    for act in (close_account, lambda *given, now: reset_account(*given, HASH, now=now)):
        with pytest.raises(Conflict, match="closed"):
            act(tx, of_county, account.id, now=NOW)
    with pytest.raises(Conflict, match="take another user name"):
        offices.opens(of_county, offices.clinic, username=account.username)
    assert reopen_account(tx, of_county, account.id, HASH, now=LATER).state is AccountState.OPEN


@pytest.mark.req("UP-23")
def test_an_account_that_was_only_opened_sees_nothing_until_it_is_granted_something(
    tx: Session, offices: Offices
) -> None:
    account = offices.opens(offices.actor(Role.SYSTEM_ADMIN, offices.county), offices.county)
    assert actor_of_account(tx, account, NOW).holdings == ()
    business_admin = offices.actor(Role.BUSINESS_ADMIN, offices.county)
    give_grant(tx, business_admin, account.id, offices.clinic, Role.USER, now=NOW)
    actor = actor_of_account(tx, account, NOW)
    assert actor.may(Right.ACKNOWLEDGE, on=offices.clinic)
    assert not actor.may(Right.SEE, on=offices.county)


@pytest.mark.req("UP-06")
def test_a_person_has_a_sealed_identity_and_a_duplicate_is_flagged_and_not_told(tx: Session, offices: Offices) -> None:
    admin = offices.actor(Role.SYSTEM_ADMIN, offices.county)
    first = offices.opens(admin, offices.county, number=1)
    person = tx.get_one(Person, first.person_id)
    number = identity(1).number
    assert number.encode() not in (person.identity or b"")
    found = opened_identity(person, CIPHER)
    assert found is not None
    assert found.number == number
    assert opened_phone(person, CIPHER) == "13812340002"
    assert not account_lists.listed_account(tx, first).has_duplicate_identity
    again = offices.opens(admin, offices.county, number=1)
    assert again.person_id == first.person_id, "the same person of the same unit"
    with pytest.raises(Conflict, match="another name"):
        offices.opens(admin, offices.county, number=1, name="李强")
    elsewhere = offices.opens(offices.actor(Role.SYSTEM_ADMIN, offices.other_county), offices.other_county, number=1)
    assert account_lists.listed_account(tx, elsewhere).has_duplicate_identity
    assert account_lists.listed_account(tx, first).has_duplicate_identity
    listed = account_lists.people(tx, admin, after=0, limit=100)
    assert [(one.person.id, one.has_duplicate_identity) for one in listed] == [(person.id, True)]
    for wrong in (
        {"name": "值班账号"},
        {"name": "甲县"},
    ):
        with pytest.raises(Invalid):
            offices.opens(admin, offices.county, **wrong)  # type: ignore[arg-type]


def test_two_people_of_a_unit_may_have_one_name_and_a_contact_that_is_known_gets_its_document(
    tx: Session, offices: Offices
) -> None:
    admin = offices.actor(Role.SYSTEM_ADMIN, offices.county)
    accounts = [offices.opens(admin, offices.county, number=number) for number in (1, 2)]
    people = tx.scalars(select(Person).where(Person.unit_id == offices.county.id).order_by(Person.id)).all()
    assert [person.name for person in people] == ["王芳", "王芳"]
    assert [account.person_id for account in accounts] == [person.id for person in people]
    people[0].identity = people[0].identity_index = None
    index = people[0].phone_index
    people[0].phone_index = CIPHER.index("13812349999", field="person.phone")
    tx.flush()
    third = offices.opens(admin, offices.county, number=3)
    assert third.person_id not in {person.id for person in people}
    people[0].phone_index = index
    assert tx.get_one(Person, accounts[0].person_id).identity is None


@pytest.mark.req("UP-09")
def test_the_user_list_has_closed_accounts_and_all_that_happened(tx: Session, offices: Offices) -> None:
    admin = offices.actor(Role.SYSTEM_ADMIN, offices.county)
    business_admin = offices.actor(Role.BUSINESS_ADMIN, offices.county)
    account = offices.opens(admin, offices.clinic)
    give_grant(tx, business_admin, account.id, offices.clinic, Role.USER, now=Instant(NOW + 1))
    close_account(tx, admin, account.id, now=Instant(NOW + 2))
    listed = account_lists.accounts(tx, admin, unit=offices.clinic.id, after=0, limit=10)
    assert [(one.account.username, one.account.state, one.person and one.person.name) for one in listed] == [
        (account.username, AccountState.CLOSED, "王芳")
    ]
    events = [(event.at - NOW, event.kind, event.actor, event.role) for event in history_of(tx, account.id)]
    assert events == [
        (0, AccountEventKind.OPENED, admin.name, Role.USER),
        (1, AccountEventKind.GRANTED, business_admin.name, Role.USER),
        (2, AccountEventKind.CLOSED, admin.name, None),
    ]
    below = account_lists.accounts(tx, admin, unit=offices.county.id, below=True, after=0, limit=10)
    assert account.id in {one.account.id for one in below}
    assert account.id not in {
        one.account.id for one in account_lists.accounts(tx, admin, unit=offices.county.id, after=0, limit=10)
    }
    paged = [one.account.id for one in account_lists.accounts(tx, admin, after=below[0].account.id, limit=1)]
    assert paged == [below[1].account.id]
    for blind, error in (
        (offices.actor(Role.USER, offices.clinic), PermissionDenied),
        (offices.actor(Role.SYSTEM_ADMIN, offices.other_county), NotFound),
    ):
        with pytest.raises(error):
            account_lists.accounts(tx, blind, unit=offices.clinic.id, after=0, limit=10)


@pytest.mark.req("UP-28")
def test_business_administrators_of_provinces_are_listed_for_filing_upward(tx: Session, offices: Offices) -> None:
    account = offices.opens(offices.actor(Role.SYSTEM_ADMIN, offices.province), offices.province, Role.BUSINESS_ADMIN)
    offices.account(Role.BUSINESS_ADMIN, offices.county)
    beside = offices.account(Role.BUSINESS_ADMIN, offices.other_province)
    nation = offices.actor(Role.BUSINESS_ADMIN, offices.nation)
    assert [one.account.id for one in account_lists.province_administrators(tx, nation, NOW)] == [beside.id]
    give_grant(tx, nation, account.id, offices.province, Role.BUSINESS_ADMIN, now=NOW)
    found = account_lists.province_administrators(tx, nation, NOW)
    assert [(one.account.id, one.unit.name, one.person and one.person.name) for one in found] == [
        (account.id, "某省", "王芳"),
        (beside.id, "邻省", None),
    ]
    own = actor_of_account(tx, account, NOW)
    assert [one.account.id for one in account_lists.province_administrators(tx, own, NOW)] == [account.id]
    beside.state = AccountState.CLOSED
    assert [one.account.id for one in account_lists.province_administrators(tx, nation, NOW)] == [account.id]


@pytest.mark.req("UP-05")
def test_a_unit_without_a_designated_manager_is_listed(tx: Session, offices: Offices) -> None:
    county = offices.county
    admin = offices.actor(Role.BUSINESS_ADMIN, county)
    people = [
        tx.get_one(Person, offices.opens(offices.actor(Role.SYSTEM_ADMIN, county), county).person_id) for _ in range(2)
    ]

    def missing() -> list[str]:
        return [unit.name for unit in units_without_manager(tx, admin, LATER, after=0, limit=10)]

    assert missing() == ["甲县", "甲镇"]
    assert designate(tx, admin, county.id, people[0].id, now=NOW).person.name == "王芳"
    assert designate(tx, admin, county.id, people[0].id, now=NOW).since == NOW
    assert missing() == ["甲镇"]
    designate(tx, admin, county.id, people[1].id, now=LATER)
    found = designated_manager(tx, admin, county.id, LATER)
    assert found is not None
    assert (found.person.id, found.since) == (people[1].id, LATER)
    people[1].left_at = LATER
    assert missing() == ["甲县", "甲镇"]
    with pytest.raises(Invalid, match="nobody who works"):
        designate(tx, admin, offices.clinic.id, people[0].id, now=LATER)
    people[0].phone = None
    with pytest.raises(Invalid, match="phone"):
        designate(tx, admin, county.id, people[0].id, now=LATER)
    with pytest.raises(PermissionDenied):
        designate(tx, offices.actor(Role.USER, county), county.id, people[0].id, now=LATER)
    with pytest.raises(NotFound):
        designated_manager(tx, admin, offices.other_county.id, NOW)


@pytest.mark.req("SE-09")
def test_a_misused_account_is_locked_until_its_managing_unit_gives_it_a_new_password(
    tx: Session, offices: Offices
) -> None:
    admin = offices.actor(Role.SYSTEM_ADMIN, offices.county)
    account = offices.opens(admin, offices.clinic)
    tokens = [open_session(tx, account=account.id, now=NOW, ttl=HOUR).token for _ in range(2)]
    incident = report_misuse(tx, session_of(tx, tokens[0], NOW).actor, now=NOW)
    assert (account.state, incident.due_at - incident.opened_at) == (AccountState.LOCKED, 2 * HOUR)
    for token in tokens:
        with pytest.raises(NotSignedIn):
            session_of(tx, token, NOW)
    with pytest.raises(NotSignedIn):
        actor_of_account(tx, account, NOW)
    with pytest.raises(PermissionDenied):
        reset_account(tx, offices.actor(Role.BUSINESS_ADMIN, offices.county), account.id, HASH, now=NOW)
    assert not is_late(incident, Instant(NOW + 2 * HOUR))
    assert is_late(incident, Instant(NOW + 2 * HOUR + 1))
    reset_account(tx, admin, account.id, PasswordHash("another"), now=LATER)
    assert (account.state, account.password_set_at) == (AccountState.OPEN, None)
    ((listed, whose, where),) = incidents(tx, admin, after=0, limit=10)
    assert (listed.resolved_at, listed.resolved_by, whose.id, where.id) == (
        LATER,
        admin.name,
        account.id,
        offices.clinic.id,
    )
    assert not is_late(listed, Instant(NOW + DAY))
    assert incidents(tx, offices.actor(Role.SYSTEM_ADMIN, offices.other_county), after=0, limit=10) == []
    with pytest.raises(PermissionDenied):
        report_misuse(tx, Actor("token:1", ()), now=NOW)


@pytest.mark.long
@pytest.mark.req("SE-02")
def test_the_last_five_passwords_cannot_be_chosen_again(records: Records) -> None:
    passwords = [f"Long enough {number}" for number in range(7)]
    with records.write() as tx:
        unit = Offices(tx).county
        account = create_account(
            tx,
            OPERATOR,
            username="wang",
            password_hash=hash_password("wang", passwords[0]),
            unit=unit,
            role=Role.USER,
            now=NOW,
        )
        actor = actor_of_account(tx, account, NOW)

    def change(old: str, new: str) -> None:
        change_own_password(records, actor, old, new, now=LATER, ttl=HOUR)

    token = sign_in(records, "wang", passwords[0], now=NOW, ttl=HOUR).token
    for old, new in pairwise(passwords[:5]):
        change(old, new)
    for used in passwords[:5]:
        with pytest.raises(Invalid, match="last 5 passwords"):
            change(passwords[4], used)
    with pytest.raises(Invalid, match="present password"):
        change("Guessed it 1", passwords[5])
    change(passwords[4], passwords[5])
    change(passwords[5], passwords[0])
    with records.read() as tx:
        assert len(used_passwords(tx, AccountId(1))) == REMEMBERED_PASSWORDS
        with pytest.raises(NotSignedIn):
            session_of(tx, token, LATER)
        assert tx.get_one(Account, 1).password_set_at == LATER
    with pytest.raises(NotSignedIn):
        change_own_password(records, Actor("person:1", ()), "a", "b", now=NOW, ttl=HOUR)


def test_sessions_are_listed_and_ended_by_their_owner_alone(tx: Session, offices: Offices) -> None:
    mine, others = offices.account(Role.USER, offices.county), offices.account(Role.USER, offices.county)
    here = open_session(tx, account=mine.id, now=NOW, ttl=DAY, user_agent="Firefox\n" + "x" * 300)
    there = open_session(tx, account=mine.id, now=LATER, ttl=DAY)
    foreign = open_session(tx, account=others.id, now=NOW, ttl=DAY)
    actor = actor_of_account(tx, mine, NOW)
    listed = sessions_of(tx, actor, here.token, NOW)
    assert [(one.created_at, one.is_current, one.user_agent[:8]) for one in listed] == [
        (LATER, False, ""),
        (NOW, True, "Firefoxx"),
    ]
    assert not any(one.id in here.token for one in listed)
    (foreign_id,) = [one.id for one in sessions_of(tx, actor_of_account(tx, others, NOW), "", NOW)]
    with pytest.raises(NotFound):
        end_own_session(tx, actor, foreign_id)
    end_own_session(tx, actor, listed[0].id)
    with pytest.raises(NotSignedIn):
        session_of(tx, there.token, LATER)
    assert session_of(tx, foreign.token, NOW).actor.account == others.id
    assert sessions_of(tx, Actor("token:1", ()), "", NOW) == []


def test_whoever_neither_manages_nor_grants_finds_their_own_account_only(tx: Session, offices: Offices) -> None:
    mine, others = offices.account(Role.USER, offices.county), offices.account(Role.USER, offices.county)
    actor = actor_of_account(tx, mine, NOW)
    assert visible_account(tx, actor, mine.id).id == mine.id
    with pytest.raises(NotFound):
        visible_account(tx, actor, others.id)
