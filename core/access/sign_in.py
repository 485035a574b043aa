"""Sign-in by user name and password, or by WeChat.

An unknown user name, a closed account and a wrong password get the same answer after the same time. Guesses never lock
an account, because a lock would let anybody keep others out; `api.sign_in_throttle` slows down repeated guesses
instead.
"""

from core.access.accounts import account_named
from core.access.passwords import dummy_hash, matches, rehashed
from core.access.sessions import OpenedSession, open_session
from core.db import audit
from core.db.engine import Records
from core.errors import NotSignedIn
from core.plain_text import is_plain
from core.runtime.instant import Instant, Milliseconds
from core.units.account_states import AccountState
from core.units.people import person_with_openid
from core.units.tables import Account


def sign_in(
    records: Records, username: str, password: str, *, now: Instant, ttl: Milliseconds, user_agent: str = ""
) -> OpenedSession:
    """Check user name and password, and open a session.

    Raises: NotSignedIn; an unknown user name gets the same answer as a wrong password, after the same time.
    """
    unknown = dummy_hash()
    stored = None
    if is_plain(username):  # PostgreSQL refuses text with a NUL character
        with records.read() as tx:
            row = account_named(tx, username)
            is_open = row is not None and row.state is AccountState.OPEN
            stored = (row.id, row.password_hash) if row is not None and is_open else None
    does_match = matches(stored[1] if stored else unknown, password)
    if stored is None or not does_match:
        raise _wrong_credentials()
    new_hash = rehashed(stored[1], password)
    with records.write() as tx:
        account = tx.get_one(Account, stored[0], with_for_update=True)
        if account.state is not AccountState.OPEN or account.password_hash != stored[1]:
            raise _wrong_credentials()
        account.password_hash = new_hash or account.password_hash
        audit.record(tx, at=now, actor=f"account:{account.id}", act="signed in", subject=f"account:{account.id}")
        return open_session(tx, account=account.id, now=now, ttl=ttl, user_agent=user_agent)


def sign_in_by_wechat(
    records: Records, openid: str, *, now: Instant, ttl: Milliseconds, user_agent: str = ""
) -> OpenedSession | None:
    """Open a session for the person whom WeChat has identified; None if nobody is bound to `openid`, or they left."""
    with records.write() as tx:
        person = person_with_openid(tx, openid)
        if person is None or (person.left_at is not None and person.left_at <= now):
            return None
        name = f"person:{person.id}"
        audit.record(tx, at=now, actor=name, act="signed in", subject=name)
        return open_session(tx, person=person.id, now=now, ttl=ttl, user_agent=user_agent)


def _wrong_credentials() -> NotSignedIn:
    return NotSignedIn("user name and password don't fit")
