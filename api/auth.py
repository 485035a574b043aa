"""Authentication and transactions: the dependencies that routes take as arguments.

A browser sends its session cookie, a machine its bearer token. A change that is authorised by a cookie must also carry
the session's form token, which no other site can read.
"""

from collections.abc import AsyncIterator
from http import HTTPMethod
from typing import Annotated

import msgspec
from fastapi import Depends, Request
from fastapi.security.utils import get_authorization_scheme_param

from api import csrf_tokens
from api.app_context import AppContextDep
from api.pages.forms import keep_written
from api.session_cookie import session_cookie
from api.sign_in_throttle import source_of
from core.access.password_policy import is_expired
from core.access.sessions import session_of
from core.access.tokens import actor_of_token
from core.alarms.states import ActedThrough
from core.devices.zone_history import VisibilityCheck
from core.errors import NotSignedIn, PermissionDenied
from core.runtime.instant import Instant, Milliseconds
from core.units.actor import Actor
from core.units.rights import Right

SAFE = (HTTPMethod.GET, HTTPMethod.HEAD)
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
CSRF_HEADER = "x-csrf-token"


class FormExpired(PermissionDenied):
    """Error: a change without the session's form token, from another site or from a page of an earlier session."""


class PasswordExpired(PermissionDenied):
    """Error: the password is an initial one, or too old. It must be changed before anything else."""


class Principal(msgspec.Struct, frozen=True):
    """Authenticated principal. `csrf` and `expires_at` belong to a browser's session, and are empty for a machine."""

    actor: Actor
    csrf: str = ""
    expires_at: Instant | None = None
    must_change_password: bool = False

    @property
    def through(self) -> ActedThrough:
        """Way by which the principal came: WeChat identifies persons, the web accounts and machines."""
        is_linked = self.actor.account is None and self.actor.person is not None
        return ActedThrough.WECHAT if is_linked else ActedThrough.WEB


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


def session_principal(request: Request, context: AppContextDep, given: FormToken) -> Principal | None:
    """Return the principal, also one whose password has expired; None for a request without credentials.

    Raises: NotSignedIn for an invalid bearer token, PermissionDenied for a change without the form token.
    """
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    if scheme.lower() == "bearer":
        with context.records.read() as tx:
            return Principal(actor_of_token(tx, token, context.clock.now()))
    cookie = request.cookies.get(session_cookie(context))
    if not cookie:
        return None
    try:
        with context.records.read() as tx:
            session = session_of(tx, cookie, context.clock.now())
    except NotSignedIn:
        return None
    age = Milliseconds(int(context.settings.api.password_ttl * 1000))
    must_change = session.actor.account is not None and is_expired(session.password_set_at, context.clock.now(), age)
    principal = Principal(session.actor, session.csrf, session.expires_at, must_change)
    request.state.session = principal
    if request.method not in SAFE and not csrf_tokens.fits(given, session.csrf):
        msg = f"a change needs the session's token, in the header {CSRF_HEADER} or the form field csrf"
        raise FormExpired(msg)
    return principal


SessionPrincipal = Annotated[Principal | None, Depends(session_principal)]


def optional_principal(principal: SessionPrincipal) -> Principal | None:
    """Return the principal; None for a request without credentials, and for one whose password has expired."""
    return None if principal is None or principal.must_change_password else principal


OptionalPrincipal = Annotated[Principal | None, Depends(optional_principal)]


def signed_in_principal(principal: SessionPrincipal) -> Principal:
    """Return the principal, also one whose password has expired: for changing it, and for signing out.

    Raises: NotSignedIn.
    """
    if principal is None:
        msg = "sign in first"
        raise NotSignedIn(msg)
    return principal


SignedInPrincipal = Annotated[Principal, Depends(signed_in_principal)]


def current_principal(principal: SignedInPrincipal) -> Principal:
    """Return the principal.

    Raises: NotSignedIn, PasswordExpired.
    """
    if principal.must_change_password:
        msg = "the password must be changed first: POST /api/v1/session/password, or the page /password"
        raise PasswordExpired(msg)
    return principal


CurrentPrincipal = Annotated[Principal, Depends(current_principal)]


async def limit_concurrency(
    request: Request, context: AppContextDep, principal: OptionalPrincipal
) -> AsyncIterator[None]:
    """Wait until the principal may have a slot; for routes that query the stores.

    Raises: TooBusy.
    """
    name = principal.actor.name if principal else source_of(request.client.host if request.client else "")
    async with context.slots.slot(name):
        yield


async def limit_sign_in_concurrency(request: Request, context: AppContextDep) -> AsyncIterator[None]:
    """Wait for one of the few slots in which passwords are checked: each check takes 64 MiB.

    Raises: TooBusy.
    """
    async with context.sign_in_slots.slot(source_of(request.client.host if request.client else "")):
        yield


ConcurrencyLimited = Depends(limit_concurrency, scope="function")
SignInConcurrencyLimited = Depends(limit_sign_in_concurrency, scope="function")


def visibility_of(actor: Actor) -> VisibilityCheck:
    """Return the check whether the actor may see an equipment while it is in a unit."""
    return lambda unit, equipment: actor.may(Right.SEE, on=unit, equipment=equipment)
