"""WeChat's own endpoints, as documented and observed: errors come with HTTP 200 and a ` rid:`."""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from coldchain.simulate.wechat.account import OfficialAccount, User, misfit
from coldchain.simulate.wechat.pages import page
from coldchain.simulate.wechat.phones import Phones
from coldchain.simulate.wechat.tokens import SimulatedTokens, TokenStanding
from core.runtime.clock import Clock
from core.runtime.instant import DAY, MINUTE, Instant

CODE_LIFE_MS = 300_000
PHONE = "wechat_sim_phone"
"""Cookie with the openid of the person whose phone this browser is."""
ANSWERED = "wechat_sim_answered"
"""Cookie that is present for a minute after a person was chosen."""
REMEMBERED_S = 30 * 86_400
ASKS_AGAIN_WITHIN_S = 60
_AUTHORIZE = "/connect/oauth2/authorize"
LONGEST_ONCE = 32

_NOT_SENT_TO: Mapping[str, tuple[int, str]] = {
    "unsubscribed": (43004, "require subscribe"),
    "snapshot": (43004, "require subscribe"),
    "blocking": (43101, "user refuse to accept the msg"),
    "blacklisted": (43019, "require remove blacklist"),
}


class ErrcodeAnswer(Exception):
    """Answer with an errcode."""

    def __init__(self, errcode: int, errmsg: str) -> None:
        super().__init__(errcode, errmsg)
        self.errcode = errcode
        self.errmsg = errmsg


