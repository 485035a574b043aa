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
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.asking import Asker, MaybeSignedIn, Reading, SignedIn, Using, Writing, keep_session
from api.pages.alarm_view import said_of, sees_alarm, view
from api.pages.forms import FilledForm, HandlingForm, form_of, given_back
from api.pages.rendering import page, words_for
from api.parameters import any_parameters
from api.parts import Parts
from core.alarms import handling, listing
from core.alarms.links import Expired, Forged, Link, verify
from core.alarms.listing import AlarmSeen
from core.alarms.tables import Alarm
from core.db import audit
from core.db.idempotency import claim
from core.errors import NotFound, NotGranted
from core.runtime.instant import Milliseconds
from core.runtime.logs import logger
from core.units.rights import Right
from core.units.sessions import Opened, open_session
from core.units.tables import Person
from core.wechat.oauth import NotIdentified

log = logger(__name__)
router = APIRouter(tags=["pages"], dependencies=[Depends(any_parameters)])

STATE_COOKIE = "cc_wechat"
STATE_S = 600
BACK = "/wechat/back"
"""Address to which WeChat sends the phone back; its domain must be entered at WeChat as 网页授权域名."""


@router.get("/a/{token}")
def alarm_by_link(
    request: Request, token: str, tx: Reading, asker: MaybeSignedIn, parts: Using, said: str = ""
) -> Response:
    """Show the alarm. A phone in WeChat without a session passes WeChat's sign-in, which asks the person nothing."""
    try:
        link = _link(token, parts)
        details = listing.alarm_with(tx, link.alarm)
    except Expired:
        return _notice(request, "link.expired_title", "link.expired", HTTPStatus.GONE)
    except (Forged, NotFound):
        return _notice(request, "link.forged_title", "link.forged", HTTPStatus.NOT_FOUND)
    if asker is None and parts.oauth and "MicroMessenger" in request.headers.get("user-agent", ""):
        return RedirectResponse(f"/a/{token}/wechat", HTTPStatus.SEE_OTHER)
    if asker is not None and not _is_recipient(asker, link) and not sees_alarm(asker, details):
        return _notice(request, "link.other_title", "link.other", HTTPStatus.NOT_FOUND)
    return _shown(request, token, details, tx, asker, parts, outcome_code=said)


def _shown(
    request: Request,
    token: str,
    details: AlarmSeen,
    tx: Session,
    asker: Asker | None,
    parts: Parts,
    *,
    outcome_code: str = "",
    form: FilledForm | None = None,
) -> Response:
    link = _link(token, parts)
    outcome, tone = said_of(words_for(request), outcome_code, details, asker, parts)
    may = _may(tx, asker, link, parts)
    ways_in = [(f"/a/{token}/wechat", "alarm.sign_in_wechat")] if parts.oauth else []
    return page(
        request,
        "alarm.html",
        **view(request, tx, parts, details, asker, may=may),
        **given_back(form, f"/a/{token}"),
        base=f"/a/{token}",
        said=outcome,
        said_tone=tone,
        why_not=_why_not(asker, link),
        ways_in=[*ways_in, (f"/sign-in?next=/a/{token}", "alarm.sign_in_web")],
    )


@router.post("/a/{token}/acknowledge")
def acknowledge(token: str, tx: Writing, asker: SignedIn, parts: Using) -> Response:
    """Acknowledge as the link's recipient, or with an account. A second phone is told who was first."""
    link = _granted(token, tx, asker, parts)
    now, linked = parts.clock.now(), _is_recipient(asker, link)
    handling.acknowledge(tx, asker.actor, link.alarm, through=asker.through, now=now, linked=linked)
    return RedirectResponse(f"/a/{token}?said=acknowledged", HTTPStatus.SEE_OTHER)


@router.post("/a/{token}/handling")
def handle(request: Request, token: str, tx: Writing, asker: SignedIn, parts: Using, report: HandlingForm) -> Response:
    """Store the handling record, or return the form with every invalid field marked."""
    link = _granted(token, tx, asker, parts)
    if faults := handling.faults(report):
        details = listing.alarm_with(tx, link.alarm)
        return _shown(request, token, details, tx, asker, parts, form=form_of(report, faults))
    now, linked = parts.clock.now(), _is_recipient(asker, link)
    handling.handle(tx, asker.actor, link.alarm, report, now=now, linked=linked)
    return RedirectResponse(f"/a/{token}?said=handled", HTTPStatus.SEE_OTHER)


