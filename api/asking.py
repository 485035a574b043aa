"""Authentication and transactions: the dependencies that routes take as arguments.

A browser sends its session cookie, a machine its bearer token. A change that is authorised by a cookie must also carry
the session's form token, which no other site can read.
"""

from collections.abc import AsyncIterator, Iterator
from http import HTTPMethod
from typing import Annotated

import msgspec
from fastapi import Depends, Request, Response
from fastapi.security.utils import get_authorization_scheme_param
from sqlalchemy.orm import Session

from api import form_tokens
from api.pages.forms import keep_written
from api.parts import Parts
from api.throttle import source_of
from core.alarms.handling import Through
from core.devices.history import MaySee
from core.errors import NotFound, NotGranted, NotSignedIn
from core.ids import UnitId
from core.runtime.instant import Instant
from core.units.actor import Actor
from core.units.rights import Right
from core.units.sessions import Opened, session_of
from core.units.tables import Unit
from core.units.tokens import actor_of_token

SAFE = (HTTPMethod.GET, HTTPMethod.HEAD)
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
CSRF_HEADER = "x-csrf-token"


class FormExpired(NotGranted):
    """Error: a change without the session's form token, from another site or from a page of an earlier session."""


class Asker(msgspec.Struct, frozen=True):
    """Authenticated principal. `csrf` and `expires_at` belong to a browser's session, and are empty for a machine."""

    actor: Actor
    csrf: str = ""
    expires_at: Instant | None = None

    @property
    def through(self) -> Through:
        """Way by which the principal came: WeChat identifies persons, the web accounts and machines."""
        return "wechat" if self.actor.account is None and self.actor.person is not None else "web"


def parts_of(request: Request) -> Parts:
    """Return the process's services."""
    parts: Parts = request.app.state.parts
    return parts


Using = Annotated[Parts, Depends(parts_of)]


def reading(parts: Using) -> Iterator[Session]:
    """Yield a read-only session that sees one moment."""
    with parts.records.read() as tx:
        yield tx


def writing(parts: Using) -> Iterator[Session]:
    """Yield a transaction that is committed before the answer is sent, and rolled back by any error."""
    with parts.records.write() as tx:
        yield tx


Reading = Annotated[Session, Depends(reading, scope="function")]
Writing = Annotated[Session, Depends(writing, scope="function")]


async def form_token(request: Request) -> str:
    """Return the form token of a changing request, from its header or its form."""
    if request.method in SAFE:
        return ""
    given = request.headers.get(CSRF_HEADER, "")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() in FORMS:
        form = await request.form()
        keep_written(request, form)
        given = given or str(form.get("csrf", ""))
    return given


FormToken = Annotated[str, Depends(form_token)]


def maybe_signed_in(request: Request, parts: Using, given: FormToken) -> Asker | None:
    """Return the principal; None for a request without credentials.

    Raises: NotSignedIn for an invalid bearer token, NotGranted for a change without the form token.
    """
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    if scheme.lower() == "bearer":
        with parts.records.read() as tx:
            return Asker(actor_of_token(tx, token, parts.clock.now()))
    cookie = request.cookies.get(session_cookie(parts))
    if not cookie:
        return None
    try:
        with parts.records.read() as tx:
            session = session_of(tx, cookie, parts.clock.now())
    except NotSignedIn:
        return None
    asker = Asker(session.actor, session.csrf, session.expires_at)
    request.state.session = asker
    if request.method not in SAFE and not form_tokens.fits(given, session.csrf):
        msg = f"a change needs the session's token, in the header {CSRF_HEADER} or the form field csrf"
        raise FormExpired(msg)
    return asker


MaybeSignedIn = Annotated[Asker | None, Depends(maybe_signed_in)]


def signed_in(asker: MaybeSignedIn) -> Asker:
    """Return the principal.

    Raises: NotSignedIn.
    """
    if asker is None:
        msg = "sign in first"
        raise NotSignedIn(msg)
    return asker


SignedIn = Annotated[Asker, Depends(signed_in)]


async def take_turn(request: Request, parts: Using, asker: MaybeSignedIn) -> AsyncIterator[None]:
    """Wait until the principal may have a slot; for routes that query the stores.

    Raises: Busy.
    """
    name = asker.actor.name if asker else source_of(request.client.host if request.client else "")
    async with parts.slots.slot(name):
        yield


async def take_turn_to_sign_in(request: Request, parts: Using) -> AsyncIterator[None]:
    """Wait for one of the few slots in which passwords are checked: each check takes 64 MiB.

    Raises: Busy.
    """
    async with parts.sign_in_slots.slot(source_of(request.client.host if request.client else "")):
        yield


TakesTurn = Depends(take_turn, scope="function")
TakesTurnToSignIn = Depends(take_turn_to_sign_in, scope="function")


def session_cookie(parts: Parts) -> str:
    """Return the cookie's name; behind TLS the name makes the browser keep it to this host and to https."""
    return "__Host-cc_session" if parts.behind_tls else "cc_session"


def keep_session(answer: Response, parts: Parts, opened: Opened) -> None:
    """Set the session cookie: scripts can't read it, and other sites don't send it along."""
    answer.set_cookie(
        session_cookie(parts),
        opened.token,
        max_age=int(parts.settings.api.session),
        httponly=True,
        samesite="lax",
        secure=parts.behind_tls,
    )


def forget_session(answer: Response, parts: Parts) -> None:
    """Delete the session cookie."""
    answer.delete_cookie(session_cookie(parts), httponly=True, samesite="lax", secure=parts.behind_tls)


def unit_seen(tx: Session, actor: Actor, unit: UnitId) -> Unit:
    """Return a unit that the principal may see.

    Raises: NotFound, also for a unit that they may not see.
    """
    row = tx.get(Unit, unit)
    if row is None or not actor.may(Right.SEE, on=row):
        raise NotFound(what="unit", name=unit)
    return row


def may_see(actor: Actor) -> MaySee:
    """Return the check whether the actor may see an equipment while it is in a unit."""
    return lambda unit, equipment: actor.may(Right.SEE, on=unit, equipment=equipment)