class Platform:
    """WeChat's platform as one account sees it, on one event loop.

    `real_now` is the time for the lives of tokens and codes and for quotas.
    """

    def __init__(self, account: OfficialAccount, phones: Phones, clock: Clock, real_now: Callable[[], Instant]) -> None:
        self.account = account
        self.phones = phones
        self.tokens = SimulatedTokens(account.token_life_s, real_now)
        self.quota_from = Instant(0)
        self._clock = clock
        self._now = real_now
        self._codes: dict[str, tuple[User, Instant]] = {}
        self._used: set[str] = set()

    def routes(self) -> list[Route]:
        cgi = {
            "token": (self._token, "GET"),
            "stable_token": (self._stable_token, "POST"),
            "message/template/send": (self._send, "POST"),
            "template/get_all_private_template": (self._templates, "GET"),
            "user/info": (self._user_info, "GET"),
            "clear_quota": (self._clear_quota, "POST"),
        }
        routes = [Route(f"/cgi-bin/{name}", _answering(work), methods=[method]) for name, (work, method) in cgi.items()]
        routes.append(Route("/sns/oauth2/access_token", _answering(self._identify)))
        routes.append(Route(_AUTHORIZE, self._authorize))
        return routes

    async def _token(self, request: Request) -> dict[str, Any]:
        self._check_credential(request.query_params)
        token, seconds = self.tokens.plain()
        return {"access_token": token, "expires_in": seconds}

    async def _stable_token(self, request: Request) -> dict[str, Any]:
        credential = await _body(request)
        self._check_credential(credential)
        token, seconds = self.tokens.stable(force=bool(credential.get("force_refresh")))
        return {"access_token": token, "expires_in": seconds}

    def _check_credential(self, credential: Mapping[str, Any]) -> None:
        if credential.get("grant_type") != "client_credential":
            raise ErrcodeAnswer(40002, "invalid grant_type")
        if credential.get("appid") != self.account.app_id:
            raise ErrcodeAnswer(40013, "invalid appid")
        if credential.get("secret") != self.account.secret:
            raise ErrcodeAnswer(40125, "invalid appsecret")

    def _check_token(self, request: Request) -> None:
        token = request.query_params.get("access_token")
        if not token:
            raise ErrcodeAnswer(41001, "access_token missing")
        standing = self.tokens.standing(token)
        if standing is TokenStanding.EXPIRED:
            raise ErrcodeAnswer(standing, "access_token expired")
        if standing is TokenStanding.INVALID:
            raise ErrcodeAnswer(standing, "invalid credential, access_token is invalid or not latest")

    async def _send(self, request: Request) -> dict[str, Any]:
        self._check_token(request)
        real = self._now()
        if self.phones.count_since(max(self.quota_from, Instant(real - DAY))) >= self.account.a_day:
            raise ErrcodeAnswer(45009, "reach max api daily quota limit")
        if self.phones.count_since(max(self.quota_from, Instant(real - MINUTE))) >= self.account.a_minute:
            raise ErrcodeAnswer(45011, "api minute-quota reach limit, must slower, retry next minute")
        message = await _body(request)
        user = self.phones.user(str(message.get("touser")))
        if user is None:
            raise ErrcodeAnswer(40003, "invalid openid")
        template = next(
            (candidate for candidate in self.account.templates if candidate.id == message.get("template_id")), None
        )
        if template is None:
            raise ErrcodeAnswer(40037, "invalid template_id")
        if (key := misfit(template, message.get("data"))) is not None:
            raise ErrcodeAnswer(47003, f"argument invalid! data.{key}.value invalid")
        if len(str(message.get("client_msg_id", ""))) > LONGEST_ONCE:
            raise ErrcodeAnswer(47003, "argument invalid! client_msg_id too long")
        if user.state in _NOT_SENT_TO:
            raise ErrcodeAnswer(*_NOT_SENT_TO[user.state])
        msgid = self.phones.receive(await request.body(), at=self._clock.now(), real=real)
        return {"errcode": 0, "errmsg": "ok", "msgid": int(msgid)}

    async def _templates(self, request: Request) -> dict[str, Any]:
        self._check_token(request)
        listed = [
            {
                "template_id": template.id,
                "title": template.title,
                "primary_industry": "",
                "deputy_industry": "",
                "content": template.content,
                "example": "",
            }
            for template in self.account.templates
        ]
        return {"template_list": listed}

    async def _user_info(self, request: Request) -> dict[str, Any]:
        self._check_token(request)
        user = self.phones.user(request.query_params.get("openid", ""))
        if user is None:
            raise ErrcodeAnswer(40003, "invalid openid")
        subscribed = user.state not in {"unsubscribed", "snapshot"}
        return {"subscribe": int(subscribed), "openid": user.openid, **({"language": "zh_CN"} if subscribed else {})}

    async def _clear_quota(self, request: Request) -> dict[str, Any]:
        self._check_token(request)
        if (await _body(request)).get("appid") != self.account.app_id:
            raise ErrcodeAnswer(40013, "invalid appid")
        self.quota_from = self._now()
        return {"errcode": 0, "errmsg": "ok"}

    async def _authorize(self, request: Request) -> Response:
        """Show a page that asks whose phone this is, then redirect back with a code.

        With `&as=openid` it redirects at once, as WeChat does on a real phone; so it does if the browser's cookie names
        a person. A second request within a minute shows the page again, since the first answer may have been wrong.
        """
        query = request.query_params
        back = query.get("redirect_uri", "")
        is_invalid = (
            query.get("appid") != self.account.app_id
            or query.get("response_type") != "code"
            or query.get("scope") not in {"snsapi_base", "snsapi_userinfo"}
            or urlsplit(back).scheme not in {"http", "https"}
        )
        if is_invalid:
            return HTMLResponse(page("refused.html"), 400)
        remembered = None if ANSWERED in request.cookies else unquote(request.cookies.get(PHONE, ""))
        openid = query.get("as", remembered)
        user = self.phones.user(openid) if openid else None
        if user is None:
            if "as" in query:
                return HTMLResponse(page("refused.html"), 404)
            return HTMLResponse(page("authorize.html", users=self.phones.users(), asked=dict(query)))
        code = secrets.token_hex(16)
        self._codes[code] = (user, Instant(self._now() + CODE_LIFE_MS))
        answer = urlencode({"code": code, "state": query.get("state", "")})
        redirect = RedirectResponse(f"{back}{'&' if urlsplit(back).query else '?'}{answer}", 302)
        remember(redirect, user)
        redirect.set_cookie(ANSWERED, "1", max_age=ASKS_AGAIN_WITHIN_S, path=_AUTHORIZE, samesite="lax")
        return redirect

    async def _identify(self, request: Request) -> dict[str, Any]:
        query = request.query_params
        if query.get("appid") != self.account.app_id:
            raise ErrcodeAnswer(40013, "invalid appid")
        if query.get("secret") != self.account.secret:
            raise ErrcodeAnswer(40125, "invalid appsecret")
        code = query.get("code", "")
        if code in self._used:
            raise ErrcodeAnswer(40163, "code been used")
        user, ends = self._codes.get(code, (None, Instant(0)))
        if user is None or self._now() >= ends:
            raise ErrcodeAnswer(40029, "invalid code")
        self._used.add(code)
        snapshot = user.state == "snapshot"
        return {
            "access_token": secrets.token_urlsafe(64),
            "expires_in": 7200,
            "refresh_token": secrets.token_urlsafe(64),
            "openid": f"{user.openid}-snapshot" if snapshot else user.openid,
            "scope": "snsapi_base",
            **({"is_snapshotuser": 1} if snapshot else {}),
        }


def remember(answer: Response, user: User) -> None:
    """Set the cookie that makes a browser this person's phone."""
    answer.set_cookie(PHONE, quote(user.openid), max_age=REMEMBERED_S, httponly=True, samesite="lax")
    answer.delete_cookie(ANSWERED, path=_AUTHORIZE, samesite="lax")


async def _body(request: Request) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(await request.body())
    except msgspec.DecodeError:
        content = None
    if not isinstance(content, dict):
        raise ErrcodeAnswer(47001, "data format error")
    return content


def _answering(work: Callable[[Request], Awaitable[dict[str, Any]]]) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that sends what `work` returns, or the errcode of the `ErrcodeAnswer` that it raises."""

    async def answer(request: Request) -> Response:
        try:
            content = await work(request)
        except ErrcodeAnswer as wrong:
            rid = "-".join(secrets.token_hex(4) for _ in range(3))
            content = {"errcode": int(wrong.errcode), "errmsg": f"{wrong.errmsg} rid: {rid}"}
        return Response(msgspec.json.encode(content), media_type="application/json")

    return answer
