"""Sessions: signing in and out, and the signed-in principal."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import Field, SecretStr

from api.app_context import AppContext, AppContextDep
from api.auth import CurrentPrincipal, Principal, SignedInPrincipal, SignInConcurrencyLimited, signed_in_principal
from api.db_session import ReadSession, WriteSession
from api.schemas import Moment, Schema
from api.session_cookie import forget_session, keep_session, session_cookie
from api.sign_in_throttle import TooManyAttempts, source_of
from core.access import sign_in as sign_in_use_case
from core.access.misuse import report_misuse
from core.access.passwords import change_own_password
from core.access.sessions import OpenedSession, close_session, end_own_session, sessions_of
from core.devices.queries import own_equipment
from core.ids import EquipmentId, UnitId
from core.runtime.instant import Milliseconds
from core.units.queries import granted_units

router = APIRouter(prefix="/session", tags=["session"])
listing = APIRouter(prefix="/sessions", tags=["session"])
SessionName = Annotated[str, Path(pattern="^[0-9a-f]{16}$", examples=["3f9c02d1a47be865"])]


class SignIn(Schema):
    """An account's name and password."""

    username: Annotated[str, Field(max_length=50)]
    password: Annotated[SecretStr, Field(max_length=200)]


class SessionOut(Schema):
    """A session that was opened. Send `csrf` in the header `X-CSRF-Token` with every change."""

    csrf: str
    expires_at: Moment


class ChangePassword(Schema):
    """One's present password and the new one."""

    present: Annotated[SecretStr, Field(max_length=200, examples=["Initial1Password"])]
    new: Annotated[SecretStr, Field(max_length=200, examples=["three-Kinds-0f-signs"])]


class MisuseOut(Schema):
    """The incident that was opened; it is to be resolved by `due_at`."""

    incident: int
    due_at: Moment


class ListedOut(Schema):
    """An open session; `user_agent` is what its browser said it is."""

    id: str
    created_at: Moment
    expires_at: Moment
    user_agent: str
    is_current: bool


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


@router.post("/password", dependencies=[SignInConcurrencyLimited])
def change_password(
    body: ChangePassword, request: Request, answer: Response, context: AppContextDep, principal: SignedInPrincipal
) -> SessionOut:
    """Change one's own password. All sessions end, and a new one is opened; it is in the cookie.

    A new password has at least ten characters of three kinds (small letters, capitals, digits, others), and is none of
    the last five. It must be changed after 90 days, and before anything else while it is an initial one.
    """
    opened = replace_own_password(
        request, context, principal, body.present.get_secret_value(), body.new.get_secret_value()
    )
    keep_session(answer, context, opened)
    return SessionOut(csrf=opened.csrf, expires_at=opened.expires_at)


@router.post("/misuse", status_code=201)
def misuse(answer: Response, tx: WriteSession, context: AppContextDep, principal: SignedInPrincipal) -> MisuseOut:
    """Report that somebody else uses one's account: it is locked and all its sessions end at once.

    An incident is opened, due in 2 h. Whoever manages the account unlocks it with a new password.
    """
    incident = report_misuse(tx, principal.actor, now=context.clock.now())
    forget_session(answer, context)
    return MisuseOut(incident=incident.id, due_at=incident.due_at)


@listing.get("")
def sessions(tx: ReadSession, request: Request, context: AppContextDep, principal: CurrentPrincipal) -> list[ListedOut]:
    """List one's own open sessions, the newest first. A machine has none."""
    token = request.cookies.get(session_cookie(context), "")
    return [
        ListedOut.model_validate(session) for session in sessions_of(tx, principal.actor, token, context.clock.now())
    ]


@listing.delete("/{session}", status_code=204)
def end_listed_session(session: SessionName, tx: WriteSession, principal: CurrentPrincipal) -> None:
    """End one of one's own sessions, for example on a lost phone."""
    end_own_session(tx, principal.actor, session)


@router.delete("", status_code=204, dependencies=[Depends(signed_in_principal)])
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
    opened = sign_in_use_case.sign_in(
        context.records, username, password, now=context.clock.now(), ttl=ttl, user_agent=user_agent_of(request)
    )
    context.failed_sign_ins.forget(username, source)
    return opened


def replace_own_password(
    request: Request, context: AppContext, principal: Principal, present: str, new: str
) -> OpenedSession:
    """Change the principal's password; wrong present ones are slowed like guesses at sign-in.

    Raises: TooManyAttempts, NotSignedIn, Invalid.
    """
    source = source_of(request.client.host if request.client else "")
    context.failed_sign_ins.spend(principal.actor.name, source)
    opened = change_own_password(
        context.records,
        principal.actor,
        present,
        new,
        now=context.clock.now(),
        ttl=Milliseconds(int(context.settings.api.session_ttl * 1000)),
        user_agent=user_agent_of(request),
    )
    context.failed_sign_ins.forget(principal.actor.name, source)
    return opened


def user_agent_of(request: Request) -> str:
    """Return what the browser says it is."""
    return request.headers.get("user-agent", "")


def end_session(request: Request, context: AppContext) -> None:
    """End the session of the browser's cookie, if there is one."""
    with context.records.write() as tx:
        close_session(tx, request.cookies.get(session_cookie(context), ""))
