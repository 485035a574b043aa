"""Page behind the signed link in a message (`/a/{token}`): shown without signing in, acknowledged only by POST.

A forwarded link shows nothing to a signed-in person who isn't its recipient and may not see the equipment. A GET
changes nothing, so a preview bot may fetch it as often as it likes. Acknowledging needs a session: of the link's
recipient, identified by WeChat's openid, or of an account that may acknowledge there.
"""

from hmac import compare_digest
from http import HTTPStatus
from secrets import token_urlsafe

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.orm import Session

from api.app_context import AppContext, AppContextDep
from api.auth import CurrentPrincipal, OptionalPrincipal, Principal
from api.db_session import ReadSession, WriteSession
from api.pages.alarm_view import outcome_text, sees_alarm, view
from api.pages.forms import FilledForm, HandlingForm, form_context, form_of
from api.pages.rendering import page, words_for
from api.query_parameters import any_parameters
from api.session_cookie import keep_session
from core.access.sign_in import sign_in_by_wechat
from core.alarms import handling, queries
from core.alarms.links import AlarmLink, ExpiredLink, ForgedLink, verify
from core.alarms.queries import AlarmDetail
from core.db.idempotency import claim
from core.errors import NotFound, PermissionDenied
from core.runtime.instant import Milliseconds
from core.runtime.logs import logger
from core.units.rights import Right
from core.wechat.oauth import NotIdentified

log = logger(__name__)
router = APIRouter(tags=["pages"], dependencies=[Depends(any_parameters)])

STATE_COOKIE = "cc_wechat"
STATE_S = 600
BACK = "/wechat/back"
"""Address to which WeChat sends the phone back; its domain must be entered at WeChat as 网页授权域名."""


@router.get("/a/{token}")
def alarm_by_link(
    request: Request, token: str, tx: ReadSession, principal: OptionalPrincipal, context: AppContextDep, said: str = ""
) -> Response:
    """Show the alarm. A phone in WeChat without a session passes WeChat's sign-in, which asks the person nothing."""
    try:
        link = _link(token, context)
        details = queries.alarm_with(tx, link.alarm)
    except ExpiredLink:
        return _notice(request, "link.expired_title", "link.expired", HTTPStatus.GONE)
    except (ForgedLink, NotFound):
        return _notice(request, "link.forged_title", "link.forged", HTTPStatus.NOT_FOUND)
    if principal is None and context.oauth and "MicroMessenger" in request.headers.get("user-agent", ""):
        return RedirectResponse(f"/a/{token}/wechat", HTTPStatus.SEE_OTHER)
    if principal is not None and not _is_recipient(principal, link) and not sees_alarm(principal, details):
        return _notice(request, "link.other_title", "link.other", HTTPStatus.NOT_FOUND)
    return _shown(request, token, details, tx, principal, context, outcome_code=said)


def _shown(
    request: Request,
    token: str,
    details: AlarmDetail,
    tx: Session,
    principal: Principal | None,
    context: AppContext,
    *,
    outcome_code: str = "",
    form: FilledForm | None = None,
) -> Response:
    link = _link(token, context)
    outcome, tone = outcome_text(words_for(request), outcome_code, details, principal, context)
    may = _may(tx, principal, link, context)
    ways_in = [(f"/a/{token}/wechat", "alarm.sign_in_wechat")] if context.oauth else []
    return page(
        request,
        "alarm.html",
        **view(request, tx, context, details, principal, may=may),
        **form_context(form, f"/a/{token}"),
        base=f"/a/{token}",
        said=outcome,
        said_tone=tone,
        why_not=_why_not(principal, link),
        ways_in=[*ways_in, (f"/sign-in?next=/a/{token}", "alarm.sign_in_web")],
    )


@router.post("/a/{token}/acknowledge")
def acknowledge(token: str, tx: WriteSession, principal: CurrentPrincipal, context: AppContextDep) -> Response:
    """Acknowledge as the link's recipient, or with an account. A second phone is told who was first."""
    link = _granted(token, tx, principal, context)
    now, linked = context.clock.now(), _is_recipient(principal, link)
    handling.acknowledge(tx, principal.actor, link.alarm, through=principal.through, now=now, linked=linked)
    return RedirectResponse(f"/a/{token}?said=acknowledged", HTTPStatus.SEE_OTHER)


@router.post("/a/{token}/handling")
def handle(
    request: Request,
    token: str,
    tx: WriteSession,
    principal: CurrentPrincipal,
    context: AppContextDep,
    report: HandlingForm,
) -> Response:
    """Store the handling record, or return the form with every invalid field marked."""
    link = _granted(token, tx, principal, context)
    if faults := handling.faults(report):
        details = queries.alarm_with(tx, link.alarm)
        return _shown(request, token, details, tx, principal, context, form=form_of(report, faults))
    now, linked = context.clock.now(), _is_recipient(principal, link)
    handling.handle(tx, principal.actor, link.alarm, report, now=now, linked=linked)
    return RedirectResponse(f"/a/{token}?said=handled", HTTPStatus.SEE_OTHER)