@router.get("/a/{token}/wechat")
def to_wechat(request: Request, token: str, parts: Using) -> Response:
    """Ask WeChat who holds the phone. `state` is random, bound to this browser's cookie, and valid once."""
    try:
        _link(token, parts)
    except Expired:
        return _notice(request, "link.expired_title", "link.expired", HTTPStatus.GONE)
    except Forged:
        return _notice(request, "link.forged_title", "link.forged", HTTPStatus.NOT_FOUND)
    if parts.oauth is None:
        raise NotFound(what="page", name="WeChat sign-in; no official account is configured")
    state = token_urlsafe(24)
    back = parts.settings.public_url.rstrip("/") + BACK
    answer = RedirectResponse(parts.oauth.authorize_url(back, state), HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        STATE_COOKIE, f"{state}:{token}", max_age=STATE_S, httponly=True, samesite="lax", secure=parts.behind_tls
    )
    return answer


@router.get(BACK)
def from_wechat(request: Request, parts: Using, code: str = "", state: str = "") -> Response:
    """Sign in the person that WeChat identified, and return to the alarm."""
    kept_state, _, token = request.cookies.get(STATE_COOKIE, "").partition(":")
    if parts.oauth is None or not kept_state or not compare_digest(kept_state.encode(), state.encode()):
        return _notice(request, "link.wechat_failed_title", "link.wechat_failed", HTTPStatus.BAD_REQUEST)
    with parts.records.write() as tx:
        fresh = claim(tx, "wechat state", state, now=parts.clock.now())
    try:
        openid = parts.oauth.openid(code) if fresh else ""
    except NotIdentified as error:
        log.warning("WeChat identified nobody", why=str(error))
        openid = ""
    if not openid:
        return _forget_state(_notice(request, "link.wechat_failed_title", "link.wechat_failed", HTTPStatus.BAD_REQUEST))
    opened = _open_for(openid, parts)
    if opened is None:
        return _forget_state(_notice(request, "link.wechat_failed_title", "link.wechat_unbound", HTTPStatus.FORBIDDEN))
    answer = RedirectResponse(f"/a/{token}", HTTPStatus.SEE_OTHER)
    keep_session(answer, parts, opened)
    return _forget_state(answer)


def _open_for(openid: str, parts: Parts) -> Opened | None:
    now = parts.clock.now()
    with parts.records.write() as tx:
        person = tx.scalar(select(Person).where(Person.openid == openid))
        if person is None or (person.left_at is not None and person.left_at <= now):
            return None
        name = f"person:{person.id}"
        audit.record(tx, at=now, actor=name, act="signed in", subject=name)
        return open_session(tx, person=person.id, now=now, lasts=Milliseconds(int(parts.settings.api.session * 1000)))


def _link(token: str, parts: Parts) -> Link:
    """Return the content of a token.

    Raises: Forged, Expired.
    """
    return verify(token, parts.clock.now(), parts.secrets.link_keys)


def _granted(token: str, tx: Session, asker: Asker, parts: Parts) -> Link:
    """Return the link of a principal who may act on it.

    Raises: NotGranted, also for a link that is no longer valid; NotFound if they may not see the alarm.
    """
    try:
        link = _link(token, parts)
    except (Expired, Forged):
        msg = "this link doesn't serve; open the latest message"
        raise NotGranted(msg) from None
    if not _may(tx, asker, link, parts):
        listing.alarm_for(tx, asker.actor, link.alarm)
        msg = f"{asker.actor.name} is not the one to whom this link was sent, and may not acknowledge there"
        raise NotGranted(msg)
    return link


def _may(tx: Session, asker: Asker | None, link: Link, parts: Parts) -> bool:
    """Return whether the principal is the recipient or has an account, and may acknowledge this alarm."""
    if asker is None or (asker.actor.account is None and not _is_recipient(asker, link)):
        return False
    alarm = tx.get(Alarm, link.alarm)
    if alarm is None:
        raise NotFound(what="alarm", name=link.alarm)
    linked = _is_recipient(asker, link)
    return handling.may_act(tx, asker.actor, Right.ACKNOWLEDGE, alarm, parts.clock.now(), linked=linked)


def _is_recipient(asker: Asker, link: Link) -> bool:
    return asker.actor.person == link.person


def _why_not(asker: Asker | None, link: Link) -> str:
    if asker is None:
        return ""
    return "alarm.not_granted" if asker.actor.account or _is_recipient(asker, link) else "alarm.other_person"


def _notice(request: Request, title: str, text: str, status: HTTPStatus) -> Response:
    return page(request, "notice.html", status=status, title=title, text=text)


def _forget_state(answer: Response) -> Response:
    answer.delete_cookie(STATE_COOKIE)
    return answer
