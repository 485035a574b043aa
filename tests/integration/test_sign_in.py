"""Signing in, and for how long a session serves."""

import pytest
from sqlalchemy import func, select

from core.access.accounts import create_account, set_password
from core.access.passwords import hash_password
from core.access.sessions import close_session, open_session, session_of
from core.access.sign_in import sign_in
from core.db.audit import Audit
from core.db.engine import Records
from core.errors import Invalid, NotFound, NotSignedIn, PermissionDenied
from core.runtime.instant import HOUR, Instant
from core.units.account_states import AccountState
from core.units.actor import OPERATOR, Actor
from core.units.rights import Right, Role
from core.units.tables import Account, Person, Unit, WebSession
from tests.fixtures.county import add_unit

NOW = Instant(1_700_000_000_000)
PASSWORD = "A long enough 1"


@pytest.fixture
def county(records: Records) -> Unit:
    hashed = hash_password("li", PASSWORD)
    with records.write() as tx:
        unit = add_unit(tx, "county")
        create_account(tx, OPERATOR, username="li", password_hash=hashed, unit=unit, role=Role.SYSTEM_ADMIN, now=NOW)
    return unit


def attempt(records: Records, password: str, now: int = NOW) -> str:
    return sign_in(records, "li", password, now=Instant(now), ttl=HOUR).token


def test_a_session_serves_until_it_ends(records: Records, county: Unit) -> None:
    opened = sign_in(records, "li", PASSWORD, now=NOW, ttl=HOUR)
    with records.write() as tx:
        inside = session_of(tx, opened.token, Instant(NOW + HOUR - 1))
        assert inside.actor.may(Right.ACCOUNTS, on=county)
        assert inside.csrf == opened.csrf
        assert opened.token.encode() not in tx.scalars(select(WebSession.token_hash)).one()
        for token, when in ((opened.token, NOW + HOUR), ("guessed", NOW), ("", NOW)):
            with pytest.raises(NotSignedIn):
                session_of(tx, token, Instant(when))
        close_session(tx, opened.token)
        close_session(tx, opened.token)
        with pytest.raises(NotSignedIn):
            session_of(tx, opened.token, NOW)


@pytest.mark.usefixtures("county")
def test_wrong_passwords_of_strangers_keep_nobody_out(records: Records) -> None:
    for _ in range(12):
        with pytest.raises(NotSignedIn):
            attempt(records, "wrong")
    assert attempt(records, PASSWORD)
    with records.read() as tx:
        acts = tx.scalars(select(Audit.act).order_by(Audit.id)).all()
    assert acts == ["account created", "role granted", "signed in"]


@pytest.mark.usefixtures("county")
def test_an_unknown_and_a_disabled_account_look_like_a_wrong_password(records: Records) -> None:
    with records.write() as tx:
        tx.scalars(select(Account)).one().state = AccountState.CLOSED
    texts = set()
    for username in ("li", "nobody", "a\0", "li\0", "\u202eil", "\ud800"):
        with pytest.raises(NotSignedIn) as refused:
            sign_in(records, username, PASSWORD, now=NOW, ttl=HOUR)
        texts.add(str(refused.value))
    assert len(texts) == 1


@pytest.mark.usefixtures("county")
def test_another_password_ends_all_sessions_and_not_everyone_may_set_it(records: Records) -> None:
    token = attempt(records, PASSWORD)
    other = hash_password("li", "Another long 2")
    with records.write() as tx:
        account = tx.scalars(select(Account)).one()
        with pytest.raises(NotFound):
            set_password(tx, Actor("account:77", ()), account, other, is_initial=False, now=NOW)
        with pytest.raises(PermissionDenied, match="own account"):
            set_password(tx, session_of(tx, token, NOW).actor, account, other, is_initial=False, now=NOW)
        set_password(tx, OPERATOR, account, other, is_initial=False, now=NOW)
        with pytest.raises(NotSignedIn):
            session_of(tx, token, NOW)
    with pytest.raises(NotSignedIn):
        attempt(records, PASSWORD)
    assert attempt(records, "Another long 2")


def test_a_session_of_a_person_ends_when_they_leave_and_old_ones_are_forgotten(records: Records, county: Unit) -> None:
    with records.write() as tx:
        person = Person(unit_id=county.id, name="Wang")
        tx.add(person)
        tx.flush()
        opened = open_session(tx, person=person.id, now=NOW, ttl=HOUR)
        assert session_of(tx, opened.token, NOW).actor.name == f"person:{person.id}"
        person.left_at = Instant(NOW + 5)
        with pytest.raises(NotSignedIn):
            session_of(tx, opened.token, Instant(NOW + 5))
        open_session(tx, person=person.id, now=Instant(NOW + HOUR), ttl=HOUR)
        assert tx.scalar(select(func.count()).select_from(WebSession)) == 1


@pytest.mark.parametrize(("username", "password"), [("li", "s3cr3t"), ("administrator", "Administrator")])
def test_a_poor_password_is_refused_without_being_repeated(username: str, password: str) -> None:
    with pytest.raises(Invalid) as refused:
        hash_password(username, password)
    assert password not in str(refused.value)
