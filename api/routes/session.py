"""Sessions: signing in and out, and the signed-in principal."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, SecretStr

from api.app_context import AppContext, AppContextDep
from api.auth import CurrentPrincipal, SignInConcurrencyLimited, current_principal
from api.schemas import Moment, Schema
from api.session_cookie import forget_session, keep_session, session_cookie
from api.sign_in_throttle import TooManyAttempts, source_of
from core.access import accounts
from core.access.sessions import OpenedSession, close_session
from core.devices.queries import own_equipment
from core.ids import EquipmentId, UnitId
from core.runtime.instant import Milliseconds
from core.units.queries import granted_units

router = APIRouter(prefix="/session", tags=["session"])


class SignIn(Schema):
    """An account's name and password."""

    username: Annotated[str, Field(max_length=50)]
    password: Annotated[SecretStr, Field(max_length=200)]


class SessionOut(Schema):
    """A session that was opened. Send `csrf` in the header `X-CSRF-Token` with every change."""

    csrf: str
    expires_at: Moment


class UnitRights(Schema):
    """A unit on which, and below which, something is granted."""

    id: UnitId
    name: str
    rights: Sequence[str]


class EquipmentRights(Schema):
    """A single equipment with a grant of its own, though its unit has none: the principal is one of its contacts."""

    id: EquipmentId
    name: str
    unit_name: str
    rights: Sequence[str]


class WhoAmI(Schema):
    """The signed-in principal and their rights. `csrf` is empty for a machine."""

    name: str
    csrf: str
    expires_at: Moment | None
    units: Sequence[UnitRights]
    equipment: Sequence[EquipmentRights]


@router.post("", status_code=201, dependencies=[SignInConcurrencyLimited])
def sign_in(body: SignIn, request: Request, answer: Response, context: AppContextDep) -> SessionOut:
    """Sign in; the session is in the cookie.

    After five wrong passwords for a name, each further one doubles the time for which its sender has to wait.
    """
    opened = open_session(request, context, body.username, body.password.get_secret_value())
    keep_session(answer, context, opened)
    return SessionOut(csrf=opened.csrf, expires_at=opened.expires_at)


@router.get("")
def who_am_i(principal: CurrentPrincipal, context: AppContextDep) -> WhoAmI:
    """Return who is signed in and what they may do where."""
    actor = principal.actor
    with context.records.read() as tx:
        units = [
            UnitRights(id=unit.id, name=unit.name, rights=sorted(rights)) for unit, rights in granted_units(tx, actor)
        ]
        equipment = [
            EquipmentRights(id=item.id, name=item.name, unit_name=unit.name, rights=sorted(rights))
            for item, unit, rights in own_equipment(tx, actor)
        ]
    return WhoAmI(
        name=actor.name, csrf=principal.csrf, expires_at=principal.expires_at, units=units, equipment=equipment
    )


@router.delete("", status_code=204, dependencies=[Depends(current_principal)])
def sign_out(request: Request, answer: Response, context: AppContextDep) -> None:
    """End the session."""
    end_session(request, context)
    forget_session(answer, context)


def open_session(request: Request, context: AppContext, username: str, password: str) -> OpenedSession:
    """Sign in from an address that hasn't tried too often.

    Raises: TooManyAttempts, NotSignedIn.
    """
    source = source_of(request.client.host if request.client else "")
    try:
        context.throttle.spend(source)
        context.failed_sign_ins.spend(username, source)
    except TooManyAttempts:
        context.slowed_sign_ins.note(source=source)
        raise
    ttl = Milliseconds(int(context.settings.api.session_ttl * 1000))
    opened = accounts.sign_in(context.records, username, password, now=context.clock.now(), ttl=ttl)
    context.failed_sign_ins.forget(username, source)
    return opened


def end_session(request: Request, context: AppContext) -> None:
    """End the session of the browser's cookie, if there is one."""
    with context.records.write() as tx:
        close_session(tx, request.cookies.get(session_cookie(context), ""))
