"""WeChat client of an official account, built on wechatpy's client.

Every call, also through `user`, `template`, `qrcode` …, uses the shared token; gets another if it is rejected and tries
once more; is bounded in time; and returns an object with errcode 0 or raises WechatError. wechatpy 1.8 alone fetches
tokens endlessly while they are rejected, has no time-out for the fetch, fetches in each thread, returns half an answer
or a proxy's page as a success, and supports neither another address nor `stable_token`.
tests/integration/test_wechat_client.py tries to break it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import requests
from wechatpy import WeChatClient

from config.settings import WechatSettings as Settings
from core.db.engine import Records
from core.wechat.access_token import AccessTokens, FetchedToken
from core.wechat.errcodes import NoAnswer, Verdict, WechatError
from core.wechat.http_session import HttpSession, checked

TIMEOUTS_A_SEND = 6
"""Time-outs within which a call ends: token (2), call, token again (2), call."""


class _Tokens(Protocol):
    def get(self) -> str: ...

    def renew(self, bad: str) -> str: ...


class WechatClient(WeChatClient):  # type: ignore[misc] # wechatpy has no types
    """Client of one official account. Thread-safe."""

    def __init__(self, base_url: str, app_id: str, secret: str, tokens: _Tokens, *, http: HttpSession) -> None:
        """Take `base_url`, which is https://api.weixin.qq.com or the address of a simulator."""
        super().__init__(app_id, secret, auto_retry=False)
        self.API_BASE_URL = f"{base_url}/cgi-bin/"
        self._tokens = tokens
        self._http = http

    @property
    def access_token(self) -> str:
        """The current token; wechatpy's own session is not used."""
        return self._tokens.get()

    def fetch_access_token(self) -> None:
        """Not supported, since `AccessTokens` fetches tokens."""
        raise NotImplementedError

    def send_template(self, body: bytes) -> str:
        """Send the exact bytes of a template message, and return its MsgID as text.

        Raises: WechatError.
        """
        answer: Mapping[str, Any] = self.post("message/template/send", data=body)
        if "errcode" not in answer:
            raise WechatError(NoAnswer.NO_ERRCODE, "an answer without errcode is no receipt")
        return str(answer.get("msgid", ""))

    def _request(self, method: str, url_or_endpoint: str, **options: Any) -> Any:  # noqa: ANN401 (wechatpy's own)
        params = options.pop("params", None) or {}
        token = self._tokens.get()
        try:
            return super()._request(method, url_or_endpoint, params={**params, "access_token": token}, **options)
        except WechatError as error:
            if error.means is not Verdict.TOKEN:
                raise
        token = self._tokens.renew(token)
        try:
            return super()._request(method, url_or_endpoint, params={**params, "access_token": token}, **options)
        except WechatError as error:
            if error.means is not Verdict.TOKEN:
                raise
            raise WechatError(error.code, "a new token was rejected too", means=Verdict.ACCOUNT) from None

    def _handle_result(
        self,
        res: requests.Response,
        method: str | None = None,  # noqa: ARG002 (wechatpy passes it)
        url: str | None = None,  # noqa: ARG002
        result_processor: Callable[[dict[str, Any]], Any] | None = None,
        **_options: object,
    ) -> Any:  # noqa: ANN401 (wechatpy's own)
        answer = checked(res)
        return result_processor(answer) if result_processor else answer


def connect(settings: Settings, secret: str, records: Records) -> WechatClient:
    """Create the client of the configured account, with the token that all processes share."""
    http = HttpSession(settings.base_url, settings.timeout)
    tokens = AccessTokens(records, settings.app_id, fetching(settings, secret, http), timeout=settings.timeout)
    return WechatClient(settings.base_url, settings.app_id, secret, tokens, http=http)


def fetching(settings: Settings, secret: str, http: HttpSession) -> Callable[[bool], FetchedToken]:
    """Return a function that fetches a token from `stable_token`, so that no other program can end it by its fetch."""

    def fetch(force: bool) -> FetchedToken:  # noqa: FBT001 (the only argument)
        credential = {"grant_type": "client_credential", "appid": settings.app_id, "secret": secret}
        body = msgspec.json.encode({**credential, "force_refresh": force})
        answer = http.json("post", f"{settings.base_url}/cgi-bin/stable_token", data=body)
        try:
            return FetchedToken(str(answer["access_token"]), float(answer["expires_in"]))
        except (KeyError, TypeError, ValueError):
            raise WechatError(NoAnswer.NOT_JSON, "stable_token answered without a token") from None

    return fetch


def try_token(settings: Settings, secret: str) -> str | None:
    """Fetch a token, for `coldchain check`; return the problem, None if there is none."""
    try:
        fetching(settings, secret, HttpSession(settings.base_url, settings.timeout))(False)
    except WechatError as error:
        return str(error)
    return None
