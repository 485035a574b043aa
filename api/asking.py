"""Who asks, and the transaction in which they are answered: what routes take as arguments.

A browser shows its session cookie, a machine its bearer token. Whatever changes something on the strength of a cookie
must also carry the session's form token, which no other site can read.
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
    """A change doesn't carry the form token of the session: another site's, or a page of before one signed in again."""


class Asker(msgspec.Struct, frozen=True):
    """Who is asking. `csrf` and `expires_at` belong to a browser's session, and are empty for a machine."""

    actor: Actor
    csrf: str = ""
    expires_at: Instant | None = None

    @property
    def through(self) -> Through:
        """By which way the asker came: WeChat knows people, the web accounts and machines."""
        return "wechat" if self.actor.account is None and self.actor.person is not None else "web"


def parts_of(request: Request) -> Parts:
    """Return what the process works with."""
    parts: Parts = request.app.state.parts
    return parts


Using = Annotated[Parts, Depends(parts_of)]


def reading(parts: Using) -> Iterator[Session]:
    """Give a session of one moment that only reads."""
    with parts.records.read() as tx:
        yield tx


def writing(parts: Using) -> Iterator[Session]:
    """Give a transaction that is committed before the answer leaves, and taken back by any error."""
    with parts.records.write() as tx:
        yield tx


Reading = Annotated[Session, Depends(reading, scope="function")]
Writing = Annotated[Session, Depends(writing, scope="function")]


async def form_token(request: Request) -> str:
    """Return the form token that a changing request carries, in its header or in its form."""
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
    """Return who asks; None when nobody says who they are.

    Raises: NotSignedIn for a bearer token that doesn't serve, NotGranted for a change without the form token.
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
            found = session_of(tx, cookie, parts.clock.now())
    except NotSignedIn:
        return None
    asker = Asker(found.actor, found.csrf, found.expires_at)
    request.state.session = asker
    if request.method not in SAFE and not form_tokens.fits(given, found.csrf):
        msg = f"a change needs the session's token, in the header {CSRF_HEADER} or the form field csrf"
        raise FormExpired(msg)
    return asker


MaybeSignedIn = Annotated[Asker | None, Depends(maybe_signed_in)]


def signed_in(asker: MaybeSignedIn) -> Asker:
    """Return who asks.

    Raises: NotSignedIn.
    """
    if asker is None:
        msg = "sign in first"
        raise NotSignedIn(msg)
    return asker


SignedIn = Annotated[Asker, Depends(signed_in)]


async def take_turn(request: Request, parts: Using, asker: MaybeSignedIn) -> AsyncIterator[None]:
    """Let a request be worked on when it is its asker's turn; of routes that ask the stores.

    Raises: Busy.
    """
    name = asker.actor.name if asker else source_of(request.client.host if request.client else "")
    async with parts.slots.slot(name):
        yield


async def take_turn_to_sign_in(request: Request, parts: Using) -> AsyncIterator[None]:
    """Let few passwords be looked at at the same time: each takes 64 MiB.

    Raises: Busy.
    """
    async with parts.sign_in_slots.slot(source_of(request.client.host if request.client else "")):
        yield


TakesTurn = Depends(take_turn, scope="function")
TakesTurnToSignIn = Depends(take_turn_to_sign_in, scope="function")


def session_cookie(parts: Parts) -> str:
    """Return the cookie's name; behind TLS the browser itself then keeps it to this host and to https."""
    return "__Host-cc_session" if parts.behind_tls else "cc_session"


def keep_session(answer: Response, parts: Parts, opened: Opened) -> None:
    """Give the browser its session: out of reach of scripts, and not sent along by other sites."""
    answer.set_cookie(
        session_cookie(parts),
        opened.token,
        max_age=int(parts.settings.api.session),
        httponly=True,
        samesite="lax",
        secure=parts.behind_tls,
    )


def forget_session(answer: Response, parts: Parts) -> None:
    """Take the session from the browser."""
    answer.delete_cookie(session_cookie(parts), httponly=True, samesite="lax", secure=parts.behind_tls)


def unit_seen(tx: Session, actor: Actor, unit: UnitId) -> Unit:
    """Return a unit that the asker may see.

    Raises: NotFound, also when it is not the asker's to see.
    """
    found = tx.get(Unit, unit)
    if found is None or not actor.may(Right.SEE, on=found):
        raise NotFound(what="unit", name=unit)
    return found


def may_see(actor: Actor) -> MaySee:
    """Return whether the asker may see an equipment while it is in a unit."""
    return lambda unit, equipment: actor.may(Right.SEE, on=unit, equipment=equipment)