@router.get("/a/{token}/wechat")
def to_wechat(request: Request, token: str, context: AppContextDep) -> Response:
    """Ask WeChat who holds the phone. `state` is random, bound to this browser's cookie, and valid once."""
    try:
        _link(token, context)
    except ExpiredLink:
        return _notice(request, "link.expired_title", "link.expired", HTTPStatus.GONE)
    except ForgedLink:
        return _notice(request, "link.forged_title", "link.forged", HTTPStatus.NOT_FOUND)
    if context.oauth is None:
        raise NotFound(what="page", name="WeChat sign-in; no official account is configured")
    state = token_urlsafe(24)
    back = context.settings.public_url.rstrip("/") + BACK
    answer = RedirectResponse(context.oauth.authorize_url(back, state), HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        STATE_COOKIE, f"{state}:{token}", max_age=STATE_S, httponly=True, samesite="lax", secure=context.behind_tls
    )
    return answer


@router.get(BACK)
def from_wechat(request: Request, context: AppContextDep, code: str = "", state: str = "") -> Response:
    """Sign in the person that WeChat identified, and return to the alarm."""
    kept_state, _, token = request.cookies.get(STATE_COOKIE, "").partition(":")
    if context.oauth is None or not kept_state or not compare_digest(kept_state.encode(), state.encode()):
        return _notice(request, "link.wechat_failed_title", "link.wechat_failed", HTTPStatus.BAD_REQUEST)
    with context.records.write() as tx:
        fresh = claim(tx, "wechat state", state, now=context.clock.now())
    try:
        openid = context.oauth.openid(code) if fresh else ""
    except NotIdentified as error:
        log.warning("WeChat identified nobody", why=str(error))
        openid = ""
    if not openid:
        return _forget_state(_notice(request, "link.wechat_failed_title", "link.wechat_failed", HTTPStatus.BAD_REQUEST))
    ttl = Milliseconds(int(context.settings.api.session_ttl * 1000))
    opened = sign_in_by_wechat(context.records, openid, now=context.clock.now(), ttl=ttl)
    if opened is None:
        return _forget_state(_notice(request, "link.wechat_failed_title", "link.wechat_unbound", HTTPStatus.FORBIDDEN))
    answer = RedirectResponse(f"/a/{token}", HTTPStatus.SEE_OTHER)
    keep_session(answer, context, opened)
    return _forget_state(answer)


def _link(token: str, context: AppContext) -> AlarmLink:
    """Return the content of a token.

    Raises: ForgedLink, ExpiredLink.
    """
    return verify(token, context.clock.now(), context.secrets.link_keys)


def _granted(token: str, tx: Session, principal: Principal, context: AppContext) -> AlarmLink:
    """Return the link of a principal who may act on it.

    Raises: PermissionDenied, also for a link that is no longer valid; NotFound if they may not see the alarm.
    """
    try:
        link = _link(token, context)
    except (ExpiredLink, ForgedLink):
        msg = "this link doesn't serve; open the latest message"
        raise PermissionDenied(msg) from None
    if not _may(tx, principal, link, context):
        queries.alarm_for(tx, principal.actor, link.alarm)
        msg = f"{principal.actor.name} is not the one to whom this link was sent, and may not acknowledge there"
        raise PermissionDenied(msg)
    return link


def _may(tx: Session, principal: Principal | None, link: AlarmLink, context: AppContext) -> bool:
    """Return whether the principal is the recipient or has an account, and may acknowledge this alarm."""
    if principal is None or (principal.actor.account is None and not _is_recipient(principal, link)):
        return False
    alarm, linked = queries.alarm_with(tx, link.alarm).alarm, _is_recipient(principal, link)
    return handling.may_act(tx, principal.actor, Right.ACKNOWLEDGE, alarm, context.clock.now(), linked=linked)


def _is_recipient(principal: Principal, link: AlarmLink) -> bool:
    return principal.actor.person == link.person


def _why_not(principal: Principal | None, link: AlarmLink) -> str:
    if principal is None:
        return ""
    return "alarm.not_granted" if principal.actor.account or _is_recipient(principal, link) else "alarm.other_person"


def _notice(request: Request, title: str, text: str, status: HTTPStatus) -> Response:
    return page(request, "notice.html", status=status, title=title, text=text)


def _forget_state(answer: Response) -> Response:
    answer.delete_cookie(STATE_COOKIE)
    return answer
